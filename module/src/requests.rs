//! The typed methods: one table, from which the async and the blocking client have the same methods.

use bytes::Bytes;
use modipc_api::{
    BlockAt, BlockHash, BlockHeader, BlockRef, ChainInfo, MempoolTransaction, MessageType, NetworkStats,
    OutPoint, PeerInfo, RawBlock, RawTransaction, Request, Response, ResponseData, Transaction, Txid, Utxo,
};
use modipc_core::{CallOptions, IdempotencyKey};

use crate::Error;
use crate::blocking::BlockingClient;
use crate::client::{Client, Inner};
use crate::error::{answered, undecodable, unexpected};
use crate::reply::Reply;

/// `maybe`: NotFound is `None`. `always`: NotFound is no answer to this request, and so a protocol error of the host.
macro_rules! requests {
    ($(
        $(#[$doc:meta])*
        $name:ident($($arg:ident: $ty:ty),*) = $request:expr;
        $how:ident $data:ident => $out:ty;
    )*) => {
        /// The requests. Each is made at once; see [`Reply`].
        impl Client { $(
            $(#[$doc])*
            ///
            /// # Errors
            /// [`Error`]
            pub fn $name(&self, $($arg: $ty),*) -> Reply<answer!($how $out)> {
                self.issue($request, |inner, request, deadline_us, body| {
                    let response = read(inner, request, deadline_us, body)?;
                    $how(request, response, |data| match data {
                        ResponseData::$data(value) => Some(value),
                        _ => None,
                    })
                })
            }
        )* }

        /// The requests. Each blocks the thread until it is answered.
        impl BlockingClient { $(
            $(#[$doc])*
            ///
            /// # Errors
            /// [`Error`]
            pub fn $name(&self, $($arg: $ty),*) -> Result<answer!($how $out), Error> {
                let (request, response) = self.request_answered($request)?;
                $how(request, response, |data| match data {
                    ResponseData::$data(value) => Some(value),
                    _ => None,
                })
            }
        )* }
    };
}

macro_rules! answer {
    (maybe $out:ty) => { Option<$out> };
    (always $out:ty) => { $out };
}

requests! {
    /// A block by its hash; `None` if there is none.
    get_block(hash: BlockHash) = Request::GetBlock { hash };
        maybe Block => RawBlock;
    /// A block's header by the block's hash; `None` if there is none.
    get_block_header(hash: BlockHash) = Request::GetBlockHeader { hash };
        maybe BlockHeader => BlockHeader;
    /// A confirmed transaction by its id; `None` if there is none.
    get_transaction(txid: Txid) = Request::GetTransaction { txid };
        maybe Transaction => Transaction;
    /// Hash and height of the active chain's last block.
    get_chain_tip() = Request::GetChainTip;
        always ChainTip => BlockRef;
    /// Height of the active chain's last block.
    get_block_height() = Request::GetBlockHeight;
        always BlockHeight => u64;
    /// What the node knows of a transaction output; `None` if it knows all outputs and this is none.
    get_utxo(outpoint: OutPoint) = Request::GetUtxo { outpoint };
        maybe Utxo => Utxo;
    /// The ids of all unconfirmed transactions.
    get_mempool_transactions() = Request::GetMempoolTransactions;
        always MempoolTransactions => Vec<Txid>;
    /// Counters of the node's peer-to-peer traffic.
    get_network_stats() = Request::GetNetworkStats;
        always NetworkStats => NetworkStats;
    /// The node's connected peers.
    get_network_peers() = Request::GetNetworkPeers;
        always NetworkPeers => Vec<PeerInfo>;
    /// The chain's name, tip and state of synchronisation.
    get_chain_info() = Request::GetChainInfo;
        always ChainInfo => ChainInfo;
    /// A block of the active chain by its height; `None` if the chain is not that high.
    get_block_by_height(height: u64) = Request::GetBlockByHeight { height };
        maybe BlockByHeight => BlockAt;
    /// An unconfirmed transaction by its id; `None` if it is not in the mempool.
    get_mempool_transaction(txid: Txid) = Request::GetMempoolTransaction { txid };
        maybe MempoolTransaction => MempoolTransaction;
}

// Submitting stands apart for its idempotency key, and because its data has a named field.

impl Client {
    /// Offers a transaction to the mempool and gives its id. With a `key` (in x1) it may be repeated on a new connection: a host
    /// that has seen the key gives the first outcome again.
    ///
    /// # Errors
    /// [`Error`]; a transaction that breaks a rule is [`Error::Answered`] with the code Rejected.
    pub fn submit_transaction(&self, raw: RawTransaction, key: Option<IdempotencyKey>) -> Reply<Txid> {
        let options = CallOptions { idempotency: key, ..self.options() };
        let inner = std::sync::Arc::clone(&self.inner);
        Reply::new(
            inner,
            Request::SubmitTransaction { raw },
            &options,
            |inner, request, deadline_us, body| {
                always(request, read(inner, request, deadline_us, body)?, submitted)
            },
        )
    }
}

impl BlockingClient {
    /// Offers a transaction to the mempool and gives its id; see [`Client::submit_transaction`].
    ///
    /// # Errors
    /// [`Error`]
    pub fn submit_transaction(
        &self,
        raw: RawTransaction,
        key: Option<IdempotencyKey>,
    ) -> Result<Txid, Error> {
        let (request, response) = self.request_once_answered(Request::SubmitTransaction { raw }, key)?;
        always(request, response, submitted)
    }
}

fn submitted(data: ResponseData) -> Option<Txid> {
    match data {
        ResponseData::Submitted { txid } => Some(txid),
        _ => None,
    }
}

/// Decodes an answer. What the host reports as an error is one.
pub(crate) fn read(
    inner: &Inner,
    request: MessageType,
    deadline_us: u64,
    body: Bytes,
) -> Result<Response, Error> {
    match Response::decode_shared(&body) {
        Ok(Response::Error(error)) => Err(answered(&inner.module_id, request, deadline_us, error)),
        Ok(response) => Ok(response),
        Err(error) => Err(undecodable(format!("its answer to {request}: {error}"))),
    }
}

/// The data of a request whose subject may not exist.
pub(crate) fn maybe<T>(
    request: MessageType,
    response: Response,
    pick: impl FnOnce(ResponseData) -> Option<T>,
) -> Result<Option<T>, Error> {
    match response {
        Response::NotFound => Ok(None),
        response => always(request, response, pick).map(Some),
    }
}

/// The data of a request that always has an answer.
pub(crate) fn always<T>(
    request: MessageType,
    response: Response,
    pick: impl FnOnce(ResponseData) -> Option<T>,
) -> Result<T, Error> {
    match response {
        Response::Success(data) => {
            let given = data.message_type();
            pick(data).ok_or_else(|| unexpected(request, given.name()))
        }
        Response::NotFound => Err(unexpected(request, "NotFound")),
        Response::Error(error) => Err(unexpected(request, &error.to_string())),
    }
}
