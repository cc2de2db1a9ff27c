//! What an honest peer may do is never held against it, however slow the other side is.

use super::*;

#[test]
fn a_call_that_meets_a_long_answer_in_the_outbox_is_busy_and_no_flood() {
    let mut pair = Pair::plain();
    let block = pair.call(b"block");
    pair.turn();
    pair.host.reply(0, block, Body { head: &[], tail: Bytes::from(vec![0; 2 << 20]) }).unwrap();
    pair.call(b"next");
    let up = drain(&mut pair.module, 0);
    pair.host.recv(0, &up);
    assert_eq!(pair.host.closed(), None);
    pair.turn();
    let bodies: Vec<_> = outcomes(&mut pair.module);
    assert!(
        matches!(&bodies[..], [(7, Outcome::Reply(block)), (7, Outcome::Reply(busy))] if block.len() == 2 << 20 && busy == "busy")
    );
}

#[test]
fn answers_that_wait_for_the_transport_do_not_count_as_the_peers_flood() {
    let mut pair = Pair::x1();
    let ids: Vec<CallId> = (0..200).map(|_| pair.call(b"x")).collect();
    pair.turn();
    for id in ids {
        pair.host.reply(0, id, Body::from(&[0; 16_000][..])).unwrap();
    }
    assert!(pair.host.outbox_bytes() > 3_000_000);
    pair.module.ping(0).unwrap();
    for _ in 0..800 {
        pair.call(b"x");
    }
    pair.turn();
    assert_eq!((pair.host.closed(), pair.module.closed()), (None, None));
    let answered = outcomes(&mut pair.module);
    let busy = answered.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Reply(b) if b == "busy"));
    assert_eq!((answered.len(), busy.count()), (1000, 800));
}

#[test]
fn what_a_slow_application_leaves_lying_does_not_count_as_the_peers_flood() {
    let mut pair = Pair::x1();
    for _ in 0..1100 {
        pair.module.log(0, Body::from(&b"note"[..]), b"").unwrap();
    }
    let ids: Vec<CallId> = (0..1024).map(|_| pair.call(b"x")).collect();
    pair.turn();
    pair.host.handle_timeout(1_000_000);
    for id in &ids {
        pair.module.cancel(0, *id).unwrap();
    }
    pair.turn();
    assert_eq!(pair.host.closed(), None);
    let told = events(&mut pair.host);
    let count = |wanted: fn(&Event) -> bool| told.iter().filter(|event| wanted(event)).count();
    assert_eq!(count(|event| matches!(event, Event::Log { .. })), 1024);
    assert_eq!(count(|event| matches!(event, Event::InboxOverflow { count: 76, .. })), 1);
    assert_eq!(count(|event| matches!(event, Event::Call(_))), 1024);
    assert_eq!(count(|event| matches!(event, Event::CallExpired(_))), 1024);
    assert_eq!(count(|event| matches!(event, Event::CallCancelled(_))), 1024);
}

#[test]
fn denials_that_nobody_looks_at_cost_bounded_memory_and_end_nothing() {
    let mut pair = Pair::x1();
    pair.host.set_grants(0, 0, &[]).unwrap();
    for _ in 0..20 {
        for _ in 0..1000 {
            pair.call(b"!");
        }
        pair.turn();
        assert_eq!(outcomes(&mut pair.module).len(), 1000);
    }
    assert_eq!(pair.host.closed(), None);
    let told = events(&mut pair.host);
    assert!(
        matches!(told.last(), Some(Event::InboxOverflow { count: 18_976, first: 0, last: 0 })),
        "{told:?}"
    );
    assert_eq!(told.len(), 1025);
}

#[test]
fn lag_notices_that_nobody_looks_at_are_joined() {
    let config = Config { inbox_max: 3, ..Config::DEFAULT };
    let (mut pair, mut log) = (Pair::active(Config::DEFAULT, config), EventLog::new(1, 1 << 20));
    let subscribe = CallOptions { subscribe: Some(SubscribeOptions::default()), ..options(9) };
    pair.module.call(0, &subscribe, Body::from(&b"S\x01"[..]), 5).unwrap();
    pair.turn();
    let Some(Event::Subscribe(call, subscription)) = pair.host.poll_event() else { panic!() };
    pair.host.reply_subscription(0, call.id, subscription, &mut log, Body::default()).unwrap();
    for n in 0..5000 {
        // The one event that is kept is of another topic: every pull sends a notice and nothing else.
        log.append(1, Bytes::new());
        log.append(2, Bytes::new());
        pair.host.pull_events(0, &mut log);
        pair.turn();
        assert_eq!(pair.module.closed(), None, "after {n}");
    }
    let told = events(&mut pair.module);
    let [Event::Lagged { first: 1, .. }, _, _, Event::InboxOverflow { first, last, .. }] = told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((first, last), (7, 9999));
}

#[test]
fn changed_grants_that_nobody_looks_at_are_the_latest() {
    let config = Config { inbox_max: 3, ..Config::DEFAULT };
    let mut pair = Pair::active(Config::DEFAULT, config);
    for n in 0..5000u32 {
        pair.host.set_grants(0, 1, &[n.to_string()]).unwrap();
        pair.turn();
    }
    let told = events(&mut pair.module);
    assert!(told.len() <= 4, "{}", told.len());
    assert!(matches!(told.last(), Some(Event::GrantsChanged(names)) if names == &["4999"]), "{told:?}");
}

#[test]
fn what_was_dropped_is_told_before_the_end_and_nothing_after_it() {
    let config = Config { inbox_max: 1, ..Config::DEFAULT };
    let mut pair = Pair::active(config, Config::DEFAULT);
    for _ in 0..3 {
        pair.module.log(0, Body::from(&b"note"[..]), b"").unwrap();
    }
    pair.turn();
    pair.host.abort(0);
    let told = events(&mut pair.host);
    assert!(
        matches!(told[..], [Event::Log { .. }, Event::InboxOverflow { count: 2, .. }, Event::Closed(_)]),
        "{told:?}"
    );
}

#[test]
fn progress_and_extensions_wait_until_the_peer_reads() {
    let config = Config { outbox_bytes_max: 1000, ..Config::DEFAULT };
    let mut pair = Pair::active(config, Config::DEFAULT);
    let id = pair.call(b"long");
    pair.turn();
    let refused = (0..1000).map(|n| pair.host.progress(0, id, n, 1000)).find(Result::is_err);
    assert_eq!(refused, Some(Err(Refused::OutboxFull)));
    assert_eq!(pair.host.extension(0, 200), Err(Refused::OutboxFull));
    pair.turn();
    pair.host.progress(0, id, 1000, 1000).unwrap();
    pair.host.extension(0, 200).unwrap();
}

/// A bulk call whose last fragment crosses the Goodbyes, and which is then refused because of what `happens` just before.
fn refused_while_finishing(happens: fn(&mut Pair), said: &[u8]) {
    let mut pair = Pair::active(Config { outbox_bytes_max: 1000, ..Config::DEFAULT }, Config::DEFAULT);
    let open = pair.call(b"open");
    pair.turn();
    let mut body = vec![b'!'];
    body.resize(200_000, 0);
    pair.module.call(0, &options(9), Body::from(&body[..]), 8).unwrap();
    // The first fragment alone.
    let mut batch = pair.module.outbox.take().unwrap();
    let first: Vec<u8> = batch.slices().flatten().copied().collect();
    batch.advance(usize::MAX);
    pair.module.batch_done(batch);
    pair.host.recv(0, &first);
    pair.host.goodbye(0, 1, "").unwrap();
    let down = drain(&mut pair.host, 0);
    pair.module.recv(0, &down);
    // The module's Goodbye goes before the second fragment.
    let up = drain(&mut pair.module, 0);
    happens(&mut pair);
    pair.host.recv(0, &up);
    let _ = pair.host.reply(0, open, Body::default());
    pair.turn();
    let told = outcomes(&mut pair.module);
    let body = told.iter().find_map(|(key, outcome)| match outcome {
        Outcome::Reply(body) if *key == 8 => Some(&body[..]),
        _ => None,
    });
    assert_eq!(body, Some(said), "{told:?}");
    assert!(matches!(pair.host.closed(), Some(CloseReason::Drained { .. })), "{:?}", pair.host.closed());
}

#[test]
fn a_bulk_call_that_began_before_goodbye_may_be_refused_after_it() {
    refused_while_finishing(|pair| pair.host.set_grants(0, 0, &[]).unwrap(), b"denied 1");
    refused_while_finishing(
        |pair| pair.host.reply(0, CallId(1), Body::from(&[0; 2000][..])).unwrap(),
        b"busy",
    );
}

#[test]
fn what_the_peer_could_not_read_is_not_sent() {
    let long = "x".repeat(65);
    let many: Vec<String> = (0..65).map(|n| n.to_string()).collect();
    let mut pair = Pair::new(Config::DEFAULT, Config::DEFAULT);
    let hellos = [
        Hello { capabilities: many.clone(), ..hello() },
        Hello { capabilities: vec![long.clone()], ..hello() },
        Hello { version: long.clone(), ..hello() },
        Hello { module_id: "x".repeat(4097), ..hello() },
    ];
    for hello in hellos {
        assert_eq!(pair.module.hello(0, hello), Err(Refused::FieldTooLong));
    }
    pair.module.hello(0, hello()).unwrap();
    pair.turn();
    let answers = [
        Accepted { granted: many.clone(), ..accepted() },
        Accepted { node_version: "x".repeat(4097), ..accepted() },
        Accepted { next_token: vec![0; 65], ..accepted() },
    ];
    for accepted in answers {
        assert_eq!(pair.host.accept(0, accepted, 1), Err(Refused::FieldTooLong));
    }
    pair.host.accept(0, accepted(), 1).unwrap();
    for names in [many, vec![long]] {
        assert_eq!(pair.host.set_grants(0, 0, &names), Err(Refused::FieldTooLong));
    }
    assert_eq!(pair.host.grants(), 1);
    pair.turn();
    assert!(pair.module.is_active());
    // A refusal is cut, so that the module learns what it can.
    let mut pair = Pair::new(Config::DEFAULT, Config::DEFAULT);
    pair.module.hello(0, hello()).unwrap();
    pair.turn();
    let refusal = Refusal { code: RefusalCode::Busy, message: "ü".repeat(4000), hint: "x".repeat(70_000) };
    pair.host.refuse(0, refusal).unwrap();
    pair.turn();
    assert_eq!(pair.module.closed(), Some(CloseReason::Refused(RefusalCode::Busy)));
}

#[test]
fn a_plain_module_states_limits_that_are_not_the_default() {
    let limits = Limits { frame_bytes_max: 400_000, calls_max: 2, ..Limits::DEFAULT };
    let module = Config { x1: false, limits, ..Config::DEFAULT };
    let mut pair = Pair::active(Config::DEFAULT, module);
    assert_eq!(pair.host.profile(), Profile::Plain);
    let call = |pair: &mut Pair, n| pair.host.call(0, &options(9), Body::from(&vec![0; n][..]), 1);
    assert_eq!(call(&mut pair, 400_000), Err(Refused::BodyTooLong));
    call(&mut pair, 399_988).unwrap();
    call(&mut pair, 1).unwrap();
    assert_eq!(call(&mut pair, 1), Err(Refused::WindowFull));
    pair.turn();
    assert_eq!(events(&mut pair.module).len(), 2);
}

/// The seed does not say where a module begins to count.
#[test]
fn a_seed_module_may_count_from_zero() {
    let mut pair = Pair::plain();
    for id in [0u64, 1, 7, u64::MAX] {
        let mut frame = 16u32.to_le_bytes().to_vec();
        frame.extend_from_slice(&0u32.to_le_bytes());
        frame.extend_from_slice(&id.to_le_bytes());
        frame.extend_from_slice(b"call");
        pair.host.recv(0, &frame);
        assert_eq!(pair.served().id, CallId(id));
        pair.host.reply(0, CallId(id), Body::default()).unwrap();
        let mut again = pair.host.clone();
        again.recv(0, &frame);
        assert_eq!(again.closed(), Some(CloseReason::Violation(Violation::StaleCallId)));
    }
}

#[test]
fn a_refused_goodbye_leaves_no_words_behind() {
    let mut pair = Pair::new(Config::DEFAULT, Config::DEFAULT);
    assert_eq!(pair.host.goodbye(0, 1, "too early"), Err(Refused::NotActive));
    pair.module.hello(0, hello()).unwrap();
    pair.turn();
    pair.host.accept(0, accepted(), 1).unwrap();
    pair.turn();
    pair.module.goodbye(0, 1, "").unwrap();
    let bytes = drain(&mut pair.module, 0);
    pair.host.recv(0, &bytes);
    assert!(!drain(&mut pair.host, 0).windows(5).any(|word| word == b"early"));
}

#[test]
fn a_deadline_beyond_the_limit_is_told_as_it_is_kept() {
    let limits = Limits { call_deadline_us_max: 1000, ..Limits::DEFAULT };
    let mut pair = Pair::active(Config { limits, ..Config::DEFAULT }, Config::DEFAULT);
    let mut frame = 20u32.to_le_bytes().to_vec();
    frame.extend_from_slice(&(1u32 << 8).to_le_bytes());
    frame.extend_from_slice(&1u64.to_le_bytes());
    frame.extend_from_slice(&u64::MAX.to_le_bytes());
    pair.host.recv(5, &frame);
    assert_eq!(pair.served().deadline, Some(1005));
    assert_eq!(pair.host.deadline(), Some(1005));
}

#[test]
fn after_the_end_every_command_says_why() {
    let mut pair = Pair::active(Config::DEFAULT, Config { outbox_bytes_max: 10, ..Config::DEFAULT });
    pair.module.log(0, Body::from(&[0; 100][..]), b"").unwrap();
    pair.module.abort(0);
    assert_eq!(pair.module.log(0, Body::default(), b""), Err(Refused::Closed(CloseReason::Aborted)));
}

/// The plain profile has no credit to spend, so what exceeds it is Busy and no violation.
#[test]
fn plain_calls_with_long_bodies_hold_no_more_than_the_credit() {
    let limits = Limits { body_bytes_max: 100_000, credit_bytes: 200_000, ..Limits::DEFAULT };
    let host = Config { limits, ..Config::DEFAULT };
    let mut pair = Pair::active(host, Config { x1: false, ..Config::DEFAULT });
    let long = [0; 90_000];
    let call = |pair: &mut Pair, key| pair.module.call(0, &options(9), Body::from(&long[..]), key).unwrap();
    let (first, _, _) = (call(&mut pair, 1), call(&mut pair, 2), call(&mut pair, 3));
    pair.turn();
    let told = events(&mut pair.host);
    assert!(matches!(told[..], [Event::Call(_), Event::Call(_), Event::CallBusy(CallId(3))]), "{told:?}");
    assert!(matches!(&outcomes(&mut pair.module)[..], [(3, Outcome::Reply(body))] if body == "busy"));
    // Short ones are bounded by the window, and an answer makes room.
    pair.call(b"short");
    pair.host.reply(0, first, Body::default()).unwrap();
    call(&mut pair, 4);
    pair.turn();
    assert!(matches!(events(&mut pair.host)[..], [Event::Call(_), Event::Call(_)]));
    assert_eq!(drain(&mut pair.host, 0), [], "nobody is told of credit");
}
