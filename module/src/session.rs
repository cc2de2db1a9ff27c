//! What the connection's task and the handles of one connection share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use event_listener::Event;
use futures_util::future::AbortHandle;
use modipc_api::CapabilitySet;
use modipc_core::{CallId, CloseReason, Initiator, Refusal};

use crate::client::{Inner, ModuleLink};
use crate::events::{Claim, EventQueue};
use crate::room::Room;
use crate::sync::lock;

/// Somebody said goodbye [G-1]: nothing new begins, what runs is finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draining {
    /// Who began.
    pub by: Initiator,
    /// Why, as a number of [G-2].
    pub reason: u32,
    /// The position after the last event that the host sent, to resume from; 0 if there was none.
    pub resume: u64,
    /// Why, in words.
    pub detail: String,
}

/// How far a connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Calls can be made.
    Active,
    /// Goodbye was said.
    Draining(Draining),
    /// It has ended.
    Closed(CloseReason),
}

/// How the handshake went.
pub(crate) enum Handshake {
    Pending,
    /// The one who waits for the handshake takes it out.
    Accepted(Arc<Inner>),
    Refused(Refusal),
    /// Nobody waits for it, any more or again.
    Over,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("state", &self.state()).finish_non_exhaustive()
    }
}

pub(crate) struct Session {
    pub(crate) events: EventQueue,
    pub(crate) room: Room,
    pub(crate) dropped_logs: AtomicU64,
    /// Invocations that are being served. Who takes an id out answers it: exactly one answer each [C-2].
    pub(crate) serving: Mutex<BTreeMap<CallId, AbortHandle>>,
    status: Mutex<Status>,
    changed: Event,
    /// How often the connection's task ran while somebody waited for it to run; see [`Session::settled`].
    turns: AtomicU64,
    turns_awaited: AtomicUsize,
}

struct Status {
    handshake: Handshake,
    grants: CapabilitySet,
    draining: Option<Draining>,
    closed: Option<CloseReason>,
    pongs: u64,
    rtt_us: u64,
}

impl Session {
    pub(crate) fn new(events: EventQueue) -> Self {
        let status = Status {
            handshake: Handshake::Pending,
            grants: CapabilitySet::EMPTY,
            draining: None,
            closed: None,
            pongs: 0,
            rtt_us: 0,
        };
        Session {
            events,
            room: Room::default(),
            dropped_logs: AtomicU64::new(0),
            serving: Mutex::default(),
            status: Mutex::new(status),
            changed: Event::new(),
            turns: AtomicU64::new(0),
            turns_awaited: AtomicUsize::new(0),
        }
    }

    // ---- told by the connection's task ----

    pub(crate) fn accepted(&self, inner: Arc<Inner>, grants: CapabilitySet) {
        self.change(|status| {
            status.grants = grants;
            if let Handshake::Pending = status.handshake {
                status.handshake = Handshake::Accepted(inner);
            }
        });
    }

    pub(crate) fn refused(&self, refusal: Refusal) {
        self.change(|status| status.handshake = Handshake::Refused(refusal));
    }

    pub(crate) fn granted(&self, grants: CapabilitySet) {
        self.change(|status| status.grants = grants);
    }

    pub(crate) fn ponged(&self, rtt_us: u64) {
        self.change(|status| {
            status.pongs += 1;
            status.rtt_us = rtt_us;
        });
    }

    pub(crate) fn draining(&self, draining: Draining) {
        self.change(|status| {
            status.draining.get_or_insert(draining);
        });
    }

    pub(crate) fn closed(&self, reason: CloseReason) {
        self.change(|status| {
            status.closed.get_or_insert(reason);
        });
        self.events.end();
        self.room.all_out();
        let serving = std::mem::take(&mut *lock(&self.serving));
        for invocation in serving.values() {
            invocation.abort();
        }
    }

    /// The task has handed on every event that it had taken.
    pub(crate) fn turned(&self) {
        // Whoever waits has counted itself before it woke the task, through the link's lock.
        if self.turns_awaited.load(Ordering::Relaxed) > 0 {
            self.turns.fetch_add(1, Ordering::Release);
            self.changed.notify(usize::MAX);
        }
    }

    fn change(&self, f: impl FnOnce(&mut Status)) {
        f(&mut lock(&self.status));
        self.changed.notify(usize::MAX);
    }

    // ---- asked by handles ----

    pub(crate) fn grants(&self) -> CapabilitySet {
        lock(&self.status).grants
    }

    pub(crate) fn state(&self) -> State {
        let status = lock(&self.status);
        match (&status.closed, &status.draining) {
            (Some(reason), _) => State::Closed(*reason),
            (None, Some(draining)) => State::Draining(draining.clone()),
            (None, None) => State::Active,
        }
    }

    pub(crate) fn draining_seen(&self) -> Option<Draining> {
        lock(&self.status).draining.clone()
    }

    /// How many pings were answered, and the last round trip in microseconds.
    pub(crate) fn pongs(&self) -> (u64, u64) {
        let status = lock(&self.status);
        (status.pongs, status.rtt_us)
    }

    /// The handshake's result, once.
    pub(crate) fn take_handshake(&self) -> Option<Result<Arc<Inner>, Failed>> {
        let mut status = lock(&self.status);
        match std::mem::replace(&mut status.handshake, Handshake::Over) {
            Handshake::Accepted(inner) => Some(Ok(inner)),
            Handshake::Refused(refusal) => Some(Err(Failed::Refused(refusal))),
            Handshake::Pending => match status.closed {
                Some(reason) => Some(Err(Failed::Ended(reason))),
                None => {
                    status.handshake = Handshake::Pending;
                    None
                }
            },
            Handshake::Over => None,
        }
    }

    /// Nobody waits for the handshake any more.
    pub(crate) fn forget_handshake(&self) {
        let forgotten = std::mem::replace(&mut lock(&self.status).handshake, Handshake::Over);
        // Its end may run commands on the connection, so the lock is free by now.
        drop(forgotten);
    }

    /// Waits until the queue is there for a new stream; `None` if another stream has it. Cancel safe.
    pub(crate) async fn claim_events(self: &Arc<Self>) -> Option<EventClaim> {
        let claim = self.until(|session| match session.events.claim() {
            Claim::Soon => None,
            claim @ (Claim::Yours | Claim::Taken) => Some(claim),
        });
        (claim.await == Claim::Yours).then(|| EventClaim(Arc::clone(self)))
    }

    /// Waits until every event that arrived before this call has been handed on. Cancel safe.
    ///
    /// An answer may reach its caller before the events that came before it reach the queue: the caller may have read it
    /// itself. Once none waits in the connection, the rest is in the hands of the task's turn that is under way.
    pub(crate) async fn settled(&self, link: &ModuleLink) {
        let _awaited = Awaited::new(&self.turns_awaited);
        let mut none_waits = false;
        while !none_waits {
            none_waits = link.with(|connection, _| connection.events_len() == 0);
            let before = self.turns.load(Ordering::Acquire);
            link.wake();
            self.until(|session| {
                let turned = session.turns.load(Ordering::Acquire) > before;
                (turned || matches!(session.state(), State::Closed(_))).then_some(())
            })
            .await;
        }
    }

    /// Waits until `ready` gives something. Cancel safe.
    pub(crate) async fn until<T>(&self, mut ready: impl FnMut(&Self) -> Option<T>) -> T {
        loop {
            if let Some(value) = ready(self) {
                return value;
            }
            let changed = self.changed.listen();
            if let Some(value) = ready(self) {
                return value;
            }
            changed.await;
        }
    }

    /// As [`Session::until`], for a thread.
    pub(crate) fn block_until<T>(&self, mut ready: impl FnMut(&Self) -> Option<T>) -> T {
        use event_listener::Listener;
        loop {
            if let Some(value) = ready(self) {
                return value;
            }
            let changed = self.changed.listen();
            if let Some(value) = ready(self) {
                return value;
            }
            changed.wait();
        }
    }

    pub(crate) fn count_dropped_log(&self) {
        self.dropped_logs.fetch_add(1, Ordering::Relaxed);
    }
}

/// The right to the event queue. Its end gives the queue back.
#[derive(Debug)]
pub(crate) struct EventClaim(Arc<Session>);

impl Drop for EventClaim {
    fn drop(&mut self) {
        self.0.events.free();
        self.0.changed.notify(usize::MAX);
    }
}

struct Awaited<'a>(&'a AtomicUsize);

impl<'a> Awaited<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Awaited(count)
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a handshake gave no connection.
pub(crate) enum Failed {
    Refused(Refusal),
    Ended(CloseReason),
}
