//! The transition table: for every phase and every class of input, what is done and where it leads.
//!
//! [`Machine::handle`](crate::machine::Machine::handle) executes this very table and nothing else decides a phase or an
//! outcome. Documentation and proof obligations are generated from it.

use crate::error::{Refused, Violation};

/// Where a connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Phase {
    /// Connected; the module has not spoken.
    Idle,
    /// Hello is on its way or being decided on.
    Greeting,
    /// Everything works.
    Active,
    /// We said Goodbye, the peer did not yet.
    Draining,
    /// Both said Goodbye; calls that are open come to their end.
    Finishing,
    /// Over.
    Closed,
}

impl Phase {
    /// Every phase, in the order of the table's columns.
    pub const ALL: [Phase; 6] =
        [Phase::Idle, Phase::Greeting, Phase::Active, Phase::Draining, Phase::Finishing, Phase::Closed];

    /// Whether there is a session: calls, credit, subscription.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Phase::Active | Phase::Draining | Phase::Finishing)
    }
}

macro_rules! classes {
    ($($(#[$doc:meta])* $name:ident)*) => {
        /// What an input is, as far as the table is concerned. An input's class depends on the input and on the session's tables
        /// (is the call open? is there credit?), never on the phase.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Class { $($(#[$doc])* $name,)* }

        impl Class {
            /// Every class, in the order of the table's rows.
            pub const ALL: &'static [Class] = &[$(Class::$name,)*];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Class::$name => stringify!($name),)* }
            }
        }
    };
}

classes! {
    /// A well-formed Hello.
    PeerHello
    /// An Answer that accepts.
    PeerAccepts
    /// An Answer that refuses.
    PeerRefuses
    /// A call that fits and is permitted.
    PeerCall
    /// A call beyond the bounds [C-3].
    PeerCallBusy
    /// A call without the capability [C-6].
    PeerCallDenied
    /// The last fragment of a bulk call came: the call is complete.
    PeerCallComplete
    /// The same, and the call is beyond the bounds [C-3].
    PeerCompleteBusy
    /// The same, and the call lacks the capability [C-6].
    PeerCompleteDenied
    /// The first fragment of a call, within credit.
    PeerBulkCall
    /// The first fragment of an answer, within credit.
    PeerBulkAnswer
    /// A further fragment that fits.
    PeerBulkNext
    /// An answer to an open call.
    PeerAnswer
    /// The one late answer to an abandoned call.
    PeerAnswerLate
    /// An event.
    PeerEvent
    /// A log record.
    PeerLog
    /// Cancel of an open call.
    PeerCancel
    /// Cancel of a call that is answered, or cancelled already.
    PeerCancelLate
    /// Ping.
    PeerPing
    /// Pong with the nonce that is out.
    PeerPong
    /// Goodbye.
    PeerGoodbye
    /// Goodbye that names a violation: the peer closes and blames us.
    PeerBlames
    /// Lagged.
    PeerLagged
    /// Credit.
    PeerCredit
    /// Progress of an open call.
    PeerProgress
    /// Progress of a call that is over.
    PeerProgressLate
    /// GrantsChanged.
    PeerGrants
    /// An extension frame.
    PeerExtension
    /// A frame that only means something in a session, while there is none.
    PeerEarly
    /// A frame or a field that breaks a rule whatever the phase.
    PeerFault
    /// End of stream between frames, and no call of ours is open.
    PeerEof
    /// End of stream between frames, while calls of ours are open.
    PeerEofOwing
    /// The transport failed.
    TransportFailure
    /// Module: say Hello.
    SayHello
    /// Host: accept.
    Accept
    /// Host: refuse.
    Refuse
    /// Issue a call that fits.
    Call
    /// Give up an open call of ours.
    Cancel
    /// Answer an open call of the peer.
    Reply
    /// Host: answer an open call and change the subscription.
    ReplySubscription
    /// Progress of an open call of the peer.
    SendProgress
    /// Send a first fragment for which there is credit.
    SendBulk
    /// A bulk body has left.
    BulkSent
    /// Host: events of the subscription leave.
    SendEvents
    /// Host: events of the subscription were overwritten, and the policy is to say so.
    SendLagged
    /// Host: the same, and the policy is to end the connection.
    LaggedOut
    /// Module: send a log record.
    SendLog
    /// Send a Ping.
    SendPing
    /// Host: change the grants.
    SetGrants
    /// Send an extension frame.
    SendExtension
    /// Begin to drain.
    Goodbye
    /// Drop the connection.
    Abort
    /// A command that does not fit whatever the phase.
    Unfit
    /// The time for the handshake is over.
    HelloDue
    /// A call's deadline has come.
    CallDue
    /// The deadline of a call of the peer has come.
    ServedDue
    /// A Ping stayed unanswered.
    PingDue
    /// The time for draining is over.
    DrainDue
    /// Goodbye was said and nothing is open any more.
    Drained
}

/// What is done. Each is one small function of the machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Act {
    /// Nothing beyond what the caller of the machine does with the frame.
    Pass,
    /// Arm the handshake's deadline and hand the Hello on.
    Greet,
    /// Open a session.
    Open,
    /// Register the peer's call and hand it on.
    Serve,
    /// Hand on the peer's call, which its first fragment registered.
    Complete,
    /// Answer the call with Busy.
    Busy,
    /// Answer the call with PermissionDenied.
    Denied,
    /// Register a bulk body and spend our credit.
    BulkBegin,
    /// Count a fragment.
    BulkNext,
    /// Settle the call with its answer.
    Settle,
    /// Forget the abandoned call.
    Absorb,
    /// Note the event's position and hand it on.
    Event,
    /// Hand the cancellation on.
    CancelServed,
    /// Answer the Ping.
    Pong,
    /// Take the Pong.
    Ponged,
    /// Answer the peer's Goodbye with ours.
    Farewell,
    /// The peer's Goodbye answers ours.
    FarewellAnswered,
    /// Raise the limit.
    Credit,
    /// Register our call.
    Issue,
    /// Settle our call as cancelled and tell the peer.
    Abandon,
    /// Remove the peer's call.
    Answer,
    /// The same, and change the subscription.
    Subscribe,
    /// Spend the peer's credit.
    BulkSpend,
    /// A bulk body of ours is out.
    BulkSent,
    /// Move the cursor.
    Advance,
    /// Move the cursor over what was overwritten and tell the module.
    Lag,
    /// Arm the Ping's deadline.
    Ping,
    /// Change the grants.
    Grant,
    /// Say Goodbye.
    Leave,
    /// Settle calls whose deadline has come, and tell the peer.
    Expire,
    /// Hand on the expiry of calls of the peer.
    ExpireServed,
}

impl Act {
    /// Whether the action works on the session, and so may only stand in an open phase.
    const fn needs_session(self) -> bool {
        !matches!(self, Act::Pass | Act::Greet | Act::Open)
    }
}

/// Why a connection ends, as the table knows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum End {
    /// The violation that classification found.
    FoundViolation,
    /// This violation.
    Violation(Violation),
    /// The peer blames us.
    Blamed,
    /// The host refuses the module.
    Refused,
    /// In order.
    Drained,
    /// A subscriber lagged, and its policy is to end.
    Lagged,
    /// The handshake took too long.
    HelloDue,
    /// A Ping stayed unanswered.
    PingDue,
    /// Draining took too long.
    DrainDue,
    /// End of stream.
    PeerGone,
    /// The transport failed.
    TransportFailed,
    /// Our side dropped the connection.
    Aborted,
}

/// One cell of the table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rule {
    /// Do this and stay in the phase.
    Do(Act),
    /// Do this, then be in this phase.
    Go(Act, Phase),
    /// Close.
    Close(End),
    /// Refuse the command: nothing changes.
    Deny(Refused),
    /// Refuse the command for the reason that classification found.
    DenyFound,
    /// Refuse the command with the reason why the connection is closed.
    DenyClosed,
    /// Nothing happens: this cannot concern this phase any more.
    Ignore,
}

/// A row: the class, then its rule in each phase.
pub struct Row {
    /// The class of input.
    pub class: Class,
    /// In the order of [`Phase::ALL`].
    pub rules: [Rule; 6],
}

const fn bad(violation: Violation) -> Rule {
    Rule::Close(End::Violation(violation))
}

use Act as A;
use Phase as P;
use Rule::{Close, DenyClosed as Shut, DenyFound, Do, Go, Ignore};

/// Before the handshake is over, a frame of the session is one of these two violations.
const EARLY: Rule = bad(Violation::NotHello);
const UNANSWERED: Rule = bad(Violation::BeforeAnswer);
const AFTER: Rule = bad(Violation::AfterGoodbye);
const NOT_YET: Rule = Rule::Deny(Refused::NotActive);
const LEAVING: Rule = Rule::Deny(Refused::Draining);
const GREETED: Rule = Rule::Deny(Refused::HandshakeOver);

const fn row(class: Class, rules: [Rule; 6]) -> Row {
    Row { class, rules }
}

/// A frame that means the same as long as the session is open.
const fn session(class: Class, act: Act) -> Row {
    row(class, [EARLY, UNANSWERED, Do(act), Do(act), Do(act), Ignore])
}

/// A command that works as long as the session is open.
const fn command(class: Class, act: Act) -> Row {
    row(class, [NOT_YET, NOT_YET, Do(act), Do(act), Do(act), Shut])
}

/// A command that begins something new.
const fn beginning(class: Class, act: Act) -> Row {
    row(class, [NOT_YET, NOT_YET, Do(act), LEAVING, LEAVING, Shut])
}

/// Something that ends the connection in whatever phase.
const fn ending(class: Class, end: End) -> Row {
    row(class, [Close(end), Close(end), Close(end), Close(end), Close(end), Ignore])
}

/// The transition table.
#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    //                       Idle                   Greeting                     Active                          Draining                         Finishing                     Closed
    row(Class::PeerHello,   [Go(A::Greet, P::Greeting), bad(Violation::SecondHello), bad(Violation::SecondHello), bad(Violation::SecondHello),     bad(Violation::SecondHello),  Ignore]),
    row(Class::PeerAccepts, [EARLY,                 Go(A::Open, P::Active),      bad(Violation::SecondAnswer),   bad(Violation::SecondAnswer),    bad(Violation::SecondAnswer), Ignore]),
    row(Class::PeerRefuses, [EARLY,                 Close(End::Refused),         bad(Violation::SecondAnswer),   bad(Violation::SecondAnswer),    bad(Violation::SecondAnswer), Ignore]),
    row(Class::PeerCall,    [EARLY,                 UNANSWERED,                  Do(A::Serve),                   Do(A::Serve),                    AFTER,                        Ignore]),
    row(Class::PeerCallBusy,[EARLY,                 UNANSWERED,                  Do(A::Busy),                    Do(A::Busy),                     AFTER,                        Ignore]),
    row(Class::PeerCallDenied,[EARLY,               UNANSWERED,                  Do(A::Denied),                  Do(A::Denied),                   AFTER,                        Ignore]),
    session(Class::PeerCallComplete, A::Complete),
    session(Class::PeerCompleteBusy, A::Busy),
    session(Class::PeerCompleteDenied, A::Denied),
    row(Class::PeerBulkCall,[EARLY,                 UNANSWERED,                  Do(A::BulkBegin),               Do(A::BulkBegin),                AFTER,                        Ignore]),
    session(Class::PeerBulkAnswer, A::BulkBegin),
    session(Class::PeerBulkNext, A::BulkNext),
    session(Class::PeerAnswer, A::Settle),
    session(Class::PeerAnswerLate, A::Absorb),
    row(Class::PeerEvent,   [EARLY,                 UNANSWERED,                  Do(A::Event),                   Do(A::Event),                    AFTER,                        Ignore]),
    session(Class::PeerLog, A::Pass),
    session(Class::PeerCancel, A::CancelServed),
    session(Class::PeerCancelLate, A::Pass),
    session(Class::PeerPing, A::Pong),
    session(Class::PeerPong, A::Ponged),
    row(Class::PeerGoodbye, [EARLY,                 UNANSWERED,                  Go(A::Farewell, P::Finishing),  Go(A::FarewellAnswered, P::Finishing), bad(Violation::SecondGoodbye), Ignore]),
    row(Class::PeerBlames,  [EARLY,                 UNANSWERED,                  Close(End::Blamed),             Close(End::Blamed),              Close(End::Blamed),           Ignore]),
    row(Class::PeerLagged,  [EARLY,                 UNANSWERED,                  Do(A::Pass),                    Do(A::Pass),                     AFTER,                        Ignore]),
    session(Class::PeerCredit, A::Credit),
    session(Class::PeerProgress, A::Pass),
    session(Class::PeerProgressLate, A::Pass),
    session(Class::PeerGrants, A::Pass),
    session(Class::PeerExtension, A::Pass),
    row(Class::PeerEarly,   [EARLY,                 UNANSWERED,                  Ignore,                         Ignore,                          Ignore,                       Ignore]),
    ending(Class::PeerFault, End::FoundViolation),
    row(Class::PeerEof,     [Close(End::PeerGone),  Close(End::PeerGone),        Close(End::PeerGone),           Close(End::PeerGone),            Close(End::Drained),          Ignore]),
    ending(Class::PeerEofOwing, End::PeerGone),
    ending(Class::TransportFailure, End::TransportFailed),
    row(Class::SayHello,    [Go(A::Greet, P::Greeting), GREETED,                 GREETED,                        GREETED,                         GREETED,                      Shut]),
    row(Class::Accept,      [NOT_YET,               Go(A::Open, P::Active),      GREETED,                        GREETED,                         GREETED,                      Shut]),
    row(Class::Refuse,      [NOT_YET,               Close(End::Refused),         GREETED,                        GREETED,                         GREETED,                      Shut]),
    beginning(Class::Call, A::Issue),
    command(Class::Cancel, A::Abandon),
    command(Class::Reply, A::Answer),
    row(Class::ReplySubscription, [NOT_YET,         NOT_YET,                     Do(A::Subscribe),               Do(A::Subscribe),                Do(A::Subscribe),             Shut]),
    command(Class::SendProgress, A::Pass),
    command(Class::SendBulk, A::BulkSpend),
    command(Class::BulkSent, A::BulkSent),
    beginning(Class::SendEvents, A::Advance),
    beginning(Class::SendLagged, A::Lag),
    row(Class::LaggedOut,   [NOT_YET,               NOT_YET,                     Close(End::Lagged),             LEAVING,                         LEAVING,                      Shut]),
    command(Class::SendLog, A::Pass),
    beginning(Class::SendPing, A::Ping),
    command(Class::SetGrants, A::Grant),
    command(Class::SendExtension, A::Pass),
    row(Class::Goodbye,     [NOT_YET,               NOT_YET,                     Go(A::Leave, P::Draining),      LEAVING,                         LEAVING,                      Shut]),
    ending(Class::Abort, End::Aborted),
    row(Class::Unfit,       [NOT_YET,               NOT_YET,                     DenyFound,                      DenyFound,                       DenyFound,                    Shut]),
    row(Class::HelloDue,    [Close(End::HelloDue),  Close(End::HelloDue),        Ignore,                         Ignore,                          Ignore,                       Ignore]),
    row(Class::CallDue,     [Ignore,                Ignore,                      Do(A::Expire),                  Do(A::Expire),                   Do(A::Expire),                Ignore]),
    row(Class::ServedDue,   [Ignore,                Ignore,                      Do(A::ExpireServed),            Do(A::ExpireServed),             Do(A::ExpireServed),          Ignore]),
    row(Class::PingDue,     [Ignore,                Ignore,                      Close(End::PingDue),            Close(End::PingDue),             Close(End::PingDue),          Ignore]),
    row(Class::DrainDue,    [Ignore,                Ignore,                      Ignore,                         Close(End::DrainDue),            Close(End::DrainDue),         Ignore]),
    row(Class::Drained,     [Ignore,                Ignore,                      Ignore,                         Close(End::Drained),             Close(End::Drained),          Ignore]),
];

/// The rule for a class of input in a phase.
#[must_use]
pub const fn rule(phase: Phase, class: Class) -> Rule {
    TABLE[class as usize].rules[phase as usize]
}

// The table is complete, in order, and no action that needs a session stands where there is none.
const _: () = {
    assert!(TABLE.len() == Class::ALL.len());
    let mut class = 0;
    while class < TABLE.len() {
        assert!(TABLE[class].class as usize == class);
        let mut phase = 0;
        while phase < Phase::ALL.len() {
            if let Rule::Do(act) | Rule::Go(act, _) = TABLE[class].rules[phase] {
                assert!(Phase::ALL[phase].is_open() || !act.needs_session());
            }
            phase += 1;
        }
        class += 1;
    }
};
