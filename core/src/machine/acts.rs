//! The actions of the table on a session: one small function or arm each.

use alloc::vec::Vec;
use core::fmt::Debug;
use core::hash::Hash;

use super::{Command, Effect, Input, Peer, Settlement};
use crate::envelope::Profile;
use crate::error::Initiator;
use crate::limits::Config;
use crate::session::{BodyId, Call, Cursor, Incoming, NEVER, Ping, Served, Session};
use crate::table::Act;

impl<K: Copy + Eq + Hash + Debug> Session<K> {
    pub(super) fn act(
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
            (Act::Serve, Peer::Call { id, deadline_us, bytes, .. }) => {
                let held = if self.is_held(bytes, config) { bytes } else { 0 };
                self.serve(now, id, deadline_us, held, config);
                out.push(Effect::Deliver);
            }
            (Act::Complete, Peer::CallComplete { id, .. }) => self.complete(id, out),
            (Act::Busy, Peer::Call { id, .. } | Peer::CallComplete { id, .. }) => {
                self.turn_away(id, out);
                out.push(Effect::SendBusy(id));
            }
            (Act::Denied, Peer::Call { id, needs, .. } | Peer::CallComplete { id, needs, .. }) => {
                self.turn_away(id, out);
                out.push(Effect::SendDenied { id, missing: needs & !self.grants });
            }
            (Act::BulkBegin, Peer::BulkFirst { body, deadline_us, total, len, .. }) => {
                self.incoming.insert(body, Incoming { total, got: len });
                if body.answer {
                    self.granted_spent += total;
                } else if let Some(served) = self.serve(now, body.id, deadline_us, total, config) {
                    served.arriving = true;
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

    /// Registers a call of the peer whose body holds so much credit.
    fn serve(
        &mut self,
        now: u64,
        id: u64,
        deadline_us: Option<u64>,
        held: u64,
        config: &Config,
    ) -> Option<&mut Served> {
        let due =
            deadline_us.map_or(NEVER, |us| now.saturating_add(us.min(config.limits.call_deadline_us_max)));
        self.last_served = Some(id);
        self.served_due = self.served_due.min(due);
        self.granted_spent += held;
        self.served.push(id, Served { due, cancelled: false, expired: false, arriving: false, held });
        self.served.get_mut(id)
    }

    /// Hands on a call whose body is whole, with what was held back as long as nobody knew of it.
    fn complete(&mut self, id: u64, out: &mut Vec<Effect<K>>) {
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

    /// Forgets a call that the connection answers itself; it is registered already if its body was bulk.
    fn turn_away(&mut self, id: u64, out: &mut Vec<Effect<K>>) {
        self.last_served = self.last_served.max(Some(id));
        self.incoming.remove(&BodyId { answer: false, id });
        if let Some(served) = self.served.remove(id) {
            self.grant(served.held, out);
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
            if self.profile == Profile::X1 {
                out.push(Effect::SendCredit(self.granted_limit));
            }
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
            (Act::Advance, Command::SendEvents { next, last }) => {
                self.last_position = self.last_position.max(last);
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
            self.grant(served.held, out);
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
