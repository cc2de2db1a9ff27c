//! What the demo reports. The JSON keys are documented in docs/demo.md and stable.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use modipc_node::Exit;
use serde::Serialize;

use crate::logging::LogLine;
use crate::modules::{AnalystFindings, Steady, Tallies, UnprivilegedFindings, WatcherFindings};

/// Everything.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The report's version: 1. Keys may be added to it, and none changes.
    pub(crate) report: u32,
    pub(crate) node: NodeReport,
    pub(crate) chain: ChainReport,
    /// What the analyst found out.
    pub(crate) analyst: AnalystFindings,
    /// What the watcher found out.
    pub(crate) watcher: WatcherFindings,
    /// What the unprivileged module experienced.
    pub(crate) unprivileged: UnprivilegedFindings,
    pub(crate) kill: KillReport,
    /// One for each type of request, in the order of their numbers.
    pub(crate) requests: Vec<RequestReport>,
    /// Events that the node published, by type.
    pub(crate) events_published: BTreeMap<String, u64>,
    /// In the order in which they were started.
    pub(crate) modules: Vec<ModuleReport>,
    pub(crate) shutdown: ShutdownReport,
    /// What was checked.
    pub(crate) checks: Vec<Check>,
    /// From the start of the node to the end of the last module.
    pub(crate) elapsed_us: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct NodeReport {
    pub(crate) version: String,
    pub(crate) pid: u32,
}

#[derive(Debug, Serialize)]
pub(crate) struct ChainReport {
    pub(crate) anchor: BlockName,
    pub(crate) block: BlockName,
    /// The directory, if it is kept.
    pub(crate) directory: Option<PathBuf>,
    /// Whether the directory held the block from an earlier run; then it was taken away first.
    pub(crate) held_block: bool,
    /// How long the import took, until it was on the disk.
    pub(crate) import_us: u64,
    /// Inputs whose outputs are older than the anchor: neither their existence nor their value could be checked.
    pub(crate) inputs_unchecked: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct BlockName {
    pub(crate) height: u64,
    pub(crate) hash: String,
}

/// The module that was killed in the middle of a call.
#[derive(Debug, Serialize)]
pub(crate) struct KillReport {
    pub(crate) module: String,
    pub(crate) pid: Option<u32>,
    /// The call into the module.
    pub(crate) method: String,
    /// `lost`, or what happened instead.
    pub(crate) outcome: String,
    /// Why the call was lost.
    pub(crate) reason: String,
    /// Whether the call had reached the transport.
    pub(crate) was_sent: Option<bool>,
    /// From the signal to the call's end.
    pub(crate) noticed_us: u64,
    pub(crate) exit: ExitReport,
    /// What the others did from before the kill until after it, by module.
    pub(crate) others: BTreeMap<String, Steady>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ExitReport {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
}

/// All requests of one type, of all modules.
#[derive(Debug, Serialize)]
pub(crate) struct RequestReport {
    pub(crate) request: String,
    pub(crate) calls: u64,
    pub(crate) success: u64,
    pub(crate) not_found: u64,
    /// By code.
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) unanswered: u64,
    pub(crate) median_us: Option<u64>,
    pub(crate) max_us: u64,
    /// Bytes of the requests' bodies.
    pub(crate) request_bytes: u64,
    /// Bytes of the answers' bodies.
    pub(crate) response_bytes: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct ModuleReport {
    pub(crate) module: String,
    pub(crate) pid: Option<u32>,
    pub(crate) granted: Vec<String>,
    /// What it answered to the node's question how it is.
    pub(crate) health: String,
    /// Bytes that the node read from it, headers included.
    pub(crate) bytes_from_module: u64,
    /// Bytes that the node wrote to it.
    pub(crate) bytes_to_module: u64,
    /// Requests that the module counted; the killed one cannot say.
    pub(crate) requests: Option<u64>,
    /// Requests that the node counted.
    pub(crate) requests_at_node: u64,
    /// Requests that were denied.
    pub(crate) denials: u64,
    /// Calls of the node into it.
    pub(crate) invocations: u64,
    /// Events that it got, by type.
    pub(crate) events: BTreeMap<String, u64>,
    /// How often it was told that events are missing.
    pub(crate) lagged: u64,
    /// What it logged.
    pub(crate) logs: Vec<LogLine>,
    pub(crate) exit: ExitReport,
    /// How its connection ended, in words.
    pub(crate) connection: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct ShutdownReport {
    /// Modules that finished what ran and said goodbye.
    pub(crate) drained: Vec<String>,
    /// Modules whose connection ended otherwise, or was dropped because their time was over.
    pub(crate) lost: Vec<String>,
    pub(crate) took_us: u64,
}

/// Something that should be so.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) ok: bool,
    /// What was found.
    pub(crate) found: String,
}

impl From<Option<&Exit>> for ExitReport {
    fn from(exit: Option<&Exit>) -> Self {
        match exit {
            Some(Exit::Code(code)) => ExitReport { code: Some(*code), signal: None },
            Some(Exit::Signal { signal, .. }) => ExitReport { code: None, signal: Some(*signal) },
            Some(Exit::Unknown(_)) | None => ExitReport { code: None, signal: None },
        }
    }
}

impl fmt::Display for ExitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => f.write_str("end unknown"),
        }
    }
}

impl RequestReport {
    /// Every type of request there is, also one that nobody made.
    pub(crate) fn all(tallies: &Tallies) -> Vec<RequestReport> {
        let types = modipc_api::MessageType::ALL;
        types
            .iter()
            .map(|request| {
                let request = request.name().to_owned();
                let tally = tallies.get(&request).cloned().unwrap_or_default();
                RequestReport {
                    median_us: tally.median_us(),
                    request,
                    calls: tally.calls,
                    success: tally.success,
                    not_found: tally.not_found,
                    errors: tally.errors,
                    unanswered: tally.unanswered,
                    max_us: tally.max_us,
                    request_bytes: tally.request_bytes,
                    response_bytes: tally.response_bytes,
                }
            })
            .collect()
    }
}
