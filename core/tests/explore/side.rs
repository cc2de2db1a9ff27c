//! One end of the explored pair: a machine, and an application that does whatever it may.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Debug;

use modipc_core::machine::{Command, Effect, Input, Machine, Offer, Peer};
use modipc_core::table::{Class, Phase, Rule, rule};
use modipc_core::{BodyId, CloseReason, Config, Limits, Overflow, RefusalCode, Role, TopicSet};

/// What may happen in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scenario {
    pub x1: bool,
    /// Calls without an answer, at a time.
    pub window: u32,
    /// Calls that the host, and the module, issue in all.
    pub calls: [u8; 2],
    /// Of these, those from this key on have a bulk body. Answers to bulk calls are bulk as well.
    pub bulk_from: u8,
    pub cancels: bool,
    /// Ticks of the clock. A call's deadline is one tick.
    pub ticks: u64,
    pub drain_us: u64,
    pub pings: u8,
    pub events: u64,
    /// The host may take away the capability that every second call of the module needs.
    pub revokes: bool,
    pub refuses: bool,
}

const FRAGMENT: u64 = 64 << 10;
const BULK: u64 = 2 * FRAGMENT;
const OFFER: fn(&Scenario) -> Offer = |scenario| Offer { x1: scenario.x1, limits: config(scenario).limits };

fn config(scenario: &Scenario) -> Config {
    let limits = Limits {
        calls_max: scenario.window,
        abandoned_max: scenario.window,
        body_bytes_max: BULK,
        credit_bytes: 2 * BULK,
        ..Limits::DEFAULT
    };
    Config { limits, drain_us: scenario.drain_us.max(1), x1: scenario.x1, ..Config::DEFAULT }
}

/// One end: the machine, what it sent and the peer has not got yet, and what it still may do.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Side<R: Role> {
    pub machine: Machine<R, u8>,
    pub sent: VecDeque<Peer>,
    /// Keys of calls that have no outcome yet.
    owed: BTreeSet<u8>,
    /// Bulk bodies that are not wholly sent, and whether they have begun.
    bulk: Vec<(BodyId, bool)>,
    calls: u8,
    pings: u8,
    revoked: bool,
    next_event: u64,
}

#[derive(Clone, Copy, Debug)]
pub enum Act {
    Receive,
    Timeout,
    Command(Command<u8>),
    /// The next fragment of this bulk body.
    Fragment(usize),
}

/// Every second call to the host needs the capability that may be taken away.
fn needs(to_host: bool, id: u64) -> u64 {
    if to_host { id % 2 } else { 0 }
}

pub type Seen = BTreeSet<(Class, Phase)>;

impl<R: Role> Side<R> {
    pub fn new(scenario: &Scenario) -> Self {
        let machine = Machine::new(0, config(scenario));
        let (owed, pings, next_event) = (BTreeSet::new(), scenario.pings, 1);
        Side {
            machine,
            sent: VecDeque::new(),
            owed,
            bulk: vec![],
            calls: 0,
            pings,
            revoked: false,
            next_event,
        }
    }

    /// One step of the machine. `None`: the command was refused.
    fn step(&mut self, now: u64, input: Input<u8>, seen: &mut Seen) -> Option<u64> {
        let (before, mut effects) = (self.machine.clone(), Vec::new());
        let Ok(transition) = self.machine.handle(now, input, &mut effects) else {
            assert!(before == self.machine && effects.is_empty(), "a refusal changed something: {input:?}");
            assert!(matches!(input, Input::Command(_)), "a frame was refused: {input:?}");
            return None;
        };
        seen.insert((transition.class, transition.from));
        let leads_to = match rule(transition.from, transition.class) {
            Rule::Do(_) | Rule::Ignore => transition.from,
            Rule::Go(_, to) => to,
            Rule::Close(_) => Phase::Closed,
            Rule::Deny(_) | Rule::DenyFound | Rule::DenyClosed => {
                panic!("{input:?} was denied and is a step")
            }
        };
        assert_eq!(transition.to, leads_to, "{input:?} does not refine its row");
        assert!(before.closed().is_none() || effects.is_empty(), "{effects:?} after the end");
        for effect in effects {
            match effect {
                Effect::SendRefusal(code) => self.sent.push_back(Peer::Refuses(code)),
                Effect::SendGoodbye(reason) => self.sent.push_back(Peer::Goodbye { reason }),
                Effect::SendPong(nonce) => self.sent.push_back(Peer::Pong { nonce }),
                Effect::SendCancel(id) => self.sent.push_back(Peer::Cancel { id }),
                Effect::SendCredit(limit) => self.sent.push_back(Peer::Credit { limit }),
                Effect::SendLagged => self.sent.push_back(Peer::Lagged),
                Effect::SendBusy(id) | Effect::SendDenied { id, .. } => {
                    self.sent.push_back(Peer::Answer { id })
                }
                Effect::Settled { key, .. } => assert!(self.owed.remove(&key), "a second outcome of {key}"),
                Effect::Closed(reason) => {
                    let fault = matches!(reason, CloseReason::Violation(_) | CloseReason::Blamed(_));
                    assert!(!fault, "{} complains of an honest peer: {reason:?}", R::NAME);
                    assert!(self.owed.is_empty(), "calls {:?} have no outcome at the end", self.owed);
                    self.bulk.clear();
                }
                Effect::Deliver
                | Effect::ServedCancelled(_)
                | Effect::ServedExpired(_)
                | Effect::Pong { .. }
                | Effect::Draining { .. } => {}
            }
        }
        Some(transition.id)
    }

    fn receive(&mut self, now: u64, frame: Peer, seen: &mut Seen) {
        self.step(now, Input::Peer(frame), seen);
        // The connection hands a body on when its last fragment is there.
        let (Peer::BulkFirst { body, more: false, .. } | Peer::BulkNext { body, more: false, .. }) = frame
        else {
            return;
        };
        let whole = if body.answer {
            Peer::Answer { id: body.id }
        } else {
            Peer::CallComplete { id: body.id, needs: needs(R::IS_HOST, body.id), congested: false }
        };
        self.step(now, Input::Peer(whole), seen);
    }

    /// What the connection sends when a command is executed.
    fn command(&mut self, scenario: &Scenario, now: u64, command: Command<u8>, seen: &mut Seen) -> bool {
        if let Command::Call { key, .. } = command {
            self.owed.insert(key);
        }
        let Some(id) = self.step(now, Input::Command(command), seen) else {
            if let Command::Call { key, .. } = command {
                self.owed.remove(&key);
            }
            return false;
        };
        let frame = match command {
            Command::SayHello(offer) => Peer::Hello(offer),
            Command::Accept { .. } => Peer::Accepts { x1: scenario.x1, limits: config(scenario).limits },
            Command::Refuse(code) => Peer::Refuses(code),
            Command::Call { bytes, .. } => {
                self.calls += 1;
                let deadline_us = scenario.x1.then_some(1);
                if bytes > 0 {
                    let body = BodyId { answer: false, id };
                    self.bulk.push((body, true));
                    Peer::BulkFirst { body, deadline_us, total: BULK, len: FRAGMENT, more: true }
                } else {
                    Peer::Call { id, deadline_us, bytes, needs: needs(!R::IS_HOST, id), congested: false }
                }
            }
            Command::Reply { id, bytes } if bytes > 0 => {
                self.bulk.push((BodyId { answer: true, id }, false));
                return true;
            }
            Command::Reply { id, .. } | Command::ReplySubscription { id, .. } => Peer::Answer { id },
            Command::SendPing => {
                self.pings -= 1;
                Peer::Ping { nonce: id }
            }
            Command::SetGrants { .. } => {
                self.revoked = true;
                Peer::Grants
            }
            Command::SendEvents { last, .. } => {
                self.next_event += 1;
                Peer::Event { position: last }
            }
            Command::SendLagged { .. } => {
                self.next_event += 1;
                return true;
            }
            _ => return true,
        };
        self.sent.push_back(frame);
        true
    }

    fn fragment(&mut self, now: u64, at: usize, seen: &mut Seen) -> bool {
        let (body, begun) = self.bulk.remove(at);
        let frame = if begun {
            assert!(self.step(now, Input::Command(Command::BulkSent), seen).is_some());
            Peer::BulkNext { body, len: FRAGMENT, more: false }
        } else {
            if self.step(now, Input::Command(Command::SendBulk { total: BULK }), seen).is_none() {
                return false;
            }
            self.bulk.insert(at, (body, true));
            Peer::BulkFirst { body, deadline_us: None, total: BULK, len: FRAGMENT, more: true }
        };
        self.sent.push_back(frame);
        true
    }

    /// What this side may try: everything that fits, and much that does not.
    fn commands(&self, scenario: &Scenario) -> Vec<Command<u8>> {
        let mut commands = vec![Command::Goodbye { reason: 1 }];
        if R::IS_HOST {
            commands.push(Command::Accept { grants: 1 });
            commands.extend(scenario.refuses.then_some(Command::Refuse(RefusalCode::Busy)));
            commands.extend((scenario.revokes && !self.revoked).then_some(Command::SetGrants { grants: 0 }));
        } else {
            commands.push(Command::SayHello(OFFER(scenario)));
        }
        let calls = scenario.calls[usize::from(!R::IS_HOST)];
        if self.calls < calls {
            let bytes = if self.calls >= scenario.bulk_from { BULK } else { 0 };
            commands.push(Command::Call { key: self.calls, deadline_us: 1, bytes });
        }
        commands.extend((1..=u64::from(calls)).filter(|_| scenario.cancels).map(|id| Command::Cancel { id }));
        for id in 1..=u64::from(scenario.calls[usize::from(R::IS_HOST)]) {
            let bytes = if id > u64::from(scenario.bulk_from) { BULK } else { 0 };
            commands.push(Command::Reply { id, bytes });
            if R::IS_HOST && scenario.events > 0 {
                let cursor = Some((TopicSet::ALL, self.next_event, Overflow::Lag));
                commands.push(Command::ReplySubscription { id, bytes: 0, cursor });
                commands.push(Command::ReplySubscription { id, bytes: 0, cursor: None });
            }
        }
        commands.extend((self.pings > 0).then_some(Command::SendPing));
        if R::IS_HOST && self.next_event <= scenario.events {
            let next = self.next_event + 1;
            commands.push(Command::SendEvents { next, last: self.next_event });
            commands.push(Command::SendLagged { next });
        }
        commands
    }

    pub fn acts(&self, scenario: &Scenario, now: u64, hears: bool) -> Vec<Act> {
        let mut acts: Vec<Act> = hears.then_some(Act::Receive).into_iter().collect();
        acts.extend(self.machine.deadline().filter(|due| *due <= now).map(|_| Act::Timeout));
        acts.extend((0..self.bulk.len()).map(Act::Fragment));
        acts.extend(self.commands(scenario).into_iter().map(Act::Command));
        acts
    }
}

/// One act of `me`. `false`: it was refused.
pub fn act<R: Role, S: Role>(
    (me, peer): (&mut Side<R>, &mut Side<S>),
    (scenario, now): (&Scenario, u64),
    act: Act,
    seen: &mut Seen,
) -> bool {
    let was_closed = me.machine.closed().is_some();
    let done = match act {
        Act::Receive => peer.sent.pop_front().map(|frame| me.receive(now, frame, seen)).is_some(),
        Act::Timeout => me.step(now, Input::Timeout, seen).is_some(),
        Act::Command(command) => me.command(scenario, now, command, seen),
        Act::Fragment(at) => me.fragment(now, at, seen),
    };
    if me.machine.is_drained() {
        me.step(now, Input::Settle, seen);
    }
    if me.machine.closed().is_some() && !was_closed {
        // The last words go first. What the peer has sent and still sends is not read.
        me.sent.push_back(Peer::Eof);
    }
    if me.machine.closed().is_some() {
        peer.sent.clear();
    }
    if peer.machine.closed().is_some() {
        me.sent.clear();
    }
    done
}
