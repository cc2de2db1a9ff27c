//! tokio as a [`Runtime`] and [`Reactor`].

use core::fmt;
use core::task::{Context, Poll, ready};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use ::tokio::io::Interest;
use ::tokio::io::unix::AsyncFd;
use ::tokio::runtime::Handle;
use modipc_driver::{BoxFuture, Runtime};

use crate::clock;
use crate::fd::tokio::register;
use crate::reactor::{Done, Reactor, Watch, sealed};

/// A tokio runtime, of either flavour. It must have been built with its time and IO drivers (`enable_all`); tokio panics
/// at the first sleep or socket otherwise.
///
/// Sleeps are over up to a millisecond late, which is the grain of tokio's timer.
#[derive(Clone)]
pub struct TokioRuntime {
    handle: Handle,
}

/// There is no tokio runtime here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no tokio runtime runs on this thread: call this inside of one, or use TokioRuntime::new with its handle"
)]
pub struct NoRuntime;

impl TokioRuntime {
    /// The runtime with this handle.
    #[must_use]
    pub fn new(handle: Handle) -> Self {
        Self { handle }
    }

    /// The runtime in which this is called.
    ///
    /// # Errors
    /// [`NoRuntime`] outside of one.
    pub fn current() -> Result<Self, NoRuntime> {
        Handle::try_current().map(Self::new).map_err(|_| NoRuntime)
    }
}

impl fmt::Debug for TokioRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokioRuntime").field(&self.handle.runtime_flavor()).finish()
    }
}

impl Runtime for TokioRuntime {
    fn now(&self) -> u64 {
        clock::now_us()
    }

    fn sleep_until(&self, at_us: u64) -> BoxFuture<()> {
        if at_us <= clock::now_us() {
            return Box::pin(core::future::ready(()));
        }
        let Some(at) = clock::instant(at_us) else { return Box::pin(core::future::pending()) };
        // A timer belongs to the runtime in whose context it is made, which need not be the caller's.
        let _entered = self.handle.enter();
        Box::pin(::tokio::time::sleep_until(at.into()))
    }

    fn spawn(&self, task: BoxFuture<()>) {
        self.handle.spawn(task);
    }

    fn seed(&self) -> u64 {
        clock::seed()
    }
}

impl sealed::Sealed for TokioRuntime {}

impl Reactor for TokioRuntime {
    type Reads = TokioReads;
    type Writes = TokioWrites;

    fn register(&self, fd: OwnedFd) -> io::Result<(TokioReads, TokioWrites)> {
        let fd = Arc::new(fd);
        let _entered = self.handle.enter();
        let reads = TokioReads { fd: register(Arc::clone(&fd), Interest::READABLE)? };
        let writes = TokioWrites { handle: self.handle.clone(), fd, room: None, unhindered: 0 };
        Ok((reads, writes))
    }
}

/// The reading side of a descriptor in tokio's epoll.
#[derive(Debug)]
pub struct TokioReads {
    fd: AsyncFd<Arc<OwnedFd>>,
}

impl Watch for TokioReads {
    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.get_ref().as_fd()
    }

    fn poll_io<T>(
        &mut self,
        cx: &mut Context<'_>,
        attempt: impl FnMut(BorrowedFd<'_>) -> io::Result<Done<T>>,
    ) -> Poll<io::Result<T>> {
        poll_registered(cx, &self.fd, AsyncFd::poll_read_ready, attempt).map_ok(|done| done.value)
    }
}

/// The writing side of a descriptor.
///
/// It is registered only while there is no room. With it, epoll would report room after each message that the peer
/// takes, which wakes this thread for nothing: 0.4 times per request, measured on a plain `UnixStream`.
pub struct TokioWrites {
    handle: Handle,
    fd: Arc<OwnedFd>,
    /// A second descriptor of the same socket (epoll has each at most once), while room is watched.
    room: Option<AsyncFd<Arc<OwnedFd>>>,
    /// Writes in a row for which there was room.
    unhindered: u32,
}

/// After so many writes in a row for which there was room, it is no longer watched. A bulk transfer meets a full buffer
/// every few writes and must not register anew each time.
const UNHINDERED_MAX: u32 = 64;

impl Watch for TokioWrites {
    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn poll_io<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(BorrowedFd<'_>) -> io::Result<Done<T>>,
    ) -> Poll<io::Result<T>> {
        let Some(room) = &self.room else {
            let attempted = attempt(self.fd.as_fd());
            return match attempted {
                Ok(Done { value, exhausted }) => {
                    if exhausted {
                        self.watch_room()?;
                    }
                    Poll::Ready(Ok(value))
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.watch_room()?;
                    self.poll_io(cx, attempt)
                }
                Err(error) => Poll::Ready(Err(error)),
            };
        };
        let done = ready!(poll_registered(cx, room, AsyncFd::poll_write_ready, attempt))?;
        self.unhindered = if done.exhausted { 0 } else { self.unhindered + 1 };
        if self.unhindered > UNHINDERED_MAX {
            self.room = None;
        }
        Poll::Ready(Ok(done.value))
    }
}

impl TokioWrites {
    fn watch_room(&mut self) -> io::Result<()> {
        let second = Arc::new(self.fd.try_clone()?);
        // The task that writes need not run on this runtime.
        let _entered = self.handle.enter();
        self.room = Some(register(second, Interest::WRITABLE)?);
        self.unhindered = 0;
        Ok(())
    }
}

impl fmt::Debug for TokioWrites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioWrites").field("fd", &self.fd).field("watched", &self.room.is_some()).finish()
    }
}

/// Attempts when the registration says that it may succeed. Readiness is taken back by the very event that gave it, so
/// that an event which comes during the attempt is not lost.
fn poll_registered<'a, T>(
    cx: &mut Context<'_>,
    fd: &'a AsyncFd<Arc<OwnedFd>>,
    poll_ready: impl Fn(
        &'a AsyncFd<Arc<OwnedFd>>,
        &mut Context<'_>,
    ) -> Poll<io::Result<::tokio::io::unix::AsyncFdReadyGuard<'a, Arc<OwnedFd>>>>,
    mut attempt: impl FnMut(BorrowedFd<'_>) -> io::Result<Done<T>>,
) -> Poll<io::Result<Done<T>>> {
    loop {
        let mut ready = ready!(poll_ready(fd, cx))?;
        match attempt(fd.get_ref().as_fd()) {
            Ok(done) => {
                if done.exhausted {
                    ready.clear_ready();
                }
                return Poll::Ready(Ok(done));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => ready.clear_ready(),
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}
