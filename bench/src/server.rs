//! The real stack on the server's side: a node that admits every module of the client.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use modipc_api::{BlockHash, BlockHeader, CapabilitySet, RawBlock};
use modipc_node::{
    AcceptFault, Acceptor, Attach, CallContext, Credentials, ModulePolicy, Node, NodeApi, NodeConfig,
    NodeResult, Policy,
};
use modipc_transport_uds::{
    BoundListener, ListenerConfig, NofileError, PeerPolicy, TokioRuntime, UdsListener, UdsTransport,
    raise_nofile_limit,
};
use tokio::sync::Notify;

use crate::Result;
use crate::args::ServerArgs;
use crate::modules::{GRANTS, event, module_id};
use crate::process::{place, ready};
use crate::work;

/// Modules that the policy knows. Their ids are in memory before the first one connects.
const MODULES: usize = 4097;

/// Events that wait for the slowest subscriber.
const QUEUE_EVENTS: usize = 1024;

/// Serves until the process ends.
pub(crate) async fn serve(args: &ServerArgs) -> Result<()> {
    descriptors(2 * MODULES as u64)?;
    let runtime = TokioRuntime::current()?;
    let subscribers = Arc::new(Subscribers { missing: AtomicUsize::new(args.subs), all: Notify::new() });
    let api = Answers { block: work::block(), subscribers: Arc::clone(&subscribers) };
    let config = NodeConfig {
        modules_max: MODULES,
        events_max: QUEUE_EVENTS,
        // A subscriber that does not get the processor for a while must not lose events.
        publish_wait_us: 20_000_000,
        ..NodeConfig::default()
    };
    let node = Node::builder(Arc::new(runtime.clone()), Arc::new(api)).config(config).policy(policy());
    let node = node.build()?;
    let (dir, name) = place(&args.socket)?;
    let listener = BoundListener::bind(&ListenerConfig { dir, name })?;
    let listener = UdsListener::new(&runtime, listener, PeerPolicy::SameUser)?;
    tokio::spawn(publish(node.clone(), subscribers));
    ready()?;
    Ok(node.serve(Listener(listener)).await?)
}

/// One descriptor for each connection, and one more for a time while its peer does not keep up.
fn descriptors(wanted: u64) -> Result<()> {
    match raise_nofile_limit(wanted) {
        // What there is will do for most scenarios; who needs more meets an error that says so.
        Err(NofileError::HardLimit { hard, .. }) => raise_nofile_limit(hard)?,
        limit => limit?,
    };
    Ok(())
}

fn policy() -> Policy {
    let module = ModulePolicy {
        grants: CapabilitySet::of(&GRANTS),
        requires: CapabilitySet::EMPTY,
        attach: Attach::Credentials,
    };
    let user = Policy::new().user(rustix::process::geteuid().as_raw());
    (0..MODULES).fold(user, |policy, number| policy.module(module_id(number), module))
}

/// Publishes as fast as the slowest subscriber takes.
async fn publish(node: Node, subscribers: Arc<Subscribers>) -> Result<(), modipc_node::PublishError> {
    subscribers.all.notified().await;
    for n in 0.. {
        node.publish(&event(n)).await?;
        if n % QUEUE_EVENTS as u64 == 0 {
            // Without a subscriber nothing else would end this turn.
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Who has subscribed.
struct Subscribers {
    missing: AtomicUsize,
    all: Notify,
}

/// The chain of this node: every hash has a header and a block.
struct Answers {
    block: Bytes,
    subscribers: Arc<Subscribers>,
}

#[async_trait]
impl NodeApi for Answers {
    async fn get_block_header(&self, _: &CallContext, hash: BlockHash) -> NodeResult<BlockHeader> {
        Ok(BlockHeader::from_bytes(work::header(hash.as_bytes())))
    }

    async fn get_block(&self, _: &CallContext, _: BlockHash) -> NodeResult<RawBlock> {
        Ok(RawBlock::new(self.block.clone()))
    }

    /// A subscriber asks for it when it is subscribed.
    async fn get_block_height(&self, _: &CallContext) -> NodeResult<u64> {
        if self.subscribers.missing.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.subscribers.all.notify_one();
        }
        Ok(0)
    }
}

/// The socket, as the node wants it.
struct Listener(UdsListener<TokioRuntime>);

#[async_trait]
impl Acceptor for Listener {
    type Transport = UdsTransport<TokioRuntime>;

    async fn accept(&mut self) -> Result<(Self::Transport, Credentials), AcceptFault> {
        let accepted = self.0.accept().await;
        let accepted =
            accepted.map_err(|error| AcceptFault { is_final: error.is_final(), source: error.into() })?;
        let peer = accepted.peer;
        accepted.verdict.map_err(|refused| AcceptFault { is_final: false, source: refused.into() })?;
        let credentials = Credentials { uid: peer.uid, gid: peer.gid, pid: u32::try_from(peer.pid).ok() };
        Ok((accepted.transport, credentials))
    }
}
