//! Waiting until something that others change has become true.

use std::future::poll_fn;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use modipc_driver::{BoxFuture, Runtime};

/// Wakes those who wait, so that they look again. It carries no state: what they look at is elsewhere.
#[derive(Default)]
pub(crate) struct Signal {
    waiting: Mutex<Vec<Waker>>,
}

impl Signal {
    /// What they look at has changed.
    pub(crate) fn notify(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Resolves when `ready` gives a value. Cancel safe.
    pub(crate) async fn wait<T>(&self, mut ready: impl FnMut() -> Option<T>) -> T {
        poll_fn(|cx| self.look(cx, &mut ready)).await
    }

    /// The same, until a time in microseconds at the latest; `None` if it came to that. Cancel safe.
    pub(crate) async fn wait_until<T>(
        &self,
        runtime: &dyn Runtime,
        until: u64,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let mut sleep: Option<BoxFuture<()>> = None;
        poll_fn(|cx| {
            if let Poll::Ready(value) = self.look(cx, &mut ready) {
                return Poll::Ready(Some(value));
            }
            loop {
                if runtime.now() >= until {
                    return Poll::Ready(None);
                }
                let timer = sleep.get_or_insert_with(|| runtime.sleep_until(until));
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                // It may have been early: then sleep again.
                sleep = None;
            }
        })
        .await
    }

    fn look<T>(&self, cx: &mut Context<'_>, ready: &mut impl FnMut() -> Option<T>) -> Poll<T> {
        if let Some(value) = ready() {
            return Poll::Ready(value);
        }
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if !waiting.iter().any(|known| known.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
        }
        // It may have changed before the waker was there.
        ready().map_or(Poll::Pending, Poll::Ready)
    }
}
