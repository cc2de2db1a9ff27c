//! What can go wrong in a command, and the exit code that says so.

use std::io;
use std::path::PathBuf;

use modipc_chain::{DisconnectError, ImportError, OpenError, StoreError};
use modipc_node::{ConfigError, InvokeError, LaunchError, PublishError};

use crate::trace::TraceError;

/// A command's failure: one message, one exit code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The value of a flag makes no sense.
    #[error("{flag} {value:?}: {why}")]
    Usage { flag: &'static str, value: String, why: String },
    /// A file or directory.
    #[error("cannot {what} {} ({source}): make room or give the right to it, or choose another place", path.display())]
    Place { what: &'static str, path: PathBuf, source: io::Error },
    /// Standard output.
    #[error("the report cannot be written to standard output ({0})")]
    Output(io::Error),
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    Disconnect(#[from] DisconnectError),
    /// The data directory is in use for another chain.
    #[error(
        "the chain in {} stands at {tip}, which is neither the demo's anchor nor its block: \
         choose another data directory", path.display()
    )]
    OtherChain { path: PathBuf, tip: String },
    /// The system lacks what the demo needs: threads, descriptors, processes.
    #[error("cannot {what}: {source}")]
    System { what: &'static str, source: io::Error },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error("module {module} did not connect {how}: its own words are in the log, see --log info")]
    NotConnected { module: &'static str, how: String },
    #[error("an event was not published: {0}")]
    Publish(#[from] PublishError),
    #[error("the demo cannot go on: {0}")]
    Invoke(#[from] InvokeError),
    /// A module answered what the demo cannot use.
    #[error("the demo cannot go on: module {module} answered {method} with {what}")]
    Answer { module: &'static str, method: &'static str, what: String },
    /// The demo ran, but something is not as it should be.
    #[error("not as it should be: {}", .0.join("; "))]
    Checks(Vec<String>),
    #[error("interrupted")]
    Interrupted,
}

impl CliError {
    /// The exit code, after sysexits.h.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            CliError::Usage { .. } => exit::USAGE,
            CliError::Place { .. }
            | CliError::Output(_)
            | CliError::Trace(_)
            | CliError::Import(ImportError::Store(_))
            | CliError::Disconnect(_) => exit::IO,
            CliError::Open(error) => of_open(error),
            CliError::OtherChain { .. } => exit::DATA,
            CliError::System { .. }
            | CliError::Import(_)
            | CliError::Config(_)
            | CliError::Launch(_)
            | CliError::NotConnected { .. }
            | CliError::Publish(_)
            | CliError::Invoke(_)
            | CliError::Answer { .. }
            | CliError::Checks(_) => exit::INTERNAL,
            CliError::Interrupted => exit::INTERRUPTED,
        }
    }
}

fn of_open(error: &OpenError) -> u8 {
    match error {
        OpenError::Store(StoreError::Corrupt { .. })
        | OpenError::Schema { .. }
        | OpenError::OtherNetwork { .. }
        | OpenError::OtherAnchor { .. } => exit::DATA,
        OpenError::Missing { .. }
        | OpenError::InUse { .. }
        | OpenError::NotGenesis { .. }
        | OpenError::Store(_) => exit::IO,
    }
}

/// The exit codes of the command.
pub(crate) mod exit {
    /// The command line is wrong.
    pub(crate) const USAGE: u8 = 64;
    /// The data directory holds something else.
    pub(crate) const DATA: u8 = 65;
    /// Something is not as it should be.
    pub(crate) const INTERNAL: u8 = 70;
    /// Input or output failed.
    pub(crate) const IO: u8 = 74;
    /// Ended from the keyboard: 128 and the signal's number, as shells have it.
    pub(crate) const INTERRUPTED: u8 = 130;
}
