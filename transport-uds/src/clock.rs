//! The one clock of this process: microseconds since it was first asked.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// The time now. All runtimes of a process share the epoch, so that their times may be compared.
pub(crate) fn now_us() -> u64 {
    let epoch = epoch();
    // 584,000 years fit.
    u64::try_from(Instant::now().saturating_duration_since(epoch).as_micros()).unwrap_or(u64::MAX)
}

/// The instant of a time, unless it is so far away that the system cannot name it.
pub(crate) fn instant(at_us: u64) -> Option<Instant> {
    epoch().checked_add(Duration::from_micros(at_us))
}

/// A random number from the system.
pub(crate) fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // Without the system call, the standard library's hash keys come from wherever the system has randomness.
    getrandom::u64().unwrap_or_else(|_| RandomState::new().hash_one(now_us()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_time_does_not_overflow() {
        // Whether the system can name it or not: asking must not panic.
        let _ = instant(u64::MAX);
        let now = now_us();
        assert!(instant(now).is_some_and(|at| at <= Instant::now()));
    }
}
