//! Counts what a module asks: every call with its outcome, its bytes and its latency.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use modipc_api::{ErrorInfo, EventType, MessageType, ModuleError, Request, Response, ResponseData};
use modipc_core::SubscribeOptions;
use modipc_module::{Client, Error, EventStream, Topics};
use serde::{Deserialize, Serialize};

/// Latencies that are kept of each type of request. Later calls are counted and only change the maximum.
const SAMPLES_MAX: usize = 4096;

/// What a module asked so far.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    tallies: Mutex<BTreeMap<MessageType, Tally>>,
}

/// All calls of one type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Calls that were made.
    pub(crate) calls: u64,
    /// Calls that were answered with data.
    pub(crate) success: u64,
    /// Calls that were answered with NotFound.
    pub(crate) not_found: u64,
    /// Calls that were answered with an error, by its code.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Calls that had no answer.
    pub(crate) unanswered: u64,
    /// Bytes of the requests' bodies.
    pub(crate) request_bytes: u64,
    /// Bytes of the answers' bodies.
    pub(crate) response_bytes: u64,
    /// The longest latency.
    pub(crate) max_us: u64,
    /// Latencies, at most [`SAMPLES_MAX`] of each module.
    pub(crate) samples_us: Vec<u64>,
}

/// Every type of request that was made, by its name on the wire.
pub(crate) type Tallies = BTreeMap<String, Tally>;

impl Meter {
    /// Makes a call, waits for its answer and counts both.
    pub(crate) async fn ask(&self, client: &Client, request: Request) -> Result<Response, Error> {
        let message_type = request.message_type();
        let mut body = Vec::new();
        let sent = body_bytes(|head| request.encode_parts(head).len(), &mut body);
        let (answer, us) = timed(client.request(request)).await;
        let received = answer.as_ref().map_or(0, |response| response_bytes(response, &mut body));
        self.count(message_type, &answer, sent, received, us);
        answer
    }

    /// Subscribes and counts the call. The SDK makes it; the lengths are those of the same message made again, in which only
    /// a number of fixed width may differ.
    pub(crate) async fn subscribe(
        &self,
        client: &Client,
        topics: Topics,
        options: SubscribeOptions,
    ) -> Result<EventStream, Error> {
        let event_types: Vec<EventType> = topics.iter().collect();
        let request = Request::SubscribeEvents { event_types: event_types.clone() };
        let (result, us) = timed(client.subscribe(topics, options)).await;
        let subscribed = Response::Success(ResponseData::Subscribed { event_types, position: 0 });
        let answer = result.as_ref().map_or_else(answered, |_| Ok(subscribed));
        self.count_like(&request, &answer, us);
        result
    }

    /// Ends a subscription and counts the call, as [`Meter::subscribe`].
    pub(crate) async fn unsubscribe(&self, stream: EventStream) -> Result<(), Error> {
        let (result, us) = timed(stream.close()).await;
        let unsubscribed = Response::Success(ResponseData::Unsubscribed { event_types: Vec::new() });
        let answer = result.as_ref().map_or_else(answered, |()| Ok(unsubscribed));
        self.count_like(&Request::Unsubscribe { event_types: Vec::new() }, &answer, us);
        result
    }

    /// What was counted.
    pub(crate) fn tallies(&self) -> Tallies {
        let tallies = self.lock();
        tallies.iter().map(|(request, tally)| (request.name().to_owned(), tally.clone())).collect()
    }

    fn count_like(&self, request: &Request, answer: &Result<Response, Error>, us: u64) {
        let mut body = Vec::new();
        let sent = body_bytes(|head| request.encode_parts(head).len(), &mut body);
        let received = answer.as_ref().map_or(0, |response| response_bytes(response, &mut body));
        self.count(request.message_type(), answer, sent, received, us);
    }

    fn count(
        &self,
        request: MessageType,
        answer: &Result<Response, Error>,
        sent: u64,
        received: u64,
        us: u64,
    ) {
        let mut tallies = self.lock();
        let tally = tallies.entry(request).or_default();
        tally.calls += 1;
        tally.request_bytes += sent;
        tally.response_bytes += received;
        tally.max_us = tally.max_us.max(us);
        if tally.samples_us.len() < SAMPLES_MAX {
            tally.samples_us.push(us);
        }
        match answer {
            Ok(Response::Success(_)) => tally.success += 1,
            Ok(Response::NotFound) => tally.not_found += 1,
            Ok(Response::Error(error)) => *tally.errors.entry(error.code.to_string()).or_default() += 1,
            Err(_) => tally.unanswered += 1,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<MessageType, Tally>> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The host's answer inside of a typed error, if it is one.
fn answered(error: &Error) -> Result<Response, Error> {
    match error {
        Error::Answered { error, .. } => Ok(error.clone().into()),
        Error::Module(ModuleError::PermissionDenied { request, missing, .. }) => {
            Ok(ErrorInfo::permission_denied(*request, *missing).into())
        }
        Error::Module(_) => Err(error.clone()),
    }
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, u64) {
    let begun = Instant::now();
    let done = work.await;
    (done, u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX))
}

fn response_bytes(response: &Response, scratch: &mut Vec<u8>) -> u64 {
    body_bytes(|head| response.encode_parts(head).len(), scratch)
}

/// Length of a body whose tail, a block say, is not copied for it.
fn body_bytes(encode: impl FnOnce(&mut Vec<u8>) -> usize, scratch: &mut Vec<u8>) -> u64 {
    scratch.clear();
    let tail = encode(scratch);
    (scratch.len() + tail) as u64
}

/// Adds what another module asked.
pub(crate) fn merge(all: &mut Tallies, other: &Tallies) {
    for (request, tally) in other {
        let sum = all.entry(request.clone()).or_default();
        sum.calls += tally.calls;
        sum.success += tally.success;
        sum.not_found += tally.not_found;
        sum.unanswered += tally.unanswered;
        sum.request_bytes += tally.request_bytes;
        sum.response_bytes += tally.response_bytes;
        sum.max_us = sum.max_us.max(tally.max_us);
        sum.samples_us.extend(&tally.samples_us);
        for (code, count) in &tally.errors {
            *sum.errors.entry(code.clone()).or_default() += count;
        }
    }
}

impl Tally {
    /// The median latency: of an even number of samples, the lower middle one. `None` without samples.
    pub(crate) fn median_us(&self) -> Option<u64> {
        let mut samples = self.samples_us.clone();
        samples.sort_unstable();
        samples.get(samples.len().saturating_sub(1) / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use modipc_api::ErrorCode;

    use super::*;

    #[test]
    fn calls_are_counted_by_outcome_with_bytes_and_latency() {
        let meter = Meter::default();
        let request = Request::GetBlockHeight;
        let height = Response::Success(ResponseData::BlockHeight(702_861));
        for (answer, us) in [
            (Ok(height), 30),
            (Ok(Response::NotFound), 10),
            (Ok(ErrorInfo::new(ErrorCode::Unsupported, "no").into()), 20),
        ] {
            meter.count_like(&request, &answer, us);
        }
        let tallies = meter.tallies();
        let tally = &tallies["GetBlockHeight"];
        assert_eq!((tally.calls, tally.success, tally.not_found, tally.unanswered), (3, 1, 1, 0));
        assert_eq!(tally.errors["Unsupported"], 1);
        assert_eq!((tally.median_us(), tally.max_us), (Some(20), 30));
        // Type and variant, 4 bytes each; the answer: variant, data's number and height; variant; variant, code, "no", no details.
        assert_eq!(tally.request_bytes, 3 * 8);
        assert_eq!(tally.response_bytes, (4 + 4 + 8) + 4 + (4 + 4 + 8 + 2 + 8));
    }

    #[test]
    fn tallies_of_several_modules_add_up() {
        let one = Tally { calls: 2, success: 2, max_us: 9, samples_us: vec![9, 1], ..Tally::default() };
        let other = Tally { calls: 1, unanswered: 1, max_us: 5, samples_us: vec![5], ..Tally::default() };
        let mut all = Tallies::new();
        merge(&mut all, &Tallies::from([("GetBlock".to_owned(), one)]));
        merge(&mut all, &Tallies::from([("GetBlock".to_owned(), other)]));
        let sum = &all["GetBlock"];
        assert_eq!((sum.calls, sum.success, sum.unanswered), (3, 2, 1));
        assert_eq!((sum.median_us(), sum.max_us), (Some(5), 9));
        assert_eq!(Tally::default().median_us(), None);
    }
}
