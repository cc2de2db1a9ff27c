//! What an input is, as far as the table is concerned: looks at the session's tables and changes nothing.

use core::fmt::Debug;
use core::hash::Hash;

use super::{Command, Input, Machine, Peer, Seen, Stage, State};
use crate::envelope::Profile;
use crate::error::{Refused, Violation};
use crate::event_log::Overflow;
use crate::kind::Role;
use crate::limits::Config;
use crate::session::{BodyId, Call, Cursor, Session};
use crate::table::Class;

impl<R: Role, K: Copy + Eq + Hash + Debug> Machine<R, K> {
    pub(super) fn classify(&self, now: u64, input: &Input<K>) -> Seen {
        match input {
            Input::Peer(peer) => self.classify_peer(peer),
            Input::Command(command) => self.classify_command(command),
            Input::Timeout => Seen::As(self.classify_timeout(now)),
            Input::Settle => Seen::As(Class::Drained),
        }
    }

    pub(super) fn classify_peer(&self, peer: &Peer) -> Seen {
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
            Peer::Eof if self.session().is_some_and(|session| session.pending() > 0) => Class::PeerEofOwing,
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

    pub(super) fn classify_command(&self, command: &Command<K>) -> Seen {
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

    pub(super) fn classify_timeout(&self, now: u64) -> Class {
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
}

impl<K: Copy + Eq + Hash + Debug> Session<K> {
    fn classify_peer(&self, peer: &Peer, config: &Config) -> Seen {
        let calls_max = config.limits.calls_max as usize;
        let class = match *peer {
            Peer::Call { id, .. } if self.is_stale(id) => return Seen::Fault(Violation::StaleCallId),
            Peer::Call { needs, congested, bytes, .. } => {
                let busy = congested || self.served.len() >= calls_max || self.holds_too_much(bytes, config);
                self.admit(needs, busy, [Class::PeerCall, Class::PeerCallDenied, Class::PeerCallBusy])
            }
            // It is in `served` itself.
            Peer::CallComplete { needs, congested, .. } => {
                let busy = congested || self.served.len() > calls_max;
                let classes = [Class::PeerCallComplete, Class::PeerCompleteDenied, Class::PeerCompleteBusy];
                self.admit(needs, busy, classes)
            }
            Peer::BulkFirst { body, total, len, more, .. } => {
                let class = if body.answer { Class::PeerBulkAnswer } else { Class::PeerBulkCall };
                let fits = self.check_bulk_first(body, total, len, more, config);
                return fits.map_or_else(Seen::Fault, |()| Seen::As(class));
            }
            Peer::BulkNext { body, len, more } => {
                let fits = self.check_bulk_next(body, len, more);
                return fits.map_or_else(Seen::Fault, |()| Seen::As(Class::PeerBulkNext));
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
            Peer::Cancel { id } if id == 0 || Some(id) > self.last_served => {
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

    /// Which of the classes a whole call is: let through, denied [C-6], or turned away [C-3].
    fn admit(&self, needs: u64, is_busy: bool, [fits, denied, busy]: [Class; 3]) -> Class {
        match (needs & !self.grants, is_busy) {
            (0, false) => fits,
            (0, true) => busy,
            _ => denied,
        }
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
        if !body.answer && self.is_stale(body.id) {
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
            // There is no subscription that a call has asked for.
            Command::SendEvents { .. } | Command::SendLagged { .. } if self.subscription.is_none() => {
                Err(Refused::UnknownCall)
            }
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
        if full || (self.is_bulk(bytes) && !self.has_credit_for_call(bytes)) {
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
