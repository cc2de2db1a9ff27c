//! The protocol machine of one end of a connection. It decides; bodies pass by it.

use alloc::vec::Vec;
use core::fmt::Debug;
use core::hash::Hash;
use core::marker::PhantomData;

use crate::envelope::Profile;
use crate::error::{CloseReason, Initiator, Refused, Violation};
use crate::event_log::Overflow;
use crate::hello::RefusalCode;
use crate::kind::Role;
use crate::limits::{Config, Limits};
use crate::session::{BodyId, Call, Cursor, Incoming, NEVER, Ping, Served, Session};
use crate::table::{Act, Class, End, Phase, Rule, rule};
use crate::topics::TopicSet;

/// One end of a connection in role `R`. `K` is what our caller wants back with a call's outcome.
///
/// The state holds deadlines and never the time, no body, no buffer and no statistics, so that it can be cloned, compared and
/// hashed by whoever explores it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Machine<R: Role, K> {
    config: Config,
    state: State<K>,
    role: PhantomData<R>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum State<K> {
    Idle { due: u64 },
    Greeting { due: u64, offer: Offer },
    Open(Session<K>, Stage),
    Closed(CloseReason),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Stage {
    Active,
    Draining { reason: u32, due: u64 },
    Finishing { by: Initiator, reason: u32, due: u64 },
}

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
    Accept { grants: u64 },
    Refuse(RefusalCode),
    Call { key: K, deadline_us: u64, bytes: u64 },
    Cancel { id: u64 },
    Reply { id: u64, bytes: u64 },
    ReplySubscription { id: u64, bytes: u64, cursor: Option<(TopicSet, u64, Overflow)> },
    SendProgress { id: u64 },
    SendBulk { total: u64 },
    BulkSent,
    SendEvents { next: u64 },
    SendLagged { next: u64 },
    SendLog,
    SendPing,
    SetGrants { grants: u64 },
    SendExtension,
    Goodbye { reason: u32 },
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

/// One step: the class of the input and the phases before and after. The rule is [`rule`]`(from, class)`.
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

/// What classification found.
#[derive(Clone, Copy)]
enum Seen {
    As(Class),
    Fault(Violation),
    Unfit(Refused),
}

impl<R: Role, K: Copy + Eq + Hash + Debug> Machine<R, K> {
    /// A machine whose stream has just been connected.
    #[must_use]
    pub fn new(now: u64, config: Config) -> Self {
        let config = Config { limits: config.limits.clamped(), ..config };
        Machine { config, state: State::Idle { due: now.saturating_add(config.hello_us) }, role: PhantomData }
    }

    /// Takes one input. What is to be done is appended to `out`.
    ///
    /// Total: every input is legal in every phase, and a fault of the peer closes.
    ///
    /// # Errors
    /// A command that is refused; the state is as before and nothing was appended.
    pub fn handle(
        &mut self,
        now: u64,
        input: Input<K>,
        out: &mut Vec<Effect<K>>,
    ) -> Result<Transition, Refused> {
        let seen = self.classify(now, &input);
        let class = match seen {
            Seen::As(class) => class,
            Seen::Fault(_) => Class::PeerFault,
            Seen::Unfit(_) => Class::Unfit,
        };
        let from = self.phase();
        let mut id = 0;
        match rule(from, class) {
            Rule::Do(act) => id = self.act(now, act, &input, out),
            Rule::Go(act, to) => {
                id = self.act(now, act, &input, out);
                self.enter(now, to, &input);
            }
            Rule::Close(end) => self.close(end, seen, &input, out),
            Rule::Deny(refused) => return Err(refused),
            Rule::DenyFound => {
                return Err(if let Seen::Unfit(refused) = seen { refused } else { Refused::NotActive });
            }
            Rule::DenyClosed => return Err(self.closed().map_or(Refused::NotActive, Refused::Closed)),
            Rule::Ignore => {}
        }
        Ok(Transition { class, from, to: self.phase(), id })
    }

    /// The phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Idle { .. } => Phase::Idle,
            State::Greeting { .. } => Phase::Greeting,
            State::Open(_, Stage::Active) => Phase::Active,
            State::Open(_, Stage::Draining { .. }) => Phase::Draining,
            State::Open(_, Stage::Finishing { .. }) => Phase::Finishing,
            State::Closed(_) => Phase::Closed,
        }
    }

    /// Why the connection is closed, if it is.
    #[must_use]
    pub fn closed(&self) -> Option<CloseReason> {
        if let State::Closed(reason) = &self.state { Some(*reason) } else { None }
    }

    /// When [`Input::Timeout`] is due. It may be too early, never too late.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let due = match &self.state {
            State::Idle { due } => {
                if R::IS_HOST {
                    *due
                } else {
                    NEVER
                }
            }
            State::Greeting { due, .. } => *due,
            State::Open(session, Stage::Active) => session.due(),
            State::Open(session, Stage::Draining { due, .. } | Stage::Finishing { due, .. }) => {
                session.due().min(*due)
            }
            State::Closed(_) => NEVER,
        };
        (due != NEVER).then_some(due)
    }

    /// Whether [`Input::Settle`] would close the connection.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        match &self.state {
            State::Open(session, Stage::Finishing { .. }) => session.idle(),
            // A module of the plain profile is never told and never says goodbye itself.
            State::Open(session, Stage::Draining { .. }) => {
                session.profile == Profile::Plain && session.idle()
            }
            State::Idle { .. }
            | State::Greeting { .. }
            | State::Open(_, Stage::Active)
            | State::Closed(_) => false,
        }
    }

    /// Our configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn session(&self) -> Option<&Session<K>> {
        if let State::Open(session, _) = &self.state { Some(session) } else { None }
    }

    fn classify(&self, now: u64, input: &Input<K>) -> Seen {
        match input {
            Input::Peer(peer) => self.classify_peer(peer),
            Input::Command(command) => self.classify_command(command),
            Input::Timeout => Seen::As(self.classify_timeout(now)),
            Input::Settle => Seen::As(Class::Drained),
        }
    }

    fn classify_peer(&self, peer: &Peer) -> Seen {
        let class = match *peer {
            Peer::Hello(_) => Class::PeerHello,
            Peer::Accepts { x1, .. } if x1 && !self.config.x1 => {
                return Seen::Fault(Violation::MalformedAnswer);
            }
            Peer::Accepts { .. } => Class::PeerAccepts,
            Peer::Refuses(_) => Class::PeerRefuses,
            Peer::Log => Class::PeerLog,
            Peer::Ping { .. } => Class::PeerPing,
            Peer::Goodbye { reason } if reason >= 256 => Class::PeerBlames,
            Peer::Goodbye { .. } => Class::PeerGoodbye,
            Peer::Lagged => Class::PeerLagged,
            Peer::Grants => Class::PeerGrants,
            Peer::Extension => Class::PeerExtension,
            Peer::Fault(violation) => return Seen::Fault(violation),
            Peer::Eof => Class::PeerEof,
            Peer::Failure => Class::TransportFailure,
            Peer::Call { .. }
            | Peer::CallComplete { .. }
            | Peer::BulkFirst { .. }
            | Peer::BulkNext { .. }
            | Peer::Answer { .. }
            | Peer::Event { .. }
            | Peer::Cancel { .. }
            | Peer::Pong { .. }
            | Peer::Credit { .. }
            | Peer::Progress { .. } => match self.session() {
                Some(session) => return session.classify_peer(peer, &self.config),
                None => Class::PeerEarly,
            },
        };
        Seen::As(class)
    }

    fn classify_command(&self, command: &Command<K>) -> Seen {
        let class = match *command {
            Command::SayHello(_) => Class::SayHello,
            Command::Accept { .. } => Class::Accept,
            Command::Refuse(_) => Class::Refuse,
            Command::SendLog => Class::SendLog,
            Command::SetGrants { .. } => Class::SetGrants,
            Command::Goodbye { .. } => Class::Goodbye,
            Command::Abort => Class::Abort,
            Command::Call { .. }
            | Command::Cancel { .. }
            | Command::Reply { .. }
            | Command::ReplySubscription { .. }
            | Command::SendProgress { .. }
            | Command::SendBulk { .. }
            | Command::BulkSent
            | Command::SendEvents { .. }
            | Command::SendLagged { .. }
            | Command::SendExtension
            | Command::SendPing => match self.session() {
                Some(session) => return session.classify_command(command),
                None => Class::Unfit,
            },
        };
        Seen::As(class)
    }

    fn classify_timeout(&self, now: u64) -> Class {
        match &self.state {
            State::Idle { due } if R::IS_HOST && *due <= now => Class::HelloDue,
            State::Greeting { due, .. } if *due <= now => Class::HelloDue,
            State::Open(_, Stage::Draining { due, .. } | Stage::Finishing { due, .. }) if *due <= now => {
                Class::DrainDue
            }
            State::Open(session, _) if session.ping.is_some_and(|ping| ping.due <= now) => Class::PingDue,
            State::Open(session, _) if session.calls_due <= now => Class::CallDue,
            State::Open(session, _) if session.served_due <= now => Class::ServedDue,
            // Nothing is due: for the session's deadlines the row does nothing where there is no session, and in an open phase
            // an expiry that finds nothing due only makes the running minima exact.
            State::Idle { .. } | State::Greeting { .. } | State::Open(..) | State::Closed(_) => {
                Class::CallDue
            }
        }
    }

    /// Executes an action. Returns the id of the call that was issued, or 0.
    fn act(&mut self, now: u64, act: Act, input: &Input<K>, out: &mut Vec<Effect<K>>) -> u64 {
        let config = self.config;
        match (&mut self.state, act) {
            (_, Act::Pass | Act::Greet | Act::Open) => {
                if let Input::Peer(_) = input {
                    out.push(Effect::Deliver);
                }
                0
            }
            (State::Open(session, _), act) => session.act(now, act, input, &config, out),
            // The table's compile-time check rules this out.
            (State::Idle { .. } | State::Greeting { .. } | State::Closed(_), _) => 0,
        }
    }

    /// The one place where the phase changes, except for closing.
    fn enter(&mut self, now: u64, phase: Phase, input: &Input<K>) {
        let due = now.saturating_add(self.config.drain_us);
        match phase {
            Phase::Greeting => {
                let due = match self.state {
                    State::Idle { due } if R::IS_HOST => due,
                    State::Idle { .. } | State::Greeting { .. } | State::Open(..) | State::Closed(_) => {
                        now.saturating_add(self.config.hello_us)
                    }
                };
                if let Input::Peer(Peer::Hello(offer)) | Input::Command(Command::SayHello(offer)) = *input {
                    self.state = State::Greeting { due, offer };
                }
            }
            Phase::Active => self.open(input),
            Phase::Draining => {
                if let (State::Open(_, stage), Input::Command(Command::Goodbye { reason })) =
                    (&mut self.state, input)
                {
                    *stage = Stage::Draining { reason: *reason, due };
                }
            }
            Phase::Finishing => {
                if let State::Open(_, stage) = &mut self.state {
                    *stage = match *stage {
                        Stage::Draining { reason, due } => {
                            Stage::Finishing { by: Initiator::Us, reason, due }
                        }
                        Stage::Active | Stage::Finishing { .. } => {
                            let reason =
                                if let Input::Peer(Peer::Goodbye { reason }) = *input { reason } else { 0 };
                            Stage::Finishing { by: Initiator::Peer, reason, due }
                        }
                    };
                }
            }
            // The table leads to neither.
            Phase::Idle | Phase::Closed => {}
        }
    }

    fn open(&mut self, input: &Input<K>) {
        let State::Greeting { offer, .. } = self.state else { return };
        let (x1, peer, grants) = match *input {
            Input::Peer(Peer::Accepts { x1, limits }) => (x1 && offer.x1, limits, 0),
            Input::Command(Command::Accept { grants }) => (offer.x1 && self.config.x1, offer.limits, grants),
            Input::Peer(_) | Input::Command(_) | Input::Timeout | Input::Settle => return,
        };
        let profile = if x1 { Profile::X1 } else { Profile::Plain };
        self.state =
            State::Open(Session::new(profile, &self.config.limits, peer.clamped(), grants), Stage::Active);
    }

    /// Closes: the last words to the peer, the outcomes of all calls, the reason.
    fn close(&mut self, end: End, seen: Seen, input: &Input<K>, out: &mut Vec<Effect<K>>) {
        let violation = match (end, seen) {
            (End::Violation(violation), _) | (End::FoundViolation, Seen::Fault(violation)) => Some(violation),
            _ => None,
        };
        let reason = match end {
            End::FoundViolation | End::Violation(_) => {
                violation.map_or(CloseReason::Aborted, CloseReason::Violation)
            }
            End::Blamed => match *input {
                Input::Peer(Peer::Goodbye { reason }) => CloseReason::Blamed(reason),
                Input::Peer(_) | Input::Command(_) | Input::Timeout | Input::Settle => CloseReason::PeerGone,
            },
            End::Refused => match *input {
                Input::Peer(Peer::Refuses(code)) | Input::Command(Command::Refuse(code)) => {
                    CloseReason::Refused(code)
                }
                Input::Peer(_) | Input::Command(_) | Input::Timeout | Input::Settle => CloseReason::Aborted,
            },
            End::Drained => self.drained(),
            End::Lagged => CloseReason::SubscriberLagged,
            End::HelloDue => CloseReason::HandshakeTimeout,
            End::PingDue => CloseReason::PingTimeout,
            End::DrainDue => CloseReason::DrainTimeout,
            End::PeerGone => CloseReason::PeerGone,
            End::TransportFailed => CloseReason::TransportFailed,
            End::Aborted => CloseReason::Aborted,
        };
        if let Input::Peer(Peer::Refuses(_)) = input
            && matches!(end, End::Refused)
        {
            out.push(Effect::Deliver);
        }
        self.last_words(reason, out);
        if let State::Open(session, _) = core::mem::replace(&mut self.state, State::Closed(reason)) {
            for (_, call) in session.calls.iter() {
                if let Call::Pending { key, .. } = *call {
                    out.push(Effect::Settled { key, how: Settlement::Lost(reason) });
                }
            }
        }
        out.push(Effect::Closed(reason));
    }

    fn drained(&self) -> CloseReason {
        match self.state {
            State::Open(_, Stage::Finishing { by, reason, .. }) => CloseReason::Drained { by, reason },
            State::Open(_, Stage::Draining { reason, .. }) => {
                CloseReason::Drained { by: Initiator::Us, reason }
            }
            State::Open(_, Stage::Active)
            | State::Idle { .. }
            | State::Greeting { .. }
            | State::Closed(_) => CloseReason::PeerGone,
        }
    }

    /// The guilty peer is told why, where the wire allows it [G-3].
    fn last_words(&self, reason: CloseReason, out: &mut Vec<Effect<K>>) {
        match (&self.state, reason) {
            (State::Idle { .. } | State::Greeting { .. }, CloseReason::Violation(violation))
                if R::IS_HOST =>
            {
                out.push(Effect::SendRefusal(refusal_for(violation)));
            }
            (State::Idle { .. } | State::Greeting { .. }, CloseReason::HandshakeTimeout) if R::IS_HOST => {
                out.push(Effect::SendRefusal(RefusalCode::Timeout));
            }
            (State::Open(session, _), CloseReason::Violation(violation))
                if session.profile == Profile::X1 =>
            {
                out.push(Effect::SendGoodbye(violation.goodbye_reason()));
            }
            (State::Open(session, _), CloseReason::SubscriberLagged) if session.profile == Profile::X1 => {
                out.push(Effect::SendGoodbye(GOODBYE_LAGGED));
            }
            _ => {}
        }
    }
}

/// Goodbye's reason for a subscriber that lagged [G-2].
const GOODBYE_LAGGED: u32 = 5;

fn refusal_for(violation: Violation) -> RefusalCode {
    if violation == Violation::NotHello || violation == Violation::WrongDirection {
        RefusalCode::NotHello
    } else {
        RefusalCode::Malformed
    }
}

impl<K: Copy + Eq + Hash + Debug> Session<K> {
    fn classify_peer(&self, peer: &Peer, config: &Config) -> Seen {
        let class = match *peer {
            Peer::Call { id, .. } if id <= self.last_served => return Seen::Fault(Violation::StaleCallId),
            Peer::Call { needs, .. } if needs & !self.grants != 0 => Class::PeerCallDenied,
            Peer::Call { congested, .. }
                if congested || self.served.len() >= config.limits.calls_max as usize =>
            {
                Class::PeerCallBusy
            }
            Peer::Call { .. } => Class::PeerCall,
            Peer::CallComplete { needs, .. } if needs & !self.grants != 0 => Class::PeerCallDenied,
            Peer::CallComplete { congested, .. }
                if congested || self.served.len() > config.limits.calls_max as usize =>
            {
                Class::PeerCallBusy
            }
            Peer::CallComplete { .. } => Class::PeerCallComplete,
            Peer::BulkFirst { body, total, len, more, .. } => {
                return match self.check_bulk_first(body, total, len, more, config) {
                    Ok(()) => Seen::As(Class::PeerBulkFirst),
                    Err(violation) => Seen::Fault(violation),
                };
            }
            Peer::BulkNext { body, len, more } => {
                return match self.check_bulk_next(body, len, more) {
                    Ok(()) => Seen::As(Class::PeerBulkNext),
                    Err(violation) => Seen::Fault(violation),
                };
            }
            Peer::Answer { id } => match self.calls.get(id) {
                Some(Call::Pending { .. }) => Class::PeerAnswer,
                Some(Call::Abandoned) => Class::PeerAnswerLate,
                None => return Seen::Fault(Violation::AnswerUnasked),
            },
            Peer::Event { position } if self.profile == Profile::X1 && position <= self.last_position => {
                return Seen::Fault(Violation::PositionOrder);
            }
            Peer::Event { .. } => Class::PeerEvent,
            Peer::Cancel { id } if id == 0 || id > self.last_served => {
                return Seen::Fault(Violation::CancelUnissued);
            }
            Peer::Cancel { id } => match self.served.get(id) {
                Some(served) if !served.cancelled => Class::PeerCancel,
                Some(_) | None => Class::PeerCancelLate,
            },
            Peer::Pong { nonce } if self.ping.is_some_and(|ping| ping.nonce == nonce) => Class::PeerPong,
            Peer::Pong { .. } => return Seen::Fault(Violation::PongUnasked),
            Peer::Credit { limit } if limit < self.credit_limit => {
                return Seen::Fault(Violation::CreditShrunk);
            }
            Peer::Credit { .. } => Class::PeerCredit,
            Peer::Progress { id } if id == 0 || id > self.last_call => {
                return Seen::Fault(Violation::ProgressUnasked);
            }
            Peer::Progress { id } => match self.calls.get(id) {
                Some(Call::Pending { .. }) => Class::PeerProgress,
                Some(Call::Abandoned) | None => Class::PeerProgressLate,
            },
            // Classified without the session.
            Peer::Hello(_)
            | Peer::Accepts { .. }
            | Peer::Refuses(_)
            | Peer::Log
            | Peer::Ping { .. }
            | Peer::Goodbye { .. }
            | Peer::Lagged
            | Peer::Grants
            | Peer::Extension
            | Peer::Fault(_)
            | Peer::Eof
            | Peer::Failure => Class::PeerEarly,
        };
        Seen::As(class)
    }

    fn check_bulk_first(
        &self,
        body: BodyId,
        total: u64,
        len: u64,
        more: bool,
        config: &Config,
    ) -> Result<(), Violation> {
        let limits = &config.limits;
        if body.answer && self.calls.get(body.id).is_none() {
            return Err(Violation::AnswerUnasked);
        }
        if !body.answer && body.id <= self.last_served {
            return Err(Violation::StaleCallId);
        }
        if self.incoming.contains_key(&body) {
            return Err(Violation::FragmentStray);
        }
        if total > limits.body_bytes_max {
            return Err(Violation::BodyTooLong);
        }
        if self.granted_spent.checked_add(total).is_none_or(|spent| spent > self.granted_limit) {
            return Err(Violation::OverCredit);
        }
        if total <= u64::from(limits.inline_bytes_max) {
            return Err(Violation::FragmentSize);
        }
        check_fragment(0, total, len, more)
    }

    fn check_bulk_next(&self, body: BodyId, len: u64, more: bool) -> Result<(), Violation> {
        let incoming = self.incoming.get(&body).ok_or(Violation::FragmentStray)?;
        check_fragment(incoming.got, incoming.total, len, more)
    }

    fn classify_command(&self, command: &Command<K>) -> Seen {
        let fit = match *command {
            Command::Call { deadline_us, bytes, .. } => {
                self.check_call(deadline_us, bytes).map(|()| Class::Call)
            }
            Command::Cancel { id } => match self.calls.get(id) {
                Some(Call::Pending { .. }) => Ok(Class::Cancel),
                Some(Call::Abandoned) | None => Err(Refused::UnknownCall),
            },
            Command::Reply { id, bytes } => self.check_reply(id, bytes).map(|()| Class::Reply),
            Command::ReplySubscription { id, bytes, .. } => {
                self.check_reply(id, bytes).map(|()| Class::ReplySubscription)
            }
            Command::SendProgress { .. } if self.profile == Profile::Plain => Err(Refused::PlainProfile),
            Command::SendProgress { id } => match self.served.get(id) {
                Some(_) => Ok(Class::SendProgress),
                None => Err(Refused::UnknownCall),
            },
            Command::SendBulk { total } if self.has_credit(total) => Ok(Class::SendBulk),
            Command::SendBulk { .. } => Err(Refused::WindowFull),
            Command::BulkSent if self.outgoing > 0 => Ok(Class::BulkSent),
            Command::BulkSent => Err(Refused::UnknownCall),
            Command::SendEvents { .. } => Ok(Class::SendEvents),
            Command::SendLagged { .. } => match self.subscription {
                Some(Cursor { overflow: Overflow::Lag | Overflow::Wait, .. })
                    if self.profile == Profile::X1 =>
                {
                    Ok(Class::SendLagged)
                }
                Some(_) | None => Ok(Class::LaggedOut),
            },
            Command::SendPing | Command::SendExtension if self.profile == Profile::Plain => {
                Err(Refused::PlainProfile)
            }
            Command::SendPing if self.ping.is_some() => Err(Refused::PingUnderWay),
            Command::SendPing => Ok(Class::SendPing),
            Command::SendExtension => Ok(Class::SendExtension),
            // Classified without the session.
            Command::SayHello(_)
            | Command::Accept { .. }
            | Command::Refuse(_)
            | Command::SendLog
            | Command::SetGrants { .. }
            | Command::Goodbye { .. }
            | Command::Abort => Ok(Class::Abort),
        };
        fit.map_or_else(Seen::Unfit, Seen::As)
    }

    fn check_call(&self, deadline_us: u64, bytes: u64) -> Result<(), Refused> {
        if deadline_us == 0 || deadline_us > self.peer.call_deadline_us_max {
            return Err(Refused::BadDeadline);
        }
        if bytes > self.body_max() {
            return Err(Refused::BodyTooLong);
        }
        // The bound is on calls without an answer, and an abandoned call has none yet [C-3].
        let full =
            self.calls.len() >= self.peer.calls_max as usize || self.abandoned >= self.peer.abandoned_max;
        if full || (self.is_bulk(bytes) && !self.has_credit(bytes)) {
            return Err(Refused::WindowFull);
        }
        Ok(())
    }

    fn check_reply(&self, id: u64, bytes: u64) -> Result<(), Refused> {
        match self.served.get(id) {
            Some(served) if !served.arriving => {}
            Some(_) | None => return Err(Refused::UnknownCall),
        }
        if bytes > self.body_max() { Err(Refused::BodyTooLong) } else { Ok(()) }
    }

    fn act(
        &mut self,
        now: u64,
        act: Act,
        input: &Input<K>,
        config: &Config,
        out: &mut Vec<Effect<K>>,
    ) -> u64 {
        match *input {
            Input::Peer(ref peer) => self.act_on_peer(now, act, peer, config, out),
            Input::Command(ref command) => return self.act_on_command(now, act, command, config, out),
            Input::Timeout => self.act_on_timeout(now, act, out),
            Input::Settle => {}
        }
        0
    }

    fn act_on_peer(&mut self, now: u64, act: Act, peer: &Peer, config: &Config, out: &mut Vec<Effect<K>>) {
        match (act, *peer) {
            (Act::Serve, Peer::Call { id, deadline_us, .. }) => {
                self.serve(now, id, deadline_us, 0, config);
                out.push(Effect::Deliver);
            }
            (Act::Complete, Peer::CallComplete { id, .. }) => {
                self.incoming.remove(&BodyId { answer: false, id });
                let Some(served) = self.served.get_mut(id) else { return };
                served.arriving = false;
                out.push(Effect::Deliver);
                if served.expired {
                    out.push(Effect::ServedExpired(id));
                }
                if served.cancelled {
                    out.push(Effect::ServedCancelled(id));
                }
            }
            (Act::Busy, Peer::Call { id, .. } | Peer::CallComplete { id, .. }) => {
                self.turn_away(id, out);
                out.push(Effect::SendBusy(id));
            }
            (Act::Denied, Peer::Call { id, needs, .. } | Peer::CallComplete { id, needs, .. }) => {
                self.turn_away(id, out);
                out.push(Effect::SendDenied { id, missing: needs & !self.grants });
            }
            (Act::BulkBegin, Peer::BulkFirst { body, deadline_us, total, len, .. }) => {
                self.granted_spent += total;
                self.incoming.insert(body, Incoming { total, got: len });
                if !body.answer {
                    self.serve(now, body.id, deadline_us, total, config);
                }
            }
            (Act::BulkNext, Peer::BulkNext { body, len, .. }) => {
                if let Some(incoming) = self.incoming.get_mut(&body) {
                    incoming.got += len;
                }
            }
            (Act::Settle, Peer::Answer { id }) => {
                self.take_back_credit_of_answer(id, out);
                if let Some(Call::Pending { key, .. }) = self.calls.remove(id) {
                    out.push(Effect::Settled { key, how: Settlement::Answered });
                }
            }
            (Act::Absorb, Peer::Answer { id }) => {
                self.take_back_credit_of_answer(id, out);
                self.calls.remove(id);
                self.abandoned -= 1;
            }
            (Act::Event, Peer::Event { position }) => {
                self.last_position = position;
                out.push(Effect::Deliver);
            }
            (Act::CancelServed, Peer::Cancel { id }) => {
                let Some(served) = self.served.get_mut(id) else { return };
                served.cancelled = true;
                if !served.arriving {
                    out.push(Effect::ServedCancelled(id));
                }
            }
            (Act::Pong, Peer::Ping { nonce }) => out.push(Effect::SendPong(nonce)),
            (Act::Ponged, Peer::Pong { nonce }) => {
                if let Some(ping) = self.ping.take() {
                    out.push(Effect::Pong { nonce, rtt_us: now.saturating_sub(ping.sent) });
                }
            }
            (Act::Farewell, Peer::Goodbye { reason }) => {
                out.push(Effect::SendGoodbye(reason));
                out.push(Effect::Draining { by: Initiator::Peer, reason });
            }
            (Act::FarewellAnswered, Peer::Goodbye { .. }) => {}
            (Act::Credit, Peer::Credit { limit }) => self.credit_limit = limit,
            // The table pairs no other action with a frame.
            (_, _) => {}
        }
    }

    /// Registers a call of the peer.
    fn serve(&mut self, now: u64, id: u64, deadline_us: Option<u64>, bulk: u64, config: &Config) {
        let due =
            deadline_us.map_or(NEVER, |us| now.saturating_add(us.min(config.limits.call_deadline_us_max)));
        self.last_served = id;
        self.served_due = self.served_due.min(due);
        self.served.push(id, Served { due, cancelled: false, expired: false, arriving: bulk > 0, bulk });
    }

    /// Forgets a call that the connection answers itself; it is registered already if its body was bulk.
    fn turn_away(&mut self, id: u64, out: &mut Vec<Effect<K>>) {
        self.last_served = self.last_served.max(id);
        self.incoming.remove(&BodyId { answer: false, id });
        if let Some(served) = self.served.remove(id) {
            self.grant(served.bulk, out);
        }
    }

    fn take_back_credit_of_answer(&mut self, id: u64, out: &mut Vec<Effect<K>>) {
        if let Some(incoming) = self.incoming.remove(&BodyId { answer: true, id }) {
            self.grant(incoming.total, out);
        }
    }

    /// Lets the peer send as many bulk bytes again as a body held [B-3].
    fn grant(&mut self, bytes: u64, out: &mut Vec<Effect<K>>) {
        if bytes > 0 {
            self.granted_limit = self.granted_limit.saturating_add(bytes);
            out.push(Effect::SendCredit(self.granted_limit));
        }
    }

    fn act_on_command(
        &mut self,
        now: u64,
        act: Act,
        command: &Command<K>,
        config: &Config,
        out: &mut Vec<Effect<K>>,
    ) -> u64 {
        match (act, *command) {
            (Act::Issue, Command::Call { key, deadline_us, bytes }) => {
                let due = now.saturating_add(deadline_us);
                self.last_call += 1;
                self.calls_due = self.calls_due.min(due);
                self.calls.push(self.last_call, Call::Pending { key, due });
                if self.is_bulk(bytes) {
                    self.credit_spent += bytes;
                    self.outgoing += 1;
                }
                return self.last_call;
            }
            (Act::Abandon, Command::Cancel { id }) => self.abandon(id, Settlement::Cancelled, out),
            (Act::Answer, Command::Reply { id, bytes }) => self.answer(id, bytes, out),
            (Act::Subscribe, Command::ReplySubscription { id, bytes, cursor }) => {
                self.subscription = cursor.map(|(topics, next, overflow)| Cursor { topics, next, overflow });
                self.answer(id, bytes, out);
            }
            (Act::BulkSpend, Command::SendBulk { total }) => self.credit_spent += total,
            (Act::BulkSent, Command::BulkSent) => self.outgoing -= 1,
            (Act::Advance, Command::SendEvents { next }) => {
                if let Some(cursor) = &mut self.subscription {
                    cursor.next = next;
                }
            }
            (Act::Lag, Command::SendLagged { next }) => {
                if let Some(cursor) = &mut self.subscription {
                    cursor.next = next;
                    out.push(Effect::SendLagged);
                }
            }
            (Act::Ping, Command::SendPing) => {
                self.pings += 1;
                self.ping =
                    Some(Ping { nonce: self.pings, sent: now, due: now.saturating_add(config.ping_us) });
                return self.pings;
            }
            (Act::Grant, Command::SetGrants { grants }) => self.grants = grants,
            (Act::Leave, Command::Goodbye { reason }) => {
                if self.profile == Profile::X1 {
                    out.push(Effect::SendGoodbye(reason));
                }
                out.push(Effect::Draining { by: Initiator::Us, reason });
            }
            // The table pairs no other action with a command.
            (_, _) => {}
        }
        0
    }

    fn answer(&mut self, id: u64, bytes: u64, out: &mut Vec<Effect<K>>) {
        if let Some(served) = self.served.remove(id) {
            self.grant(served.bulk, out);
        }
        if self.is_bulk(bytes) {
            self.outgoing += 1;
        }
    }

    /// Settles a pending call of ours before its answer came: the answer will be absorbed.
    fn abandon(&mut self, id: u64, how: Settlement, out: &mut Vec<Effect<K>>) {
        let Some(call) = self.calls.get_mut(id) else { return };
        if let Call::Pending { key, .. } = core::mem::replace(call, Call::Abandoned) {
            self.abandoned += 1;
            out.push(Effect::Settled { key, how });
            if self.profile == Profile::X1 {
                out.push(Effect::SendCancel(id));
            }
        }
    }

    fn act_on_timeout(&mut self, now: u64, act: Act, out: &mut Vec<Effect<K>>) {
        if act == Act::Expire {
            let mut overdue = Vec::new();
            let mut next = NEVER;
            for (id, call) in self.calls.iter() {
                if let Call::Pending { due, .. } = *call {
                    if due <= now { overdue.push(id) } else { next = next.min(due) }
                }
            }
            self.calls_due = next;
            for id in overdue {
                self.abandon(id, Settlement::Expired, out);
            }
        }
        if act == Act::ExpireServed {
            let mut next = NEVER;
            for (id, served) in self.served.iter_mut() {
                if served.due <= now {
                    // Told once; the call stays open until it is answered.
                    served.due = NEVER;
                    served.expired = true;
                    if !served.arriving {
                        out.push(Effect::ServedExpired(id));
                    }
                } else {
                    next = next.min(served.due);
                }
            }
            self.served_due = next;
        }
    }
}

/// Checks the size of a fragment that begins at `got` of a body of `total` bytes [B-1].
fn check_fragment(got: u64, total: u64, len: u64, more: bool) -> Result<(), Violation> {
    let fits = if more {
        (FRAGMENT_BYTES_MIN..=FRAGMENT_BYTES_MAX).contains(&len) && got + len < total
    } else {
        (1..=FRAGMENT_BYTES_MAX).contains(&len) && got + len == total
    };
    if fits { Ok(()) } else { Err(Violation::FragmentSize) }
}

/// The shortest fragment that is not the last [B-1].
pub(crate) const FRAGMENT_BYTES_MIN: u64 = 64 << 10;
/// The longest fragment [B-1].
pub(crate) const FRAGMENT_BYTES_MAX: u64 = 256 << 10;

// Whoever explores the machine relies on this.
const _: () = {
    const fn explorable<T: Clone + Eq + Hash + Send + Sync>() {}
    explorable::<Machine<crate::Host, ()>>();
    explorable::<Machine<crate::Module, u64>>();
};
