//! What a side does with what arrives.

use core::task::Context;

use modipc_core::{Connection, Dialect, Event, Role};

use crate::link::Link;

/// What a side does with what arrives. It is owned by the connection's task, and dropped when that task ends.
pub trait Service<R: Role, D: Dialect>: Send + 'static {
    /// An event of the connection, in order; [`Event::Closed`] is the last one. Called by the task without the lock, so
    /// [`Link::with`] and [`Link::call`] are allowed. Must not block.
    fn event(&mut self, link: &Link<R, D>, event: Event);

    /// Drives the service's own futures, such as calls that are being served. Called at every poll of the task, after
    /// the events that came, with the task's waker. What it puts into the connection is written right after it returns.
    fn poll(&mut self, cx: &mut Context<'_>, link: &Link<R, D>);

    /// Called under the connection's lock before each batch is taken: here a host pulls events from its log. Registers
    /// `cx`'s waker where it wants to be woken when there is more. Must not block and must not call back into the link,
    /// which would deadlock.
    fn fill(&mut self, cx: &mut Context<'_>, connection: &mut Connection<R, D>, now: u64) {
        let _ = (cx, connection, now);
    }
}
