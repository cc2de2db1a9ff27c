//! `modipc demo`: four module processes learn about a real block, and one of them dies.

mod checks;
mod human;
mod kill;
mod report;
mod stage;
mod store;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use modipc_api::{HealthReport, Invocation};
use modipc_chain::Imported;
use modipc_node::{Ended, ModuleStatus};
use modipc_transport_uds::TokioRuntime;

use self::report::{
    BlockName, ChainReport, ExitReport, ModuleReport, NodeReport, Report, RequestReport, ShutdownReport,
};
use self::stage::Stage;
use self::store::Store;
use crate::args::{DemoArgs, Format};
use crate::error::CliError;
use crate::logging::{self, ModuleLogs};
use crate::modules::{
    AnalystFindings, Filed, Name, Tallies, UnprivilegedFindings, WatcherFindings, merge, method,
};
use crate::trace::TraceFile;

/// In the order in which they are started.
const MODULES: [Name; 4] = [Name::Analyst, Name::Watcher, Name::Unprivileged, Name::Sleeper];
/// Those that are there to the end.
const SURVIVORS: [Name; 3] = [Name::Analyst, Name::Watcher, Name::Unprivileged];

/// How long modules have to finish when the node goes down, in microseconds.
const GRACE_US: u64 = 5_000_000;
/// The reason "shutdown" of a Goodbye [G-2].
const SHUTDOWN: u32 = 1;

/// Runs the demo, writes its report to standard output, and fails if anything in it is not as it should be.
///
/// One thread: the node serves four connections, and what waits for the disk does so on threads of its own.
pub(crate) fn run(args: &DemoArgs) -> Result<(), CliError> {
    let logs = logging::start(args)?;
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let tokio = tokio.map_err(|source| CliError::System { what: "start the runtime", source })?;
    let runtime = TokioRuntime::new(tokio.handle().clone());
    let trace = match &args.trace {
        Some(path) => Some(TraceFile::create(path, Arc::new(runtime.clone()))?),
        None => None,
    };
    let played = tokio.block_on(async {
        tokio::select! {
            // In this order: the first look at the signal is what catches it, and nothing may be on the disk before that.
            biased;
            _ = tokio::signal::ctrl_c() => Err(CliError::Interrupted),
            report = play(args, runtime, trace.as_ref(), &logs) => report,
        }
    });
    // With the runtime go all connections, and with them what is left of the modules if something went wrong.
    drop(tokio);
    let traced = trace.as_ref().map_or(Ok(()), TraceFile::finish);
    let report = played?;
    print(&report, args.format).map_err(CliError::Output)?;
    traced?;
    let failed: Vec<String> =
        report.checks.iter().filter(|check| !check.ok).map(ToString::to_string).collect();
    if failed.is_empty() { Ok(()) } else { Err(CliError::Checks(failed)) }
}

async fn play(
    args: &DemoArgs,
    runtime: TokioRuntime,
    trace: Option<&TraceFile>,
    logs: &ModuleLogs,
) -> Result<Report, CliError> {
    let store = store::open(args.data_dir.as_deref())?;
    let begun = Instant::now();
    let mut stage = Stage::new(runtime, store.chain.clone(), trace)?;
    for name in MODULES {
        stage.start(name).await?;
    }
    for name in MODULES {
        stage.call(name, method::READY).await?;
    }
    let mut healths = Vec::new();
    for name in MODULES {
        healths.push(stage.health(name).await?);
    }
    let (imported, import_us) = import(&mut stage, &store).await?;
    let (kill, before_kill) = kill::play(&mut stage).await?;
    let filed = FiledAll::collect(&stage).await?;
    let (statuses, shutdown, ended) = end(&stage).await?;
    let lives = lives(&stage, healths, before_kill, statuses, ended);
    let modules = lives.into_iter().map(|life| life.report(&filed, logs)).collect();
    let mut report = Report {
        report: 1,
        node: NodeReport { version: Stage::node_version(), pid: std::process::id() },
        chain: chain_report(&store, &imported, import_us),
        requests: RequestReport::all(&filed.requests()),
        analyst: filed.analyst.findings,
        watcher: filed.watcher.findings,
        unprivileged: filed.unprivileged.findings,
        kill,
        events_published: stage.published(),
        modules,
        shutdown,
        checks: Vec::new(),
        elapsed_us: micros(begun),
    };
    report.checks = checks::all(&report, &imported);
    Ok(report)
}

/// Imports the block and publishes what there is to see of it.
async fn import(stage: &mut Stage, store: &Store) -> Result<(Imported, u64), CliError> {
    let begun = Instant::now();
    let (imported, events) = store.chain.import(store::block()).await?;
    let took_us = micros(begun);
    for event in &events {
        stage.publish(event).await?;
    }
    Ok((imported, took_us))
}

/// What each of the surviving modules handed in.
struct FiledAll {
    analyst: Filed<AnalystFindings>,
    watcher: Filed<WatcherFindings>,
    unprivileged: Filed<UnprivilegedFindings>,
}

impl FiledAll {
    async fn collect(stage: &Stage) -> Result<FiledAll, CliError> {
        Ok(FiledAll {
            analyst: stage.call_json(Name::Analyst, method::REPORT).await?,
            watcher: stage.call_json(Name::Watcher, method::REPORT).await?,
            unprivileged: stage.call_json(Name::Unprivileged, method::REPORT).await?,
        })
    }

    /// What they asked, all together.
    fn requests(&self) -> Tallies {
        let mut all = Tallies::new();
        for tallies in [&self.analyst.requests, &self.watcher.requests, &self.unprivileged.requests] {
            merge(&mut all, tallies);
        }
        all
    }
}

/// Everything ends in order. What the node counted of the modules is read just before.
async fn end(
    stage: &Stage,
) -> Result<(Vec<(Name, Option<ModuleStatus>)>, ShutdownReport, Vec<(Name, Ended)>), CliError> {
    for name in SURVIVORS {
        let prepare = Invocation::PrepareShutdown { grace_us: GRACE_US };
        stage.node.invoke(name.id(), &prepare, GRACE_US).await?;
    }
    let statuses = SURVIVORS.map(|name| (name, stage.status(name))).into();
    let begun = Instant::now();
    let done = stage.node.shutdown(SHUTDOWN, "the demo is over", GRACE_US).await;
    let mut ended = Vec::new();
    for name in MODULES {
        if let Some(module) = stage.module(name) {
            ended.push((name, module.ended().await));
        }
    }
    let lost = done.lost.into_iter().map(|(module, reason)| format!("{module}: {reason}"));
    let aborted = done.aborted.into_iter().map(|module| format!("{module}: did not finish in time"));
    let shutdown = ShutdownReport {
        drained: done.drained.iter().map(ToString::to_string).collect(),
        lost: lost.chain(aborted).collect(),
        took_us: micros(begun),
    };
    Ok((statuses, shutdown, ended))
}

/// One module's life as the node saw it.
struct Life {
    name: Name,
    pid: Option<u32>,
    health: HealthReport,
    /// Before the end.
    status: Option<ModuleStatus>,
    ended: Option<Ended>,
}

fn lives(
    stage: &Stage,
    healths: Vec<HealthReport>,
    before_kill: Option<ModuleStatus>,
    mut statuses: Vec<(Name, Option<ModuleStatus>)>,
    mut ended: Vec<(Name, Ended)>,
) -> Vec<Life> {
    statuses.push((Name::Sleeper, before_kill));
    let lives = MODULES.into_iter().zip(healths).map(|(name, health)| Life {
        name,
        health,
        pid: stage.module(name).and_then(modipc_node::RunningModule::pid),
        status: statuses.iter_mut().find(|(of, _)| *of == name).and_then(|(_, status)| status.take()),
        ended: ended.iter().position(|(of, _)| *of == name).map(|at| ended.swap_remove(at).1),
    });
    lives.collect()
}

impl Life {
    fn report(self, filed: &FiledAll, logs: &ModuleLogs) -> ModuleReport {
        let (requests, events, lagged) = match self.name {
            Name::Analyst => filed.analyst.counted(),
            Name::Watcher => filed.watcher.counted(),
            Name::Unprivileged => filed.unprivileged.counted(),
            Name::Sleeper => (None, BTreeMap::new(), 0),
        };
        let counts = self.status.as_ref().map(|status| status.counts).unwrap_or_default();
        let link = self.status.as_ref().map(|status| status.link).unwrap_or_default();
        let granted = self.status.as_ref().map(|status| status.grants.names()).unwrap_or_default();
        let exit = self.ended.as_ref().and_then(|ended| ended.exit.as_ref());
        let connection = self.ended.as_ref().and_then(|ended| ended.connection);
        ModuleReport {
            module: self.name.id().to_owned(),
            pid: self.pid,
            granted: granted.into_iter().map(str::to_owned).collect(),
            health: self.health.status.to_string(),
            bytes_from_module: link.bytes_in,
            bytes_to_module: link.bytes_out,
            requests,
            requests_at_node: counts.calls + counts.denials,
            denials: counts.denials,
            invocations: counts.invocations,
            events,
            lagged,
            logs: logs.of(self.name.id()),
            exit: ExitReport::from(exit),
            connection: connection.map_or_else(|| "unknown".to_owned(), |reason| reason.to_string()),
        }
    }
}

fn chain_report(store: &Store, imported: &Imported, import_us: u64) -> ChainReport {
    let name = |id: modipc_chain::BlockId| BlockName { height: id.height.into(), hash: id.hash.to_string() };
    ChainReport {
        anchor: name(store.anchor),
        block: name(imported.block),
        directory: store.kept.clone(),
        held_block: store.held_block,
        import_us,
        inputs_unchecked: imported.inputs_unknown.into(),
    }
}

fn print(report: &Report, format: Format) -> io::Result<()> {
    let text = match format {
        Format::Human => human::text(report),
        Format::Json => serde_json::to_string_pretty(report)? + "\n",
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
