//! What the demo's modules have in common: how the node asks them what they found, and keeps them busy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use modipc_api::{ErrorCode, ErrorInfo, Event, Request, Response};
use modipc_module::{Client, InvocationContext, InvocationHandler};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::meter::{Meter, Tallies};

/// Methods that a module offers to the node, by their names in an invocation.
pub(crate) mod method {
    /// Answers when the module has its subscription.
    pub(crate) const READY: &str = "ready";
    /// Answers with a [`super::Filed`] when the module has found out everything.
    pub(crate) const REPORT: &str = "report";
    /// Asks the node for the height, again and again, until [`ENOUGH`]; answers with a [`super::Steady`].
    pub(crate) const STEADY: &str = "steady";
    /// Answers when [`STEADY`] has its first answer from the node.
    pub(crate) const STEADY_BEGUN: &str = "steady-begun";
    /// Ends [`STEADY`].
    pub(crate) const ENOUGH: &str = "enough";
    /// The sleeper's: never answers.
    pub(crate) const NAP: &str = "nap";
    /// The sleeper's: answers while it serves [`NAP`].
    pub(crate) const NAP_BEGUN: &str = "nap-begun";
}

/// The pause between two requests of [`method::STEADY`].
const STEADY_PAUSE: Duration = Duration::from_millis(1);

/// What a module hands in when it is asked for its report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Filed<F> {
    /// What it found out.
    pub(crate) findings: F,
    /// What it asked.
    pub(crate) requests: Tallies,
    /// Events that it got, by type.
    pub(crate) events: BTreeMap<String, u64>,
    /// How often it was told that events are missing.
    pub(crate) lagged: u64,
}

impl<F> Filed<F> {
    /// How many requests it made, which events it got, and how often it was told that events are missing.
    pub(crate) fn counted(&self) -> (Option<u64>, BTreeMap<String, u64>, u64) {
        let requests = self.requests.values().map(|tally| tally.calls).sum();
        (Some(requests), self.events.clone(), self.lagged)
    }
}

/// What a module did between [`method::STEADY`] and [`method::ENOUGH`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Steady {
    /// Requests that were answered.
    pub(crate) answered: u64,
    /// Requests that were not, or not with a height.
    pub(crate) failed: u64,
    /// The longest time that one took.
    pub(crate) longest_us: u64,
}

/// The desk of one module. It answers the node's invocations beside whatever the module does.
#[derive(Debug)]
pub(crate) struct Desk<F> {
    /// What the module asks goes through here.
    pub(crate) meter: Meter,
    ready: watch::Sender<bool>,
    findings: watch::Sender<Option<F>>,
    steady_begun: watch::Sender<bool>,
    enough: watch::Sender<bool>,
    events: Mutex<(BTreeMap<String, u64>, u64)>,
}

impl<F> Desk<F> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Desk {
            meter: Meter::default(),
            ready: watch::Sender::new(false),
            findings: watch::Sender::new(None),
            steady_begun: watch::Sender::new(false),
            enough: watch::Sender::new(false),
            events: Mutex::default(),
        })
    }

    /// The module has its subscription.
    pub(crate) fn ready(&self) {
        self.ready.send_replace(true);
    }

    /// The module has found out everything.
    pub(crate) fn file(&self, findings: F) {
        self.findings.send_replace(Some(findings));
    }

    /// An event came.
    pub(crate) fn note(&self, event: &Event) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        *events.0.entry(event.event_type().name().to_owned()).or_default() += 1;
    }

    /// Events are missing.
    pub(crate) fn note_lag(&self) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).1 += 1;
    }

    async fn steady(&self, client: &Client) -> Steady {
        let mut steady = Steady::default();
        loop {
            // Looked at before the request: one more comes after the word, so the last answer is younger than it.
            let last = *self.enough.borrow();
            let begun = Instant::now();
            match self.meter.ask(client, Request::GetBlockHeight).await {
                Ok(Response::Success(_)) => steady.answered += 1,
                Ok(Response::Error(_) | Response::NotFound) | Err(_) => steady.failed += 1,
            }
            let us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            steady.longest_us = steady.longest_us.max(us);
            self.steady_begun.send_replace(true);
            if last || client.closed().is_some() {
                return steady;
            }
            tokio::time::sleep(STEADY_PAUSE).await;
        }
    }
}

impl<F: Clone + Serialize + Send + Sync> Desk<F> {
    async fn report(&self) -> Result<Bytes, ErrorInfo> {
        let findings = seen(&self.findings, Option::is_some).await;
        let (events, lagged) = self.events.lock().unwrap_or_else(PoisonError::into_inner).clone();
        json(&Filed { findings, requests: self.meter.tallies(), events, lagged })
    }
}

#[async_trait]
impl<F: Clone + Serialize + Send + Sync + 'static> InvocationHandler for Desk<F> {
    async fn call(
        &self,
        cx: InvocationContext,
        method: String,
        _params: Bytes,
    ) -> Result<Option<Bytes>, ErrorInfo> {
        let answer = match method.as_str() {
            method::READY => {
                seen(&self.ready, |ready| *ready).await;
                Bytes::new()
            }
            method::REPORT => self.report().await?,
            method::STEADY => json(&self.steady(&cx.client).await)?,
            method::STEADY_BEGUN => {
                seen(&self.steady_begun, |begun| *begun).await;
                Bytes::new()
            }
            method::ENOUGH => {
                self.enough.send_replace(true);
                Bytes::new()
            }
            _ => return Ok(None),
        };
        Ok(Some(answer))
    }
}

/// Waits until the value is as wanted, and gives it.
pub(crate) async fn seen<T: Clone>(sender: &watch::Sender<T>, wanted: impl FnMut(&T) -> bool) -> T {
    let mut receiver = sender.subscribe();
    match receiver.wait_for(wanted).await {
        Ok(value) => value.clone(),
        // The sender is borrowed here, so it is not gone.
        Err(_) => sender.borrow().clone(),
    }
}

fn json(value: &impl Serialize) -> Result<Bytes, ErrorInfo> {
    let text = serde_json::to_vec(value);
    text.map(Bytes::from).map_err(|error| ErrorInfo::new(ErrorCode::Internal, error.to_string()))
}
