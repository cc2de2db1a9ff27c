//! What the node tells its subscribers (section 10.7).
//!
//! One table ([`table`]) yields the event types, their payloads, groups, names and the rows of the document.

mod table;

use bytes::Bytes;

use crate::codec::{Reader, put, put_u32};
use crate::macros::numbered_enum;
use crate::{DecodeError, Fault};

pub use table::{Event, EventType};

numbered_enum! {
    /// A group of event types: a convenience for people who subscribe, and what capabilities are tied to. It is not on the
    /// wire.
    EventGroup ("event group") {
        0 Chain "chain" "The active chain.";
        1 Mempool "mempool" "Unconfirmed transactions.";
        2 Network "network" "Peers and their messages.";
        3 Payment "payment" "Payment requests.";
        4 Mining "mining" "Block templates, shares and found blocks.";
        5 Governance "governance" "Proposals and votes.";
        6 Consensus "consensus" "Validation and deployments of rules.";
        7 Sync "sync" "Catching up with the network.";
        8 Storage "storage" "What is on disk.";
        9 ModuleLifecycle "module_lifecycle" "Modules that come, go and fail.";
        10 NodeLifecycle "node_lifecycle" "The node itself.";
        11 Maintenance "maintenance" "Scheduled work.";
        12 Resources "resources" "Memory, disk, processor, descriptors, quotas.";
    }
}

impl EventGroup {
    /// The event types of this group, in the order of their numbers.
    pub fn types(self) -> impl Iterator<Item = EventType> {
        EventType::ALL.iter().copied().filter(move |event_type| event_type.group() == self)
    }
}

impl EventType {
    /// The event type's topic [V-1].
    pub const fn topic(self) -> u8 {
        // The table holds fewer than 256 types: its own test of the numbers fails beyond.
        self.number() as u8
    }

    /// The event type of a topic, if this build knows it.
    pub const fn from_topic(topic: u8) -> Option<Self> {
        EventType::from_number(topic as u32)
    }
}

impl Event {
    /// Appends the body: type and payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u32(out, self.event_type().number());
        put(out, self);
    }

    /// Decodes a body.
    ///
    /// # Errors
    /// [`DecodeError::UnknownVariant`] for an event type of a later version ([`AnyEvent::decode`] hands it on raw),
    /// [`DecodeError::Mismatch`] if type and payload differ, [`DecodeError::Malformed`] for everything else.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("event", body);
        let announced = EventType::take(&mut reader)?.number();
        let carried = reader.peek_u32()?;
        if carried != announced {
            return Err(DecodeError::Mismatch { what: "event", announced, carried });
        }
        let event = reader.get()?;
        reader.finish()?;
        Ok(event)
    }
}

/// An event of a type that this build does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEvent {
    /// The event type's number, which is its topic. None of the known ones.
    pub topic: u8,
    /// The payload: what follows the type in the body.
    pub payload: Bytes,
}

/// An event, known or not [L-1].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnyEvent {
    /// Of a type that this build knows.
    Known(Event),
    /// Of a type of a later version.
    Raw(RawEvent),
}

impl AnyEvent {
    /// Decodes a body. The payload of an unknown event is a slice of it.
    ///
    /// # Errors
    /// As [`Event::decode`], but an unknown event type is one only above 255, where there are no topics.
    pub fn decode(body: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::shared("event", body);
        let number = reader.u32()?;
        if EventType::from_number(number).is_some() {
            return Event::decode(body).map(AnyEvent::Known);
        }
        match u8::try_from(number) {
            Ok(topic) => Ok(AnyEvent::Raw(RawEvent { topic, payload: reader.rest() })),
            Err(_) => Err(DecodeError::Malformed {
                what: "event",
                offset: 0,
                fault: Fault::Length { claimed: number.into(), possible: 255 },
            }),
        }
    }

    /// The event type's number, which is its topic.
    pub const fn topic(&self) -> u8 {
        match self {
            AnyEvent::Known(event) => event.event_type().topic(),
            AnyEvent::Raw(raw) => raw.topic,
        }
    }

    /// Appends the body: type and payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            AnyEvent::Known(event) => event.encode(out),
            AnyEvent::Raw(raw) => {
                put_u32(out, raw.topic.into());
                out.extend_from_slice(&raw.payload);
            }
        }
    }
}

impl From<Event> for AnyEvent {
    fn from(event: Event) -> Self {
        AnyEvent::Known(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the seed names, by its names.
    const SEED: &[&str] = &[
        "PeerConnected",
        "MessageReceived",
        "PeerDisconnected",
        "PaymentRequestCreated",
        "PaymentVerified",
        "PaymentSettled",
        "NewBlock",
        "ChainTipUpdated",
        "BlockDisconnected",
        "MempoolTransactionAdded",
        "FeeRateChanged",
        "MempoolTransactionRemoved",
    ];

    #[test]
    fn the_table_is_complete_and_in_order() {
        assert!(EventType::ALL.len() >= 60 && EventType::ALL.len() <= 256);
        for (number, event_type) in (0..).zip(EventType::ALL) {
            assert_eq!(event_type.number(), number, "{event_type}: a variant's number is its place");
            assert_eq!(EventType::from_name(event_type.name()), Some(*event_type));
            assert_eq!(EventType::from_topic(event_type.topic()), Some(*event_type));
        }
        for name in SEED {
            assert!(EventType::from_name(name).is_some(), "{name}");
        }
    }

    #[test]
    fn groups_partition_the_types() {
        let grouped: usize = EventGroup::ALL.iter().map(|group| group.types().count()).sum();
        assert_eq!(grouped, EventType::ALL.len());
        assert!(EventGroup::ALL.iter().all(|group| group.types().count() > 0));
        assert!(EventGroup::Chain.types().any(|event_type| event_type == EventType::NewBlock));
    }

    #[test]
    fn type_and_payload_must_agree() {
        let event = Event::PeerUnbanned { address: "203.0.113.7".into() };
        let mut body = Vec::new();
        event.encode(&mut body);
        assert_eq!(Event::decode(&body), Ok(event.clone()));
        body[4] = EventType::AddressDiscovered.topic();
        let mismatch = DecodeError::Mismatch {
            what: "event",
            announced: event.event_type().number(),
            carried: EventType::AddressDiscovered.number(),
        };
        assert_eq!(Event::decode(&body), Err(mismatch));
    }

    #[test]
    fn an_unknown_event_is_handed_on_raw() {
        let body = Bytes::from_static(&[250, 0, 0, 0, 250, 0, 0, 0, 1, 2, 3]);
        assert!(matches!(Event::decode(&body), Err(DecodeError::UnknownVariant { number: 250, .. })));
        let event = AnyEvent::decode(&body).unwrap();
        let payload = Bytes::from_static(&[250, 0, 0, 0, 1, 2, 3]);
        assert_eq!(event, AnyEvent::Raw(RawEvent { topic: 250, payload }));
        let mut again = Vec::new();
        event.encode(&mut again);
        assert_eq!(again, body);
        assert!(AnyEvent::decode(&Bytes::from_static(&[0, 1, 0, 0, 0, 1, 0, 0])).is_err());
    }

    #[test]
    fn no_field_of_any_event_believes_a_claimed_length() {
        // Zeroes are an acceptable payload of most types; a huge length at every place must only ever be an error.
        for event_type in EventType::ALL {
            for at in 8..72 {
                let mut body = vec![0; 160];
                body[..4].copy_from_slice(&event_type.number().to_le_bytes());
                body[4..8].copy_from_slice(&event_type.number().to_le_bytes());
                body[at..at + 8].copy_from_slice(&(u64::MAX >> 2).to_le_bytes());
                assert!(Event::decode(&body).is_err(), "{event_type}: bytes follow its end");
            }
        }
    }

    #[test]
    fn the_document_lists_every_event() {
        let document = include_str!("../../../docs/PROTOCOL.md");
        let wanted: Vec<String> = EventType::ALL
            .iter()
            .map(|event_type| {
                let fields: Vec<_> =
                    event_type.fields().iter().map(|(name, kind)| format!("{name} {kind}")).collect();
                let fields = if fields.is_empty() { "–".to_owned() } else { fields.join(", ") };
                let (number, group) = (event_type.number(), event_type.group());
                format!("| {number} | {event_type} | {group} | {fields} | {} |", event_type.summary())
            })
            .collect();
        let listed: Vec<&str> =
            document.lines().filter(|line| wanted.iter().any(|row| row == line)).collect();
        assert_eq!(listed, wanted, "section 10.7 and the table differ");
    }
}
