//! What has to be so after a demo. Each check is decided by what the report says, so whoever reads it can decide again.

use std::fmt;

use modipc_chain::Imported;

use super::report::{Check, ExitReport, Report};
use super::store;

/// SIGKILL, which no process can catch.
const SIGKILL: i32 = 9;

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.found)
    }
}

/// All checks, in the order of the story.
pub(crate) fn all(report: &Report, imported: &Imported) -> Vec<Check> {
    vec![
        block(report),
        merkle_root(report),
        facts_agree_with_chain(report, imported),
        node_agrees_with_itself(report),
        every_request_used(report),
        counted_alike(report),
        no_events_missed(report),
        refusals(report),
        usable_after_refusals(report),
        killed_call_is_lost(report),
        killed_by_signal(report),
        crash_was_announced(report),
        others_unharmed(report),
        orderly_shutdown(report),
    ]
}

fn block(report: &Report) -> Check {
    let facts = &report.analyst.block;
    let wanted = (store::HASH, u64::from(store::HEIGHT), Some(u64::from(store::HEIGHT)));
    let ok = (facts.hash.as_str(), facts.height, facts.height_in_coinbase) == wanted
        && report.watcher.block_hash == store::HASH;
    Check { name: "block", ok, found: format!("{} at {}", facts.hash, facts.height) }
}

fn merkle_root(report: &Report) -> Check {
    let facts = &report.analyst.block;
    let ok = facts.merkle_root_computed == facts.merkle_root_stated;
    Check { name: "merkle_root", ok, found: format!("computed {}", facts.merkle_root_computed) }
}

/// The module computed from the block's bytes what the chain store computed on its own when it imported them.
fn facts_agree_with_chain(report: &Report, imported: &Imported) -> Check {
    let facts = &report.analyst.block;
    let here = (facts.transactions, facts.size_bytes, facts.weight, facts.subsidy_sat, Some(facts.fees_sat));
    let there = (
        u64::from(imported.transactions),
        imported.bytes,
        imported.weight,
        imported.subsidy.to_sat(),
        imported.fees_claimed().map(bitcoin::Amount::to_sat),
    );
    let inputs = (report.watcher.spent_inside + report.watcher.spent_older, facts.inputs);
    let known = (report.watcher.spent_inside, u64::from(imported.inputs_known));
    let ok = here == there && inputs.0 == inputs.1 && known.0 == known.1;
    let found = format!("module {here:?} and {known:?}, chain {there:?}");
    Check { name: "facts_agree_with_chain", ok, found }
}

fn node_agrees_with_itself(report: &Report) -> Check {
    let analyst = &report.analyst;
    let ok = analyst.header_agrees && analyst.tip_agrees && analyst.chain == "main";
    let found =
        format!("header {}, tip {}, chain {}", analyst.header_agrees, analyst.tip_agrees, analyst.chain);
    Check { name: "node_agrees_with_itself", ok, found }
}

fn every_request_used(report: &Report) -> Check {
    let unused: Vec<&str> =
        report.requests.iter().filter(|r| r.calls == 0).map(|r| r.request.as_str()).collect();
    let unanswered: u64 = report.requests.iter().map(|r| r.unanswered).sum();
    let found = format!(
        "{} types, unused: {}, calls without an answer: {unanswered}",
        report.requests.len(),
        if unused.is_empty() { "none".to_owned() } else { unused.join(", ") }
    );
    Check { name: "every_request_used", ok: unused.is_empty() && unanswered == 0, found }
}

/// What modules say that they asked is what the node says that it was asked.
fn counted_alike(report: &Report) -> Check {
    let counts = report.modules.iter().filter(|module| module.module != report.kill.module);
    let counts: Vec<_> = counts.map(|m| (m.module.as_str(), m.requests, m.requests_at_node)).collect();
    let ok = counts.iter().all(|(_, module, node)| *module == Some(*node));
    Check { name: "counted_alike", ok, found: format!("{counts:?}") }
}

fn no_events_missed(report: &Report) -> Check {
    let lagged: u64 = report.modules.iter().map(|module| module.lagged).sum();
    // Of each type that it subscribes to, a module got all that the node published.
    let complete = report.modules.iter().flat_map(|module| &module.events);
    let complete = complete
        .filter(|(event, count)| report.events_published.get(*event).is_some_and(|all| all == *count))
        .count();
    let got: usize = report.modules.iter().map(|module| module.events.len()).sum();
    let ok = lagged == 0 && complete == got && got > 0;
    Check {
        name: "no_events_missed",
        ok,
        found: format!("{complete} of {got} complete, {lagged} lag notices"),
    }
}

fn refusals(report: &Report) -> Check {
    let refusals: Vec<_> = report
        .unprivileged
        .refusals
        .iter()
        .map(|r| (r.request.as_str(), r.code.as_str(), r.missing.join(" ")))
        .collect();
    let wanted = [("GetUTXO", "ReadUTXO"), ("SubscribeEvents", "SubscribeEvents")];
    let wanted = wanted.map(|(request, missing)| (request, "PermissionDenied", missing.to_owned()));
    let granted = report.modules.iter().find(|module| module.module == "unprivileged").map(|m| &m.granted);
    let ok = refusals == wanted && granted == Some(&report.unprivileged.granted);
    Check { name: "refusals", ok, found: format!("{refusals:?}") }
}

fn usable_after_refusals(report: &Report) -> Check {
    let height = report.unprivileged.height_afterwards;
    // It asked before the block was imported.
    let ok = height == u64::from(store::HEIGHT - 1);
    Check { name: "usable_after_refusals", ok, found: format!("height {height}") }
}

fn killed_call_is_lost(report: &Report) -> Check {
    let kill = &report.kill;
    let ok = kill.outcome == "lost" && kill.was_sent == Some(true);
    Check { name: "killed_call_is_lost", ok, found: format!("{}: {}", kill.outcome, kill.reason) }
}

fn killed_by_signal(report: &Report) -> Check {
    let ok = report.kill.exit == ExitReport { code: None, signal: Some(SIGKILL) };
    Check { name: "killed_by_signal", ok, found: report.kill.exit.to_string() }
}

fn crash_was_announced(report: &Report) -> Check {
    let seen = &report.watcher.crash_seen;
    let ok = seen.as_ref().is_some_and(|crash| {
        crash.module == report.kill.module && crash.signal == u32::try_from(SIGKILL).ok()
    });
    Check { name: "crash_was_announced", ok, found: format!("{seen:?}") }
}

fn others_unharmed(report: &Report) -> Check {
    // Two answers at least: one before the kill, by which the demo knew that it had begun, and one after it.
    let others = &report.kill.others;
    let ok = others.len() == 2 && others.values().all(|other| other.failed == 0 && other.answered >= 2);
    let found: Vec<_> = others
        .iter()
        .map(|(name, o)| format!("{name} {} answered, {} failed", o.answered, o.failed))
        .collect();
    Check { name: "others_unharmed", ok, found: found.join("; ") }
}

fn orderly_shutdown(report: &Report) -> Check {
    let done = ExitReport { code: Some(0), signal: None };
    let left = report.modules.iter().filter(|module| module.module != report.kill.module);
    let codes: Vec<_> = left.map(|module| (module.module.as_str(), module.exit.code)).collect();
    let in_order = codes.iter().all(|(_, code)| *code == done.code);
    let ok = in_order
        && codes.len() == 3
        && report.shutdown.drained == ["analyst", "unprivileged", "watcher"]
        && report.shutdown.lost.is_empty();
    Check { name: "orderly_shutdown", ok, found: format!("{codes:?}, lost {:?}", report.shutdown.lost) }
}
