//! How fast the real stack is: node, permission check, typed API and module client, in two processes over a Unix socket.
//!
//! `docs/performance.md` says what is measured and how. One program is both sides: `client` starts `server`, runs one
//! scenario, checks every answer and prints one line of JSON.
#![forbid(unsafe_code)]

mod args;
mod bare;
mod client;
mod compare;
mod load;
mod modules;
mod process;
mod report;
mod server;
mod work;

use std::future::Future;
use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, Command, RuntimeKind, Variant};

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("modipc-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    match (&args.command, args.variant) {
        (Command::Server(server), Variant::Modipc) => block_on(server.rt, server::serve(server)),
        (Command::Server(server), Variant::Bare) => block_on(server.rt, bare::serve(server)),
        (Command::Compare(args), _) => compare::compare(args),
        (Command::Client(client), variant) => {
            let kind = RuntimeKind::from_env("PEERS_CLIENT_RT")?;
            let report = match variant {
                Variant::Modipc => block_on(kind, client::run::<modules::Modules>(client, variant)),
                Variant::Bare => block_on(kind, client::run::<bare::Bare>(client, variant)),
            };
            println!("{}", serde_json::to_string(&report?)?);
            Ok(())
        }
    }
}

fn block_on<T>(kind: RuntimeKind, future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = match kind {
        RuntimeKind::Current => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        RuntimeKind::Multi => {
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?
        }
    };
    runtime.block_on(future)
}
