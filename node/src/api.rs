//! What a node does for its modules: one method for each request.

use std::sync::Arc;

use async_trait::async_trait;
use modipc_api::{
    BlockAt, BlockHash, BlockHeader, BlockRef, CapabilitySet, ChainInfo, ErrorCode, ErrorInfo,
    MempoolTransaction, MessageType, NetworkStats, OutPoint, PeerInfo, RawBlock, RawTransaction, Response,
    Transaction, Txid, Utxo, detail,
};
use modipc_core::{CallId, IdempotencyKey, TraceContext};

/// Who asks, and what came with the question.
///
/// The permission check is over when a method of [`NodeApi`] is called: `grants` is here for a node that wants to say
/// more to those who may see more, not for checking again.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// The module's id, as the host admitted it.
    pub module_id: Arc<str>,
    /// The call's id on its connection [C-1].
    pub call: CallId,
    /// When the caller stops waiting, in microseconds of the node's runtime; `None` if it did not say. The call is dropped
    /// then: a method need not look at this, but may save itself work that would be too late.
    pub deadline: Option<u64>,
    /// The caller's name for this call across connections, if it gave one.
    pub idempotency: Option<IdempotencyKey>,
    /// Trace context, if the caller sent one.
    pub trace: Option<TraceContext>,
    /// What the module was granted when the call came.
    pub grants: CapabilitySet,
}

/// Why a request has no data to answer with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The node has complete data, and what was asked for is not in it.
    #[error("not found")]
    NotFound,
    /// This node has no data or no code for such a request. It is the honest answer, and the default.
    #[error("this node does not serve {request}")]
    Unsupported {
        /// The request.
        request: MessageType,
    },
    /// The request failed.
    #[error("{code}: {message}")]
    Failed {
        /// For programs.
        code: ErrorCode,
        /// For people: what happened and what to do.
        message: String,
        /// Facts, by name; [`modipc_api::detail`] has the names that the protocol gives a meaning.
        details: Vec<(String, String)>,
    },
}

impl NodeError {
    /// A failure without details.
    pub fn failed(code: ErrorCode, message: impl Into<String>) -> Self {
        NodeError::Failed { code, message: message.into(), details: Vec::new() }
    }
}

impl From<ErrorInfo> for NodeError {
    fn from(error: ErrorInfo) -> Self {
        NodeError::Failed { code: error.code, message: error.message, details: error.details }
    }
}

impl From<NodeError> for Response {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::NotFound => Response::NotFound,
            NodeError::Unsupported { request } => Response::Error(
                ErrorInfo::new(ErrorCode::Unsupported, format!("this node does not serve {request}"))
                    .with(detail::REQUEST, request.name()),
            ),
            NodeError::Failed { code, message, details } => {
                Response::Error(ErrorInfo { code, message, details })
            }
        }
    }
}

/// What the method of a request returns.
pub type NodeResult<T> = Result<T, NodeError>;

/// A node: answers the requests of modules. Every method may be left out and then answers
/// [`NodeError::Unsupported`]; subscribing and unsubscribing are the host's own and not here.
///
/// Methods run concurrently, many at a time, on the task of the connection that asked. Whoever has to block or to
/// compute for more than about a millisecond hands the work to a thread and awaits it: until then that one
/// connection waits, and no other.
///
/// # Cancel safety
/// The future is dropped when the caller gives the call up, when its deadline passes or when its connection ends. What must not
/// be torn apart belongs into a task of its own.
///
/// # Panics
/// A method may panic: the caller is answered [`ErrorCode::Internal`], the panic's message goes to the log, and
/// nobody else notices.
#[async_trait]
pub trait NodeApi: Send + Sync + 'static {
    /// A block by its hash.
    async fn get_block(&self, cx: &CallContext, hash: BlockHash) -> NodeResult<RawBlock> {
        let _ = (cx, hash);
        unsupported(MessageType::GetBlock)
    }

    /// A block's header by the block's hash.
    async fn get_block_header(&self, cx: &CallContext, hash: BlockHash) -> NodeResult<BlockHeader> {
        let _ = (cx, hash);
        unsupported(MessageType::GetBlockHeader)
    }

    /// A confirmed transaction by its id.
    async fn get_transaction(&self, cx: &CallContext, txid: Txid) -> NodeResult<Transaction> {
        let _ = (cx, txid);
        unsupported(MessageType::GetTransaction)
    }

    /// Hash and height of the active chain's last block.
    async fn get_chain_tip(&self, cx: &CallContext) -> NodeResult<BlockRef> {
        let _ = cx;
        unsupported(MessageType::GetChainTip)
    }

    /// Height of the active chain's last block.
    async fn get_block_height(&self, cx: &CallContext) -> NodeResult<u64> {
        let _ = cx;
        unsupported(MessageType::GetBlockHeight)
    }

    /// What the node knows of one transaction output.
    async fn get_utxo(&self, cx: &CallContext, outpoint: OutPoint) -> NodeResult<Utxo> {
        let _ = (cx, outpoint);
        unsupported(MessageType::GetUtxo)
    }

    /// The ids of all unconfirmed transactions. A node whose mempool is empty answers with an empty list; one that has none
    /// leaves this out.
    async fn get_mempool_transactions(&self, cx: &CallContext) -> NodeResult<Vec<Txid>> {
        let _ = cx;
        unsupported(MessageType::GetMempoolTransactions)
    }

    /// Counters of the node's peer-to-peer traffic.
    async fn get_network_stats(&self, cx: &CallContext) -> NodeResult<NetworkStats> {
        let _ = cx;
        unsupported(MessageType::GetNetworkStats)
    }

    /// The node's connected peers.
    async fn get_network_peers(&self, cx: &CallContext) -> NodeResult<Vec<PeerInfo>> {
        let _ = cx;
        unsupported(MessageType::GetNetworkPeers)
    }

    /// The chain's name, tip and state of synchronisation.
    async fn get_chain_info(&self, cx: &CallContext) -> NodeResult<ChainInfo> {
        let _ = cx;
        unsupported(MessageType::GetChainInfo)
    }

    /// A block of the active chain by its height.
    async fn get_block_by_height(&self, cx: &CallContext, height: u64) -> NodeResult<BlockAt> {
        let _ = (cx, height);
        unsupported(MessageType::GetBlockByHeight)
    }

    /// An unconfirmed transaction by its id.
    async fn get_mempool_transaction(&self, cx: &CallContext, txid: Txid) -> NodeResult<MempoolTransaction> {
        let _ = (cx, txid);
        unsupported(MessageType::GetMempoolTransaction)
    }

    /// Offers a transaction to the mempool; its id once it is accepted. A transaction that breaks a rule is
    /// [`ErrorCode::Rejected`], with the rule's name in the message.
    async fn submit_transaction(&self, cx: &CallContext, raw: RawTransaction) -> NodeResult<Txid> {
        let _ = (cx, raw);
        unsupported(MessageType::SubmitTransaction)
    }
}

fn unsupported<T>(request: MessageType) -> NodeResult<T> {
    Err(NodeError::Unsupported { request })
}
