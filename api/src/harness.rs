//! Properties of the codec as functions of arbitrary bytes: tests and fuzz targets call the same ones.
//!
//! Each panics if its property does not hold; that is how a fuzzer learns of it.

use bytes::Bytes;
use modipc_core::{CallClass, Dialect, Kind};

use crate::{
    AnyEvent, DecodeError, Event, HealthReport, Invocation, InvocationResult, LogMessage, NativeDialect,
    Request, Response, decode_fields, decode_target, encode_fields,
};

/// All properties below, for the same bytes.
pub fn all(body: &[u8]) {
    request(body);
    response(body);
    event(body);
    log(body);
    invocation(body);
}

/// A body that decodes as a request encodes to itself, and the dialect classifies any body without disagreeing with the
/// codec: only a request that decodes changes the subscription.
pub fn request(body: &[u8]) {
    let request = both(body, Request::decode, Request::decode_shared);
    if let Ok(request) = &request {
        canonical(body, |out| request.encode(out));
    }
    let meaning = NativeDialect.classify(Kind::Request, body);
    match (meaning.class, &request) {
        (CallClass::Subscribe(topics), Ok(Request::SubscribeEvents { event_types })) => {
            assert!(event_types.iter().all(|event_type| topics.contains(event_type.topic())));
            assert!(topics.iter().all(|topic| event_types.iter().any(|known| known.topic() == topic)));
        }
        (CallClass::Unsubscribe(topics), Ok(Request::Unsubscribe { event_types })) => {
            assert!(event_types.iter().all(|event_type| topics.contains(event_type.topic())));
        }
        (CallClass::Ordinary, Ok(Request::SubscribeEvents { .. } | Request::Unsubscribe { .. })) => {
            panic!("the dialect overlooks a subscription");
        }
        (CallClass::Ordinary, _) => {}
        (CallClass::Subscribe(_) | CallClass::Unsubscribe(_), other) => {
            panic!("the dialect sees a subscription in {other:?}");
        }
    }
}

/// A body that decodes as a response encodes to itself.
pub fn response(body: &[u8]) {
    if let Ok(response) = both(body, Response::decode, Response::decode_shared) {
        canonical(body, |out| response.encode(out));
    }
}

/// A body that decodes as an event, or is handed on raw, encodes to itself.
pub fn event(body: &[u8]) {
    if let Ok(event) = Event::decode(body) {
        canonical(body, |out| event.encode(out));
    }
    if let Ok(event) = AnyEvent::decode(&Bytes::copy_from_slice(body)) {
        canonical(body, |out| event.encode(out));
    }
}

/// A body that decodes as a log message encodes to itself, and so does the value of a record of fields.
pub fn log(body: &[u8]) {
    if let Ok(log) = LogMessage::decode(body) {
        canonical(body, |out| log.encode(out));
    }
    if let Ok(target) = decode_target(body) {
        assert_eq!(target.as_bytes(), body);
    }
    let fields: Result<Vec<_>, DecodeError> = decode_fields(body).collect();
    if let Ok(fields) = fields
        && body.len() <= usize::from(u16::MAX)
    {
        canonical(body, |out| assert_eq!(encode_fields(fields, usize::MAX, out), 0));
    }
}

/// A body that decodes as an invocation or its result encodes to itself.
pub fn invocation(body: &[u8]) {
    if let Ok(invocation) = both(body, Invocation::decode, Invocation::decode_shared) {
        canonical(body, |out| invocation.encode(out));
    }
    if let Ok(result) = both(body, InvocationResult::decode, InvocationResult::decode_shared) {
        canonical(body, |out| result.encode(out));
    }
    if let Ok(report) = HealthReport::decode(body) {
        canonical(body, |out| report.encode(out));
    }
}

/// Copying and sharing give the same.
fn both<T: PartialEq + core::fmt::Debug>(
    body: &[u8],
    copying: fn(&[u8]) -> Result<T, DecodeError>,
    sharing: fn(&Bytes) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let copied = copying(body);
    assert_eq!(copied, sharing(&Bytes::copy_from_slice(body)));
    copied
}

/// There is one encoding of each value.
fn canonical(body: &[u8], encode: impl FnOnce(&mut Vec<u8>)) {
    let mut encoded = Vec::new();
    encode(&mut encoded);
    assert_eq!(encoded, body);
}
