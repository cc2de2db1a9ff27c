//! Where a test runs: the deterministic executor with streams in memory, or tokio and smol with real Unix sockets.

use core::future::Future;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use modipc_driver::{Runtime, Transport};
use modipc_node::{AcceptFault, Acceptor, Credentials};
use modipc_transport_mem::{LinkConfig, Listener, MemTransport, Network, NetworkConfig, Sim};
use modipc_transport_uds::{
    BoundListener, ListenerConfig, PeerPolicy, Reactor, SmolRuntime, TokioRuntime, UdsListener, UdsStream,
    UdsTransport, connect,
};
use tempfile::TempDir;

use crate::{PATIENCE_S, SECOND};

/// An executor, its clock, and byte streams that belong to it.
pub trait World {
    /// One end of a stream.
    type Transport: Transport;
    /// What connections come from.
    type Door: Acceptor<Transport = Self::Transport>;

    /// Executor and clock.
    fn runtime(&self) -> Arc<dyn Runtime>;

    /// The user that processes have which connect here.
    fn user(&self) -> u32;

    /// Two ends of one stream.
    fn pair(&self) -> (Self::Transport, Self::Transport);

    /// Begins to listen. Once in a world.
    fn open_door(&self) -> Self::Door;

    /// Connects to the door.
    fn knock(&self) -> Self::Transport;

    /// Runs a test, which fails when it does not come to its end.
    fn run<T>(&self, test: impl Future<Output = T>) -> T;
}

/// The same test in memory under virtual time, and over real sockets on tokio and on smol.
#[macro_export]
macro_rules! everywhere {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        mod in_memory {
            $($(#[$doc])* #[test] fn $name() { super::$name($crate::world::Memory::new()); })*
        }
        mod on_sockets {
            $($(#[$doc])* #[test] fn $name() { super::$name($crate::world::Tokio::threads()); })*
        }
        mod on_sockets_with_smol {
            $($(#[$doc])* #[test] fn $name() { super::$name($crate::world::Smol::new()); })*
        }
    };
}

// ---- memory ----

/// One thread, virtual time, streams in memory.
pub struct Memory {
    sim: Sim,
    network: Network,
    link: LinkConfig,
}

/// The name that [`Memory`] listens on.
const DOOR: &str = "node";

impl Memory {
    /// Perfect streams.
    #[must_use]
    pub fn new() -> Self {
        Memory::with_links(1, LinkConfig::default())
    }

    /// Streams with the faults of `link`, decided by `seed`.
    #[must_use]
    pub fn with_links(seed: u64, link: LinkConfig) -> Self {
        let sim = Sim::new(seed);
        let config = NetworkConfig { link: link.clone(), ..NetworkConfig::default() };
        let network = Network::new(sim.runtime(), config);
        Memory { sim, network, link }
    }

    /// The simulation itself.
    #[must_use]
    pub fn sim(&self) -> &Sim {
        &self.sim
    }
}

impl Default for Memory {
    fn default() -> Self {
        Memory::new()
    }
}

impl World for Memory {
    type Transport = MemTransport;
    type Door = MemoryDoor;

    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(self.sim.runtime())
    }

    fn user(&self) -> u32 {
        1000
    }

    fn pair(&self) -> (MemTransport, MemTransport) {
        self.sim.runtime().link(&self.link)
    }

    fn open_door(&self) -> MemoryDoor {
        MemoryDoor { listener: self.network.listen(DOOR).unwrap(), user: self.user() }
    }

    fn knock(&self) -> MemTransport {
        self.network.connect(DOOR).unwrap()
    }

    fn run<T>(&self, test: impl Future<Output = T>) -> T {
        self.sim.run_until(test).unwrap_or_else(|stuck| panic!("{stuck}"))
    }
}

/// The listener of [`Memory`].
pub struct MemoryDoor {
    listener: Listener,
    user: u32,
}

#[async_trait]
impl Acceptor for MemoryDoor {
    type Transport = MemTransport;

    async fn accept(&mut self) -> Result<(MemTransport, Credentials), AcceptFault> {
        let accepted = self.listener.accept().await;
        Ok((accepted.transport, Credentials { uid: self.user, gid: self.user, pid: None }))
    }
}

// ---- sockets ----

/// Real Unix sockets in a directory of their own, on any runtime that has a reactor.
pub struct Sockets<R: Reactor> {
    runtime: R,
    dir: TempDir,
}

impl<R: Reactor> Sockets<R> {
    /// A directory for the sockets of one test.
    pub fn new(runtime: R) -> Self {
        Sockets { runtime, dir: tempfile::tempdir().unwrap() }
    }

    /// Where the door is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.place().join("node.sock")
    }

    fn place(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// Begins to listen at [`Sockets::path`].
    #[must_use]
    pub fn listen(&self) -> SocketDoor<R> {
        let config = ListenerConfig { dir: self.place(), name: "node.sock".to_owned() };
        let bound = BoundListener::bind(&config).unwrap();
        SocketDoor(UdsListener::new(&self.runtime, bound, PeerPolicy::SameUser).unwrap())
    }

    fn pair(&self) -> (UdsTransport<R>, UdsTransport<R>) {
        let (one, other) = UnixStream::pair().unwrap();
        let end = |stream: UnixStream| {
            let stream = UdsStream::try_from(OwnedFd::from(stream)).unwrap();
            UdsTransport::new(&self.runtime, stream).unwrap()
        };
        (end(one), end(other))
    }
}

/// Connects to a door by its path.
pub fn knock_at<R: Reactor>(runtime: &R, path: &Path) -> UdsTransport<R> {
    UdsTransport::new(runtime, connect(path, &PeerPolicy::SameUser).unwrap()).unwrap()
}

/// The user of this process.
#[must_use]
pub fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A listener on a path.
pub struct SocketDoor<R: Reactor>(UdsListener<R>);

#[async_trait]
impl<R: Reactor> Acceptor for SocketDoor<R> {
    type Transport = UdsTransport<R>;

    async fn accept(&mut self) -> Result<(UdsTransport<R>, Credentials), AcceptFault> {
        let accepted = self.0.accept().await.map_err(|error| {
            let is_final = error.is_final();
            AcceptFault { source: error.into(), is_final }
        })?;
        accepted.verdict.map_err(|refused| AcceptFault { source: refused.into(), is_final: false })?;
        let peer = accepted.peer;
        let credentials = Credentials { uid: peer.uid, gid: peer.gid, pid: u32::try_from(peer.pid).ok() };
        Ok((accepted.transport, credentials))
    }
}

/// Fails when the test is not over in time.
pub async fn in_time<T>(runtime: &dyn Runtime, test: impl Future<Output = T>) -> T {
    let until = runtime.now() + PATIENCE_S * SECOND;
    let late = async {
        while runtime.now() < until {
            runtime.sleep_until(until).await;
        }
        panic!("the test is not over after {PATIENCE_S} seconds");
    };
    futures_lite::future::or(test, late).await
}

/// tokio and real sockets.
pub struct Tokio {
    sockets: Sockets<TokioRuntime>,
    executor: tokio::runtime::Runtime,
}

impl Tokio {
    /// Everything on the test's own thread.
    #[must_use]
    pub fn one_thread() -> Self {
        Tokio::new(tokio::runtime::Builder::new_current_thread())
    }

    /// Two threads beside the test's own.
    #[must_use]
    pub fn threads() -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2);
        Tokio::new(builder)
    }

    fn new(mut builder: tokio::runtime::Builder) -> Self {
        let executor = builder.enable_all().build().unwrap();
        let sockets = Sockets::new(TokioRuntime::new(executor.handle().clone()));
        Tokio { sockets, executor }
    }

    /// Its sockets.
    #[must_use]
    pub fn sockets(&self) -> &Sockets<TokioRuntime> {
        &self.sockets
    }

    /// Its runtime, for what is made for tokio.
    #[must_use]
    pub fn tokio(&self) -> &TokioRuntime {
        &self.sockets.runtime
    }
}

impl World for Tokio {
    type Transport = UdsTransport<TokioRuntime>;
    type Door = SocketDoor<TokioRuntime>;

    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(self.sockets.runtime.clone())
    }

    fn user(&self) -> u32 {
        own_user()
    }

    fn pair(&self) -> (Self::Transport, Self::Transport) {
        self.sockets.pair()
    }

    fn open_door(&self) -> Self::Door {
        self.sockets.listen()
    }

    fn knock(&self) -> Self::Transport {
        knock_at(&self.sockets.runtime, &self.sockets.path())
    }

    fn run<T>(&self, test: impl Future<Output = T>) -> T {
        self.executor.block_on(in_time(&self.sockets.runtime, test))
    }
}

/// smol's parts and real sockets.
pub struct Smol {
    sockets: Sockets<SmolRuntime>,
}

impl Smol {
    /// One thread, the test's own.
    #[must_use]
    pub fn new() -> Self {
        Smol { sockets: Sockets::new(SmolRuntime::new(Arc::new(async_executor::Executor::new()))) }
    }
}

impl Default for Smol {
    fn default() -> Self {
        Smol::new()
    }
}

impl World for Smol {
    type Transport = UdsTransport<SmolRuntime>;
    type Door = SocketDoor<SmolRuntime>;

    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(self.sockets.runtime.clone())
    }

    fn user(&self) -> u32 {
        own_user()
    }

    fn pair(&self) -> (Self::Transport, Self::Transport) {
        self.sockets.pair()
    }

    fn open_door(&self) -> Self::Door {
        self.sockets.listen()
    }

    fn knock(&self) -> Self::Transport {
        knock_at(&self.sockets.runtime, &self.sockets.path())
    }

    fn run<T>(&self, test: impl Future<Output = T>) -> T {
        self.sockets.runtime.block_on(in_time(&self.sockets.runtime, test))
    }
}
