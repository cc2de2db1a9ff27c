//! The demo's modules. Each runs in a process of its own and talks to the node over its inherited connection, as any
//! module does; that they are in the same executable as the node only spares the user to install them.

mod analyst;
mod desk;
mod facts;
mod meter;
mod sleeper;
mod unprivileged;
mod watcher;

use std::io;

use modipc_api::Response;
use modipc_module::{Exit, Failure, Module, run};
use modipc_transport_uds::from_env;

use self::analyst::Analyst;
use self::sleeper::Sleeper;
use self::unprivileged::Unprivileged;
use self::watcher::Watcher;

pub(crate) use self::analyst::Findings as AnalystFindings;
pub(crate) use self::desk::{Filed, Steady, method};
pub(crate) use self::meter::{Tallies, merge};
pub(crate) use self::unprivileged::Findings as UnprivilegedFindings;
pub(crate) use self::watcher::{Findings as WatcherFindings, Lookup};

/// A module that this executable can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Name {
    /// The block analyst.
    Analyst,
    /// The UTXO and transaction watcher.
    Watcher,
    /// The one that lacks a permission.
    Unprivileged,
    /// The one that is killed.
    Sleeper,
}

impl Name {
    /// Its id, which is also its name on the command line.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Name::Analyst => "analyst",
            Name::Watcher => "watcher",
            Name::Unprivileged => "unprivileged",
            Name::Sleeper => "sleeper",
        }
    }
}

/// Is this module until the host says goodbye. Without a host it explains itself on standard error.
///
/// One thread is enough: a module waits most of its life, and what computes goes to a thread of its own.
///
/// # Errors
/// The runtime could not be started.
pub(crate) fn be(name: Name) -> io::Result<Exit> {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(match name {
        Name::Analyst => tokio.block_on(be_one(Analyst::new())),
        Name::Watcher => tokio.block_on(be_one(Watcher::new())),
        Name::Unprivileged => tokio.block_on(be_one(Unprivileged::new())),
        Name::Sleeper => tokio.block_on(be_one(Sleeper::new())),
    })
}

async fn be_one(module: impl Module) -> Exit {
    run(from_env, module).await
}

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

fn unexpected(wanted: &str, response: &Response) -> Failure {
    let got = match response {
        Response::Success(data) => format!("data of {}", data.message_type()),
        Response::NotFound => "NotFound".to_owned(),
        Response::Error(error) => error.to_string(),
    };
    format!("{wanted} was expected, the node answered {got}").into()
}
