//! A node that serves the door of a world, and modules that connect to it.

use std::sync::Arc;

use modipc_api::{Capability, CapabilitySet};
use modipc_module::{Client, Connect, ConnectError};
use modipc_node::{Attach, ModulePolicy, Node, NodeConfig, Policy};

use crate::node::TestNode;
use crate::world::World;

/// A node and where it lives.
pub struct House<W: World> {
    /// Executor and streams.
    pub world: W,
    /// The node.
    pub node: Node,
    /// What answers its modules.
    pub api: TestNode,
}

impl<W: World> House<W> {
    /// A node with default bounds.
    pub fn new(world: W) -> Self {
        House::with(world, NodeConfig::default())
    }

    /// A node with these bounds. Its door is open: it accepts until it shuts down.
    pub fn with(world: W, config: NodeConfig) -> Self {
        let api = TestNode::default();
        let node = Node::builder(world.runtime(), Arc::new(api.clone()))
            .config(config)
            .policy(policy(world.user()))
            .build()
            .unwrap();
        let (serving, door) = (node.clone(), world.open_door());
        world.runtime().spawn(Box::pin(async move {
            serving.serve(door).await.unwrap();
        }));
        House { world, node, api }
    }

    /// A module that is admitted, with whatever the policy grants it.
    pub async fn module(&self, module_id: &str) -> Client {
        self.connect(hello(module_id)).await.unwrap()
    }

    /// Connects, and says this Hello.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(&self, hello: Connect) -> Result<Client, ConnectError> {
        Client::connect(self.world.runtime(), self.world.knock(), hello).await
    }

    /// Runs a test in the house's world.
    pub fn run<T>(&self, test: impl Future<Output = T>) -> T {
        self.world.run(test)
    }
}

/// A Hello that asks for everything.
#[must_use]
pub fn hello(module_id: &str) -> Connect {
    Connect::new(module_id, "1.0").capabilities(CapabilitySet::ALL)
}

/// Modules that the policy names beside those below: `m-0` to `m-1023`, with every capability.
pub const CROWD: usize = 1024;

/// Who may connect as what.
#[must_use]
pub fn policy(user: u32) -> Policy {
    let module = |grants, attach| ModulePolicy { grants, attach, ..ModulePolicy::default() };
    let free = |grants| module(grants, Attach::Credentials);
    let named = ["alice", "bob", "carol", "block-analyst", "watcher"];
    let crowd = (0..CROWD).map(|n| format!("m-{n}"));
    let names = named.into_iter().map(str::to_owned).chain(crowd);
    names
        .fold(Policy::new().user(user), |policy, name| policy.module(name, free(CapabilitySet::ALL)))
        .module("poor", free(CapabilitySet::of(&[Capability::ReadChainState])))
        .module("ticket", module(CapabilitySet::ALL, Attach::Token))
        .module("inherited-only", module(CapabilitySet::ALL, Attach::Never))
        .module("demanding", ModulePolicy { requires: CapabilitySet::ALL, ..free(CapabilitySet::EMPTY) })
}
