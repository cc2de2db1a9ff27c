//! The last part of a module's life, as a machine without IO: who asked it to go, what is tried next, and when.

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// The module is to be stopped, for this reason [G-2].
    Stop(u32),
    /// Its connection ended.
    Disconnected,
    /// Its process ended.
    Exited,
    /// The time of [`Supervision::deadline`] has come. Too early is harmless.
    Time,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Say Goodbye, for this reason.
    Goodbye(u32),
    /// Ask the process to end.
    Terminate,
    /// End the process and all that it has started.
    Kill,
    /// Drop the connection.
    Disconnect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It works.
    Running,
    /// Goodbye was said, or the connection is gone: it is expected to end by itself.
    Leaving { until: u64 },
    /// It was asked to end.
    Terminating { until: u64 },
    /// It was ended.
    Killing { until: u64 },
    /// The process ended; what it sent last is still being read.
    Reading { until: u64 },
    /// Nothing is left to do.
    Over,
}

/// The machine. `now` is in microseconds and never decreases.
#[derive(Clone, Debug)]
pub struct Supervision {
    grace_us: u64,
    connected: bool,
    state: State,
}

impl Supervision {
    /// A module that runs. Each step of stopping it may take `grace_us` microseconds.
    pub fn new(grace_us: u64) -> Self {
        Supervision { grace_us, connected: true, state: State::Running }
    }

    /// Something happened: what is to be done?
    pub fn handle(&mut self, now: u64, happened: Happened) -> Option<Step> {
        match happened {
            Happened::Stop(reason) => self.stop(now, reason),
            Happened::Disconnected => self.disconnected(now),
            Happened::Exited => self.exited(now),
            Happened::Time => self.time(now),
        }
    }

    /// When [`Happened::Time`] is to be said.
    pub fn deadline(&self) -> Option<u64> {
        match self.state {
            State::Running | State::Over => None,
            State::Leaving { until }
            | State::Terminating { until }
            | State::Killing { until }
            | State::Reading { until } => Some(until),
        }
    }

    /// Whether nothing is left to do.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    fn stop(&mut self, now: u64, reason: u32) -> Option<Step> {
        if self.state != State::Running {
            return None;
        }
        self.state = State::Leaving { until: self.until(now) };
        Some(Step::Goodbye(reason))
    }

    /// Its connection is its identity: without it the module has nothing left to do, and no second one is given to it.
    fn disconnected(&mut self, now: u64) -> Option<Step> {
        self.connected = false;
        match self.state {
            State::Running => self.state = State::Leaving { until: self.until(now) },
            State::Reading { .. } => self.state = State::Over,
            State::Leaving { .. } | State::Terminating { .. } | State::Killing { .. } | State::Over => {}
        }
        None
    }

    fn exited(&mut self, now: u64) -> Option<Step> {
        self.state = if self.connected { State::Reading { until: self.until(now) } } else { State::Over };
        None
    }

    fn time(&mut self, now: u64) -> Option<Step> {
        if self.deadline().is_none_or(|until| now < until) {
            return None;
        }
        let until = self.until(now);
        match self.state {
            State::Running | State::Over => None,
            State::Leaving { .. } => {
                self.state = State::Terminating { until };
                Some(Step::Terminate)
            }
            State::Terminating { .. } => {
                self.state = State::Killing { until };
                Some(Step::Kill)
            }
            // A process that even the kernel cannot end is not waited for; nor is a connection that somebody else holds open.
            State::Killing { .. } | State::Reading { .. } => {
                self.state = State::Over;
                self.connected.then_some(Step::Disconnect)
            }
        }
    }

    fn until(&self, now: u64) -> u64 {
        now.saturating_add(self.grace_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: u64 = 10;

    #[test]
    fn a_module_that_obeys_is_told_once() {
        let mut machine = Supervision::new(GRACE);
        assert_eq!(machine.deadline(), None);
        assert_eq!(machine.handle(5, Happened::Stop(1)), Some(Step::Goodbye(1)));
        assert_eq!(machine.handle(5, Happened::Stop(2)), None, "the first reason holds");
        assert_eq!(machine.handle(6, Happened::Disconnected), None);
        assert!(!machine.is_over(), "its process is still there");
        assert_eq!(machine.handle(7, Happened::Exited), None);
        assert!(machine.is_over());
    }

    #[test]
    fn a_module_that_does_not_obey_is_asked_then_ended_then_given_up() {
        let mut machine = Supervision::new(GRACE);
        machine.handle(0, Happened::Stop(1));
        let mut steps = Vec::new();
        for now in 0..100 {
            if let Some(step) = machine.handle(now, Happened::Time) {
                steps.push((now, step));
            }
        }
        assert_eq!(steps, [(10, Step::Terminate), (20, Step::Kill), (30, Step::Disconnect)]);
        assert!(machine.is_over());
    }

    #[test]
    fn a_process_without_its_connection_has_to_go() {
        let mut machine = Supervision::new(GRACE);
        assert_eq!(machine.handle(0, Happened::Disconnected), None);
        assert_eq!(machine.handle(10, Happened::Time), Some(Step::Terminate));
        assert_eq!(machine.handle(11, Happened::Exited), None);
        assert!(machine.is_over());
    }

    #[test]
    fn what_a_module_sent_last_is_read_after_its_end_but_not_for_ever() {
        let mut machine = Supervision::new(GRACE);
        machine.handle(0, Happened::Exited);
        let mut read = machine.clone();
        read.handle(1, Happened::Disconnected);
        assert!(read.is_over());
        assert_eq!(machine.handle(10, Happened::Time), Some(Step::Disconnect));
        assert!(machine.is_over());
    }

    #[test]
    fn from_everywhere_it_comes_to_an_end() {
        use Happened::{Disconnected, Exited, Stop, Time};
        for first in [Stop(1), Disconnected, Exited, Time] {
            for second in [Stop(1), Disconnected, Exited, Time] {
                let mut machine = Supervision::new(GRACE);
                machine.handle(0, first);
                machine.handle(1, second);
                machine.handle(2, Stop(1));
                for _ in 0..4 {
                    if let Some(until) = machine.deadline() {
                        machine.handle(until, Time);
                    }
                }
                assert!(machine.is_over(), "{first:?} {second:?} {machine:?}");
                assert_eq!(machine.deadline(), None);
            }
        }
    }
}
