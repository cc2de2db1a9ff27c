//! What the reference implementation gets wrong against its own document, line by line: here each is a test that passes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use futures_lite::future::{block_on, yield_now};
use modipc_api::{
    Capability, CapabilitySet, ErrorCode, Event, EventType, HealthReport, HealthStatus, Invocation,
    InvocationResult,
};
use modipc_core::{CloseReason, Overflow, SubscribeOptions};
use modipc_driver::CallError;
use modipc_module::Delivery;
use modipc_node::{
    ConnectionPairs, Exit, InvokeError, LOG_TARGET, ModuleSpec, NodeConfig, ProcessLauncher, RunningModule,
};
use modipc_tests::house::{House, hello};
use modipc_tests::node::{HEIGHT, TIP};
use modipc_tests::notes::Notes;
use modipc_tests::raw::{
    ANSWER, EVENT, GET_CHAIN_INFO, LAGGED, RESPONSE, RawPeer, SUBSCRIBE_EVENTS, event_types, request,
    seed_hello, x1_hello,
};
use modipc_tests::server::Server;
use modipc_tests::world::Tokio;
use modipc_tests::{PATIENCE_S, SECOND};
use modipc_transport_uds::{UdsTransport, socketpair_for_child};

// ---- "frames are big-endian where the document says little-endian" ----

#[test]
fn frames_are_little_endian() {
    let server = Server::start();
    let hello = seed_hello("bob");
    let length = hello.len() - 4;
    assert_eq!(hello[..4], [length as u8, 0, 0, 0]);
    let (mut peer, _) = server.peer();
    // `expect` reads the answer's length little-endian, too.
    assert_eq!(peer.greet(&hello).kind(), ANSWER);
    let (mut reversed, _) = server.peer();
    reversed.send(&[&[0, 0, 0, length as u8], &hello[4..]].concat());
    assert_eq!(reversed.expect(ANSWER).u32(4), 1, "a big-endian length was taken");
    let _ = server.shut_down();
}

// ---- "the accept loop serves one connection at a time, and one bad handshake ends the server" ----

#[test]
fn connections_are_served_at_once_and_a_bad_handshake_ends_nothing() {
    let house = House::new(Tokio::threads());
    let path = house.world.sockets().path();
    house.run(async {
        let first = house.module("alice").await;
        // Some say nothing, some say half a word, some say nonsense, some go away.
        let silent: Vec<_> = (0..20).map(|_| RawPeer::connect(&path)).collect();
        let mut halves: Vec<_> = (0..20).map(|_| RawPeer::connect(&path)).collect();
        halves.iter_mut().for_each(|peer| peer.send(&[9, 0]));
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[255; 64], &[0; 64], &request(1, 3, &[]), b""] {
            let mut peer = RawPeer::connect(&path);
            peer.send(garbage);
            peer.end_writing();
            peer.rest();
        }
        // None of them made the next one wait, and the first one is still there.
        let next = house.module("bob").await;
        assert_eq!(next.get_block_height().await, Ok(HEIGHT));
        assert_eq!(first.get_block_height().await, Ok(HEIGHT));
        assert!(house.node.handshakes() >= 40, "somebody who said nothing was dropped");
        drop((silent, halves));
    });
}

// ---- "a denied permission or a failed request disconnects the module instead of answering it" ----

#[test]
fn denied_and_failed_requests_are_answered_and_the_connection_is_kept() {
    let server = Server::start();
    let (mut peer, _) = server.peer();
    peer.greet(&seed_hello("poor"));
    let hash = [7; 32];
    for (id, number, fields, code) in [
        (1, 5, [&hash[..], &[0; 4]].concat(), ErrorCode::PermissionDenied),
        (2, 1, hash.to_vec(), ErrorCode::PermissionDenied),
        (3, 13, 0_u64.to_le_bytes().to_vec(), ErrorCode::PermissionDenied),
        (4, 6, event_types(&[0]), ErrorCode::PermissionDenied),
    ] {
        peer.send(&request(id, number, &fields));
        let answer = peer.expect(RESPONSE);
        assert!(answer.id() == id && answer.is_error(code.number()), "{}", answer.text());
    }
    assert!(peer.is_served(5));

    let (mut rich, _) = server.peer();
    rich.greet(&seed_hello("bob"));
    for (id, number, fields, code) in [
        (1, 1, hash.to_vec(), ErrorCode::Internal),
        (2, 9, Vec::new(), ErrorCode::Unsupported),
        (3, 1, hash[..31].to_vec(), ErrorCode::InvalidRequest),
        (4, 77, Vec::new(), ErrorCode::UnknownRequest),
    ] {
        rich.send(&request(id, number, &fields));
        let answer = rich.expect(RESPONSE);
        assert!(answer.id() == id && answer.is_error(code.number()), "{}", answer.text());
    }
    assert!(rich.is_served(5));
    let _ = server.shut_down();
}

// ---- "identity is self-declared; grants are stored under the name and looked up under the id" ----

#[test]
fn identity_is_not_self_declared_and_grants_apply_to_whom_they_were_given() {
    let house = House::new(Tokio::one_thread());
    house.run(async {
        // Both ask for everything. What they get is the operator's decision, under the id by which they are admitted.
        let poor = house.module("poor").await;
        let rich = house.module("bob").await;
        assert_eq!(poor.grants(), CapabilitySet::of(&[Capability::ReadChainState]));
        assert_eq!(rich.grants(), CapabilitySet::ALL);
        let transaction = || modipc_api::RawTransaction::new(vec![1].into());
        assert!(rich.submit_transaction(transaction(), None).await.is_ok());
        assert!(poor.submit_transaction(transaction(), None).await.is_err());
        assert_eq!(poor.get_block_height().await, Ok(HEIGHT));

        // A grant that is given later is found, too.
        let more = CapabilitySet::of(&[Capability::ReadChainState, Capability::SendTransactions]);
        house.node.set_grants("poor", more).unwrap();
        assert_eq!(poor.grants_changed(poor.grants()).await, Some(more));
        assert!(poor.submit_transaction(transaction(), None).await.is_ok());

        // Saying a name proves nothing: without the token that only its owner has, "ticket" is nobody.
        assert!(house.connect(hello("ticket")).await.is_err());
        let token = house.node.issue_token("ticket").unwrap();
        assert!(house.connect(hello("ticket").token(token.as_bytes())).await.is_ok());
    });
}

// ---- "one request at a time per connection; the client fails when an event arrives before its response" ----

#[test]
fn many_requests_at_once_on_one_connection_with_events_before_their_responses() {
    const CALLS: u64 = 200;
    let server = Server::start();
    let (mut peer, _) = server.peer();
    peer.greet(&seed_hello("bob"));
    peer.send(&request(1, SUBSCRIBE_EVENTS, &event_types(&[EventType::HeadersSynced.number()])));
    assert_eq!(peer.expect(RESPONSE).id(), 1);
    for id in 2..2 + CALLS {
        peer.send(&request(id, GET_CHAIN_INFO, &[]));
    }
    block_on(server.api.until_waiting(CALLS as usize));
    for height in 1..=3 {
        server.node.try_publish(&Event::HeadersSynced { height }).unwrap();
        peer.expect(EVENT);
    }
    assert!(peer.is_served(2 + CALLS), "a call behind two hundred that wait");
    server.api.open_gate();
    let mut answered: Vec<u64> = (0..CALLS).map(|_| peer.expect(RESPONSE).id()).collect();
    answered.sort_unstable();
    assert!(answered.into_iter().eq(2..2 + CALLS));
    let _ = server.shut_down();

    // The same with the real client, which has its event before its answer.
    let house = House::new(Tokio::one_thread());
    house.run(async {
        let client = house.module("bob").await;
        let mut events =
            client.subscribe(EventType::HeadersSynced, SubscribeOptions::default()).await.unwrap();
        let calls: Vec<_> = (0..CALLS).map(|_| client.get_chain_info()).collect();
        house.api.until_waiting(CALLS as usize).await;
        let event = Event::HeadersSynced { height: 1 };
        house.node.publish(&event).await.unwrap();
        assert_eq!(events.next().await, Some(Delivery::Event { position: 1, event }));
        house.api.open_gate();
        for call in calls {
            assert_eq!(call.await.unwrap().tip, TIP);
        }
    });
}

// ---- "outgoing queue unbounded: a module that never reads grows the node's memory; no lag notice" ----

/// The process's memory is measured in `bounded_memory.rs`.
#[test]
fn the_outgoing_queue_is_bounded_and_a_lag_is_told() {
    const KEPT: usize = 16;
    let server = Server::with(NodeConfig { events_max: KEPT, ..NodeConfig::default() });
    let (mut peer, _) = server.peer();
    peer.greet(&x1_hello("bob", b""));
    peer.send(&request(1, SUBSCRIBE_EVENTS, &event_types(&[EventType::NodeFault.number()])));
    assert_eq!(peer.expect(RESPONSE).u32(12), 0);
    let published = 2000;
    for n in 1..=published {
        let event = Event::NodeFault { part: n.to_string(), reason: "x".repeat(4000) };
        server.node.try_publish(&event).unwrap();
        let waiting = server.node.modules()[0].outbox_bytes;
        assert!(waiting < 128 << 10, "{waiting} bytes wait after {n} events");
    }
    // Whatever it did not get, it is told of: every position is accounted for.
    let (mut next, mut heard, mut missed) = (1, 0, 0);
    while next <= published {
        let frame = peer.frame().unwrap();
        match frame.kind() {
            EVENT => {
                assert_eq!(frame.id(), next);
                heard += 1;
                next += 1;
            }
            LAGGED => {
                assert_eq!(frame.u64(12), next);
                missed += frame.u64(20) + 1 - next;
                next = frame.u64(20) + 1;
            }
            other => panic!("a frame of kind {other}"),
        }
    }
    assert!(heard >= KEPT as u64 && missed > 0, "heard {heard}, missed {missed}");
    let _ = server.shut_down();
}

// ---- processes ----

type Pairs = Box<dyn Fn() -> std::io::Result<(Transport, std::os::fd::OwnedFd)> + Send + Sync>;
type Transport = UdsTransport<modipc_transport_uds::TokioRuntime>;

fn launcher(world: &Tokio) -> ProcessLauncher<impl ConnectionPairs + use<>> {
    let runtime = world.tokio().clone();
    let pairs: Pairs = Box::new(move || {
        let (ours, theirs) = socketpair_for_child()?;
        Ok((UdsTransport::new(&runtime, ours)?, theirs))
    });
    ProcessLauncher::new(pairs)
}

fn puppet(role: &str) -> ModuleSpec {
    let mut spec = ModuleSpec::new("puppet", env!("CARGO_BIN_EXE_puppet"));
    spec.config = BTreeMap::from([("role".to_owned(), role.to_owned())]);
    spec.grants = CapabilitySet::of(&[Capability::ReadChainState]);
    spec
}

/// Starts a module, and waits until it is admitted.
async fn launched(house: &House<Tokio>, spec: &ModuleSpec) -> RunningModule {
    let running = house.node.launch(&launcher(&house.world), spec).await.unwrap();
    running.connection().wait_admitted().await.unwrap();
    running
}

/// What the module returns when it is asked.
async fn returned(house: &House<Tokio>, invocation: &Invocation) -> Bytes {
    match house.node.invoke("puppet", invocation, PATIENCE_S * SECOND).await.unwrap() {
        InvocationResult::Success(returned) => returned,
        other => panic!("{invocation:?}: {other:?}"),
    }
}

fn method(name: &str) -> Invocation {
    Invocation::Call { method: name.into(), params: Vec::new().into() }
}

// ---- "health check asks the node and not the module" ----

#[test]
fn health_is_asked_of_the_module_itself() {
    let house = House::new(Tokio::one_thread());
    house.run(async {
        let running = launched(&house, &puppet("")).await;
        let report = HealthReport::decode(&returned(&house, &Invocation::Health).await).unwrap();
        assert_eq!(report.status, HealthStatus::Degraded);
        assert!(report.detail.contains(&format!("pid {}", running.pid().unwrap())), "{}", report.detail);
        // A module that does not answer is not healthy, and costs the node nothing but the time that it allowed.
        let silent = house.node.invoke("puppet", &method("silence"), SECOND / 10).await;
        match silent {
            Err(InvokeError::Call { source: CallError::DeadlineExceeded, .. }) => {}
            // Its own clock was faster: the connection's task gave the call up.
            Ok(InvocationResult::Error(error)) => assert_eq!(error.code, ErrorCode::DeadlineExceeded),
            other => panic!("{other:?}"),
        }
        let gone = house.node.invoke("nobody", &Invocation::Health, SECOND).await;
        assert!(matches!(gone, Err(InvokeError::NotConnected(_))));
        running.stop(1);
        running.ended().await;
    });
}

// ---- "stop is SIGKILL" ----

#[test]
fn stopping_is_a_goodbye_first_and_then_a_signal_that_can_be_caught() {
    let data = tempfile::tempdir().unwrap();
    let house = House::new(Tokio::one_thread());
    house.run(async {
        let mut obedient = puppet("");
        obedient.data_dir = Some(data.path().join("obedient"));
        let running = launched(&house, &obedient).await;
        running.stop(1);
        let ended = running.ended().await;
        assert_eq!(ended.exit, Some(Exit::Code(0)));
        assert!(matches!(ended.connection, Some(CloseReason::Drained { reason: 1, .. })), "{ended:?}");
        assert_eq!(said(&data.path().join("obedient")), "the operator stops this module");

        let mut stubborn = puppet("stubborn");
        stubborn.data_dir = Some(data.path().join("stubborn"));
        stubborn.grace_us = SECOND / 5;
        let running = launched(&house, &stubborn).await;
        running.stop(1);
        let ended = running.ended().await;
        assert_eq!(
            ended.exit,
            Some(Exit::Signal { signal: 15, core_dumped: false }),
            "SIGTERM before SIGKILL"
        );
        assert_eq!(
            said(&data.path().join("stubborn")),
            "the operator stops this module",
            "it was told first"
        );
    });
}

/// What the module noted of the goodbye that it heard.
fn said(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("goodbye")).unwrap()
}

// ---- "no restart" ----

#[test]
fn a_module_killed_in_mid_call_disturbs_nobody_and_can_be_started_again() {
    let house = House::new(Tokio::one_thread());
    house.run(async {
        let other = house.module("alice").await;
        let running = launched(&house, &puppet("caller")).await;
        house.api.until_waiting(1).await;
        running.kill();
        let ended = running.ended().await;
        assert_eq!(ended.exit, Some(Exit::Signal { signal: 9, core_dumped: false }));
        // Its call is gone with it; the others are served, and its name is free.
        house.api.until_waiting(0).await;
        assert_eq!(other.get_block_height().await, Ok(HEIGHT));
        let again = launched(&house, &puppet("caller")).await;
        house.api.until_waiting(1).await;
        assert_ne!(again.pid(), running.pid());
        house.api.open_gate();
        house.api.until_waiting(0).await;
        again.stop(1);
        assert_eq!(again.ended().await.exit, Some(Exit::Code(0)));
        assert_eq!(other.get_block_height().await, Ok(HEIGHT));
    });
}

// ---- "no reconnect" ----

#[test]
fn a_module_attached_by_hand_connects_again_and_goes_on_where_it_was() {
    let house = House::new(Tokio::one_thread());
    house.run(async {
        let token = house.node.issue_token("ticket").unwrap();
        let client = house.connect(hello("ticket").token(token.as_bytes())).await.unwrap();
        let height = |height| Event::HeadersSynced { height };
        let mut events =
            client.subscribe(EventType::HeadersSynced, SubscribeOptions::default()).await.unwrap();
        for n in 1..=3 {
            house.node.publish(&height(n)).await.unwrap();
        }
        for n in 1..=2 {
            assert_eq!(events.next().await, Some(Delivery::Event { position: n, event: height(n) }));
        }
        let resume = Some(events.cursor());
        let next = client.host().next_token.clone();
        drop(events);
        client.close(0, "back in a moment").await;
        house.node.publish(&height(4)).await.unwrap();
        while !house.node.modules().is_empty() {
            yield_now().await;
        }

        let client = house.connect(hello("ticket").token(next)).await.unwrap();
        let options = SubscribeOptions { resume, overflow: Overflow::Lag };
        let mut events = client.subscribe(EventType::HeadersSynced, options).await.unwrap();
        for n in 3..=4 {
            let expected = Delivery::Event { position: n, event: height(n) };
            assert_eq!(events.next().await, Some(expected), "nothing was lost or doubled");
        }
    });
}

// ---- "child's stdout/stderr are piped and never read: the module hangs after about 64 KiB" ----

#[test]
fn what_a_module_prints_is_drained_into_the_log() {
    let notes = Notes::default();
    tracing::dispatcher::with_default(&notes.dispatch(), || {
        let house = House::new(Tokio::one_thread());
        house.run(async {
            // It prints 300 KiB on each stream before it connects: if nobody read them, it would never be admitted.
            let running = launched(&house, &puppet("printer")).await;
            running.stop(1);
            assert_eq!(running.ended().await.exit, Some(Exit::Code(0)));
        });
        for stream in ["stdout", "stderr"] {
            let _ = notes.wait_for(&format!("{:01024} module=\"puppet\" stream=\"{stream}\"", 299));
            let of_stream = |text: &str| text.ends_with(&format!("stream=\"{stream}\""));
            let all = notes.all();
            let lines = all.iter().filter(|note| note.target == LOG_TARGET && of_stream(&note.text));
            assert_eq!(lines.count(), 300, "{stream}");
        }
    });
}

// ---- "environment inherited (node secrets leak)" ----

#[test]
fn a_module_sees_nothing_of_the_hosts_environment() {
    let data = tempfile::tempdir().unwrap();
    let house = House::new(Tokio::one_thread());
    house.run(async {
        let mut spec = puppet("");
        spec.data_dir = Some(data.path().join("data"));
        let running = launched(&house, &spec).await;
        let lines = String::from_utf8(returned(&house, &method("environment")).await.to_vec()).unwrap();
        let names: Vec<_> = lines.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        let told = ["DATA_DIR", "MODIPC_FD", "MODULE_CONFIG_ROLE", "MODULE_ID", "MODULE_NAME"];
        assert_eq!(sorted, told);
        // The host has an environment that could have leaked.
        assert!(std::env::vars().any(|(name, _)| name == "CARGO_MANIFEST_DIR"));
        running.stop(1);
        running.ended().await;
    });
}
