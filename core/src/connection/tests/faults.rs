//! Every violation, by bytes that commit it: it is named, the guilty peer is told where the wire allows it, every call has its
//! outcome, and nothing follows.

use super::*;
use crate::envelope::Records;

/// A frame of this tag with the rest of its payload.
fn frame(tag: u32, rest: &[u8]) -> Vec<u8> {
    let mut bytes = (rest.len() as u32 + 4).to_le_bytes().to_vec();
    bytes.extend_from_slice(&tag.to_le_bytes());
    bytes.extend_from_slice(rest);
    bytes
}

fn with_id(tag: u32, id: u64, rest: &[u8]) -> Vec<u8> {
    let mut payload = id.to_le_bytes().to_vec();
    payload.extend_from_slice(rest);
    frame(tag, &payload)
}

fn hello_bytes() -> Vec<u8> {
    let mut module = ModuleEnd::new(0, Config::DEFAULT, Toy);
    module.hello(0, hello()).unwrap();
    drain(&mut module, 0)
}

/// Feeds the host of an active pair and checks the end that it comes to.
fn host_faults(bytes: &[u8], violation: Violation) {
    for chunk in [1, usize::MAX] {
        let mut pair = Pair::x1();
        pair.host.call(0, &options(9), Body::default(), 4).unwrap();
        let asked = drain(&mut pair.host, 0);
        pair.module.recv(0, &asked);
        feed(&mut pair.host, 0, bytes, chunk);
        assert_eq!(pair.host.closed(), Some(CloseReason::Violation(violation)), "{bytes:?}");
        assert!(matches!(outcomes(&mut pair.host)[..], [(4, Outcome::Lost { was_sent: true, .. })]));
        let told = drain(&mut pair.host, 0);
        pair.module.recv(0, &told);
        assert_eq!(pair.module.closed(), Some(CloseReason::Blamed(violation.goodbye_reason())));
        let told = events(&mut pair.module);
        assert!(matches!(told.last(), Some(Event::Closed(_))), "{told:?}");
        // Nothing that comes later matters.
        pair.host.recv(0, &hello_bytes());
        events(&mut pair.host);
        assert!(pair.host.poll_event().is_none() && pair.host.deadline().is_none());
    }
}

fn module_faults(bytes: &[u8], violation: Violation) {
    let mut pair = Pair::x1();
    pair.call(b"open");
    pair.turn();
    events(&mut pair.host);
    pair.module.recv(0, bytes);
    assert_eq!(pair.module.closed(), Some(CloseReason::Violation(violation)), "{bytes:?}");
    pair.turn();
    assert_eq!(pair.host.closed(), Some(CloseReason::Blamed(violation.goodbye_reason())));
}

/// Feeds a host that has seen nothing yet; the module is refused with this code.
fn first_bytes_fault(bytes: &[u8], violation: Violation, code: RefusalCode) {
    let mut pair = Pair::new(Config::DEFAULT, Config::DEFAULT);
    pair.host.recv(0, bytes);
    assert_eq!(pair.host.closed(), Some(CloseReason::Violation(violation)), "{bytes:?}");
    pair.module.hello(0, hello()).unwrap();
    drain(&mut pair.module, 0);
    let told = drain(&mut pair.host, 0);
    pair.module.recv(0, &told);
    assert_eq!(pair.module.closed(), Some(CloseReason::Refused(code)));
}

const MORE: u32 = 1 << 13;
const TOTAL: u32 = 1 << 12;

#[test]
fn garbage_instead_of_a_hello() {
    first_bytes_fault(b"GET / HTTP/1.1\r\n\r\n", Violation::FrameTooLong, RefusalCode::Malformed);
    first_bytes_fault(&3u32.to_le_bytes(), Violation::FrameTooShort, RefusalCode::Malformed);
    first_bytes_fault(&65_537u32.to_le_bytes(), Violation::FrameTooLong, RefusalCode::Malformed);
    first_bytes_fault(&frame(6, b"nonsense"), Violation::MalformedHello, RefusalCode::Malformed);
    first_bytes_fault(&frame(8, &[]), Violation::UnknownKind, RefusalCode::Malformed);
    first_bytes_fault(&frame(6 | 1 << 8, &[]), Violation::UnknownKind, RefusalCode::Malformed);
    first_bytes_fault(&frame(200, &[]), Violation::UnknownKind, RefusalCode::Malformed);
    first_bytes_fault(&with_id(0, 1, b"call"), Violation::NotHello, RefusalCode::NotHello);
    first_bytes_fault(&frame(3, b"log"), Violation::NotHello, RefusalCode::NotHello);
    first_bytes_fault(&frame(7, &[]), Violation::WrongDirection, RefusalCode::NotHello);
}

#[test]
fn a_trailing_byte_in_the_hello_is_refused() {
    let mut bytes = hello_bytes();
    bytes.push(0);
    let len = (bytes.len() as u32 - 4).to_le_bytes();
    bytes[..4].copy_from_slice(&len);
    first_bytes_fault(&bytes, Violation::MalformedHello, RefusalCode::Malformed);
}

#[test]
fn frames_before_the_answer_and_a_second_hello() {
    let cases = [(hello_bytes(), Violation::SecondHello), (with_id(0, 1, b"early"), Violation::BeforeAnswer)];
    for (bytes, violation) in cases {
        let mut pair = Pair::new(Config::DEFAULT, Config::DEFAULT);
        pair.host.recv(0, &hello_bytes());
        pair.host.recv(0, &bytes);
        assert_eq!(pair.host.closed(), Some(CloseReason::Violation(violation)));
    }
    host_faults(&frame(6, b""), Violation::MalformedHello);
    host_faults(&hello_bytes(), Violation::SecondHello);
}

#[test]
fn a_peer_that_sends_half_and_leaves() {
    for cut in 1..30 {
        let mut pair = Pair::x1();
        let mut whole = Vec::new();
        whole.extend(with_id(0, 1, &[0; 40]));
        pair.host.recv(0, &whole[..cut]);
        assert_eq!(pair.host.closed(), None);
        pair.host.recv_eof(0);
        assert_eq!(pair.host.closed(), Some(CloseReason::Violation(Violation::Truncated)), "cut {cut}");
    }
    let mut pair = Pair::x1();
    pair.host.recv_eof(0);
    assert_eq!(pair.host.closed(), Some(CloseReason::PeerGone));
}

#[test]
fn a_claimed_length_allocates_nothing() {
    let mut pair = Pair::plain();
    let mut claim = (16u32 << 20).to_le_bytes().to_vec();
    claim.extend_from_slice(&0u32.to_le_bytes());
    pair.host.recv(0, &claim);
    assert_eq!(pair.host.closed(), None);
    assert!(pair.host.inbound.capacity() < 100);
    let mut pair = Pair::plain();
    pair.host.recv(0, &((16u32 << 20) + 1).to_le_bytes());
    assert_eq!(pair.host.closed(), Some(CloseReason::Violation(Violation::FrameTooLong)));
    assert!(drain(&mut pair.host, 0).is_empty(), "the plain profile has nothing to tell it with");
}

#[test]
fn envelopes_that_break_a_rule() {
    host_faults(&frame(0, &[1, 2, 3]), Violation::BadField);
    host_faults(&0u32.to_le_bytes(), Violation::FrameTooShort);
    host_faults(&with_id(16, 0, &[]), Violation::UnknownKind);
    host_faults(&with_id(127, 0, &[]), Violation::UnknownKind);
    host_faults(&with_id(1 << 14, 1, &[]), Violation::BadFlags);
    host_faults(&with_id(1 << 31, 1, &[]), Violation::BadFlags);
    host_faults(&with_id(9 | 1 << 8, 1, &[0; 8]), Violation::BadFlags);
    host_faults(&with_id(1 << 8, 9, &[0; 8]), Violation::BadField);
    host_faults(&with_id(3, 1, b"log"), Violation::BadField);
    host_faults(&with_id(1 << 15, 9, &[5, 0, 1, 0, 0, 0, 9]), Violation::BadField);
    host_faults(&with_id(1 << 15, 9, &[255, 255]), Violation::BadField);
    module_faults(&with_id(2, 1, b"event without prev"), Violation::BadFlags);
}

#[test]
fn records_whose_value_does_not_fit() {
    for (key, value) in [(3u16, &[0u8; 7][..]), (3, &[0; 9]), (4, &[]), (4, &[3]), (4, &[0, 0])] {
        let mut records = Vec::new();
        Records::push(&mut records, key, value).unwrap();
        let mut rest = (records.len() as u16).to_le_bytes().to_vec();
        rest.extend(records);
        host_faults(&with_id(1 << 15, 9, &[&rest[..], b"S"].concat()), Violation::BadField);
    }
    // A key that nobody knows is ignored.
    let mut pair = Pair::x1();
    pair.host.recv(0, &with_id(1 << 15, 9, b"\x05\x00\x63\x00\x01\x00\x00S\x01"));
    assert!(matches!(pair.host.poll_event(), Some(Event::Subscribe(..))));
}

#[test]
fn frames_of_the_wrong_side() {
    for kind in [1u32, 2, 4, 7, 12, 15] {
        let flags = if kind == 2 { 1 << 11 } else { 0 };
        host_faults(&with_id(kind | flags, 0, &[0; 16]), Violation::WrongDirection);
    }
    for kind in [0u32, 3, 5, 6] {
        module_faults(&with_id(kind, 0, &[0; 16]), Violation::WrongDirection);
    }
}

/// A long frame is judged by its header alone, before its body is there: by the same rules.
#[test]
fn long_frames_of_the_wrong_side() {
    let mut fragment = 200_000u64.to_le_bytes().to_vec();
    fragment.resize(8 + 65_536, 0);
    for kind in [1u32, 4] {
        host_faults(&with_id(kind | TOTAL | MORE, 1, &fragment), Violation::WrongDirection);
        host_faults(&with_id(kind, 1, &[0; 20_000]), Violation::WrongDirection);
    }
    for kind in [0u32, 5] {
        let bytes = with_id(kind | TOTAL | MORE, 1, &fragment);
        for cut in [bytes.len(), 5000] {
            module_faults(&bytes[..cut], Violation::WrongDirection);
        }
    }
}

#[test]
fn ids_that_mean_nothing() {
    host_faults(&with_id(0, 0, b"zero"), Violation::StaleCallId);
    let mut twice = with_id(0, 1, b"a");
    twice.extend(with_id(0, 1, b"b"));
    host_faults(&twice, Violation::StaleCallId);
    host_faults(&with_id(5, 2, b"answer nobody asked for"), Violation::AnswerUnasked);
    let mut twice = with_id(5, 1, b"a");
    twice.extend(with_id(5, 1, b"b"));
    let mut pair = Pair::x1();
    pair.host.call(0, &options(9), Body::default(), 4).unwrap();
    pair.host.recv(0, &twice);
    assert_eq!(pair.host.closed(), Some(CloseReason::Violation(Violation::AnswerUnasked)));
    assert!(matches!(outcomes(&mut pair.host)[..], [(4, Outcome::Reply(_))]), "the first answer stands");
    host_faults(&with_id(8, 9, &[]), Violation::CancelUnissued);
    host_faults(&with_id(10, 9, &[]), Violation::PongUnasked);
    host_faults(&with_id(14, 9, &[0; 16]), Violation::ProgressUnasked);
    module_faults(&with_id(2 | 1 << 11, 0, &[0; 8]), Violation::PositionOrder);
}

#[test]
fn control_frames_with_the_wrong_body() {
    host_faults(&with_id(9, 1, b"x"), Violation::MalformedControl);
    host_faults(&with_id(8, 1, b"x"), Violation::MalformedControl);
    host_faults(&with_id(13, 0, &[0; 7]), Violation::MalformedControl);
    host_faults(&with_id(11, 0, &[0; 12]), Violation::MalformedControl);
    let mut bad_utf8 = [0; 22];
    bad_utf8[12] = 2;
    bad_utf8[20] = 0xff;
    host_faults(&with_id(11, 0, &bad_utf8), Violation::MalformedControl);
    module_faults(&with_id(15, 0, &u64::MAX.to_le_bytes()), Violation::MalformedControl);
    host_faults(&with_id(13, 0, &5u64.to_le_bytes()), Violation::CreditShrunk);
}

#[test]
fn fragments_that_break_a_rule() {
    let first = |total: u64, len: usize, more: bool| {
        let mut rest = total.to_le_bytes().to_vec();
        rest.resize(8 + len, 0);
        with_id(TOTAL | if more { MORE } else { 0 }, 9, &rest)
    };
    host_faults(&first(200_000, 65_535, true), Violation::FragmentSize);
    host_faults(&first(600_000, 262_145, true), Violation::FragmentSize);
    host_faults(&first(16_384, 16_384, false), Violation::FragmentSize);
    host_faults(&first(200_000, 100_000, false), Violation::FragmentSize);
    host_faults(&first(70_000, 70_000, true), Violation::FragmentSize);
    host_faults(&first((16 << 20) + 1, 65_536, true), Violation::BodyTooLong);
    host_faults(&with_id(MORE, 9, &[0; 70_000]), Violation::FragmentStray);
    host_faults(&with_id(0, 9, &[0; 16_385]), Violation::NotBulk);
    let mut over = first(16 << 20, 65_536, true);
    for (id, total) in [(10, 16 << 20), (11, 70_000u64)] {
        over.extend(with_id(TOTAL | MORE, id, &[&total.to_le_bytes()[..], &[0; 65_536]].concat()));
    }
    host_faults(&over, Violation::OverCredit);
    let mut again = first(200_000, 65_536, true);
    again.extend(first(200_000, 65_536, true));
    host_faults(&again, Violation::StaleCallId);
    // Later fragments carry the kind and the id only.
    for (flag, field) in [(8, &9u64.to_le_bytes()[..]), (15, &[4, 0, 9, 0, 0, 0])] {
        let mut dressed = first(200_000, 65_536, true);
        dressed.extend(with_id(MORE | 1 << flag, 9, &[field, &[0; 65_536]].concat()));
        host_faults(&dressed, Violation::BadFlags);
    }
    let mut long = first(70_000, 65_536, true);
    long.extend(with_id(0, 9, &[0; 5000]));
    host_faults(&long, Violation::FragmentSize);
}

#[test]
fn who_said_goodbye_starts_nothing_more() {
    let goodbye = with_id(11, 0, &[0; 20]);
    let mut call = goodbye.clone();
    call.extend(with_id(0, 1, b"x"));
    host_faults(&call, Violation::AfterGoodbye);
    let mut bulk = goodbye.clone();
    bulk.extend(with_id(TOTAL, 1, &[&20_000u64.to_le_bytes()[..], &[0; 20_000]].concat()));
    host_faults(&bulk, Violation::AfterGoodbye);
    let mut twice = goodbye.clone();
    twice.extend(&goodbye);
    host_faults(&twice, Violation::SecondGoodbye);
}

#[test]
fn a_peer_that_floods_and_does_not_read_is_cut_off() {
    for frame in [with_id(9, 1, &[]), with_id(0, 1, b"!")] {
        let mut pair = Pair::active(Config { outbox_bytes_max: 1000, ..Config::DEFAULT }, Config::DEFAULT);
        pair.host.set_grants(0, 0, &[]).unwrap();
        let mut most = 0;
        for id in 1..100_000u64 {
            let mut frame = frame.clone();
            frame[8..16].copy_from_slice(&id.to_le_bytes());
            pair.host.recv(0, &frame);
            events(&mut pair.host);
            most = most.max(pair.host.outbox_bytes());
            if pair.host.closed().is_some() {
                break;
            }
        }
        assert_eq!(pair.host.closed(), Some(CloseReason::Violation(Violation::Flood)));
        assert!(most < 67_000, "{most}");
    }
}

#[test]
fn calls_that_are_answered_and_not_read_become_busy_and_memory_stays_bounded() {
    let mut pair = Pair::active(Config { outbox_bytes_max: 10_000, ..Config::DEFAULT }, Config::DEFAULT);
    let (mut busy, mut most) = (0, 0);
    for id in 1..2000u64 {
        pair.host.recv(0, &with_id(0, id, b"x"));
        for event in events(&mut pair.host) {
            match event {
                Event::Call(call) => pair.host.reply(0, call.id, Body::from(&[0; 500][..])).unwrap(),
                Event::CallBusy(_) => busy += 1,
                other => panic!("{other:?}"),
            }
        }
        most = most.max(pair.host.outbox_bytes());
    }
    assert!(busy > 1000 && most < 80_000, "{busy} {most}");
}

#[test]
fn an_answer_that_cannot_be_read_ends_the_modules_handshake() {
    let mut module = ModuleEnd::new(0, Config::DEFAULT, Toy);
    module.hello(0, hello()).unwrap();
    module.recv(0, &frame(7, &[9, 0, 0, 0]));
    assert_eq!(module.closed(), Some(CloseReason::Violation(Violation::MalformedAnswer)));
    // x1 confirmed though nobody offered it.
    let mut module = ModuleEnd::new(0, Config { x1: false, ..Config::DEFAULT }, Toy);
    module.hello(0, hello()).unwrap();
    let mut body = Vec::new();
    Answer::Accepted(Accepted { x1: true, ..accepted() }).encode(&mut body);
    module.recv(0, &frame(7, &body));
    assert_eq!(module.closed(), Some(CloseReason::Violation(Violation::MalformedAnswer)));
}

#[test]
fn a_refusal_says_what_was_wrong() {
    let early = [hello_bytes(), with_id(0, 1, b"early")].concat();
    let cases = [
        (early, "before the handshake was answered"),
        (65_537u32.to_le_bytes().to_vec(), "longer than the announced maximum"),
    ];
    for (bytes, words) in cases {
        let mut host = HostEnd::new(0, Config::DEFAULT, Toy);
        host.recv(0, &bytes);
        let told = drain(&mut host, 0);
        let Some(Answer::Refused(refusal)) = Answer::decode(&told[8..]) else { panic!("{told:?}") };
        assert!(refusal.message.contains(words), "{}", refusal.message);
    }
}
