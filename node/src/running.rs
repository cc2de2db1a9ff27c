//! Modules that the node has started, until they have ended.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use modipc_core::{CloseReason, check_module_id};
use modipc_driver::{BoxFuture, Runtime};

use crate::launcher::{Child, Exit, LaunchError, Launched, Launcher, ModuleSpec};
use crate::node::{Attached, Node, ShuttingDown};
use crate::output;
use crate::policy::PeerIdentity;
use crate::signal::Signal;
use crate::supervision::{Happened, Step, Supervision};

/// A module that the node has started. Clones are the same module; dropping them leaves it running.
#[derive(Clone)]
pub struct RunningModule {
    shared: Arc<Shared>,
}

/// How a module that the node has started came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How its process ended; `None` if it could not even be killed.
    pub exit: Option<Exit>,
    /// How its connection ended.
    pub connection: Option<CloseReason>,
}

struct Shared {
    module_id: Arc<str>,
    attached: Attached,
    child: Arc<dyn Child>,
    grace_us: u64,
    state: Mutex<State>,
    changed: Signal,
}

#[derive(Default)]
struct State {
    stop: Option<u32>,
    ended: Option<Ended>,
}

impl Node {
    /// Starts a module, serves its connection, reads what it prints into the log, and sees to its end: whose connection is lost
    /// is stopped.
    ///
    /// # Errors
    /// [`LaunchError`]; nothing is left running.
    pub async fn launch(
        &self,
        launcher: &impl Launcher,
        spec: &ModuleSpec,
    ) -> Result<RunningModule, LaunchError> {
        let module_id = Arc::clone(&spec.module_id);
        check_module_id(&module_id)
            .map_err(|reason| LaunchError::BadModuleId { module_id: module_id.to_string(), reason })?;
        self.check_free(&module_id)?;
        let Launched { transport, child, output } = launcher.launch(spec).await?;
        let started = self.adopt(spec, transport, &child, output);
        if started.is_err() {
            child.kill();
        }
        let attached = started?;
        tracing::info!(module = %module_id, pid = child.pid(), "module started");
        let shared = Arc::new(Shared {
            module_id,
            attached,
            child,
            grace_us: spec.grace_us,
            state: Mutex::default(),
            changed: Signal::default(),
        });
        let (task, runtime) = (Arc::clone(&shared), Arc::clone(self.runtime()));
        self.runtime().spawn(Box::pin(async move { task.supervise(&*runtime).await }));
        Ok(RunningModule { shared })
    }

    /// Sees early what admission would see late. It decides nothing: a module may come or the node go in between.
    fn check_free(&self, module_id: &Arc<str>) -> Result<(), LaunchError> {
        let registry = self.inner.registry();
        let module_id = Arc::clone(module_id);
        if registry.admission.is_shutting_down() {
            return Err(LaunchError::ShuttingDown { module_id });
        }
        if registry.modules.contains_key(&module_id) {
            return Err(LaunchError::Connected { module_id });
        }
        Ok(())
    }

    fn adopt<T: modipc_driver::Transport>(
        &self,
        spec: &ModuleSpec,
        transport: T,
        child: &Arc<dyn Child>,
        outputs: Vec<crate::launcher::Output>,
    ) -> Result<Attached, LaunchError> {
        let module_id = || Arc::clone(&spec.module_id);
        for output in outputs {
            let name = output.name;
            output::drain(module_id(), output, Arc::clone(self.runtime()), &self.inner.config).map_err(
                |source| LaunchError::System {
                    module_id: module_id(),
                    step: format!("starting a thread that reads its {name}"),
                    source,
                },
            )?;
        }
        let identity =
            PeerIdentity::Inherited { module_id: module_id(), grants: spec.grants, requires: spec.requires };
        tracing::debug!(module = %spec.module_id, pid = child.pid(), "waiting for the module's Hello");
        self.attach(transport, identity)
            .map_err(|ShuttingDown| LaunchError::ShuttingDown { module_id: module_id() })
    }
}

impl RunningModule {
    /// Its id.
    #[must_use]
    pub fn module_id(&self) -> &str {
        &self.shared.module_id
    }

    /// Its process id, if it has one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.shared.child.pid()
    }

    /// Its connection.
    #[must_use]
    pub fn connection(&self) -> &Attached {
        &self.shared.attached
    }

    /// Begins to stop it: Goodbye for this reason [G-2], then a request to end, then its end by force, with the grace of its
    /// [`ModuleSpec`] between them.
    pub fn stop(&self, reason: u32) {
        self.shared.lock().stop.get_or_insert(reason);
        self.shared.changed.notify();
    }

    /// Ends its process now.
    pub fn kill(&self) {
        self.shared.child.kill();
    }

    /// Resolves when process and connection have ended. Cancel safe.
    pub async fn ended(&self) -> Ended {
        self.shared.changed.wait(|| self.shared.lock().ended.clone()).await
    }

    /// How it ended, if it did.
    #[must_use]
    pub fn has_ended(&self) -> Option<Ended> {
        self.shared.lock().ended.clone()
    }
}

impl Shared {
    async fn supervise(&self, runtime: &dyn Runtime) {
        let mut machine = Supervision::new(self.grace_us);
        let (mut exit, mut connection) = (None, None);
        let mut told = false;
        let mut closed = pin!(self.attached.wait_closed());
        while !machine.is_over() {
            let mut sleep = machine.deadline().map(|at| runtime.sleep_until(at));
            let mut stop = pin!(self.changed.wait(|| self.lock().stop));
            let happened = poll_fn(|cx| {
                if exit.is_none()
                    && let Poll::Ready(how) = self.child.poll_exit(cx)
                {
                    exit = Some(how);
                    return Poll::Ready(Happened::Exited);
                }
                if connection.is_none()
                    && let Poll::Ready(reason) = closed.as_mut().poll(cx)
                {
                    connection = Some(reason);
                    return Poll::Ready(Happened::Disconnected);
                }
                if !told && let Poll::Ready(reason) = stop.as_mut().poll(cx) {
                    told = true;
                    return Poll::Ready(Happened::Stop(reason));
                }
                poll_timer(&mut sleep, cx)
            });
            let happened = happened.await;
            if let (Happened::Exited, Some(exit)) = (happened, &exit) {
                self.say_exit(exit);
            }
            if let Some(step) = machine.handle(runtime.now(), happened) {
                self.take(step);
            }
        }
        let connection = connection.or_else(|| self.attached.closed());
        self.lock().ended = Some(Ended { exit, connection });
        self.changed.notify();
    }

    fn take(&self, step: Step) {
        let module = &*self.module_id;
        match step {
            Step::Goodbye(reason) => self.attached.goodbye(reason, "the operator stops this module"),
            Step::Terminate => {
                tracing::warn!(module, "module is still there after its grace; asking its process to end");
                self.child.terminate();
            }
            Step::Kill => {
                tracing::warn!(module, "module does not end; killing it and all that it has started");
                self.child.kill();
            }
            Step::Disconnect => self.attached.abort(),
        }
    }

    fn say_exit(&self, exit: &Exit) {
        let (module, pid) = (&*self.module_id, self.child.pid());
        if exit.is_success() {
            tracing::info!(module, pid, "module {exit}");
        } else {
            tracing::warn!(module, pid, "module {exit}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics half-way through a change of the state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn poll_timer(sleep: &mut Option<BoxFuture<()>>, cx: &mut std::task::Context<'_>) -> Poll<Happened> {
    match sleep {
        Some(timer) => Pin::new(timer).poll(cx).map(|()| Happened::Time),
        None => Poll::Pending,
    }
}
