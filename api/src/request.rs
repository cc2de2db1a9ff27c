//! What a module asks of the node (section 10.1).

use bytes::Bytes;

use crate::codec::{Reader, put_len, put_u32, put_u64};
use crate::macros::numbered_enum;
use crate::{BlockHash, DecodeError, EventType, OutPoint, RawTransaction, Txid};

/// A list of event types names each at most once in effect, so no honest list is longer than there are topics.
pub(crate) const EVENT_TYPES_MAX: usize = 256;

numbered_enum! {
    /// The type of a request. The first eleven are the seed's, in its order.
    MessageType ("request type") {
        0 GetBlock "GetBlock" "A block by its hash.";
        1 GetBlockHeader "GetBlockHeader" "A block's header by the block's hash.";
        2 GetTransaction "GetTransaction" "A confirmed transaction by its id.";
        3 GetChainTip "GetChainTip" "Hash and height of the active chain's last block.";
        4 GetBlockHeight "GetBlockHeight" "Height of the active chain's last block.";
        5 GetUtxo "GetUTXO" "What the node knows of one transaction output.";
        6 SubscribeEvents "SubscribeEvents" "Replace the set of event types that this connection receives.";
        7 GetMempoolTransactions "GetMempoolTransactions" "The ids of all unconfirmed transactions.";
        8 GetNetworkStats "GetNetworkStats" "Counters of the node's peer-to-peer traffic.";
        9 GetNetworkPeers "GetNetworkPeers" "The node's connected peers.";
        10 GetChainInfo "GetChainInfo" "The chain's name, tip and state of synchronisation.";
        11 GetBlockByHeight "GetBlockByHeight" "A block of the active chain by its height.";
        12 GetMempoolTransaction "GetMempoolTransaction" "An unconfirmed transaction by its id.";
        13 SubmitTransaction "SubmitTransaction" "Offer a transaction to the mempool.";
        14 Unsubscribe "Unsubscribe" "Stop receiving some event types, or all.";
    }
}

/// A request. Its type is its variant, so that type and payload cannot disagree; a body in which they do does not decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A block by its hash.
    GetBlock {
        /// The block's hash.
        hash: BlockHash,
    },
    /// A block's header by the block's hash.
    GetBlockHeader {
        /// The block's hash.
        hash: BlockHash,
    },
    /// A confirmed transaction by its id.
    GetTransaction {
        /// The transaction's id.
        txid: Txid,
    },
    /// Hash and height of the active chain's last block.
    GetChainTip,
    /// Height of the active chain's last block.
    GetBlockHeight,
    /// What the node knows of one transaction output.
    GetUtxo {
        /// The output.
        outpoint: OutPoint,
    },
    /// Replace the set of event types that this connection receives [V-2]. An empty list leaves it empty.
    SubscribeEvents {
        /// The event types, at most 256.
        event_types: Vec<EventType>,
    },
    /// The ids of all unconfirmed transactions.
    GetMempoolTransactions,
    /// Counters of the node's peer-to-peer traffic.
    GetNetworkStats,
    /// The node's connected peers.
    GetNetworkPeers,
    /// The chain's name, tip and state of synchronisation.
    GetChainInfo,
    /// A block of the active chain by its height.
    GetBlockByHeight {
        /// The block's height.
        height: u64,
    },
    /// An unconfirmed transaction by its id.
    GetMempoolTransaction {
        /// The transaction's id.
        txid: Txid,
    },
    /// Offer a transaction to the mempool.
    SubmitTransaction {
        /// The transaction.
        raw: RawTransaction,
    },
    /// Stop receiving these event types; an empty list means all of them [V-2].
    Unsubscribe {
        /// The event types, at most 256.
        event_types: Vec<EventType>,
    },
}

impl Request {
    /// The request's type.
    pub const fn message_type(&self) -> MessageType {
        match self {
            Request::GetBlock { .. } => MessageType::GetBlock,
            Request::GetBlockHeader { .. } => MessageType::GetBlockHeader,
            Request::GetTransaction { .. } => MessageType::GetTransaction,
            Request::GetChainTip => MessageType::GetChainTip,
            Request::GetBlockHeight => MessageType::GetBlockHeight,
            Request::GetUtxo { .. } => MessageType::GetUtxo,
            Request::SubscribeEvents { .. } => MessageType::SubscribeEvents,
            Request::GetMempoolTransactions => MessageType::GetMempoolTransactions,
            Request::GetNetworkStats => MessageType::GetNetworkStats,
            Request::GetNetworkPeers => MessageType::GetNetworkPeers,
            Request::GetChainInfo => MessageType::GetChainInfo,
            Request::GetBlockByHeight { .. } => MessageType::GetBlockByHeight,
            Request::GetMempoolTransaction { .. } => MessageType::GetMempoolTransaction,
            Request::SubmitTransaction { .. } => MessageType::SubmitTransaction,
            Request::Unsubscribe { .. } => MessageType::Unsubscribe,
        }
    }

    /// Appends the body: type and payload. The correlation id before it belongs to the envelope.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let tail = self.encode_parts(out);
        out.extend_from_slice(&tail);
    }

    /// Appends the body without its tail, and returns the tail, which is a transaction's bytes or empty. The body is the
    /// one followed by the other.
    pub fn encode_parts(&self, head: &mut Vec<u8>) -> Bytes {
        let number = self.message_type().number();
        put_u32(head, number);
        put_u32(head, number);
        match self {
            Request::GetBlock { hash } | Request::GetBlockHeader { hash } => {
                head.extend_from_slice(hash.as_bytes());
            }
            Request::GetTransaction { txid } | Request::GetMempoolTransaction { txid } => {
                head.extend_from_slice(txid.as_bytes());
            }
            Request::GetUtxo { outpoint } => {
                head.extend_from_slice(outpoint.txid.as_bytes());
                put_u32(head, outpoint.vout);
            }
            Request::SubscribeEvents { event_types } | Request::Unsubscribe { event_types } => {
                put_event_types(head, event_types);
            }
            Request::GetBlockByHeight { height } => put_u64(head, *height),
            Request::SubmitTransaction { raw } => {
                put_len(head, raw.as_bytes().len());
                return raw.shared().clone();
            }
            Request::GetChainTip
            | Request::GetBlockHeight
            | Request::GetMempoolTransactions
            | Request::GetNetworkStats
            | Request::GetNetworkPeers
            | Request::GetChainInfo => {}
        }
        Bytes::new()
    }

    /// Decodes a body; a transaction in it is copied.
    ///
    /// # Errors
    /// [`DecodeError::UnknownVariant`] for a request or event type of a later version, [`DecodeError::Mismatch`] if type
    /// and payload differ, [`DecodeError::Malformed`] for everything else. Each is answered with an error [L-1].
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        Request::take(Reader::new("request", body))
    }

    /// Decodes a body; a transaction in it is a slice of `body`.
    ///
    /// # Errors
    /// As [`Request::decode`].
    pub fn decode_shared(body: &Bytes) -> Result<Self, DecodeError> {
        Request::take(Reader::shared("request", body))
    }

    fn take(mut reader: Reader<'_>) -> Result<Self, DecodeError> {
        let reader = &mut reader;
        let request = match take_type(reader)? {
            MessageType::GetBlock => Request::GetBlock { hash: take_block_hash(reader)? },
            MessageType::GetBlockHeader => Request::GetBlockHeader { hash: take_block_hash(reader)? },
            MessageType::GetTransaction => Request::GetTransaction { txid: take_txid(reader)? },
            MessageType::GetChainTip => Request::GetChainTip,
            MessageType::GetBlockHeight => Request::GetBlockHeight,
            MessageType::GetUtxo => {
                let outpoint = OutPoint { txid: take_txid(reader)?, vout: reader.u32()? };
                Request::GetUtxo { outpoint }
            }
            MessageType::SubscribeEvents => {
                Request::SubscribeEvents { event_types: take_event_types(reader)? }
            }
            MessageType::GetMempoolTransactions => Request::GetMempoolTransactions,
            MessageType::GetNetworkStats => Request::GetNetworkStats,
            MessageType::GetNetworkPeers => Request::GetNetworkPeers,
            MessageType::GetChainInfo => Request::GetChainInfo,
            MessageType::GetBlockByHeight => Request::GetBlockByHeight { height: reader.u64()? },
            MessageType::GetMempoolTransaction => Request::GetMempoolTransaction { txid: take_txid(reader)? },
            MessageType::SubmitTransaction => {
                Request::SubmitTransaction { raw: RawTransaction::new(reader.tail()?) }
            }
            MessageType::Unsubscribe => Request::Unsubscribe { event_types: take_event_types(reader)? },
        };
        reader.finish()?;
        Ok(request)
    }
}

/// The type field and the payload's variant number, which must agree.
pub(crate) fn take_type(reader: &mut Reader<'_>) -> Result<MessageType, DecodeError> {
    let announced = MessageType::take(reader)?;
    let carried = reader.u32()?;
    if carried != announced.number() {
        return Err(DecodeError::Mismatch { what: "request", announced: announced.number(), carried });
    }
    Ok(announced)
}

pub(crate) fn take_block_hash(reader: &mut Reader<'_>) -> Result<BlockHash, DecodeError> {
    reader.array().map(BlockHash::from_bytes)
}

pub(crate) fn take_txid(reader: &mut Reader<'_>) -> Result<Txid, DecodeError> {
    reader.array().map(Txid::from_bytes)
}

pub(crate) fn put_event_types(out: &mut Vec<u8>, event_types: &[EventType]) {
    put_len(out, event_types.len());
    for event_type in event_types {
        put_u32(out, event_type.number());
    }
}

pub(crate) fn take_event_types(reader: &mut Reader<'_>) -> Result<Vec<EventType>, DecodeError> {
    let count = reader.count_up_to(EVENT_TYPES_MAX, 4)?;
    let mut event_types = Vec::with_capacity(count);
    for _ in 0..count {
        event_types.push(EventType::take(reader)?);
    }
    Ok(event_types)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fault;

    #[test]
    fn type_and_payload_must_agree() {
        let mut body = Vec::new();
        Request::GetChainTip.encode(&mut body);
        assert_eq!(body, [3, 0, 0, 0, 3, 0, 0, 0]);
        let mismatch = DecodeError::Mismatch { what: "request", announced: 3, carried: 4 };
        assert_eq!(Request::decode(&[3, 0, 0, 0, 4, 0, 0, 0]), Err(mismatch));
        let unknown = DecodeError::UnknownVariant { what: "request type", number: 15, known: 15 };
        assert_eq!(Request::decode(&[15, 0, 0, 0, 15, 0, 0, 0]), Err(unknown));
    }

    #[test]
    fn an_unknown_event_type_does_not_decode() {
        let mut body = Vec::new();
        Request::SubscribeEvents { event_types: vec![EventType::NewBlock] }.encode(&mut body);
        let at = body.len() - 4;
        body[at..].copy_from_slice(&255u32.to_le_bytes());
        let error = Request::decode(&body).unwrap_err();
        assert!(
            matches!(error, DecodeError::UnknownVariant { what: "event type", number: 255, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_list_of_event_types_is_bounded() {
        let many = vec![EventType::NewBlock; EVENT_TYPES_MAX + 1];
        let mut body = Vec::new();
        Request::Unsubscribe { event_types: many }.encode(&mut body);
        let error = Request::decode(&body).unwrap_err();
        assert!(
            matches!(
                error,
                DecodeError::Malformed { fault: Fault::Length { claimed: 257, possible: 256 }, .. }
            ),
            "{error}"
        );
    }

    #[test]
    fn a_submitted_transaction_is_not_copied() {
        let raw = RawTransaction::new(Bytes::from_static(b"transaction"));
        let request = Request::SubmitTransaction { raw: raw.clone() };
        let mut head = Vec::new();
        let tail = request.encode_parts(&mut head);
        assert_eq!(tail.as_ptr(), raw.as_bytes().as_ptr());
        head.extend_from_slice(&tail);
        let body = Bytes::from(head);
        let Ok(Request::SubmitTransaction { raw: sliced }) = Request::decode_shared(&body) else {
            panic!("does not decode");
        };
        assert_eq!(sliced.as_bytes().as_ptr(), body[16..].as_ptr());
        assert_eq!(Request::decode(&body), Ok(request));
    }
}
