//! One connection: frames, the machine and the outbox put together.

use alloc::string::String;
use alloc::vec::Vec;
use core::marker::PhantomData;

use bytes::Bytes;

use crate::dialect::Dialect;
use crate::envelope::{IdempotencyKey, Profile, TraceContext};
use crate::error::{CloseReason, Initiator, Refused};
use crate::event_log::{EventLog, HoldId, Overflow};
use crate::hello::{Accepted, Hello, Refusal};
use crate::kind::{Host, Module, Role};
use crate::limits::{Config, Limits};
use crate::outbox::{Batch, Body};
use crate::topics::TopicSet;

/// A call's id. Each direction of a connection has ids of its own; they rise and are never reused [C-1].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId(pub u64);

/// What accompanies a call that we issue. Fields that the plain profile does not have are left out there.
#[derive(Clone, Debug)]
pub struct CallOptions {
    /// How long the caller waits, in microseconds from now; over zero and at most [`Limits::call_deadline_us_max`] of the peer.
    pub deadline_us: u64,
    /// Trace context.
    pub trace: Option<TraceContext>,
    /// Idempotency key.
    pub idempotency: Option<IdempotencyKey>,
    /// For a call that subscribes.
    pub subscribe: Option<SubscribeOptions>,
}

/// What accompanies a call that subscribes [V-3] [V-4].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct SubscribeOptions {
    /// The first position wanted; `None` is "from now on".
    pub resume: Option<u64>,
    /// What happens when the subscriber is too slow.
    pub overflow: Overflow,
}

/// A call of the peer. It stays open until [`Connection::reply`].
#[derive(Clone, Debug)]
pub struct ServedCall {
    /// Its id, to answer with.
    pub id: CallId,
    /// When the caller stops waiting, in the time of `now`; `None` if it did not say.
    pub deadline: Option<u64>,
    /// Trace context.
    pub trace: Option<TraceContext>,
    /// Idempotency key.
    pub idempotency: Option<IdempotencyKey>,
    /// The body.
    pub body: Bytes,
}

/// A subscription that a served call asks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Subscription {
    /// Replace the set of topics.
    Replace {
        /// The topics.
        topics: TopicSet,
        /// From where, and what on overflow.
        options: SubscribeOptions,
    },
    /// Remove topics.
    Remove {
        /// The topics; [`TopicSet::ALL`] if the call named none.
        topics: TopicSet,
    },
}

/// How a call of ours ended. Every call that was issued gets exactly one.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The peer answered with this body.
    Reply(Bytes),
    /// Its deadline passed. The peer was told; its late answer is dropped.
    DeadlineExceeded,
    /// [`Connection::cancel`] was called.
    Cancelled,
    /// The connection ended.
    Lost {
        /// Why.
        reason: CloseReason,
        /// Whether any byte of the call was handed to the transport: if not, the peer certainly did not see it.
        was_sent: bool,
    },
}

/// What happened on the connection, in order.
#[derive(Clone, Debug)]
pub enum Event {
    /// Host: a module introduces itself. Answer with [`Connection::accept`] or [`Connection::refuse`].
    Hello(Hello),
    /// Module: the host admitted us.
    Accepted(Accepted),
    /// Module: the host refused us. [`Event::Closed`] follows.
    Refused(Refusal),
    /// The peer calls.
    Call(ServedCall),
    /// Host: the module wants to change its subscription; answer with [`Connection::reply_subscription`] to grant it, or
    /// with [`Connection::reply`] to refuse.
    Subscribe(ServedCall, Subscription),
    /// The caller gave up this open call. It still wants its one answer.
    CallCancelled(CallId),
    /// The deadline of this open call passed. The caller still gets its one answer.
    CallExpired(CallId),
    /// A call was answered by the connection itself, because these capabilities are missing.
    CallDenied(CallId, u64),
    /// A call was answered by the connection itself, because too many are open or answers are not read.
    CallBusy(CallId),
    /// Module: an event.
    Event {
        /// Its position in the host's log; 0 in the plain profile.
        position: u64,
        /// The position of the previous event of the same topic; 0 if there was none, or in the plain profile.
        prev: u64,
        /// The body.
        body: Bytes,
    },
    /// Module: the host dropped events of this subscription [V-4].
    Lagged {
        /// First position that may be missing.
        first: u64,
        /// Last position that is missing.
        last: u64,
    },
    /// Host: a log record.
    Log {
        /// The body.
        body: Bytes,
        /// Its records, for [`crate::Records`].
        records: Bytes,
    },
    /// This many log records or events did not fit into the inbox and were dropped; `first`–`last` are the positions of
    /// dropped events (0 if only log records were dropped).
    InboxOverflow {
        /// How many.
        count: u64,
        /// First position.
        first: u64,
        /// Last position.
        last: u64,
    },
    /// How far a call of ours is.
    Progress {
        /// The key given to [`Connection::call`].
        key: u64,
        /// Done so far.
        done: u64,
        /// Of so much.
        total: u64,
    },
    /// Module: what is granted now.
    GrantsChanged(Vec<String>),
    /// The answer to [`Connection::ping`].
    Pong {
        /// The ping's nonce.
        nonce: u64,
        /// Microseconds since it was sent.
        rtt_us: u64,
    },
    /// Draining has begun [G-1].
    Draining {
        /// Who began.
        by: Initiator,
        /// Why [G-2].
        reason: u32,
        /// Where to resume.
        resume: u64,
        /// In words.
        detail: String,
    },
    /// The connection ended. Nothing follows.
    Closed(CloseReason),
}

/// One step of the machine: what came, and what was decided. Its `Display` is one line of the trace format.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Step {
    /// When, in microseconds.
    pub now: u64,
}

/// How [`Connection::pull_events`] left off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pull {
    /// Everything in the log was looked at: wait for the next append.
    CaughtUp,
    /// The outbox is full or enough was done for once: pull again after the next batch was taken.
    More,
    /// There is no subscription.
    Idle,
}

/// A reassembly buffer that the driver reads into directly.
#[derive(Debug)]
pub struct BulkBuf {
    buf: Vec<u8>,
    at: usize,
    end: usize,
}

impl BulkBuf {
    /// Where to read to; not empty.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.buf[self.at..self.end]
    }
}

/// One end of a connection in role `R`, speaking dialect `D`.
///
/// `recv*` and `handle_*` take the world in, verbs take commands of the application, `poll_*` and `take_*` give out, the rest
/// looks. Any interleaving of output calls is correct. `now` is in microseconds, from an epoch that the caller chose, and never
/// decreases. A command that is refused leaves the state as it was. After [`Event::Closed`] every command is refused with the
/// reason, and input is ignored.
#[derive(Debug)]
pub struct Connection<R: Role, D: Dialect> {
    dialect: D,
    role: PhantomData<R>,
}

#[allow(unused_variables, clippy::todo)]
impl<R: Role, D: Dialect> Connection<R, D> {
    /// A connection whose stream has just been connected.
    #[must_use]
    pub fn new(now: u64, config: Config, dialect: D) -> Self {
        todo!()
    }

    // ---- the world in ----

    /// Bytes arrived.
    pub fn recv(&mut self, now: u64, bytes: &[u8]) {
        todo!()
    }
    /// If the next bytes belong to a bulk body, its buffer to read into. Give it back with [`Connection::recv_bulk`] before
    /// any other input; [`Connection::recv`] may follow with what was read beyond it.
    pub fn take_bulk(&mut self) -> Option<BulkBuf> {
        todo!()
    }
    /// `n` bytes were read into the buffer.
    pub fn recv_bulk(&mut self, now: u64, buf: BulkBuf, n: usize) {
        todo!()
    }
    /// The stream ended.
    pub fn recv_eof(&mut self, now: u64) {
        todo!()
    }
    /// The transport failed.
    pub fn recv_failure(&mut self, now: u64) {
        todo!()
    }
    /// The time of [`Connection::deadline`] has come. Too early is harmless.
    pub fn handle_timeout(&mut self, now: u64) {
        todo!()
    }

    // ---- commands ----

    /// Issues a call; its [`Outcome`] will carry `key`.
    ///
    /// # Errors
    /// [`Refused`]; nothing was sent.
    pub fn call(
        &mut self,
        now: u64,
        options: &CallOptions,
        body: Body<'_>,
        key: u64,
    ) -> Result<CallId, Refused> {
        todo!()
    }
    /// Gives up a call of ours: its outcome is [`Outcome::Cancelled`], now.
    ///
    /// # Errors
    /// The call is not open.
    pub fn cancel(&mut self, now: u64, id: CallId) -> Result<(), Refused> {
        todo!()
    }
    /// Answers a call of the peer.
    ///
    /// # Errors
    /// [`Refused`]; the call stays open (answer it with something shorter if the body was too long).
    pub fn reply(&mut self, now: u64, id: CallId, body: Body<'_>) -> Result<(), Refused> {
        todo!()
    }
    /// Tells the caller how far its call is. No-op in the plain profile.
    ///
    /// # Errors
    /// The call is not open.
    pub fn progress(&mut self, now: u64, id: CallId, done: u64, total: u64) -> Result<(), Refused> {
        todo!()
    }
    /// Asks whether the peer is alive; [`Event::Pong`] or the end of the connection follows within [`Config::ping_us`].
    ///
    /// # Errors
    /// [`Refused`]
    pub fn ping(&mut self, now: u64) -> Result<u64, Refused> {
        todo!()
    }
    /// Begins to drain [G-1].
    ///
    /// # Errors
    /// [`Refused`]
    pub fn goodbye(&mut self, now: u64, reason: u32, detail: &str) -> Result<(), Refused> {
        todo!()
    }
    /// Drops the connection now.
    pub fn abort(&mut self, now: u64) {
        todo!()
    }

    // ---- out ----

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }
    /// The next outcome of a call of ours, with the key given to [`Connection::call`].
    pub fn poll_outcome(&mut self) -> Option<(u64, Outcome)> {
        todo!()
    }
    /// Everything that waits for the transport, or `None`. There is at most one batch out at a time.
    pub fn take_batch(&mut self, now: u64) -> Option<Batch> {
        todo!()
    }
    /// A batch that was written whole comes back, so that its buffer is used again.
    pub fn batch_done(&mut self, batch: Batch) {
        todo!()
    }
    /// When [`Connection::handle_timeout`] is to be called. It may be too early, never too late.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        todo!()
    }

    // ---- looks ----

    /// Whether [`Connection::take_batch`] would give something.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        todo!()
    }
    /// Events that wait in [`Connection::poll_event`].
    #[must_use]
    pub fn events_len(&self) -> usize {
        todo!()
    }
    /// Whether calls can be issued.
    #[must_use]
    pub fn is_active(&self) -> bool {
        todo!()
    }
    /// Why the connection ended, if it did. Bytes may still wait in [`Connection::take_batch`]: the last words to the peer.
    #[must_use]
    pub fn closed(&self) -> Option<CloseReason> {
        todo!()
    }
    /// Calls of ours that are open.
    #[must_use]
    pub fn calls_open(&self) -> usize {
        todo!()
    }
    /// Calls of the peer that are open.
    #[must_use]
    pub fn served_open(&self) -> usize {
        todo!()
    }
    /// Bytes that wait for the transport.
    #[must_use]
    pub fn outbox_bytes(&self) -> usize {
        todo!()
    }
    /// The profile that was agreed on.
    #[must_use]
    pub fn profile(&self) -> Profile {
        todo!()
    }
    /// Begins to record [`Step`]s, keeping the last `steps_max`; they wait for [`Connection::poll_step`].
    pub fn record_steps(&mut self, steps_max: usize) {
        todo!()
    }
    /// The next recorded step.
    pub fn poll_step(&mut self) -> Option<Step> {
        todo!()
    }
    /// What the peer announced that we may send it.
    #[must_use]
    pub fn peer_limits(&self) -> &Limits {
        todo!()
    }
}

#[allow(unused_variables, clippy::todo)]
impl<D: Dialect> Connection<Module, D> {
    /// Introduces the module. What the tail says of x1 and limits is set from [`Config`].
    ///
    /// # Errors
    /// [`Refused`]
    pub fn hello(&mut self, now: u64, hello: Hello) -> Result<(), Refused> {
        todo!()
    }
    /// Sends a log record; `records` hold its target and fields, which only x1 carries.
    ///
    /// # Errors
    /// [`Refused`]; [`Refused::OutboxFull`] if the host does not read: drop and count it.
    pub fn log(&mut self, now: u64, body: Body<'_>, records: &[u8]) -> Result<(), Refused> {
        todo!()
    }
}

#[allow(unused_variables, clippy::todo)]
impl<D: Dialect> Connection<Host, D> {
    /// Admits the module with these capabilities (`grants`: the same as bits for [`crate::Meaning::needs`]). Limits and x1 in
    /// `accepted` are set from [`Config`].
    ///
    /// # Errors
    /// [`Refused`]
    pub fn accept(&mut self, now: u64, accepted: Accepted, grants: u64) -> Result<(), Refused> {
        todo!()
    }
    /// Turns the module away, and closes.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn refuse(&mut self, now: u64, refusal: Refusal) -> Result<(), Refused> {
        todo!()
    }
    /// Grants a subscription and answers the call that asked for it: the answer goes before the first event, and after the answer
    /// of a removal goes no event of the removed topics. The answer's body is written when the position is known.
    ///
    /// # Errors
    /// [`Refused`]; the call stays open.
    pub fn reply_subscription(
        &mut self,
        now: u64,
        id: CallId,
        subscription: Subscription,
        log: &mut EventLog,
        body: Body<'_>,
    ) -> Result<(), Refused> {
        todo!()
    }
    /// Copies events that the subscription covers from the log to the outbox, as long as there is room.
    pub fn pull_events(&mut self, now: u64, log: &mut EventLog) -> Pull {
        todo!()
    }
    /// The hold that this connection has on the log, if its overflow policy is [`Overflow::Wait`]; release it when the
    /// connection ends.
    #[must_use]
    pub fn hold(&self) -> Option<HoldId> {
        todo!()
    }
    /// What is subscribed now.
    #[must_use]
    pub fn topics(&self) -> TopicSet {
        todo!()
    }
    /// Changes what the module may do, from now on, and tells it. Open calls go on.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn set_grants(&mut self, now: u64, grants: u64, names: &[String]) -> Result<(), Refused> {
        todo!()
    }
    /// The capabilities that are granted, as bits.
    #[must_use]
    pub fn grants(&self) -> u64 {
        todo!()
    }
}
