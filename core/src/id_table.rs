//! An ordered table for ids that rise: a deque with tombstones.
//!
//! Lookup guesses the place from the distance to the first id and is right as long as ids are consecutive, so a call costs no
//! search and no allocation. Tombstones are swept when they outnumber what lives.

use alloc::collections::VecDeque;

/// Values by rising id.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct IdTable<T> {
    entries: VecDeque<(u64, Option<T>)>,
    live: usize,
}

/// Tombstones that are kept whatever lives: sweeping below this is not worth it.
const SLACK: usize = 32;

/// Room that an empty table keeps: what a burst took is given back.
const SPARE: usize = 64;

impl<T> IdTable<T> {
    pub(crate) const fn new() -> Self {
        IdTable { entries: VecDeque::new(), live: 0 }
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Adds a value under an id that is higher than any before.
    pub(crate) fn push(&mut self, id: u64, value: T) {
        debug_assert!(self.entries.back().is_none_or(|(last, _)| *last < id));
        if self.entries.len() > 2 * self.live + SLACK {
            self.entries.retain(|(_, value)| value.is_some());
        }
        self.entries.push_back((id, Some(value)));
        self.live += 1;
    }

    pub(crate) fn get(&self, id: u64) -> Option<&T> {
        self.entries.get(self.find(id)?)?.1.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: u64) -> Option<&mut T> {
        let at = self.find(id)?;
        self.entries.get_mut(at)?.1.as_mut()
    }

    pub(crate) fn remove(&mut self, id: u64) -> Option<T> {
        let at = self.find(id)?;
        let value = self.entries.get_mut(at)?.1.take()?;
        self.live -= 1;
        while matches!(self.entries.front(), Some((_, None))) {
            self.entries.pop_front();
        }
        if self.live == 0 && self.entries.capacity() > SPARE {
            self.entries = VecDeque::new();
        }
        Some(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.entries.iter().filter_map(|(id, value)| Some((*id, value.as_ref()?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut T)> {
        self.entries.iter_mut().filter_map(|(id, value)| Some((*id, value.as_mut()?)))
    }

    fn find(&self, id: u64) -> Option<usize> {
        let first = self.entries.front()?.0;
        let guess = usize::try_from(id.checked_sub(first)?).ok()?;
        if self.entries.get(guess).is_some_and(|(at, _)| *at == id) {
            return Some(guess);
        }
        self.entries.binary_search_by_key(&id, |(at, _)| *at).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    proptest! {
        /// Against a `BTreeMap`, with gaps between ids and removal in any order.
        #[test]
        fn behaves_as_an_ordered_map(ops in prop::collection::vec((any::<bool>(), 1u64..4, any::<prop::sample::Index>()), 0..300)) {
            let mut table = IdTable::new();
            let mut model = BTreeMap::new();
            let (mut last, mut peak) = (0, 0);
            for (push, gap, index) in ops {
                if push {
                    last += gap;
                    table.push(last, last * 10);
                    model.insert(last, last * 10);
                } else if last > 0 {
                    let id = index.index(last as usize + 2) as u64;
                    prop_assert_eq!(table.remove(id), model.remove(&id));
                }
                prop_assert_eq!(table.len(), model.len());
                peak = peak.max(table.len());
                prop_assert!(table.entries.len() <= 2 * peak + SLACK + 1);
                prop_assert!(table.iter().map(|(id, v)| (id, *v)).eq(model.iter().map(|(id, v)| (*id, *v))));
                for id in 0..last + 2 {
                    prop_assert_eq!(table.get(id), model.get(&id));
                }
            }
        }
    }

    #[test]
    fn one_old_call_does_not_make_the_table_grow() {
        let mut table = IdTable::new();
        table.push(1, ());
        for id in 2..100_000 {
            table.push(id, ());
            table.remove(id);
        }
        assert!(table.entries.len() <= SLACK + 4, "{}", table.entries.len());
        assert_eq!(table.get(1), Some(&()));
    }
}
