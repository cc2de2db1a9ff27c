//! What a connection takes and gives.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::envelope::{IdempotencyKey, TraceContext};
use crate::error::{CloseReason, Initiator};
use crate::event_log::Overflow;
use crate::hello::{Accepted, Hello, Refusal};
use crate::topics::TopicSet;

/// A call's id. Each direction of a connection has ids of its own; they rise and are never reused [C-1].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId(pub u64);

/// What accompanies a call that we issue. Fields that the plain profile does not have are left out there.
#[derive(Clone, Debug)]
pub struct CallOptions {
    /// How long the caller waits, in microseconds from now; over zero and at most [`crate::Limits::call_deadline_us_max`] of the peer.
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

/// A call of the peer. It stays open until [`crate::Connection::reply`].
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
    /// [`crate::Connection::cancel`] was called.
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
    /// Host: a module introduces itself. Answer with [`crate::Connection::accept`] or [`crate::Connection::refuse`].
    Hello(Hello),
    /// Module: the host admitted us.
    Accepted(Accepted),
    /// Module: the host refused us. [`Event::Closed`] follows.
    Refused(Refusal),
    /// The peer calls.
    Call(ServedCall),
    /// Host: the module wants to change its subscription; answer with [`crate::Connection::reply_subscription`] to grant it, or
    /// with [`crate::Connection::reply`] to refuse.
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
    /// So many events, log records, lag notices, progress reports and notices of refused calls did not fit into the inbox and were
    /// dropped; events are missing from `first` to `last` (0 if none is).
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
        /// The key given to [`crate::Connection::call`].
        key: u64,
        /// Done so far.
        done: u64,
        /// Of so much.
        total: u64,
    },
    /// Module: what is granted now.
    GrantsChanged(Vec<String>),
    /// The answer to [`crate::Connection::ping`].
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
