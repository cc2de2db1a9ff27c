//! The contracts of [`Transport`] and [`Runtime`] as checks that every implementation passes.
//!
//! An implementation describes itself as a [`Stage`] and calls [`conformance_suite!`](crate::conformance_suite) in its
//! tests: one test for each check, named after it. Nothing here asserts how long something takes; only the order counts.
#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used, reason = "a check fails by panicking")]

use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::{BoxFuture, PollRead, PollWrite, Runtime, Transport};

pub mod runtime;
pub mod transport;

/// A transport and a runtime, ready to be checked.
pub trait Stage {
    /// The transport.
    type Transport: Transport;
    /// The runtime on which it is polled.
    type Runtime: Runtime;

    /// Whether [`PollRead::try_read`] can read. If not, it must always answer `None`.
    const TRY_READ: bool;

    /// The runtime.
    fn runtime(&self) -> Arc<Self::Runtime>;

    /// Two new transports that are each other's peer.
    fn pair(&self) -> (Self::Transport, Self::Transport);

    /// Drives the check to its end, on the runtime. Panics if it panics; it should also panic, rather than hang, if it
    /// never ends.
    fn run(&self, check: BoxFuture<()>);
}

/// The reader of a stage's transport.
pub(crate) type ReaderOf<S> = <<S as Stage>::Transport as Transport>::Reader;
/// The writer of a stage's transport.
pub(crate) type WriterOf<S> = <<S as Stage>::Transport as Transport>::Writer;

/// Makes a module with one test for each check; the expression makes the [`Stage`], anew for each of them.
#[macro_export]
macro_rules! conformance_suite {
    ($module:ident, $stage:expr) => {
        $crate::conformance_suite!(@ $module, $stage,
            transport: every_chunking_keeps_the_bytes, vectored_slices_keep_their_order,
                more_slices_than_the_system_takes, big_transfer_one_way, both_directions_from_four_tasks,
                pending_read_leaves_the_buffer, last_read_waker_counts, last_write_waker_counts,
                read_and_write_wakers_are_independent, half_close_leaves_the_other_direction, close_is_idempotent,
                the_end_stays, write_after_close_fails, backpressure_stops_and_resumes,
                dropped_peer_is_the_end_of_reads, dropped_peer_wakes_a_reader, dropped_peer_wakes_a_full_writer,
                write_to_a_dropped_peer_fails, one_dropped_half_leaves_the_other, try_read_is_honest;
            runtime: clock_never_goes_back, sleep_is_over_at_its_time, past_sleep_is_ready,
                earlier_sleep_is_ready_first, dropped_sleep_wakes_nobody, sleep_heeds_the_last_waker,
                spawned_task_outlives_its_spawner, spawned_tasks_spawn, wake_from_another_task,
                seeds_differ
        );
    };
    (@ $module:ident, $stage:expr, $($part:ident: $($check:ident),+);+) => {
        mod $module {
            #[allow(unused_imports, reason = "the stage's expression may need what is around it, or not")]
            use super::*;
            $($(
                #[test]
                fn $check() {
                    $crate::conformance::$part::$check(&$stage);
                }
            )+)+
        }
    };
}

/// The byte at this position of every stream that a check sends: a long period, so that a lost or doubled buffer shows.
pub(crate) fn byte_at(position: usize) -> u8 {
    let mixed = (position as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}

pub(crate) fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(byte_at).collect()
}

pub(crate) async fn read<R: PollRead>(reader: &mut R, buf: &mut [u8]) -> io::Result<usize> {
    poll_fn(|cx| reader.poll_read(cx, &mut [IoSliceMut::new(buf)])).await
}

/// Reads exactly so many bytes.
pub(crate) async fn read_exact<R: PollRead>(reader: &mut R, len: usize) -> Vec<u8> {
    let mut all = vec![0; len];
    let mut done = 0;
    while done < len {
        let got = read(reader, &mut all[done..]).await.expect("a read of bytes that were sent");
        assert_ne!(got, 0, "the stream ended after {done} of {len} bytes");
        done += got;
    }
    all
}

/// Reads to the end, at most `chunk` bytes at a time.
pub(crate) async fn read_to_end<R: PollRead>(reader: &mut R, chunk: usize) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buf = vec![0; chunk];
    loop {
        match read(reader, &mut buf).await? {
            0 => return Ok(all),
            got => all.extend_from_slice(&buf[..got]),
        }
    }
}

pub(crate) async fn write<W: PollWrite>(writer: &mut W, bytes: &[u8]) -> io::Result<usize> {
    let written = poll_fn(|cx| writer.poll_write(cx, &[IoSlice::new(bytes)])).await?;
    assert!((1..=bytes.len()).contains(&written), "a write of {} bytes took {written}", bytes.len());
    Ok(written)
}

/// Writes everything, at most `chunk` bytes at a time.
pub(crate) async fn write_all<W: PollWrite>(writer: &mut W, bytes: &[u8], chunk: usize) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = write(writer, &rest[..rest.len().min(chunk)]).await?;
        rest = &rest[written..];
    }
    Ok(())
}

pub(crate) async fn close<W: PollWrite>(writer: &mut W) -> io::Result<()> {
    poll_fn(|cx| writer.poll_close(cx)).await
}

/// Asserts equality without printing megabytes.
pub(crate) fn assert_same(got: &[u8], sent: &[u8]) {
    let differs = got.iter().zip(sent).position(|(a, b)| a != b);
    assert_eq!(differs, None, "the first byte that differs (of {})", sent.len());
    assert_eq!(got.len(), sent.len(), "bytes received and sent");
}

/// A waker that counts.
pub(crate) struct CountingWaker(AtomicUsize);

impl CountingWaker {
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let counter = Arc::new(Self(AtomicUsize::new(0)));
        (Arc::clone(&counter), Waker::from(counter))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A spawned task's result. If the task dies without one, whoever waits panics too, instead of waiting for ever.
pub(crate) struct Task<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

struct Slot<T> {
    outcome: Outcome<T>,
    waker: Option<Waker>,
}

enum Outcome<T> {
    Running,
    Done(T),
    Dead,
}

/// Held by the task; dropped with it.
struct Promise<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

impl<T> Promise<T> {
    fn settle(&self, outcome: Outcome<T>) {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Outcome::Running = slot.outcome {
            slot.outcome = outcome;
        }
        let waker = slot.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        self.settle(Outcome::Dead);
    }
}

/// Opened once by one task and awaited by another.
pub(crate) struct Gate(Promise<()>);

impl Gate {
    pub(crate) fn new() -> (Self, Task<()>) {
        let slot = Arc::new(Mutex::new(Slot { outcome: Outcome::Running, waker: None }));
        (Self(Promise { slot: Arc::clone(&slot) }), Task { slot })
    }

    pub(crate) fn open(self) {
        self.0.settle(Outcome::Done(()));
    }
}

impl<T: Send + 'static> Task<T> {
    pub(crate) fn spawn(runtime: &impl Runtime, task: impl Future<Output = T> + Send + 'static) -> Self {
        let slot = Arc::new(Mutex::new(Slot { outcome: Outcome::Running, waker: None }));
        let promise = Promise { slot: Arc::clone(&slot) };
        runtime.spawn(Box::pin(async move {
            let value = task.await;
            promise.settle(Outcome::Done(value));
        }));
        Self { slot }
    }

    pub(crate) async fn join(self) -> T {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<T> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut slot.outcome, Outcome::Dead) {
            Outcome::Done(value) => Poll::Ready(value),
            Outcome::Dead => panic!("a task of this check died"),
            Outcome::Running => {
                slot.outcome = Outcome::Running;
                slot.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
