//! Starting modules: what the node asks of whoever does it.
//!
//! [`crate::ProcessLauncher`] starts plain processes; a sandbox, or a simulation whose children are tasks, implement the same
//! trait.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use modipc_api::CapabilitySet;
use modipc_core::BadModuleId;
use modipc_driver::Transport;

/// A module to start: what its manifest and the operator's policy say of it.
#[derive(Clone, Debug)]
pub struct ModuleSpec {
    /// Its id [H-4].
    pub module_id: Arc<str>,
    /// Its name for people.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its directory, created if it is not there; also the one it starts in.
    pub data_dir: Option<PathBuf>,
    /// Its settings; the key `depth` becomes `MODULE_CONFIG_DEPTH` in its environment.
    pub config: BTreeMap<String, String>,
    /// What the operator granted it.
    pub grants: CapabilitySet,
    /// What it cannot work without.
    pub requires: CapabilitySet,
    /// How long each step of stopping it may take, in microseconds: after Goodbye, and after the request to end.
    pub grace_us: u64,
}

impl ModuleSpec {
    /// A module without arguments, settings, directory and grants, and with five seconds of grace.
    pub fn new(module_id: impl Into<Arc<str>>, program: impl Into<PathBuf>) -> Self {
        let module_id = module_id.into();
        ModuleSpec {
            name: module_id.to_string(),
            module_id,
            program: program.into(),
            args: Vec::new(),
            data_dir: None,
            config: BTreeMap::new(),
            grants: CapabilitySet::EMPTY,
            requires: CapabilitySet::EMPTY,
            grace_us: 5_000_000,
        }
    }
}

/// Starts modules.
#[async_trait]
pub trait Launcher: Send + Sync {
    /// The connection that a module inherits.
    type Transport: Transport;

    /// Starts a module with one end of a new connection, and nothing else of this process.
    ///
    /// # Errors
    /// [`LaunchError`]; nothing was started.
    async fn launch(&self, spec: &ModuleSpec) -> Result<Launched<Self::Transport>, LaunchError>;
}

/// A module that was started.
pub struct Launched<T> {
    /// The host's end of its connection.
    pub transport: T,
    /// The module itself.
    pub child: Arc<dyn Child>,
    /// What it prints, and on what. The node reads all of it into the log, so that the module never waits for a full pipe.
    pub output: Vec<Output>,
}

/// A stream that a module prints to.
pub struct Output {
    /// `stdout` or `stderr`.
    pub name: &'static str,
    /// The stream. It may block, and ends with the module.
    pub stream: Box<dyn io::Read + Send>,
}

/// A module's process, or what stands for it.
pub trait Child: Send + Sync + 'static {
    /// Its process id, if it has one.
    fn pid(&self) -> Option<u32>;

    /// How it ended, again and again. On `Pending` the waker is woken when it has.
    fn poll_exit(&self, cx: &mut Context<'_>) -> Poll<Exit>;

    /// Asks it to end. No effect if it has.
    fn terminate(&self);

    /// Ends it and all that it has started. No effect if it has ended.
    fn kill(&self);
}

/// How a module's process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal {
        /// Its number.
        signal: i32,
        /// Whether a core was written.
        core_dumped: bool,
    },
    /// The system does not say, for this reason.
    Unknown(String),
}

impl Exit {
    /// Whether it ended in order.
    pub fn is_success(&self) -> bool {
        *self == Exit::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => {
                write!(f, "exited with code {code}")?;
                match code {
                    0 => f.write_str(", done"),
                    64 => f.write_str(", wrong usage: it was not started as a module"),
                    75 => f.write_str(", temporary failure: it may be started again"),
                    76 => f.write_str(", protocol error"),
                    77 => f.write_str(", a permission is missing"),
                    78 => f.write_str(", its configuration is wrong"),
                    _ => Ok(()),
                }
            }
            Exit::Signal { signal, core_dumped } => {
                write!(f, "was ended by signal {signal}")?;
                if *core_dumped { f.write_str(" and left a core") } else { Ok(()) }
            }
            Exit::Unknown(reason) => write!(f, "ended, and how is not known: {reason}"),
        }
    }
}

/// Why a module was not started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Its id is none.
    #[error("module {module_id:?} was not started: {reason}")]
    BadModuleId {
        /// The id.
        module_id: String,
        /// What is wrong with it.
        reason: BadModuleId,
    },
    /// A module of this id is connected.
    #[error("module {module_id:?} was not started: a module of this id is connected; stop it first")]
    Connected {
        /// The module.
        module_id: Arc<str>,
    },
    /// A setting's key cannot be part of a variable's name.
    #[error(
        "module {module_id:?} was not started: its setting {key:?} has a key of other characters than letters, \
         digits and _"
    )]
    BadConfigKey {
        /// The module.
        module_id: Arc<str>,
        /// The key.
        key: String,
    },
    /// The system refused something.
    #[error("module {module_id:?} was not started: {step}: {source}")]
    System {
        /// The module.
        module_id: Arc<str>,
        /// What was tried.
        step: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The node is going down.
    #[error("module {module_id:?} was not started: the node is shutting down")]
    ShuttingDown {
        /// The module.
        module_id: Arc<str>,
    },
}
