//! Everything at once, over links that split, coalesce, delay and stall, on an executor that wakes tasks too early: whatever
//! the seed, every call has its answer and every subscriber has every event.

use futures_util::future::{join, join_all};
use modipc_api::{
    BlockHash, CapabilitySet, ErrorCode, Event as NodeEvent, EventType, Request, Response, ResponseData,
};
use modipc_core::{CloseReason, Config, Event, Overflow, SubscribeOptions};
use modipc_node::{NodeConfig, PeerIdentity, ShutdownReport};
use modipc_transport_mem::LinkConfig;

use crate::support::{HEIGHT, Peer, SECOND, World, height_event};

const MODULES: usize = 4;
const EVENTS: u64 = 60;
const SEEDS: u64 = 60;

#[test]
fn whatever_the_seed_every_call_is_answered_and_every_event_arrives() {
    for seed in 0..SEEDS {
        // A log that is shorter than what is published: the publisher has to wait for its subscribers.
        let config = NodeConfig { events_max: 8, publish_wait_us: 3600 * SECOND, ..NodeConfig::default() };
        let world = World::rough(seed, config);
        let (received, report) = world.run(async {
            let mut modules = Vec::new();
            for n in 0..MODULES {
                modules.push(admitted(&world, &format!("module-{n}")).await);
            }
            let work = join_all(modules.into_iter().map(|peer| module(&world, peer)));
            let (received, ()) = join(work, publish(&world)).await;
            let goodbye = join_all(received.into_iter().map(async |(mut peer, events)| {
                let reason = peer.closed().await;
                assert!(matches!(reason, CloseReason::Drained { .. }), "seed {seed}: {reason:?}");
                events
            }));
            join(goodbye, world.node.shutdown(1, "", 3600 * SECOND)).await
        });
        let all: Vec<u64> = (1..=EVENTS).collect();
        assert!(received.iter().all(|events| *events == all), "seed {seed}: {received:?}");
        let ShutdownReport { drained, lost, aborted, .. } = report;
        assert_eq!((drained.len(), lost, aborted), (MODULES, vec![], vec![]), "seed {seed}");
        assert_eq!(world.node.overdue_subscribers(), 0, "seed {seed}");
    }
}

async fn admitted(world: &World, module_id: &str) -> Peer {
    let (theirs, ours) = world.runtime.link(&LinkConfig::rough());
    let (grants, requires) = (CapabilitySet::ALL, CapabilitySet::EMPTY);
    world
        .node
        .attach(ours, PeerIdentity::Inherited { module_id: module_id.into(), grants, requires })
        .unwrap();
    let mut peer = Peer::new(world.runtime.clone(), theirs, Config::DEFAULT);
    peer.hello(module_id).await;
    assert!(matches!(peer.event().await, Event::Accepted(_)));
    let options = SubscribeOptions { resume: Some(1), overflow: Overflow::Wait };
    assert!(matches!(peer.subscribe(&[EventType::HeadersSynced], options).await, Response::Success(_)));
    peer
}

async fn publish(world: &World) {
    for height in 1..=EVENTS {
        assert_eq!(world.node.publish(&height_event(height)).await, Ok(height));
    }
}

/// Calls of every kind of ending, with events in between; gives the positions of the events.
async fn module(_: &World, mut peer: Peer) -> (Peer, Vec<u64>) {
    let mut keys = Vec::new();
    for n in 0..10 {
        keys.push((0, peer.call(&Request::GetBlockHeight).await));
        keys.push((1, peer.call(&Request::GetBlockByHeight { height: 50_000 * n }).await));
        keys.push((2, peer.call(&Request::GetBlock { hash: BlockHash::from_bytes([0; 32]) }).await));
        keys.push((3, peer.call(&Request::GetChainTip).await));
        keys.push((4, peer.call(&Request::GetNetworkPeers).await));
    }
    for (kind, key) in keys {
        match (kind, peer.answer(key).await) {
            (0, Response::Success(ResponseData::BlockHeight(HEIGHT)))
            | (1, Response::Success(ResponseData::BlockByHeight(_)))
            | (2, Response::NotFound) => {}
            (3, Response::Error(error)) => assert_eq!(error.code, ErrorCode::Internal),
            (4, Response::Error(error)) => assert_eq!(error.code, ErrorCode::Unsupported),
            (kind, other) => panic!("call of kind {kind}: {other:?}"),
        }
    }
    let mut events = Vec::new();
    while events.len() < EVENTS as usize {
        let (position, prev, event) = peer.node_event().await;
        assert_eq!(prev + 1, position);
        assert_eq!(event, NodeEvent::HeadersSynced { height: position });
        events.push(position);
    }
    (peer, events)
}
