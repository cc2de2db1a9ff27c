//! Events between the connection's task and the one who reads the stream.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::sync::lock;

/// What waits in the queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Event { position: u64, prev: u64, body: Bytes },
    Lagged { first: u64, last: u64 },
}

/// A queue with room for so many events and so many bytes of them. What does not fit is dropped and leaves its positions.
///
/// The connection's task must never wait for a reader, so that answers and pings pass while events pile up.
#[derive(Debug)]
pub(crate) struct EventQueue {
    state: Mutex<State>,
    events_max: usize,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
    /// The last position that arrived, kept or not.
    received: u64,
    reader: Option<Waker>,
    owner: Owner,
    /// No event will come any more.
    ended: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Owner {
    /// Nobody: what comes is dropped.
    #[default]
    Nobody,
    /// A stream.
    Stream,
    /// A stream that is gone, while the last events of its subscription may still come: they are dropped.
    Past,
}

/// Whether a stream may have the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It has it.
    Yours,
    /// Another stream has it.
    Taken,
    /// Soon: the stream before is being unsubscribed.
    Soon,
}

impl EventQueue {
    pub(crate) fn new(events_max: u32, bytes_max: usize) -> Self {
        let events_max = usize::try_from(events_max).unwrap_or(usize::MAX).max(1);
        EventQueue { state: Mutex::default(), events_max, bytes_max }
    }

    /// Claims the queue for a stream.
    pub(crate) fn claim(&self) -> Claim {
        let mut state = lock(&self.state);
        match state.owner {
            Owner::Nobody => {
                state.owner = Owner::Stream;
                Claim::Yours
            }
            Owner::Stream => Claim::Taken,
            Owner::Past => Claim::Soon,
        }
    }

    /// The stream is gone: drops what waits and what comes, until [`EventQueue::free`].
    pub(crate) fn retire(&self) {
        self.leave_to(Owner::Past);
    }

    /// The queue is there for another stream.
    pub(crate) fn free(&self) {
        self.leave_to(Owner::Nobody);
    }

    fn leave_to(&self, owner: Owner) {
        let mut state = lock(&self.state);
        let (ended, received) = (state.ended, state.received);
        *state = State { ended, received, owner, ..State::default() };
    }

    pub(crate) fn event(&self, position: u64, prev: u64, body: Bytes) {
        let waker = {
            let mut state = lock(&self.state);
            state.received = state.received.max(position);
            if state.owner != Owner::Stream || state.ended {
                return;
            }
            let bytes = state.bytes.saturating_add(body.len());
            // One event is kept however long it is.
            let full =
                state.items.len() >= self.events_max || (bytes > self.bytes_max && !state.items.is_empty());
            if full {
                state.lost(position, position);
            } else {
                state.bytes = bytes;
                state.items.push_back(Item::Event { position, prev, body });
            }
            state.reader.take()
        };
        wake(waker);
    }

    /// Events were lost on the way.
    pub(crate) fn lagged(&self, first: u64, last: u64) {
        let waker = {
            let mut state = lock(&self.state);
            if state.owner != Owner::Stream || state.ended {
                return;
            }
            state.lost(first, last);
            state.reader.take()
        };
        wake(waker);
    }

    /// No more events will come. What is in the queue is still read.
    pub(crate) fn end(&self) {
        let waker = {
            let mut state = lock(&self.state);
            state.ended = true;
            state.reader.take()
        };
        wake(waker);
    }

    /// The last position that arrived on this connection, for whatever stream; 0 if none did.
    pub(crate) fn received(&self) -> u64 {
        lock(&self.state).received
    }

    /// Moves everything that waits to `into`, which is empty. `Ready(false)`: nothing waits and nothing will come.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>, into: &mut VecDeque<Item>) -> Poll<bool> {
        let mut state = lock(&self.state);
        if !state.items.is_empty() {
            std::mem::swap(&mut state.items, into);
            state.bytes = 0;
            return Poll::Ready(true);
        }
        if state.ended {
            return Poll::Ready(false);
        }
        match &mut state.reader {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl State {
    /// Notes a loss behind what waits. Losses with no event between them are one, so the queue exceeds its bound by at most
    /// one item.
    fn lost(&mut self, first: u64, last: u64) {
        match self.items.back_mut() {
            Some(Item::Lagged { first: from, last: to }) => {
                *from = first.min(*from);
                *to = last.max(*to);
            }
            Some(Item::Event { .. }) | None => self.items.push_back(Item::Lagged { first, last }),
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::task::noop_waker;

    fn take(queue: &EventQueue) -> Option<Vec<Item>> {
        let mut items = VecDeque::new();
        match queue.poll_take(&mut Context::from_waker(&noop_waker()), &mut items) {
            Poll::Ready(true) => Some(items.into()),
            Poll::Ready(false) => None,
            Poll::Pending => Some(Vec::new()),
        }
    }

    fn event(position: u64) -> Item {
        Item::Event { position, prev: position - 1, body: Bytes::from_static(b"12345678") }
    }

    fn push(queue: &EventQueue, positions: impl IntoIterator<Item = u64>) {
        for position in positions {
            queue.event(position, position - 1, Bytes::from_static(b"12345678"));
        }
    }

    #[test]
    fn what_does_not_fit_leaves_its_positions() {
        let queue = EventQueue::new(2, 1 << 20);
        assert_eq!((queue.claim(), queue.claim()), (Claim::Yours, Claim::Taken));
        push(&queue, 1..=5);
        assert_eq!(take(&queue), Some(vec![event(1), event(2), Item::Lagged { first: 3, last: 5 }]));
        push(&queue, 6..=6);
        assert_eq!(take(&queue), Some(vec![event(6)]));
    }

    #[test]
    fn a_notice_from_the_wire_joins_a_loss_of_our_own() {
        let queue = EventQueue::new(1, 1 << 20);
        queue.claim();
        push(&queue, 1..=3);
        queue.lagged(4, 9);
        assert_eq!(take(&queue), Some(vec![event(1), Item::Lagged { first: 2, last: 9 }]));
    }

    #[test]
    fn bytes_bound_it_too_and_one_event_always_fits() {
        let queue = EventQueue::new(100, 4);
        queue.claim();
        push(&queue, 1..=2);
        assert_eq!(take(&queue), Some(vec![event(1), Item::Lagged { first: 2, last: 2 }]));
    }

    #[test]
    fn nothing_is_kept_without_a_stream_and_the_rest_is_read_after_the_end() {
        let queue = EventQueue::new(4, 1 << 20);
        push(&queue, 1..=1);
        queue.claim();
        assert_eq!(take(&queue), Some(vec![]));
        push(&queue, 2..=2);
        queue.end();
        push(&queue, 3..=3);
        assert_eq!(take(&queue), Some(vec![event(2)]));
        assert_eq!(take(&queue), None);
        queue.free();
        assert_eq!(queue.claim(), Claim::Yours);
        assert_eq!(take(&queue), None, "the connection is still over");
    }

    #[test]
    fn left_overs_of_a_past_stream_do_not_reach_the_next() {
        let queue = EventQueue::new(4, 1 << 20);
        queue.claim();
        push(&queue, 1..=1);
        queue.retire();
        push(&queue, 2..=2);
        assert_eq!(queue.claim(), Claim::Soon);
        queue.free();
        assert_eq!(queue.claim(), Claim::Yours);
        assert_eq!(queue.received(), 2);
        push(&queue, 3..=3);
        assert_eq!(take(&queue), Some(vec![event(3)]));
    }
}
