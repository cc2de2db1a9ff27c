//! Modules that the node starts, with children that are tasks.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use modipc_api::{Capability, CapabilitySet};
use modipc_core::{CloseReason, Config, Event};
use modipc_driver::Runtime as _;
use modipc_node::{Child, Ended, Exit, LaunchError, Launched, Launcher, ModuleSpec, Node};
use modipc_transport_mem::{LinkConfig, MemTransport, SimRuntime};

use crate::support::{Peer, SECOND, World};

const GRACE: u64 = 1000;
const OPERATOR: u32 = 6;

/// What a child does.
#[derive(Clone, Copy)]
enum Script {
    /// Says Hello, and ends when it is told Goodbye.
    Obeys,
    /// Says Hello, and then nothing whatever it is told.
    Deaf,
    /// Says Hello and dies.
    Dies,
}

#[derive(Default)]
struct Process {
    /// What was done to it, and when.
    signals: Vec<(u64, &'static str)>,
    exit: Option<Exit>,
    waiting: Vec<Waker>,
}

struct SimChild {
    runtime: SimRuntime,
    dies_of: &'static str,
    process: Arc<Mutex<Process>>,
}

fn end(process: &Mutex<Process>, exit: Exit) {
    let waiting = {
        let mut process = process.lock().unwrap();
        process.exit.get_or_insert(exit);
        std::mem::take(&mut process.waiting)
    };
    waiting.into_iter().for_each(Waker::wake);
}

impl SimChild {
    fn signal(&self, signal: &'static str) {
        self.process.lock().unwrap().signals.push((self.runtime.now(), signal));
        if signal == self.dies_of {
            end(&self.process, Exit::Signal { signal: 9, core_dumped: false });
        }
    }
}

impl Child for SimChild {
    fn pid(&self) -> Option<u32> {
        None
    }

    fn poll_exit(&self, cx: &mut Context<'_>) -> Poll<Exit> {
        let mut process = self.process.lock().unwrap();
        match &process.exit {
            Some(exit) => Poll::Ready(exit.clone()),
            None => {
                process.waiting.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn terminate(&self) {
        self.signal("TERM");
    }

    fn kill(&self) {
        self.signal("KILL");
    }
}

struct SimLauncher {
    runtime: SimRuntime,
    script: Script,
    dies_of: &'static str,
    process: Arc<Mutex<Process>>,
    /// A node that shuts down while the module is being started.
    goes_down: Option<Node>,
}

impl SimLauncher {
    fn new(world: &World, script: Script, dies_of: &'static str) -> Self {
        let process = Arc::default();
        SimLauncher { runtime: world.runtime.clone(), script, dies_of, process, goes_down: None }
    }

    fn signals(&self) -> Vec<(u64, &'static str)> {
        self.process.lock().unwrap().signals.clone()
    }
}

#[async_trait]
impl Launcher for SimLauncher {
    type Transport = MemTransport;

    async fn launch(&self, spec: &ModuleSpec) -> Result<Launched<MemTransport>, LaunchError> {
        let (theirs, transport) = self.runtime.link(&LinkConfig::default());
        let mut peer = Peer::new(self.runtime.clone(), theirs, Config::DEFAULT);
        let (id, script, process) = (spec.module_id.to_string(), self.script, Arc::clone(&self.process));
        self.runtime.spawn_named("child", async move {
            peer.hello(&id).await;
            if !matches!(peer.event().await, Event::Accepted(_)) {
                return;
            }
            match script {
                Script::Obeys => {
                    peer.closed().await;
                    end(&process, Exit::Code(0));
                }
                Script::Deaf => std::future::pending().await,
                Script::Dies => end(&process, Exit::Signal { signal: 11, core_dumped: true }),
            }
        });
        if let Some(node) = &self.goes_down {
            node.shutdown(1, "", 0).await;
        }
        let (runtime, process) = (self.runtime.clone(), Arc::clone(&self.process));
        let child = Arc::new(SimChild { runtime, dies_of: self.dies_of, process });
        Ok(Launched { transport, child, output: Vec::new() })
    }
}

fn spec(module_id: &str) -> ModuleSpec {
    let grants = CapabilitySet::of(&[Capability::ReadUtxo]);
    ModuleSpec { grants, grace_us: GRACE, ..ModuleSpec::new(module_id, "/bin/false") }
}

#[test]
fn a_module_that_was_started_is_admitted_with_its_grants_and_stops_when_it_is_told() {
    let world = World::new();
    world.run(async {
        let launcher = SimLauncher::new(&world, Script::Obeys, "KILL");
        let module = world.node.launch(&launcher, &spec("a")).await.unwrap();
        while world.node.modules().is_empty() {
            world.runtime.sleep_until(world.runtime.now() + 1).await;
        }
        assert_eq!(world.node.modules()[0].grants, spec("a").grants);
        let again = world.node.launch(&launcher, &spec("a")).await;
        assert!(matches!(again, Err(LaunchError::Connected { .. })));
        assert_eq!(module.has_ended(), None);
        module.stop(OPERATOR);
        let Ended { exit, connection } = module.ended().await;
        assert_eq!(exit, Some(Exit::Code(0)));
        assert!(matches!(connection, Some(CloseReason::Drained { reason: OPERATOR, .. })), "{connection:?}");
        assert_eq!(launcher.signals(), []);
    });
}

#[test]
fn a_module_that_does_not_react_is_asked_to_end_and_then_ended() {
    for (dies_of, expected) in [
        ("TERM", vec!["TERM"]),
        ("KILL", vec!["TERM", "KILL"]),
        // Not even that: it is given up.
        ("nothing", vec!["TERM", "KILL"]),
    ] {
        let world = World::new();
        world.run(async {
            let launcher = SimLauncher::new(&world, Script::Deaf, dies_of);
            let module = world.node.launch(&launcher, &spec("a")).await.unwrap();
            while world.node.modules().is_empty() {
                world.runtime.sleep_until(world.runtime.now() + 1).await;
            }
            let start = world.runtime.now();
            module.stop(OPERATOR);
            let ended = module.ended().await;
            assert_eq!(ended.exit.is_some(), dies_of != "nothing");
            assert_eq!(ended.connection, Some(CloseReason::Aborted), "it never said goodbye");
            let at: Vec<_> =
                expected.iter().zip(1..).map(|(signal, step)| (start + step * GRACE, *signal)).collect();
            assert_eq!(launcher.signals(), at);
        });
    }
}

#[test]
fn a_module_that_dies_is_reported_and_can_be_started_again() {
    let world = World::new();
    world.run(async {
        let mut other = world.module("other").await;
        for _ in 0..3 {
            let launcher = SimLauncher::new(&world, Script::Dies, "KILL");
            let module = world.node.launch(&launcher, &spec("a")).await.unwrap();
            let ended = module.ended().await;
            assert_eq!(ended.exit, Some(Exit::Signal { signal: 11, core_dumped: true }));
            assert_eq!(ended.connection, Some(CloseReason::PeerGone));
            assert!(other.is_usable().await);
        }
        assert!(world.runtime.now() < SECOND);
    });
}

#[test]
fn what_cannot_be_started_is_not_started() {
    let world = World::new();
    world.run(async {
        let launcher = SimLauncher::new(&world, Script::Obeys, "KILL");
        let path = world.node.launch(&launcher, &spec("../a")).await;
        assert!(matches!(path, Err(LaunchError::BadModuleId { .. })));
        let launcher = SimLauncher { goes_down: Some(world.node.clone()), ..launcher };
        let late = world.node.launch(&launcher, &spec("a")).await;
        assert!(matches!(late, Err(LaunchError::ShuttingDown { .. })));
        assert_eq!(launcher.signals(), [(0, "KILL")], "it is not left running");
        let later = world.node.launch(&launcher, &spec("a")).await;
        assert!(matches!(later, Err(LaunchError::ShuttingDown { .. })));
        assert_eq!(launcher.signals(), [(0, "KILL")], "it was not even started");
    });
}
