//! The transport × runtime conformance suite over real sockets, on both flavours of tokio and on smol's executor.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use modipc_driver::BoxFuture;
use modipc_driver::conformance::Stage;
use modipc_transport_uds::{Reactor, TokioRuntime, UdsStream, UdsTransport, socketpair_for_child};

/// A check that never ends is a failure and not a test run that hangs. No check comes near it.
const NEVER_ENDS: Duration = Duration::from_secs(120);

fn streams() -> (UdsStream, UdsStream) {
    let (ours, theirs): (UdsStream, OwnedFd) = socketpair_for_child().expect("a socket pair");
    (ours, UdsStream::try_from(theirs).expect("the other end"))
}

fn transports<R: Reactor>(runtime: &R) -> (UdsTransport<R>, UdsTransport<R>) {
    let (ours, theirs) = streams();
    let transport = |stream| UdsTransport::new(runtime, stream).expect("a registered transport");
    (transport(ours), transport(theirs))
}

struct OnTokio {
    tokio: tokio::runtime::Runtime,
    runtime: Arc<TokioRuntime>,
}

impl OnTokio {
    fn new(mut builder: tokio::runtime::Builder) -> Self {
        let tokio = builder.enable_all().build().expect("a tokio runtime");
        let runtime = Arc::new(TokioRuntime::new(tokio.handle().clone()));
        Self { tokio, runtime }
    }

    fn current_thread() -> Self {
        Self::new(tokio::runtime::Builder::new_current_thread())
    }

    fn multi_thread() -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(4);
        Self::new(builder)
    }
}

impl Stage for OnTokio {
    type Transport = UdsTransport<TokioRuntime>;
    type Runtime = TokioRuntime;
    const TRY_READ: bool = true;

    fn runtime(&self) -> Arc<TokioRuntime> {
        Arc::clone(&self.runtime)
    }

    fn pair(&self) -> (Self::Transport, Self::Transport) {
        transports(&*self.runtime)
    }

    fn run(&self, check: BoxFuture<()>) {
        let check = self.tokio.spawn(check);
        let ended = self.tokio.block_on(async { tokio::time::timeout(NEVER_ENDS, check).await });
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(died)) => std::panic::resume_unwind(died.into_panic()),
            Err(_) => panic!("the check hangs"),
        }
    }
}

modipc_driver::conformance_suite!(uds_on_tokio_current_thread, OnTokio::current_thread());
modipc_driver::conformance_suite!(uds_on_tokio_multi_thread, OnTokio::multi_thread());

#[cfg(feature = "smol")]
mod smol {
    use std::time::Instant;

    use async_executor::Executor;
    use modipc_transport_uds::SmolRuntime;

    use super::*;

    struct OnSmol {
        runtime: Arc<SmolRuntime>,
    }

    impl OnSmol {
        fn new() -> Self {
            Self { runtime: Arc::new(SmolRuntime::new(Arc::new(Executor::new()))) }
        }
    }

    impl Stage for OnSmol {
        type Transport = UdsTransport<SmolRuntime>;
        type Runtime = SmolRuntime;
        const TRY_READ: bool = true;

        fn runtime(&self) -> Arc<SmolRuntime> {
            Arc::clone(&self.runtime)
        }

        fn pair(&self) -> (Self::Transport, Self::Transport) {
            transports(&*self.runtime)
        }

        fn run(&self, mut check: BoxFuture<()>) {
            let mut hangs = async_io::Timer::at(Instant::now() + NEVER_ENDS);
            self.runtime.block_on(std::future::poll_fn(move |cx| {
                let ended = check.as_mut().poll(cx);
                if ended.is_pending() {
                    let hangs = std::pin::Pin::new(&mut hangs).poll(cx).is_ready();
                    assert!(!hangs, "the check hangs");
                }
                ended
            }));
        }
    }

    modipc_driver::conformance_suite!(uds_on_smol, OnSmol::new());
}
