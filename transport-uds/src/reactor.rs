//! What this crate needs of tokio or async-io: to be told when a descriptor may be read or written. Everything else is
//! the same for both.

use core::fmt;
use core::task::{Context, Poll};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use modipc_driver::Runtime;

/// What one attempt at input or output did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done<T> {
    /// What came of it; for reads and writes the number of bytes.
    pub value: T,
    /// Another attempt would find nothing, until the descriptor becomes ready anew. Saying so saves that attempt.
    pub exhausted: bool,
}

/// One direction of a registered descriptor.
pub trait Watch: fmt::Debug + Send + 'static {
    /// The descriptor.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Attempts when the descriptor may be ready; an attempt that would have blocked is repeated when it is. `Pending`
    /// registers the waker, of which only the last counts.
    ///
    /// # Errors
    /// The attempt's, or the reactor's when it shuts down.
    fn poll_io<T>(
        &mut self,
        cx: &mut Context<'_>,
        attempt: impl FnMut(BorrowedFd<'_>) -> io::Result<Done<T>>,
    ) -> Poll<io::Result<T>>;
}

/// A runtime that can wait for descriptors. Implemented by `TokioRuntime` and `SmolRuntime`, and by nobody else.
pub trait Reactor: Runtime + Clone + fmt::Debug + sealed::Sealed {
    /// Waits until there is something to read.
    type Reads: Watch;
    /// Waits until there is room to write.
    type Writes: Watch;

    /// Registers a descriptor, which is closed when both of the watches are dropped.
    ///
    /// # Errors
    /// The system's: `ENOMEM`, `ENOSPC` (too many watches) or `EMFILE`.
    fn register(&self, fd: OwnedFd) -> io::Result<(Self::Reads, Self::Writes)>;
}

pub(crate) mod sealed {
    /// Keeps [`Reactor`](super::Reactor) to the types that this crate tests.
    pub trait Sealed {}
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{IoSlice, IoSliceMut};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::socket::{receive, transmit};
    use crate::socketpair_for_child;

    const ROUNDS: u32 = 200;

    /// One end of a stream that counts its system calls.
    struct End<R: Reactor> {
        reads: R::Reads,
        writes: R::Writes,
        received: u32,
        sent: u32,
    }

    impl<R: Reactor> End<R> {
        fn new(runtime: &R, fd: OwnedFd) -> Self {
            let (reads, writes) = runtime.register(fd).expect("registered");
            Self { reads, writes, received: 0, sent: 0 }
        }

        async fn hear(&mut self) {
            let mut buf = [0; 64];
            let bytes = poll_fn(|cx| {
                self.reads.poll_io(cx, |fd| {
                    self.received += 1;
                    receive(fd, &mut [IoSliceMut::new(&mut buf)])
                })
            });
            assert_eq!(bytes.await.expect("a read"), 5);
        }

        async fn say(&mut self) {
            let bytes = poll_fn(|cx| {
                self.writes.poll_io(cx, |fd| {
                    self.sent += 1;
                    transmit(fd, &[IoSlice::new(b"hello")])
                })
            });
            assert_eq!(bytes.await.expect("a write"), 5);
        }
    }

    /// Requests and answers cost one `recv` and one `send` on each side.
    async fn counts<R: Reactor>(runtime: R) {
        let (ours, theirs) = socketpair_for_child().expect("a pair");
        let mut client = End::new(&runtime, ours.into());
        let mut server = End::new(&runtime, theirs);
        let served = Arc::new(AtomicU32::new(0));
        let total = Arc::clone(&served);
        runtime.spawn(Box::pin(async move {
            for _ in 0..ROUNDS {
                server.hear().await;
                // Noted before the last answer, which is what the client waits for.
                total.store(server.received + server.sent + 1, Ordering::SeqCst);
                server.say().await;
            }
        }));
        for _ in 0..ROUNDS {
            client.say().await;
            client.hear().await;
        }
        assert_eq!((client.sent, client.received), (ROUNDS, ROUNDS));
        assert_eq!(served.load(Ordering::SeqCst), 2 * ROUNDS);
    }

    #[cfg(feature = "tokio")]
    #[test]
    fn a_request_costs_one_recv_and_one_send_on_tokio() {
        use ::tokio::runtime::Builder;
        for tokio in [
            Builder::new_current_thread().enable_all().build(),
            Builder::new_multi_thread().enable_all().build(),
        ] {
            let tokio = tokio.expect("a runtime");
            tokio.block_on(counts(crate::TokioRuntime::new(tokio.handle().clone())));
        }
    }

    #[cfg(feature = "smol")]
    #[test]
    fn a_request_costs_one_recv_and_one_send_on_smol() {
        let runtime = crate::SmolRuntime::new(Arc::new(async_executor::Executor::new()));
        runtime.block_on(counts(runtime.clone()));
    }
}
