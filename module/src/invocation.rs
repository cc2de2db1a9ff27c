//! Calls from the host into the module.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{AbortHandle, Abortable, Aborted};
use modipc_api::{ErrorCode, ErrorInfo, HealthReport, HealthStatus, Invocation, InvocationResult};
use modipc_core::{Body, CallId, IdempotencyKey, Refused, ServedCall, TraceContext};

use crate::client::{Client, Inner, ModuleLink};
use crate::session::Session;
use crate::sync::lock;

/// What accompanies an invocation.
#[derive(Clone, Debug)]
pub struct InvocationContext {
    /// The connection that it came on.
    pub client: Client,
    /// When the host stops waiting, in the time of the runtime's clock; `None` if it did not say.
    pub deadline_us: Option<u64>,
    /// W3C trace context.
    pub trace: Option<TraceContext>,
    /// Under this key the host means the same call, however often it comes.
    pub idempotency: Option<IdempotencyKey>,
}

/// Answers the host's invocations. Every method has a default.
///
/// Invocations run concurrently, each as a task of its own, at most `calls_max` of the module's own limits at a time: the
/// connection answers Busy beyond it. A panic is answered with the error Internal and hurts nothing else. When the host cancels an
/// invocation or its deadline passes, the future is dropped at its next `.await`.
#[async_trait]
pub trait InvocationHandler: Send + Sync + 'static {
    /// How the module is. Healthy unless overridden: the connection's task is alive, or there would be no answer.
    async fn health(&self, cx: InvocationContext) -> HealthReport {
        let _ = cx;
        HealthReport { status: HealthStatus::Healthy, detail: String::new() }
    }

    /// A method that the module offers; `Ok(None)`, the default, is "no such method".
    async fn call(
        &self,
        cx: InvocationContext,
        method: String,
        params: Bytes,
    ) -> Result<Option<Bytes>, ErrorInfo> {
        let _ = (cx, method, params);
        Ok(None)
    }

    /// Apply changed settings: names and values. Unsupported unless overridden.
    async fn configure(
        &self,
        cx: InvocationContext,
        settings: Vec<(String, String)>,
    ) -> Result<(), ErrorInfo> {
        let _ = (cx, settings);
        Err(ErrorInfo::new(
            ErrorCode::Unsupported,
            "this module reads its settings at its start only: restart it",
        ))
    }

    /// Save what must be saved: a goodbye follows within `grace`. Nothing to save unless overridden.
    async fn prepare_shutdown(&self, cx: InvocationContext, grace: Duration) -> Result<(), ErrorInfo> {
        let _ = (cx, grace);
        Ok(())
    }
}

/// The defaults, and nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct Defaults;

impl InvocationHandler for Defaults {}

/// Begins to serve a call of the host.
pub(crate) fn serve(
    link: &ModuleLink,
    session: &Arc<Session>,
    inner: &Weak<Inner>,
    handler: &Arc<dyn InvocationHandler>,
    call: ServedCall,
) {
    let invocation = match Invocation::decode_shared(&call.body) {
        Ok(invocation) => invocation,
        Err(error) => return answer(link, call.id, &InvocationResult::Error(ErrorInfo::undecodable(error))),
    };
    let Some(inner) = inner.upgrade() else {
        let error =
            ErrorInfo::new(ErrorCode::Unavailable, "the module has let go of the connection and ends");
        return answer(link, call.id, &InvocationResult::Error(error));
    };
    let cx = InvocationContext {
        client: Client::new(inner),
        deadline_us: call.deadline,
        trace: call.trace,
        idempotency: call.idempotency,
    };
    let (abort, registration) = AbortHandle::new_pair();
    lock(&session.serving).insert(call.id, abort);

    let handler = Arc::clone(handler);
    let handled = AssertUnwindSafe(async move { handle(&*handler, cx, invocation).await }).catch_unwind();
    let handled = Abortable::new(handled, registration);
    let (task_link, session) = (link.clone(), Arc::clone(session));
    link.runtime().spawn(Box::pin(async move {
        let result = match handled.await {
            Ok(Ok(result)) => result,
            Ok(Err(_panic)) => {
                tracing::error!(call = call.id.0, "the handler of an invocation panicked");
                InvocationResult::Error(ErrorInfo::new(ErrorCode::Internal, "the module's handler panicked"))
            }
            Err(Aborted) => return,
        };
        if lock(&session.serving).remove(&call.id).is_some() {
            answer(&task_link, call.id, &result);
        }
    }));
}

/// The host no longer waits: drops the handler's future and gives the one answer that is still due [C-5].
pub(crate) fn give_up(link: &ModuleLink, session: &Session, id: CallId, why: ErrorCode) {
    let Some(abort) = lock(&session.serving).remove(&id) else { return };
    abort.abort();
    let error = ErrorInfo::new(why, "the module stopped work on the call");
    answer(link, id, &InvocationResult::Error(error));
}

async fn handle(
    handler: &dyn InvocationHandler,
    cx: InvocationContext,
    invocation: Invocation,
) -> InvocationResult {
    let done = |()| InvocationResult::Success(Bytes::new());
    match invocation {
        Invocation::Health => InvocationResult::healthy(&handler.health(cx).await),
        Invocation::Call { method, params } => match handler.call(cx, method, params).await {
            Ok(Some(returned)) => InvocationResult::Success(returned),
            Ok(None) => InvocationResult::NotFound,
            Err(error) => InvocationResult::Error(error),
        },
        Invocation::Configure { settings } => {
            handler.configure(cx, settings).await.map_or_else(InvocationResult::Error, done)
        }
        Invocation::PrepareShutdown { grace_us } => handler
            .prepare_shutdown(cx, Duration::from_micros(grace_us))
            .await
            .map_or_else(InvocationResult::Error, done),
    }
}

fn answer(link: &ModuleLink, id: CallId, result: &InvocationResult) {
    let send = |result: &InvocationResult| {
        let mut head = Vec::new();
        let tail = result.encode_parts(&mut head);
        link.with(|connection, now| connection.reply(now, id, Body { head: &head, tail }))
    };
    let sent = match send(result) {
        Err(Refused::BodyTooLong) => {
            let message = "what the module returned is longer than the host takes";
            send(&InvocationResult::Error(ErrorInfo::new(ErrorCode::PayloadTooLarge, message)))
        }
        sent => sent,
    };
    if let Err(why) = sent {
        tracing::debug!(call = id.0, %why, "the answer to an invocation was not sent");
    }
}
