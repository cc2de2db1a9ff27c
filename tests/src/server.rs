//! A node on a thread of its own, with real sockets and a log of its own, for tests whose peers block.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use modipc_core::CloseReason;
use modipc_driver::Runtime as _;
use modipc_node::{Acceptor as _, Attached, Node, NodeConfig, PeerIdentity, ShutdownReport};
use modipc_transport_uds::{SmolRuntime, TokioRuntime, UdsStream, UdsTransport};

use crate::SECOND;
use crate::house::policy;
use crate::mailbox::Mailbox;
use crate::node::TestNode;
use crate::notes::{Note, Notes};
use crate::raw::RawPeer;
use crate::world::{Tokio, World as _, in_time, own_user};

/// A node and its thread.
pub struct Server {
    /// The node.
    pub node: Node,
    /// What answers its modules.
    pub api: TestNode,
    /// What it logs.
    pub notes: Notes,
    runtime: TokioRuntime,
    path: PathBuf,
    attached: Mailbox<Attached>,
    stop: Mailbox<()>,
    thread: JoinHandle<ShutdownReport>,
}

struct Started {
    node: Node,
    api: TestNode,
    runtime: TokioRuntime,
    path: PathBuf,
}

impl Server {
    /// A node with default bounds.
    #[must_use]
    pub fn start() -> Server {
        Server::with(NodeConfig::default())
    }

    /// A node with these bounds, which accepts connections.
    #[must_use]
    pub fn with(config: NodeConfig) -> Server {
        let (notes, attached, stop) = (Notes::default(), Mailbox::default(), Mailbox::default());
        let started = Mailbox::default();
        let body = {
            let (dispatch, started) = (notes.dispatch(), started.clone());
            let (attached, stop) = (attached.clone(), stop.clone());
            move || tracing::dispatcher::with_default(&dispatch, || run(config, &started, &attached, &stop))
        };
        let thread = std::thread::Builder::new().name("node".into()).spawn(body).unwrap();
        let Started { node, api, runtime, path } = futures_lite::future::block_on(started.take());
        Server { node, api, notes, runtime, path, attached, stop, thread }
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Connects a peer that is nobody's code but the test's, and gives the node's end of it too.
    #[must_use]
    pub fn peer(&self) -> (RawPeer, Attached) {
        let peer = RawPeer::connect(&self.path);
        (peer, self.accepted())
    }

    /// A peer whose connection did not come through the door: the host knows of it what `identity` says.
    #[must_use]
    pub fn peer_as(&self, identity: PeerIdentity) -> (RawPeer, Attached) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let stream = UdsStream::try_from(OwnedFd::from(ours)).unwrap();
        let transport = UdsTransport::new(&self.runtime, stream).unwrap();
        (RawPeer::new(theirs), self.node.attach(transport, identity).unwrap())
    }

    /// The node's end of the next connection in the order of their coming.
    #[must_use]
    pub fn accepted(&self) -> Attached {
        futures_lite::future::block_on(self.attached.take())
    }

    /// Goes down in order. What it logged is complete then.
    #[must_use]
    pub fn shut_down(self) -> (ShutdownReport, Vec<Note>) {
        self.stop.put(());
        let report = self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (report, self.notes.all())
    }
}

/// Blocks until a connection of a [`Server`] has ended, and says why.
#[must_use]
pub fn end_of(attached: &Attached) -> CloseReason {
    let runtime = SmolRuntime::new(Arc::default());
    runtime.block_on(in_time(&runtime, attached.wait_closed()))
}

fn run(
    config: NodeConfig,
    started: &Mailbox<Started>,
    attached: &Mailbox<Attached>,
    stop: &Mailbox<()>,
) -> ShutdownReport {
    let world = Tokio::one_thread();
    let api = TestNode::default();
    let node = Node::builder(world.runtime(), Arc::new(api.clone()))
        .config(config)
        .policy(policy(own_user()))
        .build()
        .unwrap();
    let (accepting, attached) = (node.clone(), attached.clone());
    world.run(async {
        let mut door = world.open_door();
        // Not `Node::serve`, because that keeps to itself why a connection ended.
        world.tokio().spawn(Box::pin(async move {
            while let Ok((transport, credentials)) = door.accept().await {
                match accepting.attach(transport, PeerIdentity::Attached { credentials }) {
                    Ok(one) => attached.put(one),
                    Err(_) => return,
                }
            }
        }));
        let (runtime, path) = (world.tokio().clone(), world.sockets().path());
        started.put(Started { node: node.clone(), api, runtime, path });
        stop.take().await;
        // Peers that a test still holds say no goodbye.
        node.shutdown(1, "the test is over", SECOND / 10).await
    })
}
