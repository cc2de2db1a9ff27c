//! Callers that ask one question after another.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::Result;
use crate::client::Stack;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// 80 bytes.
    Lookup,
    /// 1 MiB.
    Block,
}

/// What callers did.
pub(crate) struct Loaded {
    /// Requests that were answered.
    pub(crate) done: u64,
    /// In nanoseconds.
    pub(crate) latencies: Histogram<u32>,
}

/// From a nanosecond to a minute, to about half a percent.
fn histogram() -> Result<Histogram<u32>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 2)?)
}

/// Keeps `depth` requests in flight on every connection, for so long.
pub(crate) async fn run_for<S: Stack>(
    connections: &[S::Connection],
    work: Work,
    depth: usize,
    time: Duration,
) -> Result<Loaded> {
    let end = Instant::now() + time;
    if let ([connection], 1) = (connections, depth) {
        // On the runtime's first task, as a program with one thing to do would.
        let latencies = ask::<S>(connection.clone(), work, 0, end).await?;
        return Ok(Loaded { done: latencies.len(), latencies });
    }
    let mut callers = JoinSet::new();
    for (at, connection) in connections.iter().enumerate() {
        for caller in 0..depth {
            // Numbers of their own, so that an answer to another caller is noticed.
            let first = ((at * depth + caller) as u64) << 40;
            callers.spawn(ask::<S>(connection.clone(), work, first, end));
        }
    }
    let mut latencies = histogram()?;
    while let Some(caller) = callers.join_next().await {
        latencies.add(caller??)?;
    }
    Ok(Loaded { done: latencies.len(), latencies })
}

/// One caller: the next request goes out when the answer is in.
async fn ask<S: Stack>(
    connection: S::Connection,
    work: Work,
    mut n: u64,
    end: Instant,
) -> Result<Histogram<u32>> {
    let mut latencies = histogram()?;
    let mut before = Instant::now();
    while before < end {
        match work {
            Work::Lookup => S::lookup(&connection, n).await?,
            Work::Block => S::block(&connection, n).await?,
        }
        n += 1;
        let now = Instant::now();
        latencies.saturating_record(u64::try_from((now - before).as_nanos()).unwrap_or(u64::MAX));
        before = now;
    }
    Ok(latencies)
}
