//! async-executor and async-io (smol's parts) as a [`Runtime`] and [`Reactor`].

use core::future::Future;
use core::task::{Context, Poll, ready};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use async_executor::Executor;
use async_io::{Async, Timer};
use modipc_driver::{BoxFuture, Runtime};

use crate::clock;
use crate::reactor::{Done, Reactor, Watch, sealed};

/// An executor of smol's kind. async-io's reactor is global, so sockets and sleeps need nothing else; tasks run while
/// somebody drives the executor, with [`SmolRuntime::block_on`] or with [`Executor::run`].
///
/// A spawned task that has not ended keeps the executor alive if it holds this handle.
#[derive(Clone, Debug)]
pub struct SmolRuntime {
    executor: Arc<Executor<'static>>,
}

impl SmolRuntime {
    /// The runtime that spawns on this executor.
    #[must_use]
    pub fn new(executor: Arc<Executor<'static>>) -> Self {
        Self { executor }
    }

    /// Drives the executor on this thread until the future is ready. Several threads may do so at the same time.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        async_io::block_on(self.executor.run(future))
    }
}

impl Runtime for SmolRuntime {
    fn now(&self) -> u64 {
        clock::now_us()
    }

    fn sleep_until(&self, at_us: u64) -> BoxFuture<()> {
        let timer = clock::instant(at_us).map_or_else(Timer::never, Timer::at);
        Box::pin(async move {
            timer.await;
        })
    }

    fn spawn(&self, task: BoxFuture<()>) {
        self.executor.spawn(task).detach();
    }

    fn seed(&self) -> u64 {
        clock::seed()
    }
}

impl sealed::Sealed for SmolRuntime {}

impl Reactor for SmolRuntime {
    type Reads = SmolReads;
    type Writes = SmolWrites;

    fn register(&self, fd: OwnedFd) -> io::Result<(SmolReads, SmolWrites)> {
        let fd = Arc::new(Async::new_nonblocking(fd)?);
        // A stream that has just been made has no bytes yet, but it has room.
        Ok((SmolReads { fd: Arc::clone(&fd), exhausted: true }, SmolWrites { fd, exhausted: false }))
    }
}

/// The reading side of a descriptor in async-io's epoll.
///
/// async-io reports only readiness that comes after the question, and each question costs an `epoll_ctl`. So it is asked
/// only when the last attempt found the end of what was there; whatever has come since is reported at once.
#[derive(Debug)]
pub struct SmolReads {
    fd: Arc<Async<OwnedFd>>,
    exhausted: bool,
}

impl Watch for SmolReads {
    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.get_ref().as_fd()
    }

    fn poll_io<T>(
        &mut self,
        cx: &mut Context<'_>,
        attempt: impl FnMut(BorrowedFd<'_>) -> io::Result<Done<T>>,
    ) -> Poll<io::Result<T>> {
        poll_registered(cx, &self.fd, &mut self.exhausted, Async::poll_readable, attempt)
    }
}

/// The writing side of a descriptor in async-io's epoll.
#[derive(Debug)]
pub struct SmolWrites {
    fd: Arc<Async<OwnedFd>>,
    exhausted: bool,
}

impl Watch for SmolWrites {
    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.get_ref().as_fd()
    }

    fn poll_io<T>(
        &mut self,
        cx: &mut Context<'_>,
        attempt: impl FnMut(BorrowedFd<'_>) -> io::Result<Done<T>>,
    ) -> Poll<io::Result<T>> {
        poll_registered(cx, &self.fd, &mut self.exhausted, Async::poll_writable, attempt)
    }
}

fn poll_registered<T>(
    cx: &mut Context<'_>,
    fd: &Async<OwnedFd>,
    exhausted: &mut bool,
    poll_ready: impl Fn(&Async<OwnedFd>, &mut Context<'_>) -> Poll<io::Result<()>>,
    mut attempt: impl FnMut(BorrowedFd<'_>) -> io::Result<Done<T>>,
) -> Poll<io::Result<T>> {
    loop {
        if *exhausted {
            ready!(poll_ready(fd, cx))?;
            *exhausted = false;
        }
        match attempt(fd.get_ref().as_fd()) {
            Ok(done) => {
                *exhausted = done.exhausted;
                return Poll::Ready(Ok(done.value));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => *exhausted = true,
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}
