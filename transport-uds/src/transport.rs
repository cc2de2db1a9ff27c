//! A Unix stream as the driver's transport.

use core::task::{Context, Poll};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};

use modipc_driver::{PollRead, PollWrite, Transport};

use crate::reactor::{Reactor, Watch};
use crate::socket;
use crate::stream::UdsStream;

/// A connected Unix stream socket [T-1] on a runtime.
///
/// A request and its answer cost one `recvfrom`, one `sendto` and one wait for readiness on each side: a read that did
/// not fill its buffers is not followed by one that finds nothing, and room to write is waited for only when there is
/// none.
#[derive(Debug)]
pub struct UdsTransport<R: Reactor> {
    reads: R::Reads,
    writes: R::Writes,
}

impl<R: Reactor> UdsTransport<R> {
    /// Registers a stream with a runtime.
    ///
    /// # Errors
    /// The system's: `ENOMEM`, `ENOSPC` (too many watches) or `EMFILE`.
    pub fn new(runtime: &R, stream: UdsStream) -> io::Result<Self> {
        let (reads, writes) = runtime.register(stream.into())?;
        Ok(Self { reads, writes })
    }
}

impl<R: Reactor> Transport for UdsTransport<R> {
    type Reader = UdsReader<R>;
    type Writer = UdsWriter<R>;

    fn split(self) -> (UdsReader<R>, UdsWriter<R>) {
        (UdsReader { reads: self.reads }, UdsWriter { writes: self.writes })
    }
}

/// The reading half. The socket is closed when both halves are dropped.
#[derive(Debug)]
pub struct UdsReader<R: Reactor> {
    reads: R::Reads,
}

/// The writing half. Dropping it alone does not end the stream; [`PollWrite::poll_close`] does.
#[derive(Debug)]
pub struct UdsWriter<R: Reactor> {
    writes: R::Writes,
}

impl<R: Reactor> PollRead for UdsReader<R> {
    fn poll_read(&mut self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>> {
        self.reads.poll_io(cx, |fd| socket::receive(fd, bufs))
    }

    fn try_read(&mut self, bufs: &mut [IoSliceMut<'_>]) -> Option<io::Result<usize>> {
        match socket::receive(self.reads.fd(), bufs) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            read => Some(read.map(|done| done.value)),
        }
    }
}

impl<R: Reactor> PollWrite for UdsWriter<R> {
    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.writes.poll_io(cx, |fd| socket::transmit(fd, bufs))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket::close(self.writes.fd()))
    }
}
