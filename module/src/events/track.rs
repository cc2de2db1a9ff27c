//! Where a stream of events is: what was delivered, what is missing, what came twice.

use std::collections::BTreeMap;

/// What to do with an event that arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It is the next one.
    Deliver,
    /// It is the next one, and its PREV shows that events of its topic in this range were missed [V-5].
    DeliverAfterGap { first: u64, last: u64 },
    /// It, or something later, was delivered before: a subscription that was changed or resumed overlaps the one before.
    Stale,
}

/// The place in the host's log.
///
/// Positions are delivered in rising order whatever the topic, so one number says where to resume. Positions are 0 in the
/// plain profile, where nothing can be told but that an event came.
#[derive(Debug, Default)]
pub(crate) struct Track {
    next: u64,
    /// For each topic the first position of which an event is still to come. A topic that is absent has not begun: its
    /// first event tells.
    from: BTreeMap<u8, u64>,
}

impl Track {
    /// Every event of these topics at `first` and later is owed to us, unless an earlier promise reaches further.
    pub(crate) fn subscribed(&mut self, topics: impl IntoIterator<Item = u8>, first: u64) {
        let kept = std::mem::take(&mut self.from);
        self.from =
            topics.into_iter().map(|topic| (topic, kept.get(&topic).copied().unwrap_or(first))).collect();
        if self.next == 0 {
            self.next = first;
        }
    }

    /// These topics are no longer owed.
    pub(crate) fn unsubscribed(&mut self, keep: impl Fn(u8) -> bool) {
        self.from.retain(|topic, _| keep(*topic));
    }

    /// The position to resume from: everything before it was delivered or reported as missing; 0 if none is known.
    pub(crate) fn cursor(&self) -> u64 {
        self.next
    }

    /// An event came.
    pub(crate) fn event(&mut self, topic: u8, position: u64, prev: u64) -> Verdict {
        if position == 0 {
            return Verdict::Deliver;
        }
        let from = self.from.insert(topic, position.saturating_add(1).max(self.owed(topic)));
        if position < self.next {
            return Verdict::Stale;
        }
        self.next = position.saturating_add(1);
        match from {
            Some(first) if prev >= first => Verdict::DeliverAfterGap { first, last: prev },
            Some(_) | None => Verdict::Deliver,
        }
    }

    /// Events from `first` to `last` are missing. Whether this is news.
    pub(crate) fn lagged(&mut self, last: u64) -> bool {
        if last == 0 {
            return true;
        }
        let next = last.saturating_add(1);
        if next <= self.next {
            return false;
        }
        self.next = next;
        for from in self.from.values_mut() {
            *from = next.max(*from);
        }
        true
    }

    fn owed(&self, topic: u8) -> u64 {
        self.from.get(&topic).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(topics: &[u8], first: u64) -> Track {
        let mut track = Track::default();
        track.subscribed(topics.iter().copied(), first);
        track
    }

    #[test]
    fn an_unbroken_chain_has_no_gap() {
        let mut track = track(&[1, 2], 10);
        assert_eq!(track.cursor(), 10);
        // The topic's previous event lies before the subscription.
        assert_eq!(track.event(1, 10, 4), Verdict::Deliver);
        assert_eq!(track.event(2, 11, 0), Verdict::Deliver);
        assert_eq!(track.event(1, 14, 10), Verdict::Deliver);
        assert_eq!(track.cursor(), 15);
    }

    #[test]
    fn a_gap_is_seen_per_topic_and_reported_once() {
        let mut track = track(&[1, 2], 1);
        assert_eq!(track.event(1, 1, 0), Verdict::Deliver);
        assert_eq!(track.event(1, 9, 7), Verdict::DeliverAfterGap { first: 2, last: 7 });
        assert_eq!(track.event(1, 10, 9), Verdict::Deliver);
        // Topic 2 has a gap of its own: 5 was never seen.
        assert_eq!(track.event(2, 11, 5), Verdict::DeliverAfterGap { first: 1, last: 5 });
    }

    #[test]
    fn what_was_announced_is_no_second_gap() {
        let mut track = track(&[1], 1);
        assert!(track.lagged(6));
        assert_eq!(track.cursor(), 7);
        assert_eq!(track.event(1, 8, 6), Verdict::Deliver);
        assert!(!track.lagged(6), "old news");
        assert_eq!(track.event(1, 12, 11), Verdict::DeliverAfterGap { first: 9, last: 11 });
    }

    #[test]
    fn what_is_sent_again_is_delivered_once_and_makes_no_gap() {
        let mut track = track(&[1], 5);
        assert_eq!(track.event(1, 6, 2), Verdict::Deliver);
        assert_eq!(track.event(1, 8, 6), Verdict::Deliver);
        track.subscribed([1, 2], 7);
        // The host begins again at 7.
        assert_eq!(track.event(2, 7, 0), Verdict::Stale);
        assert_eq!(track.event(1, 8, 6), Verdict::Stale);
        assert_eq!(track.event(2, 9, 7), Verdict::Deliver);
        assert_eq!(track.event(1, 10, 8), Verdict::Deliver);
        assert_eq!(track.cursor(), 11);
    }

    #[test]
    fn a_removed_topic_is_owed_nothing_when_it_comes_back() {
        let mut track = track(&[1, 2], 1);
        assert_eq!(track.event(1, 1, 0), Verdict::Deliver);
        track.unsubscribed(|topic| topic == 2);
        track.subscribed([1, 2], 20);
        assert_eq!(track.event(1, 21, 15), Verdict::Deliver);
        assert_eq!(track.event(2, 22, 15), Verdict::DeliverAfterGap { first: 1, last: 15 });
    }

    #[test]
    fn the_plain_profile_has_no_positions() {
        let mut track = track(&[1], 0);
        for _ in 0..3 {
            assert_eq!(track.event(1, 0, 0), Verdict::Deliver);
        }
        assert!(track.lagged(0));
        assert_eq!(track.cursor(), 0);
    }

    #[test]
    fn positions_at_the_end_of_the_range_do_not_overflow() {
        let mut track = track(&[1], 1);
        assert_eq!(track.event(1, u64::MAX, u64::MAX), Verdict::DeliverAfterGap { first: 1, last: u64::MAX });
        assert!(!track.lagged(u64::MAX));
    }
}
