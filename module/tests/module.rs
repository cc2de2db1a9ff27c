//! The `Module` trait, run from its first frame to its last.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test did not expect ends it")]

mod support;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_lite::future::zip;
use modipc_api::{Capability, CapabilitySet, Event, EventGroup, EventType, LogLevel, RawEvent};
use modipc_core::{CloseReason, Config, EventLog, Initiator, SubscribeOptions};
use modipc_driver::Runtime;
use modipc_module::{
    About, Context, Draining, Environment, Exit, Failure, Module, RunError, explain, run_on,
};
use modipc_transport_mem::{MemTransport, SimRuntime};
use support::*;

/// Writes down what happens to it.
#[derive(Default)]
struct Diary {
    lines: Arc<Mutex<Vec<String>>>,
    cursor: Option<u64>,
}

impl Diary {
    fn write(&self, line: impl Into<String>) {
        self.lines.lock().unwrap().push(line.into());
    }
}

#[async_trait]
impl Module for Diary {
    fn about(&self) -> About {
        let capabilities = [Capability::ReadChainState, Capability::SubscribeEvents];
        About::new("diary", "0.1.0").asks_for(&capabilities).wants(EventGroup::Chain)
    }

    fn subscribe_options(&self) -> SubscribeOptions {
        SubscribeOptions { resume: self.cursor, ..SubscribeOptions::default() }
    }

    async fn start(&mut self, cx: &Context) -> Result<(), Failure> {
        self.cursor = cx.environment().setting("cursor").map(str::parse).transpose()?;
        let tip = cx.client().get_chain_tip().await?;
        self.write(format!("start at {}", tip.height));
        Ok(())
    }

    async fn on_event(&mut self, cx: &Context, position: u64, event: Event) -> Result<(), Failure> {
        if event.event_type() == EventType::BlockRejected {
            return Err("a block was rejected".into());
        }
        cx.client().log(LogLevel::Info, event.event_type().name());
        self.write(format!("{position} {}", event.event_type()));
        Ok(())
    }

    async fn on_unknown(&mut self, _: &Context, position: u64, event: RawEvent) -> Result<(), Failure> {
        self.write(format!("{position} topic {}", event.topic));
        Ok(())
    }

    async fn on_lag(&mut self, _: &Context, first: u64, last: u64) -> Result<(), Failure> {
        self.write(format!("lag {first}-{last}"));
        Ok(())
    }

    async fn on_grants(&mut self, _: &Context, grants: CapabilitySet) -> Result<(), Failure> {
        self.write(format!("grants {grants}"));
        Ok(())
    }

    async fn on_draining(&mut self, _: &Context, draining: &Draining) -> Result<(), Failure> {
        self.write(format!("draining {}", draining.reason));
        Ok(())
    }
}

fn lines(diary: &Arc<Mutex<Vec<String>>>) -> Vec<String> {
    diary.lock().unwrap().clone()
}

#[test]
fn a_module_lives_from_start_to_drain() {
    each_link(async |runtime, ours, theirs| {
        let mut host = Host::new(&runtime, theirs, Config::DEFAULT);
        host.log = EventLog::new(2, 1 << 20);
        let module = Diary::default();
        let diary = Arc::clone(&module.lines);
        let environment = Environment::from_vars([("MODULE_ID", "diary-2"), ("MODULE_CONFIG_CURSOR", "1")]);
        let running = run_on(Arc::new(runtime.clone()), ours, environment, module);
        for height in 1..=3 {
            host.publish(new_block(height));
        }
        let script = async {
            let hello = host.greeted().await;
            assert_eq!(hello.module_id, "diary-2", "the host's name for it");
            assert_eq!(hello.capabilities, ["ReadChainState", "SubscribeEvents"]);
            host.accept_greeted(CapabilitySet::ALL).await;
            host.give_tip(3).await;
            host.subscribe().await;
            for _ in 0..2 {
                assert_eq!(host.logged().await.0.message, "NewBlock");
            }
            host.set_grants(all_but(Capability::ReadUtxo)).await;
            runtime.sleep_until(runtime.now() + SECOND).await;
            host.publish(new_header(4));
            assert_eq!(host.logged().await.0.message, "NewHeader");
            host.goodbye(1).await;
            host.until_closed().await
        };
        let (end, reason) = zip(running, script).await;
        assert_eq!(reason, CloseReason::Drained { by: Initiator::Us, reason: 1 });
        assert!(matches!(end, Ok(CloseReason::Drained { by: Initiator::Peer, reason: 1 })), "{end:?}");
        let grants = format!("grants {}", all_but(Capability::ReadUtxo));
        let expected =
            ["start at 3", "lag 1-1", "2 NewBlock", "3 NewBlock", &grants, "4 NewHeader", "draining 1"];
        assert_eq!(lines(&diary), expected);
    });
}

#[test]
fn a_module_that_fails_tells_the_host_why_and_says_goodbye() {
    each_link(async |runtime, ours, theirs| {
        let mut host = Host::new(&runtime, theirs, Config::DEFAULT);
        let running = run_on(Arc::new(runtime), ours, Environment::default(), Diary::default());
        let script = async {
            host.admit(CapabilitySet::ALL).await;
            host.give_tip(3).await;
            host.subscribe().await;
            host.publish(Event::BlockRejected { hash: hash(1), reason: "bad merkle root".into() });
            let (message, _) = host.logged().await;
            (message, host.until_closed().await)
        };
        let (end, (message, reason)) = zip(running, script).await;
        assert_eq!(message.level, LogLevel::Error);
        assert_eq!(message.message, "the module ends because it failed: a block was rejected");
        assert!(matches!(reason, CloseReason::Drained { .. }), "{reason}");
        let error = end.unwrap_err();
        assert!(matches!(error, RunError::Failed(_)), "{error}");
        assert_eq!(error.exit(), Exit::Failed);
    });
}

#[test]
fn a_module_without_a_capability_that_it_needs_ends_for_good() {
    each_link(async |runtime, ours, theirs| {
        let mut host = Host::new(&runtime, theirs, Config::DEFAULT);
        let running = run_on(Arc::new(runtime), ours, Environment::default(), Diary::default());
        let script = async {
            host.admit(all_but(Capability::ReadChainState)).await;
            host.until_closed().await
        };
        let (end, _) = zip(running, script).await;
        let error = end.unwrap_err();
        assert_eq!(error.exit(), Exit::Permission, "{error}");
        assert!(error.to_string().contains("ReadChainState"), "{error}");
    });
}

#[test]
fn a_host_that_vanishes_is_worth_another_try() {
    each_link(async |runtime, ours, theirs| {
        let mut host = Host::new(&runtime, theirs, Config::DEFAULT);
        let running = run_on(Arc::new(runtime), ours, Environment::default(), Diary::default());
        let script = async {
            host.admit(CapabilitySet::ALL).await;
            host.give_tip(3).await;
            host.subscribe().await;
            drop(host);
        };
        let (end, ()) = zip(running, script).await;
        let error = end.unwrap_err();
        assert!(matches!(error, RunError::Lost(_)), "{error}");
        assert_eq!(error.exit(), Exit::Retry);
    });
}

/// All its work is in `start`.
struct Errand;

#[async_trait]
impl Module for Errand {
    fn about(&self) -> About {
        About::new("errand", "1")
    }

    async fn start(&mut self, cx: &Context) -> Result<(), Failure> {
        let height = cx.client().get_block_height().await?;
        cx.client().log(LogLevel::Info, height.to_string());
        cx.client().close(0, "done").await;
        Ok(())
    }
}

#[test]
fn a_module_may_end_by_itself() {
    each_link(async |runtime, ours, theirs| {
        let mut host = Host::new(&runtime, theirs, Config::DEFAULT);
        let running = run_on(Arc::new(runtime), ours, Environment::default(), Errand);
        let script = async {
            host.admit(CapabilitySet::ALL).await;
            let (id, _) = host.request().await;
            host.reply(id, modipc_api::ResponseData::BlockHeight(5)).await;
            assert_eq!(host.logged().await.0.message, "5");
            host.until_closed().await
        };
        let (end, reason) = zip(running, script).await;
        assert!(matches!(end, Ok(CloseReason::Drained { by: Initiator::Us, reason: 0 })), "{end:?}");
        assert_eq!(reason, CloseReason::Drained { by: Initiator::Peer, reason: 0 });
    });
}

#[test]
fn started_by_hand_it_says_what_it_is() {
    let text = explain(&Diary::default());
    for part in ["diary 0.1.0 is a module", "MODIPC_FD", "SOCKET_PATH", "ReadChainState", "NewBlock"] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
}

#[test]
fn run_without_a_connection_explains_itself_and_does_not_connect() {
    // The test's own process was not started by a host.
    assert!(!Environment::from_process().has_connection());
    let connect = || -> Result<(SimRuntime, MemTransport), Failure> { panic!("nothing to connect to") };
    assert_eq!(futures_lite::future::block_on(modipc_module::run(connect, Errand)), Exit::Usage);
}
