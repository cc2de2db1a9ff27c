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
