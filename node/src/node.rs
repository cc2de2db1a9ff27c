//! The node: what all connections share, and what the application holds.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use modipc_api::{CapabilitySet, Event, Invocation, InvocationResult, NativeDialect};
use modipc_core::{Accepted, Body, CallOptions, CloseReason, Connection, Hello, Refusal, TopicSet};
use modipc_driver::{CallError, Link, Runtime, StepSink, Transport};

use crate::admission::{Admission, AdmissionError, Admitted, NotAttachable};
use crate::api::NodeApi;
use crate::bus::{Bus, PublishError};
use crate::config::{ConfigError, NodeConfig};
use crate::policy::{PeerIdentity, Policy};
use crate::session::{HostConnection, Live, NodeLink, Session, event_types};
use crate::signal::Signal;
use crate::status::{ModuleState, ModuleStatus};
use crate::token::Token;

/// The host side of any number of modules. Clones are the same node.
#[derive(Clone)]
pub struct Node {
    pub(crate) inner: Arc<Inner>,
}

/// Makes the sink for the steps of one connection, or none. The number counts the connections from 1.
pub type TraceSinks = Arc<dyn Fn(u64, &PeerIdentity) -> Option<Box<dyn StepSink>> + Send + Sync>;

/// What a [`Node`] is made of.
pub struct NodeBuilder {
    runtime: Arc<dyn Runtime>,
    api: Arc<dyn NodeApi>,
    config: NodeConfig,
    policy: Policy,
    trace: Option<(usize, TraceSinks)>,
}

impl NodeBuilder {
    /// Bounds and times other than [`NodeConfig::default`].
    #[must_use]
    pub fn config(mut self, config: NodeConfig) -> Self {
        self.config = config;
        self
    }

    /// The operator's decisions. Without it only modules that the host starts are admitted.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Records every step of every connection that `sinks` gives a sink for. At most `steps_max` steps of each wait.
    #[must_use]
    pub fn trace(mut self, steps_max: usize, sinks: TraceSinks) -> Self {
        self.trace = Some((steps_max, sinks));
        self
    }

    /// The node. It does nothing by itself: give it connections with [`Node::attach`], [`Node::serve`] or
    /// [`Node::launch`].
    ///
    /// # Errors
    /// The configuration cannot work.
    pub fn build(self) -> Result<Node, ConfigError> {
        let NodeBuilder { runtime, api, config, policy, trace } = self;
        config.check()?;
        let mut instance_id = [0; 16];
        for half in instance_id.as_chunks_mut::<8>().0 {
            *half = runtime.seed().to_le_bytes();
        }
        let registry = Registry {
            admission: Admission::new(policy, config.modules_max, config.token_us),
            connections: 0,
            introducing: BTreeMap::new(),
            modules: BTreeMap::new(),
            denied: BTreeMap::new(),
            ended: Vec::new(),
        };
        let bus = Bus::new(config.events_max, config.event_bytes_max, config.publish_wait_us);
        let registry = Mutex::new(registry);
        let (changed, stopping) = (Signal::default(), Signal::default());
        let inner = Inner { runtime, api, config, instance_id, bus, registry, changed, stopping, trace };
        Ok(Node { inner: Arc::new(inner) })
    }
}

/// What all connections share.
///
/// Lock order: a connection's cell, then the registry or the bus. Whoever holds the registry or the bus takes nothing else.
pub(crate) struct Inner {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) api: Arc<dyn NodeApi>,
    pub(crate) config: NodeConfig,
    instance_id: [u8; 16],
    pub(crate) bus: Bus,
    registry: Mutex<Registry>,
    /// A connection ended.
    pub(crate) changed: Signal,
    /// The node shuts down.
    pub(crate) stopping: Signal,
    trace: Option<(usize, TraceSinks)>,
}

/// Who is there.
pub(crate) struct Registry {
    pub(crate) admission: Admission,
    connections: u64,
    /// Connections before their Hello, the oldest first.
    pub(crate) introducing: BTreeMap<u64, NodeLink>,
    pub(crate) modules: BTreeMap<Arc<str>, Member>,
    /// What each module was denied before, as bits. Only modules that were admitted are here.
    denied: BTreeMap<Arc<str>, u64>,
    /// How connections ended since the node began to shut down.
    pub(crate) ended: Vec<(Arc<str>, CloseReason)>,
}

/// An admitted module.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) link: NodeLink,
    live: Arc<Live>,
    version: String,
    inherited: bool,
    since_us: u64,
}

/// What a connection brings to be admitted.
pub(crate) struct Joining<'a> {
    pub(crate) number: u64,
    pub(crate) identity: &'a PeerIdentity,
    pub(crate) hello: &'a Hello,
    pub(crate) link: &'a NodeLink,
    pub(crate) live: &'a Arc<Live>,
}

impl Inner {
    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        // Nothing panics half-way through a change of the registry.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides about a Hello and answers it, in one step: nobody can see a module that is admitted and not answered, or revoke a
    /// grant between the two.
    pub(crate) fn join(&self, joining: Joining<'_>) -> Result<Admitted, AdmissionError> {
        let fresh = Token::draw(&*self.runtime);
        joining.link.with(|connection, now| {
            let mut registry = self.registry();
            registry.introducing.remove(&joining.number);
            let decision = registry.admission.handle_hello(now, joining.identity, joining.hello, fresh);
            match &decision {
                Ok(admitted) => self.accept(now, connection, &mut registry, &joining, admitted),
                Err(error) => {
                    // Refused only if the connection is closed already, and then nobody is there to be told.
                    let _ = connection.refuse(now, Refusal::from(error));
                }
            }
            decision
        })
    }

    fn accept(
        &self,
        now: u64,
        connection: &mut HostConnection,
        registry: &mut Registry,
        joining: &Joining<'_>,
        admitted: &Admitted,
    ) {
        let grants = admitted.grants;
        joining.live.set_grants(grants, &TopicSet::EMPTY);
        let member = Member {
            link: joining.link.clone(),
            live: Arc::clone(joining.live),
            version: joining.hello.version.clone(),
            inherited: matches!(joining.identity, PeerIdentity::Inherited { .. }),
            since_us: now,
        };
        registry.modules.insert(Arc::clone(&admitted.module_id), member);
        let accepted = Accepted {
            granted: names(grants),
            limits: self.config.connection.limits,
            node_version: self.config.node_version.clone(),
            instance_id: self.instance_id,
            next_token: admitted.next_token.as_ref().map_or_else(Vec::new, |token| token.as_bytes().to_vec()),
            x1: self.config.connection.x1,
        };
        // Refused only if the connection is closed already: then the session is about to leave.
        let _ = connection.accept(now, accepted, grants.bits());
    }

    /// Notes a denial; true if the module was never denied one of these before.
    pub(crate) fn is_first_denial(&self, module: &Arc<str>, missing: CapabilitySet) -> bool {
        let mut registry = self.registry();
        let known = registry.denied.entry(Arc::clone(module)).or_default();
        let first = missing.bits() & !*known != 0;
        *known |= missing.bits();
        first
    }

    /// A connection's task has ended.
    pub(crate) fn left(&self, number: u64, module: Option<&Arc<str>>, reason: CloseReason) {
        let now = self.runtime.now();
        let mut registry = self.registry();
        registry.introducing.remove(&number);
        if let Some(module) = module {
            registry.modules.remove(module);
            registry.admission.handle_left(now, module);
            if registry.admission.is_shutting_down() {
                registry.ended.push((Arc::clone(module), reason));
            }
        }
        drop(registry);
        self.changed.notify();
    }
}

fn names(grants: CapabilitySet) -> Vec<String> {
    grants.iter().map(|capability| capability.name().to_owned()).collect()
}

/// The node takes no more connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node is shutting down and takes no more connections")]
pub struct ShuttingDown;

/// No module of this id is connected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no module {module_id:?} is connected")]
pub struct NotConnected {
    /// The module.
    pub module_id: String,
}

/// Why a module cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvokeError {
    /// The module is not there.
    #[error(transparent)]
    NotConnected(#[from] NotConnected),
    /// The call into the module failed.
    #[error("module {module_id:?}: {source}")]
    Call {
        /// The module.
        module_id: String,
        /// How it failed.
        source: CallError,
    },
    /// The module's answer does not decode.
    #[error("module {module_id:?} answered what is no answer: {source}")]
    Undecodable {
        /// The module.
        module_id: String,
        /// What is wrong.
        source: modipc_api::DecodeError,
    },
}

/// A connection that the node serves.
#[derive(Clone)]
pub struct Attached {
    pub(crate) link: NodeLink,
    live: Arc<Live>,
    number: u64,
}

impl Attached {
    /// Its number, which counts the node's connections from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Why it ended, if it did.
    #[must_use]
    pub fn closed(&self) -> Option<CloseReason> {
        self.link.closed()
    }

    /// Resolves when the module has been admitted, or with the reason why that cannot come any more. Cancel safe.
    ///
    /// # Errors
    /// The connection ended before: the module was refused, went away or was silent for too long.
    pub async fn wait_admitted(&self) -> Result<(), CloseReason> {
        let decision = || {
            if self.live.is_admitted() {
                return Some(Ok(()));
            }
            self.link.closed().map(Err)
        };
        self.live.decided.wait(decision).await
    }

    /// Resolves when it has ended. Cancel safe.
    pub async fn wait_closed(&self) -> CloseReason {
        self.link.wait_closed().await
    }

    /// Says goodbye [G-1]: the module finishes what runs, at most [`modipc_core::Config::drain_us`]. A connection that cannot be
    /// told is dropped.
    pub fn goodbye(&self, reason: u32, detail: &str) {
        self.link.with(|connection, now| {
            if connection.goodbye(now, reason, detail).is_err() && connection.closed().is_none() {
                connection.abort(now);
            }
        });
    }

    /// Drops it now.
    pub fn abort(&self) {
        self.link.with(|connection, now| connection.abort(now));
    }
}

impl Node {
    /// A node that answers through `api` and runs on `runtime`.
    pub fn builder(runtime: Arc<dyn Runtime>, api: Arc<dyn NodeApi>) -> NodeBuilder {
        let (config, policy) = (NodeConfig::default(), Policy::new());
        NodeBuilder { runtime, api, config, policy, trace: None }
    }

    /// Serves a connection that was just opened: its task runs on the node's runtime until it ends. The module has
    /// [`modipc_core::Config::hello_us`] to introduce itself.
    ///
    /// # Errors
    /// The node is shutting down; the transport is dropped.
    pub fn attach<T: Transport>(
        &self,
        transport: T,
        identity: PeerIdentity,
    ) -> Result<Attached, ShuttingDown> {
        let inner = &self.inner;
        let number = {
            let mut registry = inner.registry();
            if registry.admission.is_shutting_down() {
                return Err(ShuttingDown);
            }
            registry.connections += 1;
            registry.connections
        };
        let sink = inner.trace.as_ref().and_then(|(max, sinks)| Some((*max, sinks(number, &identity)?)));
        let connection = Connection::new(inner.runtime.now(), inner.config.connection, NativeDialect);
        let live = Arc::new(Live::default());
        let session = Session::new(Arc::clone(inner), number, identity, Arc::clone(&live));
        let (link, task) = Link::new(Arc::clone(&inner.runtime), transport, connection, session);
        if let Some((steps_max, sink)) = sink {
            link.trace(steps_max, sink);
        }
        self.introduce(number, &link);
        inner.runtime.spawn(Box::pin(async move {
            task.await;
        }));
        Ok(Attached { link, live, number })
    }

    /// Notes a connection that has not introduced itself. If there are too many of them, the oldest makes room.
    fn introduce(&self, number: u64, link: &NodeLink) {
        let mut registry = self.inner.registry();
        registry.introducing.insert(number, link.clone());
        let evicted = (registry.introducing.len() > self.inner.config.handshakes_max)
            .then(|| registry.introducing.pop_first())
            .flatten();
        drop(registry);
        if let Some((number, oldest)) = evicted {
            tracing::warn!(
                connection = number,
                "dropped the oldest of too many connections that have not introduced themselves"
            );
            oldest.with(|connection, now| connection.abort(now));
        }
    }

    /// Publishes an event: it has a position in the log, which is returned, and every subscriber gets it or is told that it
    /// did not. Waits for subscribers with the policy *wait*, at most [`NodeConfig::publish_wait_us`].
    ///
    /// Cancel safe: dropped before it is ready, nothing was published. Events of concurrent publishers have no order between
    /// them.
    ///
    /// # Errors
    /// [`PublishError::TooLong`].
    pub async fn publish(&self, event: &Event) -> Result<u64, PublishError> {
        self.inner.bus.publish(&*self.inner.runtime, event).await
    }

    /// Publishes an event without waiting.
    ///
    /// # Errors
    /// [`PublishError::Full`] if a subscriber with the policy *wait* has to be waited for; nothing was published.
    pub fn try_publish(&self, event: &Event) -> Result<u64, PublishError> {
        self.inner.bus.try_publish(event)
    }

    /// The position that the next event will have.
    #[must_use]
    pub fn next_position(&self) -> u64 {
        self.inner.bus.next_position()
    }

    /// How often a publication stopped waiting for a subscriber with the policy *wait*.
    #[must_use]
    pub fn overdue_subscribers(&self) -> u64 {
        self.inner.bus.overdue()
    }

    /// Calls into a module, which answers within `deadline_us` microseconds or the call fails.
    ///
    /// Cancel safe: dropping the future cancels the call.
    ///
    /// # Errors
    /// [`InvokeError`]. That the module answers with an error is a result and not an error.
    pub async fn invoke(
        &self,
        module_id: &str,
        invocation: &Invocation,
        deadline_us: u64,
    ) -> Result<InvocationResult, InvokeError> {
        let member = self.member(module_id)?;
        let mut head = Vec::new();
        let tail = invocation.encode_parts(&mut head);
        let options = CallOptions { deadline_us, trace: None, idempotency: None, subscribe: None };
        member.live.counters.invocations.add(1);
        let answer = member.link.call(&options, Body { head: &head, tail }).await;
        let module_id = || module_id.to_owned();
        let body = answer.map_err(|source| InvokeError::Call { module_id: module_id(), source })?;
        InvocationResult::decode_shared(&body)
            .map_err(|source| InvokeError::Undecodable { module_id: module_id(), source })
    }

    /// Changes what a module may do, at once and for its later connections; a connected module is told. Calls that are open
    /// go on. A module that is subscribed to events that it may no longer receive gets no events until it subscribes to what
    /// it may.
    ///
    /// # Errors
    /// Neither the policy nor a connection knows the module.
    pub fn set_grants(&self, module_id: &str, grants: CapabilitySet) -> Result<(), NotConnected> {
        let inner = &self.inner;
        let known = inner.registry().admission.set_grants(module_id, grants);
        if !known {
            return Err(NotConnected { module_id: module_id.to_owned() });
        }
        let Ok(member) = self.member(module_id) else { return Ok(()) };
        member.link.with(|connection, now| {
            // Of several changes at a time each writes what holds now: the last one to get here wins, with the last decision.
            let Some(grants) = inner.registry().admission.grants(module_id) else { return };
            member.live.set_grants(grants, &connection.topics());
            // A muted reader moves no more: nobody may wait for it.
            if member.live.muted.load(Ordering::Relaxed)
                && let Some(hold) = connection.hold()
            {
                inner.bus.release(hold);
            }
            // Refused only if the connection is closed.
            let _ = connection.set_grants(now, grants.bits(), &names(grants));
        });
        inner.bus.wake_publishers();
        member.link.wake();
        Ok(())
    }

    /// A one-time token with which the module connects the first time, or when it has lost its own. An earlier one is void.
    ///
    /// # Errors
    /// The policy does not let the module attach with a token.
    pub fn issue_token(&self, module_id: &str) -> Result<Token, NotAttachable> {
        let token = Token::draw(&*self.inner.runtime);
        let now = self.inner.runtime.now();
        self.inner.registry().admission.issue_token(now, module_id, token.clone())?;
        Ok(token)
    }

    /// The modules that are connected, in the order of their ids.
    #[must_use]
    pub fn modules(&self) -> Vec<ModuleStatus> {
        let members: Vec<_> = {
            let registry = self.inner.registry();
            registry.modules.iter().map(|(id, member)| (Arc::clone(id), member.clone())).collect()
        };
        let next = self.next_position();
        members.into_iter().map(|(id, member)| member.status(id, next)).collect()
    }

    /// Connections that have not introduced themselves.
    #[must_use]
    pub fn handshakes(&self) -> usize {
        self.inner.registry().introducing.len()
    }

    /// The executor and clock that the node runs on.
    #[must_use]
    pub fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.inner.runtime
    }

    fn member(&self, module_id: &str) -> Result<Member, NotConnected> {
        let registry = self.inner.registry();
        let member = registry.modules.get(module_id).cloned();
        member.ok_or_else(|| NotConnected { module_id: module_id.to_owned() })
    }
}

impl Member {
    fn status(&self, module_id: Arc<str>, next: u64) -> ModuleStatus {
        let link = self.link.stats();
        self.link.with(|connection, _| ModuleStatus {
            module_id,
            version: self.version.clone(),
            state: if connection.is_active() { ModuleState::Active } else { ModuleState::Draining },
            inherited: self.inherited,
            since_us: self.since_us,
            grants: CapabilitySet::from_bits(connection.grants()),
            subscribed: event_types(&connection.topics()),
            events_behind: connection.position().map_or(0, |at| next.saturating_sub(at)),
            calls_open: connection.served_open(),
            outbox_bytes: connection.outbox_bytes(),
            counts: self.live.counters.read(),
            link,
        })
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registry = self.inner.registry();
        f.debug_struct("Node")
            .field("modules", &registry.modules.keys())
            .field("handshakes", &registry.introducing.len())
            .finish_non_exhaustive()
    }
}
