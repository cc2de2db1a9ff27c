//! Making a connection: what a module says of itself, and the handshake.

use std::sync::Arc;

use modipc_api::{Capability, CapabilitySet, NativeDialect};
use modipc_core::{Config, Connection, Hello, HelloTail, Limits, PROTOCOL, check_module_id};
use modipc_driver::{Link, Runtime, Transport};

use crate::client::{Client, Inner, ModuleLink};
use crate::events::EventQueue;
use crate::invocation::{Defaults, InvocationHandler};
use crate::service::ModuleService;
use crate::session::{Failed, Session};
use crate::{ConnectError, Error};

/// What a module says of itself when it connects, and the bounds that it sets.
#[derive(Clone)]
pub struct Connect {
    module_id: String,
    version: String,
    capabilities: CapabilitySet,
    token: Vec<u8>,
    config: Config,
    event_bytes_max: usize,
    handler: Arc<dyn InvocationHandler>,
}

impl Connect {
    /// A module of this id [H-4] and of this version (at most 64 bytes), which asks for no capability.
    pub fn new(module_id: impl Into<String>, version: impl Into<String>) -> Self {
        Connect {
            module_id: module_id.into(),
            version: version.into(),
            capabilities: CapabilitySet::EMPTY,
            token: Vec::new(),
            config: Connect::CONFIG,
            event_bytes_max: 8 << 20,
            handler: Arc::new(Defaults),
        }
    }

    /// The bounds of a module unless [`Connect::config`] says otherwise: those of [`Config::DEFAULT`], but 64 invocations at a
    /// time.
    pub const CONFIG: Config =
        Config { limits: Limits { calls_max: 64, ..Limits::DEFAULT }, ..Config::DEFAULT };

    /// Asks for one more capability. What is granted is for the host's operator to say: see [`Client::grants`].
    #[must_use]
    pub fn capability(mut self, capability: Capability) -> Self {
        self.capabilities = self.capabilities.with(capability);
        self
    }

    /// Asks for these capabilities too.
    #[must_use]
    pub fn capabilities(mut self, capabilities: CapabilitySet) -> Self {
        self.capabilities = self.capabilities.union(capabilities);
        self
    }

    /// The one-time token of a module that is attached by hand (at most 64 bytes).
    #[must_use]
    pub fn token(mut self, token: impl Into<Vec<u8>>) -> Self {
        self.token = token.into();
        self
    }

    /// Bounds and waiting times. [`Config::inbox_max`] also bounds the events that wait for a stream's reader.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Bytes of events that may wait for a stream's reader, unless it is a single event; 8 MiB otherwise. What exceeds it is
    /// dropped and reported as a lag.
    #[must_use]
    pub fn event_bytes_max(mut self, bytes: usize) -> Self {
        self.event_bytes_max = bytes;
        self
    }

    /// Whoever answers the host's invocations.
    #[must_use]
    pub fn handler(mut self, handler: Arc<dyn InvocationHandler>) -> Self {
        self.handler = handler;
        self
    }

    /// The module's id.
    #[must_use]
    pub fn module_id(&self) -> &str {
        &self.module_id
    }

    /// A Hello that a seed-only module could send has no tail at all [H-2].
    fn hello(&self) -> Hello {
        let tail = (self.config.x1 || !self.token.is_empty()).then(|| HelloTail {
            protocol: PROTOCOL,
            token: self.token.clone(),
            x1: self.config.x1,
            limits: Some(self.config.limits),
            unknown_critical: None,
        });
        Hello {
            module_id: self.module_id.clone(),
            capabilities: self.capabilities.names().into_iter().map(str::to_owned).collect(),
            version: self.version.clone(),
            tail,
        }
    }
}

impl std::fmt::Debug for Connect {
    /// Leaves the token out: it is a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect")
            .field("module_id", &self.module_id)
            .field("version", &self.version)
            .field("capabilities", &self.capabilities)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

pub(crate) async fn connect<T: Transport>(
    runtime: Arc<dyn Runtime>,
    transport: T,
    hello: Connect,
) -> Result<Client, ConnectError> {
    begin(runtime, transport, hello)?.wait().await
}

/// Sends the Hello.
pub(crate) fn begin<T: Transport>(
    runtime: Arc<dyn Runtime>,
    transport: T,
    hello: Connect,
) -> Result<Pending, ConnectError> {
    let module_id = hello.module_id.clone();
    if let Err(why) = check_module_id(&module_id) {
        return Err(ConnectError::BadModuleId { module_id, why });
    }
    let now = runtime.now();
    let mut connection = Connection::new(now, hello.config, NativeDialect);
    if let Err(why) = connection.hello(now, hello.hello()) {
        return Err(ConnectError::BadHello { module_id, why });
    }
    let events = EventQueue::new(hello.config.inbox_max, hello.event_bytes_max);
    let session = Arc::new(Session::new(events));
    let service = ModuleService::new(Arc::clone(&session), module_id.as_str().into(), hello.handler);
    let (link, task) = Link::new(Arc::clone(&runtime), transport, connection, service);
    runtime.spawn(Box::pin(async move {
        task.await;
    }));
    Ok(Pending { session, link, module_id, over: false })
}

/// A handshake under way. Dropping it drops the connection.
pub(crate) struct Pending {
    session: Arc<Session>,
    link: ModuleLink,
    module_id: String,
    over: bool,
}

impl Pending {
    async fn wait(mut self) -> Result<Client, ConnectError> {
        let result = self.session.until(Session::take_handshake).await;
        self.finish(result)
    }

    pub(crate) fn block(mut self) -> Result<Client, ConnectError> {
        let result = self.session.block_until(Session::take_handshake);
        self.finish(result)
    }

    fn finish(&mut self, result: Result<Arc<Inner>, Failed>) -> Result<Client, ConnectError> {
        self.over = true;
        let module_id = std::mem::take(&mut self.module_id);
        match result {
            Ok(inner) => Ok(Client::new(inner)),
            Err(Failed::Refused(refusal)) => Err(ConnectError::Refused {
                module_id,
                code: refusal.code,
                message: refusal.message,
                hint: refusal.hint,
            }),
            Err(Failed::Ended(reason)) => Err(ConnectError::Ended { module_id, reason }),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.over {
            self.session.forget_handshake();
            self.link.with(|connection, now| connection.abort(now));
        }
    }
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        Error::Module(error.into())
    }
}
