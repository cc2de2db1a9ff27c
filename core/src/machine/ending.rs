//! How a connection ends: the last words to the peer, the outcome of every call, the reason.

use alloc::vec::Vec;
use core::fmt::Debug;
use core::hash::Hash;

use super::{Command, Effect, Input, Machine, Peer, Seen, Settlement, Stage, State};
use crate::envelope::Profile;
use crate::error::{CloseReason, Initiator, Violation};
use crate::hello::RefusalCode;
use crate::kind::Role;
use crate::session::Call;
use crate::table::End;

impl<R: Role, K: Copy + Eq + Hash + Debug> Machine<R, K> {
    /// Closes: the last words to the peer, the outcomes of all calls, the reason.
    pub(super) fn close(&mut self, end: End, seen: Seen, input: &Input<K>, out: &mut Vec<Effect<K>>) {
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

    pub(super) fn drained(&self) -> CloseReason {
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
    pub(super) fn last_words(&self, reason: CloseReason, out: &mut Vec<Effect<K>>) {
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
