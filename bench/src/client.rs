//! The scenarios, for any variant.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use modipc_transport_uds::raise_nofile_limit;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::args::{ClientArgs, Scenario, Variant};
use crate::load::{Loaded, Work, run_for};
use crate::process::{Server, Window};
use crate::report::{Memory, Outcome, Report};
use crate::work::EventSink;
use crate::{Error, Result};

/// What runs before every measured window, unmeasured.
const WARM_UP: Duration = Duration::from_millis(300);

/// How long the first event may take.
const FIRST_EVENT: Duration = Duration::from_secs(20);

/// Descriptors for everything but connections.
const OTHER_DESCRIPTORS: usize = 64;

/// Requests on the first connection before the memory of the others is measured.
const WARM_REQUESTS: u64 = 200;

/// What is measured, as the client sees it.
pub(crate) trait Stack: 'static {
    /// A connection, for any number of callers.
    type Connection: Clone + Send + 'static;

    /// Why there are no events and no concurrent requests, if so.
    const ONE_BY_ONE: Option<&'static str>;

    /// Connects. Every connection has another number.
    fn connect(socket: &Path, number: usize) -> impl Future<Output = Result<Self::Connection>> + Send;

    /// One lookup, and the check of its answer.
    fn lookup(connection: &Self::Connection, n: u64) -> impl Future<Output = Result<()>> + Send;

    /// One block, and the check of its content.
    fn block(connection: &Self::Connection, n: u64) -> impl Future<Output = Result<()>> + Send;

    /// Subscribes on a connection of its own and feeds the sink. It ends only with an error.
    fn subscribe(socket: PathBuf, number: usize, sink: EventSink) -> impl Future<Output = Error> + Send;
}

/// Runs one scenario against a server of its own.
pub(crate) async fn run<S: Stack>(args: &ClientArgs, variant: Variant) -> Result<Outcome> {
    match (args.scenario, S::ONE_BY_ONE) {
        (Scenario::Pipelined | Scenario::Fanout, Some(skip)) => Ok(Outcome::Skipped { skip }),
        _ => Ok(Outcome::Measured(scenario::<S>(args, variant).await?)),
    }
}

async fn scenario<S: Stack>(args: &ClientArgs, variant: Variant) -> Result<Report> {
    let window = Duration::try_from_secs_f64(args.seconds)?;
    raise_nofile_limit((connection_count(args) + OTHER_DESCRIPTORS) as u64)?;
    let server = Server::start(args, variant)?;
    match args.scenario {
        Scenario::Rtt => one_connection::<S>(&server, args.scenario, Work::Lookup, 1, window).await,
        Scenario::Pipelined => {
            one_connection::<S>(&server, args.scenario, Work::Lookup, args.depth, window).await
        }
        Scenario::Block => one_connection::<S>(&server, args.scenario, Work::Block, 1, window).await,
        Scenario::Connections => connections::<S>(&server, args.conns, window).await,
        Scenario::Fanout => fanout::<S>(&server, args.subs, window).await,
    }
}

fn connection_count(args: &ClientArgs) -> usize {
    match args.scenario {
        Scenario::Rtt | Scenario::Pipelined | Scenario::Block => 1,
        // The first one warms the server up.
        Scenario::Connections => args.conns + 1,
        Scenario::Fanout => args.subs,
    }
}

async fn one_connection<S: Stack>(
    server: &Server,
    scenario: Scenario,
    work: Work,
    depth: usize,
    window: Duration,
) -> Result<Report> {
    let connections = [S::connect(&server.socket(), 0).await?];
    measure::<S>(server, scenario, &connections, work, depth, window).await
}

async fn measure<S: Stack>(
    server: &Server,
    scenario: Scenario,
    connections: &[S::Connection],
    work: Work,
    depth: usize,
    window: Duration,
) -> Result<Report> {
    let warm = run_for::<S>(connections, work, depth, WARM_UP.min(window)).await?;
    let clocks = Window::open(server)?;
    let Loaded { done, latencies } = run_for::<S>(connections, work, depth, window).await?;
    let cost = clocks.close(server)?;
    Ok(Report::new(scenario, done, warm.done + done, &cost).latencies(&latencies))
}

async fn connections<S: Stack>(server: &Server, count: usize, window: Duration) -> Result<Report> {
    let first = S::connect(&server.socket(), count).await?;
    for n in 0..WARM_REQUESTS {
        S::lookup(&first, n).await?;
    }
    let one = server.rss_kib()?;
    let mut connections = Vec::with_capacity(count);
    for number in 0..count {
        let connection = S::connect(&server.socket(), number).await?;
        S::lookup(&connection, number as u64).await?;
        connections.push(connection);
    }
    let per_connection = |kib: u64| (kib as f64 - one as f64) / count as f64;
    let rss_idle_per_conn_kib = per_connection(server.rss_kib()?);
    let report = measure::<S>(server, Scenario::Connections, &connections, Work::Lookup, 1, window).await?;
    let rss_per_conn_kib = per_connection(server.rss_kib()?);
    Ok(report.memory(Memory { rss_idle_per_conn_kib, rss_per_conn_kib }))
}

async fn fanout<S: Stack>(server: &Server, subscribers: usize, window: Duration) -> Result<Report> {
    let mut tasks = JoinSet::new();
    let mut counts = Vec::with_capacity(subscribers);
    for number in 0..subscribers {
        let count = Arc::new(AtomicU64::new(0));
        tasks.spawn(S::subscribe(server.socket(), number, EventSink::new(Arc::clone(&count))));
        counts.push(count);
    }
    let delivered = || counts.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>();
    let began = Instant::now();
    while delivered() == 0 {
        failed(&mut tasks)?;
        if began.elapsed() > FIRST_EVENT {
            return Err(format!("no event in {FIRST_EVENT:?}").into());
        }
        sleep(Duration::from_millis(5)).await;
    }
    sleep(WARM_UP).await;
    let clocks = Window::open(server)?;
    let before = delivered();
    sleep(window).await;
    let total = delivered();
    let cost = clocks.close(server)?;
    failed(&mut tasks)?;
    Ok(Report::new(Scenario::Fanout, total - before, total, &cost))
}

/// A subscriber never ends by itself: if one did, here is why.
fn failed(tasks: &mut JoinSet<Error>) -> Result<()> {
    match tasks.try_join_next() {
        None => Ok(()),
        Some(ended) => Err(ended?),
    }
}
