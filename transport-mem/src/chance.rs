//! Randomness that a seed decides, and the record of what it decided.

/// How often something happens, in steps of one millionth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chance(u32);

impl Chance {
    /// It never happens.
    pub const NEVER: Self = Self(0);
    /// It happens every time.
    pub const ALWAYS: Self = Self(Self::WHOLE);
    const WHOLE: u32 = 1_000_000;

    /// So many times out of a million; anything above is [`Chance::ALWAYS`].
    #[must_use]
    pub const fn per_million(times: u32) -> Self {
        Self(if times > Self::WHOLE { Self::WHOLE } else { times })
    }

    /// So many times out of a hundred; anything above is [`Chance::ALWAYS`].
    #[must_use]
    pub const fn percent(times: u8) -> Self {
        Self::per_million(times as u32 * 10_000)
    }
}

/// A small generator (SplitMix64) whose numbers are the same on every machine and in every release: a seed in an old bug
/// report must keep its meaning, which a library's generator does not promise.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator that starts at this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, or 0 if the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high half of the product: unbiased enough for choosing among few things, and free of a division.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// An index below `len`, or 0 if the length is 0.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// Whether it happens this time. Draws a number only when the answer is open, so that a fault which is switched
    /// off does not disturb the schedule.
    pub fn happens(&mut self, chance: Chance) -> bool {
        match chance {
            Chance::NEVER => false,
            Chance::ALWAYS => true,
            Chance(times) => self.below(u64::from(Chance::WHOLE)) < u64::from(times),
        }
    }

    /// A generator of its own, so that one part's draws do not shift another's.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next_u64())
    }
}

/// A running hash (FNV-1a) over everything that a run did, in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    pub(crate) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn add(&mut self, word: u64) {
        for byte in word.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(crate) const fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_numbers_are_those_of_the_published_algorithm() {
        // SplitMix64 from seed 1234567, as printed in the reference implementation's test data.
        let mut rng = Rng::new(1_234_567);
        let drawn: Vec<u64> = (0..3).map(|_| rng.next_u64()).collect();
        assert_eq!(drawn, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn a_bound_is_kept_and_reached() {
        let mut rng = Rng::new(7);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[rng.index(5)] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn never_and_always_draw_nothing() {
        let (mut drawn, untouched) = (Rng::new(3), Rng::new(3));
        assert!(!drawn.happens(Chance::NEVER));
        assert!(drawn.happens(Chance::ALWAYS));
        assert_eq!(drawn.next_u64(), untouched.clone().next_u64());
    }

    #[test]
    fn half_is_about_half() {
        let mut rng = Rng::new(11);
        let hits = (0..10_000).filter(|_| rng.happens(Chance::percent(50))).count();
        assert!((4_800..5_200).contains(&hits), "{hits}");
    }
}
