//! What is said about a run that does not come to its end.

use core::fmt;

use crate::faults::Side;

/// Why a run stopped before its end. The message has the seed: it is what a bug report needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stuck {
    /// Nothing can run and no timer is set, so nothing will ever happen again.
    #[error("deadlock at {now_us} us (seed {seed}): nothing can run and no timer is set{}", List(pending))]
    Deadlock {
        /// The run's seed.
        seed: u64,
        /// The virtual time.
        now_us: u64,
        /// Everything that waits, and for what.
        pending: Vec<Pending>,
    },
    /// The budget of steps is used up.
    #[error(
        "no end after {steps} steps, at {now_us} us (seed {seed}): a livelock, or SimConfig::steps_max is too \
         small{}",
        List(pending)
    )]
    Livelock {
        /// The run's seed.
        seed: u64,
        /// The virtual time.
        now_us: u64,
        /// The steps that were made.
        steps: u64,
        /// Everything that has not ended; who ran last comes first.
        pending: Vec<Pending>,
    },
}

/// A task that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its number, in the order in which tasks were spawned; 0 is the future of `run_until`.
    pub task: u64,
    /// Its name, if it was spawned with one.
    pub name: Option<String>,
    /// How often it was polled.
    pub polls: u64,
    /// The virtual time at which it was polled last.
    pub polled_at_us: u64,
    /// What it was told to wait for when it was polled last, as far as that was something of this crate.
    pub waits: Vec<Wait>,
}

/// What a task waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Bytes to read.
    Read {
        /// The link's number, in the order in which links were made.
        link: u64,
        /// The side that reads.
        side: Side,
    },
    /// Room to write.
    Write {
        /// The link's number.
        link: u64,
        /// The side that writes.
        side: Side,
    },
    /// A time.
    Sleep {
        /// The virtual time.
        at_us: u64,
    },
    /// Somebody who connects.
    Accept {
        /// The listener's name.
        name: String,
    },
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { link, side } => write!(f, "bytes on the {side:?} side of link {link}"),
            Self::Write { link, side } => write!(f, "room on the {side:?} side of link {link}"),
            Self::Sleep { at_us } => write!(f, "{at_us} us"),
            Self::Accept { name } => write!(f, "somebody who connects to {name:?}"),
        }
    }
}

impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {}", self.task)?;
        match &self.name {
            Some(name) => write!(f, " ({name})")?,
            None if self.task == 0 => write!(f, " (run_until)")?,
            None => {}
        }
        write!(f, ", polled {} times, last at {} us", self.polls, self.polled_at_us)?;
        for (index, wait) in self.waits.iter().enumerate() {
            write!(f, "{}{wait}", if index == 0 { ", waits for " } else { " or " })?;
        }
        Ok(())
    }
}

/// The tasks of a message; a run of a thousand modules must not drown the first lines.
struct List<'a>(&'a [Pending]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 16;
        for pending in self.0.iter().take(SHOWN) {
            write!(f, "\n  {pending}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}
