//! The handle of one connection.

use core::future::Future;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::Arc;

use bytes::Bytes;
use modipc_core::{Body, CallId, CallOptions, CloseReason, Connection, Dialect, Role};

use crate::error::CallError;
use crate::runtime::{BoxFuture, Runtime};
use crate::service::Service;
use crate::stats::Stats;
use crate::trace::StepSink;
use crate::transport::Transport;

/// One end of one connection, for any number of tasks and threads. Clones are the same connection.
pub struct Link<R: Role, D: Dialect>(Arc<PhantomData<(R, D)>>);

impl<R: Role, D: Dialect> Clone for Link<R, D> {
    fn clone(&self) -> Self {
        Link(Arc::clone(&self.0))
    }
}

#[allow(unused_variables, clippy::todo)]
impl<R: Role, D: Dialect> Link<R, D> {
    /// The shared cell and the connection's task. Spawn the task: it ends, with the reason, when the connection is closed
    /// and the last words are written. Dropping the task drops the connection, and every open call ends as
    /// [`CallError::Lost`].
    pub fn new<T: Transport, S: Service<R, D>>(
        runtime: Arc<dyn Runtime>,
        transport: T,
        connection: Connection<R, D>,
        service: S,
    ) -> (Link<R, D>, BoxFuture<CloseReason>) {
        todo!()
    }

    /// Issues a call now: its id and its frame exist when this returns, whether or not the future is polled. The future
    /// resolves to the answer's body. Dropping it cancels the call [C-4].
    pub fn call(&self, options: &CallOptions, body: Body<'_>) -> Call<R, D> {
        todo!()
    }

    /// Runs a command on the connection under its lock, with the time now, then wakes the task if there is something to
    /// write or an earlier deadline. `f` must not block and must not use the link, which would deadlock.
    pub fn with<T>(&self, f: impl FnOnce(&mut Connection<R, D>, u64) -> T) -> T {
        todo!()
    }

    /// Why the connection ended, if it did.
    #[must_use]
    pub fn closed(&self) -> Option<CloseReason> {
        todo!()
    }

    /// Resolves when the connection has ended. Cancel safe.
    pub fn wait_closed(&self) -> WaitClosed<R, D> {
        todo!()
    }

    /// Makes the task look again: it calls [`Service::poll`] and [`Service::fill`].
    pub fn wake(&self) {
        todo!()
    }

    /// The executor and clock that this connection runs on.
    #[must_use]
    pub fn runtime(&self) -> &Arc<dyn Runtime> {
        todo!()
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        todo!()
    }

    /// Hands every step from now on to `sink`, in order. At most `steps_max` steps wait while the sink is busy; beyond
    /// that the oldest are lost.
    pub fn trace(&self, steps_max: usize, sink: Box<dyn StepSink>) {
        todo!()
    }
}

/// A call that was issued. Resolves once, to the answer's body.
///
/// Cancel safety: dropping it cancels the call. The peer is told [C-4], and no task or thread waits for anything.
#[must_use = "a call that is dropped is cancelled"]
pub struct Call<R: Role, D: Dialect>(PhantomData<(R, D)>);

#[allow(unused_variables, clippy::todo)]
impl<R: Role, D: Dialect> Call<R, D> {
    /// Its id, or `None` if it was refused.
    #[must_use]
    pub fn id(&self) -> Option<CallId> {
        todo!()
    }

    /// The key that [`modipc_core::Event::Progress`] carries for this call; `None` if it was refused.
    #[must_use]
    pub fn key(&self) -> Option<u64> {
        todo!()
    }
}

#[allow(unused_variables, clippy::todo)]
impl<R: Role, D: Dialect> Future for Call<R, D> {
    type Output = Result<Bytes, CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        todo!()
    }
}

/// Resolves to the reason when the connection has ended. Cancel safe.
#[must_use = "futures do nothing unless polled"]
pub struct WaitClosed<R: Role, D: Dialect>(PhantomData<(R, D)>);

#[allow(unused_variables, clippy::todo)]
impl<R: Role, D: Dialect> Future for WaitClosed<R, D> {
    type Output = CloseReason;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CloseReason> {
        todo!()
    }
}
