//! What a client prints.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::args::Scenario;
use crate::process::Cost;
use crate::work::BLOCK_BYTES;

/// The line that a client prints.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Outcome {
    /// What came out.
    Measured(Report),
    /// Why the scenario does not apply.
    Skipped {
        /// Why.
        skip: &'static str,
    },
}

/// One measurement. Times are per request or per delivered event.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    scenario: &'static str,
    /// Requests or delivered events in the window.
    done: u64,
    /// The same since the server started, for counting system calls.
    total: u64,
    elapsed_s: f64,
    per_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    mb_per_s: Option<f64>,
    #[serde(flatten)]
    latency: Option<Latency>,
    client_cpu_us: f64,
    server_cpu_us: f64,
    client_csw: f64,
    server_csw: f64,
    #[serde(flatten)]
    memory: Option<Memory>,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50_us: f64,
    p99_us: f64,
}

/// The server's resident memory for each connection.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Memory {
    /// After every connection made one request.
    pub(crate) rss_idle_per_conn_kib: f64,
    /// After the load.
    pub(crate) rss_per_conn_kib: f64,
}

impl Report {
    pub(crate) fn new(scenario: Scenario, done: u64, total: u64, cost: &Cost) -> Report {
        let (count, elapsed_s) = (done.max(1) as f64, cost.elapsed.as_secs_f64());
        let per_s = done as f64 / elapsed_s;
        Report {
            scenario: name(scenario),
            done,
            total,
            elapsed_s,
            per_s,
            mb_per_s: (scenario == Scenario::Block).then(|| per_s * BLOCK_BYTES as f64 / 1e6),
            latency: None,
            client_cpu_us: cost.client_cpu.as_secs_f64() * 1e6 / count,
            server_cpu_us: cost.server_cpu.as_secs_f64() * 1e6 / count,
            client_csw: cost.client_switches as f64 / count,
            server_csw: cost.server_switches as f64 / count,
            memory: None,
        }
    }

    /// With latencies, from nanoseconds.
    pub(crate) fn latencies(mut self, histogram: &Histogram<u32>) -> Report {
        let at = |quantile| histogram.median_equivalent(histogram.value_at_quantile(quantile)) as f64 / 1e3;
        self.latency = Some(Latency { p50_us: at(0.5), p99_us: at(0.99) });
        self
    }

    pub(crate) fn memory(mut self, memory: Memory) -> Report {
        self.memory = Some(memory);
        self
    }
}

fn name(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::Rtt => "rtt",
        Scenario::Pipelined => "pipelined",
        Scenario::Block => "block",
        Scenario::Fanout => "fanout",
        Scenario::Connections => "connections",
    }
}
