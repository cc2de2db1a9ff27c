//! Recorded steps: one line for each decision of the machine (docs/TRACE.md).

use alloc::collections::VecDeque;
use core::fmt;

use crate::machine::Transition;

/// One step of the machine: what came or was wanted, and what became of it.
///
/// Its `Display` is the body of a line in the trace format: `> 0 id=4 len=44 Call Active Active`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Step {
    /// When, in microseconds of the connection's time.
    pub now: u64,
    /// What it was about.
    pub cause: Cause,
    /// The id in the frame or of the call, else 0.
    pub id: u64,
    /// Payload bytes of the frame as far as they are known, else 0.
    pub len: u64,
    /// What the machine made of it.
    pub transition: Transition,
}

/// What a step was about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cause {
    /// A frame of this kind came from the peer.
    Received(u8),
    /// A frame of this kind was commanded.
    Sent(u8),
    /// The stream ended, failed, or what came was no frame.
    Stream,
    /// Time passed.
    Time,
    /// Our side ended, or draining did.
    Local,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            Cause::Received(kind) => write!(f, "< {kind}")?,
            Cause::Sent(kind) => write!(f, "> {kind}")?,
            Cause::Stream => f.write_str("< -")?,
            Cause::Time => f.write_str("@ -")?,
            Cause::Local => f.write_str("! -")?,
        }
        let Transition { class, from, to, .. } = self.transition;
        write!(f, " id={} len={} {} {from:?} {to:?}", self.id, self.len, class.name())
    }
}

/// The last steps, if they are recorded at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steps {
    steps: VecDeque<Step>,
    max: usize,
}

impl Steps {
    pub(crate) fn start(&mut self, max: usize) {
        self.max = max;
    }

    pub(crate) fn push(&mut self, step: impl FnOnce() -> Step) {
        if self.max == 0 {
            return;
        }
        if self.steps.len() == self.max {
            self.steps.pop_front();
        }
        self.steps.push_back(step());
    }

    pub(crate) fn pop(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }
}
