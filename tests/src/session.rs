//! The two ends of one connection as a script moves them: by hand on the bare core, or through the driver on any executor.

use core::cell::{RefCell, RefMut};
use core::task::Context;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use modipc_api::{Event as Said, NativeDialect};
use modipc_core::table::Phase;
use modipc_core::{
    Append, Body, CallId, CallOptions, Config, Connection, Event, EventLog, Host, Module, Outcome, Role, Step,
};
use modipc_driver::{Call, CallError, Link, Runtime, Service, StepSink, Transport};

use crate::mailbox::Mailbox;
use crate::world::World;

/// Steps that may wait for their recorder. Far more than a session has, so none is lost.
const STEPS_MAX: usize = 10_000;

/// One end of a connection.
pub trait End<R: Role> {
    /// A call of this end that is open.
    type Call;

    /// Runs a command.
    fn with<T>(&self, f: impl FnOnce(&mut Connection<R, NativeDialect>, u64) -> T) -> T;

    /// Issues a call.
    fn call(&self, options: &CallOptions, body: &[u8]) -> Self::Call;

    /// How the call ended.
    fn outcome(&self, call: Self::Call) -> impl Future<Output = Result<Bytes, CallError>>;

    /// Gives the call up.
    fn cancel(&self, call: Self::Call);

    /// The next event.
    fn event(&self) -> impl Future<Output = Event>;

    /// Every step up to the end of the connection, as lines; waits for it.
    fn steps(&self) -> impl Future<Output = Vec<String>>;
}

/// The host's end, which has the log of events.
pub trait HostEnd: End<Host> {
    /// Appends events to the log, all at once.
    fn publish(&self, events: &[Said]);

    /// Runs a command that needs the log.
    fn with_log<T>(&self, f: impl FnOnce(&mut Connection<Host, NativeDialect>, u64, &mut EventLog) -> T)
    -> T;
}

fn new_log() -> EventLog {
    EventLog::new(1000, 1 << 20)
}

fn append(log: &mut EventLog, events: &[Said]) {
    for event in events {
        let mut body = Vec::new();
        event.encode(&mut body);
        let appended = log.append(event.event_type().topic(), Bytes::from(body));
        assert!(matches!(appended, Append::At(_)), "{appended:?}");
    }
}

// ---- the bare core ----

/// Two connections, and nothing between them but the bytes that are handed over.
pub struct Bare {
    host: RefCell<Side<Host>>,
    module: RefCell<Side<Module>>,
    log: RefCell<EventLog>,
}

struct Side<R: Role> {
    connection: Connection<R, NativeDialect>,
    keys: u64,
    outcomes: BTreeMap<u64, Outcome>,
}

/// The host's end on the bare core.
pub struct BareHost(Rc<Bare>);

/// The module's end on the bare core.
pub struct BareModule(Rc<Bare>);

/// The time on the bare core, which stands still.
const NOW: u64 = 0;

/// Both ends on the bare core.
#[must_use]
pub fn bare(host: Config, module: Config) -> (BareHost, BareModule) {
    let (host, module) = (RefCell::new(Side::new(host)), RefCell::new(Side::new(module)));
    let bare = Rc::new(Bare { host, module, log: RefCell::new(new_log()) });
    (BareHost(Rc::clone(&bare)), BareModule(bare))
}

impl<R: Role> Side<R> {
    fn new(config: Config) -> Self {
        let mut connection = Connection::new(NOW, config, NativeDialect);
        connection.record_steps(STEPS_MAX);
        Side { connection, keys: 0, outcomes: BTreeMap::new() }
    }

    fn call(&mut self, options: &CallOptions, body: &[u8]) -> (u64, CallId) {
        self.keys += 1;
        let id = self.connection.call(NOW, options, Body::from(body), self.keys).unwrap();
        (self.keys, id)
    }

    fn outcome(&mut self, key: u64) -> Option<Outcome> {
        self.outcomes.extend(core::iter::from_fn(|| self.connection.poll_outcome()));
        self.outcomes.remove(&key)
    }

    fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(mut batch) = self.connection.take_batch(NOW) {
            bytes.extend(batch.slices().flatten());
            batch.advance(usize::MAX);
            self.connection.batch_done(batch);
        }
        bytes
    }

    fn steps(&mut self) -> Vec<String> {
        let steps: Vec<_> = core::iter::from_fn(|| self.connection.poll_step()).collect();
        assert!(self.connection.closed().is_some(), "the connection has not ended");
        steps.iter().map(Step::to_string).collect()
    }
}

impl Bare {
    /// Hands bytes over both ways, once.
    fn turn(&self) {
        let (mut host, mut module) = (self.host.borrow_mut(), self.module.borrow_mut());
        host.connection.pull_events(NOW, &mut self.log.borrow_mut());
        let up = module.bytes();
        let down = host.bytes();
        assert!(up.len() + down.len() > 0, "one end waits, and no byte is on its way");
        host.connection.recv(NOW, &up);
        module.connection.recv(NOW, &down);
    }

    fn until<T>(&self, mut ready: impl FnMut() -> Option<T>) -> T {
        loop {
            if let Some(value) = ready() {
                return value;
            }
            self.turn();
        }
    }
}

macro_rules! bare_end {
    ($end:ident, $role:ident, $side:ident) => {
        impl $end {
            fn side(&self) -> RefMut<'_, Side<$role>> {
                self.0.$side.borrow_mut()
            }
        }

        impl End<$role> for $end {
            type Call = (u64, CallId);

            fn with<T>(&self, f: impl FnOnce(&mut Connection<$role, NativeDialect>, u64) -> T) -> T {
                f(&mut self.side().connection, NOW)
            }

            fn call(&self, options: &CallOptions, body: &[u8]) -> Self::Call {
                self.side().call(options, body)
            }

            async fn outcome(&self, (key, _): Self::Call) -> Result<Bytes, CallError> {
                match self.0.until(|| self.side().outcome(key)) {
                    Outcome::Reply(body) => Ok(body),
                    Outcome::DeadlineExceeded => Err(CallError::DeadlineExceeded),
                    Outcome::Cancelled => Err(CallError::Cancelled),
                    Outcome::Lost { reason, was_sent } => Err(CallError::Lost { reason, was_sent }),
                }
            }

            fn cancel(&self, (key, id): Self::Call) {
                let mut side = self.side();
                side.connection.cancel(NOW, id).unwrap();
                assert!(matches!(side.outcome(key), Some(Outcome::Cancelled)));
            }

            async fn event(&self) -> Event {
                self.0.until(|| self.side().connection.poll_event())
            }

            async fn steps(&self) -> Vec<String> {
                self.side().steps()
            }
        }
    };
}

bare_end!(BareHost, Host, host);
bare_end!(BareModule, Module, module);

impl HostEnd for BareHost {
    fn publish(&self, events: &[Said]) {
        append(&mut self.0.log.borrow_mut(), events);
    }

    fn with_log<T>(
        &self,
        f: impl FnOnce(&mut Connection<Host, NativeDialect>, u64, &mut EventLog) -> T,
    ) -> T {
        f(&mut self.side().connection, NOW, &mut self.0.log.borrow_mut())
    }
}

// ---- the driver ----

/// An end behind a link, with the connection's task on an executor.
pub struct Driven<R: Role> {
    link: Link<R, NativeDialect>,
    events: Mailbox<Event>,
    steps: Mailbox<String>,
    log: SharedLog,
}

type SharedLog = Arc<Mutex<EventLog>>;

/// Both ends, over a stream of `world`.
pub fn driven<W: World>(world: &W, host: Config, module: Config) -> (Driven<Host>, Driven<Module>) {
    let (ours, theirs) = world.pair();
    let log = Arc::new(Mutex::new(new_log()));
    let service = |events| Hosting { events, log: Arc::clone(&log) };
    let host = Driven::new(&world.runtime(), ours, host, &log, service);
    let module = Driven::new(&world.runtime(), theirs, module, &log, Listening);
    (host, module)
}

impl<R: Role> Driven<R> {
    fn new<S: Service<R, NativeDialect>>(
        runtime: &Arc<dyn Runtime>,
        transport: impl Transport,
        config: Config,
        log: &SharedLog,
        service: impl FnOnce(Mailbox<Event>) -> S,
    ) -> Self {
        let (events, steps) = (Mailbox::default(), Mailbox::default());
        let connection = Connection::new(runtime.now(), config, NativeDialect);
        let (link, task) = Link::new(Arc::clone(runtime), transport, connection, service(events.clone()));
        link.trace(STEPS_MAX, Box::new(Recorder { steps: steps.clone(), over: false }));
        runtime.spawn(Box::pin(async move {
            task.await;
        }));
        Driven { link, events, steps, log: Arc::clone(log) }
    }
}

/// Notes steps until the connection is closed. What comes after that is ignored by the connection, and whether the end of the
/// stream is still read is a matter of timing.
struct Recorder {
    steps: Mailbox<String>,
    over: bool,
}

impl StepSink for Recorder {
    fn step(&mut self, step: &Step) {
        if !self.over {
            self.steps.put(step.to_string());
        }
        self.over = step.transition.to == Phase::Closed;
    }
}

impl<R: Role> End<R> for Driven<R> {
    type Call = Call<R, NativeDialect>;

    fn with<T>(&self, f: impl FnOnce(&mut Connection<R, NativeDialect>, u64) -> T) -> T {
        self.link.with(f)
    }

    fn call(&self, options: &CallOptions, body: &[u8]) -> Self::Call {
        self.link.call(options, Body::from(body))
    }

    async fn outcome(&self, call: Self::Call) -> Result<Bytes, CallError> {
        call.await
    }

    fn cancel(&self, call: Self::Call) {
        drop(call);
    }

    async fn event(&self) -> Event {
        self.events.take().await
    }

    async fn steps(&self) -> Vec<String> {
        let mut steps = Vec::new();
        loop {
            let step = self.steps.take().await;
            let is_last = step.ends_with(" Closed");
            steps.push(step);
            if is_last {
                return steps;
            }
        }
    }
}

impl HostEnd for Driven<Host> {
    fn publish(&self, events: &[Said]) {
        append(&mut lock(&self.log), events);
        self.link.wake();
    }

    fn with_log<T>(
        &self,
        f: impl FnOnce(&mut Connection<Host, NativeDialect>, u64, &mut EventLog) -> T,
    ) -> T {
        self.link.with(|connection, now| f(connection, now, &mut lock(&self.log)))
    }
}

fn lock(log: &SharedLog) -> MutexGuard<'_, EventLog> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands the host's events to the script, and the log's to the connection.
struct Hosting {
    events: Mailbox<Event>,
    log: SharedLog,
}

impl Service<Host, NativeDialect> for Hosting {
    fn event(&mut self, _: &Link<Host, NativeDialect>, event: Event) {
        self.events.put(event);
    }

    fn poll(&mut self, _: &mut Context<'_>, _: &Link<Host, NativeDialect>) {}

    fn fill(&mut self, _: &mut Context<'_>, connection: &mut Connection<Host, NativeDialect>, now: u64) {
        connection.pull_events(now, &mut lock(&self.log));
    }
}

/// Hands the module's events to the script.
struct Listening(Mailbox<Event>);

impl Service<Module, NativeDialect> for Listening {
    fn event(&mut self, _: &Link<Module, NativeDialect>, event: Event) {
        self.0.put(event);
    }

    fn poll(&mut self, _: &mut Context<'_>, _: &Link<Module, NativeDialect>) {}
}
