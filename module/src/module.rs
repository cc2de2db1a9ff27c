//! What a module's author writes.

use std::sync::Arc;

use async_trait::async_trait;
use modipc_api::{Capability, CapabilitySet, Event, LogLevel, RawEvent};
use modipc_core::SubscribeOptions;

use crate::{Client, Connect, Defaults, Draining, Environment, InvocationHandler, Topics};

/// Why a module ends itself: any error. See [`Exit`](crate::Exit) for the exit code that it leads to.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What a module's methods have at hand.
#[derive(Clone, Debug)]
pub struct Context {
    client: Client,
    environment: Environment,
}

impl Context {
    pub(crate) fn new(client: Client, environment: Environment) -> Self {
        Context { client, environment }
    }

    /// The connection to the host.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What the process was started with: data directory, settings.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }
}

/// What a module says of itself before it does anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    pub(crate) id: String,
    pub(crate) version: String,
    pub(crate) capabilities: CapabilitySet,
    pub(crate) topics: Topics,
}

impl About {
    /// A module of this name [H-4] and version (at most 64 bytes; `env!("CARGO_PKG_VERSION")`), which asks for nothing. A host that
    /// starts it under another name sets `MODULE_ID`.
    #[must_use]
    pub fn new(id: impl Into<String>, version: impl Into<String>) -> Self {
        About {
            id: id.into(),
            version: version.into(),
            capabilities: CapabilitySet::EMPTY,
            topics: Topics::NONE,
        }
    }

    /// It asks for these capabilities. What it got is in [`Client::grants`].
    #[must_use]
    pub fn asks_for(mut self, capabilities: &[Capability]) -> Self {
        self.capabilities = CapabilitySet::of(capabilities);
        self
    }

    /// It wants these events: a type, a group, or a list of types.
    #[must_use]
    pub fn wants(mut self, topics: impl Into<Topics>) -> Self {
        self.topics = topics.into();
        self
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it asks for.
    #[must_use]
    pub fn capabilities(&self) -> CapabilitySet {
        self.capabilities
    }
}

/// A module: what it is, and what it does with what comes.
///
/// The methods that begin with `on_` run one after the other, in the order of the host's log; while one runs, events wait and,
/// beyond the stream's bounds, are reported to [`Module::on_lag`]. The host's invocations do not wait for them: they go to
/// [`Module::handler`]. A method that fails ends the module: the host gets the error as a log message and a goodbye.
#[async_trait]
pub trait Module: Send + 'static {
    /// What it is: name, version, the capabilities that it asks for and the events that it wants.
    fn about(&self) -> About;

    /// The events that it wants, if that is known only after [`Module::start`].
    fn topics(&self) -> Topics {
        self.about().topics
    }

    /// From where it wants them and what happens when it is too slow. Asked after [`Module::start`], which may have loaded a cursor.
    fn subscribe_options(&self) -> SubscribeOptions {
        SubscribeOptions::default()
    }

    /// Whoever answers the host's invocations, health checks among them.
    fn handler(&self) -> Arc<dyn InvocationHandler> {
        Arc::new(Defaults)
    }

    /// The last word on how it connects: bounds, waiting times, profile.
    fn connect(&self, hello: Connect) -> Connect {
        hello
    }

    /// The connection is there; no event has come yet. A module that has done all its work here closes the client.
    async fn start(&mut self, cx: &Context) -> Result<(), Failure> {
        let _ = cx;
        Ok(())
    }

    /// An event.
    async fn on_event(&mut self, cx: &Context, position: u64, event: Event) -> Result<(), Failure> {
        let _ = (cx, position, event);
        Ok(())
    }

    /// An event of a type that this build does not know. Passed over unless overridden.
    async fn on_unknown(&mut self, cx: &Context, position: u64, event: RawEvent) -> Result<(), Failure> {
        let _ = (cx, position, event);
        Ok(())
    }

    /// Subscribed events at positions `first` to `last` are missing (both 0 in the plain profile). Logged as a warning unless
    /// overridden.
    async fn on_lag(&mut self, cx: &Context, first: u64, last: u64) -> Result<(), Failure> {
        let fields = [("first", &*first.to_string()), ("last", &*last.to_string())];
        cx.client.log_with(LogLevel::Warn, "modipc", "events were missed", &fields);
        Ok(())
    }

    /// The host changed what is granted.
    async fn on_grants(&mut self, cx: &Context, grants: CapabilitySet) -> Result<(), Failure> {
        let _ = (cx, grants);
        Ok(())
    }

    /// The host said goodbye: no event follows and no call is taken any more. The module ends when this returns.
    async fn on_draining(&mut self, cx: &Context, draining: &Draining) -> Result<(), Failure> {
        let _ = (cx, draining);
        Ok(())
    }
}
