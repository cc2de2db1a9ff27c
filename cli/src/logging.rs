//! What is logged to standard error, and what of it the report keeps.

use std::collections::BTreeMap;
use std::fmt;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{EnvFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::args::DemoArgs;
use crate::error::CliError;

/// Log records that are kept of each module.
const KEPT_MAX: usize = 64;

/// What modules logged through the node.
#[derive(Clone, Default)]
pub(crate) struct ModuleLogs(Arc<Mutex<BTreeMap<String, Vec<LogLine>>>>);

/// A record that a module logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LogLine {
    /// Its level, in lower case.
    pub(crate) level: String,
    /// Its text, as the node shows it.
    pub(crate) message: String,
    /// Its fields, as the node shows them; empty without.
    pub(crate) fields: String,
}

/// Sends the log to standard error and keeps what modules log. Standard output is the report's alone.
pub(crate) fn start(args: &DemoArgs) -> Result<ModuleLogs, CliError> {
    let filter = match (&args.log, args.verbose) {
        (Some(filter), _) => EnvFilter::try_new(filter).map_err(|error| CliError::Usage {
            flag: "--log",
            value: filter.clone(),
            why: error.to_string(),
        })?,
        // Of the demo itself nothing is worth a line on a good day: denials and the crash are in the report.
        (None, 0) => EnvFilter::new("error"),
        (None, 1) => EnvFilter::new("info"),
        (None, 2) => EnvFilter::new("debug"),
        (None, _) => EnvFilter::new("trace"),
    };
    let stderr = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_filter(filter);
    let logs = ModuleLogs::default();
    let kept = Keep(logs.clone())
        .with_filter(Targets::new().with_target(modipc_node::LOG_TARGET, LevelFilter::TRACE));
    tracing_subscriber::registry().with(kept).with(stderr).init();
    Ok(logs)
}

impl ModuleLogs {
    /// What this module logged so far, oldest first.
    pub(crate) fn of(&self, module: &str) -> Vec<LogLine> {
        let logs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        logs.get(module).cloned().unwrap_or_default()
    }

    fn push(&self, module: String, line: LogLine) {
        let mut logs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = logs.entry(module).or_default();
        if lines.len() < KEPT_MAX {
            lines.push(line);
        }
    }
}

struct Keep(ModuleLogs);

impl<S: Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = event.metadata().level().as_str().to_lowercase();
        self.0.push(fields.module, LogLine { level, message: fields.message, fields: fields.fields });
    }
}

#[derive(Default)]
struct Fields {
    module: String,
    message: String,
    fields: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            "fields" => self.fields = text,
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "module" {
            self.module = value.to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_modules_are_kept_and_others_are_not() {
        let logs = ModuleLogs::default();
        let kept = Keep(logs.clone())
            .with_filter(Targets::new().with_target(modipc_node::LOG_TARGET, LevelFilter::TRACE));
        let subscriber = tracing_subscriber::registry().with(kept);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: modipc_node::LOG_TARGET, module = "analyst", fields = ?[1], "done");
            tracing::info!(module = "analyst", "the node's own");
            for _ in 0..2 * KEPT_MAX {
                tracing::warn!(target: modipc_node::LOG_TARGET, module = "watcher", "again");
            }
        });
        let line = |level: &str, message: &str, fields: &str| LogLine {
            level: level.into(),
            message: message.into(),
            fields: fields.into(),
        };
        assert_eq!(logs.of("analyst"), [line("info", "done", "[1]")]);
        assert_eq!(logs.of("watcher"), vec![line("warn", "again", ""); KEPT_MAX]);
        assert_eq!(logs.of("nobody"), []);
    }
}
