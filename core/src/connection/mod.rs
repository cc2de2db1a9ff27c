//! One connection: the machine, between a frame decoder and an outbox.

mod bulk;
mod commands;
mod host;
mod inbox;
mod module;
mod recv;
mod types;

#[cfg(test)]
mod tests;

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

pub use bulk::BulkBuf;
pub use host::Pull;
pub use types::{CallId, CallOptions, Event, Outcome, ServedCall, SubscribeOptions, Subscription};

use crate::dialect::{CallRefusal, Dialect};
use crate::envelope::{Head, Profile};
use crate::error::{CloseReason, Initiator, Refused, Violation};
use crate::event_log::HoldId;
use crate::hello::{Answer, Refusal, RefusalCode};
use crate::kind::{Kind, Role};
use crate::limits::{Config, Limits};
use crate::machine::{Command, Effect, Input, Machine, Peer, Settlement, Transition};
use crate::outbox::{Batch, Body, Outbox};
use crate::session::Session;
use crate::step::{Cause, Step, Steps};
use crate::table::Phase;

/// Pongs that may wait for the transport [G-5].
const PONGS_MAX: usize = 1024;

/// Room that empty queues keep: what a burst took is given back.
const SPARE_ENTRIES: usize = 64;

/// One end of a connection in role `R`, speaking dialect `D`.
///
/// `recv*` and `handle_*` take the world in, verbs take commands of the application, `poll_*` and `take_*` give out, the rest
/// looks. Any interleaving of output calls is correct. `now` is in microseconds, from an epoch that the caller chose, and never
/// decreases. A command that is refused leaves the state as it was. After [`Event::Closed`] every command is refused with the
/// reason, and input is ignored.
#[derive(Clone, Debug)]
pub struct Connection<R: Role, D: Dialect> {
    machine: Machine<R, Key>,
    dialect: D,
    profile: Profile,
    inbound: recv::Inbound,
    bulk: bulk::Bulk,
    outbox: Outbox,
    inbox: inbox::Inbox,
    outcomes: VecDeque<(u64, Outcome)>,
    /// The bulk credit rose and the peer was not told: of several limits only the last matters [B-2].
    credit_due: Option<u64>,
    effects: Vec<Effect<Key>>,
    steps: Steps,
    hold: Option<HoldId>,
    extensions: u64,
    /// What our Goodbye will say in words.
    farewell: String,
}

/// What comes back with a call's outcome.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    user: u64,
    /// Where the call's frame begins in the outbox.
    mark: u64,
}

/// What a step is about, for the trace.
#[derive(Clone, Copy)]
struct About {
    cause: Cause,
    id: u64,
    len: u64,
}

impl About {
    fn new(cause: Cause, id: u64, len: usize) -> About {
        About { cause, id, len: len as u64 }
    }

    fn sent(kind: Kind, id: u64, len: usize) -> About {
        About::new(Cause::Sent(kind as u8), id, len)
    }
}

impl<R: Role, D: Dialect> Connection<R, D> {
    /// A connection whose stream has just been connected.
    #[must_use]
    pub fn new(now: u64, config: Config, dialect: D) -> Self {
        Connection {
            machine: Machine::new(now, config),
            dialect,
            profile: Profile::Plain,
            inbound: recv::Inbound::default(),
            bulk: bulk::Bulk::default(),
            outbox: Outbox::default(),
            inbox: inbox::Inbox::default(),
            outcomes: VecDeque::new(),
            credit_due: None,
            effects: Vec::new(),
            steps: Steps::default(),
            hold: None,
            extensions: 0,
            farewell: String::new(),
        }
    }

    /// The time of [`Connection::deadline`] has come. Too early is harmless.
    pub fn handle_timeout(&mut self, now: u64) {
        while self.deadline().is_some_and(|due| due <= now) {
            let _ = self.run(now, About::new(Cause::Time, 0, 0), Input::Timeout, None, Bytes::new());
        }
    }

    // ---- out ----

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.inbox.pop()
    }

    /// The next outcome of a call of ours, with the key given to [`Connection::call`].
    pub fn poll_outcome(&mut self) -> Option<(u64, Outcome)> {
        let outcome = self.outcomes.pop_front();
        if self.outcomes.is_empty() && self.outcomes.capacity() > SPARE_ENTRIES {
            self.outcomes = VecDeque::new();
        }
        outcome
    }

    /// Everything that waits for the transport, or `None`. There is at most one batch out at a time.
    pub fn take_batch(&mut self, now: u64) -> Option<Batch> {
        self.send_credit();
        self.pump_bulk(now);
        self.outbox.take()
    }

    /// A batch that was written whole comes back, so that its buffer is used again.
    pub fn batch_done(&mut self, batch: Batch) {
        self.outbox.done(batch);
    }

    /// When [`Connection::handle_timeout`] is to be called. It may be too early, never too late.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.machine.deadline()
    }

    /// Begins to record [`Step`]s, keeping the last `steps_max`; they wait for [`Connection::poll_step`].
    pub fn record_steps(&mut self, steps_max: usize) {
        self.steps.start(steps_max);
    }

    /// The next recorded step.
    pub fn poll_step(&mut self) -> Option<Step> {
        self.steps.pop()
    }

    // ---- looks ----

    /// Whether [`Connection::take_batch`] would give something.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.outbox.has_batch() || (!self.outbox.is_out() && (self.credit_due.is_some() || self.bulk_ready()))
    }

    /// Events that wait in [`Connection::poll_event`].
    #[must_use]
    pub fn events_len(&self) -> usize {
        self.inbox.len()
    }

    /// Where the connection is in its life.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.machine.phase()
    }

    /// Whether calls can be issued.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.phase() == Phase::Active
    }

    /// Why the connection ended, if it did. Bytes may still wait in [`Connection::take_batch`]: the last words to the peer.
    #[must_use]
    pub fn closed(&self) -> Option<CloseReason> {
        self.machine.closed()
    }

    /// Calls of ours that are open.
    #[must_use]
    pub fn calls_open(&self) -> usize {
        self.machine.session().map_or(0, Session::pending)
    }

    /// Calls of the peer that are open.
    #[must_use]
    pub fn served_open(&self) -> usize {
        self.machine.session().map_or(0, |session| session.served.len())
    }

    /// Bytes that wait for the transport, bulk bodies excepted.
    #[must_use]
    pub fn outbox_bytes(&self) -> usize {
        self.outbox.len()
    }

    /// The profile that was agreed on.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// What the peer announced that we may send it.
    #[must_use]
    pub fn peer_limits(&self) -> &Limits {
        self.machine.session().map_or(&Limits::DEFAULT, |session| &session.peer)
    }

    /// Extension frames that were skipped [E-3].
    #[must_use]
    pub fn extensions_skipped(&self) -> u64 {
        self.extensions
    }

    // ---- the machine and what it wants done ----

    fn command(&mut self, now: u64, about: About, command: Command<Key>) -> Result<Transition, Refused> {
        self.run(now, about, Input::Command(command), None, Bytes::new())
    }

    fn fault(&mut self, now: u64, violation: Violation) {
        let about = About::new(Cause::Stream, 0, 0);
        let _ = self.run(now, about, Input::Peer(Peer::Fault(violation)), None, Bytes::new());
    }

    /// One step of the machine, and its effects. `deliver` is the event that the input stands for, `answer` the body of an answer.
    fn run(
        &mut self,
        now: u64,
        about: About,
        input: Input<Key>,
        deliver: Option<Event>,
        answer: Bytes,
    ) -> Result<Transition, Refused> {
        let mut effects = core::mem::take(&mut self.effects);
        let result = self.machine.handle(now, input, &mut effects);
        if let Ok(transition) = result {
            let id = if about.id == 0 { transition.id } else { about.id };
            self.steps.push(|| Step { now, cause: about.cause, id, len: about.len, transition });
            if let (Some(session), Phase::Greeting) = (self.machine.session(), transition.from) {
                self.profile = session.profile;
            }
            self.apply(now, &mut effects, deliver, answer);
        }
        // Empty: `apply` drained it, and a refused command leaves nothing.
        self.effects = if effects.capacity() > SPARE_ENTRIES { Vec::new() } else { effects };
        if self.machine.is_drained() {
            let about = About::new(Cause::Local, 0, 0);
            let _ = self.run(now, about, Input::Settle, None, Bytes::new());
        }
        result
    }

    fn apply(&mut self, now: u64, effects: &mut Vec<Effect<Key>>, mut deliver: Option<Event>, answer: Bytes) {
        for effect in effects.drain(..) {
            match effect {
                Effect::Deliver => {
                    if let Some(event) = deliver.take() {
                        self.push_event(event);
                    }
                }
                Effect::Settled { key, how } => self.settle(key, how, &answer),
                Effect::SendRefusal(code) => self.send_refusal(code),
                Effect::SendGoodbye(reason) => self.send_goodbye(reason),
                Effect::SendPong(nonce) => {
                    self.provoked(now, &Head::new(Kind::Pong, nonce), &Body::default())
                }
                Effect::SendCancel(id) => self.send(&Head::new(Kind::Cancel, id), &Body::default()),
                Effect::SendCredit(limit) => self.credit_due = Some(limit),
                // The caller of `SendLagged` knows the positions.
                Effect::SendLagged => {}
                Effect::SendBusy(id) => {
                    self.push_event(Event::CallBusy(CallId(id)));
                    self.turn_away(now, id, CallRefusal::Busy);
                }
                Effect::SendDenied { id, missing } => {
                    self.push_event(Event::CallDenied(CallId(id), missing));
                    self.turn_away(now, id, CallRefusal::Denied(missing));
                }
                Effect::ServedCancelled(id) => self.push_event(Event::CallCancelled(CallId(id))),
                Effect::ServedExpired(id) => self.push_event(Event::CallExpired(CallId(id))),
                Effect::Pong { nonce, rtt_us } => self.push_event(Event::Pong { nonce, rtt_us }),
                Effect::Draining { by, reason } => self.push_draining(by, reason, deliver.take()),
                Effect::Closed(reason) => {
                    self.bulk = bulk::Bulk::default();
                    self.inbound = recv::Inbound::default();
                    self.credit_due = None;
                    self.push_event(Event::Closed(reason));
                }
            }
        }
    }

    fn settle(&mut self, key: Key, how: Settlement, answer: &Bytes) {
        let outcome = match how {
            Settlement::Answered => Outcome::Reply(answer.clone()),
            Settlement::Expired => Outcome::DeadlineExceeded,
            Settlement::Cancelled => Outcome::Cancelled,
            Settlement::Lost(reason) => Outcome::Lost { reason, was_sent: self.outbox.was_taken(key.mark) },
        };
        self.outcomes.push_back((key.user, outcome));
    }

    fn push_event(&mut self, event: Event) {
        self.inbox.push(event, self.machine.config());
    }

    /// `said` is what the peer's Goodbye said, if it was the peer's.
    fn push_draining(&mut self, by: Initiator, reason: u32, said: Option<Event>) {
        let (resume, detail) = match said {
            Some(Event::Draining { resume, detail, .. }) => (resume, detail),
            Some(_) | None => (0, String::new()),
        };
        self.push_event(Event::Draining { by, reason, resume, detail });
    }

    // ---- frames out ----

    /// Tells the peer of credit that rose. At once before any other frame, so that what follows what does not depend on when
    /// the transport takes a batch; several rises between two frames are one Credit.
    fn send_credit(&mut self) {
        if let Some(limit) = self.credit_due.take() {
            self.send(&Head::new(Kind::Credit, 0), &Body::from(&limit.to_le_bytes()[..]));
        }
    }

    fn send(&mut self, head: &Head<'_>, body: &Body<'_>) {
        self.send_credit();
        let (dialect, profile) = (&self.dialect, self.profile);
        self.outbox.push(
            |len| dialect.frame_prefix(len),
            |out| dialect.encode_head(profile, head, out),
            body,
        );
    }

    /// Sends a frame that the peer provoked [G-6]. Only these count against it, not what our own side has to say: a peer that keeps
    /// to its window [C-3] and its Pings [G-5] never provokes more than the bound, however slowly it reads.
    fn provoked(&mut self, now: u64, head: &Head<'_>, body: &Body<'_>) {
        if self.outbox.provoked() >= self.machine.config().limits.calls_max as usize + PONGS_MAX {
            return self.fault(now, Violation::Flood);
        }
        self.send(head, body);
        self.outbox.note_provoked();
    }

    fn turn_away(&mut self, now: u64, id: u64, refusal: CallRefusal) {
        let mut body = Vec::new();
        self.dialect.encode_refusal(R::SERVE, refusal, &mut body);
        self.provoked(now, &Head::new(R::SERVE_ANSWER, id), &Body::from(&body[..]));
    }

    fn send_goodbye(&mut self, reason: u32) {
        let said = core::mem::take(&mut self.farewell);
        let detail = Violation::from_goodbye_reason(reason).map_or(&said[..], |violation| violation.text());
        let mut body = Vec::with_capacity(20 + detail.len());
        body.extend_from_slice(&reason.to_le_bytes());
        body.extend_from_slice(&self.resume_position().to_le_bytes());
        crate::wire::put_bytes(&mut body, detail.as_bytes());
        if self.profile == Profile::X1 {
            self.send(&Head::new(Kind::Goodbye, 0), &Body::from(&body[..]));
        }
    }

    fn resume_position(&self) -> u64 {
        self.machine.session().and_then(|session| session.subscription).map_or(0, |cursor| cursor.next)
    }

    fn send_refusal(&mut self, code: RefusalCode) {
        let (message, hint) = if code == RefusalCode::Timeout {
            ("no Hello came in time", "send the Hello as soon as the connection stands")
        } else if code == RefusalCode::NotHello {
            ("the first frame is not a Hello", "send the Hello first, and once")
        } else {
            let found = match self.closed() {
                Some(CloseReason::Violation(violation)) => violation.text(),
                Some(_) | None => "the Hello cannot be read",
            };
            (found, "send a Hello as the protocol lays it out, and nothing else before the answer")
        };
        self.send_answer(&Answer::Refused(Refusal { code, message: message.into(), hint: hint.into() }));
    }

    fn send_answer(&mut self, answer: &Answer) {
        let mut body = Vec::new();
        answer.encode(&mut body);
        self.send(&Head::new(Kind::Answer, 0), &Body::from(&body[..]));
    }
}
