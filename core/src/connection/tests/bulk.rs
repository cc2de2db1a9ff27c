//! Bodies in fragments.

use super::*;

fn pattern(n: usize) -> Bytes {
    (0..n).map(|i| (i as u32).wrapping_mul(2_654_435_761) as u8).collect()
}

#[test]
fn a_block_arrives_whole_whatever_the_chunking() {
    for chunk in [1, 7, 4096, 65_536, usize::MAX] {
        let mut pair = Pair::x1();
        pair.chunk = chunk;
        let id = pair.call(b"block");
        pair.turn();
        let block = pattern(300_000);
        pair.host.reply(0, id, Body { head: b"head", tail: block.clone() }).unwrap();
        pair.turn();
        let [(7, Outcome::Reply(body))] = &outcomes(&mut pair.module)[..] else { panic!("chunk {chunk}") };
        assert!(body.starts_with(b"head") && body[4..] == block, "chunk {chunk}");
    }
}

#[test]
fn a_lent_buffer_takes_the_bytes_that_recv_would() {
    let mut pair = Pair::x1();
    let id = pair.call(b"block");
    pair.turn();
    let block = pattern(1 << 20);
    pair.host.reply(0, id, Body { head: &[], tail: block.clone() }).unwrap();
    let mut lent = 0;
    loop {
        let wire = drain(&mut pair.host, 0);
        if wire.is_empty() {
            break;
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            if let Some(mut buf) = pair.module.take_bulk() {
                assert!(pair.module.take_bulk().is_none());
                let n = buf.space().len().min(rest.len()).min(50_000);
                buf.space()[..n].copy_from_slice(&rest[..n]);
                pair.module.recv_bulk(0, buf, n);
                rest = &rest[n..];
                lent += n;
            } else {
                let n = rest.len().min(333);
                pair.module.recv(0, &rest[..n]);
                rest = &rest[n..];
            }
        }
    }
    assert!(lent > block.len() / 2, "{lent}");
    assert!(matches!(&outcomes(&mut pair.module)[..], [(7, Outcome::Reply(body))] if *body == block));
}

#[test]
fn a_ping_is_answered_while_a_block_is_in_flight() {
    let mut pair = Pair::x1();
    let id = pair.call(b"block");
    pair.turn();
    events(&mut pair.host);
    pair.host.reply(0, id, Body { head: &[], tail: pattern(4 << 20) }).unwrap();
    // One batch of the block is out; the ping overtakes what is not.
    let first = pair.host.take_batch(0).unwrap();
    pair.module.ping(0).unwrap();
    let ping = drain(&mut pair.module, 0);
    pair.host.recv(0, &ping);
    let bytes: Vec<u8> = first.slices().flatten().copied().collect();
    pair.host.batch_done(first);
    pair.module.recv(0, &bytes);
    let second = pair.host.take_batch(0).unwrap();
    let bytes: Vec<u8> = second.slices().flatten().copied().collect();
    pair.module.recv(0, &bytes);
    assert!(events(&mut pair.module).iter().any(|event| matches!(event, Event::Pong { .. })));
    assert_eq!(pair.module.calls_open(), 1);
}

#[test]
fn credit_comes_back_so_that_bulk_never_stops() {
    let limits = Limits { body_bytes_max: 200_000, credit_bytes: 300_000, ..Limits::DEFAULT };
    let config = Config { limits, ..Config::DEFAULT };
    let mut pair = Pair::active(config, config);
    for round in 0..20 {
        let ids: Vec<CallId> = (0..3).map(|_| pair.call(b"b")).collect();
        pair.turn();
        events(&mut pair.host);
        for id in ids {
            pair.host.reply(0, id, Body { head: &[], tail: pattern(200_000) }).unwrap();
        }
        pair.turn();
        assert_eq!(outcomes(&mut pair.module).len(), 3, "round {round}");
        // The same in the other direction: a call's credit comes back with its answer.
        let id = pair.module.call(0, &options(9), Body { head: &[], tail: pattern(150_000) }, 1).unwrap();
        assert!(pair.module.call(0, &options(9), Body { head: &[], tail: pattern(200_000) }, 1).is_err());
        pair.turn();
        assert_eq!(pair.served().body, pattern(150_000));
        pair.host.reply(0, id, Body::default()).unwrap();
        pair.turn();
        assert_eq!(outcomes(&mut pair.module).len(), 1);
    }
}

#[test]
fn an_abandoned_calls_block_is_dropped_and_its_credit_comes_back() {
    let mut pair = Pair::x1();
    let id = pair.call(b"block");
    pair.turn();
    events(&mut pair.host);
    pair.module.cancel(0, id).unwrap();
    pair.host.reply(0, id, Body { head: &[], tail: pattern(1 << 20) }).unwrap();
    pair.turn();
    assert!(matches!(outcomes(&mut pair.module)[..], [(7, Outcome::Cancelled)]));
    let session = pair.host.machine.session().unwrap();
    assert_eq!(
        (session.credit_spent, session.credit_limit),
        (1 << 20, Limits::DEFAULT.credit_bytes + (1 << 20))
    );
}

#[test]
fn a_body_that_is_too_long_is_refused_and_the_call_stays_open() {
    let mut pair = Pair::x1();
    let id = pair.call(b"x");
    pair.turn();
    let long = Bytes::from(vec![0; Limits::DEFAULT.body_bytes_max as usize + 1]);
    assert_eq!(pair.host.reply(0, id, Body { head: &[], tail: long }), Err(Refused::BodyTooLong));
    pair.host.reply(0, id, Body::default()).unwrap();
    pair.turn();
    assert_eq!(outcomes(&mut pair.module).len(), 1);
}

#[test]
fn drain_waits_for_a_block_that_is_on_its_way() {
    let mut pair = Pair::x1();
    let id = pair.call(b"block");
    pair.turn();
    pair.host.reply(0, id, Body { head: &[], tail: pattern(2 << 20) }).unwrap();
    pair.host.goodbye(0, 1, "").unwrap();
    pair.turn();
    assert!(matches!(&outcomes(&mut pair.module)[..], [(7, Outcome::Reply(body))] if body.len() == 2 << 20));
    assert!(matches!(pair.host.closed(), Some(CloseReason::Drained { .. })));
}

/// A handler that asks its caller for something long waits for an answer whose credit its own call's body must not hold.
#[test]
fn an_answer_never_waits_for_the_credit_of_an_open_call() {
    let mut pair = Pair::x1();
    let invoked = pair.host.call(0, &options(9), Body { head: &[], tail: pattern(1 << 20) }, 1).unwrap();
    pair.turn();
    let asked = pair.call(b"longest");
    pair.turn();
    let longest = Bytes::from(vec![5; Limits::DEFAULT.body_bytes_max as usize]);
    pair.host.reply(0, asked, Body { head: &[], tail: longest.clone() }).unwrap();
    pair.turn();
    assert!(matches!(&outcomes(&mut pair.module)[..], [(7, Outcome::Reply(body))] if *body == longest));
    pair.module.reply(0, invoked, Body::default()).unwrap();
    pair.turn();
    assert_eq!(outcomes(&mut pair.host).len(), 1);
}

#[test]
fn calls_leave_credit_for_the_longest_answer() {
    let limits = Limits { body_bytes_max: 200_000, credit_bytes: 500_000, ..Limits::DEFAULT };
    let config = Config { limits, ..Config::DEFAULT };
    let mut pair = Pair::active(config, config);
    let call = |pair: &mut Pair, n| pair.module.call(0, &options(9), Body { head: &[], tail: pattern(n) }, 1);
    call(&mut pair, 200_000).unwrap();
    assert_eq!(call(&mut pair, 100_001), Err(Refused::WindowFull));
    call(&mut pair, 100_000).unwrap();
}

#[test]
fn a_long_body_is_not_starved_by_shorter_ones() {
    let limits = Limits { body_bytes_max: 200_000, credit_bytes: 400_000, ..Limits::DEFAULT };
    let config = Config { limits, ..Config::DEFAULT };
    let mut pair = Pair::active(config, config);
    let answer = |pair: &mut Pair, key, n| {
        let id = pair.module.call(0, &options(9), Body::from(&b"x"[..]), key).unwrap();
        let up = drain(&mut pair.module, 0);
        pair.host.recv(0, &up);
        pair.host.reply(0, id, Body { head: &[], tail: pattern(n) }).unwrap();
    };
    for _ in 0..8 {
        answer(&mut pair, 0, 50_000);
    }
    answer(&mut pair, 1, 200_000);
    // One frame at a time: each short body that arrives makes room for the next short one.
    let mut down = Vec::new();
    for _ in 0..100 {
        down.extend(drain(&mut pair.host, 0));
        let frame = 4 + u32::from_le_bytes(down[..4].try_into().unwrap()) as usize;
        let frame: Vec<u8> = down.drain(..frame).collect();
        pair.module.recv(0, &frame);
        for (key, _) in outcomes(&mut pair.module) {
            if key == 1 {
                return;
            }
            answer(&mut pair, 0, 50_000);
        }
    }
    panic!("the long body never left");
}
