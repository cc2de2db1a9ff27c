//! Handshake, grants, logs and invocations.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test did not expect ends it")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_lite::future::{pending, yield_now, zip};
use modipc_api::{
    Capability, CapabilitySet, ConnectionFault, ErrorCode, ErrorInfo, HealthReport, HealthStatus, Invocation,
    InvocationResult, LogLevel, ModuleError, decode_fields, decode_target,
};
use modipc_core::envelope::{RECORD_LOG_FIELDS, RECORD_LOG_TARGET};
use modipc_core::{
    Body, CloseReason, Config, HelloTail, Limits, Outcome, Profile, Records, Refusal, RefusalCode, Refused,
};
use modipc_driver::Runtime;
use modipc_module::{Client, Connect, ConnectError, InvocationContext, InvocationHandler};
use support::*;

fn refusal(code: RefusalCode) -> Refusal {
    Refusal { code, message: "the id is taken".into(), hint: "choose another id".into() }
}

#[test]
fn the_hello_says_what_the_module_is() {
    each_link(async |runtime, ours, theirs| {
        let mut host = Host::new(&runtime, theirs, Config::DEFAULT);
        let hello = Connect::new("watcher", "1.2.3")
            .capability(Capability::ReadUtxo)
            .capabilities(CapabilitySet::of(&[Capability::ReadBlockchain]))
            .token(*b"secret");
        assert!(!format!("{hello:?}").contains("secret"), "a token is not shown");
        let connecting = Client::connect(Arc::new(runtime), ours, hello);
        let script = async {
            let hello = host.greeted().await;
            host.connection.refuse(0, refusal(RefusalCode::DuplicateId)).unwrap();
            host.flush().await;
            hello
        };
        let (refused, hello) = zip(connecting, script).await;
        assert_eq!((&*hello.module_id, &*hello.version), ("watcher", "1.2.3"));
        assert_eq!(hello.capabilities, ["ReadBlockchain", "ReadUTXO"]);
        let Some(HelloTail { protocol: 1, token, x1: true, limits, .. }) = hello.tail else { panic!() };
        assert_eq!(token, b"secret");
        assert_eq!(limits.unwrap().calls_max, Connect::CONFIG.limits.calls_max);

        let error = refused.unwrap_err();
        let Refusal { code, message, hint } = refusal(RefusalCode::DuplicateId);
        assert_eq!(error, ConnectError::Refused { module_id: "watcher".into(), code, message, hint });
        let ModuleError::ConnectionError { fault: ConnectionFault::Refused { code: 6, .. }, remedy, .. } =
            ModuleError::from(error)
        else {
            panic!()
        };
        assert_eq!(remedy, "choose another id");
    });
}

#[test]
fn what_the_host_said_of_itself_is_kept() {
    play(async |Stage { client, host, .. }| {
        let info = client.host();
        assert_eq!((&*info.node_version, info.instance_id, info.profile), ("test 1", [7; 16], Profile::X1));
        assert_eq!(info.limits, Limits::DEFAULT);
        assert_eq!(client.module_id(), "watcher");
        drop(host);
    });
}

#[test]
fn a_bad_id_is_refused_before_anything_is_sent() {
    each_link(async |runtime, ours, theirs| {
        let mut host = Host::new(&runtime, theirs, Config::DEFAULT);
        let connecting = Client::connect(Arc::new(runtime), ours, Connect::new("../etc", "1"));
        assert!(matches!(connecting.await, Err(ConnectError::BadModuleId { .. })));
        assert_eq!(host.until_closed().await, CloseReason::PeerGone);
    });
}

#[test]
fn a_silent_host_and_a_dropped_handshake_end_in_time() {
    each_link(async |runtime, ours, theirs| {
        let config = Config { hello_us: SECOND, ..Connect::CONFIG };
        let hello = Connect::new("watcher", "1").config(config);
        let error = Client::connect(Arc::new(runtime.clone()), ours, hello.clone()).await.unwrap_err();
        let reason = CloseReason::HandshakeTimeout;
        assert_eq!(error, ConnectError::Ended { module_id: "watcher".into(), reason });
        drop(theirs);

        let (ours, theirs) = runtime.link(&Default::default());
        let mut host = Host::new(&runtime, theirs, Config::DEFAULT);
        let connecting = Client::connect(Arc::new(runtime.clone()), ours, hello);
        let given_up = futures_lite::future::or(async { Some(connecting.await) }, async {
            host.greeted().await;
            None
        });
        assert!(given_up.await.is_none());
        assert_eq!(host.until_closed().await, CloseReason::PeerGone);
    });
}

#[test]
fn a_change_of_grants_is_seen() {
    play(async |Stage { client, mut host, .. }| {
        assert_eq!(client.grants(), CapabilitySet::ALL);
        let fewer = all_but(Capability::ReadUtxo);
        let (seen, ()) = zip(client.grants_changed(CapabilitySet::ALL), host.set_grants(fewer)).await;
        assert_eq!((seen, client.grants()), (Some(fewer), fewer));
        drop(host);
        assert_eq!(client.grants_changed(fewer).await, None, "it will never change again");
    });
}

// ---- logs ----

#[test]
fn logs_carry_target_and_fields() {
    play(async |Stage { client, mut host, .. }| {
        client.log_with(LogLevel::Warn, "watch", "low", &[("height", "7")]);
        let (message, records) = host.logged().await;
        assert_eq!(
            (message.level, &*message.message, &*message.module_id),
            (LogLevel::Warn, "low", "watcher")
        );
        let records = Records::new(&records);
        assert_eq!(decode_target(records.get(RECORD_LOG_TARGET).unwrap()), Ok("watch"));
        let fields: Vec<_> = decode_fields(records.get(RECORD_LOG_FIELDS).unwrap()).collect();
        assert_eq!(fields, [Ok(("height", "7"))]);
        client.log(LogLevel::Info, "x".repeat(100_000));
        let (message, _) = host.logged().await;
        assert!(message.message.ends_with("bytes cut]"), "what is too long is cut and not lost");
        assert_eq!(client.dropped_logs(), 0);
    });
}

#[test]
fn in_the_plain_profile_target_and_fields_are_in_the_message() {
    let hello = Connect::new("watcher", "1.0").config(Config { x1: false, ..Connect::CONFIG });
    play_with(hello, Config::DEFAULT, async |Stage { client, mut host, .. }| {
        client.log_with(LogLevel::Info, "watch", "low", &[("height", "7")]);
        let (message, records) = host.logged().await;
        assert_eq!((&*message.message, records.len()), ("watch: low height=7", 0));
    });
}

#[test]
fn logs_are_dropped_and_counted_when_the_host_does_not_read() {
    play(async |Stage { runtime, client, mut host }| {
        let text = "x".repeat(10_000);
        for _ in 0..300 {
            client.log(LogLevel::Info, &text);
            runtime.sleep_until(runtime.now() + 1_000).await;
        }
        let dropped = client.dropped_logs();
        assert!(dropped > 100, "3 MB against a bound of 1 MiB: {dropped} dropped");
        for _ in 0..300 - dropped {
            host.logged().await;
        }
        client.log(LogLevel::Info, "after");
        assert_eq!(host.logged().await.0.message, "after");
        assert_eq!(client.dropped_logs(), dropped);
        drop(host);
        client.wait_closed().await;
        client.log(LogLevel::Info, "to nobody");
        assert_eq!(client.dropped_logs(), dropped + 1);
    });
}

// ---- invocations ----

/// Counts who is inside, so that a test sees futures that were dropped.
#[derive(Default)]
struct Handler {
    inside: Arc<AtomicUsize>,
    seen: Mutex<Vec<InvocationContext>>,
}

struct Inside(Arc<AtomicUsize>);

impl Inside {
    fn enter(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Inside(Arc::clone(count))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl InvocationHandler for Handler {
    async fn health(&self, _: InvocationContext) -> HealthReport {
        HealthReport { status: HealthStatus::Degraded, detail: "slow disk".into() }
    }

    async fn call(
        &self,
        cx: InvocationContext,
        method: String,
        params: Bytes,
    ) -> Result<Option<Bytes>, ErrorInfo> {
        let _inside = Inside::enter(&self.inside);
        match &*method {
            "echo" => Ok(Some(params)),
            "wait" => pending().await,
            "panic" => panic!("on purpose"),
            "long" => Ok(Some(Bytes::from(vec![0; 20 << 20]))),
            "height" => {
                let height = cx
                    .client
                    .get_block_height()
                    .await
                    .map_err(|error| ErrorInfo::new(ErrorCode::Unavailable, error.to_string()))?;
                self.seen.lock().unwrap().push(cx);
                Ok(Some(Bytes::copy_from_slice(&height.to_le_bytes())))
            }
            _ => Ok(None),
        }
    }
}

fn call(method: &str) -> Invocation {
    Invocation::Call { method: method.into(), params: Bytes::from_static(b"params") }
}

fn code(result: InvocationResult) -> ErrorCode {
    let InvocationResult::Error(error) = result else { panic!("{result:?}") };
    error.code
}

fn play_handler(scenario: impl AsyncFn(Stage, Arc<AtomicUsize>)) {
    let inside = Arc::new(AtomicUsize::new(0));
    let handler = Arc::new(Handler { inside: Arc::clone(&inside), ..Handler::default() });
    let limits = Limits { calls_max: 3, abandoned_max: 2, ..Limits::DEFAULT };
    let hello = Connect::new("watcher", "1.0").handler(handler).config(Config { limits, ..Connect::CONFIG });
    play_with(hello, Config::DEFAULT, async |stage| scenario(stage, Arc::clone(&inside)).await);
}

#[test]
fn without_a_handler_a_module_is_healthy_and_offers_nothing() {
    play(async |Stage { client: _client, mut host, .. }| {
        let healthy = HealthReport { status: HealthStatus::Healthy, detail: String::new() };
        host.invoke(1, SECOND, &Invocation::Health).await;
        assert_eq!(host.result().await, (1, InvocationResult::healthy(&healthy)));
        host.invoke(2, SECOND, &call("echo")).await;
        assert_eq!(host.result().await, (2, InvocationResult::NotFound));
        host.invoke(3, SECOND, &Invocation::Configure { settings: vec![] }).await;
        assert_eq!(code(host.result().await.1), ErrorCode::Unsupported);
        host.invoke(4, SECOND, &Invocation::PrepareShutdown { grace_us: 5 }).await;
        assert_eq!(host.result().await, (4, InvocationResult::Success(Bytes::new())));
    });
}

#[test]
fn invocations_run_side_by_side_and_within_their_bound() {
    play_handler(async |Stage { client: _client, mut host, .. }, inside| {
        host.invoke(1, 9 * SECOND, &call("wait")).await;
        host.invoke(2, 9 * SECOND, &call("wait")).await;
        // What waits does not delay what is quick.
        host.invoke(3, SECOND, &call("echo")).await;
        assert_eq!(host.result().await, (3, InvocationResult::Success(Bytes::from_static(b"params"))));
        host.invoke(4, SECOND, &Invocation::Health).await;
        let InvocationResult::Success(report) = host.result().await.1 else { panic!("no success") };
        assert_eq!(HealthReport::decode(&report).unwrap().status, HealthStatus::Degraded);
        assert_eq!(inside.load(Ordering::SeqCst), 2);
        host.invoke(5, SECOND, &call("wait")).await;
        // The host's own bound is what it was told: a fourth is not even sent.
        let mut body = Vec::new();
        call("echo").encode(&mut body);
        let refused = host.connection.call(0, &options(SECOND), Body::from(&body[..]), 6);
        assert_eq!(refused, Err(Refused::WindowFull));
    });
}

#[test]
fn a_handler_that_panics_answers_an_error_and_hurts_nobody() {
    play_handler(async |Stage { client: _client, mut host, .. }, inside| {
        host.invoke(1, SECOND, &call("panic")).await;
        assert_eq!(code(host.result().await.1), ErrorCode::Internal);
        host.invoke(2, SECOND, &call("echo")).await;
        assert_eq!(host.result().await, (2, InvocationResult::Success(Bytes::from_static(b"params"))));
        assert_eq!(inside.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn an_invocation_that_nobody_waits_for_is_dropped() {
    play_handler(async |Stage { runtime, client: _client, mut host }, inside| {
        let id = host.invoke(1, 9 * SECOND, &call("wait")).await;
        host.invoke(2, SECOND, &call("wait")).await;
        runtime.sleep_until(runtime.now() + SECOND / 2).await;
        assert_eq!(inside.load(Ordering::SeqCst), 2);
        host.connection.cancel(runtime.now(), id).unwrap();
        host.flush().await;
        runtime.sleep_until(runtime.now() + SECOND / 4).await;
        assert_eq!(inside.load(Ordering::SeqCst), 1, "cancelled");
        runtime.sleep_until(runtime.now() + SECOND).await;
        assert_eq!(inside.load(Ordering::SeqCst), 0, "expired");
        // Both are abandoned, which is all that the module allows: only their late answers make room for another call.
        host.connection.handle_timeout(runtime.now());
        assert!(matches!(host.outcome().await, (1, Outcome::Cancelled)));
        assert!(matches!(host.outcome().await, (2, Outcome::DeadlineExceeded)));
        let mut body = Vec::new();
        call("echo").encode(&mut body);
        let too_early = host.connection.call(runtime.now(), &options(SECOND), Body::from(&body[..]), 3);
        assert_eq!(too_early, Err(Refused::WindowFull));
        host.take_in().await;
        host.invoke(3, SECOND, &call("echo")).await;
        assert_eq!(host.result().await, (3, InvocationResult::Success(Bytes::from_static(b"params"))));
    });
}

#[test]
fn a_handler_may_call_the_host_and_a_result_that_is_too_long_is_an_error() {
    play_handler(async |Stage { client: _client, mut host, .. }, _| {
        host.invoke(1, SECOND, &call("height")).await;
        let (id, _) = host.request().await;
        host.reply(id, modipc_api::ResponseData::BlockHeight(9)).await;
        let height = Bytes::copy_from_slice(&9u64.to_le_bytes());
        assert_eq!(host.result().await, (1, InvocationResult::Success(height)));
        host.invoke(2, SECOND, &call("long")).await;
        assert_eq!(code(host.result().await.1), ErrorCode::PayloadTooLarge);
    });
}

#[test]
fn an_invocation_that_does_not_decode_is_answered() {
    play_handler(async |Stage { client: _client, mut host, .. }, _| {
        let now = 0;
        host.connection.call(now, &options(SECOND), Body::from(&[9, 0, 0, 0, 9, 0, 0, 0][..]), 1).unwrap();
        assert_eq!(code(host.result().await.1), ErrorCode::UnknownRequest);
        host.connection.call(now, &options(SECOND), Body::from(&[0][..]), 2).unwrap();
        assert_eq!(code(host.result().await.1), ErrorCode::InvalidRequest);
    });
}

#[test]
fn a_deadline_shorter_than_a_microsecond_is_one() {
    play(async |Stage { client, host, .. }| {
        assert_eq!(client.with_deadline(Duration::ZERO).deadline(), Duration::from_micros(1));
        let longest = Duration::from_micros(Limits::DEFAULT.call_deadline_us_max);
        assert_eq!(client.with_deadline(Duration::MAX).deadline(), longest);
        yield_now().await;
        drop(host);
    });
}
