//! The deterministic executor: one thread, virtual time, one seed.

use core::fmt;
use core::future::Future;
use core::pin::{Pin, pin};
use core::task::{Context, Poll};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Wake, Waker};

use modipc_driver::{BoxFuture, Runtime};

use crate::chance::{Chance, Rng};
use crate::faults::LinkConfig;
use crate::link::Link;
use crate::state::{Body, Event, MAIN, State, Step};
use crate::stuck::{Pending, Stuck, Wait};
use crate::transport::{MemTransport, join};

/// How a simulation runs.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Decides everything that is left open: the order of the tasks, the faults, what [`Runtime::seed`] gives.
    pub seed: u64,
    /// The steps (polls of a task) that one `run_*` call may make. It is what ends a livelock.
    pub steps_max: u64,
    /// How often a [`Runtime::sleep_until`] is ready before its time, which its contract allows.
    pub early_sleep: Chance,
    /// How often a step wakes a task that did not ask for it, which every future has to bear.
    pub spurious_wake: Chance,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self { seed: 0, steps_max: 10_000_000, early_sleep: Chance::NEVER, spurious_wake: Chance::NEVER }
    }
}

/// A deterministic executor with a virtual clock.
///
/// One thread polls one task at a time; the seed decides which of those that can run. When none can, the time goes to the
/// next timer. Time does not pass while a task runs, so a run takes as long as its work, whatever it waits for.
///
/// Dropping the simulation drops its tasks, wherever they are.
#[derive(Debug)]
pub struct Sim {
    runtime: SimRuntime,
}

impl Sim {
    /// A simulation with this seed and the default configuration.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_config(SimConfig { seed, ..SimConfig::default() })
    }

    /// A simulation.
    #[must_use]
    pub fn with_config(config: SimConfig) -> Self {
        let shared = Arc::new(Shared { state: Mutex::new(State::new(config)) });
        Self { runtime: SimRuntime { shared } }
    }

    /// The handle for tasks.
    #[must_use]
    pub fn runtime(&self) -> SimRuntime {
        self.runtime.clone()
    }

    /// Runs until the future is ready. Spawned tasks run beside it, and stay as they are when it is.
    ///
    /// # Errors
    /// [`Stuck`], with the seed and with what everybody waits for.
    pub fn run_until<F: Future>(&self, future: F) -> Result<F::Output, Stuck> {
        let shared = &self.runtime.shared;
        let mut future = pin!(future);
        let main = shared.waker(MAIN);
        let steps_end = shared.steps_end();
        let mut entered = Entered::new(shared);
        loop {
            let step = shared.lock().step(u64::MAX, steps_end)?;
            match step {
                Step::Main => {
                    entered.polling = true;
                    if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&main)) {
                        entered.polling = false;
                        return Ok(output);
                    }
                    entered.polling = false;
                }
                Step::Idle => return Err(shared.lock().deadlock()),
                step => shared.advance(step),
            }
        }
    }

    /// Runs until nothing can run and no timer is set. Gives the tasks that have not ended; whether that is a deadlock
    /// or a server at rest is for the caller to say.
    ///
    /// # Errors
    /// [`Stuck::Livelock`]; a task that sleeps again and again is one.
    pub fn run_until_idle(&self) -> Result<Vec<Pending>, Stuck> {
        self.run_to(u64::MAX)
    }

    /// Runs everything that happens within the next `us` microseconds, and ends at that time.
    ///
    /// # Errors
    /// [`Stuck::Livelock`].
    pub fn run_for(&self, us: u64) -> Result<Vec<Pending>, Stuck> {
        let end = self.runtime.now().saturating_add(us);
        let pending = self.run_to(end)?;
        self.runtime.shared.lock().now_us = end;
        Ok(pending)
    }

    fn run_to(&self, horizon_us: u64) -> Result<Vec<Pending>, Stuck> {
        let shared = &self.runtime.shared;
        let steps_end = shared.steps_end();
        loop {
            let step = shared.lock().step(horizon_us, steps_end)?;
            match step {
                Step::Idle => return Ok(shared.lock().pending()),
                step => shared.advance(step),
            }
        }
    }

    /// A hash over everything that happened so far, in order: two runs that agree in it made the same schedule.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.runtime.shared.lock().fingerprint()
    }

    /// The steps made so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.runtime.shared.lock().steps
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        // Tasks hold the runtime and the runtime holds the tasks: this is what breaks the circle. A task that is dropped
        // may spawn another one.
        loop {
            let (tasks, timers) = self.runtime.shared.lock().take_all();
            if tasks.is_empty() && timers.is_empty() {
                return;
            }
        }
    }
}

/// The place of `run_until`'s future among the tasks, for as long as that call lasts.
struct Entered<'a> {
    shared: &'a Arc<Shared>,
    polling: bool,
}

impl<'a> Entered<'a> {
    fn new(shared: &'a Arc<Shared>) -> Self {
        shared.lock().enter_main();
        Self { shared, polling: false }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if self.polling {
            self.shared.say_seed();
        }
        self.shared.lock().leave_main();
    }
}

/// A handle to a [`Sim`]: what its tasks use as [`Runtime`].
#[derive(Clone)]
pub struct SimRuntime {
    shared: Arc<Shared>,
}

impl SimRuntime {
    /// As [`Runtime::spawn`], with a name for the message of a deadlock.
    pub fn spawn_named(&self, name: impl Into<String>, task: impl Future<Output = ()> + Send + 'static) {
        self.shared.spawn(Some(name.into()), Box::pin(task));
    }

    /// Two ends of a new link.
    #[must_use]
    pub fn link(&self, config: &LinkConfig) -> (MemTransport, MemTransport) {
        let mut state = self.shared.lock();
        state.links += 1;
        let number = state.links;
        let link = Link::new(config, &mut state.rng);
        drop(state);
        join(link, Some((self.clone(), number)))
    }

    /// A generator of its own from the run's seed, for a test that makes choices.
    #[must_use]
    pub fn rng(&self) -> Rng {
        self.shared.lock().rng.fork()
    }

    /// As [`Runtime::sleep_until`], but never early.
    pub fn sleep_exactly_until(&self, at_us: u64) -> Sleep {
        Sleep { runtime: self.clone(), at_us, key: None }
    }

    pub(crate) fn record(&self, event: Event, what: u64, how_much: u64) {
        self.shared.lock().record(event, what, how_much);
    }

    pub(crate) fn note(&self, wait: Wait) {
        self.shared.lock().note(wait);
    }
}

impl fmt::Debug for SimRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("SimRuntime").field("seed", &state.config.seed).field("now_us", &state.now_us).finish()
    }
}

impl Runtime for SimRuntime {
    fn now(&self) -> u64 {
        self.shared.lock().now_us
    }

    fn sleep_until(&self, at_us: u64) -> BoxFuture<()> {
        let mut state = self.shared.lock();
        let mut ready_us = at_us;
        let early = state.config.early_sleep;
        let now_us = state.now_us;
        if at_us > now_us && state.rng.happens(early) {
            ready_us = now_us + state.rng.below(at_us - now_us);
        }
        drop(state);
        Box::pin(self.sleep_exactly_until(ready_us))
    }

    fn spawn(&self, task: BoxFuture<()>) {
        self.shared.spawn(None, task);
    }

    fn seed(&self) -> u64 {
        self.shared.lock().rng.next_u64()
    }
}

/// A wait for a time. Dropping it cancels the wait.
#[derive(Debug)]
#[must_use = "it waits only when it is polled"]
pub struct Sleep {
    runtime: SimRuntime,
    at_us: u64,
    /// The timer, once there is one.
    key: Option<(u64, u64)>,
}

impl Sleep {
    /// When it is ready.
    #[must_use]
    pub fn at_us(&self) -> u64 {
        self.at_us
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let at_us = self.at_us;
        let mut state = self.runtime.shared.lock();
        if state.now_us >= at_us {
            return Poll::Ready(());
        }
        state.note(Wait::Sleep { at_us });
        let mut unwanted = None;
        let key = match self.key {
            Some(key) => {
                unwanted = state.set_timer(key, waker);
                key
            }
            None => state.add_timer(at_us, waker),
        };
        drop(state);
        drop(unwanted);
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let unwanted = self.runtime.shared.lock().remove_timer(key);
            drop(unwanted);
        }
    }
}

pub(crate) struct Shared {
    state: Mutex<State>,
}

impl Shared {
    /// No user code runs under this lock: no poll, no wake, no drop of a future or waker.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn steps_end(&self) -> u64 {
        let state = self.lock();
        state.steps.saturating_add(state.config.steps_max)
    }

    fn waker(self: &Arc<Self>, task: u64) -> Waker {
        Waker::from(Arc::new(TaskWaker { shared: Arc::downgrade(self), task }))
    }

    fn spawn(self: &Arc<Self>, name: Option<String>, future: BoxFuture<()>) {
        self.lock().spawn(name, |task| Body { future, waker: self.waker(task) });
    }

    fn advance(self: &Arc<Self>, step: Step) {
        match step {
            Step::Task(task, body) => self.poll(task, body),
            Step::Fire(wakers) => wakers.into_iter().for_each(Waker::wake),
            Step::Main | Step::Idle => {}
        }
    }

    fn poll(&self, task: u64, mut body: Body) {
        struct OnPanic<'a>(&'a Shared);
        impl Drop for OnPanic<'_> {
            fn drop(&mut self) {
                self.0.say_seed();
            }
        }
        let on_panic = OnPanic(self);
        if body.future.as_mut().poll(&mut Context::from_waker(&body.waker)).is_ready() {
            // Dropped before the task is forgotten and outside the lock: what it drops may wake, spawn and panic.
            drop(body);
            self.lock().settle(task, None);
        } else {
            self.lock().settle(task, Some(body));
        }
        core::mem::forget(on_panic);
    }

    /// A panic inside a task is the test's, but the seed is ours to add.
    fn say_seed(&self) {
        let state = self.lock();
        let (seed, now_us, steps) = (state.config.seed, state.now_us, state.steps);
        drop(state);
        eprintln!("panic in a simulation with seed {seed}, at {now_us} us, in step {steps}");
    }
}

struct TaskWaker {
    shared: Weak<Shared>,
    task: u64,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(shared) = self.shared.upgrade() {
            shared.lock().wake(self.task);
        }
    }
}
