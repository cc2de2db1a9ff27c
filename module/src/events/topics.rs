//! What a subscription names: event types, alone or by group.

use std::collections::BTreeSet;
use std::fmt;

use modipc_api::{EventGroup, EventType};
use modipc_core::TopicSet;

/// The event types of a subscription.
///
/// Made from a type, a group or a list of types (`EventType::NewBlock.into()`), and joined with [`Topics::and`]. A group
/// stands for the types that this build knows: the wire knows only types.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics(BTreeSet<EventType>);

impl Topics {
    /// No event type.
    pub const NONE: Topics = Topics(BTreeSet::new());

    /// Every event type that this build knows.
    #[must_use]
    pub fn all() -> Self {
        EventType::ALL.iter().copied().collect()
    }

    /// These and others.
    #[must_use]
    pub fn and(mut self, others: impl Into<Topics>) -> Self {
        self.0.extend(others.into().0);
        self
    }

    /// The types in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = EventType> + '_ {
        self.0.iter().copied()
    }

    /// Is this type among them?
    #[must_use]
    pub fn contains(&self, event_type: EventType) -> bool {
        self.0.contains(&event_type)
    }

    /// Is there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn to_vec(&self) -> Vec<EventType> {
        self.iter().collect()
    }

    pub(crate) fn to_set(&self) -> TopicSet {
        self.iter().map(EventType::topic).collect()
    }
}

impl fmt::Display for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (index, event_type) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{event_type}")?;
        }
        Ok(())
    }
}

impl FromIterator<EventType> for Topics {
    fn from_iter<I: IntoIterator<Item = EventType>>(types: I) -> Self {
        Topics(types.into_iter().collect())
    }
}

impl From<EventType> for Topics {
    fn from(event_type: EventType) -> Self {
        [event_type].into()
    }
}

impl From<EventGroup> for Topics {
    fn from(group: EventGroup) -> Self {
        group.types().collect()
    }
}

impl<const N: usize> From<[EventType; N]> for Topics {
    fn from(types: [EventType; N]) -> Self {
        types.into_iter().collect()
    }
}

impl From<&[EventType]> for Topics {
    fn from(types: &[EventType]) -> Self {
        types.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_types_join() {
        let topics = Topics::from(EventGroup::Mempool).and(EventType::NewBlock).and(EventType::NewBlock);
        assert_eq!(topics.iter().count(), EventGroup::Mempool.types().count() + 1);
        assert!(topics.contains(EventType::NewBlock) && !topics.contains(EventType::NewHeader));
        assert!(topics.to_set().contains(EventType::NewBlock.topic()));
        assert_eq!(Topics::all().iter().count(), EventType::ALL.len());
        assert_eq!(Topics::NONE.to_string(), "none");
        assert_eq!(
            Topics::from([EventType::NewHeader, EventType::NewBlock]).to_string(),
            "NewBlock, NewHeader"
        );
    }
}
