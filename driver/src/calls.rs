//! Who waits for which call.

use core::task::Waker;

use modipc_core::Outcome;
use slab::Slab;

/// The calls of ours that somebody waits for, by the key that the connection carries for each.
///
/// A key is the slot's index with a number that makes it unique for as long as 2³² calls: slots are used again, keys are not,
/// so a late [`modipc_core::Event::Progress`] is never taken for another call's.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    slots: Slab<Slot>,
    next: u32,
}

#[derive(Debug)]
struct Slot {
    key: u64,
    waiter: Waiter,
}

#[derive(Debug)]
enum Waiter {
    /// The outcome is not there. No waker: the caller was not polled yet, or it runs right now.
    Waiting(Option<Waker>),
    /// The caller has not fetched the outcome yet.
    Done(Outcome),
    /// The caller is gone; the outcome will free the slot.
    Dropped,
}

/// What a dropped call needs.
#[derive(Debug)]
pub(crate) enum Left {
    /// Nothing: the outcome was there.
    Over(Outcome),
    /// It is to be cancelled. The waker is to be dropped without the lock.
    Open(Option<Waker>),
}

impl Calls {
    pub(crate) fn insert(&mut self) -> u64 {
        let entry = self.slots.vacant_entry();
        self.next = self.next.wrapping_add(1);
        let key = u64::from(self.next) << 32 | (entry.key() as u64 & INDEX);
        entry.insert(Slot { key, waiter: Waiter::Waiting(None) });
        key
    }

    /// Takes back a key that no call got.
    pub(crate) fn remove(&mut self, key: u64) {
        if self.slot(key).is_some() {
            self.slots.remove(index(key));
        }
    }

    /// The call's outcome has come. Returns whom to wake.
    pub(crate) fn finish(&mut self, key: u64, outcome: Outcome) -> Option<Waker> {
        let slot = self.slot(key)?;
        match core::mem::replace(&mut slot.waiter, Waiter::Done(outcome)) {
            Waiter::Waiting(waker) => waker,
            Waiter::Dropped => {
                self.remove(key);
                None
            }
            // The connection gives one outcome for each call; a second one could only replace the first.
            Waiter::Done(_) => None,
        }
    }

    /// The outcome, if it is there; this frees the slot.
    pub(crate) fn take_outcome(&mut self, key: u64) -> Option<Outcome> {
        if !matches!(self.slot(key)?.waiter, Waiter::Done(_)) {
            return None;
        }
        match self.slots.remove(index(key)).waiter {
            Waiter::Done(outcome) => Some(outcome),
            Waiter::Waiting(_) | Waiter::Dropped => None,
        }
    }

    /// The caller waits. Its last waker counts; the one that it replaces is returned, to be dropped without the lock.
    #[must_use]
    pub(crate) fn wait(&mut self, key: u64, waker: &Waker) -> Option<Waker> {
        match &mut self.slot(key)?.waiter {
            Waiter::Waiting(Some(old)) if old.will_wake(waker) => None,
            Waiter::Waiting(slot) => slot.replace(waker.clone()),
            Waiter::Done(_) | Waiter::Dropped => None,
        }
    }

    /// The waker of a caller that waits.
    #[must_use]
    pub(crate) fn take_waker(&mut self, key: u64) -> Option<Waker> {
        match &mut self.slot(key)?.waiter {
            Waiter::Waiting(waker) => waker.take(),
            Waiter::Done(_) | Waiter::Dropped => None,
        }
    }

    /// The caller went away.
    pub(crate) fn leave(&mut self, key: u64) -> Option<Left> {
        if let Some(outcome) = self.take_outcome(key) {
            return Some(Left::Over(outcome));
        }
        match core::mem::replace(&mut self.slot(key)?.waiter, Waiter::Dropped) {
            Waiter::Waiting(waker) => Some(Left::Open(waker)),
            Waiter::Done(_) | Waiter::Dropped => None,
        }
    }

    /// Slots in use.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    fn slot(&mut self, key: u64) -> Option<&mut Slot> {
        self.slots.get_mut(index(key)).filter(|slot| slot.key == key)
    }
}

/// The bits of a key that are the slot's index. Far fewer than 2³² calls fit through any peer's limit.
const INDEX: u64 = u32::MAX as u64;

fn index(key: u64) -> usize {
    (key & INDEX) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_used_again_and_keys_are_not() {
        let mut calls = Calls::default();
        let first = calls.insert();
        assert!(calls.finish(first, Outcome::Cancelled).is_none(), "nobody waited");
        assert!(matches!(calls.take_outcome(first), Some(Outcome::Cancelled)));
        let second = calls.insert();
        assert_eq!(index(first), index(second));
        assert_ne!(first, second);
        assert!(calls.finish(first, Outcome::DeadlineExceeded).is_none());
        assert!(calls.take_outcome(second).is_none(), "an old key reaches no new call");
    }

    #[test]
    fn the_last_waker_counts() {
        let mut calls = Calls::default();
        let key = calls.insert();
        let (a, b) = (Waker::from(counter()), Waker::from(counter()));
        assert!(calls.wait(key, &a).is_none());
        assert!(calls.wait(key, &a).is_none(), "the same waker is kept");
        assert!(calls.wait(key, &b).is_some_and(|old| old.will_wake(&a)));
        assert!(calls.finish(key, Outcome::Cancelled).is_some_and(|waker| waker.will_wake(&b)));
    }

    #[test]
    fn a_call_that_was_left_frees_its_slot_with_its_outcome() {
        let mut calls = Calls::default();
        let key = calls.insert();
        assert!(matches!(calls.leave(key), Some(Left::Open(None))));
        assert_eq!(calls.len(), 1);
        assert!(calls.finish(key, Outcome::Cancelled).is_none());
        assert_eq!(calls.len(), 0);

        let key = calls.insert();
        assert!(calls.finish(key, Outcome::Cancelled).is_none());
        assert!(matches!(calls.leave(key), Some(Left::Over(Outcome::Cancelled))));
        assert_eq!(calls.len(), 0);
    }

    struct Counter;
    impl std::task::Wake for Counter {
        fn wake(self: crate::sync::Arc<Self>) {}
    }
    fn counter() -> crate::sync::Arc<Counter> {
        crate::sync::Arc::new(Counter)
    }
}
