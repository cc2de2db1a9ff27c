//! The store as a node that modules can ask.

use std::sync::Arc;

use async_trait::async_trait;
use modipc_api::{
    BlockAt, BlockHash, BlockHeader, BlockRef, ChainInfo, Coin, ErrorCode, Event, MempoolTransaction,
    OutPoint, RawBlock, RawTransaction, Spender, Transaction, Txid, Utxo as ApiUtxo,
};
use modipc_node::{CallContext, NodeApi, NodeError, NodeResult};

use crate::{BlockId, ChainStore, DisconnectError, ImportError, Imported, StoreError, Utxo};

/// Name of the detail that says from which height on this chain has data.
pub const KNOWN_FROM_HEIGHT: &str = "known_from_height";

/// A [`ChainStore`] behind [`NodeApi`]. Cloning shares the store.
///
/// Whatever touches the file runs on the `blocking` crate's threads, so that no connection waits for the disk of
/// another; the tip is answered from memory. A call that is given up before its turn never touches the file.
///
/// It has no mempool and no peers: the mempool is answered as empty, and the network's requests and the submission
/// of transactions as unsupported. What may be older than the anchor is answered with
/// [`ErrorCode::Unsupported`] and the detail [`KNOWN_FROM_HEIGHT`], since "not found" is only for what is certain.
#[derive(Clone, Debug)]
pub struct Chain {
    store: Arc<ChainStore>,
}

impl Chain {
    /// Serves `store`.
    #[must_use]
    pub fn new(store: ChainStore) -> Self {
        Self { store: Arc::new(store) }
    }

    /// The store, for questions that modules do not have.
    #[must_use]
    pub fn store(&self) -> &Arc<ChainStore> {
        &self.store
    }

    /// Imports a raw block, off the calling task, and returns with it the events to publish, in order. The block is
    /// durable by then.
    ///
    /// # Errors
    /// As [`ChainStore::import`]; [`events_of_failure`] has what subscribers may be told.
    ///
    /// # Cancel safety
    /// If the future is dropped the block may be imported or not, whole in either case, and its events are lost.
    /// Whoever publishes runs this in a task of its own.
    pub async fn import(
        &self,
        raw: impl AsRef<[u8]> + Send + 'static,
    ) -> Result<(Imported, Vec<Event>), ImportError> {
        let chain = self.clone();
        blocking::unblock(move || chain.import_blocking(raw.as_ref())).await
    }

    /// [`Chain::import`] on the calling thread.
    ///
    /// # Errors
    /// As [`ChainStore::import`].
    pub fn import_blocking(&self, raw: &[u8]) -> Result<(Imported, Vec<Event>), ImportError> {
        let (imported, parent) = self.store.import_above(raw)?;
        let events = events_of(&imported, parent.header.as_ref());
        Ok((imported, events))
    }

    /// Takes the newest block away, off the calling task, and returns it with the events to publish, in order.
    ///
    /// # Errors
    /// As [`ChainStore::disconnect_tip`].
    ///
    /// # Cancel safety
    /// As [`Chain::import`].
    pub async fn disconnect_tip(&self) -> Result<(BlockId, Vec<Event>), DisconnectError> {
        let store = Arc::clone(&self.store);
        let (block, parent) = blocking::unblock(move || store.disconnect_to_parent()).await?;
        let BlockRef { hash, height } = block.into();
        let tip = BlockRef::from(parent);
        let events = vec![
            Event::BlockDisconnected { hash, height },
            Event::ChainTipUpdated { hash: tip.hash, height: tip.height, previous: Some(hash) },
        ];
        Ok((block, events))
    }

    /// Runs a question on a thread that may wait for the disk.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&ChainStore) -> Result<T, StoreError> + Send + 'static,
    ) -> NodeResult<T> {
        let store = Arc::clone(&self.store);
        blocking::unblock(move || question(&store)).await.map_err(|error| failed(&error))
    }

    /// The answer for what is not here: certain, if everything back to genesis is.
    fn absent(&self, what: impl std::fmt::Display) -> NodeError {
        let anchor = self.store.anchor();
        match known_from(anchor) {
            None => NodeError::NotFound,
            Some(first) => NodeError::Failed {
                code: ErrorCode::Unsupported,
                message: format!(
                    "{what} is not in the blocks from height {first} on, and this node has no older ones: \
                     ask a node with the whole chain"
                ),
                details: vec![(KNOWN_FROM_HEIGHT.to_owned(), first.to_string())],
            },
        }
    }
}

/// Height of the first block above the anchor; `None` if the store has everything.
fn known_from(anchor: BlockId) -> Option<u64> {
    (anchor.height > 0).then(|| u64::from(anchor.height) + 1)
}

/// Modules learn that something failed; where this node keeps its files is for its operator's log.
fn failed(error: &StoreError) -> NodeError {
    tracing::error!(%error, "the chain store failed");
    NodeError::failed(ErrorCode::Internal, "the node's chain store failed, its log says why")
}

impl From<BlockId> for BlockRef {
    fn from(block: BlockId) -> Self {
        BlockRef { hash: block.hash.into(), height: block.height.into() }
    }
}

/// What an import shows to an observer. `parent` is known unless it is the anchor.
fn events_of(imported: &Imported, parent: Option<&bitcoin::block::Header>) -> Vec<Event> {
    let BlockRef { hash, height } = imported.block.into();
    let header = &imported.header;
    let mut events = vec![
        Event::NewHeader { hash, height },
        Event::BlockStored { hash, height, size_bytes: imported.bytes },
        Event::NewBlock { hash, height, tx_count: imported.transactions, time_s: header.time },
        Event::ChainTipUpdated { hash, height, previous: Some(header.prev_blockhash.into()) },
    ];
    if let Some(parent) = parent
        && parent.bits != header.bits
    {
        let (old_bits, new_bits) = (parent.bits.to_consensus(), header.bits.to_consensus());
        events.push(Event::DifficultyAdjusted { height, old_bits, new_bits });
    }
    events
}

/// What subscribers may be told about an import that failed. Nothing about a block that is only early or late.
#[must_use]
pub fn events_of_failure(error: &ImportError) -> Vec<Event> {
    match error {
        ImportError::Invalid { hash: Some(hash), fault } => {
            vec![Event::BlockRejected { hash: (*hash).into(), reason: fault.to_string() }]
        }
        ImportError::Store(error) => {
            tracing::error!(%error, "an import failed");
            let reason = "the chain store refused, the node's log says why".to_owned();
            vec![Event::StorageFailed { operation: "import".to_owned(), reason }]
        }
        ImportError::Invalid { hash: None, .. }
        | ImportError::AlreadyHave { .. }
        | ImportError::NotOnTip { .. } => Vec::new(),
    }
}

#[async_trait]
impl NodeApi for Chain {
    async fn get_block(&self, _cx: &CallContext, hash: BlockHash) -> NodeResult<RawBlock> {
        let raw = self.ask(move |store| store.block(&hash.into())).await?;
        raw.map(RawBlock::new).ok_or_else(|| self.absent(format_args!("block {hash}")))
    }

    async fn get_block_header(&self, _cx: &CallContext, hash: BlockHash) -> NodeResult<BlockHeader> {
        let stored = self.ask(move |store| store.header(&hash.into())).await?;
        stored
            .map(|stored| BlockHeader::from(&stored.header))
            .ok_or_else(|| self.absent(format_args!("block {hash}")))
    }

    async fn get_transaction(&self, _cx: &CallContext, txid: Txid) -> NodeResult<Transaction> {
        let stored = self.ask(move |store| store.transaction(&txid.into())).await?;
        let stored = stored.ok_or_else(|| self.absent(format_args!("transaction {txid}")))?;
        Ok(Transaction { block: Some(stored.block.into()), raw: RawTransaction::new(stored.raw) })
    }

    async fn get_chain_tip(&self, _cx: &CallContext) -> NodeResult<BlockRef> {
        Ok(self.store.tip().into())
    }

    async fn get_block_height(&self, _cx: &CallContext) -> NodeResult<u64> {
        Ok(self.store.tip().height.into())
    }

    async fn get_utxo(&self, _cx: &CallContext, outpoint: OutPoint) -> NodeResult<ApiUtxo> {
        match self.ask(move |store| store.utxo(&outpoint.into())).await? {
            Utxo::Unspent(unspent) => Ok(ApiUtxo::Unspent(Coin {
                value_sat: unspent.value.to_sat(),
                height: unspent.height.into(),
                coinbase: unspent.coinbase,
                script_pubkey: unspent.script.into_bytes().into(),
            })),
            Utxo::Spent { height, by, input } => {
                let by = Spender { txid: by.into(), vin: input, height: height.into() };
                Ok(ApiUtxo::Spent { by: Some(by) })
            }
            // An output that nothing can spend never was in the set that the question is about.
            Utxo::None | Utxo::Unspendable => Err(NodeError::NotFound),
            Utxo::OlderThanAnchor => {
                let known_from_height = u64::from(self.store.anchor().height) + 1;
                Ok(ApiUtxo::Unknown { known_from_height })
            }
        }
    }

    /// This node has no way to hear of a transaction before it is in a block, so its mempool is empty.
    async fn get_mempool_transactions(&self, _cx: &CallContext) -> NodeResult<Vec<Txid>> {
        Ok(Vec::new())
    }

    async fn get_mempool_transaction(
        &self,
        _cx: &CallContext,
        _txid: Txid,
    ) -> NodeResult<MempoolTransaction> {
        Err(NodeError::NotFound)
    }

    async fn get_chain_info(&self, _cx: &CallContext) -> NodeResult<ChainInfo> {
        let tip = self.store.tip_and_header();
        let anchor = self.store.anchor();
        let Some(header) = tip.header else {
            let message = format!(
                "nothing was imported yet above the anchor {anchor}, of which only height and hash are known: \
                 ask again after the first block"
            );
            return Err(NodeError::failed(ErrorCode::Unavailable, message));
        };
        Ok(ChainInfo {
            chain: self.store.network().to_core_arg().to_owned(),
            tip: tip.block.into(),
            tip_time: header.time,
            tip_bits: header.bits.to_consensus(),
            headers_height: tip.block.height.into(),
            anchor: known_from(anchor).map(|_| anchor.into()),
            syncing: None,
        })
    }

    async fn get_block_by_height(&self, _cx: &CallContext, height: u64) -> NodeResult<BlockAt> {
        // Beyond 32 bits no block can be, as none is above the tip.
        let Ok(at) = u32::try_from(height) else { return Err(NodeError::NotFound) };
        match self.ask(move |store| store.block_at(at)).await? {
            Some((hash, raw)) => Ok(BlockAt { hash: hash.into(), raw: RawBlock::new(raw) }),
            None if at <= self.store.anchor().height => Err(self.absent(format_args!("block {height}"))),
            None => Err(NodeError::NotFound),
        }
    }
}
