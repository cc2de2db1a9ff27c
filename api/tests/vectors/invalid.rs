//! Bodies that do not decode: each is refused for its own reason.

use modipc_api::{DecodeError, Event, Fault, Invocation, LogMessage, Request, Response};

use crate::files::{body, read};

fn malformed(what: &'static str, offset: usize, fault: Fault) -> DecodeError {
    DecodeError::Malformed { what, offset, fault }
}

fn unknown(what: &'static str, number: u32, known: u32) -> DecodeError {
    DecodeError::UnknownVariant { what, number, known }
}

fn mismatch(what: &'static str, announced: u32, carried: u32) -> DecodeError {
    DecodeError::Mismatch { what, announced, carried }
}

fn expected() -> Vec<(&'static str, DecodeError)> {
    let claim = |claimed, possible| Fault::Length { claimed, possible };
    vec![
        ("request-type", mismatch("request", 3, 4)),
        ("request-unknown", unknown("request type", 99, 15)),
        ("request-short", malformed("request", 8, Fault::Truncated { missing: 1 })),
        ("request-long", malformed("request", 8, Fault::Trailing { extra: 1 })),
        ("request-event-type", unknown("event type", 250, 83)),
        ("request-list", malformed("request", 8, claim(257, 256))),
        ("request-claim", malformed("request", 8, claim(1 << 63, 0))),
        ("request-raw", malformed("request", 8, claim(27, 26))),
        ("request-empty", malformed("request", 0, Fault::Truncated { missing: 4 })),
        ("response-variant", unknown("response", 3, 3)),
        ("response-option", malformed("response", 8, Fault::Option(2))),
        ("response-bool", malformed("response", 28, Fault::Bool(2))),
        ("response-utf8", malformed("response", 8, Fault::Utf8)),
        ("event-type", mismatch("event", 11, 49)),
        ("event-long", malformed("event", 16, Fault::Trailing { extra: 1 })),
        ("log-level", unknown("log level", 5, 5)),
        ("invocation-type", mismatch("invocation", 0, 3)),
        ("invocation-unknown", unknown("invocation type", 4, 4)),
    ]
}

#[test]
fn each_is_refused_for_its_own_reason() {
    let mut vectors = read("invalid");
    for (name, error) in expected() {
        let frame = vectors.remove(&format!("plain-invalid-{name}")).expect(name);
        let body = body(&frame, frame[4], 0);
        let refused = match frame[4] {
            0 => Request::decode(&body).err(),
            1 => Response::decode(&body).err(),
            2 => Event::decode(&body).err(),
            3 => LogMessage::decode(&body).err(),
            4 => Invocation::decode(&body).err(),
            kind => panic!("{name}: kind {kind}"),
        };
        assert_eq!(refused, Some(error), "{name}");
    }
    assert!(vectors.is_empty(), "vectors without an expected error: {:?}", vectors.keys());
}
