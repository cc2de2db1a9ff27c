//! What waits for the application: events in order, within bounds that do not depend on how fast it looks.
//!
//! Events about calls are bounded by the window of calls, those about the connection itself happen once. All others are dropped
//! beyond the inbox's bounds, counted, and reported where they would have stood.

use alloc::collections::VecDeque;

use super::{Event, SPARE_ENTRIES};
use crate::limits::Config;

#[derive(Clone, Debug, Default)]
pub(super) struct Inbox {
    events: VecDeque<Event>,
    /// Bytes of bodies in `events` that may be dropped.
    bytes: usize,
    dropped: Option<Dropped>,
}

/// What did not fit, since the last event that did.
#[derive(Clone, Copy, Debug, Default)]
struct Dropped {
    count: u64,
    first: u64,
    last: u64,
}

impl Inbox {
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.events.capacity()
    }

    pub(super) fn len(&self) -> usize {
        self.events.len() + usize::from(self.dropped.is_some())
    }

    pub(super) fn pop(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() && self.events.capacity() > SPARE_ENTRIES {
            self.events = VecDeque::new();
        }
        match event {
            Some(event) => {
                self.bytes -= bytes_of(&event);
                Some(event)
            }
            None => self.dropped.take().map(Dropped::into_event),
        }
    }

    pub(super) fn push(&mut self, event: Event, config: &Config) {
        if self.is_full(bytes_of(&event), config) {
            if let Some((first, last)) = positions_if_droppable(&event) {
                return self.dropped.get_or_insert_default().add(first, last);
            }
            // Of changed grants only the latest matter.
            if let Event::GrantsChanged(_) = event
                && let Some(old) = self.events.iter_mut().rev().find(|e| matches!(e, Event::GrantsChanged(_)))
            {
                *old = event;
                return;
            }
        }
        if let Some(dropped) = self.dropped.take() {
            self.events.push_back(dropped.into_event());
        }
        self.bytes += bytes_of(&event);
        self.events.push_back(event);
    }

    fn is_full(&self, more: usize, config: &Config) -> bool {
        let (max, body_max) = (config.inbox_max as usize, config.limits.inline_bytes_max as usize);
        self.events.len() >= max || self.bytes.saturating_add(more) > max.saturating_mul(body_max)
    }
}

impl Dropped {
    fn add(&mut self, first: u64, last: u64) {
        self.count += 1;
        if self.first == 0 {
            self.first = first;
        }
        self.last = self.last.max(last);
    }

    fn into_event(self) -> Event {
        Event::InboxOverflow { count: self.count, first: self.first, last: self.last }
    }
}

/// The positions that are missing if this event is dropped, 0 if none; `None` if it may not be dropped.
fn positions_if_droppable(event: &Event) -> Option<(u64, u64)> {
    match event {
        Event::Event { position, .. } => Some((*position, *position)),
        Event::Lagged { first, last } => Some((*first, *last)),
        Event::Log { .. } | Event::Progress { .. } | Event::CallDenied(..) | Event::CallBusy(_) => {
            Some((0, 0))
        }
        Event::Hello(_)
        | Event::Accepted(_)
        | Event::Refused(_)
        | Event::Call(_)
        | Event::Subscribe(..)
        | Event::CallCancelled(_)
        | Event::CallExpired(_)
        | Event::InboxOverflow { .. }
        | Event::GrantsChanged(_)
        | Event::Pong { .. }
        | Event::Draining { .. }
        | Event::Closed(_) => None,
    }
}

fn bytes_of(event: &Event) -> usize {
    match event {
        Event::Event { body, .. } => body.len(),
        Event::Log { body, records } => body.len() + records.len(),
        Event::Hello(_)
        | Event::Accepted(_)
        | Event::Refused(_)
        | Event::Call(_)
        | Event::Subscribe(..)
        | Event::CallCancelled(_)
        | Event::CallExpired(_)
        | Event::CallDenied(..)
        | Event::CallBusy(_)
        | Event::Lagged { .. }
        | Event::InboxOverflow { .. }
        | Event::Progress { .. }
        | Event::GrantsChanged(_)
        | Event::Pong { .. }
        | Event::Draining { .. }
        | Event::Closed(_) => 0,
    }
}
