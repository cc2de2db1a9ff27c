//! Where calls wait when the host's window is full [C-3], so that a module may have any number of calls and the wire at most
//! what the host allows.

use std::sync::atomic::{AtomicUsize, Ordering};

use event_listener::{Event, EventListener};

/// The queue in front of the window.
///
/// A waiter listens *before* it tries, and whoever succeeds wakes the next, so no room is left unused while somebody waits.
#[derive(Debug, Default)]
pub(crate) struct Room {
    waiting: AtomicUsize,
    freed: Event,
}

impl Room {
    /// Does anybody wait? Whoever comes now gets in line instead of overtaking.
    ///
    /// `Relaxed` is enough: a waiter counts itself before it fails to issue its call under the link's lock, and whoever frees
    /// room has learnt of it under the same lock, so it sees the count.
    pub(crate) fn is_crowded(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Gets in line.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting { room: self }
    }

    /// There may be room now.
    pub(crate) fn freed(&self) {
        if self.is_crowded() {
            // Additional to those who were woken and have not come yet: whoever keeps a reply and never polls it blocks nobody.
            self.freed.notify_additional(1);
        }
    }

    /// Nobody shall wait any longer: the connection has ended.
    pub(crate) fn all_out(&self) {
        self.freed.notify(usize::MAX);
    }
}

/// A place in line.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    room: &'a Room,
}

impl Waiting<'_> {
    /// The next sign that there may be room. Listen, then try, then wait.
    pub(crate) fn listen(&self) -> EventListener {
        self.room.freed.listen()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.room.waiting.fetch_sub(1, Ordering::Relaxed);
        self.room.freed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn one_sign_wakes_one_and_leaving_wakes_the_next() {
        let room = Room::default();
        assert!(!room.is_crowded());
        let (first, second) = (room.wait(), room.wait());
        let (mut one, mut two) = (first.listen(), second.listen());
        room.freed();
        assert!((&mut one).now_or_never().is_some() && (&mut two).now_or_never().is_none());
        drop(first);
        assert!((&mut two).now_or_never().is_some());
        drop(second);
        assert!(!room.is_crowded());
    }

    #[test]
    fn a_sign_is_not_lost_with_the_one_who_got_it() {
        let room = Room::default();
        let (first, second) = (room.wait(), room.wait());
        let (one, mut two) = (first.listen(), second.listen());
        room.freed();
        drop((one, first));
        assert!((&mut two).now_or_never().is_some());
        drop(second);
    }
}
