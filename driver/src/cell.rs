//! What callers and the connection's task share.
//!
//! Everything is behind one mutex, and every use of it goes through [`Cell::enter`], which ends with [`State::settle`]: it
//! hands out outcomes and wakes whoever has something to do *in the state as it is now*. The task parks only when
//! [`State::task_has_work`] says no, and every later change asks the same question again, so no wake-up can be lost between
//! two conditions. No lock is held across a system call, a wake, or the drop of a waker, which may run other tasks' code.

use core::task::Waker;
use std::task::Wake;

use modipc_core::{Batch, CloseReason, Connection, Dialect, Outcome, Role, Step};
use slab::Slab;

use crate::calls::Calls;
use crate::half::Half;
use crate::runtime::Runtime;
use crate::stats::Stats;
use crate::sync::{Arc, Mutex, Weak};
use crate::trace::{StepSink, Trace};
use crate::transport::{PollRead, PollWrite};

/// How long a leader may leave a read waiting, in microseconds, before the task does it. An executor polls what it woke, but
/// a future that owns the call may not (`select!` in a long arm): without this bound it would stop events and pings.
pub(crate) const LEADER_IDLE_US: u64 = 200_000;

/// How long the last words to the peer, and the end of the stream, may take after the connection has closed.
pub(crate) const LAST_WORDS_US: u64 = 1_000_000;

/// How long the peer's own last words are awaited after writing to it failed.
const PEER_WORDS_US: u64 = 1_000_000;

/// No deadline.
const NEVER: u64 = u64::MAX;

/// The cell: see the module.
pub(crate) struct Cell<R: Role, D: Dialect> {
    state: Mutex<State<R, D>>,
    pub(crate) runtime: Arc<dyn Runtime>,
    /// The only two wakers that the transport sees. They name no caller: who is woken is decided when they fire.
    pub(crate) read_waker: Waker,
    pub(crate) write_waker: Waker,
}

/// The reading half, as it is taken out.
pub(crate) type Reader = Box<dyn PollRead>;

/// The writing half, as it is taken out: with the batch that it has not finished.
pub(crate) struct Writer {
    pub(crate) half: Box<dyn PollWrite>,
    pub(crate) batch: Option<Batch>,
}

/// What the mutex guards.
pub(crate) struct State<R: Role, D: Dialect> {
    pub(crate) connection: Connection<R, D>,
    pub(crate) calls: Calls,
    pub(crate) reader: Half<Reader>,
    pub(crate) writer: Half<Writer>,
    /// The sole caller that reads for itself, by its key; without one the task reads.
    pub(crate) leader: Option<u64>,
    /// When the task reads although there is a leader.
    pub(crate) leader_until: u64,
    pub(crate) task: Task,
    /// The task shall call its service, whatever else there is to do.
    pub(crate) look: bool,
    /// What the task's sleep is set to.
    pub(crate) armed: u64,
    /// The earliest deadline since the sleep was set that was earlier than it, even if it has passed away since: the next call's
    /// will be much the same, and shall find it set.
    asked: u64,
    /// Outcomes and events of the last read: more than one means that there is something to batch.
    pub(crate) last_read: usize,
    /// Bytes written since the transport was last asked for bytes.
    pub(crate) written_unread: u64,
    pub(crate) closed: Option<CloseReason>,
    /// When the end is forced: after closing, the last words; before it, the peer's after writing failed.
    end: u64,
    closers: Slab<Option<Waker>>,
    pub(crate) stats: Stats,
    pub(crate) trace: Option<Trace>,
    now: u64,
}

/// Where the connection's task is.
#[derive(Debug)]
pub(crate) enum Task {
    /// It returned, with nothing to do. Taking the waker is the duty to wake it.
    Parked(Waker),
    /// It runs, or was woken and will run: it looks at the state again before it parks.
    Awake,
    /// It ended.
    Gone,
}

impl Task {
    pub(crate) fn into_waker(self) -> Option<Waker> {
        match self {
            Task::Parked(waker) => Some(waker),
            Task::Awake | Task::Gone => None,
        }
    }
}

/// What is to be done once the lock is released. Empty it costs next to nothing, for it is made at every hold.
#[derive(Default)]
pub(crate) struct After {
    /// Room for one without allocating; a second caller goes to `callers`.
    caller: Option<Waker>,
    callers: Vec<Waker>,
    task: Option<Waker>,
    /// A waker that was replaced.
    old: Option<Waker>,
    /// What is dropped, or happens, seldom.
    seldom: Vec<Seldom>,
}

#[allow(dead_code, reason = "most of these are only dropped")]
enum Seldom {
    Old(Waker),
    Reader(Reader),
    Writer(Writer),
    Steps(Box<dyn StepSink>, Vec<Step>),
}

impl After {
    pub(crate) fn wake(&mut self, waker: Waker) {
        if self.caller.is_none() {
            self.caller = Some(waker);
        } else {
            self.callers.push(waker);
        }
    }

    pub(crate) fn drop_waker(&mut self, waker: Option<Waker>) {
        if self.old.is_none() {
            self.old = waker;
        } else {
            self.seldom.extend(waker.map(Seldom::Old));
        }
    }

    pub(crate) fn drop_reader(&mut self, reader: Option<Reader>) {
        self.seldom.extend(reader.map(Seldom::Reader));
    }

    pub(crate) fn drop_writer(&mut self, writer: Option<Writer>) {
        self.seldom.extend(writer.map(Seldom::Writer));
    }

    /// Callers first: what they issue next is written together when the task runs after them.
    fn fire(&mut self) {
        if let Some(waker) = self.caller.take() {
            waker.wake();
        }
        self.callers.drain(..).for_each(Waker::wake);
        if let Some(waker) = self.task.take() {
            waker.wake();
        }
    }
}

impl<R: Role, D: Dialect> Cell<R, D> {
    pub(crate) fn new(
        runtime: Arc<dyn Runtime>,
        connection: Connection<R, D>,
        reader: Reader,
        writer: Box<dyn PollWrite>,
    ) -> Arc<Self> {
        let state = Mutex::new(State {
            connection,
            calls: Calls::default(),
            reader: Half::new(reader),
            writer: Half::new(Writer { half: writer, batch: None }),
            leader: None,
            leader_until: NEVER,
            task: Task::Awake,
            look: false,
            armed: NEVER,
            asked: NEVER,
            last_read: 0,
            written_unread: 0,
            closed: None,
            end: NEVER,
            closers: Slab::new(),
            stats: Stats::default(),
            trace: None,
            now: 0,
        });
        Arc::new_cyclic(|cell: &Weak<Self>| Cell {
            state,
            runtime,
            read_waker: Waker::from(Arc::new(ReadWake(Weak::clone(cell)))),
            write_waker: Waker::from(Arc::new(WriteWake(Weak::clone(cell)))),
        })
    }

    /// Runs `f` under the lock, then wakes and drops what is to be woken and dropped.
    pub(crate) fn enter<T>(&self, f: impl FnOnce(&mut State<R, D>, &mut After) -> T) -> T {
        let mut after = After::default();
        let mut state = self.state.lock();
        let out = f(&mut state, &mut after);
        state.settle(&mut after);
        drop(state);
        after.fire();
        for seldom in after.seldom {
            if let Seldom::Steps(sink, steps) = seldom {
                self.emit(sink, steps);
            }
        }
        out
    }

    /// Runs `f` under the lock at the time now.
    pub(crate) fn enter_now<T>(&self, f: impl FnOnce(&mut State<R, D>, &mut After, u64) -> T) -> T {
        let now = self.runtime.now();
        self.enter(|state, after| {
            let now = state.clock(now);
            f(state, after, now)
        })
    }

    /// The sink is out of the cell while it is used, like a half of the transport: steps that are made meanwhile wait in the
    /// connection, and whoever has the sink looks again before it puts it back.
    fn emit(&self, mut sink: Box<dyn StepSink>, mut steps: Vec<Step>) {
        loop {
            steps.drain(..).for_each(|step| sink.step(&step));
            let mut state = self.state.lock();
            steps.extend(core::iter::from_fn(|| state.connection.poll_step()));
            if steps.is_empty() {
                if let Some(trace) = &mut state.trace {
                    // A sink that was set meanwhile has replaced this one.
                    trace.sink.get_or_insert(sink);
                }
                return;
            }
        }
    }
}

impl<R: Role, D: Dialect> State<R, D> {
    /// The time that goes into the connection. Two threads may take the time in one order and the lock in the other.
    pub(crate) fn clock(&mut self, now: u64) -> u64 {
        self.now = self.now.max(now);
        self.now
    }

    /// When the task has to run again, whatever happens.
    pub(crate) fn deadline(&self) -> u64 {
        let connection = if self.closed.is_some() { None } else { self.connection.deadline() };
        connection.unwrap_or(NEVER).min(self.leader_until).min(self.end)
    }

    /// The time is `now`: does what is due.
    pub(crate) fn on_time(&mut self, now: u64) {
        if self.closed.is_none() && self.connection.deadline().is_some_and(|deadline| deadline <= now) {
            self.connection.handle_timeout(now);
        }
        if self.leader_until <= now {
            self.leader = None;
        }
        if self.closed.is_none() && self.end <= now {
            self.end = NEVER;
            self.connection.recv_failure(now);
        }
    }

    /// Whether the last words had their time.
    pub(crate) fn words_are_over(&self, now: u64) -> bool {
        self.closed.is_some() && (self.end <= now || self.writer.is_gone())
    }

    /// Nothing is armed.
    pub(crate) fn disarm(&mut self) {
        self.armed = NEVER;
    }

    /// What the task's sleep is to be set to, unless it is set to this or an earlier time: one that was set for a call that is
    /// over may fire early, which is cheaper than setting it anew for every call.
    pub(crate) fn arm(&mut self, now: u64) -> Option<u64> {
        let asked = core::mem::replace(&mut self.asked, NEVER);
        let at = if asked > now { asked.min(self.deadline()) } else { self.deadline() };
        (at < self.armed).then(|| {
            self.armed = at;
            at
        })
    }

    /// The task does nothing more.
    pub(crate) fn task_ends(&mut self, after: &mut After) {
        after.drop_waker(core::mem::replace(&mut self.task, Task::Gone).into_waker());
        after.drop_reader(self.reader.remove());
        after.drop_writer(self.writer.remove());
    }

    /// Whether the task has something to do that does not wait for the transport.
    pub(crate) fn task_has_work(&self) -> bool {
        self.look
            || self.connection.events_len() > 0
            || self.deadline() < self.armed
            || (self.task_reads() && self.reader.is_due())
            || self.would_write()
            || (self.closed.is_some() && self.writer.is_due())
            || (self.closed.is_some() && self.writer.is_gone())
    }

    /// Whether a write would get somewhere.
    pub(crate) fn would_write(&self) -> bool {
        self.writer.is_due() && self.has_batch()
    }

    /// Whether reading is up to the task.
    pub(crate) fn task_reads(&self) -> bool {
        self.leader.is_none() && self.closed.is_none()
    }

    fn has_batch(&self) -> bool {
        self.writer.home().is_some_and(|writer| writer.batch.is_some()) || self.connection.wants_write()
    }

    /// Takes the writing half, with something to write.
    pub(crate) fn take_writer(&mut self, now: u64) -> Option<Writer> {
        if !self.has_batch() {
            return None;
        }
        let mut writer = self.writer.take_due()?;
        if writer.batch.is_none() {
            writer.batch = self.connection.take_batch(now);
        }
        if writer.batch.is_none() {
            // The connection changed its mind; putting the half back cannot fail, for the lock was held.
            let _ = self.writer.put_back(writer, crate::half::Used::Ready);
            return None;
        }
        Some(writer)
    }

    /// Writing failed. The peer may have said why before it went, so reading goes on, for a while.
    pub(crate) fn writing_failed(&mut self, writer: Writer, after: &mut After) {
        let _ = self.writer.remove();
        after.drop_writer(Some(writer));
        self.leader = None;
        self.reader.mark_ready();
        if self.closed.is_none() {
            self.end = self.now.saturating_add(PEER_WORDS_US);
        }
    }

    /// Outcomes go to their callers. Returns how many there were.
    pub(crate) fn dispatch(&mut self, after: &mut After) -> usize {
        let mut count = 0;
        while let Some((key, outcome)) = self.connection.poll_outcome() {
            count += 1;
            match &outcome {
                Outcome::Reply(_) => self.stats.replies += 1,
                Outcome::DeadlineExceeded => self.stats.deadlines_exceeded += 1,
                Outcome::Cancelled => self.stats.cancelled += 1,
                Outcome::Lost { .. } => self.stats.lost += 1,
            }
            if let Some(waker) = self.calls.finish(key, outcome) {
                after.wake(waker);
            }
        }
        count
    }

    /// Ends every hold of the lock: see the module.
    fn settle(&mut self, after: &mut After) {
        self.dispatch(after);
        self.note_closed(after);
        match self.leader {
            Some(key) if self.reader.is_due() => {
                if self.leader_until == NEVER {
                    self.leader_until = self.now.saturating_add(LEADER_IDLE_US);
                }
                if let Some(waker) = self.calls.take_waker(key) {
                    after.wake(waker);
                }
            }
            Some(_) | None => self.leader_until = NEVER,
        }
        let deadline = self.deadline();
        if deadline < self.armed {
            self.asked = self.asked.min(deadline);
        }
        if matches!(self.task, Task::Parked(_)) && self.task_has_work() {
            after.task = core::mem::replace(&mut self.task, Task::Awake).into_waker();
        }
        if let Some((sink, steps)) = self.trace.as_mut().and_then(|trace| trace.take(&mut self.connection)) {
            after.seldom.push(Seldom::Steps(sink, steps));
        }
    }

    /// The reason first, then every class of waiter. A call that comes later finds the reason under the same lock.
    pub(crate) fn note_closed(&mut self, after: &mut After) {
        let (None, Some(reason)) = (self.closed, self.connection.closed()) else { return };
        self.closed = Some(reason);
        self.leader = None;
        self.end = self.now.saturating_add(LAST_WORDS_US);
        for (_, waker) in &mut self.closers {
            if let Some(waker) = waker.take() {
                after.wake(waker);
            }
        }
    }

    /// Waits for the end of the connection, or says why it ended. `slot` is the waiter's place.
    pub(crate) fn wait_closed(
        &mut self,
        slot: &mut Option<usize>,
        waker: &Waker,
        after: &mut After,
    ) -> Option<CloseReason> {
        if let Some(reason) = self.closed {
            self.leave_closed(slot, after);
            return Some(reason);
        }
        let at = *slot.get_or_insert_with(|| self.closers.insert(None));
        if let Some(place) = self.closers.get_mut(at)
            && !place.as_ref().is_some_and(|old| old.will_wake(waker))
        {
            after.drop_waker(place.replace(waker.clone()));
        }
        None
    }

    /// Waits no longer.
    pub(crate) fn leave_closed(&mut self, slot: &mut Option<usize>, after: &mut After) {
        if let Some(waker) = slot.take().and_then(|at| self.closers.try_remove(at)) {
            after.drop_waker(waker);
        }
    }
}

/// The transport's wakes. They hold the cell weakly: the cell owns the transport, which owns them.
struct ReadWake<R: Role, D: Dialect>(Weak<Cell<R, D>>);
struct WriteWake<R: Role, D: Dialect>(Weak<Cell<R, D>>);

impl<R: Role, D: Dialect> Wake for ReadWake<R, D> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(cell) = self.0.upgrade() {
            cell.enter_now(|state, _, _| state.reader.mark_ready());
        }
    }
}

impl<R: Role, D: Dialect> Wake for WriteWake<R, D> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(cell) = self.0.upgrade() {
            cell.enter(|state, _| state.writer.mark_ready());
        }
    }
}
