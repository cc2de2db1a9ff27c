//! The protocol machine of one end of a connection. It decides; bodies pass by it.

mod acts;
mod classify;
mod ending;
mod io;

use alloc::vec::Vec;
use core::fmt::Debug;
use core::hash::Hash;
use core::marker::PhantomData;

pub(crate) use classify::{FRAGMENT_BYTES_MAX, FRAGMENT_BYTES_MIN};
pub use io::{Command, Effect, Input, Offer, Peer, Settlement, Transition};

use crate::envelope::Profile;
use crate::error::{CloseReason, Initiator, Refused, Violation};
use crate::kind::Role;
use crate::limits::Config;
use crate::session::{NEVER, Session};
use crate::table::{Act, Class, Phase, Rule, rule};

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
}

// Whoever explores the machine relies on this.
const _: () = {
    const fn explorable<T: Clone + Eq + Hash + Send + Sync>() {}
    explorable::<Machine<crate::Host, ()>>();
    explorable::<Machine<crate::Module, u64>>();
};
