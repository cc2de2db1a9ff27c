//! The client for threads.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test did not expect ends it")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use modipc_api::{CapabilitySet, ModuleError, Request, Response};
use modipc_core::{CloseReason, Config, Limits, RefusalCode};
use modipc_driver::{BoxFuture, Runtime};
use modipc_module::{BlockingClient, Connect, ConnectError, Error};
use modipc_transport_mem::{PairConfig, pair};
use support::*;

/// A thread for each task.
#[derive(Clone)]
struct Threads(Instant);

impl Runtime for Threads {
    fn now(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap()
    }

    fn sleep_until(&self, at_us: u64) -> BoxFuture<()> {
        let timer = async_io::Timer::at(self.0 + Duration::from_micros(at_us));
        Box::pin(async {
            timer.await;
        })
    }

    fn spawn(&self, task: BoxFuture<()>) {
        std::thread::spawn(|| block_on(task));
    }

    fn seed(&self) -> u64 {
        0
    }
}

/// Plays the module in this thread against a host's script in another one.
fn play<S, F>(config: Config, script: S, module: impl FnOnce(BlockingClient))
where
    S: FnOnce(Host) -> F + Send + 'static,
    F: Future<Output = ()>,
{
    let runtime = Threads(Instant::now());
    let (ours, theirs) = pair(PairConfig::default());
    let mut host = Host::new(&runtime, theirs, config);
    let host = std::thread::spawn(move || {
        block_on(async {
            host.admit(CapabilitySet::ALL).await;
            script(host).await;
        });
    });
    module(BlockingClient::connect(Arc::new(runtime), ours, Connect::new("watcher", "1.0")).unwrap());
    host.join().unwrap();
}

#[test]
fn threads_share_a_connection_and_wait_for_room() {
    const THREADS: u64 = 4;
    const CALLS: u64 = 50;
    let limits = Limits { calls_max: 2, ..Limits::DEFAULT };
    let script = async |mut host: Host| {
        for _ in 0..THREADS * CALLS {
            let (id, request) = host.request().await;
            let Request::GetBlockByHeight { height } = request else { panic!("{request:?}") };
            let raw = modipc_api::RawBlock::new(bytes::Bytes::new());
            let block = modipc_api::BlockAt { hash: hash(height), raw };
            host.reply(id, modipc_api::ResponseData::BlockByHeight(block)).await;
        }
        assert!(matches!(host.until_closed().await, CloseReason::Drained { .. }));
    };
    play(Config { limits, ..Config::DEFAULT }, script, |client| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let client = client.clone();
                std::thread::spawn(move || {
                    for call in 0..CALLS {
                        let height = thread * CALLS + call;
                        assert_eq!(client.get_block_by_height(height).unwrap().unwrap().hash, hash(height));
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_thread_gets_errors_and_the_end_as_a_task_does() {
    let script = async |mut host: Host| {
        // Kept and not answered, then an answer that is none.
        host.request().await;
        let (id, _) = loop {
            match host.event().await {
                modipc_core::Event::Call(call) => break (call.id, call),
                modipc_core::Event::CallCancelled(_) | modipc_core::Event::CallExpired(_) => {}
                other => panic!("{other:?}"),
            }
        };
        host.reply(id, Response::NotFound).await;
        host.goodbye(1).await;
        host.until_closed().await;
    };
    play(Config::DEFAULT, script, |client| {
        let error = client.with_deadline(Duration::from_millis(20)).get_chain_tip().unwrap_err();
        assert!(matches!(error, Error::Module(ModuleError::Timeout { deadline_us: 20_000, .. })), "{error}");
        let error = client.get_block_height().unwrap_err();
        assert!(matches!(error, Error::Module(ModuleError::ProtocolError { .. })), "{error}");
        assert!(matches!(client.wait_closed(), CloseReason::Drained { reason: 1, .. }));
    });
}

#[test]
fn a_thread_is_told_of_a_refusal() {
    let runtime = Threads(Instant::now());
    let (ours, theirs) = pair(PairConfig::default());
    let mut host = Host::new(&runtime, theirs, Config::DEFAULT);
    let host = std::thread::spawn(move || {
        block_on(async {
            host.greeted().await;
            let (message, hint) = ("full".into(), "later".into());
            let refusal = modipc_core::Refusal { code: RefusalCode::Busy, message, hint };
            host.connection.refuse(0, refusal).unwrap();
            host.flush().await;
        });
    });
    let refused = BlockingClient::connect(Arc::new(runtime), ours, Connect::new("watcher", "1.0"));
    assert!(matches!(refused, Err(ConnectError::Refused { code: RefusalCode::Busy, .. })));
    host.join().unwrap();
}
