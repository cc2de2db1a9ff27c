//! The report for people.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use bitcoin::Amount;

use super::report::{KillReport, ModuleReport, Report, RequestReport};
use crate::modules::{AnalystFindings, Lookup, UnprivilegedFindings, WatcherFindings};

/// The whole report.
pub(crate) fn text(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string has no errors.
    let _ = write(report, &mut text);
    text
}

fn write(report: &Report, out: &mut String) -> fmt::Result {
    writeln!(out, "modipc demo: {} (pid {}) and four modules\n", report.node.version, report.node.pid)?;
    chain(report, out)?;
    analyst(&report.analyst, out)?;
    watcher(&report.watcher, out)?;
    unprivileged(&report.unprivileged, out)?;
    kill(&report.kill, out)?;
    requests(&report.requests, out)?;
    modules(report, out)?;
    end(report, out)
}

fn chain(report: &Report, out: &mut String) -> fmt::Result {
    let chain = &report.chain;
    writeln!(out, "chain        anchored at {}  {}", grouped(chain.anchor.height), chain.anchor.hash)?;
    match (&chain.directory, chain.held_block) {
        (None, _) => {}
        (Some(directory), false) => writeln!(out, "             kept in {}", directory.display())?,
        (Some(directory), true) => writeln!(
            out,
            "             kept in {}, which held the block from an earlier run: it was taken away first",
            directory.display()
        )?,
    }
    writeln!(out, "             imported {}  {}", grouped(chain.block.height), chain.block.hash)?;
    writeln!(
        out,
        "             on disk after {}; {} inputs spend outputs older than the anchor, which were not checked\n",
        time(chain.import_us),
        grouped(chain.inputs_unchecked)
    )
}

fn analyst(found: &AnalystFindings, out: &mut String) -> fmt::Result {
    let block = &found.block;
    writeln!(out, "analyst      learnt of the block by its event, fetched it and computed:")?;
    writeln!(
        out,
        "             {} transactions ({} with witness), {} inputs, {} outputs",
        grouped(block.transactions),
        grouped(block.transactions_with_witness),
        grouped(block.inputs),
        grouped(block.outputs)
    )?;
    writeln!(
        out,
        "             {} bytes, {} weight units",
        grouped(block.size_bytes),
        grouped(block.weight)
    )?;
    writeln!(
        out,
        "             fees {} = coinbase {} less subsidy {}",
        btc(block.fees_sat),
        btc(block.coinbase_sat),
        btc(block.subsidy_sat)
    )?;
    let agrees =
        if block.merkle_root_computed == block.merkle_root_stated { "equals" } else { "DIFFERS FROM" };
    writeln!(out, "             merkle root {} {agrees} the header's", block.merkle_root_computed)?;
    if let Some(code) = &found.chain_before {
        writeln!(out, "             before the block was there, the chain's information was {code}")?;
    }
    writeln!(out)
}

fn watcher(found: &WatcherFindings, out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "watcher      {} outputs of older blocks and {} of its own are spent by the block",
        grouped(found.spent_older),
        grouped(found.spent_inside)
    )?;
    for (kind, lookups) in [("", &found.transactions), ("output ", &found.outputs)] {
        for Lookup { what, name, state, detail } in lookups {
            writeln!(out, "             {kind}{what}: {state}, {detail}\n               {name}")?;
        }
    }
    writeln!(out, "             {} unconfirmed transactions", found.mempool)?;
    let answers: Vec<String> = found.without_data.iter().map(|l| format!("{} {}", l.name, l.state)).collect();
    writeln!(out, "             no data here: {}\n", answers.join(", "))
}

fn unprivileged(found: &UnprivilegedFindings, out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "unprivileged asked for {}; was granted {}",
        found.asked.join(", "),
        if found.granted.is_empty() { "nothing".to_owned() } else { found.granted.join(", ") }
    )?;
    for refusal in &found.refusals {
        writeln!(out, "             {}: {}", refusal.code, refusal.message)?;
    }
    writeln!(
        out,
        "             and then, on the same connection, GetBlockHeight: {}\n",
        grouped(found.height_afterwards)
    )
}

fn kill(kill: &KillReport, out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "{:<12} pid {} was killed while it served the call {:?}: {}",
        kill.module,
        kill.pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string()),
        kill.method,
        kill.exit
    )?;
    let sent = match kill.was_sent {
        Some(true) => "it had been sent, so it may have had an effect",
        Some(false) => "it had not been sent",
        None => "it was not lost",
    };
    writeln!(
        out,
        "             the node's call ended after {}: {} ({}); {sent}",
        time(kill.noticed_us),
        kill.outcome,
        kill.reason
    )?;
    for (name, other) in &kill.others {
        writeln!(
            out,
            "             meanwhile {name}: {} requests answered, {} failed, the longest took {}",
            grouped(other.answered),
            other.failed,
            time(other.longest_us)
        )?;
    }
    writeln!(out)
}

fn requests(requests: &[RequestReport], out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "{:<24}{:>6}  {:>9}{:>10}{:>10}{:>12}  outcome",
        "request", "calls", "median", "max", "sent B", "received B"
    )?;
    for request in requests {
        let median = request.median_us.map_or_else(|| "-".to_owned(), time);
        writeln!(
            out,
            "{:<24}{:>6}  {:>9}{:>10}{:>10}{:>12}  {}",
            request.request,
            request.calls,
            median,
            time(request.max_us),
            grouped(request.request_bytes),
            grouped(request.response_bytes),
            outcomes(request)
        )?;
    }
    writeln!(out)
}

fn outcomes(request: &RequestReport) -> String {
    let mut outcomes: BTreeMap<&str, u64> =
        request.errors.iter().map(|(code, count)| (code.as_str(), *count)).collect();
    outcomes.insert("ok", request.success);
    outcomes.insert("NotFound", request.not_found);
    outcomes.insert("no answer", request.unanswered);
    let outcomes = outcomes.into_iter().filter(|(_, count)| *count > 0);
    let outcomes: Vec<String> = outcomes.map(|(name, count)| format!("{count} {name}")).collect();
    outcomes.join(", ")
}

fn modules(report: &Report, out: &mut String) -> fmt::Result {
    let published = listed(&report.events_published);
    writeln!(out, "events       published: {published}")?;
    for module in &report.modules {
        let pid = module.pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
        writeln!(out, "{:<12} pid {pid}, {}; {}", module.module, module.exit, module.connection)?;
        writeln!(
            out,
            "             {} B to the node, {} B from it; {} requests, {} denied; {} calls of the node; health {}",
            grouped(module.bytes_from_module),
            grouped(module.bytes_to_module),
            grouped(module.requests_at_node),
            module.denials,
            module.invocations,
            module.health
        )?;
        events_and_logs(module, out)?;
    }
    writeln!(out)
}

fn events_and_logs(module: &ModuleReport, out: &mut String) -> fmt::Result {
    if !module.events.is_empty() {
        writeln!(out, "             events: {}; {} missed", listed(&module.events), module.lagged)?;
    }
    for log in &module.logs {
        writeln!(out, "             logged {}: {} {}", log.level, log.message, log.fields)?;
    }
    Ok(())
}

fn end(report: &Report, out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "shutdown     {} said goodbye; took {}, the whole demo {}",
        report.shutdown.drained.join(", "),
        time(report.shutdown.took_us),
        time(report.elapsed_us)
    )?;
    for lost in &report.shutdown.lost {
        writeln!(out, "             NOT IN ORDER: {lost}")?;
    }
    let good = report.checks.iter().filter(|check| check.ok).count();
    writeln!(out, "checks       {good} of {} hold", report.checks.len())?;
    for check in report.checks.iter().filter(|check| !check.ok) {
        writeln!(out, "             NOT AS IT SHOULD BE: {check}")?;
    }
    Ok(())
}

fn listed(counts: &BTreeMap<String, u64>) -> String {
    let listed: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    listed.join(", ")
}

fn btc(sat: u64) -> String {
    Amount::from_sat(sat).to_string()
}

/// Microseconds in a unit that suits them.
fn time(us: u64) -> String {
    match us {
        0..1000 => format!("{us} µs"),
        1000..1_000_000 => format!("{}.{} ms", us / 1000, us % 1000 / 100),
        _ => format!("{}.{:02} s", us / 1_000_000, us % 1_000_000 / 10_000),
    }
}

/// A number with a comma between each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_381_836, "1,381,836")] {
            assert_eq!(grouped(number), text);
        }
        for (us, text) in
            [(0, "0 µs"), (999, "999 µs"), (1000, "1.0 ms"), (1_999, "1.9 ms"), (61_234_000, "61.23 s")]
        {
            assert_eq!(time(us), text);
        }
        // All eight decimals, so that sums can be checked by eye.
        assert_eq!(btc(625_000_000), "6.25000000 BTC");
    }
}
