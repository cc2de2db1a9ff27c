//! The host's event log: a bounded ring of encoded events with global positions, read through cursors (PROTOCOL.md, section 6).

use alloc::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::limits::EVENT_BYTES_MAX;

/// What happens to a subscription when events that it covers are about to be overwritten (PROTOCOL.md [V-4]).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum Overflow {
    /// It loses them and is told exactly which.
    #[default]
    Lag = 0,
    /// The publisher waits for it.
    Wait = 1,
    /// Its connection ends.
    Disconnect = 2,
}

impl Overflow {
    /// The policy with this number on the wire.
    #[must_use]
    pub fn from_u8(n: u8) -> Option<Overflow> {
        match n {
            0 => Some(Overflow::Lag),
            1 => Some(Overflow::Wait),
            2 => Some(Overflow::Disconnect),
            _ => None,
        }
    }
}

/// A reader that the log waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HoldId(u64);

/// What became of an event that was to be appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Append {
    /// It has this position.
    At(u64),
    /// This reader, whose policy is [`Overflow::Wait`], has not read the event that would be overwritten. Nothing changed.
    Full(HoldId),
    /// The body is longer than [`EVENT_BYTES_MAX`]. Nothing changed.
    TooLong,
}

#[derive(Clone, Debug)]
struct Entry {
    topic: u8,
    prev: u64,
    body: Bytes,
}

/// A bounded log of events: at most so many, and at most so many bytes of bodies.
#[derive(Clone, Debug)]
pub struct EventLog {
    entries: VecDeque<Entry>,
    first: u64,
    bytes: usize,
    events_max: usize,
    bytes_max: usize,
    latest: [u64; 256],
    overwritten: [u64; 256],
    holds: BTreeMap<HoldId, u64>,
    next_hold: u64,
}

impl EventLog {
    /// An empty log that keeps up to `events_max` events (at least 1) and `bytes_max` bytes of bodies; one event is kept however
    /// long it is.
    #[must_use]
    pub fn new(events_max: usize, bytes_max: usize) -> Self {
        EventLog {
            entries: VecDeque::new(),
            first: 1,
            bytes: 0,
            events_max: events_max.max(1),
            bytes_max,
            latest: [0; 256],
            overwritten: [0; 256],
            holds: BTreeMap::new(),
            next_hold: 0,
        }
    }

    /// Appends an event, overwriting the oldest ones if the log is full and no reader holds them.
    pub fn append(&mut self, topic: u8, body: Bytes) -> Append {
        if body.len() > EVENT_BYTES_MAX {
            return Append::TooLong;
        }
        let mut evicted = 0;
        let mut bytes = self.bytes + body.len();
        while self.entries.len() - evicted >= self.events_max
            || (bytes > self.bytes_max && evicted < self.entries.len())
        {
            bytes -= self.entries.get(evicted).map_or(0, |entry| entry.body.len());
            evicted += 1;
        }
        let keep_from = self.first + evicted as u64;
        if evicted > 0
            && let Some((hold, _)) =
                self.holds.iter().find(|(_, cursor)| **cursor < keep_from.min(self.next()))
        {
            return Append::Full(*hold);
        }
        for _ in 0..evicted {
            if let Some(entry) = self.entries.pop_front() {
                self.overwritten[usize::from(entry.topic)] = self.first;
                self.first += 1;
            }
        }
        let position = self.next();
        let prev = core::mem::replace(&mut self.latest[usize::from(topic)], position);
        self.bytes = bytes;
        self.entries.push_back(Entry { topic, prev, body });
        Append::At(position)
    }

    /// The position that the next event will have.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The oldest position that is kept; [`EventLog::next`] if none is.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The last position of a topic of `topics` in `cursor..first` that was overwritten, if there is one.
    pub(crate) fn lost(&self, cursor: u64, topics: &crate::TopicSet) -> Option<u64> {
        if cursor >= self.first {
            return None;
        }
        let last = topics.iter().map(|topic| self.overwritten[usize::from(topic)]).max().unwrap_or(0);
        (last >= cursor).then_some(last)
    }

    /// The event at a position: topic, position of the previous event of the topic, body.
    pub(crate) fn get(&self, position: u64) -> Option<(u8, u64, &Bytes)> {
        let at = usize::try_from(position.checked_sub(self.first)?).ok()?;
        self.entries.get(at).map(|entry| (entry.topic, entry.prev, &entry.body))
    }

    /// Registers a reader for which [`EventLog::append`] waits.
    pub(crate) fn hold(&mut self, cursor: u64) -> HoldId {
        let id = HoldId(self.next_hold);
        self.next_hold += 1;
        self.holds.insert(id, cursor);
        id
    }

    /// Moves a reader's cursor on.
    pub(crate) fn advance(&mut self, hold: HoldId, cursor: u64) {
        if let Some(held) = self.holds.get_mut(&hold) {
            *held = cursor;
        }
    }

    /// Ends a hold, so that the log no longer waits for its reader. The reader then lags like any other. A publisher that
    /// waited too long for a reader, and a server whose connection ended, call this.
    pub fn release(&mut self, hold: HoldId) {
        self.holds.remove(&hold);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TopicSet;

    fn body(n: usize) -> Bytes {
        Bytes::from(alloc::vec![0; n])
    }

    #[test]
    fn positions_rise_and_prev_names_the_previous_of_the_topic() {
        let mut log = EventLog::new(8, 1 << 20);
        for topic in [3, 4, 3] {
            log.append(topic, body(1));
        }
        assert_eq!(log.get(3).map(|(t, prev, _)| (t, prev)), Some((3, 1)));
        assert_eq!(log.get(2).map(|(t, prev, _)| (t, prev)), Some((4, 0)));
        assert_eq!((log.first(), log.next(), log.get(4), log.get(0)), (1, 4, None, None));
    }

    #[test]
    fn what_is_lost_is_exact_per_topic() {
        let mut log = EventLog::new(2, 1 << 20);
        for topic in [1, 2, 1, 2, 2] {
            log.append(topic, body(1));
        }
        let one: TopicSet = [1].into_iter().collect();
        let two: TopicSet = [2].into_iter().collect();
        let nine: TopicSet = [9].into_iter().collect();
        assert_eq!((log.lost(1, &one), log.lost(1, &two)), (Some(3), Some(2)));
        assert_eq!((log.lost(3, &two), log.lost(1, &nine), log.lost(4, &one)), (None, None, None));
    }

    #[test]
    fn bytes_bound_the_log_as_events_do_and_one_event_always_fits() {
        let mut log = EventLog::new(100, 10);
        for _ in 0..5 {
            log.append(0, body(4));
        }
        assert_eq!((log.first(), log.next(), log.bytes), (4, 6, 8));
        log.append(0, body(50));
        assert_eq!((log.first(), log.next(), log.bytes), (6, 7, 50));
    }

    #[test]
    fn a_hold_stops_the_publisher_until_it_advances_or_is_released() {
        let mut log = EventLog::new(2, 1 << 20);
        let hold = log.hold(1);
        log.append(0, body(1));
        log.append(0, body(1));
        assert_eq!(log.append(0, body(1)), Append::Full(hold));
        log.advance(hold, 2);
        assert_eq!(log.append(0, body(1)), Append::At(3));
        assert_eq!(log.append(0, body(1)), Append::Full(hold));
        log.release(hold);
        assert_eq!(log.append(0, body(1)), Append::At(4));
    }

    #[test]
    fn a_hold_on_what_is_gone_already_stops_nobody_where_there_is_room() {
        let mut log = EventLog::new(2, 1 << 20);
        for _ in 0..3 {
            log.append(0, body(1));
        }
        assert_eq!((log.first(), log.next()), (2, 4));
        let hold = log.hold(1);
        assert_eq!(log.append(0, body(1)), Append::Full(hold), "2 is still there for it");
        log.advance(hold, 4);
        assert_eq!(log.append(0, body(1)), Append::At(4));
        let mut log = EventLog::new(2, 10);
        log.append(0, body(9));
        log.append(0, body(9));
        let _late = log.hold(1);
        assert_eq!(log.append(0, body(1)), Append::At(3), "there is room");
    }
}
