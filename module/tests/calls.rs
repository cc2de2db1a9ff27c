//! Calls, as a module's author and the host see them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test did not expect ends it")]

mod support;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::zip;
use futures_util::FutureExt;
use futures_util::future::join_all;
use modipc_api::{
    BlockAt, Capability, ErrorCode, ErrorInfo, MessageType, ModuleError, Party, RawBlock, RawTransaction,
    Request, Response, ResponseData, Txid,
};
use modipc_core::{Body, CloseReason, Config, Event, Limits, Refused};
use modipc_driver::Runtime;
use modipc_module::{Connect, Error, State};
use support::*;

#[test]
fn any_number_of_calls_from_any_number_of_tasks() {
    const TASKS: u64 = 40;
    const CALLS: u64 = 25;
    const WINDOW: u32 = 8;
    let config = Config { limits: Limits { calls_max: WINDOW, ..Limits::DEFAULT }, ..Config::DEFAULT };
    play_with(Connect::new("watcher", "1.0"), config, async |Stage { runtime, client, mut host }| {
        let answered = Arc::new(Mutex::new(0));
        for task in 0..TASKS {
            let (client, answered) = (client.clone(), Arc::clone(&answered));
            runtime.spawn_named(format!("caller {task}"), async move {
                let calls: Vec<_> =
                    (0..CALLS).map(|call| client.get_block_by_height(task * CALLS + call)).collect();
                for (call, block) in (0..).zip(join_all(calls).await) {
                    let block = block.unwrap().unwrap();
                    assert_eq!(block.hash, hash(task * CALLS + call), "an answer to another call");
                    *answered.lock().unwrap() += 1;
                }
            });
        }
        // As many wait as the window holds; the answers come in the opposite order.
        let mut open = VecDeque::new();
        let mut widest = 0;
        for left in (0..TASKS * CALLS).rev() {
            open.push_back(host.request().await);
            widest = widest.max(open.len());
            while open.len() == WINDOW as usize || (left == 0 && !open.is_empty()) {
                let Some((id, Request::GetBlockByHeight { height })) = open.pop_back() else { panic!() };
                let raw = RawBlock::new(Bytes::from_static(b"block"));
                host.reply(id, ResponseData::BlockByHeight(BlockAt { hash: hash(height), raw })).await;
            }
        }
        assert_eq!(widest, WINDOW as usize);
        // Time passes only when nobody has anything left to do.
        runtime.sleep_until(runtime.now() + SECOND).await;
        assert_eq!(*answered.lock().unwrap(), TASKS * CALLS);
    });
}

#[test]
fn a_call_that_waits_for_room_may_be_dropped_and_its_deadline_holds() {
    let config = Config { limits: Limits { calls_max: 1, ..Limits::DEFAULT }, ..Config::DEFAULT };
    play_with(Connect::new("watcher", "1.0"), config, async |Stage { runtime, client, mut host }| {
        let first = client.get_chain_tip();
        let mut dropped = client.get_block_height();
        let impatient = client.with_deadline(Duration::from_secs(1)).get_chain_info();
        let last = client.get_block_by_height(9);
        assert!((&mut dropped).now_or_never().is_none());
        drop(dropped);
        let begun = runtime.now();
        let error = impatient.await.unwrap_err();
        assert_eq!(runtime.now() - begun, SECOND);
        assert!(matches!(error, Error::Module(ModuleError::Timeout { deadline_us: SECOND, .. })), "{error}");
        let script = async {
            host.give_tip(5).await;
            // Neither of the two in between was ever sent.
            let (id, request) = host.request().await;
            assert_eq!(request, Request::GetBlockByHeight { height: 9 });
            host.reply(id, Response::NotFound).await;
        };
        let ((first, last), ()) = zip(zip(first, last), script).await;
        assert_eq!(first.unwrap().height, 5);
        assert_eq!(last.unwrap(), None);
    });
}

#[test]
fn dropping_a_call_cancels_it_on_the_wire() {
    play(async |Stage { client, mut host, .. }| {
        let reply = client.get_chain_tip();
        let (id, _) = host.request().await;
        drop(reply);
        let Event::CallCancelled(cancelled) = host.event().await else { panic!("no Cancel") };
        assert_eq!(cancelled, id);
        // Its one answer still comes, late, and hurts nobody.
        host.reply(id, tip(1)).await;
        let (next, ()) = zip(client.get_chain_tip(), host.give_tip(2)).await;
        assert_eq!(next.unwrap().height, 2);
    });
}

#[test]
fn after_a_timeout_the_connection_stays_active() {
    play(async |Stage { runtime, client, mut host }| {
        let patient = client.with_deadline(Duration::from_millis(500));
        assert_eq!(patient.deadline(), Duration::from_millis(500));
        let begun = runtime.now();
        let (result, call) = zip(patient.get_chain_tip(), host.served()).await;
        assert_eq!(runtime.now() - begun, 500_000);
        assert!(call.deadline.is_some(), "the host is told how long the module waits");
        let timeout = ModuleError::Timeout {
            module_id: "watcher".into(),
            call: "GetChainTip".into(),
            deadline_us: 500_000,
        };
        assert_eq!(result, Err(Error::Module(timeout)));
        assert_eq!(client.state(), State::Active);
        host.reply(call.id, tip(1)).await;
        let script = async {
            // The host hears of the cancel, and then of the next call.
            while let Event::CallCancelled(_) | Event::CallExpired(_) = match host.event().await {
                Event::Call(call) => {
                    host.reply(call.id, tip(2)).await;
                    return;
                }
                event => event,
            } {}
        };
        let (next, ()) = zip(client.get_chain_tip(), script).await;
        assert_eq!(next.unwrap().height, 2);
    });
}

#[test]
fn an_undecodable_response_becomes_a_protocol_error_and_hurts_only_that_call() {
    play(async |Stage { client, mut host, .. }| {
        let bad = client.get_chain_tip();
        let other = client.get_block_height();
        let missing = client.get_network_stats();
        let good = client.get_chain_tip();
        let script = async {
            let (id, _) = host.request().await;
            host.reply_bytes(id, Body::from(&[0, 0, 0, 0, 3, 0, 0, 0, 1][..])).await;
            let (id, _) = host.request().await;
            host.reply(id, tip(1)).await;
            let (id, _) = host.request().await;
            host.reply(id, Response::NotFound).await;
            host.give_tip(2).await;
        };
        let (((bad, other), (missing, good)), ()) =
            zip(zip(zip(bad, other), zip(missing, good)), script).await;
        for (error, part) in [
            (bad.unwrap_err(), "its answer to GetChainTip: a response does not decode"),
            (other.unwrap_err(), "it answered GetBlockHeight with GetChainTip, which is no answer"),
            (missing.unwrap_err(), "it answered GetNetworkStats with NotFound"),
        ] {
            let Error::Module(ModuleError::ProtocolError { guilty: Party::Host, violation: None, what }) =
                error
            else {
                panic!("{error}");
            };
            assert!(what.starts_with(part), "{what}");
        }
        assert_eq!(good.unwrap().height, 2);
    });
}

#[test]
fn a_denial_names_the_capability_and_leaves_the_connection_usable() {
    each_link(async |runtime, ours, theirs| {
        let mut host = Host::new(&runtime, theirs, Config::DEFAULT);
        let connecting =
            modipc_module::Client::connect(Arc::new(runtime), ours, Connect::new("watcher", "1.0"));
        let (client, ()) = zip(connecting, host.admit(all_but(Capability::SendTransactions))).await;
        let client = client.unwrap();
        assert!(!client.grants().contains(Capability::SendTransactions));
        let raw = RawTransaction::new(Bytes::from_static(b"transaction"));
        let script = async {
            // The host's connection answers the first by itself.
            assert!(matches!(host.event().await, Event::CallDenied(..)));
            host.give_tip(4).await;
        };
        let calls = async { (client.submit_transaction(raw, None).await, client.get_chain_tip().await) };
        let ((denied, tip), ()) = zip(calls, script).await;
        let error = denied.unwrap_err();
        assert!(error.module_error().unwrap().lacks(Capability::SendTransactions), "{error}");
        assert_eq!(tip.unwrap().height, 4);
    });
}

#[test]
fn an_answer_about_the_request_alone_keeps_its_code() {
    play(async |Stage { client, mut host, .. }| {
        let script = async {
            let (id, _) = host.request().await;
            host.reply(id, ErrorInfo::new(ErrorCode::Unsupported, "no peers here")).await;
        };
        let (error, ()) = zip(client.get_network_peers(), script).await;
        let error = error.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::Unsupported));
        let text = "module watcher: the host could not answer GetNetworkPeers: Unsupported: no peers here";
        assert_eq!(error.to_string(), text);
    });
}

#[test]
fn a_submission_carries_its_key_and_gives_the_id() {
    play(async |Stage { client, mut host, .. }| {
        let raw = RawTransaction::new(Bytes::from(vec![3; 40_000]));
        let script = async {
            let call = host.served().await;
            assert_eq!(call.idempotency, Some([9; 16]));
            assert_eq!(Request::decode(&call.body), Ok(Request::SubmitTransaction { raw: raw.clone() }));
            host.reply(call.id, ResponseData::Submitted { txid: Txid::from_bytes([4; 32]) }).await;
        };
        let (txid, ()) = zip(client.submit_transaction(raw.clone(), Some([9; 16])), script).await;
        assert_eq!(txid, Ok(Txid::from_bytes([4; 32])));
    });
}

#[test]
fn every_request_has_a_method_and_the_raw_one_gives_the_answer_as_it_is() {
    play(async |Stage { client, mut host, .. }| {
        let (block, txid) = (hash(1), Txid::from_bytes([2; 32]));
        let outpoint = modipc_api::OutPoint { txid, vout: 3 };
        let raw = RawTransaction::new(Bytes::from_static(b"t"));
        // NotFound answers them all: `None` where that is an answer, a protocol error where it is not.
        let module = async {
            let found = [
                client.get_block(block).await.map(|found| found.is_some()),
                client.get_block_header(block).await.map(|found| found.is_some()),
                client.get_transaction(txid).await.map(|found| found.is_some()),
                client.get_utxo(outpoint).await.map(|found| found.is_some()),
                client.get_block_by_height(7).await.map(|found| found.is_some()),
                client.get_mempool_transaction(txid).await.map(|found| found.is_some()),
            ];
            assert_eq!(found, [const { Ok(false) }; 6]);
            assert!(client.get_chain_tip().await.is_err());
            assert!(client.get_block_height().await.is_err());
            assert!(client.get_mempool_transactions().await.is_err());
            assert!(client.get_network_stats().await.is_err());
            assert!(client.get_network_peers().await.is_err());
            assert!(client.get_chain_info().await.is_err());
            assert!(client.submit_transaction(raw.clone(), None).await.is_err());
            assert_eq!(client.request(Request::GetChainInfo).await, Ok(Response::NotFound));
        };
        let script = async {
            let mut seen = Vec::new();
            for _ in 0..14 {
                let (id, request) = host.request().await;
                seen.push(request);
                host.reply(id, Response::NotFound).await;
            }
            seen
        };
        let ((), seen) = zip(module, script).await;
        let expected = [
            Request::GetBlock { hash: block },
            Request::GetBlockHeader { hash: block },
            Request::GetTransaction { txid },
            Request::GetUtxo { outpoint },
            Request::GetBlockByHeight { height: 7 },
            Request::GetMempoolTransaction { txid },
            Request::GetChainTip,
            Request::GetBlockHeight,
            Request::GetMempoolTransactions,
            Request::GetNetworkStats,
            Request::GetNetworkPeers,
            Request::GetChainInfo,
            Request::SubmitTransaction { raw: raw.clone() },
            Request::GetChainInfo,
        ];
        assert_eq!(seen, expected);
        // With the two of the event stream these are all.
        assert_eq!(MessageType::ALL.len(), expected.len() - 1 + 2);
    });
}

#[test]
fn a_lost_connection_ends_every_call_and_says_whether_it_was_sent() {
    play(async |Stage { client, mut host, .. }| {
        let calls = [client.get_chain_tip(), client.get_chain_tip()];
        host.request().await;
        host.request().await;
        drop(host);
        for call in calls {
            let error = call.await.unwrap_err();
            let Error::Module(ModuleError::ConnectionError { was_sent, .. }) = error else {
                panic!("{error}")
            };
            assert!(was_sent);
        }
        let reason = client.wait_closed().await;
        assert!(matches!(reason, CloseReason::PeerGone | CloseReason::TransportFailed), "{reason}");
        let error = client.get_chain_tip().await.unwrap_err();
        let Error::Module(ModuleError::ConnectionError { was_sent, .. }) = error else { panic!("{error}") };
        assert!(!was_sent);
        assert_eq!(client.state(), State::Closed(reason));
    });
}

#[test]
fn overlapping_pings_are_all_answered() {
    play(async |Stage { client, mut host, .. }| {
        let module = async {
            let pings = zip(client.ping(), client.ping()).await;
            client.get_chain_tip().await.unwrap();
            pings
        };
        let (pings, ()) = zip(module, host.give_tip(1)).await;
        assert!(pings.0.is_ok() && pings.1.is_ok(), "{pings:?}");
        drop(host);
        assert!(matches!(client.ping().await, Err(Error::Module(ModuleError::ConnectionError { .. }))));
    });
}

#[test]
fn closing_waits_for_open_calls_and_refuses_new_ones() {
    play(async |Stage { client, mut host, .. }| {
        let open = client.get_chain_tip();
        let closing = client.close(0, "done");
        let script = async {
            host.give_tip(3).await;
            host.until_closed().await
        };
        let refused = async {
            client.draining().await;
            client.get_chain_tip().await
        };
        let ((reason, tip), (refused, theirs)) = zip(zip(closing, open), zip(refused, script)).await;
        assert!(matches!(reason, CloseReason::Drained { reason: 0, .. }), "{reason}");
        assert!(matches!(theirs, CloseReason::Drained { reason: 0, .. }), "{theirs}");
        assert_eq!(tip.unwrap().height, 3);
        assert!(matches!(refused, Err(Error::Module(ModuleError::ConnectionError { was_sent: false, .. }))));
    });
}

#[test]
fn the_last_handle_says_goodbye() {
    play(async |Stage { client, mut host, .. }| {
        let reply = client.get_chain_tip();
        let other = client.clone();
        drop(client);
        drop(other);
        // A call that is under way is a handle, too.
        let ((), tip) = zip(host.give_tip(6), reply).await;
        assert_eq!(tip.unwrap().height, 6);
        let reason = host.until_closed().await;
        assert!(matches!(reason, CloseReason::Drained { reason: 0, .. }), "{reason}");
    });
}

#[test]
fn in_the_plain_profile_calls_work_and_pings_are_refused() {
    let plain = Config { x1: false, ..Connect::CONFIG };
    let hello = Connect::new("watcher", "1.0").config(plain);
    play_with(hello, Config::DEFAULT, async |Stage { client, mut host, .. }| {
        let (reply, ()) = zip(client.get_chain_tip(), host.give_tip(8)).await;
        assert_eq!(reply.unwrap().height, 8);
        let error = client.ping().await.unwrap_err();
        assert!(error.to_string().contains(&Refused::PlainProfile.to_string()), "{error}");
        let (ours, _) = zip(client.close(0, "done"), host.until_closed()).await;
        assert!(matches!(ours, CloseReason::Drained { .. } | CloseReason::PeerGone), "{ours}");
    });
}
