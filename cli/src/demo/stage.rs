//! The node and its modules, and the few things that the demo asks of them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use modipc_api::{Capability, CapabilitySet, Event, HealthReport, Invocation, InvocationResult};
use modipc_node::{InvokeError, ModuleSpec, ModuleStatus, Node, NodeConfig, ProcessLauncher, RunningModule};
use modipc_transport_uds::{TokioRuntime, UdsTransport, socketpair_for_child};
use serde::de::DeserializeOwned;

use crate::error::CliError;
use crate::modules::Name;
use crate::trace::TraceFile;

/// How long the demo waits for any one answer of a module.
const PATIENCE: Duration = Duration::from_secs(30);

/// Steps of a connection that may wait for the trace file.
const TRACE_STEPS_MAX: usize = 65_536;

pub(crate) struct Stage {
    pub(crate) node: Node,
    runtime: TokioRuntime,
    modules: BTreeMap<Name, RunningModule>,
    published: BTreeMap<String, u64>,
}

/// What the operator grants each module. (A manifest and a policy file come with another issue.)
fn grants(name: Name) -> CapabilitySet {
    use Capability as C;
    CapabilitySet::of(match name {
        Name::Analyst => &[C::ReadBlockchain, C::ReadChainState, C::SubscribeEvents],
        Name::Watcher => &[
            C::ReadBlockchain,
            C::ReadUtxo,
            C::ReadChainState,
            C::SubscribeEvents,
            C::SendTransactions,
            C::ReadMempool,
            C::ReadNetwork,
        ],
        // It asks for ReadUTXO and SubscribeEvents, too.
        Name::Unprivileged => &[C::ReadChainState],
        Name::Sleeper => &[],
    })
}

impl Stage {
    /// A node on this chain, without modules.
    pub(crate) fn new(
        runtime: TokioRuntime,
        chain: modipc_chain::Chain,
        trace: Option<&TraceFile>,
    ) -> Result<Stage, CliError> {
        let mut builder = Node::builder(Arc::new(runtime.clone()), Arc::new(chain));
        if let Some(trace) = trace {
            builder = builder.trace(TRACE_STEPS_MAX, trace.sinks());
        }
        let (modules, published) = (BTreeMap::new(), BTreeMap::new());
        Ok(Stage { node: builder.build()?, runtime, modules, published })
    }

    /// What the node calls itself.
    pub(crate) fn node_version() -> String {
        NodeConfig::default().node_version
    }

    /// Starts a module as a process of this very program, and waits until it has connected.
    pub(crate) async fn start(&mut self, name: Name) -> Result<(), CliError> {
        let program = std::env::current_exe();
        let program =
            program.map_err(|source| CliError::System { what: "find this program's file", source })?;
        let spec = ModuleSpec {
            args: vec!["__module".into(), name.id().into()],
            grants: grants(name),
            ..ModuleSpec::new(name.id(), program)
        };
        let runtime = self.runtime.clone();
        let launcher = ProcessLauncher::new(move || {
            let (ours, theirs) = socketpair_for_child()?;
            io::Result::Ok((UdsTransport::new(&runtime, ours)?, theirs))
        });
        let module = self.node.launch(&launcher, &spec).await?;
        let connected = tokio::time::timeout(PATIENCE, Self::connected(name, &module)).await;
        connected.unwrap_or_else(|_| {
            Err(CliError::NotConnected { module: name.id(), how: "in time".to_owned() })
        })?;
        self.modules.insert(name, module);
        Ok(())
    }

    /// Waits for the module's handshake.
    async fn connected(name: Name, module: &RunningModule) -> Result<(), CliError> {
        module
            .connection()
            .wait_admitted()
            .await
            .map_err(|reason| CliError::NotConnected { module: name.id(), how: format!("but {reason}") })
    }

    pub(crate) fn module(&self, name: Name) -> Option<&RunningModule> {
        self.modules.get(&name)
    }

    pub(crate) fn status(&self, name: Name) -> Option<ModuleStatus> {
        self.node.modules().into_iter().find(|status| *status.module_id == *name.id())
    }

    /// Publishes an event and counts it.
    pub(crate) async fn publish(&mut self, event: &Event) -> Result<(), CliError> {
        self.node.publish(event).await?;
        *self.published.entry(event.event_type().name().to_owned()).or_default() += 1;
        Ok(())
    }

    pub(crate) fn published(&self) -> BTreeMap<String, u64> {
        self.published.clone()
    }

    /// How a module says that it is.
    pub(crate) async fn health(&self, name: Name) -> Result<HealthReport, CliError> {
        let patience = u64::try_from(PATIENCE.as_micros()).unwrap_or(u64::MAX);
        let result = self.node.invoke(name.id(), &Invocation::Health, patience).await?;
        let returned = success(name, "health", result)?;
        HealthReport::decode(&returned).map_err(|error| answer(name, "health", error))
    }

    /// Calls a method of a module.
    pub(crate) async fn call(&self, name: Name, method: &'static str) -> Result<Bytes, CliError> {
        let result = Self::invoke(self.node.clone(), name, method).await?;
        success(name, method, result)
    }

    /// Calls a method of a module and reads the JSON that it returns.
    pub(crate) async fn call_json<T: DeserializeOwned>(
        &self,
        name: Name,
        method: &'static str,
    ) -> Result<T, CliError> {
        let returned = self.call(name, method).await?;
        serde_json::from_slice(&returned).map_err(|error| answer(name, method, error))
    }

    /// A call as a future that needs nothing of the stage, for those that are to run beside others.
    pub(crate) async fn invoke(
        node: Node,
        name: Name,
        method: &'static str,
    ) -> Result<InvocationResult, InvokeError> {
        let call = Invocation::Call { method: method.to_owned(), params: Bytes::new() };
        let patience = u64::try_from(PATIENCE.as_micros()).unwrap_or(u64::MAX);
        node.invoke(name.id(), &call, patience).await
    }
}

/// What a module returned.
pub(crate) fn success(name: Name, method: &'static str, result: InvocationResult) -> Result<Bytes, CliError> {
    match result {
        InvocationResult::Success(returned) => Ok(returned),
        InvocationResult::Error(error) => Err(answer(name, method, error)),
        InvocationResult::NotFound => Err(answer(name, method, "NotFound")),
    }
}

pub(crate) fn answer(name: Name, method: &'static str, what: impl ToString) -> CliError {
    CliError::Answer { module: name.id(), method, what: what.to_string() }
}
