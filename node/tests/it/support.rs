//! A node in a simulation, and a module that is driven by hand: it reads and writes only when a test says so.

use std::future::poll_fn;
use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use modipc_api::{
    BlockAt, BlockHash, BlockRef, Capability, CapabilitySet, ChainInfo, Event as NodeEvent, EventType,
    LogLevel, NativeDialect, NetworkStats, RawBlock, Request, Response, Txid, encode_log,
};
use modipc_core::{
    Body, CallOptions, Config, Connection, Event, Hello, HelloTail, Module, Outcome, Records,
    SubscribeOptions,
};
use modipc_driver::{PollRead as _, PollWrite as _, Runtime, Transport as _};
use modipc_node::{
    Attach, Attached, CallContext, Credentials, ModulePolicy, Node, NodeApi, NodeConfig, NodeError,
    NodeResult, PeerIdentity, Policy,
};
use modipc_transport_mem::{
    Chance, LinkConfig, MemReader, MemTransport, MemWriter, Sim, SimConfig, SimRuntime,
};

pub(crate) const HEIGHT: u64 = 702_861;
pub(crate) const USER: u32 = 1000;
pub(crate) const SECOND: u64 = 1_000_000;

/// A node that answers some requests at once, some late, and some not at all.
pub(crate) struct TestApi {
    runtime: SimRuntime,
    /// Handlers of `get_chain_info` that exist.
    pub(crate) pending: Arc<AtomicUsize>,
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl NodeApi for TestApi {
    async fn get_block_height(&self, _: &CallContext) -> NodeResult<u64> {
        Ok(HEIGHT)
    }

    /// As late as the height says, in microseconds, and as long, in bytes.
    async fn get_block_by_height(&self, _: &CallContext, height: u64) -> NodeResult<BlockAt> {
        let until = self.runtime.now() + height;
        while self.runtime.now() < until {
            self.runtime.sleep_until(until).await;
        }
        let raw = RawBlock::new(vec![7; usize::try_from(height).unwrap()].into());
        Ok(BlockAt { hash: BlockHash::from_bytes([1; 32]), raw })
    }

    async fn get_block(&self, _: &CallContext, _: BlockHash) -> NodeResult<RawBlock> {
        Err(NodeError::NotFound)
    }

    /// Never.
    async fn get_chain_info(&self, _: &CallContext) -> NodeResult<ChainInfo> {
        self.pending.fetch_add(1, Ordering::SeqCst);
        let _counted = Counted(Arc::clone(&self.pending));
        std::future::pending().await
    }

    /// Panics at once.
    async fn get_chain_tip(&self, _: &CallContext) -> NodeResult<BlockRef> {
        panic!("the tip is on fire");
    }

    /// Panics after a while.
    async fn get_mempool_transactions(&self, cx: &CallContext) -> NodeResult<Vec<Txid>> {
        let until = self.runtime.now() + 10;
        while self.runtime.now() < until {
            self.runtime.sleep_until(until).await;
        }
        panic!("the mempool of {} is on fire", cx.module_id);
    }

    /// Never, and panics when it is given up.
    async fn get_network_stats(&self, _: &CallContext) -> NodeResult<NetworkStats> {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("the bomb went off");
            }
        }
        let _bomb = Bomb;
        std::future::pending().await
    }
}

pub(crate) struct World {
    pub(crate) sim: Sim,
    pub(crate) runtime: SimRuntime,
    pub(crate) node: Node,
    pub(crate) pending: Arc<AtomicUsize>,
}

impl World {
    pub(crate) fn new() -> World {
        World::with(NodeConfig::default())
    }

    pub(crate) fn with(config: NodeConfig) -> World {
        World::within(Sim::new(2), config)
    }

    /// An executor that wakes tasks too early and for no reason, as executors may.
    pub(crate) fn rough(seed: u64, config: NodeConfig) -> World {
        let (early_sleep, spurious_wake) = (Chance::percent(20), Chance::percent(5));
        let config_of_sim = SimConfig { seed, early_sleep, spurious_wake, ..SimConfig::default() };
        World::within(Sim::with_config(config_of_sim), config)
    }

    fn within(sim: Sim, config: NodeConfig) -> World {
        let runtime = sim.runtime();
        let pending = Arc::default();
        let api = TestApi { runtime: runtime.clone(), pending: Arc::clone(&pending) };
        let attach = |attach| ModulePolicy { grants: CapabilitySet::ALL, attach, ..ModulePolicy::default() };
        let policy = Policy::new()
            .user(USER)
            .module("watcher", attach(Attach::Token))
            .module("seed", attach(Attach::Credentials));
        let node = Node::builder(Arc::new(runtime.clone()), Arc::new(api))
            .config(config)
            .policy(policy)
            .build()
            .unwrap();
        World { sim, runtime, node, pending }
    }

    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        match self.sim.run_until(future) {
            Ok(value) => value,
            Err(stuck) => panic!("{stuck}"),
        }
    }

    /// A connection that the host gave to this module.
    pub(crate) fn inherited(&self, module_id: &str, grants: CapabilitySet) -> (Peer, Attached) {
        let requires = CapabilitySet::EMPTY;
        self.connect(PeerIdentity::Inherited { module_id: module_id.into(), grants, requires })
    }

    /// A connection that a process made.
    pub(crate) fn attached(&self, uid: u32) -> (Peer, Attached) {
        self.connect(PeerIdentity::Attached { credentials: Credentials { uid, gid: uid, pid: None } })
    }

    fn connect(&self, identity: PeerIdentity) -> (Peer, Attached) {
        let (theirs, ours) = self.runtime.link(&LinkConfig::default());
        let attached = self.node.attach(ours, identity).unwrap();
        (Peer::new(self.runtime.clone(), theirs, Config::DEFAULT), attached)
    }

    /// A module that is admitted with everything.
    pub(crate) async fn module(&self, module_id: &str) -> Peer {
        self.module_with(module_id, CapabilitySet::ALL).await
    }

    pub(crate) async fn module_with(&self, module_id: &str, grants: CapabilitySet) -> Peer {
        let (mut peer, _) = self.inherited(module_id, grants);
        peer.hello(module_id).await;
        assert!(matches!(peer.event().await, Event::Accepted(_)));
        peer
    }
}

/// A module's end, without a task of its own.
pub(crate) struct Peer {
    pub(crate) connection: Connection<Module, NativeDialect>,
    pub(crate) runtime: SimRuntime,
    reader: MemReader,
    writer: MemWriter,
    keys: u64,
    outcomes: Vec<(u64, Outcome)>,
    module_id: String,
}

impl Peer {
    pub(crate) fn new(runtime: SimRuntime, transport: MemTransport, config: Config) -> Peer {
        let (reader, writer) = transport.split();
        let connection = Connection::new(runtime.now(), config, NativeDialect);
        Peer { connection, runtime, reader, writer, keys: 0, outcomes: Vec::new(), module_id: String::new() }
    }

    pub(crate) async fn hello(&mut self, module_id: &str) {
        self.hello_with(module_id, &[]).await;
    }

    pub(crate) async fn hello_with(&mut self, module_id: &str, token: &[u8]) {
        let tail =
            HelloTail { protocol: 1, token: token.to_vec(), x1: true, limits: None, unknown_critical: None };
        let hello = Hello {
            module_id: module_id.into(),
            capabilities: Vec::new(),
            version: "1.0".into(),
            tail: Some(tail),
        };
        self.module_id = module_id.into();
        self.connection.hello(self.runtime.now(), hello).unwrap();
        self.flush().await;
    }

    /// Writes bytes that no connection made.
    pub(crate) async fn write_raw(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let written = poll_fn(|cx| self.writer.poll_write(cx, &[IoSlice::new(bytes)])).await;
            let Ok(n) = written else { return };
            bytes = &bytes[n..];
        }
    }

    pub(crate) async fn flush(&mut self) {
        while let Some(mut batch) = self.connection.take_batch(self.runtime.now()) {
            while !batch.is_empty() {
                let bytes: Vec<u8> = batch.slices().flatten().copied().collect();
                let written = poll_fn(|cx| self.writer.poll_write(cx, &[IoSlice::new(&bytes)])).await;
                // A host that is gone may have left its last words.
                let Ok(n) = written else { return };
                batch.advance(n);
            }
            self.connection.batch_done(batch);
        }
    }

    /// Reads once, whatever comes.
    async fn read(&mut self) {
        let mut buffer = vec![0; 1 << 16];
        let read = poll_fn(|cx| self.reader.poll_read(cx, &mut [IoSliceMut::new(&mut buffer)])).await;
        let now = self.runtime.now();
        match read {
            Ok(0) => self.connection.recv_eof(now),
            Ok(n) => self.connection.recv(now, &buffer[..n]),
            Err(_) => self.connection.recv_failure(now),
        }
        self.flush().await;
    }

    /// The next event.
    pub(crate) async fn event(&mut self) -> Event {
        loop {
            self.flush().await;
            if let Some(event) = self.connection.poll_event() {
                return event;
            }
            self.read().await;
        }
    }

    /// The next event of the node's log: position, previous position, event.
    pub(crate) async fn node_event(&mut self) -> (u64, u64, NodeEvent) {
        match self.event().await {
            Event::Event { position, prev, body } => (position, prev, NodeEvent::decode(&body).unwrap()),
            other => panic!("not an event of the node: {other:?}"),
        }
    }

    pub(crate) async fn closed(&mut self) -> modipc_core::CloseReason {
        loop {
            if let Event::Closed(reason) = self.event().await {
                return reason;
            }
        }
    }

    /// Issues a call and gives its key.
    pub(crate) async fn call(&mut self, request: &Request) -> u64 {
        self.call_with(request, &options()).await
    }

    pub(crate) async fn call_with(&mut self, request: &Request, options: &CallOptions) -> u64 {
        let mut body = Vec::new();
        request.encode(&mut body);
        self.call_raw(&body, options).await
    }

    pub(crate) async fn call_raw(&mut self, body: &[u8], options: &CallOptions) -> u64 {
        self.keys += 1;
        self.connection.call(self.runtime.now(), options, Body::from(body), self.keys).unwrap();
        self.flush().await;
        self.keys
    }

    pub(crate) async fn outcome(&mut self, key: u64) -> Outcome {
        loop {
            while let Some(outcome) = self.connection.poll_outcome() {
                self.outcomes.push(outcome);
            }
            if let Some(at) = self.outcomes.iter().position(|(known, _)| *known == key) {
                return self.outcomes.remove(at).1;
            }
            self.read().await;
        }
    }

    pub(crate) async fn answer(&mut self, key: u64) -> Response {
        match self.outcome(key).await {
            Outcome::Reply(body) => Response::decode(&body).unwrap(),
            other => panic!("no answer: {other:?}"),
        }
    }

    pub(crate) async fn ask(&mut self, request: &Request) -> Response {
        let key = self.call(request).await;
        self.answer(key).await
    }

    pub(crate) async fn subscribe(&mut self, types: &[EventType], subscribe: SubscribeOptions) -> Response {
        let request = Request::SubscribeEvents { event_types: types.to_vec() };
        let options = CallOptions { subscribe: Some(subscribe), ..options() };
        let key = self.call_with(&request, &options).await;
        self.answer(key).await
    }

    pub(crate) async fn log(
        &mut self,
        module_id: &str,
        message: &str,
        target: &str,
        fields: &[(&str, &str)],
    ) {
        let (mut body, mut value, mut records) = (Vec::new(), Vec::new(), Vec::new());
        encode_log(LogLevel::Warn, message, module_id, &mut body);
        modipc_api::encode_fields(fields.iter().copied(), usize::MAX, &mut value);
        Records::push(&mut records, 1, target.as_bytes()).unwrap();
        Records::push(&mut records, 2, &value).unwrap();
        self.connection.log(self.runtime.now(), Body::from(&body[..]), &records).unwrap();
        self.flush().await;
    }

    /// Whether the connection still serves calls.
    pub(crate) async fn is_usable(&mut self) -> bool {
        use modipc_api::ResponseData::BlockHeight;
        matches!(self.ask(&Request::GetBlockHeight).await, Response::Success(BlockHeight(HEIGHT)))
    }
}

pub(crate) fn options() -> CallOptions {
    CallOptions { deadline_us: 60 * SECOND, trace: None, idempotency: None, subscribe: None }
}

pub(crate) fn without(capability: Capability) -> CapabilitySet {
    CapabilitySet::ALL.without(CapabilitySet::of(&[capability]))
}

pub(crate) fn height_event(height: u64) -> NodeEvent {
    NodeEvent::HeadersSynced { height }
}
