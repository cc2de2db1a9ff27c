//! The frames of the independent encoder on real sockets: sent to the real node by a peer without code of ours, and sent to the
//! real client by a host without code of ours. What the two send in turn is compared with the vectors, too.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_lite::future::block_on;
use modipc_api::{
    AnyEvent, Capability, ErrorCode, ErrorInfo, HealthReport, HealthStatus, Invocation, InvocationResult,
    ModuleError, Party, Request, Response,
};
use modipc_core::{CloseReason, Config, Limits, Profile, RefusalCode, SubscribeOptions};
use modipc_module::{
    Client, Connect, ConnectError, Delivery, EventStream, InvocationContext, InvocationHandler, State, Topics,
};
use modipc_node::LOG_TARGET;
use modipc_tests::mailbox::Mailbox;
use modipc_tests::notes::Note;
use modipc_tests::raw::{
    CREDIT, GOODBYE, HELLO, INVOCATION, INVOCATION_RESULT, PONG, REQUEST, RESPONSE, RawPeer,
    SUBSCRIBE_EVENTS, event_types, frame, request, seed_hello, string, with_id, x1_hello,
};
use modipc_tests::server::{Server, end_of};
use modipc_tests::vectors::{Vector, named, read};
use modipc_tests::world::{Tokio, World as _};
use modipc_tests::{PATIENCE_S, SECOND};
use modipc_transport_uds::{UdsStream, UdsTransport};

/// The vectors of a file whose names begin so.
fn beginning(file: &str, prefix: &str) -> Vec<Vector> {
    let vectors: Vec<_> = read(file).into_iter().filter(|(name, _)| name.starts_with(prefix)).collect();
    assert!(!vectors.is_empty(), "{file} has no {prefix}");
    vectors
}

/// The id in a frame of the kinds that have one in both profiles.
fn id_of(frame: &[u8]) -> u64 {
    u64::from_le_bytes(frame[8..16].try_into().unwrap())
}

// ---- to the node ----

#[test]
fn every_request_vector_is_answered_in_both_profiles() {
    for hello in ["plain-hello-seed", "plain-hello-unknown-record", "plain-hello-x1"] {
        let server = Server::start();
        server.api.open_gate();
        let (mut peer, _) = server.peer();
        peer.greet(&named("handshake", hello));
        let mut answered = Vec::new();
        for (name, frame) in read("requests") {
            peer.send(&frame);
            let answer = peer.expect(RESPONSE);
            assert_eq!(answer.id(), id_of(&frame), "{name}");
            let variant = answer.u32(if answer.is_bulk() { 20 } else { 12 });
            let mut last = answer;
            while last.is_bulk_continued() {
                last = peer.expect(RESPONSE);
            }
            answered.push((name, variant));
        }
        // Which of them the node has an answer for, and not only an error.
        let succeeded: Vec<_> =
            answered.iter().filter(|(_, variant)| *variant == 0).map(|(name, _)| &**name).collect();
        assert_eq!(
            succeeded,
            [
                "plain-request-get-chain-tip",
                "plain-request-get-block-height",
                "plain-request-subscribe-events",
                "plain-request-subscribe-nothing",
                "plain-request-get-chain-info",
                "plain-request-get-block-by-height",
                "plain-request-submit-transaction",
                "plain-request-unsubscribe",
                "plain-request-unsubscribe-all",
            ],
            "{hello}"
        );
        assert!(peer.is_served(100), "{hello}");
        let _ = server.shut_down();
    }
}

#[test]
fn every_invalid_request_vector_is_answered_with_an_error_and_the_connection_lives() {
    let server = Server::start();
    let (mut peer, _) = server.peer();
    peer.greet(&seed_hello("block-analyst"));
    for (name, frame) in beginning("invalid", "plain-invalid-request-") {
        peer.send(&frame);
        let answer = peer.expect(RESPONSE);
        let code =
            if name.ends_with("-unknown") { ErrorCode::UnknownRequest } else { ErrorCode::InvalidRequest };
        assert!(answer.is_error(code.number()) && answer.id() == id_of(&frame), "{name}: {}", answer.text());
    }
    assert!(peer.is_served(100));
    let _ = server.shut_down();
}

#[test]
fn every_log_vector_is_logged_with_its_level_target_and_fields() {
    let plain = logged(&seed_hello("watcher"), "plain-log-", 5);
    let x1 = logged(&x1_hello("watcher", b""), "x1-log-", 7);
    for level in ["error", "warn", "info", "debug", "trace"] {
        let text = format!("a message of level {level}");
        let find = |notes: &[Note]| notes.iter().find(|note| note.text.contains(&text)).cloned().unwrap();
        let (plain, x1) = (find(&plain), find(&x1));
        for note in [&plain, &x1] {
            assert!(note.level.as_str().eq_ignore_ascii_case(level), "{note:?}");
            assert!(note.text.contains("module=\"watcher\""), "{note:?}");
        }
        assert!(x1.text.contains("watcher::chain") && x1.text.contains("height: \"702861\""), "{x1:?}");
    }
}

/// What a node logs of a module that sends these vectors, and one with a level that there is not.
fn logged(hello: &[u8], prefix: &str, count: usize) -> Vec<Note> {
    let server = Server::start();
    let (mut peer, _) = server.peer();
    peer.greet(hello);
    for (_, frame) in beginning("logs", prefix) {
        peer.send(&frame);
    }
    let invalid = named("invalid", "plain-invalid-log-level");
    let x1 = [&invalid[4..8], &[0; 8], &invalid[8..]].concat();
    peer.send(&if prefix.starts_with("x1") { frame(&x1) } else { invalid });
    assert!(peer.is_served(1));
    let counts = server.node.modules()[0].counts;
    assert_eq!((counts.logs, counts.logs_refused), (count as u64, 1));
    let (_, notes) = server.shut_down();
    let notes: Vec<_> = notes.into_iter().filter(|note| note.target == LOG_TARGET).collect();
    assert_eq!(notes.len(), count, "{notes:#?}");
    notes
}

#[test]
fn flags_and_control_frames_are_understood_by_the_node() {
    let server = Server::start();
    let (mut peer, attached) = server.peer();
    peer.greet(&x1_hello("block-analyst", b""));
    for name in ["deadline", "trace", "idempotency", "records"] {
        let frame = named("flags", &format!("x1-flags-{name}"));
        peer.send(&frame);
        let answer = peer.expect(RESPONSE);
        assert_eq!((answer.id(), answer.u32(12)), (id_of(&frame), 0), "{name}");
    }
    // Call 5 waits at the gate until it is cancelled.
    peer.send(&request(5, 10, &[]));
    block_on(server.api.until_waiting(1));
    peer.send(&named("control", "x1-cancel"));
    assert!(peer.expect(RESPONSE).is_error(ErrorCode::Cancelled.number()));
    peer.send(&named("control", "x1-credit"));
    peer.send(&named("control", "x1-skipped"));
    peer.send(&named("control", "x1-ping"));
    assert_eq!(peer.expect(PONG).0, named("control", "x1-pong")[4..]);
    let frame = named("flags", "x1-flags-request");
    peer.send(&frame);
    assert_eq!(peer.expect(RESPONSE).id(), id_of(&frame));
    peer.send(&named("control", "x1-goodbye-done"));
    assert_eq!(peer.expect(GOODBYE).u32(12), 0);
    assert_eq!(peer.rest(), []);
    assert!(matches!(end_of(&attached), CloseReason::Drained { reason: 0, .. }));
    let _ = server.shut_down();
}

#[test]
fn a_bulk_call_of_the_vectors_is_one_call() {
    let server = Server::start();
    let (mut peer, _) = server.peer();
    peer.greet(&x1_hello("block-analyst", b""));
    assert!(peer.is_served(1));
    peer.send(&named("bulk", "x1-bulk-first"));
    // Another call between the fragments: its id is greater, and it is answered first.
    assert!(peer.is_served(3));
    peer.send(&named("bulk", "x1-bulk-last"));
    // The credit that the call took comes back with its answer.
    let (mut answer, mut credit) = (None, None);
    while answer.is_none() || credit.is_none() {
        let frame = peer.frame().unwrap();
        match frame.kind() {
            RESPONSE => answer = Some(frame),
            CREDIT => credit = Some(frame.u64(12)),
            other => panic!("a frame of kind {other}"),
        }
    }
    let answer = answer.unwrap();
    assert_eq!((answer.id(), answer.u32(12), answer.u32(16)), (2, 0, 13));
    assert_eq!(answer.u64(20), 65_537 - 16, "the transaction's length, which the node answers with");
    assert_eq!(credit, Some(Limits::DEFAULT.credit_bytes + 65_537));
    let _ = server.shut_down();
}

#[test]
fn the_nodes_invocations_are_the_vectors_and_it_understands_their_results() {
    let server = Server::start();
    let (mut peer, _) = server.peer();
    peer.greet(&seed_hello("block-analyst"));
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let invocations = [
        ("health", Invocation::Health),
        ("call", Invocation::Call { method: "summarise".into(), params: vec![1, 2, 3].into() }),
        (
            "configure",
            Invocation::Configure { settings: vec![setting("interval_s", "30"), setting("name", "größe")] },
        ),
        ("prepare-shutdown", Invocation::PrepareShutdown { grace_us: 2_500_000 }),
    ];
    let results = ["health", "returned", "nothing", "error"];
    for ((name, invocation), result) in invocations.iter().zip(results) {
        let (node, invocation) = (server.node.clone(), invocation.clone());
        let invoked = std::thread::spawn(move || {
            block_on(node.invoke("block-analyst", &invocation, PATIENCE_S * SECOND)).unwrap()
        });
        let vector = named("invocations", &format!("plain-invocation-{name}"));
        assert_eq!(peer.expect(INVOCATION).0, vector[4..], "{name}");
        peer.send(&named("invocations", &format!("plain-invocation-result-{result}")));
        let result = invoked.join().unwrap();
        match *name {
            "health" => assert_eq!(result, InvocationResult::healthy(&degraded())),
            "call" => assert_eq!(result, InvocationResult::Success(vec![9, 8].into())),
            "configure" => assert_eq!(result, InvocationResult::Success(Bytes::new())),
            _ => assert_eq!(result, InvocationResult::Error(not_saved())),
        }
    }
    let _ = server.shut_down();
}

fn degraded() -> HealthReport {
    HealthReport { status: HealthStatus::Degraded, detail: "slow disk".into() }
}

fn not_saved() -> ErrorInfo {
    ErrorInfo::new(ErrorCode::Internal, "could not save").with("file", "state.db")
}

// ---- to the client ----

/// A client, and the host's end of its socket.
struct Hosted {
    world: Tokio,
    host: RawPeer,
    connecting: Mailbox<Result<Client, ConnectError>>,
}

impl Hosted {
    /// The module's Hello is on its way.
    fn new(hello: Connect) -> Hosted {
        let world = Tokio::threads();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let stream = UdsStream::try_from(OwnedFd::from(ours)).unwrap();
        let transport = UdsTransport::new(world.tokio(), stream).unwrap();
        let connecting = Mailbox::default();
        let (done, runtime) = (connecting.clone(), world.runtime());
        world.runtime().spawn(Box::pin(async move {
            done.put(Client::connect(runtime, transport, hello).await);
        }));
        Hosted { world, host: RawPeer::new(theirs), connecting }
    }

    /// The handshake with this answer.
    fn answered(hello: Connect, answer: &str) -> (Hosted, Client) {
        let mut hosted = Hosted::new(hello);
        hosted.host.expect(HELLO);
        hosted.host.send(&named("handshake", answer));
        let client = hosted.world.run(hosted.connecting.take()).unwrap();
        (hosted, client)
    }

    /// Grants a subscription to everything; events come after `position`.
    fn subscribe(&mut self, client: &Client, position: u64) -> EventStream {
        let subscribed = Mailbox::default();
        let (done, subscribing) = (subscribed.clone(), client.clone());
        self.world.runtime().spawn(Box::pin(async move {
            done.put(subscribing.subscribe(Topics::all(), SubscribeOptions::default()).await);
        }));
        let request = self.host.expect(REQUEST);
        assert_eq!(request.flags() & !0x81, 0, "a deadline and records at most");
        let types: Vec<u32> = Topics::all().iter().map(|event_type| event_type.number()).collect();
        let data = [&0_u32.to_le_bytes()[..], &SUBSCRIBE_EVENTS.to_le_bytes(), &event_types(&types)].concat();
        let body = [data, position.to_le_bytes().to_vec()].concat();
        self.host.send(&with_id(u32::from(RESPONSE), request.id(), &body));
        self.world.run(subscribed.take()).unwrap()
    }
}

fn analyst() -> Connect {
    Connect::new("block-analyst", "1.2.3")
        .capability(Capability::ReadBlockchain)
        .capability(Capability::SubscribeEvents)
}

fn plain(hello: Connect) -> Connect {
    hello.config(Config { x1: false, ..Config::DEFAULT })
}

#[test]
fn the_clients_hellos_are_the_vectors() {
    let mut hosted = Hosted::new(plain(analyst()));
    assert_eq!(hosted.host.expect(HELLO).0, named("handshake", "plain-hello-seed")[4..]);
    let limits = Limits {
        calls_max: 64,
        abandoned_max: 32,
        body_bytes_max: 8 << 20,
        credit_bytes: 32 << 20,
        call_deadline_us_max: 30 * SECOND,
        ..Limits::DEFAULT
    };
    let full = analyst().token(*b"one-time-token").config(Config { limits, ..Config::DEFAULT });
    let mut hosted = Hosted::new(full);
    assert_eq!(hosted.host.expect(HELLO).0, named("handshake", "plain-hello-x1")[4..]);
}

#[test]
fn every_answer_vector_is_understood_by_the_client() {
    for (answer, is_x1) in [("plain-answer-accepted", false), ("plain-answer-x1", true)] {
        let (_hosted, client) = Hosted::answered(analyst(), answer);
        let host = client.host();
        assert_eq!((&*host.node_version, &host.next_token[..]), ("modipc 0.1.0", &b"next-token"[..]));
        assert_eq!(client.grants().names(), ["ReadBlockchain"]);
        assert_eq!(host.limits.calls_max, 64);
        assert_eq!(host.profile == Profile::X1, is_x1);
    }
    let mut hosted = Hosted::new(analyst());
    hosted.host.expect(HELLO);
    hosted.host.send(&named("handshake", "plain-answer-refused"));
    let refused = hosted.world.run(hosted.connecting.take()).unwrap_err();
    let ConnectError::Refused { code, message, hint, .. } = refused else { panic!("{refused}") };
    assert_eq!(code, RefusalCode::DuplicateId);
    assert!(message.contains("block-analyst") && hint.contains("stop the other"), "{message}; {hint}");
}

#[test]
fn every_response_vector_is_understood_by_the_client_in_both_profiles() {
    for (hello, answer) in [(plain(analyst()), "plain-answer-accepted"), (analyst(), "plain-answer-x1")] {
        let (mut hosted, client) = Hosted::answered(hello, answer);
        let vectors = read("responses");
        assert_eq!(vectors.len(), 36);
        for (name, frame) in vectors {
            let reply = client.with_deadline(Duration::from_secs(30)).request(Request::GetChainTip);
            let request = hosted.host.expect(REQUEST);
            assert_eq!(request.id(), id_of(&frame), "{name}");
            hosted.host.send(&frame);
            let response = hosted.world.run(reply).unwrap_or_else(|error| panic!("{name}: {error}"));
            let mut body = Vec::new();
            response.encode(&mut body);
            assert_eq!(body, frame[16..], "{name}: {response:?}");
        }
    }
}

#[test]
fn every_plain_event_vector_is_understood_by_the_client() {
    let (mut hosted, client) = Hosted::answered(plain(analyst()), "plain-answer-accepted");
    let mut events = hosted.subscribe(&client, 0);
    let vectors = beginning("events", "plain-event-");
    for (name, frame) in &vectors {
        hosted.host.send(frame);
        let delivery = hosted.world.run(events.next()).unwrap();
        assert_eq!(delivered(&delivery), (0, frame[8..].to_vec()), "{name}");
        let is_later = name.ends_with("-later");
        assert_eq!(matches!(delivery, Delivery::Unknown { .. }), is_later, "{name}");
    }
    assert_eq!(vectors.len(), 83 + 1);
}

#[test]
fn every_x1_event_vector_is_understood_by_the_client() {
    let (mut later, known): (Vec<_>, Vec<_>) =
        beginning("events", "x1-event-").into_iter().partition(|(name, _)| name.ends_with("-later"));
    assert_eq!(known.len(), 83);
    // Its position is 1, and those of the others begin at 1000: so it is of another connection.
    later.push(("x1-flags-event".to_owned(), named("flags", "x1-flags-event")));
    for (vectors, position) in [(later, 0), (known, 999)] {
        let (mut hosted, client) = Hosted::answered(analyst(), "plain-answer-x1");
        let mut events = hosted.subscribe(&client, position);
        for (name, frame) in vectors {
            hosted.host.send(&frame);
            let delivery = hosted.world.run(events.next()).unwrap();
            if name == "x1-flags-event" {
                // It is the ninth, and says that the one before it was the eighth: which did not come.
                assert_eq!(delivery, Delivery::Lagged { first: 1, last: 8 });
                continue;
            }
            assert_eq!(delivered(&delivery), (id_of(&frame), frame[24..].to_vec()), "{name}");
        }
    }
}

/// The position and the body of an event as the client understood it.
fn delivered(delivery: &Delivery) -> (u64, Vec<u8>) {
    let mut body = Vec::new();
    let (position, event) = match delivery.clone() {
        Delivery::Event { position, event } => (position, AnyEvent::Known(event)),
        Delivery::Unknown { position, event } => (position, AnyEvent::Raw(event)),
        other => panic!("{other:?}"),
    };
    event.encode(&mut body);
    (position, body)
}

#[test]
fn control_vectors_are_understood_by_the_client() {
    let (mut hosted, client) = Hosted::answered(analyst(), "plain-answer-x1");
    let mut events = hosted.subscribe(&client, 9);
    hosted.host.send(&named("control", "x1-lagged"));
    let lagged = hosted.world.run(events.next());
    assert_eq!(lagged, Some(Delivery::Lagged { first: 10, last: 19 }));
    let granted = client.grants();
    hosted.host.send(&named("control", "x1-grants-changed"));
    let granted = hosted.world.run(client.grants_changed(granted)).unwrap();
    assert_eq!(granted.iter().count(), 2);
    hosted.host.send(&named("control", "x1-grants-changed-none"));
    assert!(hosted.world.run(client.grants_changed(granted)).unwrap().is_empty());
    hosted.host.send(&named("control", "x1-skipped"));
    hosted.host.send(&named("control", "x1-ping"));
    assert_eq!(hosted.host.expect(PONG).0, named("control", "x1-pong")[4..]);
    hosted.host.send(&named("control", "x1-goodbye"));
    let draining = hosted.world.run(client.draining()).unwrap();
    assert_eq!((draining.reason, draining.resume), (1, 42));
    hosted.host.expect(GOODBYE);
    let end = hosted.world.run(client.wait_closed());
    assert!(matches!(end, CloseReason::Drained { reason: 1, .. }), "{end}");
}

#[test]
fn invalid_vectors_cost_the_host_that_call_or_event_and_no_more() {
    let (mut hosted, client) = Hosted::answered(plain(analyst()), "plain-answer-accepted");
    let invalid: BTreeMap<u64, Vec<u8>> = beginning("invalid", "plain-invalid-response-")
        .into_iter()
        .map(|(_, frame)| (id_of(&frame), frame))
        .collect();
    let last = *invalid.keys().last().unwrap();
    for id in 1..=last + 1 {
        let reply = client.request(Request::GetChainTip);
        assert_eq!(hosted.host.expect(REQUEST).id(), id);
        let not_found = with_id(u32::from(RESPONSE), id, &2_u32.to_le_bytes());
        hosted.host.send(invalid.get(&id).unwrap_or(&not_found));
        match hosted.world.run(reply) {
            Ok(response) => assert!(response == Response::NotFound && !invalid.contains_key(&id)),
            Err(error) => {
                let guilty = error.module_error();
                assert!(
                    matches!(guilty, Some(ModuleError::ProtocolError { guilty: Party::Host, .. })),
                    "{error}"
                );
                assert!(invalid.contains_key(&id));
            }
        }
    }
    let mut events = hosted.subscribe(&client, 0);
    for (name, frame) in beginning("invalid", "plain-invalid-event-") {
        hosted.host.send(&frame);
        let delivery = hosted.world.run(events.next());
        assert!(matches!(delivery, Some(Delivery::Undecodable { .. })), "{name}: {delivery:?}");
    }
    for (name, frame) in beginning("invalid", "plain-invalid-invocation-") {
        hosted.host.send(&frame);
        let result = hosted.host.expect(INVOCATION_RESULT);
        assert_eq!((result.id(), result.u32(12)), (id_of(&frame), 1), "{name}");
    }
    assert_eq!(client.state(), State::Active);
}

/// Answers as the vectors of the results say.
struct Scripted;

#[async_trait]
impl InvocationHandler for Scripted {
    async fn health(&self, _: InvocationContext) -> HealthReport {
        degraded()
    }

    async fn call(
        &self,
        _: InvocationContext,
        method: String,
        params: Bytes,
    ) -> Result<Option<Bytes>, ErrorInfo> {
        Ok((method == "summarise" && params == [1, 2, 3][..]).then(|| vec![9, 8].into()))
    }

    async fn configure(
        &self,
        _: InvocationContext,
        settings: Vec<(String, String)>,
    ) -> Result<(), ErrorInfo> {
        assert_eq!(settings[1], ("name".to_owned(), "größe".to_owned()));
        Ok(())
    }

    async fn prepare_shutdown(&self, _: InvocationContext, grace: Duration) -> Result<(), ErrorInfo> {
        assert_eq!(grace, Duration::from_micros(2_500_000));
        Err(not_saved())
    }
}

#[test]
fn the_clients_results_are_the_vectors() {
    let (mut hosted, client) =
        Hosted::answered(plain(analyst()).handler(Arc::new(Scripted)), "plain-answer-accepted");
    let pairs =
        [("health", "health"), ("call", "returned"), ("configure", "nothing"), ("prepare-shutdown", "error")];
    for (invocation, result) in pairs {
        hosted.host.send(&named("invocations", &format!("plain-invocation-{invocation}")));
        let vector = named("invocations", &format!("plain-invocation-result-{result}"));
        assert_eq!(hosted.host.expect(INVOCATION_RESULT).0, vector[4..], "{invocation}");
    }
    // No vector calls a method that there is not.
    let one = 1_u32.to_le_bytes();
    let body = [&one[..], &one, &string("nonsense"), &string("")].concat();
    hosted.host.send(&with_id(u32::from(INVOCATION), 5, &body));
    let vector = named("invocations", "plain-invocation-result-not-found");
    assert_eq!(hosted.host.expect(INVOCATION_RESULT).0, vector[4..]);
    drop(client);
}
