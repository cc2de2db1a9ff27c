//! The handle of one connection to the host.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use modipc_api::{CapabilitySet, MessageType, NativeDialect, Request, Response};
use modipc_core::{
    CallOptions, CloseReason, IdempotencyKey, Limits, Profile, Refused, SubscribeOptions, TraceContext,
};
use modipc_driver::{Call, Link, Runtime, Stats, Transport};

use crate::connect::{Connect, connect};
use crate::error::{closed, refused, undecodable};
use crate::reply::{Decode, Reply};
use crate::session::{Draining, Session, State};
use crate::{ConnectError, Error};

pub(crate) type ModuleLink = Link<modipc_core::Module, NativeDialect>;
pub(crate) type ModuleCall = Call<modipc_core::Module, NativeDialect>;

/// How long a call waits unless [`Client::with_deadline`] says otherwise.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(30);

/// What the host said of itself in the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostInfo {
    /// The node's version.
    pub node_version: String,
    /// A number of the node's run: another one means that the node was restarted.
    pub instance_id: [u8; 16],
    /// The token for this module's next connection, or empty [H-5].
    pub next_token: Vec<u8>,
    /// What the host lets this module do.
    pub limits: Limits,
    /// The profile that was agreed on. In the plain one there are no deadlines on the wire, no cancel, no ping, no event
    /// positions.
    pub profile: Profile,
}

/// A connection to the host, for any number of tasks and threads. Clones are the same connection.
///
/// Every request has a method, which makes the call at once and gives a [`Reply`] to await. When the last clone, stream and
/// reply is gone, the connection says goodbye.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
    deadline_us: u64,
    trace: Option<TraceContext>,
}

/// What the clones of a client share.
pub(crate) struct Inner {
    pub(crate) link: ModuleLink,
    pub(crate) session: Arc<Session>,
    pub(crate) module_id: Arc<str>,
    pub(crate) host: HostInfo,
}

impl Client {
    /// Connects: sends the Hello and waits for the host's answer.
    ///
    /// Cancel safety: dropping the future drops the connection.
    ///
    /// # Errors
    /// [`ConnectError`]: the host's refusal with its code, message and hint, or why there was no answer.
    pub async fn connect<T: Transport>(
        runtime: Arc<dyn Runtime>,
        transport: T,
        hello: Connect,
    ) -> Result<Client, ConnectError> {
        connect(runtime, transport, hello).await
    }

    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        let client = Client { inner, deadline_us: 0, trace: None };
        client.with_deadline(DEADLINE_DEFAULT)
    }

    /// A handle of the same connection whose calls wait this long: at least a microsecond, at most what the host allows
    /// ([`Limits::call_deadline_us_max`]).
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Client {
        let longest = self.inner.host.limits.call_deadline_us_max.max(1);
        let deadline_us = u64::try_from(deadline.as_micros()).unwrap_or(u64::MAX).clamp(1, longest);
        Client { deadline_us, ..self.clone() }
    }

    /// A handle of the same connection whose calls carry this W3C trace context, in x1.
    #[must_use]
    pub fn with_trace(&self, trace: TraceContext) -> Client {
        Client { trace: Some(trace), ..self.clone() }
    }

    /// How long calls of this handle wait.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        Duration::from_micros(self.deadline_us)
    }

    /// Makes any request and gives the host's answer as it is, errors included.
    pub fn request(&self, request: Request) -> Reply<Response> {
        self.issue(request, |_, request, _, body| decode(request, &body))
    }

    /// Makes a request under an idempotency key, in x1: a host that has seen the key gives the first outcome again instead of
    /// acting twice.
    pub fn request_once(&self, request: Request, key: IdempotencyKey) -> Reply<Response> {
        let options = CallOptions { idempotency: Some(key), ..self.options() };
        Reply::new(Arc::clone(&self.inner), request, &options, |_, request, _, body| decode(request, &body))
    }

    pub(crate) fn issue<T>(&self, request: Request, decode: Decode<T>) -> Reply<T> {
        Reply::new(Arc::clone(&self.inner), request, &self.options(), decode)
    }

    pub(crate) fn issue_subscription<T>(
        &self,
        request: Request,
        subscribe: SubscribeOptions,
        decode: Decode<T>,
    ) -> Reply<T> {
        let options = CallOptions { subscribe: Some(subscribe), ..self.options() };
        Reply::new(Arc::clone(&self.inner), request, &options, decode)
    }

    pub(crate) fn options(&self) -> CallOptions {
        CallOptions { deadline_us: self.deadline_us, trace: self.trace, idempotency: None, subscribe: None }
    }

    // ---- the connection ----

    /// The id under which the host knows this module.
    #[must_use]
    pub fn module_id(&self) -> &str {
        &self.inner.module_id
    }

    /// What the host said of itself.
    #[must_use]
    pub fn host(&self) -> &HostInfo {
        &self.inner.host
    }

    /// The capabilities that are granted now. The host may change them at any time.
    #[must_use]
    pub fn grants(&self) -> CapabilitySet {
        self.inner.session.grants()
    }

    /// Waits until the grants differ from `known`, and gives the new ones; `None` if the connection ends first. Cancel safe.
    pub async fn grants_changed(&self, known: CapabilitySet) -> Option<CapabilitySet> {
        self.inner
            .session
            .until(|session| match session.grants() {
                grants if grants != known => Some(Some(grants)),
                _ if matches!(session.state(), State::Closed(_)) => Some(None),
                _ => None,
            })
            .await
    }

    /// How far the connection is.
    #[must_use]
    pub fn state(&self) -> State {
        self.inner.session.state()
    }

    /// Waits until somebody says goodbye; `None` if the connection ends without. Cancel safe.
    pub async fn draining(&self) -> Option<Draining> {
        self.inner
            .session
            .until(|session| match (session.draining_seen(), session.state()) {
                (Some(draining), _) => Some(Some(draining)),
                (None, State::Closed(_)) => Some(None),
                (None, State::Active | State::Draining(_)) => None,
            })
            .await
    }

    /// The goodbye that was said, even if the connection has ended since.
    #[must_use]
    pub fn draining_seen(&self) -> Option<Draining> {
        self.inner.session.draining_seen()
    }

    /// Why the connection ended, if it did.
    #[must_use]
    pub fn closed(&self) -> Option<CloseReason> {
        self.inner.link.closed()
    }

    /// Waits until the connection has ended. Cancel safe.
    pub async fn wait_closed(&self) -> CloseReason {
        self.inner.link.wait_closed().await
    }

    /// Says goodbye with a reason of [G-2], waits until open calls are answered (at most [`modipc_core::Config::drain_us`])
    /// and gives the connection's end. New calls are refused from now on. In the plain profile, which has no Goodbye, the
    /// connection is dropped.
    ///
    /// Cancel safety: the goodbye is said when this is first polled; dropping it only stops the waiting.
    pub async fn close(&self, reason: u32, detail: &str) -> CloseReason {
        self.inner.hang_up(reason, detail);
        self.wait_closed().await
    }

    /// Asks the host for a sign of life and gives the round trip. Any number of tasks may ask: pings that overlap are one. Cancel
    /// safe.
    ///
    /// # Errors
    /// [`Error::Module`]: the connection is not active, or ended for want of an answer; or the profile is plain, which has no
    /// ping.
    pub async fn ping(&self) -> Result<Duration, Error> {
        let session = &self.inner.session;
        let (before, _) = session.pongs();
        match self.inner.link.with(|connection, now| connection.ping(now)) {
            Ok(_) | Err(Refused::PingUnderWay) => {}
            Err(why) => return Err(refused(&self.inner.module_id, why)),
        }
        let answered = session
            .until(|session| match (session.pongs(), session.state()) {
                ((pongs, rtt_us), _) if pongs > before => Some(Ok(rtt_us)),
                (_, State::Closed(reason)) => Some(Err(reason)),
                (_, State::Active | State::Draining(_)) => None,
            })
            .await;
        match answered {
            Ok(rtt_us) => Ok(Duration::from_micros(rtt_us)),
            Err(reason) => Err(closed(&self.inner.module_id, reason, true).into()),
        }
    }

    /// What the connection has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.link.stats()
    }

    /// Log messages that were dropped because the host does not read, or because the connection is not active.
    #[must_use]
    pub fn dropped_logs(&self) -> u64 {
        self.inner.session.dropped_logs.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("module_id", &self.inner.module_id)
            .field("state", &self.state())
            .field("deadline_us", &self.deadline_us)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Says goodbye, or drops the connection where there is no goodbye to say.
    fn hang_up(&self, reason: u32, detail: &str) {
        self.link.with(|connection, now| match connection.goodbye(now, reason, detail) {
            Ok(()) | Err(Refused::Draining | Refused::Closed(_)) => {}
            Err(_) => connection.abort(now),
        });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.hang_up(0, "");
    }
}

fn decode(request: MessageType, body: &Bytes) -> Result<Response, Error> {
    Response::decode_shared(body).map_err(|error| undecodable(format!("its answer to {request}: {error}")))
}
