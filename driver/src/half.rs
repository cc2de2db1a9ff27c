//! The token rule: who uses a half of the transport takes it out of the cell, unlocks, uses it, and puts it back.

/// One half of the transport, or the note that somebody has it.
///
/// `ready` says that using it may get somewhere. It is cleared when the half is taken and set by the transport's wake, so a
/// wake that comes while the half is out is the mark "again": it is found when the half comes back. This is why no wake is
/// lost: a half that is home and not ready was polled, and answered "pending", after the last wake.
#[derive(Debug)]
pub(crate) struct Half<T> {
    place: Place<T>,
    ready: bool,
}

#[derive(Debug)]
enum Place<T> {
    Home(T),
    Out,
    Gone,
}

/// How the use of a half ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Used {
    /// The transport answered "pending" and will wake.
    Pending,
    /// It did not: there may be more, and nobody will be woken for it.
    Ready,
}

impl<T> Half<T> {
    /// A half that was never polled, so it may be ready.
    pub(crate) fn new(half: T) -> Self {
        Half { place: Place::Home(half), ready: true }
    }

    /// What is at home.
    pub(crate) fn home(&self) -> Option<&T> {
        match &self.place {
            Place::Home(half) => Some(half),
            Place::Out | Place::Gone => None,
        }
    }

    /// Whether somebody should use it now.
    pub(crate) fn is_due(&self) -> bool {
        self.ready && self.home().is_some()
    }

    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.place, Place::Gone)
    }

    /// Takes it if it is home and ready.
    pub(crate) fn take_due(&mut self) -> Option<T> {
        if !self.is_due() {
            return None;
        }
        self.ready = false;
        match core::mem::replace(&mut self.place, Place::Out) {
            Place::Home(half) => Some(half),
            Place::Out | Place::Gone => None,
        }
    }

    /// Puts it back. If the half was removed meanwhile it is returned, to be dropped without the lock.
    #[must_use]
    pub(crate) fn put_back(&mut self, half: T, used: Used) -> Option<T> {
        if self.is_gone() {
            return Some(half);
        }
        self.ready |= used == Used::Ready;
        self.place = Place::Home(half);
        None
    }

    /// The transport woke, or there is another reason to try.
    pub(crate) fn mark_ready(&mut self) {
        self.ready = true;
    }

    /// Ends its use for good. What was home is returned, to be dropped without the lock; what is out follows in
    /// [`Half::put_back`].
    #[must_use]
    pub(crate) fn remove(&mut self) -> Option<T> {
        match core::mem::replace(&mut self.place, Place::Gone) {
            Place::Home(half) => Some(half),
            Place::Out | Place::Gone => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_while_the_half_is_out_is_found_when_it_comes_back() {
        let mut half = Half::new('h');
        assert_eq!(half.take_due(), Some('h'));
        assert_eq!(half.take_due(), None, "it is out");
        half.mark_ready();
        assert!(!half.is_due(), "it is still out");
        assert_eq!(half.put_back('h', Used::Pending), None);
        assert!(half.is_due(), "the wake came after the pending poll began: look again");
    }

    #[test]
    fn a_pending_half_waits_for_a_wake() {
        let mut half = Half::new('h');
        let taken = half.take_due().unwrap();
        assert_eq!(half.put_back(taken, Used::Pending), None);
        assert!(!half.is_due());
        half.mark_ready();
        assert!(half.is_due());
    }

    #[test]
    fn a_half_that_was_not_polled_to_pending_is_due_again() {
        let mut half = Half::new('h');
        let taken = half.take_due().unwrap();
        assert_eq!(half.put_back(taken, Used::Ready), None);
        assert!(half.is_due());
    }

    #[test]
    fn a_removed_half_never_comes_back() {
        let mut home = Half::new('h');
        assert_eq!(home.remove(), Some('h'));
        assert!(home.is_gone() && home.take_due().is_none());

        let mut out = Half::new('o');
        let taken = out.take_due().unwrap();
        assert_eq!(out.remove(), None);
        assert_eq!(out.put_back(taken, Used::Ready), Some('o'));
        assert!(out.is_gone());
    }
}
