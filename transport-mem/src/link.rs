//! Two lanes and what one does to the other: a value without time, tasks or locks.

use std::io::{ErrorKind, IoSlice, IoSliceMut};

use crate::chance::Rng;
use crate::faults::{How, LinkConfig, Side};
use crate::lane::{End, Lane, Read, Written};

/// Whoever may be waiting on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    Read,
    Write,
}

/// Who has to look again, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wakes(u8);

impl Wakes {
    const ALL: Self = Self(0b1111);

    pub(crate) fn add(&mut self, side: Side, half: Half) {
        self.0 |= 1 << slot(side, half);
    }

    /// The slots (see [`slot`]) of those who have to look again.
    pub(crate) fn slots(self) -> impl Iterator<Item = usize> {
        (0..4).filter(move |slot| self.0 & (1 << slot) != 0)
    }
}

/// The place of a half in an array of four.
pub(crate) const fn slot(side: Side, half: Half) -> usize {
    let side = match side {
        Side::First => 0,
        Side::Second => 2,
    };
    match half {
        Half::Read => side,
        Half::Write => side + 1,
    }
}

#[derive(Debug)]
pub(crate) struct Link {
    /// What the first side writes.
    first: Lane,
    /// What the second side writes.
    second: Lane,
    crashed: Option<Side>,
}

impl Link {
    pub(crate) fn new(config: &LinkConfig, rng: &mut Rng) -> Self {
        let capacity = config.capacity_bytes.get();
        let mut link = Self {
            first: Lane::new(capacity, config.first.clone(), rng.fork()),
            second: Lane::new(capacity, config.second.clone(), rng.fork()),
            crashed: None,
        };
        for side in [Side::First, Side::Second] {
            if let Some(how) = link.lane(side).cut_at_birth() {
                link.cut(side, how, &mut Wakes::default());
            }
        }
        link
    }

    pub(crate) fn write(
        &mut self,
        side: Side,
        now_us: u64,
        bufs: &[IoSlice<'_>],
        wakes: &mut Wakes,
    ) -> Written {
        if self.crashed == Some(side) {
            return Written::Failed(ErrorKind::ConnectionAborted);
        }
        let written = self.lane(side).write(now_us, bufs);
        if let Written::Took { bytes, cut } = written {
            wakes.add(side.other(), Half::Read);
            if let Some(how) = cut {
                self.cut(side, how, wakes);
                if bytes == 0 {
                    // The cut came before the first byte of this write: the write itself meets what is left.
                    return self.write(side, now_us, bufs, wakes);
                }
            }
        }
        written
    }

    pub(crate) fn read(
        &mut self,
        side: Side,
        now_us: u64,
        bufs: &mut [IoSliceMut<'_>],
        wakes: &mut Wakes,
    ) -> Read {
        if self.crashed == Some(side) {
            return Read::Failed(ErrorKind::ConnectionAborted);
        }
        let read = self.lane(side.other()).read(now_us, bufs);
        if let Read::Got(_) = read {
            wakes.add(side.other(), Half::Write);
        }
        read
    }

    /// This side writes no more.
    pub(crate) fn close(&mut self, side: Side, wakes: &mut Wakes) -> Result<(), ErrorKind> {
        if self.crashed == Some(side) {
            return Err(ErrorKind::ConnectionAborted);
        }
        self.lane(side).end(End::InOrder);
        wakes.add(side.other(), Half::Read);
        Ok(())
    }

    /// This side is gone.
    pub(crate) fn leave(&mut self, side: Side, wakes: &mut Wakes) {
        let unread = self.lane(side.other()).abandon();
        self.lane(side).end(if unread { End::Unread } else { End::InOrder });
        wakes.add(side.other(), Half::Read);
        wakes.add(side.other(), Half::Write);
    }

    fn cut(&mut self, side: Side, how: How, wakes: &mut Wakes) {
        match how {
            How::HalfClose => self.lane(side).end(End::InOrder),
            How::Reset => {
                self.first.end(End::Reset);
                self.second.end(End::Reset);
            }
            How::Crash => {
                self.crashed = Some(side);
                self.lane(side).end(End::InOrder);
                self.lane(side.other()).abandon();
            }
        }
        *wakes = Wakes::ALL;
    }

    fn lane(&mut self, from: Side) -> &mut Lane {
        match from {
            Side::First => &mut self.first,
            Side::Second => &mut self.second,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(config: &LinkConfig) -> Link {
        Link::new(config, &mut Rng::new(1))
    }

    fn write(link: &mut Link, side: Side, bytes: &[u8]) -> Result<usize, ErrorKind> {
        match link.write(side, 0, &[IoSlice::new(bytes)], &mut Wakes::default()) {
            Written::Took { bytes, .. } => Ok(bytes),
            Written::Failed(kind) => Err(kind),
            Written::Wait(at) => panic!("has to wait until {at:?}"),
        }
    }

    fn read(link: &mut Link, side: Side) -> Result<Vec<u8>, Read> {
        let mut bytes = [0; 16];
        match link.read(side, 0, &mut [IoSliceMut::new(&mut bytes)], &mut Wakes::default()) {
            Read::Got(n) => Ok(bytes[..n].to_vec()),
            other => Err(other),
        }
    }

    #[test]
    fn a_half_close_leaves_the_other_direction() {
        for at in 0..4 {
            let mut link = link(&LinkConfig::default().cut_after(Side::First, at, How::HalfClose));
            let mut sent = 0;
            while let Ok(n) = write(&mut link, Side::First, b"x") {
                sent += n;
            }
            assert_eq!(sent as u64, at);
            if at > 0 {
                assert_eq!(read(&mut link, Side::Second), Ok(vec![b'x'; sent]));
            }
            assert_eq!(read(&mut link, Side::Second), Err(Read::End));
            assert_eq!(write(&mut link, Side::Second, b"back"), Ok(4));
            assert_eq!(read(&mut link, Side::First), Ok(b"back".to_vec()));
        }
    }

    #[test]
    fn a_reset_ends_both_directions_for_both_sides() {
        for from in [Side::First, Side::Second] {
            let mut link = link(&LinkConfig::default().cut_after(from, 2, How::Reset));
            assert_eq!(write(&mut link, from.other(), b"lost"), Ok(4));
            assert_eq!(write(&mut link, from, b"abc"), Ok(2));
            for side in [Side::First, Side::Second] {
                assert_eq!(read(&mut link, side), Err(Read::Failed(ErrorKind::ConnectionReset)));
                assert_eq!(write(&mut link, side, b"x"), Err(ErrorKind::ConnectionReset));
            }
        }
    }

    #[test]
    fn a_crash_delivers_what_was_written_and_takes_the_rest() {
        let mut link = link(&LinkConfig::default().cut_after(Side::Second, 3, How::Crash));
        assert_eq!(write(&mut link, Side::Second, b"abcdef"), Ok(3));
        assert_eq!(write(&mut link, Side::Second, b"def"), Err(ErrorKind::ConnectionAborted));
        assert_eq!(read(&mut link, Side::Second), Err(Read::Failed(ErrorKind::ConnectionAborted)));
        assert_eq!(link.close(Side::Second, &mut Wakes::default()), Err(ErrorKind::ConnectionAborted));
        assert_eq!(read(&mut link, Side::First), Ok(b"abc".to_vec()));
        assert_eq!(read(&mut link, Side::First), Err(Read::End));
        assert_eq!(write(&mut link, Side::First, b"x"), Err(ErrorKind::BrokenPipe));
    }

    #[test]
    fn who_leaves_with_unread_bytes_resets_its_peer_behind_its_own_bytes() {
        let mut link = link(&LinkConfig::default());
        assert_eq!(write(&mut link, Side::First, b"unread"), Ok(6));
        assert_eq!(write(&mut link, Side::Second, b"last"), Ok(4));
        link.leave(Side::Second, &mut Wakes::default());
        assert_eq!(read(&mut link, Side::First), Ok(b"last".to_vec()));
        assert_eq!(read(&mut link, Side::First), Err(Read::Failed(ErrorKind::ConnectionReset)));
        assert_eq!(write(&mut link, Side::First, b"x"), Err(ErrorKind::BrokenPipe));
    }

    #[test]
    fn everybody_who_may_go_on_is_woken() {
        let mut link = link(&LinkConfig::default());
        let slots = |wakes: Wakes| wakes.slots().collect::<Vec<_>>();
        let mut wakes = Wakes::default();
        link.write(Side::First, 0, &[IoSlice::new(b"x")], &mut wakes);
        assert_eq!(slots(wakes), [slot(Side::Second, Half::Read)]);
        let mut wakes = Wakes::default();
        link.read(Side::Second, 0, &mut [IoSliceMut::new(&mut [0])], &mut wakes);
        assert_eq!(slots(wakes), [slot(Side::First, Half::Write)]);
        let mut wakes = Wakes::default();
        link.leave(Side::First, &mut wakes);
        assert_eq!(slots(wakes), [slot(Side::Second, Half::Read), slot(Side::Second, Half::Write)]);
    }
}
