//! One module is killed in the middle of a call, while the others are in the middle of theirs.

use std::collections::BTreeMap;
use std::time::Instant;

use modipc_api::{Event, InvocationResult};
use modipc_driver::CallError;
use modipc_node::{Exit, InvokeError, ModuleStatus};

use super::report::{ExitReport, KillReport};
use super::stage::{Stage, success};
use crate::error::CliError;
use crate::modules::{Name, Steady, method};

/// Who goes on meanwhile.
const OTHERS: [Name; 2] = [Name::Analyst, Name::Watcher];

/// Kills the sleeper while it serves a call, and reports what became of the call, of the process and of the others; and what
/// the node had counted of it until then.
pub(crate) async fn play(stage: &mut Stage) -> Result<(KillReport, Option<ModuleStatus>), CliError> {
    let victim = Name::Sleeper;
    let mut steady = Vec::new();
    for name in OTHERS {
        steady.push((name, tokio::spawn(Stage::invoke(stage.node.clone(), name, method::STEADY))));
        stage.call(name, method::STEADY_BEGUN).await?;
    }
    let nap = tokio::spawn(Stage::invoke(stage.node.clone(), victim, method::NAP));
    stage.call(victim, method::NAP_BEGUN).await?;

    let Some(module) = stage.module(victim).cloned() else { return Err(gone(victim)) };
    let status = stage.status(victim);
    let killed = Instant::now();
    module.kill();
    let outcome = nap.await.map_err(|_| gone(victim))?;
    let noticed_us = u64::try_from(killed.elapsed().as_micros()).unwrap_or(u64::MAX);
    let exit = module.ended().await.exit;
    stage.publish(&crashed(victim, exit.as_ref())).await?;

    let mut others = BTreeMap::new();
    for (name, running) in steady {
        stage.call(name, method::ENOUGH).await?;
        let returned = success(name, method::STEADY, running.await.map_err(|_| gone(name))??)?;
        let did: Steady = serde_json::from_slice(&returned)
            .map_err(|error| super::stage::answer(name, method::STEADY, error))?;
        others.insert(name.id().to_owned(), did);
    }
    let (outcome, reason, was_sent) = in_words(outcome);
    let report = KillReport {
        module: victim.id().to_owned(),
        pid: module.pid(),
        method: method::NAP.to_owned(),
        outcome,
        reason,
        was_sent,
        noticed_us,
        exit: ExitReport::from(exit.as_ref()),
        others,
    };
    Ok((report, status))
}

/// A task of the demo was lost, which only happens when the runtime goes.
fn gone(name: Name) -> CliError {
    CliError::NotConnected { module: name.id(), how: "any more".to_owned() }
}

fn crashed(name: Name, exit: Option<&Exit>) -> Event {
    let ExitReport { code, signal } = exit.into();
    Event::ModuleCrashed {
        module_id: name.id().to_owned(),
        exit_code: code.and_then(|code| code.try_into().ok()),
        signal: signal.and_then(|signal| signal.try_into().ok()),
    }
}

fn in_words(outcome: Result<InvocationResult, InvokeError>) -> (String, String, Option<bool>) {
    match outcome {
        Err(InvokeError::Call { source: CallError::Lost { reason, was_sent }, .. }) => {
            ("lost".to_owned(), reason.to_string(), Some(was_sent))
        }
        Err(InvokeError::Call { source, .. }) => ("failed".to_owned(), source.to_string(), None),
        Err(other) => ("failed".to_owned(), other.to_string(), None),
        Ok(result) => ("answered".to_owned(), format!("{result:?}"), None),
    }
}
