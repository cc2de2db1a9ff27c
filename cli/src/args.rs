//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::modules::Name;

const EXIT_CODES: &str = "Exit codes: 0 everything is as it should be, 64 usage, 65 the data directory holds \
something else, 70 something in the demo is not as it should be, 74 input or output failed, 130 interrupted.";

/// Runs third-party modules as separate processes next to a Bitcoin node.
#[derive(Debug, Parser)]
#[command(name = "modipc", version, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Let four module processes ask a node about mainnet block 702,861
    #[command(after_help = EXIT_CODES)]
    Demo(DemoArgs),
    /// Be one of the demo's modules: the node starts these
    #[command(name = "__module", hide = true)]
    Module {
        /// Which one
        name: Name,
    },
}

#[derive(Debug, Default, clap::Args)]
pub(crate) struct DemoArgs {
    /// How the report is written to standard output
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
    /// Write every protocol step of every connection to FILE (docs/TRACE.md)
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Keep the chain in DIR instead of a temporary directory
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// What is logged to standard error, as `warn` or `info,modipc::module=debug`
    #[arg(long, value_name = "FILTER", conflicts_with = "verbose")]
    pub(crate) log: Option<String>,
    /// Log more: -v info, -vv debug, -vvv everything
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Human,
    /// For scripts: one JSON object (docs/demo.md)
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn flags_are_understood() {
        let parsed =
            Args::try_parse_from(["modipc", "demo", "--format", "json", "--trace", "t", "-vv"]).unwrap();
        let Command::Demo(demo) = parsed.command else { panic!("another command") };
        assert_eq!((demo.format, demo.verbose, demo.log), (Format::Json, 2, None));
        assert_eq!(demo.trace, Some(PathBuf::from("t")));
        assert!(Args::try_parse_from(["modipc", "demo", "-v", "--log", "info"]).is_err());
        assert!(Args::try_parse_from(["modipc", "demo", "--format", "xml"]).is_err());
        assert!(Args::try_parse_from(["modipc", "__module", "analyst"]).is_ok());
    }
}
