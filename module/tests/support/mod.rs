//! A host that a test moves by hand: the protocol's own host role, and behind it a script.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test did not expect ends it")]

use std::future::poll_fn;
use std::io::{IoSlice, IoSliceMut};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use modipc_api::{
    AnyEvent, BlockHash, BlockRef, Capability, CapabilitySet, Event as Said, Invocation, InvocationResult,
    LogMessage, NativeDialect, Request, Response, ResponseData,
};
use modipc_core::envelope::encode_head;
use modipc_core::{
    Accepted, Body, CallId, CallOptions, Config, Connection, Event, EventLog, Head, Hello, Limits, Outcome,
    Profile, ServedCall, Subscription,
};
use modipc_driver::{PollRead, PollWrite, Runtime, Transport};
use modipc_module::{Client, Connect};
use modipc_transport_mem::{LinkConfig, MemReader, MemTransport, MemWriter, Sim, SimRuntime};

pub const SECOND: u64 = 1_000_000;

/// A connected pair, and the runtime that both are on.
pub struct Stage {
    pub runtime: SimRuntime,
    pub client: Client,
    pub host: Host,
}

/// Plays a scenario over a perfect link and over rough ones, each with a seed of its own.
pub fn play(scenario: impl AsyncFn(Stage)) {
    play_with(Connect::new("watcher", "1.0"), Config::DEFAULT, scenario);
}

/// As [`play`], with what the module says and the host's bounds.
pub fn play_with(hello: Connect, config: Config, scenario: impl AsyncFn(Stage)) {
    each_link(async |runtime, ours, theirs| {
        let mut host = Host::new(&runtime, theirs, config);
        let connecting = Client::connect(Arc::new(runtime.clone()), ours, hello.clone());
        let (client, ()) = futures_lite::future::zip(connecting, host.admit(CapabilitySet::ALL)).await;
        scenario(Stage { runtime, client: client.unwrap(), host }).await;
    });
}

/// Runs over a perfect link and over rough ones.
pub fn each_link(scenario: impl AsyncFn(SimRuntime, MemTransport, MemTransport)) {
    for seed in 0..12 {
        let sim = Sim::new(seed);
        let runtime = sim.runtime();
        let config = if seed == 0 { LinkConfig::default() } else { LinkConfig::rough() };
        let (ours, theirs) = runtime.link(&config);
        if let Err(stuck) = sim.run_until(scenario(runtime, ours, theirs)) {
            panic!("seed {seed}: {stuck}");
        }
    }
}

/// The host's end.
pub struct Host {
    pub connection: Connection<modipc_core::Host, NativeDialect>,
    pub log: EventLog,
    runtime: Arc<dyn Runtime>,
    reader: MemReader,
    writer: MemWriter,
    hello: Option<Hello>,
}

impl Host {
    pub fn new<R: Runtime + Clone>(runtime: &R, transport: MemTransport, config: Config) -> Self {
        let (reader, writer) = transport.split();
        Host {
            connection: Connection::new(runtime.now(), config, NativeDialect),
            log: EventLog::new(1000, 1 << 20),
            runtime: Arc::new(runtime.clone()),
            reader,
            writer,
            hello: None,
        }
    }

    /// Takes the Hello and admits the module.
    pub async fn admit(&mut self, grants: CapabilitySet) {
        self.greeted().await;
        self.accept_greeted(grants).await;
    }

    pub async fn accept_greeted(&mut self, grants: CapabilitySet) {
        let accepted = Accepted {
            granted: grants.names().into_iter().map(str::to_owned).collect(),
            limits: Limits::DEFAULT,
            node_version: "test 1".into(),
            instance_id: [7; 16],
            next_token: Vec::new(),
            x1: false,
        };
        self.connection.accept(self.runtime.now(), accepted, grants.bits()).unwrap();
        self.flush().await;
    }

    pub async fn greeted(&mut self) -> Hello {
        match self.event().await {
            Event::Hello(hello) => {
                self.hello = Some(hello.clone());
                hello
            }
            other => panic!("instead of a Hello: {other:?}"),
        }
    }

    /// The next event; what waits is written before.
    pub async fn event(&mut self) -> Event {
        loop {
            self.flush().await;
            if let Some(event) = self.connection.poll_event() {
                return event;
            }
            self.read().await;
        }
    }

    /// The next outcome of an invocation.
    pub async fn outcome(&mut self) -> (u64, Outcome) {
        loop {
            self.flush().await;
            if let Some(outcome) = self.connection.poll_outcome() {
                return outcome;
            }
            self.read().await;
        }
    }

    /// The next invocation's result.
    pub async fn result(&mut self) -> (u64, InvocationResult) {
        match self.outcome().await {
            (key, Outcome::Reply(body)) => (key, InvocationResult::decode(&body).unwrap()),
            (key, other) => panic!("invocation {key}: {other:?}"),
        }
    }

    /// Reads what the module has to say, until it has said nothing for a second.
    pub async fn take_in(&mut self) {
        self.flush().await;
        let runtime = Arc::clone(&self.runtime);
        let quiet = async || {
            runtime.sleep_until(runtime.now() + SECOND).await;
            false
        };
        while futures_lite::future::or(
            async {
                self.read().await;
                true
            },
            quiet(),
        )
        .await
        {}
    }

    async fn read(&mut self) {
        let mut buf = [0; 4096];
        let n = poll_fn(|cx| self.reader.poll_read(cx, &mut [IoSliceMut::new(&mut buf)])).await.unwrap();
        let now = self.runtime.now();
        match n {
            0 => self.connection.recv_eof(now),
            n => self.connection.recv(now, &buf[..n]),
        }
    }

    pub async fn flush(&mut self) {
        loop {
            let now = self.runtime.now();
            self.connection.pull_events(now, &mut self.log);
            let Some(mut batch) = self.connection.take_batch(now) else { return };
            while !batch.is_empty() {
                let bytes: Vec<u8> = batch.slices().flatten().copied().collect();
                let n = self.write_some(&bytes).await;
                batch.advance(n);
            }
            self.connection.batch_done(batch);
        }
    }

    async fn write_some(&mut self, bytes: &[u8]) -> usize {
        poll_fn(|cx| Pin::new(&mut self.writer).poll_write(cx, &[IoSlice::new(bytes)])).await.unwrap()
    }

    /// Writes a frame that the host's own machine knows nothing of.
    pub async fn lie(&mut self, head: &Head<'_>, body: &[u8]) {
        self.flush().await;
        let mut payload = Vec::new();
        encode_head(Profile::X1, head, &mut payload);
        payload.extend_from_slice(body);
        let mut frame = u32::try_from(payload.len()).unwrap().to_le_bytes().to_vec();
        frame.extend(payload);
        let mut rest = &frame[..];
        while !rest.is_empty() {
            let n = self.write_some(rest).await;
            rest = &rest[n..];
        }
    }

    // ---- requests ----

    /// The next request.
    pub async fn request(&mut self) -> (CallId, Request) {
        let call = self.served().await;
        (call.id, Request::decode(&call.body).unwrap())
    }

    pub async fn served(&mut self) -> ServedCall {
        match self.event().await {
            Event::Call(call) => call,
            other => panic!("instead of a request: {other:?}"),
        }
    }

    pub async fn reply(&mut self, id: CallId, response: impl Into<Response>) {
        let mut head = Vec::new();
        let tail = response.into().encode_parts(&mut head);
        self.reply_bytes(id, Body { head: &head, tail }).await;
    }

    pub async fn reply_bytes(&mut self, id: CallId, body: Body<'_>) {
        self.connection.reply(self.runtime.now(), id, body).unwrap();
        self.flush().await;
    }

    /// Answers the next request, which must be for the tip.
    pub async fn give_tip(&mut self, height: u64) {
        let (id, request) = self.request().await;
        assert_eq!(request, Request::GetChainTip);
        self.reply(id, tip(height)).await;
    }

    // ---- events ----

    /// Grants the next subscription, or its end.
    pub async fn subscribe(&mut self) -> Subscription {
        let (call, subscription) = match self.event().await {
            Event::Subscribe(call, subscription) => (call, subscription),
            other => panic!("instead of a subscription: {other:?}"),
        };
        self.grant(&call, subscription);
        self.flush().await;
        subscription
    }

    pub fn grant(&mut self, call: &ServedCall, subscription: Subscription) {
        let start = self.connection.subscription_start(&subscription, &self.log);
        let data = match (Request::decode(&call.body).unwrap(), subscription) {
            (Request::SubscribeEvents { event_types }, _) => {
                ResponseData::Subscribed { event_types, position: start - 1 }
            }
            (Request::Unsubscribe { .. }, Subscription::Remove { topics }) => {
                let left = self.connection.topics().without(&topics);
                let event_types = left.iter().filter_map(modipc_api::EventType::from_topic).collect();
                ResponseData::Unsubscribed { event_types }
            }
            (other, _) => panic!("{other:?} is no subscription"),
        };
        let mut body = Vec::new();
        Response::from(data).encode(&mut body);
        let (now, log) = (self.runtime.now(), &mut self.log);
        self.connection.reply_subscription(now, call.id, subscription, log, Body::from(&body[..])).unwrap();
    }

    /// Appends an event to the log.
    pub fn publish(&mut self, event: impl Into<AnyEvent>) -> u64 {
        let event = event.into();
        let mut body = Vec::new();
        event.encode(&mut body);
        self.publish_bytes(event.topic(), body)
    }

    pub fn publish_bytes(&mut self, topic: u8, body: Vec<u8>) -> u64 {
        match self.log.append(topic, Bytes::from(body)) {
            modipc_core::Append::At(position) => position,
            refused => panic!("not appended: {refused:?}"),
        }
    }

    // ---- the rest ----

    pub async fn logged(&mut self) -> (LogMessage, Bytes) {
        match self.event().await {
            Event::Log { body, records } => (LogMessage::decode(&body).unwrap(), records),
            other => panic!("instead of a log message: {other:?}"),
        }
    }

    pub async fn invoke(&mut self, key: u64, deadline_us: u64, invocation: &Invocation) -> CallId {
        let mut body = Vec::new();
        invocation.encode(&mut body);
        let id = self.connection.call(self.runtime.now(), &options(deadline_us), Body::from(&body[..]), key);
        self.flush().await;
        id.unwrap()
    }

    pub async fn set_grants(&mut self, grants: CapabilitySet) {
        let names: Vec<String> = grants.names().into_iter().map(str::to_owned).collect();
        self.connection.set_grants(self.runtime.now(), grants.bits(), &names).unwrap();
        self.flush().await;
    }

    pub async fn goodbye(&mut self, reason: u32) {
        self.connection.goodbye(self.runtime.now(), reason, "the test ends").unwrap();
        self.flush().await;
    }

    /// Reads and writes until the connection is closed.
    pub async fn until_closed(&mut self) -> modipc_core::CloseReason {
        loop {
            if let Event::Closed(reason) = self.event().await {
                self.flush().await;
                return reason;
            }
        }
    }
}

pub fn options(deadline_us: u64) -> CallOptions {
    CallOptions { deadline_us, trace: None, idempotency: None, subscribe: None }
}

pub fn hash(n: u64) -> BlockHash {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    BlockHash::from_bytes(bytes)
}

pub fn tip(height: u64) -> ResponseData {
    ResponseData::ChainTip(BlockRef { hash: hash(height), height })
}

pub fn new_block(height: u64) -> Said {
    Said::NewBlock { hash: hash(height), height, tx_count: 1, time_s: 0 }
}

pub fn new_header(height: u64) -> Said {
    Said::NewHeader { hash: hash(height), height }
}

pub fn all_but(capability: Capability) -> CapabilitySet {
    CapabilitySet::ALL.without(CapabilitySet::of(&[capability]))
}
