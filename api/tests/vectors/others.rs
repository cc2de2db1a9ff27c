//! Log messages, invocations and their results.

use bytes::Bytes;
use modipc_api::{
    ErrorCode, ErrorInfo, HealthReport, HealthStatus, Invocation, InvocationResult, LogLevel, LogMessage,
    decode_fields, decode_target, encode_fields, encode_target,
};

use crate::files::{body, check, read};

const FIELDS: [(&str, &str); 2] = [("height", "702861"), ("straße", "")];

fn log(level: LogLevel) -> LogMessage {
    LogMessage { level, message: format!("a message of level {level}"), module_id: "watcher".into() }
}

#[test]
fn plain_logs_are_the_documents_bytes() {
    let expected = LogLevel::ALL.iter().map(|level| (level.name(), log(*level))).collect();
    check("logs", "plain-log-", 3, expected, LogMessage::encode, |body| LogMessage::decode(body));
}

#[test]
fn x1_logs_carry_target_and_fields() {
    let vectors = read("logs");
    for level in LogLevel::ALL {
        let frame = &vectors[&format!("x1-log-{level}")];
        // Total, then key and length of either record.
        let mut records = vec![1, 0, 14, 0];
        records.extend_from_slice(encode_target("watcher::chain").as_bytes());
        let mut fields = Vec::new();
        assert_eq!(encode_fields(FIELDS, usize::MAX, &mut fields), 0);
        records.extend_from_slice(&[2, 0, fields.len() as u8, 0]);
        records.extend_from_slice(&fields);
        let total = records.len();

        let after_id = body(frame, 3, 0);
        assert_eq!(after_id[..2], (total as u16).to_le_bytes());
        assert_eq!(after_id[2..2 + total], records);
        assert_eq!(LogMessage::decode(&after_id[2 + total..]), Ok(log(*level)));

        assert_eq!(decode_target(&records[4..18]), Ok("watcher::chain"));
        let decoded: Result<Vec<_>, _> = decode_fields(&records[22..]).collect();
        assert_eq!(decoded, Ok(FIELDS.to_vec()));
    }
    let bare = LogMessage { level: LogLevel::Info, message: String::new(), module_id: "watcher".into() };
    assert_eq!(LogMessage::decode(&x1_log_body(&vectors["x1-log-bare"], false)), Ok(bare));
    let later = LogMessage { level: LogLevel::Info, message: "hello".into(), module_id: "watcher".into() };
    assert_eq!(LogMessage::decode(&x1_log_body(&vectors["x1-log-later-record"], true)), Ok(later));
}

/// The body behind the id and, if there are any, the records.
fn x1_log_body(frame: &[u8], has_records: bool) -> Bytes {
    let after_id = Bytes::copy_from_slice(&frame[16..]);
    let total = if has_records { u16::from_le_bytes([after_id[0], after_id[1]]).into() } else { 0 };
    after_id.slice(if has_records { 2 + total } else { 0 }..)
}

#[test]
fn invocations_are_the_documents_bytes() {
    let settings = vec![("interval_s".into(), "30".into()), ("name".into(), "größe".into())];
    let call = Invocation::Call { method: "summarise".into(), params: Bytes::from_static(&[1, 2, 3]) };
    let expected = vec![
        ("health", Invocation::Health),
        ("call", call),
        ("configure", Invocation::Configure { settings }),
        ("prepare-shutdown", Invocation::PrepareShutdown { grace_us: 2_500_000 }),
    ];
    let mut vectors = read("invocations");
    vectors.retain(|name, _| !name.starts_with("plain-invocation-result-"));
    assert_eq!(vectors.len(), expected.len());
    for (name, invocation) in expected {
        let body = body(&vectors[&format!("plain-invocation-{name}")], 4, 0);
        assert_eq!(Invocation::decode(&body).as_ref(), Ok(&invocation));
        assert_eq!(Invocation::decode_shared(&body).as_ref(), Ok(&invocation));
        let mut encoded = Vec::new();
        invocation.encode(&mut encoded);
        assert_eq!(encoded, body, "{name}");
    }
}

#[test]
fn invocation_results_are_the_documents_bytes() {
    let report = HealthReport { status: HealthStatus::Degraded, detail: "slow disk".into() };
    let error = ErrorInfo::new(ErrorCode::Internal, "could not save").with("file", "state.db");
    let expected = || {
        vec![
            ("health", InvocationResult::healthy(&report)),
            ("returned", InvocationResult::Success(Bytes::from_static(&[9, 8]))),
            ("nothing", InvocationResult::Success(Bytes::new())),
            ("error", InvocationResult::Error(error.clone())),
            ("not-found", InvocationResult::NotFound),
        ]
    };
    for decode in [InvocationResult::decode_shared, |body: &Bytes| InvocationResult::decode(body)] {
        let encode = InvocationResult::encode;
        check("invocations", "plain-invocation-result-", 5, expected(), encode, decode);
    }
}
