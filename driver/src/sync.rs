//! The only module that names a synchronisation primitive, so that the cell that ships is the cell that loom explores
//! (`--cfg modipc_loom`).
//!
//! One mutex carries all the reasoning about order. `Arc` and `Waker` stay std's under loom too: they count references and
//! decide nothing. The thread's scratch buffer is moved out while it is used, so a checker that runs its threads on one
//! system thread meets no borrow of another one's.

use core::cell::Cell;
use core::future::Future;

#[cfg(modipc_loom)]
use loom::sync as raw;
#[cfg(not(modipc_loom))]
use std::sync as raw;

pub(crate) use std::sync::{Arc, Weak};

/// A mutex that does not know poison: a panic under the lock can only come from the closure given to `Link::with`, and
/// then the task or the caller that panicked is dropped, which ends its part in the cell.
pub(crate) struct Mutex<T>(raw::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(raw::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> raw::MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Runs a future on this thread, which sleeps while the future waits.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    #[cfg(not(modipc_loom))]
    return futures_lite::future::block_on(future);
    #[cfg(modipc_loom)]
    return loom::future::block_on(future);
}

/// Bytes of one thread's scratch buffer. Under loom a reading costs nothing, so it may be small.
const SCRATCH_BYTES: usize = if cfg!(modipc_loom) { 512 } else { 64 << 10 };

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends the thread's scratch buffer. One for each thread and none for each connection: an idle connection costs nothing.
pub(crate) fn with_scratch<T>(f: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buf = SCRATCH.take();
    if buf.is_empty() {
        buf = vec![0; SCRATCH_BYTES];
    }
    let out = f(&mut buf);
    SCRATCH.set(buf);
    out
}

#[cfg(all(test, not(modipc_loom)))]
pub(crate) use std::thread;

#[cfg(all(test, modipc_loom))]
pub(crate) use loom::thread;

/// Runs a scenario in every order of its threads, up to the bound on preemptions; without loom, in as many orders as a few
/// hundred runs happen to meet.
#[cfg(test)]
pub(crate) fn explore(scenario: impl Fn() + Send + Sync + 'static) {
    #[cfg(not(modipc_loom))]
    (0..500).for_each(|_| scenario());
    #[cfg(modipc_loom)]
    loom::model(scenario);
}
