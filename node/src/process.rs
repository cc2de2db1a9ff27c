//! Modules as plain processes.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{self, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;

use async_trait::async_trait;
use modipc_driver::Transport;
use rustix::io::FdFlags;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use crate::launcher::{Child, Exit, LaunchError, Launched, Launcher, ModuleSpec, Output};

/// Makes connections of which a child inherits one end. The node knows no sockets, so whoever does brings this along; a closure
/// will do.
pub trait ConnectionPairs: Send + Sync {
    /// The host's end.
    type Transport: Transport;

    /// The host's end, and the child's end with its close-on-exec flag set.
    ///
    /// # Errors
    /// The system has no more descriptors, or the like.
    fn pair(&self) -> io::Result<(Self::Transport, OwnedFd)>;
}

impl<T: Transport, F: Fn() -> io::Result<(T, OwnedFd)> + Send + Sync> ConnectionPairs for F {
    type Transport = T;

    fn pair(&self) -> io::Result<(T, OwnedFd)> {
        self()
    }
}

/// Starts modules as processes with a cleared environment, their connection, and nothing on stdin. This is no sandbox: the process
/// may do what the host's user may do. Descriptors that the host itself was started with, and that have no close-on-exec flag,
/// pass on to it; what the host opened does not.
#[derive(Clone, Debug)]
pub struct ProcessLauncher<P> {
    pairs: P,
}

impl<P: ConnectionPairs> ProcessLauncher<P> {
    /// A launcher whose modules inherit connections of `pairs`.
    pub fn new(pairs: P) -> Self {
        ProcessLauncher { pairs }
    }
}

#[async_trait]
impl<P: ConnectionPairs> Launcher for ProcessLauncher<P> {
    type Transport = P::Transport;

    /// Takes as long as the system needs for starting a process, and does not wait for anything else.
    async fn launch(&self, spec: &ModuleSpec) -> Result<Launched<P::Transport>, LaunchError> {
        let failed = |step: &str, source| LaunchError::System {
            module_id: Arc::clone(&spec.module_id),
            step: step.to_owned(),
            source,
        };
        let mut command = command(spec)?;
        if let Some(dir) = &spec.data_dir {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(|error| failed(&format!("making its directory {}", dir.display()), error))?;
            command.current_dir(dir);
        }
        let (transport, theirs) =
            self.pairs.pair().map_err(|error| failed("making its connection", error))?;
        // Before the process, so that there is none that nobody watches.
        let watcher = Watcher::new().map_err(|error| failed("starting the thread that watches it", error))?;
        let spawned = spawn(&mut command, theirs);
        let mut child =
            spawned.map_err(|error| failed(&format!("starting {}", spec.program.display()), error))?;
        let stdout = child.stdout.take().map(|stream| Output { name: "stdout", stream: Box::new(stream) });
        let stderr = child.stderr.take().map(|stream| Output { name: "stderr", stream: Box::new(stream) });
        let child = watcher.watch(child).map_err(|error| failed("watching its process", error))?;
        let output = stdout.into_iter().chain(stderr).collect();
        Ok(Launched { transport, child: Arc::new(child), output })
    }
}

fn command(spec: &ModuleSpec) -> Result<Command, LaunchError> {
    let mut command = Command::new(&spec.program);
    command.args(&spec.args).env_clear().process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("MODULE_ID", &*spec.module_id).env("MODULE_NAME", &spec.name);
    if let Some(dir) = &spec.data_dir {
        command.env("DATA_DIR", dir);
    }
    for (key, value) in &spec.config {
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            let module_id = Arc::clone(&spec.module_id);
            return Err(LaunchError::BadConfigKey { module_id, key: key.clone() });
        }
        command.env(format!("MODULE_CONFIG_{}", key.to_ascii_uppercase()), value);
    }
    Ok(command)
}

/// Starts the process with this descriptor, and closes it here.
///
/// A descriptor passes through `exec` only without its close-on-exec flag, and changing flags between fork and exec would need
/// `pre_exec`: that is unsafe, and makes the standard library fork a copy of this whole process instead of calling
/// `posix_spawn`. So the flag is off for as long as the spawn takes, and a lock makes sure that no other module is started in that
/// time. A process that somebody else in this program starts in that time inherits the module's end as well: the host then does not
/// see the end of the stream when the module dies, and learns of it from the exit of its process instead.
fn spawn(command: &mut Command, theirs: OwnedFd) -> io::Result<process::Child> {
    static SPAWNING: Mutex<()> = Mutex::new(());
    // 0 to 2 are the child's standard streams, and in a host that has closed its own they may be given out.
    let theirs = if theirs.as_raw_fd() > 2 { theirs } else { rustix::io::fcntl_dupfd_cloexec(&theirs, 3)? };
    command.env("MODIPC_FD", theirs.as_raw_fd().to_string());
    let _spawning = SPAWNING.lock().unwrap_or_else(PoisonError::into_inner);
    rustix::io::fcntl_setfd(&theirs, FdFlags::empty())?;
    let spawned = command.spawn();
    drop(theirs);
    spawned
}

/// A watching thread's stack: it wakes tasks and may write a line to the log.
const STACK_BYTES: usize = 256 << 10;

/// A process and all that it starts: one process group.
struct ProcessChild {
    shared: Arc<Shared>,
}

struct Shared {
    pid: Pid,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Set before the process id may be given to another process. Signals are sent only while it is not.
    reaped: bool,
    exit: Option<Exit>,
    waiting: Vec<Waker>,
}

/// A thread that waits for the end of one process, and reaps it.
struct Watcher {
    watched: mpsc::Sender<(process::Child, Arc<Shared>)>,
}

impl Watcher {
    fn new() -> io::Result<Watcher> {
        let (watched, receiver) = mpsc::channel::<(process::Child, Arc<Shared>)>();
        let body = move || {
            // If no process was started there is none to wait for.
            let Ok((mut child, shared)) = receiver.recv() else { return };
            let exit = shared.wait(&mut child);
            let waiting = {
                let mut state = shared.lock();
                state.exit = Some(exit);
                std::mem::take(&mut state.waiting)
            };
            waiting.into_iter().for_each(Waker::wake);
        };
        thread::Builder::new().name("modipc-child".into()).stack_size(STACK_BYTES).spawn(body)?;
        Ok(Watcher { watched })
    }

    fn watch(self, child: process::Child) -> io::Result<ProcessChild> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("its process id is not one"))?;
        let shared = Arc::new(Shared { pid, state: Mutex::default() });
        let watched = ProcessChild { shared: Arc::clone(&shared) };
        self.watched.send((child, shared)).map_err(|_| io::Error::other("the thread is gone"))?;
        Ok(watched)
    }
}

impl ProcessChild {
    fn signal(&self, signal: Signal) {
        let state = self.shared.lock();
        if !state.reaped {
            self.shared.signal(signal);
        }
    }
}

impl Child for ProcessChild {
    fn pid(&self) -> Option<u32> {
        self.shared.pid.as_raw_nonzero().get().try_into().ok()
    }

    fn poll_exit(&self, cx: &mut Context<'_>) -> Poll<Exit> {
        let mut state = self.shared.lock();
        if let Some(exit) = &state.exit {
            return Poll::Ready(exit.clone());
        }
        if !state.waiting.iter().any(|known| known.will_wake(cx.waker())) {
            state.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    fn kill(&self) {
        self.signal(Signal::KILL);
    }
}

impl Drop for ProcessChild {
    /// Nobody is left who could stop it.
    fn drop(&mut self) {
        self.kill();
    }
}

impl Shared {
    /// Waits for the process, ends what is left of its group, and reaps it.
    fn wait(&self, child: &mut process::Child) -> Exit {
        let id = WaitId::Pid(self.pid);
        // The process stays a zombie for now, and keeps its id: so the group that is ended below is still its own.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let ended = loop {
            match rustix::process::waitid(id.clone(), options) {
                Err(rustix::io::Errno::INTR) => {}
                ended => break ended.is_ok(),
            }
        };
        let mut state = self.lock();
        // In a program that ignores SIGCHLD the kernel has reaped it, and the group's id may be another's.
        if ended {
            self.signal(Signal::KILL);
        }
        state.reaped = true;
        match child.wait() {
            Ok(status) => exit(status),
            Err(error) => Exit::Unknown(error.to_string()),
        }
    }

    fn signal(&self, signal: Signal) {
        match rustix::process::kill_process_group(self.pid, signal) {
            // Nobody is left in it.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => {
                tracing::warn!(pid = %self.pid, "signal {signal:?} could not be sent: {error}");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics half-way through a change of the state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal { signal, core_dumped: status.core_dumped() },
        (None, None) => Exit::Unknown(status.to_string()),
    }
}
