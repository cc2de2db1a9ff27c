//! The connection's task: everything that no caller does for itself.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use modipc_core::{CloseReason, Dialect, Event, Role};

use crate::cell::{After, State, Task, Writer};
use crate::link::Link;
use crate::runtime::BoxFuture;
use crate::service::Service;

/// Rounds of one poll; then the executor gets its turn.
const ROUNDS_PER_POLL_MAX: usize = 8;

/// Batches of one round. The peer is read, and the service is polled, at least this often.
const BATCHES_PER_ROUND_MAX: usize = 8;

/// Events that are taken out under one hold of the lock.
const EVENTS_PER_ROUND_MAX: usize = 128;

/// See the module.
pub(crate) struct Driver<R: Role, D: Dialect, S: Service<R, D>> {
    link: Link<R, D>,
    service: S,
    /// Set to [`State::armed`], or `None` if nothing is.
    sleep: Option<BoxFuture<()>>,
    /// The executor had its turn since the last write.
    yielded: bool,
}

/// How a round ended.
enum Round {
    /// There is more to do.
    Again,
    /// Everything waits.
    Parked,
    /// Others should run before the next write.
    Yield,
    /// The connection is closed and the last words are written, or had their time.
    Over(CloseReason),
}

/// What to do after a look at the state.
enum Plan {
    Write(Writer),
    Shut(Writer),
    /// Sleep until the time, if it is not what is armed already.
    Park(Option<u64>),
    Round(Round),
}

impl<R: Role, D: Dialect, S: Service<R, D>> Driver<R, D, S> {
    pub(crate) fn new(link: Link<R, D>, service: S) -> Self {
        Driver { link, service, sleep: None, yielded: false }
    }

    fn round(&mut self, cx: &mut Context<'_>) -> Round {
        for event in self.take_in() {
            self.service.event(&self.link, event);
        }
        self.service.poll(cx, &self.link);
        self.put_out(cx)
    }

    /// Reads, if that is up to the task, and takes events out.
    fn take_in(&self) -> Vec<Event> {
        let cell = self.link.cell();
        let (job, events) = cell.enter(|state, after| {
            after.drop_waker(core::mem::replace(&mut state.task, Task::Awake).into_waker());
            state.look = false;
            // What waits for the service goes first: a service that is slow slows the reading.
            let reads = state.task_reads() && state.connection.events_len() == 0;
            let job = if reads { state.take_reader() } else { None };
            (job, take_events(state))
        });
        match job {
            Some(job) => cell.read(job, |state, _, _| take_events(state)),
            None => events,
        }
    }

    /// Writes what there is, then parks or says why not.
    fn put_out(&mut self, cx: &mut Context<'_>) -> Round {
        let link = self.link.clone();
        let mut plan = link.cell().enter_now(|state, after, now| self.plan(state, after, cx, now));
        for _ in 0..BATCHES_PER_ROUND_MAX {
            plan = match plan {
                Plan::Write(writer) => {
                    self.yielded = false;
                    let now = link.runtime().now();
                    link.cell().write(writer, |state, after| {
                        let now = state.clock(now);
                        self.plan(state, after, cx, now)
                    })
                }
                Plan::Shut(writer) => {
                    if link.cell().shut(writer) {
                        return self.end();
                    }
                    link.cell().enter_now(|state, after, now| self.plan(state, after, cx, now))
                }
                Plan::Park(at) => return self.arm(at, cx),
                Plan::Round(round) => return round,
            };
        }
        self.hand_back(plan, cx)
    }

    /// The round was long enough: what is planned comes in the next one.
    fn hand_back(&mut self, plan: Plan, cx: &mut Context<'_>) -> Round {
        match plan {
            Plan::Write(writer) | Plan::Shut(writer) => {
                self.link.cell().enter(|state, after| state.cancel_write(writer, after));
                Round::Again
            }
            Plan::Park(at) => self.arm(at, cx),
            Plan::Round(round) => round,
        }
    }

    /// Under the lock: what is due by time, what the service adds, and then what to do next.
    fn plan(&mut self, state: &mut State<R, D>, after: &mut After, cx: &mut Context<'_>, now: u64) -> Plan {
        if self.sleep.is_none() {
            state.disarm();
        }
        state.on_time(now);
        self.service.fill(cx, &mut state.connection, now);
        state.note_closed(after);
        if self.should_yield(state) {
            return Plan::Round(Round::Yield);
        }
        if state.reading_is_overdue() {
            return Plan::Round(Round::Again);
        }
        if !state.words_are_over(now)
            && let Some(writer) = state.take_writer(now)
        {
            return Plan::Write(writer);
        }
        if state.connection.events_len() > 0 {
            return Plan::Round(Round::Again);
        }
        match state.closed {
            Some(reason) if state.words_are_over(now) => Plan::Round(Round::Over(reason)),
            Some(_) => state.writer.take_due().map_or_else(|| self.park(state, cx, now), Plan::Shut),
            None => self.park(state, cx, now),
        }
    }

    fn park(&self, state: &mut State<R, D>, cx: &mut Context<'_>, now: u64) -> Plan {
        let arm = state.arm(now);
        if state.task_has_work() {
            return Plan::Round(Round::Again);
        }
        state.task = Task::Parked(cx.waker().clone());
        Plan::Park(arm)
    }

    /// When more than one call is under way, whoever was just woken may be about to add another: one turn of the executor
    /// makes one write out of many.
    fn should_yield(&self, state: &State<R, D>) -> bool {
        let busy = state.last_read > 1 || state.connection.calls_open() + state.connection.served_open() > 1;
        !self.yielded && busy && state.closed.is_none() && state.would_write()
    }

    /// Sets the sleep, and polls it, so that it wakes this task.
    fn arm(&mut self, at: Option<u64>, cx: &mut Context<'_>) -> Round {
        if let Some(at) = at {
            self.sleep = Some(self.link.runtime().sleep_until(at));
        }
        let ready = self.sleep.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready());
        if ready {
            // It may be early: the next plan looks at the clock, and sets another one if need be.
            self.sleep = None;
            return Round::Again;
        }
        Round::Parked
    }

    fn end(&mut self) -> Round {
        match self.link.closed() {
            Some(reason) => Round::Over(reason),
            None => Round::Again,
        }
    }
}

/// In a list of their own, which does not outlive their delivery: an idle connection keeps no room for them.
fn take_events<R: Role, D: Dialect>(state: &mut State<R, D>) -> Vec<Event> {
    let count = state.connection.events_len().min(EVENTS_PER_ROUND_MAX);
    let mut events = Vec::with_capacity(count);
    events.extend(core::iter::from_fn(|| state.connection.poll_event()).take(count));
    events
}

impl<R: Role, D: Dialect, S: Service<R, D>> Future for Driver<R, D, S> {
    type Output = CloseReason;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CloseReason> {
        for _ in 0..ROUNDS_PER_POLL_MAX {
            match self.round(cx) {
                Round::Again => {}
                Round::Parked => return Poll::Pending,
                Round::Yield => {
                    self.yielded = true;
                    break;
                }
                Round::Over(reason) => {
                    self.link.cell().enter(State::task_ends);
                    return Poll::Ready(reason);
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Nothing in it is pinned: the sleep is a box, and the service is only ever borrowed.
impl<R: Role, D: Dialect, S: Service<R, D>> Unpin for Driver<R, D, S> {}

/// A task that is dropped before its end takes the connection with it: nobody would read, write or keep the time.
impl<R: Role, D: Dialect, S: Service<R, D>> Drop for Driver<R, D, S> {
    fn drop(&mut self) {
        self.link.cell().enter_now(|state, after, now| {
            if state.closed.is_none() {
                state.connection.abort(now);
            }
            state.task_ends(after);
        });
    }
}
