//! Calls from threads that are not part of an executor.

use bytes::Bytes;
use modipc_core::{Body, CallOptions, CloseReason, Dialect, Role};

use crate::error::CallError;
use crate::link::Link;
use crate::sync;

/// A [`Link`] whose calls block the calling thread. The connection's task still has to run on some executor.
///
/// Must not be used on a thread that an executor needs in order to make progress.
pub struct BlockingLink<R: Role, D: Dialect>(Link<R, D>);

impl<R: Role, D: Dialect> Clone for BlockingLink<R, D> {
    fn clone(&self) -> Self {
        BlockingLink(self.0.clone())
    }
}

impl<R: Role, D: Dialect> core::fmt::Debug for BlockingLink<R, D> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("BlockingLink").field(&self.0).finish()
    }
}

impl<R: Role, D: Dialect> BlockingLink<R, D> {
    /// The same link, for threads.
    #[must_use]
    pub fn new(link: Link<R, D>) -> Self {
        BlockingLink(link)
    }

    /// Calls, and blocks until the answer is there.
    ///
    /// # Errors
    /// [`CallError`]
    pub fn call(&self, options: &CallOptions, body: Body<'_>) -> Result<Bytes, CallError> {
        sync::block_on(self.0.call(options, body))
    }

    /// Blocks until the connection has ended.
    pub fn wait_closed(&self) -> CloseReason {
        sync::block_on(self.0.wait_closed())
    }

    /// The link itself.
    #[must_use]
    pub fn link(&self) -> &Link<R, D> {
        &self.0
    }
}
