//! The client for threads.

use std::sync::Arc;
use std::time::Duration;

use modipc_api::{MessageType, Request, Response};
use modipc_core::{CallOptions, CloseReason, IdempotencyKey};
use modipc_driver::{Runtime, Transport};

use crate::connect::{Connect, begin};
use crate::error::failed;
use crate::reply::block;
use crate::requests::read;
use crate::{Client, ConnectError, Error};

/// A [`Client`] whose calls block the calling thread. The connection's task runs on the runtime that was given; the thread
/// must not be one that the runtime needs in order to make progress.
#[derive(Clone, Debug)]
pub struct BlockingClient(Client);

impl BlockingClient {
    /// Connects, and blocks until the host has answered.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect<T: Transport>(
        runtime: Arc<dyn Runtime>,
        transport: T,
        hello: Connect,
    ) -> Result<Self, ConnectError> {
        begin(runtime, transport, hello)?.block().map(BlockingClient)
    }

    /// The same connection, for threads.
    #[must_use]
    pub fn new(client: Client) -> Self {
        BlockingClient(client)
    }

    /// The same connection, for tasks: for what only a task needs, such as events.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.0
    }

    /// A handle of the same connection whose calls wait this long; see [`Client::with_deadline`].
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        BlockingClient(self.0.with_deadline(deadline))
    }

    /// Blocks until the connection has ended.
    #[must_use]
    pub fn wait_closed(&self) -> CloseReason {
        modipc_driver::BlockingLink::new(self.0.inner.link.clone()).wait_closed()
    }

    pub(crate) fn request_answered(&self, request: Request) -> Result<(MessageType, Response), Error> {
        self.request_once_answered(request, None)
    }

    pub(crate) fn request_once_answered(
        &self,
        request: Request,
        key: Option<IdempotencyKey>,
    ) -> Result<(MessageType, Response), Error> {
        let inner = &self.0.inner;
        let options = CallOptions { idempotency: key, ..self.0.options() };
        let message_type = request.message_type();
        let body = block(inner, &request, &options)
            .map_err(|error| failed(&inner.module_id, message_type, options.deadline_us, error))?;
        Ok((message_type, read(inner, message_type, options.deadline_us, body)?))
    }
}
