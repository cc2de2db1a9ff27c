//! Calls: concurrency, denials, panics, cancellation.

use std::sync::atomic::Ordering;

use modipc_api::{
    BlockHash, Capability, CapabilitySet, ErrorCode, Invocation, InvocationResult, Request, Response,
    ResponseData,
};
use modipc_core::{Body, CallOptions, Config, Event, Limits, Outcome};
use modipc_driver::Runtime as _;
use modipc_node::{InvokeError, NodeConfig};

use crate::support::{HEIGHT, Peer, SECOND, World, options, without};

fn code(response: &Response) -> Option<ErrorCode> {
    match response {
        Response::Error(error) => Some(error.code),
        Response::Success(_) | Response::NotFound => None,
    }
}

#[test]
fn a_slow_request_does_not_delay_a_fast_one() {
    let world = World::new();
    world.run(async {
        let mut peer = world.module("a").await;
        let slow = peer.call(&Request::GetBlockByHeight { height: SECOND }).await;
        let fast = peer.call(&Request::GetBlockHeight).await;
        let response = peer.answer(fast).await;
        assert_eq!(response, Response::Success(ResponseData::BlockHeight(HEIGHT)));
        assert!(world.runtime.now() < SECOND, "the fast one was answered at {}", world.runtime.now());
        assert!(matches!(peer.answer(slow).await, Response::Success(ResponseData::BlockByHeight(_))));
        assert!(world.runtime.now() >= SECOND);
    });
}

#[test]
fn many_slow_requests_run_side_by_side() {
    let world = World::new();
    world.run(async {
        let mut peer = world.module("a").await;
        let mut keys = Vec::new();
        for _ in 0..500 {
            keys.push(peer.call(&Request::GetBlockByHeight { height: 1000 }).await);
        }
        for key in keys {
            assert_eq!(code(&peer.answer(key).await), None);
        }
        assert!(world.runtime.now() < 2 * 1000, "they took turns: {}", world.runtime.now());
    });
}

#[test]
fn a_denial_names_the_capability_and_leaves_the_connection_usable() {
    let world = World::new();
    world.run(async {
        let mut peer = world.module_with("a", without(Capability::ReadUtxo)).await;
        let outpoint = modipc_api::OutPoint { txid: modipc_api::Txid::from_bytes([0; 32]), vout: 0 };
        for _ in 0..2 {
            let Response::Error(error) = peer.ask(&Request::GetUtxo { outpoint }).await else {
                panic!("served without the capability");
            };
            assert_eq!(error.code, ErrorCode::PermissionDenied);
            assert_eq!(error.missing_capabilities(), CapabilitySet::of(&[Capability::ReadUtxo]));
        }
        assert!(peer.is_usable().await);
        let counts = world.node.modules()[0].counts;
        assert_eq!((counts.denials, counts.calls), (2, 1));
    });
}

#[test]
fn a_handler_that_panics_answers_error_and_hurts_nobody() {
    let world = World::new();
    world.run(async {
        let mut other = world.module("other").await;
        let slow = other.call(&Request::GetBlockByHeight { height: 100 }).await;
        let mut peer = world.module("a").await;
        let mine = peer.call(&Request::GetBlockByHeight { height: 100 }).await;
        for request in [Request::GetChainTip, Request::GetMempoolTransactions] {
            let response = peer.ask(&request).await;
            assert_eq!(code(&response), Some(ErrorCode::Internal), "{response:?}");
            let Response::Error(error) = response else { unreachable!() };
            assert!(!error.message.contains("fire"), "the module need not know: {error}");
        }
        assert_eq!(code(&peer.answer(mine).await), None, "another call of the same connection");
        assert_eq!(code(&other.answer(slow).await), None, "another connection");
        assert!(peer.is_usable().await);
        let counts = world.node.modules()[0].counts;
        assert_eq!((counts.panics, counts.errors), (2, 2));
    });
}

#[test]
fn a_handler_that_panics_when_it_is_given_up_hurts_nobody_either() {
    let world = World::new();
    world.run(async {
        let mut peer = world.module("a").await;
        let slow = peer.call(&Request::GetBlockByHeight { height: 100 }).await;
        let bomb = peer.call(&Request::GetNetworkStats).await;
        peer.connection.cancel(world.runtime.now(), modipc_core::CallId(2)).unwrap();
        peer.flush().await;
        assert!(matches!(peer.outcome(bomb).await, Outcome::Cancelled));
        assert_eq!(code(&peer.answer(slow).await), None);
        assert_eq!(world.node.modules()[0].counts.panics, 1);
        // Another one goes off with the connection.
        peer.call(&Request::GetNetworkStats).await;
        assert!(peer.is_usable().await);
        drop(peer);
        let mut other = world.module("b").await;
        while world.node.modules().len() > 1 {
            assert!(other.is_usable().await);
        }
    });
}

#[test]
fn a_request_that_does_not_decode_is_answered_and_the_connection_stays() {
    let world = World::new();
    world.run(async {
        let mut peer = world.module("a").await;
        let cases: [(&[u8], ErrorCode); 5] = [
            (&[], ErrorCode::InvalidRequest),
            (&[3, 0, 0, 0, 4, 0, 0, 0], ErrorCode::InvalidRequest),
            (&[3, 0, 0, 0, 3, 0, 0, 0, 9], ErrorCode::InvalidRequest),
            (&[99, 0, 0, 0, 99, 0, 0, 0], ErrorCode::UnknownRequest),
            (&[6, 0, 0, 0, 6, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255], ErrorCode::InvalidRequest),
        ];
        for (body, expected) in cases {
            let key = peer.call_raw(body, &options()).await;
            let response = peer.answer(key).await;
            assert_eq!(code(&response), Some(expected), "{body:?}: {response:?}");
            if body.get(4) == Some(&4) {
                let Response::Error(error) = response else { unreachable!() };
                assert!(error.message.contains('3') && error.message.contains('4'), "names both: {error}");
            }
        }
        assert!(peer.is_usable().await);
        assert_eq!(world.node.modules()[0].counts.undecodable, 5);
    });
}

#[test]
fn what_the_node_does_not_serve_is_unsupported_and_what_is_not_there_is_not_found() {
    let world = World::new();
    world.run(async {
        let mut peer = world.module("a").await;
        let Response::Error(error) = peer.ask(&Request::GetNetworkPeers).await else { panic!("served") };
        assert_eq!(error.code, ErrorCode::Unsupported);
        assert_eq!(error.details_named("request").collect::<Vec<_>>(), ["GetNetworkPeers"]);
        let hash = BlockHash::from_bytes([0; 32]);
        assert_eq!(peer.ask(&Request::GetBlock { hash }).await, Response::NotFound);
    });
}

#[test]
fn a_call_that_is_given_up_or_expires_stops_the_work() {
    let world = World::new();
    world.run(async {
        let mut peer = world.module("a").await;
        let pending = || world.pending.load(Ordering::SeqCst);
        let gone = peer.call(&Request::GetChainInfo).await;
        assert!(peer.is_usable().await);
        assert_eq!(pending(), 1);
        let id = modipc_core::CallId(1);
        peer.connection.cancel(world.runtime.now(), id).unwrap();
        assert!(matches!(peer.outcome(gone).await, Outcome::Cancelled));
        assert!(peer.is_usable().await);
        assert_eq!(pending(), 0, "the handler was not dropped");

        let options = CallOptions { deadline_us: 1000, ..options() };
        let late = peer.call_with(&Request::GetChainInfo, &options).await;
        // The module itself does not look at the clock: the host does.
        let response = peer.answer(late).await;
        assert_eq!(code(&response), Some(ErrorCode::DeadlineExceeded));
        assert!(world.runtime.now() >= 1000);
        assert!(peer.is_usable().await);
        assert_eq!((pending(), world.node.modules()[0].counts.given_up), (0, 2));
    });
}

#[test]
fn a_connection_that_ends_takes_its_work_with_it() {
    let world = World::new();
    world.run(async {
        let mut peer = world.module("a").await;
        peer.call(&Request::GetChainInfo).await;
        assert!(peer.is_usable().await);
        drop(peer);
        let mut other = world.module("b").await;
        while !world.node.modules().iter().all(|module| *module.module_id == *"b") {
            assert!(other.is_usable().await);
        }
        assert_eq!(world.pending.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn calls_beyond_the_bound_are_answered_busy_at_once() {
    let limits = Limits { calls_max: 4, ..Limits::DEFAULT };
    let connection = Config { limits, ..Config::DEFAULT };
    let world = World::with(NodeConfig { connection, ..NodeConfig::default() });
    world.run(async {
        let (mut peer, _) = world.inherited("a", CapabilitySet::ALL);
        peer.hello("a").await;
        let Event::Accepted(accepted) = peer.event().await else { panic!("refused") };
        assert_eq!(accepted.limits.calls_max, 4);
        // Our own module keeps to what it was told: what exceeds the bound has to be written by hand.
        for _ in 0..4 {
            peer.call(&Request::GetChainInfo).await;
        }
        let frame = request_frame(5, &Request::GetBlockHeight);
        peer.write_raw(&frame).await;
        while world.node.modules()[0].counts.busy == 0 {
            world.runtime.sleep_until(world.runtime.now() + 100).await;
        }
        assert_eq!(world.node.modules()[0].calls_open, 4);
        assert!(peer.connection.is_active());
    });
}

/// A Request frame: in both profiles the same.
fn request_frame(id: u64, request: &Request) -> Vec<u8> {
    let mut body = Vec::new();
    request.encode(&mut body);
    let len = u32::try_from(body.len() + 12).unwrap();
    [&len.to_le_bytes()[..], &0u32.to_le_bytes(), &id.to_le_bytes(), &body].concat()
}

#[test]
fn a_long_answer_arrives_and_one_that_is_too_long_is_an_error() {
    let world = World::new();
    world.run(async {
        let (theirs, ours) = world.runtime.link(&Default::default());
        let identity = modipc_node::PeerIdentity::Inherited {
            module_id: "a".into(),
            grants: CapabilitySet::ALL,
            requires: CapabilitySet::EMPTY,
        };
        world.node.attach(ours, identity).unwrap();
        let limits = Limits { body_bytes_max: 1 << 20, credit_bytes: 1 << 20, ..Limits::DEFAULT };
        let mut peer = Peer::new(world.runtime.clone(), theirs, Config { limits, ..Config::DEFAULT });
        peer.hello("a").await;
        assert!(matches!(peer.event().await, Event::Accepted(_)));
        for (height, fits) in [(1_000_000, true), (2_000_000, false), (900_000, true)] {
            match peer.ask(&Request::GetBlockByHeight { height }).await {
                Response::Success(ResponseData::BlockByHeight(block)) if fits => {
                    assert_eq!(block.raw.as_bytes().len() as u64, height);
                }
                Response::Error(error) if !fits => assert_eq!(error.code, ErrorCode::PayloadTooLarge),
                other => panic!("{height}: {:?}", code(&other)),
            }
        }
    });
}

#[test]
fn grants_are_taken_away_and_given_back_while_the_module_runs() {
    let world = World::new();
    world.run(async {
        let mut peer = world.module("a").await;
        let expect = without(Capability::ReadChainState);
        world.node.set_grants("a", expect).unwrap();
        let Event::GrantsChanged(names) = peer.event().await else { panic!("not told") };
        assert_eq!(names, expect.names());
        let denied = peer.ask(&Request::GetBlockHeight).await;
        assert_eq!(code(&denied), Some(ErrorCode::PermissionDenied));
        world.node.set_grants("a", CapabilitySet::ALL).unwrap();
        assert!(peer.is_usable().await);
        assert!(world.node.set_grants("nobody", CapabilitySet::ALL).is_err());
    });
}

#[test]
fn the_node_calls_into_a_module() {
    let world = World::new();
    world.run(async {
        let mut peer = world.module("a").await;
        let method = || Invocation::Call { method: "echo".into(), params: vec![5; 100].into() };
        let module = async {
            let Event::Call(call) = peer.event().await else { panic!("no call") };
            let Ok(Invocation::Call { params, .. }) = Invocation::decode(&call.body) else {
                panic!("not what was sent");
            };
            let mut body = Vec::new();
            InvocationResult::Success(params).encode(&mut body);
            peer.connection.reply(world.runtime.now(), call.id, Body::from(&body[..])).unwrap();
            peer.flush().await;
        };
        let invocation = method();
        let host = world.node.invoke("a", &invocation, SECOND);
        let (answer, ()) = futures_util::future::join(host, module).await;
        assert_eq!(answer, Ok(InvocationResult::Success(vec![5; 100].into())));

        let silent = world.node.invoke("a", &invocation, SECOND).await;
        assert!(matches!(silent, Err(InvokeError::Call { .. })), "{silent:?}");
        let nobody = world.node.invoke("nobody", &invocation, SECOND).await;
        assert!(matches!(nobody, Err(InvokeError::NotConnected(_))), "{nobody:?}");
        assert!(peer.is_usable().await, "a module that does not answer is not cut off");
    });
}
