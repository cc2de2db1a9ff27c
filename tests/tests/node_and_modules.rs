//! The real node and the real module client together: in memory under virtual time, and over real sockets on tokio and smol.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::future::poll_fn;
use std::io::{IoSlice, IoSliceMut};
use std::pin::pin;
use std::time::Duration;

use futures_lite::future::{or, poll_once, zip};
use modipc_api::{
    BlockHash, Capability, CapabilitySet, ErrorCode, Event, EventType, ModuleError, OutPoint, Txid,
};
use modipc_core::{CloseReason, Config, Limits, SubscribeOptions};
use modipc_driver::{PollRead as _, PollWrite, Transport};
use modipc_module::{Client, Delivery, EventStream, State};
use modipc_node::NodeConfig;
use modipc_tests::house::{House, hello};
use modipc_tests::node::{HEIGHT, TIP};
use modipc_tests::raw::{
    CREDIT, GET_BLOCK_BY_HEIGHT, GET_CHAIN_INFO, PING, PONG, RESPONSE, request, with_id, x1_hello,
};
use modipc_tests::server::Server;
use modipc_tests::world::{Memory, World};
use modipc_tests::{SECOND, everywhere};
use modipc_transport_mem::{LinkConfig, Sizes};

everywhere! {
    a_slow_request_does_not_delay_a_fast_one,
    requests_of_one_connection_run_at_once,
    a_denial_leaves_the_connection_usable,
    after_a_timeout_the_connection_stays_active,
    an_event_may_arrive_before_a_response,
    every_subscriber_gets_every_event_in_order,
    a_block_and_a_transaction_travel_whole,
    a_module_dropped_in_mid_call_does_not_disturb_others,
    node_shutdown_never_waits_for_a_dead_module,
}

/// Whether the connection still serves calls.
async fn is_usable(client: &Client) -> bool {
    client.state() == State::Active && client.get_block_height().await == Ok(HEIGHT)
}

fn height(height: u64) -> Event {
    Event::HeadersSynced { height }
}

async fn heights(client: &Client) -> EventStream {
    client.subscribe(EventType::HeadersSynced, SubscribeOptions::default()).await.unwrap()
}

fn a_slow_request_does_not_delay_a_fast_one(world: impl World) {
    let house = House::new(world);
    house.run(async {
        let client = house.module("alice").await;
        let mut slow = pin!(client.get_chain_info());
        house.api.until_waiting(1).await;
        for _ in 0..100 {
            assert_eq!(client.get_block_height().await, Ok(HEIGHT));
        }
        assert!(
            poll_once(slow.as_mut()).await.is_none(),
            "it was answered although the node does not know yet"
        );
        house.api.open_gate();
        assert_eq!(slow.await.unwrap().tip, TIP);
    });
}

fn requests_of_one_connection_run_at_once(world: impl World) {
    const CALLS: usize = 300;
    let house = House::new(world);
    house.run(async {
        let client = house.module("alice").await;
        let calls: Vec<_> = (0..CALLS).map(|_| client.get_chain_info()).collect();
        // Only if all are being served at the same time do all get to the gate.
        house.api.until_waiting(CALLS).await;
        assert_eq!(house.node.modules()[0].calls_open, CALLS);
        house.api.open_gate();
        for call in calls {
            assert_eq!(call.await.unwrap().tip, TIP);
        }
    });
}

fn a_denial_leaves_the_connection_usable(world: impl World) {
    let house = House::new(world);
    house.run(async {
        let client = house.module("poor").await;
        assert_eq!(client.grants(), CapabilitySet::of(&[Capability::ReadChainState]));
        let outpoint = OutPoint { txid: Txid::from_bytes([0; 32]), vout: 0 };
        let denied = client.get_utxo(outpoint).await.unwrap_err();
        let Some(ModuleError::PermissionDenied { missing, .. }) = denied.module_error() else {
            panic!("{denied}");
        };
        assert_eq!(*missing, CapabilitySet::of(&[Capability::ReadUtxo]));
        assert!(denied.to_string().contains("ReadUTXO"), "{denied}");
        let subscription = client.subscribe(EventType::NewBlock, SubscribeOptions::default()).await;
        assert!(matches!(
            subscription.unwrap_err().module_error(),
            Some(ModuleError::PermissionDenied { missing, .. })
                if *missing == CapabilitySet::of(&[Capability::SubscribeEvents])
        ));
        assert!(is_usable(&client).await);
        assert_eq!(house.node.modules()[0].counts.denials, 2);
    });
}

fn after_a_timeout_the_connection_stays_active(world: impl World) {
    let house = House::new(world);
    house.run(async {
        let client = house.module("alice").await;
        let late = client.with_deadline(Duration::from_millis(1)).get_chain_info().await.unwrap_err();
        assert!(
            matches!(late.module_error(), Some(ModuleError::Timeout { deadline_us: 1000, .. })),
            "{late}"
        );
        // The node stops the work: by its own clock, or because it is told.
        house.api.until_waiting(0).await;
        assert!(is_usable(&client).await);
        assert_eq!(house.node.modules()[0].counts.given_up, 1);
        house.api.open_gate();
        assert_eq!(
            client.get_chain_info().await.unwrap().tip,
            TIP,
            "the late answer was taken for another call's"
        );
    });
}

fn an_event_may_arrive_before_a_response(world: impl World) {
    let house = House::new(world);
    house.run(async {
        let client = house.module("alice").await;
        let mut events = heights(&client).await;
        let mut call = pin!(client.get_chain_info());
        house.api.until_waiting(1).await;
        let position = house.node.publish(&height(7)).await.unwrap();
        let delivery = events.next().await;
        assert_eq!(delivery, Some(Delivery::Event { position, event: height(7) }));
        assert!(poll_once(call.as_mut()).await.is_none());
        house.api.open_gate();
        assert_eq!(call.await.unwrap().tip, TIP);
    });
}

fn every_subscriber_gets_every_event_in_order(world: impl World) {
    const EVENTS: u64 = 500;
    let house = House::new(world);
    house.run(async {
        let mut streams = Vec::new();
        for module in ["alice", "bob", "carol"] {
            streams.push(heights(&house.module(module).await).await);
        }
        let publish = async {
            for n in 1..=EVENTS {
                assert_eq!(house.node.publish(&height(n)).await, Ok(n));
            }
        };
        let read = async {
            for n in 1..=EVENTS {
                for stream in &mut streams {
                    let expected = Delivery::Event { position: n, event: height(n) };
                    assert_eq!(stream.next().await, Some(expected));
                }
            }
        };
        zip(publish, read).await;
    });
}

fn a_block_and_a_transaction_travel_whole(world: impl World) {
    const BYTES: usize = 4 << 20;
    let house = House::new(world);
    house.run(async {
        let client = house.module("alice").await;
        let down = client.get_block_by_height(BYTES as u64);
        let raw = modipc_api::RawTransaction::new(vec![0x7a; BYTES].into());
        let up = client.submit_transaction(raw, None);
        let (block, txid) = zip(down, up).await;
        let block = block.unwrap().unwrap();
        assert_eq!(block.raw.as_bytes().len(), BYTES);
        assert!(block.raw.as_bytes().iter().all(|byte| *byte == 0xb1));
        assert_eq!(txid.unwrap().as_bytes()[..8], (BYTES as u64).to_le_bytes());
        assert!(is_usable(&client).await);
    });
}

/// On a link that holds little at a time, so that the block is certainly in flight.
#[test]
fn a_ping_is_answered_while_a_4_mb_block_is_in_flight() {
    const BYTES: u64 = 4 << 20;
    let kib64 = std::num::NonZeroUsize::new(64 << 10).unwrap();
    let mut link = LinkConfig { capacity_bytes: kib64, ..LinkConfig::default() };
    link.second.reads = Sizes::Fixed(kib64);
    let house = House::new(Memory::with_links(1, link));
    house.run(async {
        let client = house.module("alice").await;
        let block = async { Err(client.get_block_by_height(BYTES).await) };
        let ping = async { Ok(client.ping().await) };
        let mut block = pin!(block);
        assert!(poll_once(block.as_mut()).await.is_none());
        match or(block.as_mut(), ping).await {
            Ok(pong) => assert!(pong.is_ok(), "{pong:?}"),
            Err(_) => panic!("the block came first"),
        }
        assert_eq!(block.await.unwrap_err().unwrap().unwrap().raw.as_bytes().len() as u64, BYTES);
    });
}

/// On a real socket, by a peer that begins to read the block, asks, and reads on as fast as it can. The node may have written
/// ahead what the socket holds, and then goes on for some fragments before it looks at what arrived.
#[test]
fn a_ping_is_answered_while_a_4_mb_block_is_in_flight_on_a_socket() {
    const BYTES: usize = 4 << 20;
    let server = Server::start();
    let (mut peer, _) = server.peer();
    peer.greet(&x1_hello("bob", b""));
    // More than once: whether the node is found writing or waiting is a matter of timing.
    for call in 1..=12 {
        peer.send(&request(call, GET_BLOCK_BY_HEIGHT, &(BYTES as u64).to_le_bytes()));
        let first = peer.expect(RESPONSE);
        let nonce = 1000 + call;
        peer.send(&with_id(u32::from(PING), nonce, &[]));
        let (mut before, mut after) = (first.0.len(), 0);
        let mut answered = false;
        while before + after < BYTES {
            let frame = peer.frame().unwrap();
            match frame.kind() {
                PONG => {
                    assert_eq!((frame.id(), answered), (nonce, false));
                    answered = true;
                }
                RESPONSE if answered => after += frame.0.len(),
                RESPONSE => before += frame.0.len(),
                other => panic!("a frame of kind {other}"),
            }
        }
        assert!(answered && before < 1 << 20, "{before} bytes came before the Pong, {after} after it");
        peer.send(&with_id(u32::from(CREDIT), 0, &credit(call, BYTES)));
    }
    let _ = server.shut_down();
}

/// The credit for one block more than was received.
fn credit(received: u64, bytes: usize) -> [u8; 8] {
    // A block's body is its bytes, a hash, and some numbers.
    (Limits::DEFAULT.credit_bytes + received * (bytes as u64 + 64)).to_le_bytes()
}

fn a_module_dropped_in_mid_call_does_not_disturb_others(world: impl World) {
    let house = House::new(world);
    house.run(async {
        let client = house.module("alice").await;
        let mut events = heights(&client).await;
        let mut call = pin!(client.get_chain_info());
        // Its connection is gone from one moment to the next, with a call open and half a frame on its way.
        let bob = mute(&house, "bob", &request(1, GET_CHAIN_INFO, &[])).await;
        house.api.until_waiting(2).await;
        drop(bob);
        house.api.until_waiting(1).await;

        assert!(is_usable(&client).await);
        let position = house.node.publish(&height(1)).await.unwrap();
        assert_eq!(events.next().await, Some(Delivery::Event { position, event: height(1) }));
        assert!(poll_once(call.as_mut()).await.is_none());
        house.api.open_gate();
        assert_eq!(call.await.unwrap().tip, TIP);
        // Its name is free again.
        assert!(is_usable(&house.module("bob").await).await);
    });
}

/// Longer than anything that lives needs here, and much shorter than anybody would wait.
const GRACE_US: u64 = SECOND / 2;

fn node_shutdown_never_waits_for_a_dead_module(world: impl World) {
    let house = House::new(world);
    house.run(async {
        // One that neither reads nor says goodbye, one that has not introduced itself, one whose call never ends.
        let _dead = mute(&house, "bob", &[]).await;
        let _silent = house.world.knock();
        let busy = house.module("carol").await;
        let endless = busy.get_chain_info();
        house.api.until_waiting(1).await;
        let alive = house.module("alice").await;

        let runtime = house.world.runtime();
        let before = runtime.now();
        let report = house.node.shutdown(1, "going down", GRACE_US).await;
        let took = runtime.now() - before;
        assert!((GRACE_US..20 * GRACE_US).contains(&took), "it took {took} us");
        assert_eq!(report.drained, ["alice".into()], "{report:?}");
        let mut aborted = report.aborted.clone();
        aborted.sort();
        assert_eq!(aborted, ["bob".into(), "carol".into()], "{report:?}");
        let drained = alive.wait_closed().await;
        assert!(matches!(drained, CloseReason::Drained { reason: 1, .. }), "{drained}");
        assert_eq!(alive.draining_seen().unwrap().detail, "going down");
        assert!(endless.await.is_err());
    });
}

/// A module that is admitted, sends some bytes and the beginning of a frame, and then does nothing: not even read.
async fn mute<W: World>(house: &House<W>, module_id: &str, bytes: &[u8]) -> Halves<W> {
    let (mut reader, mut writer) = house.world.knock().split();
    write(&mut writer, &x1_hello(module_id, b"")).await;
    // The first byte of the node's answer: it is admitted.
    let mut byte = [0];
    let read = poll_fn(|cx| reader.poll_read(cx, &mut [IoSliceMut::new(&mut byte)])).await;
    assert_eq!(read.unwrap(), 1);
    write(&mut writer, bytes).await;
    write(&mut writer, &[200, 0, 0]).await;
    (reader, writer)
}

type Halves<W> =
    (<<W as World>::Transport as Transport>::Reader, <<W as World>::Transport as Transport>::Writer);

async fn write(writer: &mut impl PollWrite, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let n = poll_fn(|cx| writer.poll_write(cx, &[IoSlice::new(bytes)])).await.unwrap();
        bytes = &bytes[n..];
    }
}

/// A limit that only concerns the size of an answer.
#[test]
fn an_answer_that_is_too_long_for_the_module_is_an_error_and_no_more() {
    let house = House::with(Memory::new(), NodeConfig::default());
    house.run(async {
        let limits = Limits { body_bytes_max: 1 << 20, credit_bytes: 1 << 20, ..Limits::DEFAULT };
        let small = hello("alice").config(Config { limits, ..Config::DEFAULT });
        let client = house.connect(small).await.unwrap();
        let error = client.get_block_by_height(2 << 20).await.unwrap_err();
        assert!(matches!(error.module_error(), Some(ModuleError::ResourceExhausted { .. })), "{error}");
        let failed = client.get_block_header(BlockHash::from_bytes([0; 32])).await.unwrap_err();
        assert_eq!(failed.code(), Some(ErrorCode::Internal), "{failed}");
        assert_eq!(client.get_block(BlockHash::from_bytes([0; 32])).await, Ok(None));
        assert!(is_usable(&client).await);
    });
}
