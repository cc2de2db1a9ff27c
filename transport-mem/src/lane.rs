//! One direction of a link, as a value: bytes and the time go in, bytes and the times to come back at go out.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};

use crate::chance::Rng;
use crate::faults::{How, LaneFaults, Lasts, When};

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// So many bytes were taken, and then this cut fell due.
    Took {
        bytes: usize,
        cut: Option<How>,
    },
    /// Nothing now. With a time: look again then. Without: when the reader made room.
    Wait(Option<u64>),
    Failed(ErrorKind),
}

/// What came of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Got(usize),
    /// Nothing now. With a time: look again then. Without: when the writer did something.
    Wait(Option<u64>),
    End,
    Failed(ErrorKind),
}

/// How a direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// What was written is read, then comes the end.
    InOrder,
    /// What was written is read, then comes a reset: the writer went away with bytes of its own unread, which is what a
    /// Unix socket tells its peer.
    Unread,
    /// Nothing is read any more.
    Reset,
}

#[derive(Debug)]
struct Chunk {
    /// When these bytes arrive. Rises along the queue.
    at_us: u64,
    bytes: VecDeque<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standstill {
    No,
    Until(u64),
    Forever,
}

#[derive(Debug)]
pub(crate) struct Lane {
    capacity: usize,
    faults: LaneFaults,
    rng: Rng,
    chunks: VecDeque<Chunk>,
    /// Bytes in `chunks`.
    held: usize,
    /// Bytes ever taken.
    written: u64,
    writes: u64,
    reads: u64,
    standstill: Standstill,
    end: Option<End>,
    reader_gone: bool,
}

impl Lane {
    pub(crate) fn new(capacity: usize, faults: LaneFaults, rng: Rng) -> Self {
        let mut lane = Self {
            capacity,
            faults,
            rng,
            chunks: VecDeque::new(),
            held: 0,
            written: 0,
            writes: 0,
            reads: 0,
            standstill: Standstill::No,
            end: None,
            reader_gone: false,
        };
        if lane.faults.stall.when == When::Byte(0) {
            lane.stand_still(0);
        }
        lane
    }

    /// The cut that is due before the first byte.
    pub(crate) fn cut_at_birth(&self) -> Option<How> {
        (self.faults.cut.when == When::Byte(0)).then_some(self.faults.cut.how)
    }

    pub(crate) fn write(&mut self, now_us: u64, bufs: &[IoSlice<'_>]) -> Written {
        match self.end {
            Some(End::Reset) => return Written::Failed(ErrorKind::ConnectionReset),
            Some(End::InOrder | End::Unread) => return Written::Failed(ErrorKind::BrokenPipe),
            None if self.reader_gone => return Written::Failed(ErrorKind::BrokenPipe),
            None => {}
        }
        if let Some(until) = self.standing_still(now_us) {
            return Written::Wait(until);
        }
        let offered: usize = bufs.iter().map(|buf| buf.len()).sum();
        let room = self.capacity.saturating_sub(self.held);
        if room == 0 && offered > 0 {
            return Written::Wait(None);
        }
        let turn = self.writes;
        self.writes += 1;
        let (bytes, cut, stall) = self.decide(turn, offered.min(room));
        self.take(turn, now_us, bufs, bytes);
        if stall {
            self.stand_still(now_us);
        }
        Written::Took { bytes, cut }
    }

    /// How many of `most` bytes are taken, which cut falls due behind them, and whether a standstill begins there.
    fn decide(&mut self, turn: u64, most: usize) -> (usize, Option<How>, bool) {
        let mut bytes = self.faults.writes.limit(turn, most, &mut self.rng);
        let mut stall = false;
        match self.faults.stall.when {
            When::Byte(at) if at > self.written => {
                bytes = bytes.min(usize::try_from(at - self.written).unwrap_or(usize::MAX));
                stall = self.written + bytes as u64 == at;
            }
            When::Random(chance) => stall = self.rng.happens(chance),
            When::Never | When::Byte(_) => {}
        }
        let mut cut = None;
        match self.faults.cut.when {
            When::Byte(at) if at >= self.written => {
                bytes = bytes.min(usize::try_from(at - self.written).unwrap_or(usize::MAX));
                cut = (self.written + bytes as u64 == at).then_some(self.faults.cut.how);
            }
            When::Random(chance) if self.rng.happens(chance) => {
                bytes = self.rng.index(bytes + 1);
                cut = Some(self.faults.cut.how);
            }
            When::Never | When::Byte(_) | When::Random(_) => {}
        }
        (bytes, cut, stall)
    }

    fn take(&mut self, turn: u64, now_us: u64, bufs: &[IoSlice<'_>], bytes: usize) {
        if bytes == 0 {
            return;
        }
        let at_us = self.arrival(turn, now_us);
        let mut chunk = match self.chunks.pop_back_if(|last| last.at_us == at_us) {
            Some(chunk) => chunk,
            None => Chunk { at_us, bytes: VecDeque::with_capacity(bytes) },
        };
        let mut left = bytes;
        for buf in bufs {
            let part = buf.get(..left).unwrap_or(buf);
            chunk.bytes.extend(part);
            left -= part.len();
        }
        self.chunks.push_back(chunk);
        self.held += bytes;
        self.written += bytes as u64;
    }

    fn arrival(&mut self, turn: u64, now_us: u64) -> u64 {
        let delay = self.faults.delay.us(turn, &mut self.rng);
        let mut at_us = now_us.saturating_add(delay);
        if self.faults.coalesce_us > 0 {
            at_us = at_us.checked_next_multiple_of(self.faults.coalesce_us).unwrap_or(u64::MAX);
        }
        at_us.max(self.chunks.back().map_or(0, |last| last.at_us))
    }

    pub(crate) fn read(&mut self, now_us: u64, bufs: &mut [IoSliceMut<'_>]) -> Read {
        if self.end == Some(End::Reset) {
            return Read::Failed(ErrorKind::ConnectionReset);
        }
        if let Some(until) = self.standing_still(now_us) {
            return Read::Wait(until);
        }
        match (self.chunks.front(), self.end) {
            (Some(first), _) if first.at_us > now_us => return Read::Wait(Some(first.at_us)),
            (Some(_), _) => {}
            (None, None) => return Read::Wait(None),
            (None, Some(End::InOrder)) => return Read::End,
            (None, Some(End::Unread | End::Reset)) => return Read::Failed(ErrorKind::ConnectionReset),
        }
        let arrived: usize =
            self.chunks.iter().take_while(|chunk| chunk.at_us <= now_us).map(|chunk| chunk.bytes.len()).sum();
        let wanted: usize = bufs.iter().map(|buf| buf.len()).sum();
        let bytes = self.faults.reads.limit(self.reads, arrived.min(wanted), &mut self.rng);
        self.reads += 1;
        self.give(bufs, bytes);
        Read::Got(bytes)
    }

    fn give(&mut self, bufs: &mut [IoSliceMut<'_>], mut bytes: usize) {
        for buf in bufs {
            let room = buf.len().min(bytes);
            let mut rest = buf.get_mut(..room).unwrap_or_default();
            bytes -= room;
            while !rest.is_empty() {
                let Some(chunk) = self.chunks.front_mut() else { return };
                // Reading from a queue in memory cannot fail, and no chunk is empty.
                let moved = io::Read::read(&mut chunk.bytes, rest).unwrap_or(0);
                if chunk.bytes.is_empty() {
                    self.chunks.pop_front();
                }
                self.held -= moved;
                rest = rest.get_mut(moved..).unwrap_or_default();
            }
        }
    }

    /// Ends the direction. The first end stays, except that a reset overrules an orderly one.
    pub(crate) fn end(&mut self, end: End) {
        if end == End::Reset {
            self.discard();
            self.end = Some(end);
        } else {
            self.end.get_or_insert(end);
        }
    }

    /// The reader is gone. Says whether it left bytes unread.
    pub(crate) fn abandon(&mut self) -> bool {
        self.reader_gone = true;
        let unread = self.held > 0;
        self.discard();
        unread
    }

    fn discard(&mut self) {
        self.chunks.clear();
        self.held = 0;
    }

    fn stand_still(&mut self, now_us: u64) {
        self.standstill = match self.faults.stall.lasts {
            Lasts::Us(us) => Standstill::Until(now_us.saturating_add(us)),
            Lasts::Forever => Standstill::Forever,
        };
    }

    /// `None` if the direction moves, else when it moves again, if ever.
    fn standing_still(&self, now_us: u64) -> Option<Option<u64>> {
        match self.standstill {
            Standstill::Until(at_us) if at_us > now_us => Some(Some(at_us)),
            Standstill::No | Standstill::Until(_) => None,
            Standstill::Forever => Some(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroUsize;

    use super::*;
    use crate::faults::{Cut, Delay, Sizes, Stall};

    fn lane(faults: LaneFaults) -> Lane {
        Lane::new(8, faults, Rng::new(1))
    }

    fn write(lane: &mut Lane, now_us: u64, bytes: &[u8]) -> Written {
        lane.write(now_us, &[IoSlice::new(bytes)])
    }

    fn took(bytes: usize) -> Written {
        Written::Took { bytes, cut: None }
    }

    fn read(lane: &mut Lane, now_us: u64, room: usize) -> Result<Vec<u8>, Read> {
        let mut bytes = vec![0; room];
        match lane.read(now_us, &mut [IoSliceMut::new(&mut bytes)]) {
            Read::Got(n) => {
                bytes.truncate(n);
                Ok(bytes)
            }
            other => Err(other),
        }
    }

    #[test]
    fn bytes_come_out_as_they_went_in_across_slices() {
        let mut lane = lane(LaneFaults::default());
        assert_eq!(lane.write(0, &[IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")]), took(5));
        let (mut one, mut two, mut three) = ([0; 1], [0; 3], [0; 4]);
        let mut bufs = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two), IoSliceMut::new(&mut three)];
        assert_eq!(lane.read(0, &mut bufs), Read::Got(5));
        assert_eq!((&one, &two, &three[..1]), (b"a", b"bcd", &b"e"[..]));
    }

    #[test]
    fn a_full_lane_takes_no_more_until_it_is_read() {
        let mut lane = lane(LaneFaults::default());
        assert_eq!(write(&mut lane, 0, b"0123456789"), took(8));
        assert_eq!(write(&mut lane, 0, b"89"), Written::Wait(None));
        assert_eq!(read(&mut lane, 0, 3), Ok(b"012".to_vec()));
        assert_eq!(write(&mut lane, 0, b"89ab"), took(3));
    }

    #[test]
    fn scripted_sizes_make_short_writes_and_short_reads() {
        let size = |n| NonZeroUsize::new(n).expect("not zero");
        let faults = LaneFaults {
            writes: Sizes::Cycle(vec![size(1), size(3)]),
            reads: Sizes::Fixed(size(2)),
            ..LaneFaults::default()
        };
        let mut lane = lane(faults);
        assert_eq!(write(&mut lane, 0, b"abcd"), took(1));
        assert_eq!(write(&mut lane, 0, b"bcd"), took(3));
        assert_eq!(read(&mut lane, 0, 8), Ok(b"ab".to_vec()));
        assert_eq!(read(&mut lane, 0, 8), Ok(b"cd".to_vec()));
        assert_eq!(read(&mut lane, 0, 8), Err(Read::Wait(None)));
    }

    #[test]
    fn a_delayed_byte_is_not_overtaken() {
        let mut lane = lane(LaneFaults { delay: Delay::Cycle(vec![50, 0]), ..LaneFaults::default() });
        assert_eq!(write(&mut lane, 10, b"a"), took(1));
        assert_eq!(write(&mut lane, 10, b"b"), took(1));
        assert_eq!(read(&mut lane, 10, 8), Err(Read::Wait(Some(60))));
        assert_eq!(read(&mut lane, 60, 8), Ok(b"ab".to_vec()));
    }

    #[test]
    fn coalesced_writes_arrive_together() {
        let mut lane = lane(LaneFaults { coalesce_us: 100, ..LaneFaults::default() });
        for (now_us, byte) in [(1, b"a"), (40, b"b"), (99, b"c")] {
            assert_eq!(write(&mut lane, now_us, byte), took(1));
            assert_eq!(read(&mut lane, now_us, 8), Err(Read::Wait(Some(100))));
        }
        assert_eq!(read(&mut lane, 100, 8), Ok(b"abc".to_vec()));
    }

    #[test]
    fn a_stall_begins_at_its_byte_and_ends_at_its_time() {
        let stall = Stall { when: When::Byte(2), lasts: Lasts::Us(30) };
        let mut lane = lane(LaneFaults { stall, ..LaneFaults::default() });
        assert_eq!(write(&mut lane, 5, b"abcd"), took(2));
        assert_eq!(write(&mut lane, 6, b"cd"), Written::Wait(Some(35)));
        assert_eq!(read(&mut lane, 34, 8), Err(Read::Wait(Some(35))));
        assert_eq!(write(&mut lane, 35, b"cd"), took(2));
        assert_eq!(read(&mut lane, 35, 8), Ok(b"abcd".to_vec()));
    }

    #[test]
    fn a_stall_may_last_forever_and_from_the_start() {
        let stall = Stall { when: When::Byte(0), lasts: Lasts::Forever };
        let mut lane = lane(LaneFaults { stall, ..LaneFaults::default() });
        assert_eq!(write(&mut lane, u64::MAX, b"a"), Written::Wait(None));
        assert_eq!(read(&mut lane, u64::MAX, 1), Err(Read::Wait(None)));
    }

    #[test]
    fn a_cut_falls_due_at_exactly_its_byte() {
        for at in 1..=6 {
            let cut = Cut { when: When::Byte(at), how: How::Reset };
            let mut lane = lane(LaneFaults { cut, ..LaneFaults::default() });
            assert_eq!(lane.cut_at_birth(), None);
            let mut total = 0;
            loop {
                match write(&mut lane, 0, b"xy") {
                    Written::Took { bytes, cut: None } => total += bytes as u64,
                    Written::Took { bytes, cut: Some(how) } => {
                        assert_eq!((total + bytes as u64, how), (at, How::Reset));
                        break;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    #[test]
    fn the_end_comes_after_the_bytes_and_stays() {
        let mut lane = lane(LaneFaults::default());
        write(&mut lane, 0, b"ab");
        lane.end(End::InOrder);
        lane.end(End::Unread);
        assert_eq!(write(&mut lane, 0, b"c"), Written::Failed(ErrorKind::BrokenPipe));
        assert_eq!(read(&mut lane, 0, 8), Ok(b"ab".to_vec()));
        assert_eq!(read(&mut lane, 0, 8), Err(Read::End));
        assert_eq!(read(&mut lane, 0, 8), Err(Read::End));
    }

    #[test]
    fn a_reset_loses_what_was_under_way() {
        let mut lane = lane(LaneFaults::default());
        write(&mut lane, 0, b"ab");
        lane.end(End::InOrder);
        lane.end(End::Reset);
        assert_eq!(read(&mut lane, 0, 8), Err(Read::Failed(ErrorKind::ConnectionReset)));
        assert_eq!(write(&mut lane, 0, b"c"), Written::Failed(ErrorKind::ConnectionReset));
    }
}
