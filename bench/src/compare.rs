//! The real stack beside the bare echo, in turns, as a table: for whoever has no other peers at hand.
//!
//! Other load on the machine moves every figure, but it moves neighbours alike: a ratio is taken within a round, and its median
//! over the rounds is shown with its range.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Result;
use crate::args::{CompareArgs, Variant};

/// A row of the table: a scenario, and what is compared.
struct Cell {
    title: &'static str,
    arguments: &'static [&'static str],
    measures: &'static [&'static str],
}

const CELLS: &[Cell] = &[
    Cell {
        title: "1 lookup in flight",
        arguments: &["--scenario", "rtt"],
        measures: &["p50_us", "p99_us", "per_s", "client_cpu_us", "server_cpu_us"],
    },
    Cell {
        title: "64 lookups in flight",
        arguments: &["--scenario", "pipelined", "--depth", "64"],
        measures: &["p50_us", "per_s", "client_cpu_us", "server_cpu_us"],
    },
    Cell {
        title: "256 lookups in flight",
        arguments: &["--scenario", "pipelined", "--depth", "256"],
        measures: &["p50_us", "per_s", "client_cpu_us", "server_cpu_us"],
    },
    Cell {
        title: "1 block of 1 MiB in flight",
        arguments: &["--scenario", "block"],
        measures: &["p50_us", "mb_per_s", "client_cpu_us", "server_cpu_us"],
    },
    Cell {
        title: "events to 1 subscriber",
        arguments: &["--scenario", "fanout", "--subs", "1"],
        measures: &["per_s", "client_cpu_us", "server_cpu_us"],
    },
    Cell {
        title: "events to 64 subscribers",
        arguments: &["--scenario", "fanout", "--subs", "64"],
        measures: &["per_s", "client_cpu_us", "server_cpu_us"],
    },
    Cell {
        title: "1000 connections",
        arguments: &["--scenario", "connections", "--conns", "1000"],
        measures: &["p50_us", "per_s", "server_cpu_us", "rss_idle_per_conn_kib", "rss_per_conn_kib"],
    },
];

const VARIANTS: [Variant; 2] = [Variant::Modipc, Variant::Bare];

/// What one client printed.
type Line = serde_json::Map<String, Value>;

/// Measures and prints.
pub(crate) fn compare(args: &CompareArgs) -> Result<()> {
    println!("| scenario | measure | modipc | bare | modipc / bare |");
    println!("|---|---|---:|---:|---:|");
    for cell in CELLS {
        let mut rounds = Vec::new();
        for _ in 0..args.rounds {
            let [modipc, bare] = VARIANTS.map(|variant| measure(cell, variant, args.seconds));
            rounds.push((modipc?, bare?));
        }
        for measure in cell.measures {
            print(cell.title, measure, &rounds);
        }
    }
    Ok(())
}

fn measure(cell: &Cell, variant: Variant, seconds: f64) -> Result<Line> {
    let output = Command::new(std::env::current_exe()?)
        .args([variant.word(), "client", "--seconds", &seconds.to_string()])
        .args(cell.arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("{}: {}: {}", variant.word(), cell.title, output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn print(title: &str, measure: &str, rounds: &[(Line, Line)]) {
    let value = |line: &Line| line.get(measure).and_then(Value::as_f64);
    let modipc = sorted(rounds.iter().filter_map(|(modipc, _)| value(modipc)));
    let bare = sorted(rounds.iter().filter_map(|(_, bare)| value(bare)));
    let ratio = sorted(rounds.iter().filter_map(|(modipc, bare)| Some(value(modipc)? / value(bare)?)));
    let range = match (ratio.first(), ratio.last()) {
        (Some(low), Some(high)) => format!("{} [{low:.2}..{high:.2}]", shown(&ratio)),
        _ => shown(&ratio),
    };
    println!("| {title} | {measure} | {} | {} | {range} |", shown(&modipc), shown(&bare));
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The median, or a dash.
fn shown(sorted: &[f64]) -> String {
    match median(sorted) {
        None => "–".to_owned(),
        Some(value) if value >= 1000.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.2}"),
    }
}

fn median(sorted: &[f64]) -> Option<f64> {
    let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
    Some((sorted.get(low)? + sorted.get(high)?) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[1.0, 2.0, 9.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), Some(3.0));
        assert_eq!((shown(&[]), shown(&[2.0]), shown(&[1234.6])), ("–".into(), "2.00".into(), "1235".into()));
    }
}
