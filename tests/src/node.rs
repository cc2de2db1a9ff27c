//! A node that answers some requests at once, some when the test says so, and some not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use event_listener::Event;
use modipc_api::{
    BlockAt, BlockHash, BlockHeader, BlockRef, ChainInfo, ErrorCode, RawBlock, RawTransaction, Txid,
};
use modipc_node::{CallContext, NodeApi, NodeError, NodeResult};

/// The height that [`TestNode`] answers with.
pub const HEIGHT: u64 = 702_861;

/// The tip that [`TestNode`] answers with.
pub const TIP: BlockRef = BlockRef { hash: BlockHash::from_bytes([0x5a; 32]), height: HEIGHT };

/// Height and tip are answered at once, a block by height has as many bytes as its height says, the header of any block fails, no
/// block has a hash, and `GetChainInfo` waits at a gate. Clones are the same node.
#[derive(Clone, Default)]
pub struct TestNode {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    open: AtomicBool,
    waiting: AtomicUsize,
    changed: Event,
}

impl TestNode {
    /// Lets everybody through who waits at the gate or comes to it later.
    pub fn open_gate(&self) {
        self.shared.open.store(true, Ordering::SeqCst);
        self.shared.changed.notify(usize::MAX);
    }

    /// Calls that wait at the gate now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::SeqCst)
    }

    /// Waits until exactly so many calls are at the gate.
    pub async fn until_waiting(&self, calls: usize) {
        self.until(|shared| shared.waiting.load(Ordering::SeqCst) == calls).await;
    }

    async fn until(&self, ready: impl Fn(&Shared) -> bool) {
        loop {
            let changed = self.shared.changed.listen();
            if ready(&self.shared) {
                return;
            }
            changed.await;
        }
    }
}

/// A call at the gate, however it leaves.
struct AtGate<'a>(&'a Shared);

impl<'a> AtGate<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.waiting.fetch_add(1, Ordering::SeqCst);
        shared.changed.notify(usize::MAX);
        AtGate(shared)
    }
}

impl Drop for AtGate<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify(usize::MAX);
    }
}

#[async_trait]
impl NodeApi for TestNode {
    async fn get_block_height(&self, _: &CallContext) -> NodeResult<u64> {
        Ok(HEIGHT)
    }

    async fn get_chain_tip(&self, _: &CallContext) -> NodeResult<BlockRef> {
        Ok(TIP)
    }

    async fn get_block(&self, _: &CallContext, _: BlockHash) -> NodeResult<RawBlock> {
        Err(NodeError::NotFound)
    }

    async fn get_block_header(&self, _: &CallContext, _: BlockHash) -> NodeResult<BlockHeader> {
        Err(NodeError::failed(ErrorCode::Internal, "the disk does not answer"))
    }

    async fn get_block_by_height(&self, _: &CallContext, height: u64) -> NodeResult<BlockAt> {
        let bytes = usize::try_from(height).unwrap();
        Ok(BlockAt { hash: TIP.hash, raw: RawBlock::new(vec![0xb1; bytes].into()) })
    }

    async fn get_chain_info(&self, _: &CallContext) -> NodeResult<ChainInfo> {
        let _at_gate = AtGate::new(&self.shared);
        self.until(|shared| shared.open.load(Ordering::SeqCst)).await;
        Ok(ChainInfo {
            chain: "regtest".into(),
            tip: TIP,
            tip_time: 1,
            tip_bits: 2,
            headers_height: HEIGHT,
            anchor: None,
            syncing: None,
        })
    }

    async fn submit_transaction(&self, _: &CallContext, raw: RawTransaction) -> NodeResult<Txid> {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(raw.as_bytes().len() as u64).to_le_bytes());
        Ok(Txid::from_bytes(id))
    }
}
