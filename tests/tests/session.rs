//! One scripted session gives the same steps and the same events on the bare core, in memory on the deterministic executor, and
//! over real sockets on tokio (one thread and several) and on smol.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use modipc_api::{
    BlockAt, BlockHash, Capability, CapabilitySet, ErrorCode, Event as Said, EventType, HealthReport,
    HealthStatus, Invocation, InvocationResult, LogLevel, OutPoint, RawBlock, RawTransaction, Request,
    Response, ResponseData, Txid, encode_log,
};
use modipc_core::{
    Accepted, Body, CallId, CallOptions, Config, Event, Hello, Host, Limits, Module, Records, Role,
    ServedCall, SubscribeOptions, Subscription,
};
use modipc_driver::CallError;
use modipc_tests::session::{Driven, End, HostEnd, bare, driven};
use modipc_tests::world::{Memory, Smol, Tokio, World};
use modipc_tests::{PATIENCE_S, SECOND};
use modipc_transport_mem::LinkConfig;

const CONFIG: Config = Config::DEFAULT;

/// Bytes of a block that travels in six fragments, and of a transaction that travels in two.
const BLOCK_BYTES: usize = 700_000;
const TRANSACTION_BYTES: usize = 200_000;

#[test]
fn one_session_gives_the_same_trace_everywhere() {
    let expected = on_the_bare_core();
    expected.host.holds_a_whole_session();
    expected.module.holds_a_whole_session();

    expected.is_also("the deterministic executor", &on(&Memory::new()));
    for seed in 0..8 {
        let rough = on(&Memory::with_links(seed, LinkConfig::rough()));
        expected.is_also(&format!("rough links in memory, seed {seed}"), &rough);
    }
    expected.is_also("tokio with one thread", &on(&Tokio::one_thread()));
    expected.is_also("tokio with threads", &on(&Tokio::threads()));
    expected.is_also("smol", &on(&Smol::new()));
}

fn on_the_bare_core() -> Session {
    let (host, module) = bare(CONFIG, CONFIG);
    futures_lite::future::block_on(play(&host, &module))
}

fn on<W: World>(world: &W) -> Session {
    let (host, module): (Driven<Host>, Driven<Module>) = driven(world, CONFIG, CONFIG);
    world.run(play(&host, &module))
}

// ---- what is compared ----

/// What each side saw and did.
#[derive(Debug, PartialEq, Eq)]
struct Session {
    host: Account,
    module: Account,
}

/// One side's account of a session.
#[derive(Debug, Default, PartialEq, Eq)]
struct Account {
    /// Events, and outcomes of its own calls.
    story: Vec<String>,
    /// Steps of its machine.
    steps: Vec<String>,
}

impl Session {
    fn is_also(&self, place: &str, other: &Session) {
        self.host.is_also(place, "host", &other.host);
        self.module.is_also(place, "module", &other.module);
    }
}

impl Account {
    fn is_also(&self, place: &str, side: &str, other: &Account) {
        same_lines(place, side, &self.story, &other.story);
        same_lines(place, side, &self.steps, &other.steps);
    }

    /// A few lines by their text, so that accounts which are empty, or all wrong in the same way, do not pass.
    fn holds_a_whole_session(&self) {
        let (steps, story) = if self.story[0].starts_with("Hello") { HOST } else { MODULE };
        contains_in_order(&self.steps, steps);
        contains_in_order(&self.story, story);
    }
}

const HOST: (&[&str], &[&str]) = (
    &[
        "PeerHello Idle Greeting",
        "> 7 id=0 len=0 Accept Greeting Active",
        "< 0 id=1 len=8 PeerCall Active Active",
        "< 0 id=2 len=44 PeerCallDenied Active Active",
        "> 4 id=1 len=8 Call Active Active",
        "ReplySubscription Active Active",
        "> 2 id=3",
        "> 2 id=5",
        "< 3 id=0",
        "< 8 id=5 len=0 PeerCancel Active Active",
        "> 9 id=1 len=0 SendPing Active Active",
        "< 10 id=1 len=0 PeerPong Active Active",
        "SendBulk Active Active",
        "BulkSent Active Active",
        "< 13 id=0 len=8 PeerCredit Active Active",
        "PeerBulkCall Active Active",
        "PeerBulkNext Active Active",
        "PeerCallComplete Active Active",
        "< 200 id=0 len=4 PeerExtension Active Active",
        "> 255 id=0 len=0 SendExtension Active Active",
        "> 15 id=0",
        "> 11 id=0 len=0 Goodbye Active Draining",
        "< 11 id=0 len=20 PeerGoodbye Draining Finishing",
        "< 5 id=3",
        "! - id=0 len=0 Drained Finishing Closed",
    ],
    &[
        "Hello watcher",
        "Call 1, 8 bytes",
        "CallDenied 2",
        "Progress 1 of 2",
        "Subscribe 3",
        "Subscribe 4",
        "Log, 36 bytes",
        "CallCancelled 5",
        "Pong 1",
        "Closed: closed in order, begun by us, reason 1",
    ],
);

const MODULE: (&[&str], &[&str]) = (
    &[
        "> 6 id=0",
        "PeerAccepts Greeting Active",
        "> 0 id=1 len=8 Call Active Active",
        "< 1 id=1 len=16 PeerAnswer Active Active",
        "< 4 id=1 len=8 PeerCall Active Active",
        "> 14 id=1 len=16 SendProgress Active Active",
        "> 5 id=1",
        "< 2 id=3",
        "< 2 id=5",
        "> 3 id=0",
        "> 8 id=5 len=0 Cancel Active Active",
        "< 1 id=5 len=4 PeerAnswerLate Active Active",
        "< 9 id=1 len=0 PeerPing Active Active",
        "PeerBulkAnswer Active Active",
        "PeerBulkNext Active Active",
        "< 1 id=6",
        "< 13 id=0 len=8 PeerCredit Active Active",
        "< 255 id=0 len=4 PeerExtension Active Active",
        "< 15 id=0",
        "< 11 id=0 len=26 PeerGoodbye Active Finishing",
        "! - id=0 len=0 Drained Finishing Closed",
    ],
    &[
        "Accepted",
        "outcome of 1: 16 bytes",
        "Call 1, 8 bytes",
        "Event at 3 after 1, 16 bytes",
        "Event at 5 after 0",
        "GrantsChanged []",
        "Draining by Peer, reason 1, resume at 6: update",
        "Closed: closed in order, begun by the peer, reason 1",
    ],
);

fn same_lines(place: &str, side: &str, expected: &[String], found: &[String]) {
    for (at, pair) in expected.iter().zip(found).enumerate() {
        assert_eq!(pair.0, pair.1, "line {at} of the {side} on {place} differs from the bare core's");
    }
    assert_eq!(
        expected.len(),
        found.len(),
        "the {side} on {place} has more or fewer lines than on the bare core"
    );
}

fn contains_in_order(lines: &[String], parts: &[&str]) {
    let mut rest = lines.iter();
    for part in parts {
        assert!(rest.any(|line| line.contains(part)), "no {part:?}, or not in this order, in {lines:#?}");
    }
}

// ---- the script ----

/// The script's hands on both ends. It waits for the consequence of each command on both sides before it goes on, so the order of
/// each side's steps does not depend on how fast anything is.
struct Play<'a, H, M> {
    host: Side<'a, H>,
    module: Side<'a, M>,
}

struct Side<'a, E> {
    end: &'a E,
    story: Vec<String>,
}

async fn play<H: HostEnd, M: End<Module>>(host: &H, module: &M) -> Session {
    let mut play = Play { host: Side::new(host), module: Side::new(module) };
    play.handshake().await;
    play.calls_of_the_module().await;
    play.calls_of_the_host().await;
    play.events().await;
    play.logs().await;
    play.cancel().await;
    play.pings().await;
    play.bulk().await;
    play.extensions_and_grants().await;
    play.goodbye().await;
    let host = Account { story: play.host.story, steps: host.steps().await };
    let module = Account { story: play.module.story, steps: module.steps().await };
    Session { host, module }
}

impl<H: HostEnd, M: End<Module>> Play<'_, H, M> {
    async fn handshake(&mut self) {
        let hello = Hello {
            module_id: "watcher".into(),
            capabilities: vec!["ReadChainState".into(), "Nonsense".into()],
            version: "1.0".into(),
            tail: None,
        };
        self.module.end.with(|connection, now| connection.hello(now, hello)).unwrap();
        assert!(matches!(self.host.event().await, Event::Hello(hello) if hello.module_id == "watcher"));
        let grants = CapabilitySet::ALL.without(CapabilitySet::of(&[Capability::ReadUtxo]));
        let accepted = Accepted {
            granted: names(grants),
            limits: Limits::DEFAULT,
            node_version: "session".into(),
            instance_id: [7; 16],
            next_token: Vec::new(),
            x1: false,
        };
        self.host.end.with(|connection, now| connection.accept(now, accepted, grants.bits())).unwrap();
        assert!(matches!(self.module.event().await, Event::Accepted(accepted) if accepted.x1));
    }

    async fn calls_of_the_module(&mut self) {
        let call = self.ask(&Request::GetBlockHeight);
        let served = self.host.call_event().await;
        self.answer(served.id, &Response::Success(ResponseData::BlockHeight(702_861)));
        let body = self.module.outcome(1, call).await.unwrap();
        assert_eq!(Response::decode(&body), Ok(Response::Success(ResponseData::BlockHeight(702_861))));

        let outpoint = OutPoint { txid: Txid::from_bytes([1; 32]), vout: 0 };
        let call = self.ask(&Request::GetUtxo { outpoint });
        let missing = CapabilitySet::of(&[Capability::ReadUtxo]);
        assert!(
            matches!(self.host.event().await, Event::CallDenied(CallId(2), bits) if bits == missing.bits())
        );
        let body = self.module.outcome(2, call).await.unwrap();
        let Ok(Response::Error(error)) = Response::decode(&body) else { panic!("not denied") };
        assert_eq!((error.code, error.missing_capabilities()), (ErrorCode::PermissionDenied, missing));
    }

    async fn calls_of_the_host(&mut self) {
        let call = self.invoke(&Invocation::Health);
        let served = self.module.call_event().await;
        self.module.end.with(|connection, now| connection.progress(now, served.id, 1, 2)).unwrap();
        assert!(matches!(self.host.event().await, Event::Progress { done: 1, total: 2, .. }));
        let report = HealthReport { status: HealthStatus::Degraded, detail: "slow disk".into() };
        self.return_to_host(served.id, &InvocationResult::healthy(&report));
        let body = self.host.outcome(1, call).await.unwrap();
        assert_eq!(InvocationResult::decode(&body), Ok(InvocationResult::healthy(&report)));
    }

    /// Positions 1 to 5: height, mempool (not subscribed), height, height (no longer subscribed), ready.
    async fn events(&mut self) {
        let event_types = vec![EventType::HeadersSynced, EventType::NodeReady];
        let subscribe = Request::SubscribeEvents { event_types: event_types.clone() };
        let data = ResponseData::Subscribed { event_types, position: 0 };
        self.change_subscription(&subscribe, data).await;
        let height = |height| Said::HeadersSynced { height };
        self.host.end.publish(&[height(1), Said::MempoolCleared { removed: 9 }, height(2)]);
        for expected in [(1, 0, 1), (3, 1, 2)] {
            let Event::Event { position, prev, body } = self.module.event().await else { panic!("no event") };
            assert_eq!(
                (position, prev, Said::decode(&body)),
                (expected.0, expected.1, Ok(height(expected.2)))
            );
        }

        let unsubscribe = Request::Unsubscribe { event_types: vec![EventType::HeadersSynced] };
        let data = ResponseData::Unsubscribed { event_types: vec![EventType::NodeReady] };
        self.change_subscription(&unsubscribe, data).await;
        self.host.end.publish(&[height(3), Said::NodeReady { version: "session".into() }]);
        assert!(matches!(self.module.event().await, Event::Event { position: 5, prev: 0, .. }));
    }

    async fn change_subscription(&mut self, request: &Request, data: ResponseData) {
        let call = self.ask(request);
        let Event::Subscribe(served, subscription) = self.host.event().await else {
            panic!("no subscription")
        };
        let body = encoded(|out| Response::Success(data).encode(out));
        let done = self.host.end.with_log(|connection, now, log| {
            connection.reply_subscription(now, served.id, subscription, log, Body::from(&body[..]))
        });
        done.unwrap();
        self.module.outcome(served.id.0, call).await.unwrap();
    }

    async fn logs(&mut self) {
        let body = encoded(|out| encode_log(LogLevel::Warn, "a message", "watcher", out));
        let mut records = Vec::new();
        Records::push(&mut records, 1, b"watcher::blocks").unwrap();
        self.module.end.with(|connection, now| connection.log(now, Body::from(&body[..]), &records)).unwrap();
        assert!(matches!(self.host.event().await, Event::Log { body: found, .. } if found == body));
    }

    /// The late answer is absorbed by the module's side, which the ping behind it shows.
    async fn cancel(&mut self) {
        let call = self.ask(&Request::GetChainInfo);
        let served = self.host.call_event().await;
        self.module.end.cancel(call);
        assert!(matches!(self.host.event().await, Event::CallCancelled(id) if id == served.id));
        self.answer(served.id, &Response::NotFound);
        self.host.ping().await;
    }

    async fn pings(&mut self) {
        self.module.ping().await;
        self.host.ping().await;
    }

    /// A block down and a transaction up. Credit comes back without an event, so a ping follows it.
    async fn bulk(&mut self) {
        let call = self.ask(&Request::GetBlockByHeight { height: 1 });
        let served = self.host.call_event().await;
        let raw = RawBlock::new(pattern(BLOCK_BYTES).into());
        let block = BlockAt { hash: BlockHash::from_bytes([1; 32]), raw };
        let response = Response::Success(ResponseData::BlockByHeight(block));
        self.answer(served.id, &response);
        let body = self.module.outcome(served.id.0, call).await.unwrap();
        assert_eq!(Response::decode(&body), Ok(response));
        self.module.ping().await;

        let raw = RawTransaction::new(pattern(TRANSACTION_BYTES).into());
        let request = Request::SubmitTransaction { raw };
        let call = self.ask(&request);
        let served = self.host.call_event().await;
        assert_eq!(Request::decode(&served.body), Ok(request));
        let txid = Txid::from_bytes([2; 32]);
        self.answer(served.id, &Response::Success(ResponseData::Submitted { txid }));
        self.module.outcome(served.id.0, call).await.unwrap();
        self.host.ping().await;
    }

    async fn extensions_and_grants(&mut self) {
        self.module.end.with(|connection, now| connection.extension(now, 200)).unwrap();
        self.module.ping().await;
        self.host.end.with(|connection, now| connection.extension(now, 255)).unwrap();
        self.host.ping().await;
        assert_eq!(self.host.end.with(|connection, _| connection.extensions_skipped()), 1);
        assert_eq!(self.module.end.with(|connection, _| connection.extensions_skipped()), 1);
        self.host.end.with(|connection, now| connection.set_grants(now, 0, &[])).unwrap();
        assert!(matches!(self.module.event().await, Event::GrantsChanged(names) if names.is_empty()));
    }

    /// Two invocations are open when the host says goodbye. The first one's progress shows that the module's goodbye has come.
    async fn goodbye(&mut self) {
        let first = self.invoke(&Invocation::Health);
        let second = self.invoke(&Invocation::PrepareShutdown { grace_us: SECOND });
        let open = [self.module.call_event().await.id, self.module.call_event().await.id];
        self.host.end.with(|connection, now| connection.goodbye(now, 1, "update")).unwrap();
        assert!(matches!(self.module.event().await, Event::Draining { reason: 1, .. }));
        self.module.end.with(|connection, now| connection.progress(now, open[0], 1, 1)).unwrap();
        while !matches!(self.host.event().await, Event::Progress { .. }) {}
        self.return_to_host(open[1], &InvocationResult::NotFound);
        self.host.outcome(3, second).await.unwrap();
        self.return_to_host(open[0], &InvocationResult::NotFound);
        self.host.outcome(2, first).await.unwrap();
        assert!(matches!(self.host.event().await, Event::Closed(_)));
        assert!(matches!(self.module.event().await, Event::Closed(_)));
    }

    fn ask(&self, request: &Request) -> M::Call {
        self.module.end.call(&options(), &encoded(|out| request.encode(out)))
    }

    fn answer(&self, id: CallId, response: &Response) {
        let body = encoded(|out| response.encode(out));
        self.host.end.with(|connection, now| connection.reply(now, id, Body::from(&body[..]))).unwrap();
    }

    fn invoke(&self, invocation: &Invocation) -> H::Call {
        self.host.end.call(&options(), &encoded(|out| invocation.encode(out)))
    }

    fn return_to_host(&self, id: CallId, result: &InvocationResult) {
        let body = encoded(|out| result.encode(out));
        self.module.end.with(|connection, now| connection.reply(now, id, Body::from(&body[..]))).unwrap();
    }
}

impl<'a, E> Side<'a, E> {
    fn new(end: &'a E) -> Self {
        Side { end, story: Vec::new() }
    }

    async fn event<R: Role>(&mut self) -> Event
    where
        E: End<R>,
    {
        let event = self.end.event().await;
        self.story.push(line(&event));
        event
    }

    async fn call_event<R: Role>(&mut self) -> ServedCall
    where
        E: End<R>,
    {
        match self.event().await {
            Event::Call(call) => call,
            other => panic!("instead of a call: {other:?}"),
        }
    }

    async fn outcome<R: Role>(&mut self, id: u64, call: E::Call) -> Result<bytes::Bytes, CallError>
    where
        E: End<R>,
    {
        let outcome = self.end.outcome(call).await;
        self.story.push(match &outcome {
            Ok(body) => format!("outcome of {id}: {} bytes", body.len()),
            Err(error) => format!("outcome of {id}: {error}"),
        });
        outcome
    }

    async fn ping<R: Role>(&mut self)
    where
        E: End<R>,
    {
        let nonce = self.end.with(|connection, now| connection.ping(now)).unwrap();
        assert!(matches!(self.event().await, Event::Pong { nonce: found, .. } if found == nonce));
    }
}

/// An event without what depends on the clock.
fn line(event: &Event) -> String {
    match event {
        Event::Hello(hello) => format!("Hello {} {:?} {:?}", hello.module_id, hello.capabilities, hello.tail),
        Event::Accepted(accepted) => format!("Accepted {accepted:?}"),
        Event::Refused(refusal) => format!("Refused {refusal:?}"),
        Event::Call(call) => format!("Call {}", served(call)),
        Event::Subscribe(call, subscription) => {
            format!("Subscribe {} {}", served(call), wanted(subscription))
        }
        Event::CallCancelled(id) => format!("CallCancelled {}", id.0),
        Event::CallExpired(id) => format!("CallExpired {}", id.0),
        Event::CallDenied(id, missing) => format!("CallDenied {} {missing:b}", id.0),
        Event::CallBusy(id) => format!("CallBusy {}", id.0),
        Event::Event { position, prev, body } => {
            format!("Event at {position} after {prev}, {} bytes", body.len())
        }
        Event::Lagged { first, last } => format!("Lagged {first} to {last}"),
        Event::Log { body, records } => format!("Log, {} bytes, records {records:?}", body.len()),
        Event::InboxOverflow { count, first, last } => format!("InboxOverflow {count} {first} {last}"),
        Event::Progress { done, total, .. } => format!("Progress {done} of {total}"),
        Event::GrantsChanged(names) => format!("GrantsChanged {names:?}"),
        Event::Pong { nonce, .. } => format!("Pong {nonce}"),
        Event::Draining { by, reason, resume, detail } => {
            format!("Draining by {by:?}, reason {reason}, resume at {resume}: {detail}")
        }
        Event::Closed(reason) => format!("Closed: {reason}"),
    }
}

fn served(call: &ServedCall) -> String {
    let ServedCall { id, deadline, trace, idempotency, body } = call;
    let (bytes, deadline) = (body.len(), deadline.is_some());
    format!("{}, {bytes} bytes, deadline {deadline}, {trace:?}, {idempotency:?}", id.0)
}

fn wanted(subscription: &Subscription) -> String {
    match subscription {
        Subscription::Replace { topics, options: SubscribeOptions { resume, overflow } } => {
            format!("to {:?} from {resume:?}, {overflow:?}", topics.iter().collect::<Vec<_>>())
        }
        Subscription::Remove { topics } => format!("without {:?}", topics.iter().collect::<Vec<_>>()),
    }
}

fn options() -> CallOptions {
    let deadline_us = PATIENCE_S * SECOND;
    CallOptions { deadline_us, trace: Some([3; 25]), idempotency: None, subscribe: None }
}

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

fn names(grants: CapabilitySet) -> Vec<String> {
    grants.names().into_iter().map(str::to_owned).collect()
}
