//! What the node answers (section 10.2).

use bytes::Bytes;

use crate::codec::{Reader, put, put_len, put_u32, put_u64};
use crate::data::{put_peers, take_peers};
use crate::request::{put_event_types, take_block_hash, take_event_types, take_txid};
use crate::{
    BlockAt, BlockHeader, BlockRef, ChainInfo, DecodeError, ErrorInfo, EventType, MempoolTransaction,
    MessageType, NetworkStats, PeerInfo, RawBlock, RawTransaction, Transaction, Txid, Utxo,
};

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// The request succeeded.
    Success(ResponseData),
    /// The request failed.
    Error(ErrorInfo),
    /// The node has complete data, and what was asked for is not in it.
    NotFound,
}

const SUCCESS: u32 = 0;
const ERROR: u32 = 1;
const NOT_FOUND: u32 = 2;

/// What a successful request yields: one variant for each request, under the request's number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseData {
    /// To GetBlock.
    Block(RawBlock),
    /// To GetBlockHeader.
    BlockHeader(BlockHeader),
    /// To GetTransaction.
    Transaction(Transaction),
    /// To GetChainTip.
    ChainTip(BlockRef),
    /// To GetBlockHeight.
    BlockHeight(u64),
    /// To GetUTXO.
    Utxo(Utxo),
    /// To SubscribeEvents.
    Subscribed {
        /// The event types that this connection now receives.
        event_types: Vec<EventType>,
        /// The log position after which they come [V-3].
        position: u64,
    },
    /// To GetMempoolTransactions.
    MempoolTransactions(Vec<Txid>),
    /// To GetNetworkStats.
    NetworkStats(NetworkStats),
    /// To GetNetworkPeers.
    NetworkPeers(Vec<PeerInfo>),
    /// To GetChainInfo.
    ChainInfo(ChainInfo),
    /// To GetBlockByHeight.
    BlockByHeight(BlockAt),
    /// To GetMempoolTransaction.
    MempoolTransaction(MempoolTransaction),
    /// To SubmitTransaction.
    Submitted {
        /// The accepted transaction's id.
        txid: Txid,
    },
    /// To Unsubscribe.
    Unsubscribed {
        /// The event types that this connection still receives.
        event_types: Vec<EventType>,
    },
}

impl ResponseData {
    /// The request that this answers. A response with data of another request is a protocol error of the node.
    pub const fn message_type(&self) -> MessageType {
        match self {
            ResponseData::Block(_) => MessageType::GetBlock,
            ResponseData::BlockHeader(_) => MessageType::GetBlockHeader,
            ResponseData::Transaction(_) => MessageType::GetTransaction,
            ResponseData::ChainTip(_) => MessageType::GetChainTip,
            ResponseData::BlockHeight(_) => MessageType::GetBlockHeight,
            ResponseData::Utxo(_) => MessageType::GetUtxo,
            ResponseData::Subscribed { .. } => MessageType::SubscribeEvents,
            ResponseData::MempoolTransactions(_) => MessageType::GetMempoolTransactions,
            ResponseData::NetworkStats(_) => MessageType::GetNetworkStats,
            ResponseData::NetworkPeers(_) => MessageType::GetNetworkPeers,
            ResponseData::ChainInfo(_) => MessageType::GetChainInfo,
            ResponseData::BlockByHeight(_) => MessageType::GetBlockByHeight,
            ResponseData::MempoolTransaction(_) => MessageType::GetMempoolTransaction,
            ResponseData::Submitted { .. } => MessageType::SubmitTransaction,
            ResponseData::Unsubscribed { .. } => MessageType::Unsubscribe,
        }
    }

    fn put(&self, head: &mut Vec<u8>) -> Bytes {
        put_u32(head, self.message_type().number());
        match self {
            ResponseData::Block(raw) => return put_tail(head, raw.shared()),
            ResponseData::BlockHeader(header) => head.extend_from_slice(header.as_bytes()),
            ResponseData::Transaction(transaction) => {
                put(head, &transaction.block);
                return put_tail(head, transaction.raw.shared());
            }
            ResponseData::ChainTip(tip) => put(head, tip),
            ResponseData::BlockHeight(height) => put_u64(head, *height),
            ResponseData::Utxo(utxo) => utxo.put(head),
            ResponseData::Subscribed { event_types, position } => {
                put_event_types(head, event_types);
                put_u64(head, *position);
            }
            ResponseData::MempoolTransactions(txids) => put_txids(head, txids),
            ResponseData::NetworkStats(stats) => put(head, stats),
            ResponseData::NetworkPeers(peers) => put_peers(head, peers),
            ResponseData::ChainInfo(info) => put(head, info),
            ResponseData::BlockByHeight(block) => {
                head.extend_from_slice(block.hash.as_bytes());
                return put_tail(head, block.raw.shared());
            }
            ResponseData::MempoolTransaction(transaction) => {
                put(head, &(transaction.fee_sat, transaction.received_at_s));
                return put_tail(head, transaction.raw.shared());
            }
            ResponseData::Submitted { txid } => head.extend_from_slice(txid.as_bytes()),
            ResponseData::Unsubscribed { event_types } => put_event_types(head, event_types),
        }
        Bytes::new()
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match MessageType::take(reader)? {
            MessageType::GetBlock => ResponseData::Block(RawBlock::new(reader.tail()?)),
            MessageType::GetBlockHeader => {
                ResponseData::BlockHeader(BlockHeader::from_bytes(reader.array()?))
            }
            MessageType::GetTransaction => {
                let block = reader.get()?;
                let raw = RawTransaction::new(reader.tail()?);
                ResponseData::Transaction(Transaction { block, raw })
            }
            MessageType::GetChainTip => ResponseData::ChainTip(reader.get()?),
            MessageType::GetBlockHeight => ResponseData::BlockHeight(reader.u64()?),
            MessageType::GetUtxo => ResponseData::Utxo(Utxo::take(reader)?),
            MessageType::SubscribeEvents => {
                let event_types = take_event_types(reader)?;
                ResponseData::Subscribed { event_types, position: reader.u64()? }
            }
            MessageType::GetMempoolTransactions => ResponseData::MempoolTransactions(take_txids(reader)?),
            MessageType::GetNetworkStats => ResponseData::NetworkStats(reader.get()?),
            MessageType::GetNetworkPeers => ResponseData::NetworkPeers(take_peers(reader)?),
            MessageType::GetChainInfo => ResponseData::ChainInfo(reader.get()?),
            MessageType::GetBlockByHeight => {
                let hash = take_block_hash(reader)?;
                let raw = RawBlock::new(reader.tail()?);
                ResponseData::BlockByHeight(BlockAt { hash, raw })
            }
            MessageType::GetMempoolTransaction => {
                let (fee_sat, received_at_s) = reader.get()?;
                let raw = RawTransaction::new(reader.tail()?);
                ResponseData::MempoolTransaction(MempoolTransaction { fee_sat, received_at_s, raw })
            }
            MessageType::SubmitTransaction => ResponseData::Submitted { txid: take_txid(reader)? },
            MessageType::Unsubscribe => ResponseData::Unsubscribed { event_types: take_event_types(reader)? },
        })
    }
}

impl Response {
    /// Appends the body. The correlation id before it belongs to the envelope.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let tail = self.encode_parts(out);
        out.extend_from_slice(&tail);
    }

    /// Appends the body without its tail, and returns the tail: the bytes of a block or transaction, shared, or empty. The
    /// body is the one followed by the other.
    pub fn encode_parts(&self, head: &mut Vec<u8>) -> Bytes {
        match self {
            Response::Success(data) => {
                put_u32(head, SUCCESS);
                return data.put(head);
            }
            Response::Error(error) => {
                put_u32(head, ERROR);
                error.put(head);
            }
            Response::NotFound => put_u32(head, NOT_FOUND),
        }
        Bytes::new()
    }

    /// Decodes a body; a block or transaction in it is copied.
    ///
    /// # Errors
    /// [`DecodeError`]: the node speaks a later version or breaks the protocol; the connection stays usable [L-1].
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        Response::take(Reader::new("response", body))
    }

    /// Decodes a body; a block or transaction in it is a slice of `body`.
    ///
    /// # Errors
    /// As [`Response::decode`].
    pub fn decode_shared(body: &Bytes) -> Result<Self, DecodeError> {
        Response::take(Reader::shared("response", body))
    }

    fn take(mut reader: Reader<'_>) -> Result<Self, DecodeError> {
        let response = match reader.u32()? {
            SUCCESS => Response::Success(ResponseData::take(&mut reader)?),
            ERROR => Response::Error(ErrorInfo::take(&mut reader)?),
            NOT_FOUND => Response::NotFound,
            number => return Err(DecodeError::UnknownVariant { what: "response", number, known: 3 }),
        };
        reader.finish()?;
        Ok(response)
    }
}

impl From<ResponseData> for Response {
    fn from(data: ResponseData) -> Self {
        Response::Success(data)
    }
}

impl From<ErrorInfo> for Response {
    fn from(error: ErrorInfo) -> Self {
        Response::Error(error)
    }
}

/// The length of a byte string that ends the message; the bytes themselves are shared with the caller.
pub(crate) fn put_tail(head: &mut Vec<u8>, tail: &Bytes) -> Bytes {
    put_len(head, tail.len());
    tail.clone()
}

fn put_txids(out: &mut Vec<u8>, txids: &[Txid]) {
    put_len(out, txids.len());
    out.reserve(txids.len() * 32);
    for txid in txids {
        out.extend_from_slice(txid.as_bytes());
    }
}

fn take_txids(reader: &mut Reader<'_>) -> Result<Vec<Txid>, DecodeError> {
    let count = reader.count(32)?;
    let mut txids = Vec::with_capacity(count);
    for _ in 0..count {
        txids.push(take_txid(reader)?);
    }
    Ok(txids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorCode, Fault};

    #[test]
    fn a_block_is_neither_copied_out_nor_in() {
        let raw = Bytes::from(vec![7; 1000]);
        let response = Response::from(ResponseData::Block(RawBlock::new(raw.clone())));
        let mut head = Vec::new();
        let tail = response.encode_parts(&mut head);
        assert_eq!(head, [0, 0, 0, 0, 0, 0, 0, 0, 0xe8, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(tail.as_ptr(), raw.as_ptr());

        let body = Bytes::from([&head[..], &tail].concat());
        let Ok(Response::Success(ResponseData::Block(block))) = Response::decode_shared(&body) else {
            panic!("does not decode");
        };
        assert_eq!(block.as_bytes().as_ptr(), body[16..].as_ptr());
        assert_eq!(Response::decode(&body), Ok(response));
    }

    #[test]
    fn an_error_code_of_a_later_version_is_kept() {
        let error = ErrorInfo::new(ErrorCode::from_number(77), "new");
        let mut body = Vec::new();
        Response::from(error.clone()).encode(&mut body);
        assert_eq!(Response::decode(&body), Ok(Response::Error(error)));
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let fault = Fault::Trailing { extra: 1 };
        assert_eq!(
            Response::decode(&[2, 0, 0, 0, 9]),
            Err(DecodeError::Malformed { what: "response", offset: 4, fault })
        );
    }
}
