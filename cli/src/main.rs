//! The `modipc` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    modipc_cli::main(std::env::args_os())
}
