//! Reading: by the task, or by the leader for itself.

use core::task::{Context, Poll};
use std::io::IoSliceMut;

use modipc_core::{BulkBuf, Dialect, Role};

use crate::cell::{After, Cell, Reader, State};
use crate::half::Used;
use crate::sync;

/// Reads of one turn. A turn ends earlier when the buffers are full or nothing is there.
const READS_PER_TURN_MAX: usize = 16;

/// Bytes of the scratch buffer that are read along with a bulk body. They are for the next header, and no more: what is the
/// next fragment's body should go to its own buffer, and not through this one.
const BESIDE_BULK_BYTES: usize = if cfg!(modipc_loom) { 64 } else { 4 << 10 };

/// After so many bytes written in a row the transport is asked for bytes, whatever it said before. While a task writes and its
/// peer takes it all, the executor that would tell of arrivals does not run: a Ping would wait for the end of a whole block.
const WRITTEN_UNREAD_MAX: u64 = 256 << 10;

/// The reading half, taken out of the cell, and the bulk body that the next bytes belong to.
pub(crate) struct ReadJob {
    half: Reader,
    bulk: Option<BulkBuf>,
    /// The transport has promised to wake, and is asked without another promise.
    probe: bool,
}

/// What reading gave.
#[derive(Default)]
struct Got {
    /// Bytes, of which the first belong to the bulk body, as far as it has space.
    bytes: usize,
    /// Of these, how many went to the bulk body.
    bulk: usize,
    /// Reads that gave them.
    reads: u64,
    end: GotEnd,
}

#[derive(Clone, Copy, Default)]
enum GotEnd {
    /// There may be more.
    #[default]
    More,
    /// There was no more, and the transport will wake.
    Pending,
    /// The stream ended.
    Eof,
    /// The transport failed.
    Failed,
}

impl<R: Role, D: Dialect> Cell<R, D> {
    /// Reads without the lock, gives the connection what came, and puts the half back. `then` runs in that same hold of the
    /// lock: whoever reads decides there what to do next.
    ///
    /// Reading goes on until the transport says "pending", so that its waker is set and leadership can change hands without
    /// another poll. After a short read this costs no system call: see [`crate::PollRead::poll_read`].
    pub(crate) fn read<T>(
        &self,
        mut job: ReadJob,
        then: impl FnOnce(&mut State<R, D>, &mut After, u64) -> T,
    ) -> T {
        sync::with_scratch(|scratch| {
            let got = job.read(&mut Context::from_waker(&self.read_waker), scratch);
            let scratch = scratch.get(..got.bytes - got.bulk).unwrap_or_default();
            self.enter_now(|state, after, now| {
                state.absorb(job, &got, scratch, now, after);
                then(state, after, now)
            })
        })
    }
}

impl ReadJob {
    fn read(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Got {
        let mut got = Got::default();
        let bulk_len = self.bulk.as_mut().map_or(0, |bulk| bulk.space().len());
        let beside = if bulk_len > 0 { BESIDE_BULK_BYTES } else { usize::MAX };
        let len = scratch.len().min(beside);
        let scratch = scratch.get_mut(..len).unwrap_or_default();
        let room = bulk_len + scratch.len();
        while got.bytes < room && got.reads < READS_PER_TURN_MAX as u64 {
            match self.poll(cx, scratch, got.bytes, bulk_len) {
                Poll::Ready(Ok(0)) => got.end = GotEnd::Eof,
                Poll::Ready(Ok(n)) => {
                    // A transport that claims more than it was given room for is not believed.
                    got.bytes = room.min(got.bytes + n);
                    got.reads += 1;
                    continue;
                }
                Poll::Ready(Err(_)) => got.end = GotEnd::Failed,
                Poll::Pending => got.end = GotEnd::Pending,
            }
            break;
        }
        got.bulk = got.bytes.min(bulk_len);
        got
    }

    /// One read into what is left of the bulk space, then of the scratch buffer.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        filled: usize,
        bulk_len: usize,
    ) -> Poll<std::io::Result<usize>> {
        let rest = scratch.get_mut(filled.saturating_sub(bulk_len)..).unwrap_or_default();
        let bulk = self.bulk.as_mut().and_then(|bulk| bulk.space().get_mut(filled..));
        match bulk.filter(|space| !space.is_empty()) {
            Some(space) => {
                ask(&mut self.half, self.probe, cx, &mut [IoSliceMut::new(space), IoSliceMut::new(rest)])
            }
            None => ask(&mut self.half, self.probe, cx, &mut [IoSliceMut::new(rest)]),
        }
    }
}

fn ask(
    half: &mut Reader,
    probe: bool,
    cx: &mut Context<'_>,
    bufs: &mut [IoSliceMut<'_>],
) -> Poll<std::io::Result<usize>> {
    if probe {
        // Pending here renews the promise of the poll before, for nothing has woken since.
        return half.try_read(bufs).map_or(Poll::Pending, Poll::Ready);
    }
    half.poll_read(cx, bufs)
}

impl<R: Role, D: Dialect> State<R, D> {
    /// Takes the reading half, if reading may give something.
    pub(crate) fn take_reader(&mut self) -> Option<ReadJob> {
        let probe = !self.reader.is_due() && self.written_unread >= WRITTEN_UNREAD_MAX;
        if probe {
            self.reader.mark_ready();
        }
        let half = self.reader.take_due()?;
        self.written_unread = 0;
        Some(ReadJob { half, bulk: self.connection.take_bulk(), probe })
    }

    /// Whether so much was written since the last look at what arrived that the task has to look before it writes on. A leader
    /// waits for a wake that may not come until then, so reading is up to the task again.
    pub(crate) fn reading_is_overdue(&mut self) -> bool {
        let overdue = self.written_unread >= WRITTEN_UNREAD_MAX
            && self.closed.is_none()
            && self.reader.home().is_some();
        if overdue {
            self.leader = None;
        }
        overdue
    }

    /// Puts a job back that was not done.
    pub(crate) fn cancel_read(&mut self, job: ReadJob, after: &mut After) {
        let now = self.clock(0);
        self.absorb(job, &Got::default(), &[], now, after);
    }

    fn absorb(&mut self, job: ReadJob, got: &Got, scratch: &[u8], now: u64, after: &mut After) {
        let events = self.connection.events_len();
        if let Some(bulk) = job.bulk {
            self.connection.recv_bulk(now, bulk, got.bulk);
        }
        if !scratch.is_empty() {
            self.connection.recv(now, scratch);
        }
        self.stats.bytes_in += got.bytes as u64;
        self.stats.reads += got.reads;
        match got.end {
            GotEnd::More | GotEnd::Pending => {}
            GotEnd::Eof => self.connection.recv_eof(now),
            GotEnd::Failed => self.connection.recv_failure(now),
        }
        let outcomes = self.dispatch(after);
        if got.bytes > 0 {
            self.last_read = outcomes + self.connection.events_len().saturating_sub(events);
        }
        match got.end {
            GotEnd::Pending => after.drop_reader(self.reader.put_back(job.half, Used::Pending)),
            GotEnd::More => after.drop_reader(self.reader.put_back(job.half, Used::Ready)),
            GotEnd::Eof | GotEnd::Failed => {
                let _ = self.reader.remove();
                after.drop_reader(Some(job.half));
            }
        }
    }
}
