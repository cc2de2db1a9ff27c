//! The event bus: order, lag, waiting, resuming, and that nobody pays for another's slowness.

use modipc_api::{
    Capability, CapabilitySet, ErrorCode, Event as NodeEvent, EventType, Request, Response, ResponseData,
};
use modipc_core::{CloseReason, Config, Event, Overflow, SubscribeOptions};
use modipc_driver::Runtime as _;
use modipc_node::{NodeConfig, PublishError};

use crate::support::{Peer, SECOND, World, height_event, without};

const HEIGHTS: &[EventType] = &[EventType::HeadersSynced];

fn lag() -> SubscribeOptions {
    SubscribeOptions::default()
}

fn overflow(overflow: Overflow) -> SubscribeOptions {
    SubscribeOptions { resume: None, overflow }
}

fn position(response: Response) -> u64 {
    match response {
        Response::Success(ResponseData::Subscribed { event_types, position }) => {
            assert_eq!(event_types, HEIGHTS);
            position
        }
        other => panic!("not subscribed: {other:?}"),
    }
}

async fn expect(peer: &mut Peer, at: u64, before: u64, height: u64) {
    assert_eq!(peer.node_event().await, (at, before, height_event(height)));
}

#[test]
fn events_come_in_order_after_the_answer_and_none_after_the_unsubscribe() {
    let world = World::new();
    world.run(async {
        let mut peer = world.module("a").await;
        assert_eq!(world.node.publish(&height_event(1)).await, Ok(1));
        assert_eq!(position(peer.subscribe(HEIGHTS, lag()).await), 1);
        assert_eq!(world.node.publish(&NodeEvent::MempoolCleared { removed: 1 }).await, Ok(2));
        assert_eq!(world.node.publish(&height_event(2)).await, Ok(3));
        assert_eq!(world.node.try_publish(&height_event(3)), Ok(4));
        expect(&mut peer, 3, 1, 2).await;
        expect(&mut peer, 4, 3, 3).await;
        assert_eq!(world.node.modules()[0].events_behind, 0);
        let request = Request::Unsubscribe { event_types: HEIGHTS.to_vec() };
        let rest = Response::Success(ResponseData::Unsubscribed { event_types: Vec::new() });
        assert_eq!(peer.ask(&request).await, rest);
        world.node.publish(&height_event(4)).await.unwrap();
        assert!(peer.is_usable().await);
        assert!(peer.connection.poll_event().is_none());
    });
}

#[test]
fn a_subscriber_resumes_where_it_left_off() {
    let world = World::new();
    world.run(async {
        for height in 1..=5 {
            world.node.publish(&height_event(height)).await.unwrap();
        }
        let mut peer = world.module("a").await;
        let options = SubscribeOptions { resume: Some(3), overflow: Overflow::Lag };
        assert_eq!(position(peer.subscribe(HEIGHTS, options).await), 2);
        for height in 3..=5 {
            expect(&mut peer, height, height - 1, height).await;
        }
    });
}

#[test]
fn subscribing_needs_the_capability_of_each_event() {
    let world = World::new();
    world.run(async {
        let mut peer = world.module_with("a", without(Capability::ReadMempool)).await;
        let mempool = [EventType::HeadersSynced, EventType::MempoolCleared];
        let Response::Error(error) = peer.subscribe(&mempool, lag()).await else { panic!("subscribed") };
        assert_eq!(error.code, ErrorCode::PermissionDenied);
        assert_eq!(error.missing_capabilities(), CapabilitySet::of(&[Capability::ReadMempool]));
        position(peer.subscribe(HEIGHTS, lag()).await);
    });
}

#[test]
fn events_stop_with_the_grant_and_come_again_after_a_subscription_that_is_allowed() {
    let world = World::new();
    world.run(async {
        let mut peer = world.module("a").await;
        let both = [EventType::HeadersSynced, EventType::MempoolCleared];
        let overflow = overflow(Overflow::Wait);
        assert!(matches!(peer.subscribe(&both, overflow).await, Response::Success(_)));
        world.node.set_grants("a", without(Capability::ReadMempool)).unwrap();
        assert!(matches!(peer.event().await, Event::GrantsChanged(_)));
        for height in 1..100 {
            world.node.publish(&height_event(height)).await.unwrap();
        }
        assert!(peer.is_usable().await);
        assert!(peer.connection.poll_event().is_none(), "an event came without the grant");
        assert!(matches!(peer.subscribe(HEIGHTS, lag()).await, Response::Success(_)));
        let at = world.node.publish(&height_event(100)).await.unwrap();
        while peer.node_event().await.0 != at {}
    });
}

/// What the host holds for a module that does not read: a bound that does not depend on how much is published.
const OUTBOX_BYTES: usize = (64 + 16) << 10;

#[test]
fn a_module_that_never_reads_costs_bounded_memory_and_gets_a_lag_notice_with_exact_positions() {
    let world = World::with(NodeConfig { events_max: 100, ..NodeConfig::default() });
    world.run(async {
        let mut deaf = world.module("deaf").await;
        let mut quick = world.module("quick").await;
        deaf.subscribe(&[EventType::NodeFault], lag()).await;
        position(quick.subscribe(HEIGHTS, lag()).await);
        let fault = |n: u64| NodeEvent::NodeFault { part: format!("{n}"), reason: "x".repeat(4000) };
        let rounds = 2000;
        for n in 1..=rounds {
            // Positions: the fault 2n-1, the height 2n.
            world.node.publish(&fault(n)).await.unwrap();
            world.node.publish(&height_event(n)).await.unwrap();
            expect(&mut quick, 2 * n, (2 * n).saturating_sub(2), n).await;
            let deaf = &world.node.modules()[0];
            assert!(deaf.outbox_bytes <= OUTBOX_BYTES, "{} bytes wait", deaf.outbox_bytes);
        }
        assert_eq!(world.runtime.now(), 0, "nobody waited");

        // Now it reads: what was on its way, then the notice, then what the log still holds.
        let mut next = 1;
        let (first, last) = loop {
            match deaf.event().await {
                Event::Event { position, body, .. } => {
                    assert_eq!(position, next);
                    assert_eq!(NodeEvent::decode(&body).unwrap(), fault(next.div_ceil(2)));
                    next += 2;
                }
                Event::Lagged { first, last } => break (first, last),
                other => panic!("{other:?}"),
            }
        };
        // The log keeps 100 events: 3901 to 4000. The last fault before them is 3899.
        assert!(next > 1, "it got what fitted");
        assert!(
            first <= next && first > next - 2,
            "the first position not examined is {first}, after {next}"
        );
        assert_eq!(last, 2 * rounds - 101);
        for at in (2 * rounds - 99..2 * rounds).step_by(2) {
            let (position, prev, event) = deaf.node_event().await;
            assert_eq!((position, prev, event), (at, at - 2, fault(at.div_ceil(2))));
        }
        assert!(deaf.is_usable().await && quick.is_usable().await);
    });
}

#[test]
fn a_publisher_waits_for_a_subscriber_that_asked_for_it_but_not_for_ever() {
    let world = World::with(NodeConfig { events_max: 4, publish_wait_us: SECOND, ..NodeConfig::default() });
    world.run(async {
        let mut peer = world.module("a").await;
        let events = [EventType::NodeFault];
        peer.subscribe(&events, overflow(Overflow::Wait)).await;
        let fault = |n: u64| NodeEvent::NodeFault { part: n.to_string(), reason: "x".repeat(10_000) };
        // Until the connection and the log are full.
        let mut n = 0;
        while world.node.try_publish(&fault(n + 1)).is_ok() {
            n += 1;
            world.runtime.sleep_until(world.runtime.now() + 1).await;
        }
        assert_eq!(world.node.try_publish(&fault(n + 1)), Err(PublishError::Full));
        let before = world.runtime.now();
        // It reads while the publisher waits: nothing is lost.
        let waiting = fault(n + 1);
        let publish = world.node.publish(&waiting);
        let read = async {
            for expected in 1..=n + 1 {
                let (position, _, event) = peer.node_event().await;
                assert_eq!((position, event), (expected, fault(expected)));
            }
        };
        let (published, ()) = futures_util::future::join(publish, read).await;
        assert_eq!(published, Ok(n + 1));
        assert!(world.runtime.now() - before < SECOND, "woken, and not timed out");
        assert_eq!(world.node.overdue_subscribers(), 0);

        // It reads no more: the publisher waits its time once, and then no longer.
        let before = world.runtime.now();
        for more in 2..200 {
            world.node.publish(&fault(n + more)).await.unwrap();
        }
        let waited = world.runtime.now() - before;
        assert!((SECOND..2 * SECOND).contains(&waited), "waited {waited}");
        assert_eq!(world.node.overdue_subscribers(), 1);
        let lagged = loop {
            match peer.event().await {
                Event::Event { .. } => {}
                Event::Lagged { last, .. } => break last,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(lagged, n + 199 - 4, "the log keeps four events");
    });
}

#[test]
fn a_publisher_does_not_wait_for_a_module_that_is_gone() {
    let world = World::with(NodeConfig { events_max: 2, ..NodeConfig::default() });
    world.run(async {
        let mut peer = world.module("a").await;
        peer.subscribe(HEIGHTS, overflow(Overflow::Wait)).await;
        drop(peer);
        for height in 0..10 {
            world.node.publish(&height_event(height)).await.unwrap();
        }
        assert!(world.runtime.now() < SECOND);
        assert_eq!(world.node.overdue_subscribers(), 0);
    });
}

#[test]
fn a_subscriber_with_the_policy_disconnect_is_told_goodbye() {
    let world = World::with(NodeConfig { events_max: 4, ..NodeConfig::default() });
    world.run(async {
        let mut peer = world.module("a").await;
        peer.subscribe(&[EventType::NodeFault], overflow(Overflow::Disconnect)).await;
        for n in 0..100 {
            let fault = NodeEvent::NodeFault { part: format!("{n}"), reason: "x".repeat(10_000) };
            world.node.publish(&fault).await.unwrap();
            world.runtime.sleep_until(world.runtime.now() + 1).await;
        }
        let reason = loop {
            match peer.event().await {
                Event::Event { .. } => {}
                Event::Draining { reason, .. } => break Some(reason),
                Event::Closed(_) => break None,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(reason, Some(5), "[G-2] lagged");
    });
}

#[test]
fn an_event_that_is_too_long_is_refused_to_its_publisher() {
    let world = World::new();
    world.run(async {
        let event = NodeEvent::NodeFault { part: String::new(), reason: "x".repeat(1 << 20) };
        let error = world.node.publish(&event).await.unwrap_err();
        assert!(matches!(error, PublishError::TooLong { event_type: EventType::NodeFault, .. }));
        assert_eq!(world.node.next_position(), 1);
    });
}

#[test]
fn a_module_that_knows_only_the_seed_is_disconnected_instead_of_losing_events_silently() {
    let world = World::with(NodeConfig { events_max: 4, ..NodeConfig::default() });
    world.run(async {
        let (theirs, ours) = world.runtime.link(&Default::default());
        let identity = modipc_node::PeerIdentity::Inherited {
            module_id: "a".into(),
            grants: CapabilitySet::ALL,
            requires: CapabilitySet::EMPTY,
        };
        let connection = world.node.attach(ours, identity).unwrap();
        let mut peer = Peer::new(world.runtime.clone(), theirs, Config { x1: false, ..Config::DEFAULT });
        peer.hello("a").await;
        assert!(matches!(peer.event().await, Event::Accepted(accepted) if !accepted.x1));
        peer.subscribe(&[EventType::NodeFault], lag()).await;
        for n in 0..100 {
            let fault = NodeEvent::NodeFault { part: format!("{n}"), reason: "x".repeat(10_000) };
            world.node.publish(&fault).await.unwrap();
            world.runtime.sleep_until(world.runtime.now() + 1).await;
        }
        let mut next = 0;
        while let Event::Event { body, .. } = peer.event().await {
            let NodeEvent::NodeFault { part, .. } = NodeEvent::decode(&body).unwrap() else {
                panic!("other")
            };
            assert_eq!(part, next.to_string(), "events were left out silently");
            next += 1;
        }
        assert_eq!(connection.wait_closed().await, CloseReason::SubscriberLagged);
    });
}
