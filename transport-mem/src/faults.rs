//! What may go wrong on a link. Each fault has a scripted form, which happens at a stated place, and a random form, which
//! happens as often as its [`Chance`] says. The default of everything is a perfect stream.

use core::num::NonZeroUsize;

use crate::chance::{Chance, Rng};

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The first transport of a pair; on a [`Network`](crate::Network) the one that connected.
    First,
    /// The second transport of a pair; on a [`Network`](crate::Network) the one that was accepted.
    Second,
}

impl Side {
    /// The other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// A link's capacity and faults.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// How many bytes each direction holds before its writer has to wait.
    pub capacity_bytes: NonZeroUsize,
    /// The faults of what [`Side::First`] writes.
    pub first: LaneFaults,
    /// The faults of what [`Side::Second`] writes.
    pub second: LaneFaults,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self { capacity_bytes: CAPACITY_DEFAULT, first: LaneFaults::default(), second: LaneFaults::default() }
    }
}

/// 64 KiB: small enough that a test of some megabytes meets a full buffer.
pub(crate) const CAPACITY_DEFAULT: NonZeroUsize = NonZeroUsize::new(64 * 1024).unwrap();

impl LinkConfig {
    /// A link without faults that holds this many bytes in each direction.
    #[must_use]
    pub fn perfect(capacity_bytes: NonZeroUsize) -> Self {
        Self { capacity_bytes, ..Self::default() }
    }

    /// A link that splits, coalesces, delays and stalls at random but loses nothing: what every correct peer survives.
    #[must_use]
    pub fn rough() -> Self {
        let lane = LaneFaults {
            writes: Sizes::Random(Chance::percent(30)),
            reads: Sizes::Random(Chance::percent(30)),
            delay: Delay::Random { chance: Chance::percent(20), us_max: 500 },
            stall: Stall { when: When::Random(Chance::percent(1)), lasts: Lasts::Us(2_000) },
            ..LaneFaults::default()
        };
        Self { capacity_bytes: CAPACITY_DEFAULT, first: lane.clone(), second: lane }
    }

    /// This link, cut once `from` has written `bytes` bytes.
    #[must_use]
    pub fn cut_after(mut self, from: Side, bytes: u64, how: How) -> Self {
        self.lane_mut(from).cut = Cut { when: When::Byte(bytes), how };
        self
    }

    /// The faults of what this side writes.
    pub fn lane_mut(&mut self, from: Side) -> &mut LaneFaults {
        match from {
            Side::First => &mut self.first,
            Side::Second => &mut self.second,
        }
    }
}

/// The faults of one direction.
#[derive(Clone, Debug, Default)]
pub struct LaneFaults {
    /// How much of what is offered a write takes: short writes.
    pub writes: Sizes,
    /// How much of what has arrived a read gives: short reads.
    pub reads: Sizes,
    /// How long bytes travel. A byte never overtakes another.
    pub delay: Delay,
    /// Bytes arrive only at multiples of this many microseconds, so that what was written in between comes in one read.
    /// 0 is off.
    pub coalesce_us: u64,
    /// A time in which the direction neither takes nor gives a byte.
    pub stall: Stall,
    /// The end of it.
    pub cut: Cut,
}

/// How many bytes one operation moves.
#[derive(Clone, Debug, Default)]
pub enum Sizes {
    /// As many as it can.
    #[default]
    Whole,
    /// At most so many, every time.
    Fixed(NonZeroUsize),
    /// At most so many, from the list in turn; an empty list is [`Sizes::Whole`].
    Cycle(Vec<NonZeroUsize>),
    /// With this chance any number between one and all of them.
    Random(Chance),
}

impl Sizes {
    /// How many of `most` bytes operation number `turn` moves; at least 1 if there is one.
    pub(crate) fn limit(&self, turn: u64, most: usize, rng: &mut Rng) -> usize {
        match self {
            Self::Whole => most,
            Self::Fixed(size) => most.min(size.get()),
            Self::Cycle(sizes) => {
                let index = (turn % (sizes.len() as u64).max(1)) as usize;
                most.min(sizes.get(index).map_or(usize::MAX, |size| size.get()))
            }
            Self::Random(chance) if most > 1 && rng.happens(*chance) => 1 + rng.index(most),
            Self::Random(_) => most,
        }
    }
}

/// How long the bytes of one write travel, in microseconds.
#[derive(Clone, Debug, Default)]
pub enum Delay {
    /// They are there at once.
    #[default]
    None,
    /// So long, every time.
    Fixed(u64),
    /// So long, from the list in turn; an empty list is [`Delay::None`].
    Cycle(Vec<u64>),
    /// With this chance anything from 0 to `us_max`.
    Random {
        /// How often a write is delayed at all.
        chance: Chance,
        /// The longest delay.
        us_max: u64,
    },
}

impl Delay {
    pub(crate) fn us(&self, turn: u64, rng: &mut Rng) -> u64 {
        match self {
            Self::None => 0,
            Self::Fixed(us) => *us,
            Self::Cycle(list) => {
                let index = (turn % (list.len() as u64).max(1)) as usize;
                list.get(index).copied().unwrap_or(0)
            }
            Self::Random { chance, us_max } if rng.happens(*chance) => rng.below(us_max.saturating_add(1)),
            Self::Random { .. } => 0,
        }
    }
}

/// When something happens to a direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// It does not.
    #[default]
    Never,
    /// Once this many bytes were written in this direction, counted from its beginning. 0 is before the first.
    Byte(u64),
    /// With this chance in each write, at a random byte of it.
    Random(Chance),
}

/// A time in which a direction stands still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stall {
    /// When it begins.
    pub when: When,
    /// When it ends.
    pub lasts: Lasts,
}

/// How long a [`Stall`] lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lasts {
    /// So many microseconds.
    Us(u64),
    /// It does not end: what a peer looks like that hangs.
    #[default]
    Forever,
}

/// The end of a direction, or of the link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// When it happens.
    pub when: When,
    /// What is left afterwards.
    pub how: How,
}

/// What a [`Cut`] does. `BrokenPipe` and the like are [`std::io::ErrorKind`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum How {
    /// This direction ends in order: its reader reads what was written and then the end, its writer gets `BrokenPipe`.
    /// The other direction stays.
    #[default]
    HalfClose,
    /// Both directions fail with `ConnectionReset` at once; what was under way is lost.
    Reset,
    /// The writer's process dies: its peer reads what was written and then the end, and gets `BrokenPipe` when it writes;
    /// for the dead side itself everything fails with `ConnectionAborted`.
    Crash,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(n: usize) -> NonZeroUsize {
        NonZeroUsize::new(n).expect("not zero")
    }

    #[test]
    fn sizes_are_never_zero_and_never_more_than_there_is() {
        let mut rng = Rng::new(5);
        let all = [
            Sizes::Whole,
            Sizes::Fixed(size(3)),
            Sizes::Cycle(vec![size(1), size(9)]),
            Sizes::Cycle(Vec::new()),
            Sizes::Random(Chance::ALWAYS),
        ];
        for sizes in &all {
            for most in 1..40 {
                for turn in 0..8 {
                    let limit = sizes.limit(turn, most, &mut rng);
                    assert!((1..=most).contains(&limit), "{sizes:?} of {most} gave {limit}");
                }
            }
        }
    }

    #[test]
    fn random_sizes_reach_both_ends() {
        let mut rng = Rng::new(1);
        let sizes = Sizes::Random(Chance::ALWAYS);
        let drawn: Vec<usize> = (0..200).map(|turn| sizes.limit(turn, 4, &mut rng)).collect();
        for wanted in 1..=4 {
            assert!(drawn.contains(&wanted), "{wanted} was never drawn");
        }
    }

    #[test]
    fn scripts_go_in_turn() {
        let mut rng = Rng::new(1);
        let sizes = Sizes::Cycle(vec![size(2), size(5)]);
        assert_eq!((0..4).map(|turn| sizes.limit(turn, 9, &mut rng)).collect::<Vec<_>>(), [2, 5, 2, 5]);
        let delay = Delay::Cycle(vec![7, 0]);
        assert_eq!((0..3).map(|turn| delay.us(turn, &mut rng)).collect::<Vec<_>>(), [7, 0, 7]);
    }
}
