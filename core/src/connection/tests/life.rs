//! Handshake, calls, deadlines, draining.

use super::*;

#[test]
fn a_seed_module_completes_handshake_call_event_and_log() {
    let mut pair = Pair::plain();
    assert_eq!((pair.host.profile(), pair.module.profile()), (Profile::Plain, Profile::Plain));
    let id = pair.call(b"ask");
    pair.turn();
    let call = pair.served();
    assert_eq!((call.id, &call.body[..], call.deadline), (id, &b"ask"[..], None));
    pair.host.reply(0, id, Body::from(&b"answer"[..])).unwrap();
    pair.module.log(0, Body::from(&b"note"[..]), b"").unwrap();
    pair.turn();
    assert!(matches!(&outcomes(&mut pair.module)[..], [(7, Outcome::Reply(body))] if body == "answer"));
    assert!(matches!(&events(&mut pair.host)[..], [Event::Log { body, .. }] if body == "note"));
}

#[test]
fn x1_carries_deadline_trace_and_idempotency_key() {
    let mut pair = Pair::x1();
    let all = CallOptions { trace: Some([3; 25]), idempotency: Some([4; 16]), ..options(500) };
    pair.module.call(0, &all, Body::from(&b"x"[..]), 1).unwrap();
    pair.turn();
    let call = pair.served();
    assert_eq!((call.deadline, call.trace, call.idempotency), (Some(500), Some([3; 25]), Some([4; 16])));
}

#[test]
fn after_a_timeout_the_connection_stays_active_and_the_late_answer_is_absorbed() {
    let mut pair = Pair::x1();
    let id = pair.call(b"slow");
    pair.turn();
    assert_eq!(pair.module.deadline(), Some(1_000_000));
    pair.now = 1_000_000;
    pair.module.handle_timeout(pair.now);
    pair.host.handle_timeout(pair.now);
    assert!(matches!(outcomes(&mut pair.module)[..], [(7, Outcome::DeadlineExceeded)]));
    pair.turn();
    let told = events(&mut pair.host);
    assert!(
        matches!(told[..], [Event::Call(_), Event::CallExpired(a), Event::CallCancelled(b)] if a == id && b == id),
        "{told:?}"
    );
    pair.host.reply(pair.now, id, Body::from(&b"late"[..])).unwrap();
    let next = pair.call(b"next");
    pair.turn();
    pair.host.reply(pair.now, next, Body::default()).unwrap();
    pair.turn();
    assert!(matches!(outcomes(&mut pair.module)[..], [(7, Outcome::Reply(_))]));
    assert!(pair.module.is_active() && pair.host.is_active());
}

#[test]
fn a_cancelled_call_has_one_outcome_and_its_answer_is_still_owed() {
    let mut pair = Pair::x1();
    let id = pair.call(b"a");
    pair.module.cancel(0, id).unwrap();
    assert_eq!(pair.module.cancel(0, id), Err(Refused::UnknownCall));
    pair.turn();
    assert!(matches!(events(&mut pair.host)[..], [Event::Call(_), Event::CallCancelled(_)]));
    pair.host.reply(0, id, Body::default()).unwrap();
    assert_eq!(pair.host.reply(0, id, Body::default()), Err(Refused::UnknownCall));
    pair.turn();
    assert!(matches!(outcomes(&mut pair.module)[..], [(7, Outcome::Cancelled)]));
}

#[test]
fn answers_come_in_any_order() {
    let mut pair = Pair::x1();
    let ids: Vec<CallId> =
        (0..50u64).map(|key| pair.module.call(0, &options(9), Body::from(&b"c"[..]), key).unwrap()).collect();
    pair.turn();
    for id in ids.iter().rev() {
        pair.host.reply(0, *id, Body::from(&id.0.to_le_bytes()[..])).unwrap();
    }
    pair.turn();
    let keys: Vec<u64> = outcomes(&mut pair.module).iter().map(|(key, _)| *key).collect();
    assert!(keys.into_iter().eq((0..50).rev()));
}

#[test]
fn the_host_calls_the_module_as_the_module_calls_the_host() {
    let mut pair = Pair::x1();
    let id = pair.host.call(0, &options(9), Body::from(&b"health"[..]), 3).unwrap();
    pair.turn();
    assert!(
        matches!(&events(&mut pair.module)[..], [Event::Call(call)] if call.id == id && call.body == "health")
    );
    pair.module.progress(0, id, 1, 2).unwrap();
    pair.module.reply(0, id, Body::from(&b"well"[..])).unwrap();
    pair.turn();
    assert!(matches!(events(&mut pair.host)[..], [Event::Progress { key: 3, done: 1, total: 2 }]));
    assert!(matches!(&outcomes(&mut pair.host)[..], [(3, Outcome::Reply(body))] if body == "well"));
}

#[test]
fn a_denied_call_is_answered_and_the_connection_stays() {
    let mut pair = Pair::x1();
    pair.host.set_grants(0, 0, &["two".into()]).unwrap();
    let id = pair.call(b"!");
    pair.turn();
    assert!(matches!(events(&mut pair.host)[..], [Event::CallDenied(denied, 1)] if denied == id));
    assert!(matches!(&outcomes(&mut pair.module)[..], [(7, Outcome::Reply(body))] if body == "denied 1"));
    assert!(matches!(&events(&mut pair.module)[..], [Event::GrantsChanged(names)] if names == &["two"]));
    pair.host.set_grants(0, 1, &[]).unwrap();
    pair.call(b"!");
    pair.turn();
    assert_eq!(&pair.served().body[..], b"!");
}

#[test]
fn calls_beyond_the_window_are_refused_here_and_busy_there() {
    let limits = Limits { calls_max: 2, ..Limits::DEFAULT };
    let mut pair = Pair::active(Config { limits, ..Config::DEFAULT }, Config::DEFAULT);
    pair.call(b"1");
    pair.call(b"2");
    assert_eq!(pair.module.call(0, &options(9), Body::default(), 0), Err(Refused::WindowFull));
    pair.turn();
    // A peer that does not count for itself is answered Busy.
    let mut frame = 16u32.to_le_bytes().to_vec();
    frame.extend_from_slice(&0u32.to_le_bytes());
    frame.extend_from_slice(&3u64.to_le_bytes());
    frame.extend_from_slice(b"more");
    pair.host.recv(0, &frame);
    assert!(matches!(
        events(&mut pair.host)[..],
        [Event::Call(_), Event::Call(_), Event::CallBusy(CallId(3))]
    ));
    assert!(drain(&mut pair.host, 0).ends_with(b"busy"));
}

#[test]
fn a_ping_is_answered_and_a_silent_peer_is_found_out() {
    let mut pair = Pair::x1();
    pair.host.ping(0).unwrap();
    assert_eq!(pair.host.ping(0), Err(Refused::PingUnderWay));
    pair.now = 40;
    pair.turn();
    assert!(matches!(events(&mut pair.host)[..], [Event::Pong { nonce: 1, rtt_us: 40 }]));
    pair.host.ping(50).unwrap();
    let due = pair.host.deadline().unwrap();
    pair.host.handle_timeout(due);
    assert_eq!(pair.host.closed(), Some(CloseReason::PingTimeout));
}

#[test]
fn goodbye_waits_for_open_calls_in_both_directions_and_then_closes_both_ends() {
    let mut pair = Pair::x1();
    let asked = pair.call(b"a");
    let invoked = pair.host.call(0, &options(9), Body::default(), 1).unwrap();
    pair.turn();
    pair.host.goodbye(0, 1, "update").unwrap();
    assert_eq!(pair.host.call(0, &options(9), Body::default(), 1), Err(Refused::Draining));
    pair.turn();
    assert!(
        matches!(&events(&mut pair.module)[..], [Event::Call(_), Event::Draining { by: Initiator::Peer, reason: 1, detail, .. }] if detail == "update")
    );
    assert!(matches!(pair.module.call(0, &options(9), Body::default(), 1), Err(Refused::Draining)));
    pair.host.reply(0, asked, Body::default()).unwrap();
    pair.turn();
    assert_eq!((pair.host.closed(), pair.module.closed()), (None, None));
    pair.module.reply(0, invoked, Body::default()).unwrap();
    pair.turn();
    assert_eq!(pair.host.closed(), Some(CloseReason::Drained { by: Initiator::Us, reason: 1 }));
    assert_eq!(pair.module.closed(), Some(CloseReason::Drained { by: Initiator::Peer, reason: 1 }));
    assert!(matches!(outcomes(&mut pair.module)[..], [(7, Outcome::Reply(_))]));
}

#[test]
fn draining_ends_at_its_deadline_and_open_calls_are_lost() {
    let mut pair = Pair::x1();
    let call = CallOptions { deadline_us: 60_000_000, ..options(0) };
    pair.module.call(0, &call, Body::default(), 7).unwrap();
    pair.turn();
    pair.module.goodbye(0, 0, "").unwrap();
    let due = pair.module.deadline().unwrap();
    assert_eq!(due, Config::DEFAULT.drain_us);
    pair.module.handle_timeout(due);
    assert!(matches!(
        outcomes(&mut pair.module)[..],
        [(7, Outcome::Lost { reason: CloseReason::DrainTimeout, was_sent: true })]
    ));
}

#[test]
fn a_lost_call_says_whether_it_was_sent() {
    let mut pair = Pair::x1();
    pair.call(b"sent");
    drain(&mut pair.module, 0);
    pair.module.call(0, &options(9), Body::from(&b"kept"[..]), 8).unwrap();
    pair.module.recv_eof(0);
    let sent: Vec<_> = outcomes(&mut pair.module)
        .into_iter()
        .map(|(key, outcome)| match outcome {
            Outcome::Lost { was_sent, reason } => (key, was_sent, reason),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sent, [(7, true, CloseReason::PeerGone), (8, false, CloseReason::PeerGone)]);
    assert_eq!(
        pair.module.call(0, &options(9), Body::default(), 0),
        Err(Refused::Closed(CloseReason::PeerGone))
    );
}

#[test]
fn a_refused_module_learns_why() {
    let mut pair = Pair::new(Config::DEFAULT, Config::DEFAULT);
    pair.module.hello(0, hello()).unwrap();
    pair.turn();
    let refusal = Refusal { code: RefusalCode::DuplicateId, message: "m".into(), hint: "h".into() };
    pair.host.refuse(0, refusal.clone()).unwrap();
    pair.turn();
    assert!(
        matches!(&events(&mut pair.module)[..], [Event::Refused(told), Event::Closed(CloseReason::Refused(RefusalCode::DuplicateId))] if *told == refusal)
    );
}

#[test]
fn a_silent_peer_is_turned_away_when_the_handshake_takes_too_long() {
    let mut pair = Pair::new(Config::DEFAULT, Config::DEFAULT);
    let due = pair.host.deadline().unwrap();
    pair.host.handle_timeout(due - 1);
    assert_eq!(pair.host.closed(), None);
    pair.host.handle_timeout(due);
    assert_eq!(pair.host.closed(), Some(CloseReason::HandshakeTimeout));
    // What it is told, if it still listens.
    pair.module.hello(0, hello()).unwrap();
    let down = drain(&mut pair.host, due);
    pair.module.recv(due, &down);
    assert_eq!(pair.module.closed(), Some(CloseReason::Refused(RefusalCode::Timeout)));
}

#[test]
fn an_idle_connection_gives_back_what_a_burst_took() {
    let mut pair = Pair::x1();
    let ids: Vec<CallId> = (0..1000).map(|_| pair.call(b"x")).collect();
    pair.turn();
    pair.host.handle_timeout(1_000_000);
    pair.module.handle_timeout(1_000_000);
    pair.turn();
    events(&mut pair.host);
    outcomes(&mut pair.module);
    for id in ids {
        pair.host.reply(0, id, Body::default()).unwrap();
    }
    pair.turn();
    let (host, module) = (pair.host.machine.session().unwrap(), pair.module.machine.session().unwrap());
    let kept = [
        host.served.capacity(),
        module.calls.capacity(),
        pair.host.inbox.capacity(),
        pair.host.effects.capacity(),
        pair.module.effects.capacity(),
        pair.module.outcomes.capacity(),
    ];
    assert!(kept.iter().all(|kept| *kept <= 64), "{kept:?}");
}

#[test]
fn extension_frames_are_skipped_and_counted() {
    let mut pair = Pair::x1();
    pair.module.extension(0, 200).unwrap();
    pair.call(b"x");
    pair.turn();
    assert_eq!((pair.host.extensions_skipped(), &pair.served().body[..]), (1, &b"x"[..]));
}

#[test]
fn a_peer_that_leaves_before_it_answered_did_not_close_in_order() {
    for open in [true, false] {
        let mut pair = Pair::x1();
        let id = pair.call(b"a");
        pair.turn();
        pair.module.goodbye(0, 1, "").unwrap();
        pair.turn();
        assert_eq!(pair.module.phase(), Phase::Finishing);
        if !open {
            pair.module.cancel(0, id).unwrap();
        } else {
            pair.module.recv_eof(0);
            assert_eq!(pair.module.closed(), Some(CloseReason::PeerGone));
            let lost = outcomes(&mut pair.module);
            assert!(matches!(
                lost[..],
                [(7, Outcome::Lost { reason: CloseReason::PeerGone, was_sent: true })]
            ));
        }
        // Who gave up what it waited for leaves in order, though the other side has not answered.
        pair.host.recv_eof(0);
        assert!(matches!(pair.host.closed(), Some(CloseReason::Drained { .. })));
    }
}
