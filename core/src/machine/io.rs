//! What goes into the machine and what comes out: no bodies, only what decisions need.

use crate::error::{CloseReason, Initiator, Violation};
use crate::event_log::Overflow;
use crate::hello::RefusalCode;
use crate::limits::Limits;
use crate::session::BodyId;
use crate::table::{Class, Phase};
use crate::topics::TopicSet;

/// What the module's Hello offers beyond the seed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Offer {
    /// The x1 profile.
    pub x1: bool,
    /// Its limits as a receiver.
    pub limits: Limits,
}

/// What goes into the machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Input<K> {
    /// A frame, or the end of the stream.
    Peer(Peer),
    /// A command of our side.
    Command(Command<K>),
    /// The time has come for something.
    Timeout,
    /// Offered after every step while draining: closes when nothing is open.
    Settle,
}

/// What came from the peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Peer {
    Hello(Offer),
    Accepts {
        x1: bool,
        limits: Limits,
    },
    Refuses(RefusalCode),
    /// A call in one piece. `congested`: too much waits for the transport already.
    Call {
        id: u64,
        deadline_us: Option<u64>,
        bytes: u64,
        needs: u64,
        congested: bool,
    },
    /// The last fragment of a bulk call is there.
    CallComplete {
        id: u64,
        needs: u64,
        congested: bool,
    },
    BulkFirst {
        body: BodyId,
        deadline_us: Option<u64>,
        total: u64,
        len: u64,
        more: bool,
    },
    BulkNext {
        body: BodyId,
        len: u64,
        more: bool,
    },
    /// An answer, whole.
    Answer {
        id: u64,
    },
    Event {
        position: u64,
    },
    Log,
    Cancel {
        id: u64,
    },
    Ping {
        nonce: u64,
    },
    Pong {
        nonce: u64,
    },
    Goodbye {
        reason: u32,
    },
    Lagged,
    Credit {
        limit: u64,
    },
    Progress {
        id: u64,
    },
    Grants,
    Extension,
    Fault(Violation),
    Eof,
    Failure,
}

/// What our side wants.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Command<K> {
    SayHello(Offer),
    Accept {
        grants: u64,
    },
    Refuse(RefusalCode),
    Call {
        key: K,
        deadline_us: u64,
        bytes: u64,
    },
    Cancel {
        id: u64,
    },
    Reply {
        id: u64,
        bytes: u64,
    },
    ReplySubscription {
        id: u64,
        bytes: u64,
        cursor: Option<(TopicSet, u64, Overflow)>,
    },
    SendProgress {
        id: u64,
    },
    SendBulk {
        total: u64,
    },
    BulkSent,
    /// `last` is the position of the last one, 0 if the subscription covers none of those before `next`.
    SendEvents {
        next: u64,
        last: u64,
    },
    SendLagged {
        next: u64,
    },
    SendLog,
    SendPing,
    SetGrants {
        grants: u64,
    },
    SendExtension,
    Goodbye {
        reason: u32,
    },
    Abort,
}

/// What the caller of the machine has to do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Effect<K> {
    SendRefusal(RefusalCode),
    SendGoodbye(u32),
    SendPong(u64),
    SendCancel(u64),
    SendCredit(u64),
    SendLagged,
    SendBusy(u64),
    SendDenied {
        id: u64,
        missing: u64,
    },
    /// Hand the frame on as the event that it stands for.
    Deliver,
    /// A call of ours is over: its one outcome.
    Settled {
        key: K,
        how: Settlement,
    },
    ServedCancelled(u64),
    ServedExpired(u64),
    Pong {
        nonce: u64,
        rtt_us: u64,
    },
    Draining {
        by: Initiator,
        reason: u32,
    },
    Closed(CloseReason),
}

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Settlement {
    /// The frame at hand is its answer.
    Answered,
    /// Its deadline came.
    Expired,
    /// Our side gave it up.
    Cancelled,
    /// The connection ended.
    Lost(CloseReason),
}

/// One step: the class of the input and the phases before and after. The rule is [`crate::table::rule`]`(from, class)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Transition {
    /// What the input was.
    pub class: Class,
    /// The phase before.
    pub from: Phase,
    /// The phase after.
    pub to: Phase,
    /// The id of the call that the step issued, else 0.
    pub id: u64,
}
