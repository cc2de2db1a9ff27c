//! Sets of topics: an event type's number is its topic (PROTOCOL.md [V-1]).

/// A set of the 256 possible topics.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct TopicSet([u64; 4]);

impl TopicSet {
    /// No topic.
    pub const EMPTY: TopicSet = TopicSet([0; 4]);
    /// Every topic.
    pub const ALL: TopicSet = TopicSet([u64::MAX; 4]);

    /// Adds a topic.
    pub const fn insert(&mut self, topic: u8) {
        self.0[(topic >> 6) as usize] |= 1 << (topic & 63);
    }

    /// Whether the topic is in the set.
    #[must_use]
    pub const fn contains(&self, topic: u8) -> bool {
        self.0[(topic >> 6) as usize] & (1 << (topic & 63)) != 0
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0[0] | self.0[1] | self.0[2] | self.0[3] == 0
    }

    /// The topics of `self` that are not in `other`.
    #[must_use]
    pub const fn without(&self, other: &TopicSet) -> TopicSet {
        TopicSet([
            self.0[0] & !other.0[0],
            self.0[1] & !other.0[1],
            self.0[2] & !other.0[2],
            self.0[3] & !other.0[3],
        ])
    }

    /// The topics in rising order.
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=255).filter(|topic| self.contains(*topic))
    }
}

impl FromIterator<u8> for TopicSet {
    fn from_iter<I: IntoIterator<Item = u8>>(topics: I) -> Self {
        let mut set = TopicSet::EMPTY;
        for topic in topics {
            set.insert(topic);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        let set: TopicSet = [0, 63, 64, 255].into_iter().collect();
        assert!(set.iter().eq([0, 63, 64, 255]));
        assert!(set.without(&[64].into_iter().collect()).iter().eq([0, 63, 255]));
        assert!(!set.is_empty() && TopicSet::EMPTY.is_empty());
    }
}
