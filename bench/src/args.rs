//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::Result;

/// Runs one workload between two processes over a Unix socket and prints one line of JSON.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// What is measured.
    #[arg(value_enum, default_value_t = Variant::Modipc)]
    pub(crate) variant: Variant,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Variant {
    /// The real stack.
    Modipc,
    /// A hand-rolled echo on tokio, without ids, types or permissions: what the kernel and the executor cost.
    Bare,
}

impl Variant {
    /// The word for the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Variant::Modipc => "modipc",
            Variant::Bare => "bare",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Starts a server, runs one scenario against it, and prints what came out.
    Client(ClientArgs),
    /// Serves until its standard input ends. The client starts it.
    Server(ServerArgs),
    /// Runs every scenario with the real stack and with the bare echo in turns, and prints a table.
    Compare(CompareArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct CompareArgs {
    /// Length of each measured window.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) seconds: f64,
    /// Windows of each cell.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ClientArgs {
    /// What is run.
    #[arg(long, value_enum)]
    pub(crate) scenario: Scenario,
    /// Length of the measured window.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// Requests in flight (pipelined).
    #[arg(long, default_value_t = 64)]
    pub(crate) depth: usize,
    /// Connections (connections).
    #[arg(long, default_value_t = 1000)]
    pub(crate) conns: usize,
    /// Subscribers (fanout).
    #[arg(long, default_value_t = 1)]
    pub(crate) subs: usize,
    /// Another program that is the server.
    #[arg(long)]
    pub(crate) server_exe: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// Where to listen, in a directory of our own.
    #[arg(long)]
    pub(crate) socket: PathBuf,
    /// So many subscribers have to come before events are published.
    #[arg(long, default_value_t = 1)]
    pub(crate) subs: usize,
    /// tokio's runtime.
    #[arg(long, value_enum, default_value_t = RuntimeKind::Current)]
    pub(crate) rt: RuntimeKind,
}

/// The workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// One connection, one lookup in flight.
    Rtt,
    /// One connection, many lookups in flight.
    Pipelined,
    /// One connection, one block of 1 MiB in flight.
    Block,
    /// Events to all subscribers, as fast as the slowest takes them.
    Fanout,
    /// Many connections, one lookup in flight on each.
    Connections,
}

/// tokio's runtimes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RuntimeKind {
    /// One thread.
    Current,
    /// Two worker threads.
    Multi,
}

impl RuntimeKind {
    /// What the environment says; one thread if it says nothing.
    pub(crate) fn from_env(variable: &str) -> Result<Self> {
        match std::env::var(variable) {
            Ok(kind) => {
                RuntimeKind::from_str(&kind, true).map_err(|error| format!("{variable}: {error}").into())
            }
            Err(_) => Ok(RuntimeKind::Current),
        }
    }

    /// The word for the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            RuntimeKind::Current => "current",
            RuntimeKind::Multi => "multi",
        }
    }
}
