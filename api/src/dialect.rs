//! The native dialect: what the bodies of section 10 mean to the protocol machine.

use modipc_core::{CallClass, CallRefusal, Dialect, Kind, Meaning, TopicSet};

use crate::codec::Reader;
use crate::request::{EVENT_TYPES_MAX, take_type};
use crate::{
    CapabilitySet, DecodeError, ErrorCode, ErrorInfo, EventType, InvocationResult, MessageType, Response,
    required, required_for_event,
};

/// The dialect of docs/PROTOCOL.md.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct NativeDialect;

const PLAIN: Meaning = Meaning { class: CallClass::Ordinary, needs: 0 };

impl Dialect for NativeDialect {
    /// Looks at 8 bytes of an ordinary request. The list of a subscription is read whole, without allocation: only one
    /// that decodes may change the subscription.
    fn classify(&self, call: Kind, body: &[u8]) -> Meaning {
        match call {
            Kind::Request => meaning(body).unwrap_or(PLAIN),
            // A node may invoke a module as it likes: grants are for modules.
            _ => PLAIN,
        }
    }

    fn encode_refusal(&self, call: Kind, refusal: CallRefusal, out: &mut Vec<u8>) {
        let error = refused(refusal);
        match call {
            Kind::Invocation => InvocationResult::Error(error).encode(out),
            _ => Response::Error(error).encode(out),
        }
    }
}

fn meaning(body: &[u8]) -> Result<Meaning, DecodeError> {
    let mut reader = Reader::new("request", body);
    let message_type = take_type(&mut reader)?;
    let needs = required(message_type).bits();
    match message_type {
        MessageType::SubscribeEvents => {
            let topics = topics(&mut reader)?;
            let events = required_for(&topics);
            Ok(Meaning { class: CallClass::Subscribe(topics), needs: needs | events.bits() })
        }
        MessageType::Unsubscribe => {
            let named = topics(&mut reader)?;
            let topics = if named.is_empty() { TopicSet::ALL } else { named };
            Ok(Meaning { class: CallClass::Unsubscribe(topics), needs })
        }
        MessageType::GetBlock
        | MessageType::GetBlockHeader
        | MessageType::GetTransaction
        | MessageType::GetChainTip
        | MessageType::GetBlockHeight
        | MessageType::GetUtxo
        | MessageType::GetMempoolTransactions
        | MessageType::GetNetworkStats
        | MessageType::GetNetworkPeers
        | MessageType::GetChainInfo
        | MessageType::GetBlockByHeight
        | MessageType::GetMempoolTransaction
        | MessageType::SubmitTransaction => Ok(Meaning { class: CallClass::Ordinary, needs }),
    }
}

fn topics(reader: &mut Reader<'_>) -> Result<TopicSet, DecodeError> {
    let mut topics = TopicSet::EMPTY;
    for _ in 0..reader.count_up_to(EVENT_TYPES_MAX, 4)? {
        topics.insert(EventType::take(reader)?.topic());
    }
    reader.finish()?;
    Ok(topics)
}

fn required_for(topics: &TopicSet) -> CapabilitySet {
    topics
        .iter()
        .filter_map(EventType::from_topic)
        .fold(CapabilitySet::EMPTY, |needs, event_type| needs.union(required_for_event(event_type)))
}

fn refused(refusal: CallRefusal) -> ErrorInfo {
    match refusal {
        CallRefusal::Busy => ErrorInfo::new(
            ErrorCode::Busy,
            "too many calls are open on this connection, or their answers are not read: \
             wait for answers, then call again",
        ),
        CallRefusal::Denied(missing) => ErrorInfo::denied(None, CapabilitySet::from_bits(missing)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Capability, Request};

    fn classified(request: &Request) -> Meaning {
        let mut body = Vec::new();
        request.encode(&mut body);
        NativeDialect.classify(Kind::Request, &body)
    }

    fn needs(capabilities: &[Capability]) -> u64 {
        CapabilitySet::of(capabilities).bits()
    }

    #[test]
    fn a_subscription_needs_what_its_topics_need() {
        let meaning = classified(&Request::SubscribeEvents {
            event_types: vec![EventType::NewBlock, EventType::PeerConnected],
        });
        let topics = [0, 13].into_iter().collect();
        assert_eq!(meaning.class, CallClass::Subscribe(topics));
        assert_eq!(meaning.needs, needs(&[Capability::SubscribeEvents, Capability::ReadNetwork]));

        let none = classified(&Request::SubscribeEvents { event_types: vec![] });
        assert_eq!(none.class, CallClass::Subscribe(TopicSet::EMPTY));
        assert_eq!(none.needs, needs(&[Capability::SubscribeEvents]));
    }

    #[test]
    fn unsubscribing_needs_nothing_and_may_mean_all() {
        let all = classified(&Request::Unsubscribe { event_types: vec![] });
        assert_eq!(all, Meaning { class: CallClass::Unsubscribe(TopicSet::ALL), needs: 0 });
        let one = classified(&Request::Unsubscribe { event_types: vec![EventType::NewBlock] });
        let topics = [0].into_iter().collect();
        assert_eq!(one, Meaning { class: CallClass::Unsubscribe(topics), needs: 0 });
    }

    #[test]
    fn ordinary_requests_need_what_the_table_says() {
        let tip = classified(&Request::GetChainTip);
        assert_eq!(tip, Meaning { class: CallClass::Ordinary, needs: needs(&[Capability::ReadChainState]) });
    }

    #[test]
    fn what_does_not_decode_changes_nothing() {
        let mut body = Vec::new();
        Request::SubscribeEvents { event_types: vec![EventType::NewBlock] }.encode(&mut body);
        body.push(0);
        assert_eq!(NativeDialect.classify(Kind::Request, &body), PLAIN);
        assert_eq!(NativeDialect.classify(Kind::Request, &[]), PLAIN);
        assert_eq!(NativeDialect.classify(Kind::Request, &[99, 0, 0, 0, 99, 0, 0, 0]), PLAIN);
        assert_eq!(NativeDialect.classify(Kind::Invocation, &[3, 0, 0, 0, 3, 0, 0, 0]), PLAIN);
    }

    #[test]
    fn refusals_are_answers_of_the_calls_kind() {
        let mut body = Vec::new();
        let denied = CallRefusal::Denied(needs(&[Capability::ReadUtxo]));
        NativeDialect.encode_refusal(Kind::Request, denied, &mut body);
        let Ok(Response::Error(error)) = Response::decode(&body) else { panic!("not an error") };
        assert_eq!(error.code, ErrorCode::PermissionDenied);
        assert_eq!(error.missing_capabilities().names(), ["ReadUTXO"]);

        body.clear();
        NativeDialect.encode_refusal(Kind::Invocation, CallRefusal::Busy, &mut body);
        let Ok(InvocationResult::Error(error)) = InvocationResult::decode(&body) else {
            panic!("not an error");
        };
        assert_eq!(error.code, ErrorCode::Busy);
    }
}
