//! The handle of one connection, and the futures that it gives.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use bytes::Bytes;
use modipc_core::{Body, CallId, CallOptions, CloseReason, Connection, Dialect, Outcome, Refused, Role};

use crate::calls::Left;
use crate::cell::{After, Cell, State, Writer};
use crate::error::CallError;
use crate::read::ReadJob;
use crate::runtime::{BoxFuture, Runtime};
use crate::service::Service;
use crate::stats::Stats;
use crate::sync::Arc;
use crate::task::Driver;
use crate::trace::{StepSink, Trace};
use crate::transport::Transport;

/// Turns of reading that a leader takes in one poll, enough for a block; then the task takes over.
const LEADER_READS_MAX: usize = 16;

/// Events that a leader lets wait for the task; beyond it the task reads, and so waits for its own service.
const LEADER_EVENTS_MAX: usize = 32;

/// One end of one connection, for any number of tasks and threads. Clones are the same connection.
pub struct Link<R: Role, D: Dialect>(Arc<Cell<R, D>>);

impl<R: Role, D: Dialect> Clone for Link<R, D> {
    fn clone(&self) -> Self {
        Link(Arc::clone(&self.0))
    }
}

impl<R: Role, D: Dialect> fmt::Debug for Link<R, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("role", &R::NAME).finish_non_exhaustive()
    }
}

impl<R: Role, D: Dialect> Link<R, D> {
    /// The shared cell and the connection's task. Spawn the task: it ends, with the reason, when the connection is closed
    /// and the last words are written. Dropping the task drops the connection, and every open call ends as
    /// [`CallError::Lost`].
    pub fn new<T: Transport, S: Service<R, D>>(
        runtime: Arc<dyn Runtime>,
        transport: T,
        connection: Connection<R, D>,
        service: S,
    ) -> (Link<R, D>, BoxFuture<CloseReason>) {
        let (reader, writer) = transport.split();
        let link = Link(Cell::new(runtime, connection, Box::new(reader), Box::new(writer)));
        let driver = Driver::new(link.clone(), service);
        (link, Box::pin(driver))
    }

    /// Issues a call now: its id and its frame exist when this returns, whether or not the future is polled. The future
    /// resolves to the answer's body. Dropping it cancels the call [C-4].
    ///
    /// If nothing else is under way, this writes the call to the transport, and the future reads the answer from it: no other
    /// task runs in between.
    pub fn call(&self, options: &CallOptions, body: Body<'_>) -> Call<R, D> {
        let issued = self.0.enter_now(|state, _, now| state.issue(options, body, now));
        match issued {
            Ok((key, id, writer)) => {
                if let Some(writer) = writer {
                    self.0.write(writer, |_, _| ());
                }
                Call { place: Place::Open { cell: Arc::clone(&self.0), key, id } }
            }
            Err(error) => Call { place: Place::Failed(error) },
        }
    }

    /// Runs a command on the connection under its lock, with the time now, then wakes the task if there is something to
    /// write or an earlier deadline. `f` must not block and must not use the link, which would deadlock.
    pub fn with<T>(&self, f: impl FnOnce(&mut Connection<R, D>, u64) -> T) -> T {
        self.0.enter_now(|state, _, now| f(&mut state.connection, now))
    }

    /// Why the connection ended, if it did.
    #[must_use]
    pub fn closed(&self) -> Option<CloseReason> {
        self.0.enter(|state, _| state.connection.closed())
    }

    /// Resolves when the connection has ended. Cancel safe.
    pub fn wait_closed(&self) -> WaitClosed<R, D> {
        WaitClosed { cell: Arc::clone(&self.0), slot: None }
    }

    /// Makes the task look again: it calls [`Service::poll`] and [`Service::fill`].
    pub fn wake(&self) {
        self.0.enter(|state, _| state.look = true);
    }

    /// The executor and clock that this connection runs on.
    #[must_use]
    pub fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.0.runtime
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.enter(|state, _| state.stats)
    }

    /// Hands every step from now on to `sink`, in order. At most `steps_max` steps wait while the sink is busy; beyond
    /// that the oldest are lost.
    pub fn trace(&self, steps_max: usize, sink: Box<dyn StepSink>) {
        let replaced = self.0.enter(|state, _| {
            state.connection.record_steps(steps_max);
            state.trace.replace(Trace { sink: Some(sink) })
        });
        drop(replaced);
    }

    pub(crate) fn cell(&self) -> &Cell<R, D> {
        &self.0
    }
}

type Issued = (u64, CallId, Option<Writer>);

impl<R: Role, D: Dialect> State<R, D> {
    fn issue(&mut self, options: &CallOptions, body: Body<'_>, now: u64) -> Result<Issued, CallError> {
        let key = self.calls.insert();
        let id = self.connection.call(now, options, body, key).map_err(|refused| {
            self.calls.remove(key);
            self.stats.refused += 1;
            match refused {
                // The same thing for a caller, whether it happened just before or just after the call.
                Refused::Closed(reason) => CallError::Lost { reason, was_sent: false },
                other => CallError::Refused(other),
            }
        })?;
        self.stats.calls += 1;
        // Alone, and the last read gave at most one thing: with more under way, the task makes one write out of many.
        let alone = self.leader.take().is_none() && self.connection.calls_open() == 1 && self.last_read <= 1;
        let writer = if alone { self.take_writer(now) } else { None };
        if writer.is_some() {
            self.leader = Some(key);
        }
        Ok((key, id, writer))
    }

    /// The caller was polled, or has read: its outcome, or what to do for it.
    fn attend(&mut self, key: u64, waker: &Waker, after: &mut After) -> Attend {
        if let Some(outcome) = self.calls.take_outcome(key) {
            self.resign(key);
            return Attend::Over(outcome);
        }
        if self.leader == Some(key) {
            if self.connection.events_len() > LEADER_EVENTS_MAX {
                self.resign(key);
            } else if let Some(job) = self.take_reader() {
                // It runs: its outcome needs no wake.
                after.drop_waker(self.calls.take_waker(key));
                return Attend::Read(job);
            }
        }
        after.drop_waker(self.calls.wait(key, waker));
        Attend::Wait
    }

    /// Reading is up to the task again. If the reading half is ready, or comes back ready, the task is woken for it.
    fn resign(&mut self, key: u64) {
        if self.leader == Some(key) {
            self.leader = None;
        }
    }

    fn leave(&mut self, key: u64, id: CallId, now: u64, after: &mut After) -> Option<Outcome> {
        self.resign(key);
        match self.calls.leave(key)? {
            Left::Over(outcome) => Some(outcome),
            Left::Open(waker) => {
                after.drop_waker(waker);
                // It is refused if the connection has just given the outcome; then that frees the slot.
                let _ = self.connection.cancel(now, id);
                None
            }
        }
    }
}

/// What a caller does next.
enum Attend {
    Over(Outcome),
    Read(ReadJob),
    Wait,
}

/// A call that was issued. Resolves once, to the answer's body.
///
/// Cancel safety: dropping it cancels the call. The peer is told [C-4], and no task or thread waits for anything.
#[must_use = "a call that is dropped is cancelled"]
pub struct Call<R: Role, D: Dialect> {
    place: Place<R, D>,
}

enum Place<R: Role, D: Dialect> {
    Open { cell: Arc<Cell<R, D>>, key: u64, id: CallId },
    Failed(CallError),
    Resolved,
}

impl<R: Role, D: Dialect> fmt::Debug for Call<R, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Call").field(&self.id()).finish()
    }
}

impl<R: Role, D: Dialect> Call<R, D> {
    /// Its id, while it is open.
    #[must_use]
    pub fn id(&self) -> Option<CallId> {
        match &self.place {
            Place::Open { id, .. } => Some(*id),
            Place::Failed(_) | Place::Resolved => None,
        }
    }

    /// The key that [`modipc_core::Event::Progress`] carries for this call, while it is open.
    #[must_use]
    pub fn key(&self) -> Option<u64> {
        match &self.place {
            Place::Open { key, .. } => Some(*key),
            Place::Failed(_) | Place::Resolved => None,
        }
    }
}

impl<R: Role, D: Dialect> Future for Call<R, D> {
    type Output = Result<Bytes, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = match &self.place {
            Place::Open { cell, key, .. } => attend(cell, *key, cx.waker()).map(into_result),
            Place::Failed(error) => Poll::Ready(Err(*error)),
            // Polled after it resolved, which the contract of futures forbids: it stays silent.
            Place::Resolved => Poll::Pending,
        };
        if outcome.is_ready() {
            self.place = Place::Resolved;
        }
        outcome
    }
}

fn attend<R: Role, D: Dialect>(cell: &Cell<R, D>, key: u64, waker: &Waker) -> Poll<Outcome> {
    let mut next = cell.enter(|state, after| state.attend(key, waker, after));
    for _ in 0..LEADER_READS_MAX {
        next = match next {
            Attend::Over(outcome) => return Poll::Ready(outcome),
            Attend::Wait => return Poll::Pending,
            Attend::Read(job) => cell.read(job, |state, after, _| state.attend(key, waker, after)),
        };
    }
    // The peer sends a lot, and not yet the answer: the task reads on, and wakes this caller.
    let last = cell.enter(|state, after| match next {
        Attend::Read(job) => {
            state.resign(key);
            state.cancel_read(job, after);
            state.attend(key, waker, after)
        }
        other => other,
    });
    match last {
        Attend::Over(outcome) => Poll::Ready(outcome),
        Attend::Wait | Attend::Read(_) => Poll::Pending,
    }
}

fn into_result(outcome: Outcome) -> Result<Bytes, CallError> {
    match outcome {
        Outcome::Reply(body) => Ok(body),
        Outcome::DeadlineExceeded => Err(CallError::DeadlineExceeded),
        Outcome::Cancelled => Err(CallError::Cancelled),
        Outcome::Lost { reason, was_sent } => Err(CallError::Lost { reason, was_sent }),
    }
}

impl<R: Role, D: Dialect> Drop for Call<R, D> {
    fn drop(&mut self) {
        if let Place::Open { cell, key, id } = &self.place {
            let outcome = cell.enter_now(|state, after, now| state.leave(*key, *id, now, after));
            drop(outcome);
        }
    }
}

/// Resolves to the reason when the connection has ended. Cancel safe.
#[must_use = "futures do nothing unless polled"]
pub struct WaitClosed<R: Role, D: Dialect> {
    cell: Arc<Cell<R, D>>,
    slot: Option<usize>,
}

impl<R: Role, D: Dialect> Future for WaitClosed<R, D> {
    type Output = CloseReason;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let WaitClosed { cell, slot } = &mut *self;
        match cell.enter(|state, after| state.wait_closed(slot, cx.waker(), after)) {
            Some(reason) => Poll::Ready(reason),
            None => Poll::Pending,
        }
    }
}

impl<R: Role, D: Dialect> Drop for WaitClosed<R, D> {
    fn drop(&mut self) {
        let WaitClosed { cell, slot } = self;
        cell.enter(|state, after| state.leave_closed(slot, after));
    }
}
