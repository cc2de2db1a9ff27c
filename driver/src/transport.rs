//! What the driver needs of a byte stream.

use core::task::{Context, Poll};
use std::io::{self, IoSlice, IoSliceMut};

/// A connected, reliable, ordered, two-way byte stream.
pub trait Transport: Send + 'static {
    /// The half that reads.
    type Reader: PollRead;
    /// The half that writes.
    type Writer: PollWrite;

    /// The two halves, which may be used from different threads at the same time.
    fn split(self) -> (Self::Reader, Self::Writer);
}

/// The reading half.
pub trait PollRead: Send + 'static {
    /// Reads what is there into `bufs`, in order; `Ok(0)` is the end of the stream. On `Pending` nothing was read and the
    /// context's waker is woken when a read may succeed; only the last waker counts. A short read is legal, and so is a
    /// spurious wake. An interrupted system call is repeated inside.
    ///
    /// The driver reads until it gets `Pending`, so that its waker is always set. After a read that did not fill `bufs` the
    /// transport should therefore give `Pending` without a system call: on a stream socket nothing was left. A transport that
    /// does not is correct, and makes one system call more for each read.
    fn poll_read(&mut self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>>;

    /// Reads without a waker and without trusting cached readiness, or says that nothing is there (`None`). This is
    /// what a caller that spins for a few microseconds uses. A transport that cannot do this answers `None`.
    fn try_read(&mut self, bufs: &mut [IoSliceMut<'_>]) -> Option<io::Result<usize>> {
        let _ = bufs;
        None
    }
}

/// The writing half.
pub trait PollWrite: Send + 'static {
    /// Writes some of `bufs`, in order. `bufs` is not empty and has at least one byte. A short write is legal; `Ok(0)` is
    /// an error that the driver reports as such. Wakers are as in [`PollRead::poll_read`].
    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;

    /// Ends the stream in this direction: the peer reads what was written and then the end. Idempotent.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}
