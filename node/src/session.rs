//! One module's connection, from its Hello to its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::future::AbortHandle;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use modipc_api::{
    CapabilitySet, DecodeError, ErrorCode, ErrorInfo, EventType, ForeignLog, LogMessage, MessageType,
    NativeDialect, Request, Response, ResponseData, required_for_event,
};
use modipc_core::{
    Body, CallId, CloseReason, Connection, Event, Hello, Host, Initiator, Refused, ServedCall, Subscription,
    TopicSet,
};
use modipc_driver::{Link, Service};

use crate::api::CallContext;
use crate::bus::Reader;
use crate::logs::{self, Gate, LogGate};
use crate::node::{Inner, Joining};
use crate::policy::PeerIdentity;
use crate::serving::{self, Begun, Ended, Serving};
use crate::signal::Signal;
use crate::status::Counters;
use crate::text::Shown;

pub(crate) type NodeLink = Link<Host, NativeDialect>;
pub(crate) type HostConnection = Connection<Host, NativeDialect>;

/// Calls that are answered in one poll before the task lets others run.
const ANSWERS_PER_POLL: usize = 64;

/// Bytes of the buffer for encoding that a connection keeps.
const SCRATCH_KEPT: usize = 4096;

/// What a session shares with whoever asks how its module is.
#[derive(Default)]
pub(crate) struct Live {
    pub(crate) counters: Counters,
    /// What is granted, as bits; for [`CallContext`]. The connection has its own copy, and that one decides.
    pub(crate) grants: AtomicU64,
    /// Set while the module is subscribed to events that it may no longer receive. It gets none then, until it subscribes to what
    /// it may.
    pub(crate) muted: AtomicBool,
    /// The module was admitted. It stays set when the connection has ended.
    admitted: AtomicBool,
    /// It was admitted, or its connection has ended.
    pub(crate) decided: Signal,
}

impl Live {
    pub(crate) fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Acquire)
    }

    /// Notes what the module may do and looks whether it still may receive what it is subscribed to. Called under the connection's
    /// lock.
    pub(crate) fn set_grants(&self, grants: CapabilitySet, topics: &TopicSet) {
        self.grants.store(grants.bits(), Ordering::Relaxed);
        let may = |event_type| grants.contains_all(required_for_event(event_type));
        self.muted.store(!event_types(topics).into_iter().all(may), Ordering::Relaxed);
    }
}

/// The service of one connection. Its task owns it; when the task ends, however it ends, the session leaves the node.
pub(crate) struct Session {
    node: Arc<Inner>,
    number: u64,
    identity: PeerIdentity,
    module: Option<Arc<str>>,
    live: Arc<Live>,
    reader: Reader,
    serving: FuturesUnordered<Serving>,
    /// The calls in `serving` that are not given up.
    waiting: BTreeMap<CallId, AbortHandle>,
    gate: LogGate,
    scratch: Vec<u8>,
    closed: Option<CloseReason>,
}

impl Session {
    pub(crate) fn new(node: Arc<Inner>, number: u64, identity: PeerIdentity, live: Arc<Live>) -> Session {
        let gate = LogGate::new(node.runtime.now(), &node.config);
        Session {
            node,
            number,
            identity,
            module: None,
            live,
            reader: Reader::default(),
            serving: FuturesUnordered::new(),
            waiting: BTreeMap::new(),
            gate,
            scratch: Vec::new(),
            closed: None,
        }
    }

    /// For the log; empty before the module is admitted.
    fn name(&self) -> &str {
        self.module.as_deref().unwrap_or_default()
    }
}

impl Service<Host, NativeDialect> for Session {
    fn event(&mut self, link: &NodeLink, event: Event) {
        match event {
            Event::Hello(hello) => self.hello(link, &hello),
            Event::Call(call) => self.call(link, call),
            Event::Subscribe(call, subscription) => self.subscribe(link, call.id, subscription),
            Event::CallCancelled(id) => {
                let error = ErrorInfo::new(ErrorCode::Cancelled, "the caller gave the call up");
                self.give_up(link, id, error);
            }
            Event::CallExpired(id) => {
                let error = ErrorInfo::new(ErrorCode::DeadlineExceeded, "the call's deadline passed");
                self.give_up(link, id, error);
            }
            Event::CallDenied(_, missing) => self.denied(CapabilitySet::from_bits(missing)),
            Event::CallBusy(_) => self.live.counters.busy.add(1),
            Event::Log { body, records } => self.log(link, &body, &records),
            Event::InboxOverflow { count, .. } => self.live.counters.logs_dropped.add(count),
            Event::Draining { by, reason, detail, .. } => self.draining(by, reason, &detail),
            Event::Closed(reason) => self.closed = Some(reason),
            // Nobody asks for these here, or only a module gets them.
            Event::Progress { .. }
            | Event::Pong { .. }
            | Event::Accepted(_)
            | Event::Refused(_)
            | Event::Event { .. }
            | Event::Lagged { .. }
            | Event::GrantsChanged(_) => {}
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, link: &NodeLink) {
        self.node.bus.settle(&mut self.reader);
        for _ in 0..ANSWERS_PER_POLL {
            match self.serving.poll_next_unpin(cx) {
                Poll::Ready(Some((id, request, ended))) => {
                    let is_open = self.waiting.remove(&id).is_some();
                    let response = self.response(request, ended);
                    if let (true, Some(response)) = (is_open, response) {
                        self.reply(link, id, &response);
                    }
                }
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
        cx.waker().wake_by_ref();
    }

    fn fill(&mut self, cx: &mut Context<'_>, connection: &mut HostConnection, now: u64) {
        // Whose grants were taken away gets no more events, and no publisher waits for it.
        if !self.live.muted.load(Ordering::Relaxed) {
            self.node.bus.pull(cx, connection, now, &mut self.reader);
        }
    }
}

/// The handshake.
impl Session {
    fn hello(&mut self, link: &NodeLink, hello: &Hello) {
        let joining =
            Joining { number: self.number, identity: &self.identity, hello, link, live: &self.live };
        match self.node.join(joining) {
            Ok(admitted) => {
                tracing::info!(
                    module = %admitted.module_id,
                    version = %Shown::name(&hello.version),
                    grants = %admitted.grants,
                    "module connected"
                );
                if !admitted.not_granted.is_empty() {
                    tracing::warn!(
                        module = %admitted.module_id,
                        not_granted = %admitted.not_granted.join(", "),
                        "module asked for more than it was granted"
                    );
                }
                self.module = Some(admitted.module_id);
                self.live.admitted.store(true, Ordering::Release);
                self.live.decided.notify();
            }
            Err(error) => {
                tracing::warn!(identity = ?self.identity, "module refused: {error}; {}", error.hint());
            }
        }
    }
}

/// Calls.
impl Session {
    fn call(&mut self, link: &NodeLink, call: ServedCall) {
        let request = match Request::decode_shared(&call.body) {
            Ok(request) => request,
            Err(error) => {
                self.live.counters.undecodable.add(1);
                tracing::debug!(module = self.name(), "a request does not decode: {error}");
                return self.reply(link, call.id, &ErrorInfo::undecodable(error).into());
            }
        };
        let Some(module_id) = &self.module else { return };
        self.live.counters.calls.add(1);
        let cx = CallContext {
            module_id: Arc::clone(module_id),
            call: call.id,
            deadline: call.deadline,
            idempotency: call.idempotency,
            trace: call.trace,
            grants: CapabilitySet::from_bits(self.live.grants.load(Ordering::Relaxed)),
        };
        let message_type = request.message_type();
        match serving::begin(&self.node.api, cx, request) {
            Begun::Ended(ended) => {
                if let Some(response) = self.response(message_type, ended) {
                    self.reply(link, call.id, &response);
                }
            }
            Begun::Waits(serving, abort) => {
                self.serving.push(serving);
                self.waiting.insert(call.id, abort);
            }
        }
    }

    /// What a call is answered with; `None` if it was given up and has been answered.
    fn response(&self, request: MessageType, ended: Ended) -> Option<Response> {
        match ended {
            Ended::GivenUp => None,
            Ended::Answered(response) => Some(response),
            Ended::Panicked(panic) => {
                self.live.counters.panics.add(1);
                tracing::error!(module = self.name(), %request, "the node panicked in a request: {panic}");
                let text = format!("the node failed in {request}; its log says why");
                Some(ErrorInfo::new(ErrorCode::Internal, text).into())
            }
        }
    }

    /// The caller does not wait any more: the work is dropped, and the call gets its one answer [C-4].
    fn give_up(&mut self, link: &NodeLink, id: CallId, error: ErrorInfo) {
        let Some(abort) = self.waiting.remove(&id) else { return };
        abort.abort();
        self.live.counters.given_up.add(1);
        self.reply(link, id, &error.into());
    }

    fn reply(&mut self, link: &NodeLink, id: CallId, response: &Response) {
        match response {
            Response::Success(_) => {}
            Response::Error(_) => self.live.counters.errors.add(1),
            Response::NotFound => self.live.counters.not_found.add(1),
        }
        self.scratch.clear();
        let tail = response.encode_parts(&mut self.scratch);
        let body = Body { head: &self.scratch, tail };
        match link.with(|connection, now| connection.reply(now, id, body)) {
            Ok(()) => {}
            Err(Refused::BodyTooLong) => self.too_large(link, id),
            // The connection ended, or the call was answered when it was given up.
            Err(refused) => tracing::trace!(module = self.name(), "an answer came too late: {refused}"),
        }
        // One long answer does not stay in memory for as long as its connection.
        if self.scratch.capacity() > SCRATCH_KEPT {
            self.scratch = Vec::new();
        }
    }

    fn too_large(&mut self, link: &NodeLink, id: CallId) {
        let text = "the answer exceeds what this module announced that it can receive";
        self.live.counters.errors.add(1);
        self.scratch.clear();
        Response::from(ErrorInfo::new(ErrorCode::PayloadTooLarge, text)).encode(&mut self.scratch);
        let body = Body::from(&self.scratch[..]);
        // Refused only if the connection ended in the meantime.
        let _ = link.with(|connection, now| connection.reply(now, id, body));
    }

    fn denied(&mut self, missing: CapabilitySet) {
        self.live.counters.denials.add(1);
        let Some(module) = &self.module else { return };
        if self.node.is_first_denial(module, missing) {
            tracing::warn!(
                %module, %missing,
                "a call was denied: grant {missing} in the policy of module {module} if it shall be served; \
                 further denials of it are logged at debug"
            );
        } else {
            tracing::debug!(%module, %missing, "a call was denied");
        }
    }
}

/// Subscriptions.
impl Session {
    fn subscribe(&mut self, link: &NodeLink, id: CallId, subscription: Subscription) {
        self.live.counters.calls.add(1);
        let (reader, bus, scratch, live) = (&mut self.reader, &self.node.bus, &mut self.scratch, &self.live);
        let granted = link.with(|connection, now| {
            let granted = bus.with_log(connection, reader, |connection, log| {
                scratch.clear();
                let start = connection.subscription_start(&subscription, log);
                Response::Success(subscribed(&subscription, connection.topics(), start)).encode(scratch);
                connection.reply_subscription(now, id, subscription, log, Body::from(&scratch[..]))
            });
            // What it may subscribe to the connection has checked; what is left of an older set it has not.
            live.set_grants(CapabilitySet::from_bits(connection.grants()), &connection.topics());
            granted
        });
        bus.settle(reader);
        match granted {
            Ok(()) => {}
            Err(refused @ (Refused::Closed(_) | Refused::UnknownCall)) => {
                tracing::trace!(module = self.name(), "a subscription came too late: {refused}");
            }
            Err(refused) => {
                let error = ErrorInfo::new(ErrorCode::Unavailable, format!("not subscribed: {refused}"));
                self.reply(link, id, &error.into());
            }
        }
    }
}

fn subscribed(subscription: &Subscription, before: TopicSet, start: u64) -> ResponseData {
    match subscription {
        Subscription::Replace { topics, .. } => ResponseData::Subscribed {
            event_types: event_types(topics),
            // They come after this position [V-3].
            position: start.saturating_sub(1),
        },
        Subscription::Remove { topics } => {
            ResponseData::Unsubscribed { event_types: event_types(&before.without(topics)) }
        }
    }
}

pub(crate) fn event_types(topics: &TopicSet) -> Vec<EventType> {
    topics.iter().filter_map(EventType::from_topic).collect()
}

/// Logs.
impl Session {
    /// Writes, drops or refuses one record. A refused one is the module's fault, but no reason to end its connection [M-6].
    fn log(&mut self, link: &NodeLink, body: &[u8], records: &[u8]) {
        let Some(module) = self.module.clone() else { return };
        match self.gate.record(link.runtime().now()) {
            Gate::Pass { dropped: 0 } => {}
            Gate::Pass { dropped } => self.report_dropped(dropped),
            Gate::Drop { first } => {
                self.live.counters.logs_dropped.add(1);
                if first {
                    tracing::warn!(%module, "module logs too much; what exceeds its rate is dropped");
                }
                return;
            }
        }
        match read_log(&module, body) {
            Ok(log) => {
                self.live.counters.logs.add(1);
                logs::emit(&module, &log, records, &self.node.config);
            }
            Err(fault) => {
                self.live.counters.logs_refused.add(1);
                let fault = fault.to_string();
                let fault = Shown::new(&fault, 512);
                tracing::warn!(%module, "protocol error of module {module}: a log record was refused: {fault}");
            }
        }
    }

    fn report_dropped(&self, dropped: u64) {
        tracing::warn!(module = self.name(), dropped, "log records of the module were dropped");
    }
}

/// What is wrong with a log record [M-6].
#[derive(Debug, thiserror::Error)]
enum LogFault {
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    #[error(transparent)]
    Foreign(#[from] ForeignLog),
}

fn read_log(module: &str, body: &[u8]) -> Result<LogMessage, LogFault> {
    let log = LogMessage::decode(body)?;
    log.check_module(module)?;
    Ok(log)
}

/// The end.
impl Session {
    fn draining(&self, by: Initiator, reason: u32, detail: &str) {
        let who = match by {
            Initiator::Us => "host",
            Initiator::Peer => "module",
        };
        tracing::info!(module = self.name(), by = who, reason, detail = %Shown::new(detail, 256), "goodbye");
    }

    /// One line for each end: a complaint with what, who and what to do, unless everything was in order or the complaint was
    /// written when the module was refused.
    fn say_closed(&self, reason: CloseReason) {
        let (module, identity) = (self.name(), &self.identity);
        match remedy(reason) {
            None => tracing::info!(module, ?identity, "connection closed: {reason}"),
            Some(remedy) => {
                tracing::warn!(
                    module,
                    ?identity,
                    "connection closed: {reason}; {remedy}; others are not affected"
                );
            }
        }
    }
}

/// What to do about a connection that ended so; `None` if there is nothing to do.
fn remedy(reason: CloseReason) -> Option<&'static str> {
    Some(match reason {
        CloseReason::Drained { .. }
        | CloseReason::PeerGone
        | CloseReason::Aborted
        | CloseReason::Refused(_) => return None,
        CloseReason::Violation(_) => "let the module's author correct what it sends",
        CloseReason::Blamed(_) => "report it as a fault of this host, with a trace of the connection",
        CloseReason::HandshakeTimeout => "a module sends its Hello as soon as it is connected",
        CloseReason::SubscriberLagged => "let it read faster, or subscribe with the policy that lags",
        CloseReason::PingTimeout => "see whether the module hangs, and start it again",
        CloseReason::DrainTimeout => "see which calls it leaves open, or give it more time to drain",
        CloseReason::TransportFailed => "see whether its process lives, and start it again",
    })
}

impl Drop for Session {
    fn drop(&mut self) {
        // A task that is dropped before its connection was closed has aborted it.
        let reason = self.closed.unwrap_or(CloseReason::Aborted);
        self.node.bus.leave(&mut self.reader);
        if self.gate.unreported() > 0 {
            self.report_dropped(self.gate.unreported());
        }
        self.say_closed(reason);
        self.live.decided.notify();
        self.node.left(self.number, self.module.as_ref(), reason);
    }
}
