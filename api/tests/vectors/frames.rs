//! Headers and handshake: the vectors against the envelope that the native dialect uses.

use modipc_api::{Capability, NativeDialect};
use modipc_core::envelope::{Head, Headed, Profile, Records};
use modipc_core::{Accepted, Answer, Dialect, Hello, HelloTail, Kind, Limits, Refusal, RefusalCode};

use crate::counting;
use crate::files::read;

const FILES: &[&str] = &[
    "handshake",
    "requests",
    "responses",
    "events",
    "logs",
    "invocations",
    "control",
    "flags",
    "bulk",
    "invalid",
];

fn payload(frame: &[u8]) -> &[u8] {
    let (prefix, payload) = frame.split_first_chunk::<4>().unwrap();
    assert_eq!(NativeDialect.frame_len(*prefix) as usize, payload.len());
    assert_eq!(NativeDialect.frame_prefix(payload.len() as u32), *prefix);
    payload
}

fn headed(profile: Profile, payload: &[u8]) -> Headed<'_> {
    NativeDialect.decode_head(profile, payload, payload.len() as u32).unwrap()
}

#[test]
fn every_header_is_read_and_written_alike() {
    for (file, (name, frame)) in FILES.iter().flat_map(|file| read(file).into_iter().map(move |v| (file, v)))
    {
        let payload = payload(&frame);
        let shared = ["requests", "responses", "invocations"].contains(file);
        let profile = if name.starts_with("plain-") { Profile::Plain } else { Profile::X1 };
        // [E-1]: these are the same bytes in both profiles.
        for profile in [profile, if shared { Profile::X1 } else { profile }] {
            let Headed::Frame { head, len } = headed(profile, payload) else {
                assert_eq!(name, "x1-skipped");
                assert_eq!(headed(profile, payload), Headed::Skip { kind: 200 });
                continue;
            };
            let mut written = Vec::new();
            NativeDialect.encode_head(profile, &head, &mut written);
            if name == "x1-flags-no-records" {
                // An empty list is legal to receive; a sender leaves the flag out.
                assert_eq!((head.records, len), (&[][..], 14));
                continue;
            }
            assert_eq!(written, payload[..len], "{name}");
        }
    }
}

#[test]
fn every_flag_is_read_as_the_document_says() {
    let flags = read("flags");
    let bulk = read("bulk");
    let deadline_us = Some(250_000);
    let mut trace = [0; 25];
    trace[..16].copy_from_slice(&counting(0)[..16]);
    trace[16..24].copy_from_slice(&counting(32)[..8]);
    trace[24] = 1;
    let trace = Some(trace);
    let idempotency = Some(std::array::from_fn(|i| 200 + i as u8));
    let resume: &[u8] = &[3, 0, 8, 0, 0xe9, 3, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 2];
    let later: &[u8] = &[0x28, 0x23, 5, 0, b'l', b'a', b't', b'e', b'r'];
    let empty = [0x28, 0x23, 0, 0];
    let request = |id| Head::new(Kind::Request, id);

    let expected = [
        ("deadline", Head { deadline_us, ..request(1) }),
        ("trace", Head { trace, ..request(2) }),
        ("idempotency", Head { idempotency, ..request(3) }),
        ("records", Head { records: resume, ..request(4) }),
        ("later-record", Head { records: later, ..Head::new(Kind::Response, 5) }),
        ("no-records", Head::new(Kind::Response, 6)),
        ("request", Head { deadline_us, trace, idempotency, records: resume, ..request(7) }),
        (
            "invocation",
            Head { deadline_us, trace, idempotency, records: &empty, ..Head::new(Kind::Invocation, 8) },
        ),
        ("event", Head { prev: Some(8), records: later, ..Head::new(Kind::Event, 9) }),
    ];
    assert_eq!(flags.len(), expected.len());
    let in_flags = expected.map(|(name, head)| (flags[&format!("x1-flags-{name}")].clone(), head));
    let first = Head { deadline_us, trace, idempotency, total: Some(65_537), more: true, ..request(2) };
    let in_bulk = [
        ("x1-bulk-one-fragment", Head { total: Some(16_385), ..Head::new(Kind::Response, 1) }),
        ("x1-bulk-first", Head { records: later, ..first }),
        ("x1-bulk-last", request(2)),
    ]
    .map(|(name, head)| (bulk[name].clone(), head));

    for (frame, expected) in in_flags.into_iter().chain(in_bulk) {
        let Headed::Frame { head, .. } = headed(Profile::X1, payload(&frame)) else { panic!("no frame") };
        assert_eq!(head, expected);
    }
    let records = Records::new(resume);
    assert_eq!(records.get(3), Some(&1001u64.to_le_bytes()[..]));
    assert_eq!(records.get(4), Some(&[2][..]));
}

#[test]
fn the_fragments_of_a_body_make_the_body() {
    let bulk = read("bulk");
    let bodies = ["x1-bulk-first", "x1-bulk-last"].map(|name| {
        let payload = payload(&bulk[name]);
        let Headed::Frame { len, .. } = headed(Profile::X1, payload) else { panic!("no frame") };
        payload[len..].to_vec()
    });
    let whole = bodies.concat();
    assert_eq!((bodies[0].len(), whole.len()), (65_536, 65_537));
    let raw = modipc_api::RawTransaction::new(crate::pattern(65_537 - 16).into());
    assert_eq!(modipc_api::Request::decode(&whole), Ok(modipc_api::Request::SubmitTransaction { raw }));
}

fn limits() -> Limits {
    Limits {
        frame_bytes_max: 16_777_216,
        calls_max: 64,
        abandoned_max: 32,
        inline_bytes_max: 16_384,
        body_bytes_max: 8_388_608,
        credit_bytes: 33_554_432,
        call_deadline_us_max: 30_000_000,
    }
}

fn hello(tail: Option<HelloTail>) -> Hello {
    let asked = [Capability::ReadBlockchain, Capability::SubscribeEvents];
    Hello {
        module_id: "block-analyst".into(),
        capabilities: asked.map(|capability| capability.name().to_owned()).into(),
        version: "1.2.3".into(),
        tail,
    }
}

#[test]
fn hellos_are_the_documents_bytes() {
    let vectors = read("handshake");
    let none = HelloTail { protocol: 1, token: vec![], x1: false, limits: None, unknown_critical: None };
    let full =
        HelloTail { token: b"one-time-token".to_vec(), x1: true, limits: Some(limits()), ..none.clone() };
    let expected = [
        ("seed", hello(None)),
        ("tail", hello(Some(none.clone()))),
        ("x1", hello(Some(full))),
        ("unknown-record", hello(Some(HelloTail { x1: true, ..none.clone() }))),
        ("critical", hello(Some(HelloTail { unknown_critical: Some(900), ..none }))),
    ];
    for (name, hello) in expected {
        let body = &payload(&vectors[&format!("plain-hello-{name}")])[4..];
        assert_eq!(Hello::decode(body).as_ref(), Some(&hello), "{name}");
        // Records that only a later version writes are dropped when read.
        if !["unknown-record", "critical"].contains(&name) {
            let mut encoded = Vec::new();
            hello.encode(&mut encoded);
            assert_eq!(encoded, body, "{name}");
        }
    }
}

#[test]
fn answers_are_the_documents_bytes() {
    let vectors = read("handshake");
    let accepted = |x1| {
        Answer::Accepted(Accepted {
            granted: vec!["ReadBlockchain".into()],
            limits: limits(),
            node_version: "modipc 0.1.0".into(),
            instance_id: std::array::from_fn(|i| i as u8),
            next_token: b"next-token".to_vec(),
            x1,
        })
    };
    let refused = Answer::Refused(Refusal {
        code: RefusalCode::DuplicateId,
        message: "block-analyst is connected already".into(),
        hint: "stop the other, or use another id".into(),
    });
    for (name, answer) in [("accepted", accepted(false)), ("x1", accepted(true)), ("refused", refused)] {
        let body = &payload(&vectors[&format!("plain-answer-{name}")])[4..];
        assert_eq!(Answer::decode(body).as_ref(), Some(&answer), "{name}");
        let mut encoded = Vec::new();
        answer.encode(&mut encoded);
        assert_eq!(encoded, body, "{name}");
    }
}
