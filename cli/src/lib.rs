//! The `modipc` command.
//!
//! The library exists for the command itself and for those who read its traces ([`trace`]).
#![forbid(unsafe_code)]

mod args;
mod demo;
mod error;
mod logging;
mod modules;
pub mod trace;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::args::{Args, Command};
use crate::error::{CliError, exit};

/// Runs the command and gives its exit code (docs/demo.md).
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => return explain(&error),
    };
    let done = match &args.command {
        Command::Demo(demo) => demo::run(demo).map(|()| ExitCode::SUCCESS),
        Command::Module { name } => modules::be(*name)
            .map(ExitCode::from)
            .map_err(|source| CliError::System { what: "start the runtime", source }),
    };
    done.unwrap_or_else(|error| {
        eprintln!("modipc: {error}");
        ExitCode::from(error.exit_code())
    })
}

/// Help and version are asked for; everything else is wrong usage.
fn explain(error: &clap::Error) -> ExitCode {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    match error.print() {
        Ok(()) if asked => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(exit::USAGE),
        Err(_) => ExitCode::from(exit::IO),
    }
}
