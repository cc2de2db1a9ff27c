//! Writing: by the task, or by a sole caller for itself.

use core::task::{Context, Poll};
use std::io::IoSlice;

use modipc_core::{Batch, Dialect, Role};

use crate::cell::{After, Cell, State, Writer};
use crate::half::Used;

/// Slices of one write.
const SLICES_MAX: usize = 64;

/// How writing ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum WroteEnd {
    /// The batch is written.
    Done,
    /// The transport takes no more now, and will wake.
    Pending,
    /// The transport failed.
    Failed,
}

/// What writing did.
struct Wrote {
    bytes: u64,
    writes: u64,
    end: WroteEnd,
}

impl<R: Role, D: Dialect> Cell<R, D> {
    /// Writes without the lock what [`State::take_writer`] gave, and puts it back. `then` runs in that same hold of the lock.
    pub(crate) fn write<T>(
        &self,
        mut writer: Writer,
        then: impl FnOnce(&mut State<R, D>, &mut After) -> T,
    ) -> T {
        let wrote = writer.write(&mut Context::from_waker(&self.write_waker));
        self.enter(|state, after| {
            state.wrote(writer, &wrote, after);
            then(state, after)
        })
    }

    /// Ends the stream in this direction; true when that is done, or cannot be.
    pub(crate) fn shut(&self, mut writer: Writer) -> bool {
        let closed = writer.half.poll_close(&mut Context::from_waker(&self.write_waker));
        self.enter(|state, after| {
            let used = if closed.is_pending() { Used::Pending } else { Used::Ready };
            after.drop_writer(state.writer.put_back(writer, used));
        });
        closed.is_ready()
    }
}

impl Writer {
    fn write(&mut self, cx: &mut Context<'_>) -> Wrote {
        let mut wrote = Wrote { bytes: 0, writes: 0, end: WroteEnd::Done };
        let Some(batch) = &mut self.batch else { return wrote };
        while !batch.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            match self.half.poll_write(cx, fill(&mut slices, batch)) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    batch.advance(n);
                    wrote.bytes += n as u64;
                    wrote.writes += 1;
                    continue;
                }
                // A write that takes nothing would be repeated for ever.
                Poll::Ready(Ok(_) | Err(_)) => wrote.end = WroteEnd::Failed,
                Poll::Pending => wrote.end = WroteEnd::Pending,
            }
            break;
        }
        wrote
    }
}

fn fill<'s, 'b>(slices: &'s mut [IoSlice<'b>; SLICES_MAX], batch: &'b Batch) -> &'s [IoSlice<'b>] {
    let mut count = 0;
    for (slice, bytes) in slices.iter_mut().zip(batch.slices()) {
        *slice = IoSlice::new(bytes);
        count += 1;
    }
    slices.get(..count).unwrap_or_default()
}

impl<R: Role, D: Dialect> State<R, D> {
    /// Puts back what was taken and not written.
    pub(crate) fn cancel_write(&mut self, writer: Writer, after: &mut After) {
        after.drop_writer(self.writer.put_back(writer, Used::Ready));
    }

    fn wrote(&mut self, mut writer: Writer, wrote: &Wrote, after: &mut After) {
        self.stats.bytes_out += wrote.bytes;
        self.written_unread += wrote.bytes;
        self.stats.writes += wrote.writes;
        let used = match wrote.end {
            WroteEnd::Done => {
                if let Some(batch) = writer.batch.take() {
                    self.connection.batch_done(batch);
                }
                Used::Ready
            }
            WroteEnd::Pending => Used::Pending,
            WroteEnd::Failed => return self.writing_failed(writer, after),
        };
        after.drop_writer(self.writer.put_back(writer, used));
    }
}
