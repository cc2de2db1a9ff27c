//! The executor's state: who can run, who sleeps, what time it is. It polls nothing and wakes nobody; that is the
//! business of [`sim`](crate::sim), which does both without holding this state's lock.

use std::collections::BTreeMap;
use std::task::Waker;

use modipc_driver::BoxFuture;

use crate::chance::{Fingerprint, Rng};
use crate::sim::SimConfig;
use crate::stuck::{Pending, Stuck, Wait};

/// The task that is the future of `run_until`: the executor has its slot, the caller has its future.
pub(crate) const MAIN: u64 = 0;

/// What goes into the fingerprint, each with a number of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Polled = 1,
    Ended = 2,
    Spawned = 3,
    Fired = 4,
    Read = 5,
    Wrote = 6,
    Closed = 7,
    Left = 8,
    Connected = 9,
}

pub(crate) struct State {
    pub(crate) config: SimConfig,
    pub(crate) now_us: u64,
    pub(crate) rng: Rng,
    pub(crate) steps: u64,
    pub(crate) links: u64,
    fingerprint: Fingerprint,
    tasks: BTreeMap<u64, Slot>,
    tasks_ever: u64,
    ready: Vec<u64>,
    /// By time, then by order of registration.
    timers: BTreeMap<(u64, u64), Waker>,
    timers_ever: u64,
    running: Option<u64>,
}

/// What a task is made of.
pub(crate) struct Body {
    pub(crate) future: BoxFuture<()>,
    /// The same for every poll, as other executors have it, so that whoever compares wakers meets both answers.
    pub(crate) waker: Waker,
}

#[derive(Default)]
struct Slot {
    /// Absent while it is polled, and always for [`MAIN`].
    body: Option<Body>,
    name: Option<String>,
    queued: bool,
    polls: u64,
    polled_at_us: u64,
    polled_in_step: u64,
    waits: Vec<Wait>,
}

/// What the executor does next.
pub(crate) enum Step {
    Main,
    Task(u64, Body),
    /// Wake these: their time has come.
    Fire(Vec<Waker>),
    /// Nothing can run, and no timer is due within the horizon.
    Idle,
}

impl State {
    pub(crate) fn new(config: SimConfig) -> Self {
        Self {
            now_us: 0,
            rng: Rng::new(config.seed),
            steps: 0,
            links: 0,
            fingerprint: Fingerprint::new(),
            tasks: BTreeMap::new(),
            tasks_ever: 0,
            ready: Vec::new(),
            timers: BTreeMap::new(),
            timers_ever: 0,
            running: None,
            config,
        }
    }

    pub(crate) fn record(&mut self, event: Event, what: u64, how_much: u64) {
        self.fingerprint.add(event as u64);
        self.fingerprint.add(what);
        self.fingerprint.add(how_much);
        self.fingerprint.add(self.now_us);
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint.value()
    }

    pub(crate) fn spawn(&mut self, name: Option<String>, body: impl FnOnce(u64) -> Body) {
        self.tasks_ever += 1;
        let task = self.tasks_ever;
        self.tasks.insert(task, Slot { body: Some(body(task)), name, ..Slot::default() });
        self.record(Event::Spawned, task, 0);
        self.wake(task);
    }

    /// Makes place for a future that its caller keeps, and lets it run first thing.
    pub(crate) fn enter_main(&mut self) {
        self.tasks.insert(MAIN, Slot::default());
        self.wake(MAIN);
    }

    pub(crate) fn leave_main(&mut self) {
        self.tasks.remove(&MAIN);
        self.ready.retain(|task| *task != MAIN);
        self.running = None;
    }

    /// Lets a task run, unless it ended or is about to run anyway.
    pub(crate) fn wake(&mut self, task: u64) {
        if let Some(slot) = self.tasks.get_mut(&task)
            && !slot.queued
        {
            slot.queued = true;
            self.ready.push(task);
        }
    }

    /// Chooses what happens next. Timers later than `horizon_us` do not fire.
    pub(crate) fn step(&mut self, horizon_us: u64, steps_end: u64) -> Result<Step, Stuck> {
        loop {
            if self.ready.is_empty() {
                return Ok(self.fire(horizon_us));
            }
            if self.steps >= steps_end {
                return Err(self.livelock());
            }
            self.disturb();
            let task = self.ready.swap_remove(self.rng.index(self.ready.len()));
            self.steps += 1;
            let (steps, now_us) = (self.steps, self.now_us);
            let Some(slot) = self.tasks.get_mut(&task) else { continue };
            slot.queued = false;
            slot.polls += 1;
            slot.polled_at_us = now_us;
            slot.polled_in_step = steps;
            slot.waits.clear();
            let body = slot.body.take();
            self.running = Some(task);
            self.record(Event::Polled, task, 0);
            match body {
                Some(body) => return Ok(Step::Task(task, body)),
                None if task == MAIN => return Ok(Step::Main),
                // It is being polled further up this very stack, by a task that runs the executor: nothing to do.
                None => {}
            }
        }
    }

    /// Wakes somebody who did not ask for it, which every future has to bear.
    fn disturb(&mut self) {
        if self.rng.happens(self.config.spurious_wake) {
            let index = self.rng.index(self.tasks.len());
            if let Some(task) = self.tasks.keys().nth(index).copied() {
                self.wake(task);
            }
        }
    }

    /// Goes to the time of the next timers.
    fn fire(&mut self, horizon_us: u64) -> Step {
        let Some((&(at_us, _), _)) = self.timers.first_key_value() else { return Step::Idle };
        if at_us > horizon_us {
            return Step::Idle;
        }
        self.now_us = self.now_us.max(at_us);
        let later = self.timers.split_off(&(at_us, u64::MAX));
        let due = core::mem::replace(&mut self.timers, later);
        self.record(Event::Fired, due.len() as u64, 0);
        Step::Fire(due.into_values().collect())
    }

    /// Takes a task back after it was polled, or forgets it.
    pub(crate) fn settle(&mut self, task: u64, body: Option<Body>) {
        self.running = None;
        match (body, self.tasks.get_mut(&task)) {
            (Some(body), Some(slot)) => slot.body = Some(body),
            _ => {
                self.tasks.remove(&task);
                self.record(Event::Ended, task, 0);
            }
        }
    }

    /// Notes what the running task waits for, for the message of a deadlock.
    pub(crate) fn note(&mut self, wait: Wait) {
        if let Some(slot) = self.running.and_then(|task| self.tasks.get_mut(&task))
            && !slot.waits.contains(&wait)
        {
            slot.waits.push(wait);
        }
    }

    pub(crate) fn add_timer(&mut self, at_us: u64, waker: Waker) -> (u64, u64) {
        self.timers_ever += 1;
        let key = (at_us, self.timers_ever);
        self.timers.insert(key, waker);
        key
    }

    /// Replaces the waker of a timer. Gives back the one that is no longer wanted, to be dropped outside the lock.
    pub(crate) fn set_timer(&mut self, key: (u64, u64), waker: Waker) -> Option<Waker> {
        self.timers.insert(key, waker)
    }

    pub(crate) fn remove_timer(&mut self, key: (u64, u64)) -> Option<Waker> {
        self.timers.remove(&key)
    }

    /// All tasks and timers, to be dropped outside the lock.
    pub(crate) fn take_all(&mut self) -> (Vec<Body>, BTreeMap<(u64, u64), Waker>) {
        let tasks = core::mem::take(&mut self.tasks);
        (tasks.into_values().filter_map(|slot| slot.body).collect(), core::mem::take(&mut self.timers))
    }

    /// Everything that has not ended.
    pub(crate) fn pending(&self) -> Vec<Pending> {
        self.slots().map(|(task, slot)| slot.describe(*task)).collect()
    }

    pub(crate) fn deadlock(&self) -> Stuck {
        Stuck::Deadlock { seed: self.config.seed, now_us: self.now_us, pending: self.pending() }
    }

    fn livelock(&self) -> Stuck {
        let mut slots: Vec<_> = self.slots().collect();
        slots.sort_by_key(|(_, slot)| core::cmp::Reverse(slot.polled_in_step));
        Stuck::Livelock {
            seed: self.config.seed,
            now_us: self.now_us,
            steps: self.config.steps_max,
            pending: slots.into_iter().map(|(task, slot)| slot.describe(*task)).collect(),
        }
    }

    fn slots(&self) -> impl Iterator<Item = (&u64, &Slot)> {
        self.tasks.iter()
    }
}

impl Slot {
    fn describe(&self, task: u64) -> Pending {
        Pending {
            task,
            name: self.name.clone(),
            polls: self.polls,
            polled_at_us: self.polled_at_us,
            waits: self.waits.clone(),
        }
    }
}
