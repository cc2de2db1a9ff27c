//! Subscriptions and the event log.

use super::*;
use crate::event_log::Append;

fn publish(log: &mut EventLog, topic: u8, n: u64) -> u64 {
    match log.append(topic, Bytes::copy_from_slice(&n.to_le_bytes())) {
        Append::At(position) => position,
        other => panic!("{other:?}"),
    }
}

/// Sends a subscription call and grants it.
fn subscribe(pair: &mut Pair, log: &mut EventLog, body: &[u8], subscribe: SubscribeOptions) {
    let call = CallOptions { subscribe: Some(subscribe), ..options(9) };
    pair.module.call(0, &call, Body::from(body), 5).unwrap();
    pair.turn();
    let Some(Event::Subscribe(call, subscription)) = pair.host.poll_event() else {
        panic!("no subscription")
    };
    pair.host.reply_subscription(0, call.id, subscription, log, Body::from(&b"ok"[..])).unwrap();
}

fn pull_all(pair: &mut Pair, log: &mut EventLog) {
    while pair.host.pull_events(0, log) == Pull::More {
        pair.turn();
    }
    pair.turn();
}

/// Positions and lags that the module saw.
fn seen(pair: &mut Pair) -> Vec<(u64, u64)> {
    events(&mut pair.module)
        .into_iter()
        .map(|event| match event {
            Event::Event { position, prev, .. } => (position, prev),
            Event::Lagged { first, last } => (first * 1000, last * 1000),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn the_answer_comes_before_the_first_event_and_none_after_the_unsubscribe() {
    let (mut pair, mut log) = (Pair::x1(), EventLog::new(100, 1 << 20));
    publish(&mut log, 1, 0);
    subscribe(&mut pair, &mut log, b"S\x01\x02", SubscribeOptions::default());
    for topic in [1, 2, 3, 1] {
        publish(&mut log, topic, 0);
    }
    assert_eq!(pair.host.pull_events(0, &mut log), Pull::CaughtUp);
    let wire = drain(&mut pair.host, 0);
    let answer = wire.windows(2).position(|pair| pair == b"ok").unwrap();
    assert!(answer < 30, "the answer is the first frame");
    pair.module.recv(0, &wire);
    assert_eq!(seen(&mut pair), [(2, 1), (3, 0), (5, 2)]);

    publish(&mut log, 1, 0);
    pair.host.pull_events(0, &mut log);
    subscribe(&mut pair, &mut log, b"U\x01", SubscribeOptions::default());
    publish(&mut log, 1, 0);
    publish(&mut log, 2, 0);
    pull_all(&mut pair, &mut log);
    assert_eq!(
        seen(&mut pair),
        [(6, 5), (8, 3)],
        "the event before the answer is in order, of topic 1 comes none after it"
    );
    subscribe(&mut pair, &mut log, b"U", SubscribeOptions::default());
    publish(&mut log, 2, 0);
    assert_eq!(pair.host.pull_events(0, &mut log), Pull::Idle);
}

#[test]
fn resume_continues_where_a_former_connection_left_off() {
    let (mut pair, mut log) = (Pair::x1(), EventLog::new(100, 1 << 20));
    for n in 0..5 {
        publish(&mut log, 1, n);
    }
    subscribe(&mut pair, &mut log, b"S\x01", SubscribeOptions { resume: Some(3), ..Default::default() });
    pull_all(&mut pair, &mut log);
    assert_eq!(seen(&mut pair), [(3, 2), (4, 3), (5, 4)]);
    // Beyond the end is the end: such a position is of another run of the host.
    subscribe(
        &mut pair,
        &mut log,
        b"S\x01",
        SubscribeOptions { resume: Some(u64::MAX), ..Default::default() },
    );
    publish(&mut log, 1, 9);
    pull_all(&mut pair, &mut log);
    assert_eq!(seen(&mut pair), [(6, 5)]);
}

#[test]
fn a_change_keeps_the_place_in_the_log() {
    let (mut pair, mut log) = (Pair::x1(), EventLog::new(100, 1 << 20));
    subscribe(&mut pair, &mut log, b"S\x01", SubscribeOptions::default());
    publish(&mut log, 1, 0);
    subscribe(&mut pair, &mut log, b"S\x01\x02", SubscribeOptions::default());
    pull_all(&mut pair, &mut log);
    assert_eq!(seen(&mut pair), [(1, 0)], "nothing is lost by changing the set");
}

#[test]
fn a_slow_subscriber_is_told_exactly_what_it_missed() {
    let (mut pair, mut log) = (Pair::x1(), EventLog::new(4, 1 << 20));
    subscribe(&mut pair, &mut log, b"S\x01", SubscribeOptions::default());
    for n in 0..10 {
        publish(&mut log, 1, n);
    }
    pull_all(&mut pair, &mut log);
    assert_eq!(seen(&mut pair), [(1000, 6000), (7, 6), (8, 7), (9, 8), (10, 9)]);
}

#[test]
fn what_others_missed_is_no_lag() {
    let (mut pair, mut log) = (Pair::x1(), EventLog::new(4, 1 << 20));
    subscribe(&mut pair, &mut log, b"S\x02", SubscribeOptions::default());
    for n in 0..10 {
        publish(&mut log, 1, n);
    }
    publish(&mut log, 2, 0);
    pull_all(&mut pair, &mut log);
    assert_eq!(seen(&mut pair), [(11, 0)]);
}

#[test]
fn a_subscriber_that_wants_no_gap_is_disconnected_by_one_and_so_is_the_plain_profile() {
    for (mut pair, overflow) in [(Pair::x1(), Overflow::Disconnect), (Pair::plain(), Overflow::Lag)] {
        let mut log = EventLog::new(2, 1 << 20);
        subscribe(&mut pair, &mut log, b"S\x01", SubscribeOptions { resume: None, overflow });
        pair.turn();
        for n in 0..3 {
            publish(&mut log, 1, n);
        }
        assert_eq!(pair.host.pull_events(0, &mut log), Pull::Idle);
        assert_eq!(pair.host.closed(), Some(CloseReason::SubscriberLagged));
        let told = drain(&mut pair.host, 0);
        pair.module.recv(0, &told);
        let told = events(&mut pair.module);
        let goodbye =
            matches!(told[..], [Event::Draining { by: Initiator::Peer, reason: 5, .. }, Event::Closed(_)]);
        assert_eq!(goodbye, pair.module.profile() == Profile::X1, "{told:?}");
    }
}

#[test]
fn a_publisher_waits_for_who_asked_it_to() {
    let (mut pair, mut log) = (Pair::x1(), EventLog::new(2, 1 << 20));
    subscribe(&mut pair, &mut log, b"S\x01", SubscribeOptions { resume: None, overflow: Overflow::Wait });
    publish(&mut log, 1, 0);
    publish(&mut log, 1, 1);
    assert!(matches!(log.append(1, Bytes::new()), Append::Full(hold) if Some(hold) == pair.host.hold()));
    pull_all(&mut pair, &mut log);
    publish(&mut log, 1, 2);
    pull_all(&mut pair, &mut log);
    assert_eq!(seen(&mut pair), [(1, 0), (2, 1), (3, 2)]);
}

#[test]
fn a_module_that_never_reads_costs_bounded_memory() {
    let (mut pair, mut log) = (Pair::x1(), EventLog::new(1000, 1 << 20));
    subscribe(&mut pair, &mut log, b"S\x01", SubscribeOptions::default());
    for n in 0..100_000 {
        publish(&mut log, 1, n);
        pair.host.pull_events(0, &mut log);
    }
    assert!(pair.host.outbox_bytes() < 70_000, "{}", pair.host.outbox_bytes());
}

#[test]
fn a_module_that_does_not_look_loses_events_with_their_positions_counted() {
    let config = Config { inbox_max: 3, ..Config::DEFAULT };
    let (mut pair, mut log) = (Pair::active(Config::DEFAULT, config), EventLog::new(100, 1 << 20));
    subscribe(&mut pair, &mut log, b"S\x01", SubscribeOptions::default());
    for n in 0..8 {
        publish(&mut log, 1, n);
    }
    pull_all(&mut pair, &mut log);
    let told = events(&mut pair.module);
    assert!(
        matches!(
            told[..],
            [
                Event::Event { .. },
                Event::Event { .. },
                Event::Event { position: 3, .. },
                Event::InboxOverflow { count: 5, first: 4, last: 8 }
            ]
        ),
        "{told:?}"
    );
}

#[test]
fn a_pull_that_finds_nothing_to_send_looks_at_the_whole_log() {
    let (mut pair, mut log) = (Pair::x1(), EventLog::new(20_000, 1 << 20));
    subscribe(&mut pair, &mut log, b"S\x01", SubscribeOptions::default());
    pair.turn();
    for n in 0..10_000 {
        publish(&mut log, 2, n);
    }
    publish(&mut log, 1, 0);
    // Nothing waits for the transport, so nothing would call for another pull.
    assert_eq!(pair.host.pull_events(0, &mut log), Pull::CaughtUp);
    pair.turn();
    assert_eq!(seen(&mut pair), [(10_001, 0)]);
}

#[test]
fn resume_does_not_go_back_behind_what_the_connection_has_seen() {
    let (mut pair, mut log) = (Pair::x1(), EventLog::new(100, 1 << 20));
    subscribe(&mut pair, &mut log, b"S\x01", SubscribeOptions::default());
    for topic in [1, 2, 1, 2] {
        publish(&mut log, topic, 0);
    }
    pull_all(&mut pair, &mut log);
    assert_eq!(seen(&mut pair), [(1, 0), (3, 1)]);
    for body in [&b"U"[..], b"S\x01\x02"] {
        subscribe(&mut pair, &mut log, body, SubscribeOptions { resume: Some(1), ..Default::default() });
        pull_all(&mut pair, &mut log);
        assert_eq!(pair.module.closed(), None, "positions only rise");
    }
    assert_eq!(seen(&mut pair), [(4, 2)]);
}

#[test]
fn nobody_waits_for_a_reader_that_gets_no_more_events() {
    let (mut pair, mut log) = (Pair::x1(), EventLog::new(1, 1 << 20));
    let wait = SubscribeOptions { resume: None, overflow: Overflow::Wait };
    subscribe(&mut pair, &mut log, b"S\x01", wait);
    pair.call(b"open");
    pair.turn();
    publish(&mut log, 1, 0);
    assert!(matches!(log.append(1, Bytes::new()), Append::Full(_)));
    pair.module.goodbye(0, 1, "").unwrap();
    pair.turn();
    assert_eq!(pair.host.phase(), Phase::Finishing);
    assert_eq!(pair.host.pull_events(0, &mut log), Pull::Idle);
    publish(&mut log, 1, 1);
    assert_eq!(pair.host.hold(), None);
}

#[test]
fn a_subscription_that_is_granted_while_draining_holds_nobody_up() {
    let (mut pair, mut log) = (Pair::x1(), EventLog::new(1, 1 << 20));
    let options = SubscribeOptions { resume: None, overflow: Overflow::Wait };
    let call = CallOptions { subscribe: Some(options), ..super::options(9) };
    pair.module.call(0, &call, Body::from(&b"S\x01"[..]), 5).unwrap();
    pair.turn();
    let Some(Event::Subscribe(call, subscription)) = pair.host.poll_event() else { panic!() };
    pair.host.goodbye(0, 1, "").unwrap();
    pair.host.reply_subscription(0, call.id, subscription, &mut log, Body::default()).unwrap();
    for n in 0..3 {
        publish(&mut log, 1, n);
    }
}

#[test]
fn an_answer_to_a_subscription_fits_into_one_frame() {
    let (mut pair, mut log) = (Pair::x1(), EventLog::new(1, 1 << 20));
    pair.module.call(0, &options(9), Body::from(&b"S\x01"[..]), 5).unwrap();
    pair.turn();
    let Some(Event::Subscribe(call, subscription)) = pair.host.poll_event() else { panic!() };
    // As bulk its last fragment would come after the first event.
    let long = [0; 20_000];
    let refused = pair.host.reply_subscription(0, call.id, subscription, &mut log, Body::from(&long[..]));
    assert_eq!(refused, Err(Refused::BodyTooLong));
    pair.host.reply_subscription(0, call.id, subscription, &mut log, Body::default()).unwrap();
}
