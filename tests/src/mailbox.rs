//! Values on their way from a callback to the test that waits for them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_listener::Event;

/// An unbounded queue with one reader. Clones are the same queue.
#[derive(Debug)]
pub struct Mailbox<T> {
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T> {
    items: Mutex<VecDeque<T>>,
    arrived: Event,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Mailbox { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Mailbox { shared: Arc::new(Shared { items: Mutex::default(), arrived: Event::new() }) }
    }
}

impl<T> Mailbox<T> {
    /// Puts a value in.
    pub fn put(&self, item: T) {
        self.items().push_back(item);
        self.shared.arrived.notify(usize::MAX);
    }

    /// The next value. Cancel safe.
    pub async fn take(&self) -> T {
        loop {
            let arrived = self.shared.arrived.listen();
            if let Some(item) = self.try_take() {
                return item;
            }
            arrived.await;
        }
    }

    /// The next value, if it is there.
    #[must_use]
    pub fn try_take(&self) -> Option<T> {
        self.items().pop_front()
    }

    fn items(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.shared.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
