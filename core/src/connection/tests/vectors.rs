//! The frames of docs/vectors that only the connection reads. They come from an encoder that was written from the document.

use super::*;
use crate::event_log::EventLog;

const CONTROL: &str = include_str!("../../../../docs/vectors/control.hex");
const HANDSHAKE: &str = include_str!("../../../../docs/vectors/handshake.hex");
const BULK: &str = include_str!("../../../../docs/vectors/bulk.hex");

fn vectors(file: &str) -> impl Iterator<Item = (&str, Vec<u8>)> {
    file.split("# ").skip(1).map(|vector| {
        let (title, hex) = vector.split_once('\n').unwrap();
        let digits: Vec<u8> = hex.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
        let bytes = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        (title.split(':').next().unwrap(), bytes)
    })
}

fn vector(file: &'static str, name: &str) -> Vec<u8> {
    vectors(file).find(|(title, _)| *title == name).unwrap_or_else(|| panic!("no vector {name}")).1
}

/// An active pair in which both sides have five calls open.
fn five_calls() -> Pair {
    let mut pair = Pair::x1();
    for _ in 0..5 {
        pair.call(b"x");
        pair.host.call(0, &options(9), Body::default(), 6).unwrap();
    }
    pair.turn();
    events(&mut pair.host);
    events(&mut pair.module);
    pair
}

fn to_host(name: &str) -> (Pair, Vec<Event>) {
    let mut pair = five_calls();
    pair.host.recv(0, &vector(CONTROL, name));
    let told = events(&mut pair.host);
    (pair, told)
}

fn to_module(name: &str) -> Vec<Event> {
    let mut pair = five_calls();
    pair.module.recv(0, &vector(CONTROL, name));
    assert_eq!(pair.module.closed(), None, "{name}");
    events(&mut pair.module)
}

#[test]
fn control_frames_mean_what_the_document_says() {
    assert!(matches!(to_host("x1-cancel").1[..], [Event::CallCancelled(CallId(5))]));
    let (mut pair, _) = to_host("x1-ping");
    assert_eq!(drain(&mut pair.host, 0), vector(CONTROL, "x1-pong"));
    assert!(matches!(
        &to_host("x1-goodbye").1[..],
        [Event::Draining { by: Initiator::Peer, reason: 1, resume: 42, detail }] if detail == "the node stops"
    ));
    assert!(matches!(to_host("x1-goodbye-violation").1[..], [Event::Closed(CloseReason::Blamed(271))]));
    assert!(matches!(to_module("x1-lagged")[..], [Event::Lagged { first: 10, last: 19 }]));
    assert!(matches!(to_module("x1-progress")[..], [Event::Progress { done: 3, total: 10, .. }]));
    assert!(
        matches!(&to_module("x1-grants-changed")[..], [Event::GrantsChanged(names)] if names == &["ReadBlockchain", "ReadUTXO"])
    );
    assert!(
        matches!(&to_module("x1-grants-changed-none")[..], [Event::GrantsChanged(names)] if names.is_empty())
    );
    let (pair, told) = to_host("x1-skipped");
    assert_eq!((pair.host.extensions_skipped(), told.len()), (1, 0));
    let (pair, _) = to_host("x1-credit");
    assert_eq!(pair.host.machine.session().unwrap().credit_limit, 50_331_648);
}

#[test]
fn control_frames_are_written_as_the_document_says() {
    let mut pair = five_calls();
    pair.module.cancel(0, CallId(5)).unwrap();
    assert_eq!(drain(&mut pair.module, 0), vector(CONTROL, "x1-cancel"));
    pair.host.progress(0, CallId(5), 3, 10).unwrap();
    assert_eq!(drain(&mut pair.host, 0), vector(CONTROL, "x1-progress"));
    pair.host.set_grants(0, 0, &["ReadBlockchain".into(), "ReadUTXO".into()]).unwrap();
    assert_eq!(drain(&mut pair.host, 0), vector(CONTROL, "x1-grants-changed"));
    pair.module.goodbye(0, 0, "").unwrap();
    assert_eq!(drain(&mut pair.module, 0), vector(CONTROL, "x1-goodbye-done"));
}

#[test]
fn a_lag_notice_is_written_as_the_document_says() {
    let (mut pair, mut log) = (Pair::x1(), EventLog::new(1, 1 << 20));
    for _ in 0..9 {
        log.append(1, Bytes::new());
    }
    pair.module.call(0, &options(9), Body::from(&b"S\x01"[..]), 0).unwrap();
    pair.turn();
    let Some(Event::Subscribe(call, subscription)) = pair.host.poll_event() else { panic!() };
    pair.host.reply_subscription(0, call.id, subscription, &mut log, Body::default()).unwrap();
    drain(&mut pair.host, 0);
    for _ in 0..11 {
        log.append(1, Bytes::new());
    }
    pair.host.pull_events(0, &mut log);
    assert!(drain(&mut pair.host, 0).starts_with(&vector(CONTROL, "x1-lagged")));
}

#[test]
fn every_hello_of_the_vectors_is_read_and_x1_is_what_the_tail_says() {
    let mut read = 0;
    for (name, bytes) in vectors(HANDSHAKE) {
        if bytes[4] != 6 {
            continue;
        }
        read += 1;
        let mut host = HostEnd::new(0, Config::DEFAULT, Toy);
        host.recv(0, &bytes);
        let Some(Event::Hello(hello)) = host.poll_event() else { panic!("{name}: {:?}", host.closed()) };
        let offered = hello.tail.as_ref().is_some_and(|tail| tail.x1);
        host.accept(0, accepted(), 0).unwrap();
        assert_eq!(host.profile() == Profile::X1, offered, "{name}");
    }
    assert!(read >= 3, "{read}");
}

#[test]
fn bulk_bodies_of_the_vectors_are_put_together() {
    let one = vector(BULK, "x1-bulk-one-fragment");
    let id = u64::from_le_bytes(one[8..16].try_into().unwrap());
    let mut pair = Pair::x1();
    for _ in 0..id {
        pair.call(b"block");
    }
    pair.module.recv(0, &one);
    assert!(
        matches!(&outcomes(&mut pair.module)[..], [(7, Outcome::Reply(body))] if body[..] == one[24..] && body.len() == 16_385)
    );

    let (first, last) = (vector(BULK, "x1-bulk-first"), vector(BULK, "x1-bulk-last"));
    let mut pair = Pair::x1();
    pair.host.recv(0, &first);
    assert_eq!((events(&mut pair.host).len(), pair.host.closed()), (0, None));
    pair.host.recv(0, &last);
    let call = pair.served();
    assert!(call.deadline.is_some() && call.trace.is_some() && call.idempotency.is_some());
    assert!(first.ends_with(&call.body[..65_536]) && last.ends_with(&call.body[65_536..]));
}
