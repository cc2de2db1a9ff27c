//! Shutting down.

use std::sync::atomic::Ordering;

use modipc_api::{CapabilitySet, Request, Response};
use modipc_core::{CloseReason, Event};
use modipc_driver::Runtime as _;
use modipc_node::ShuttingDown;

use crate::support::{Peer, SECOND, World};

const SHUTDOWN: u32 = 1;

/// A module that behaves: it says goodbye in turn and reads on until the end.
async fn behave(mut peer: Peer) -> CloseReason {
    peer.closed().await
}

#[test]
fn what_runs_is_finished_before_the_connection_closes() {
    let world = World::new();
    world.run(async {
        let mut peer = world.module("a").await;
        let slow = peer.call(&Request::GetBlockByHeight { height: 1000 }).await;
        assert!(peer.is_usable().await);
        let module = async {
            let answer = peer.answer(slow).await;
            (answer, peer.closed().await)
        };
        let shutdown = world.node.shutdown(SHUTDOWN, "test", SECOND);
        let (report, (answer, reason)) = futures_util::future::join(shutdown, module).await;
        assert!(matches!(answer, Response::Success(_)), "{answer:?}");
        assert!(matches!(reason, CloseReason::Drained { reason: SHUTDOWN, .. }), "{reason:?}");
        assert_eq!(report.drained, ["a".into()]);
        assert!((1000..SECOND).contains(&world.runtime.now()));
    });
}

#[test]
fn shutdown_never_waits_for_a_dead_module() {
    let world = World::new();
    world.run(async {
        // One that is there and does not react, one whose call never ends, one that is gone, one that said nothing.
        let dead = world.module("dead").await;
        let mut busy = world.module("busy").await;
        busy.call(&Request::GetChainInfo).await;
        assert!(busy.is_usable().await);
        drop(world.module("gone").await);
        let (_silent, silent) = world.inherited("silent", CapabilitySet::ALL);
        let good = world.module("good").await;

        let module = async { futures_util::future::join(behave(good), behave(busy)).await };
        let shutdown = world.node.shutdown(SHUTDOWN, "test", SECOND);
        let (report, (good, _)) = futures_util::future::join(shutdown, module).await;
        assert!(matches!(good, CloseReason::Drained { .. }), "{good:?}");
        assert!(report.drained.contains(&"good".into()), "{report:?}");
        let mut aborted = report.aborted.clone();
        aborted.sort();
        assert_eq!(aborted, ["busy".into(), "dead".into()], "{report:?}");
        assert_eq!(report.handshakes, 1);
        assert!(silent.closed().is_some());
        assert!((SECOND..SECOND + 1000).contains(&world.runtime.now()), "{}", world.runtime.now());
        drop(dead);
    });
    let left = world.sim.run_until_idle().unwrap();
    assert!(left.is_empty(), "tasks are left: {left:?}");
    assert!(world.node.modules().is_empty());
    assert_eq!(world.pending.load(Ordering::SeqCst), 0);
}

#[test]
fn nobody_is_admitted_after_that() {
    let world = World::new();
    world.run(async {
        let (mut waiting, _) = world.inherited("late", CapabilitySet::ALL);
        let report = world.node.shutdown(SHUTDOWN, "test", SECOND).await;
        assert_eq!(world.runtime.now(), 0, "there was nobody to wait for");
        assert_eq!(report.handshakes, 1);
        waiting.write_raw(&[1]).await;
        assert!(matches!(waiting.closed().await, CloseReason::PeerGone | CloseReason::TransportFailed));
        let (_, ours) = world.runtime.link(&Default::default());
        let identity = modipc_node::PeerIdentity::Inherited {
            module_id: "x".into(),
            grants: CapabilitySet::ALL,
            requires: CapabilitySet::EMPTY,
        };
        assert!(matches!(world.node.attach(ours, identity), Err(ShuttingDown)));
    });
}

#[test]
fn a_module_is_told_why_and_where_to_resume() {
    let world = World::new();
    world.run(async {
        let mut peer = world.module("a").await;
        peer.subscribe(&[modipc_api::EventType::HeadersSynced], Default::default()).await;
        world.node.publish(&crate::support::height_event(1)).await.unwrap();
        assert_eq!(peer.node_event().await.0, 1);
        let module = async {
            let told = peer.event().await;
            (told, peer.closed().await)
        };
        let shutdown = world.node.shutdown(SHUTDOWN, "back in a minute", SECOND);
        let (_, (told, _)) = futures_util::future::join(shutdown, module).await;
        let Event::Draining { reason, resume, detail, .. } = told else { panic!("{told:?}") };
        assert_eq!((reason, resume, detail.as_str()), (SHUTDOWN, 2, "back in a minute"));
    });
}
