//! Calls that are being served: from a request to its response, with panics and cancellation in between.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::future::{AbortHandle, Abortable};
use modipc_api::{MessageType, Request, Response, ResponseData};
use modipc_core::CallId;
use modipc_driver::BoxFuture;

use crate::api::{CallContext, NodeApi, NodeError, NodeResult};

/// How the work on a call ended.
pub(crate) enum Ended {
    /// With a response.
    Answered(Response),
    /// With a panic, and its message.
    Panicked(String),
    /// It was given up, and has been answered already.
    GivenUp,
}

/// A call after its work was polled for the first time.
pub(crate) enum Begun {
    /// That was all.
    Ended(Ended),
    /// It waits for something.
    Waits(Serving, AbortHandle),
}

/// A call that is being served. Resolves to its id, its type and how it ended.
pub(crate) struct Serving {
    id: CallId,
    request: MessageType,
    /// `None` when it has ended.
    work: Option<Abortable<BoxFuture<Response>>>,
}

/// Begins to serve a call: the work is polled once here, which is all that a handler needs that does not wait. Otherwise it
/// goes on in what is returned, until it ends or is aborted.
pub(crate) fn begin(api: &Arc<dyn NodeApi>, cx: CallContext, request: Request) -> Begun {
    let (id, message_type) = (cx.call, request.message_type());
    let mut work: BoxFuture<Response> = Box::pin(answer(Arc::clone(api), cx, request));
    // Whoever waits is polled again with a waker that works before anybody sleeps.
    let first = guarded(|| work.as_mut().poll(&mut Context::from_waker(Waker::noop())));
    let ended = match first {
        Ok(Poll::Pending) => {
            let (abort, registration) = AbortHandle::new_pair();
            let work = Some(Abortable::new(work, registration));
            return Begun::Waits(Serving { id, request: message_type, work }, abort);
        }
        Ok(Poll::Ready(response)) => Ended::Answered(response),
        Err(panic) => Ended::Panicked(panic),
    };
    Begun::Ended(drop_guarded(work, ended))
}

impl Future for Serving {
    type Output = (CallId, MessageType, Ended);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = match &mut self.work {
            None => Ended::GivenUp,
            Some(work) => match guarded(|| Pin::new(work).poll(cx)) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(Ok(response))) => Ended::Answered(response),
                Ok(Poll::Ready(Err(_aborted))) => Ended::GivenUp,
                Err(panic) => Ended::Panicked(panic),
            },
        };
        let ended = drop_guarded(self.work.take(), ended);
        Poll::Ready((self.id, self.request, ended))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // What a handler owns may panic when it is dropped. With the connection gone there is nobody to tell.
        let _ = drop_guarded(self.work.take(), Ended::GivenUp);
    }
}

/// Runs a handler's code. A panic is its own affair: it ends this call and nothing else. Nothing of ours is shared with it
/// that it could leave half-changed; what it shares with other handlers is the node's business, as with any thread.
fn guarded<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|panic| message(&*panic))
}

fn drop_guarded<T>(work: T, ended: Ended) -> Ended {
    match guarded(|| drop(work)) {
        Ok(()) => ended,
        Err(panic) => Ended::Panicked(panic),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}

async fn answer(api: Arc<dyn NodeApi>, cx: CallContext, request: Request) -> Response {
    let (api, cx) = (&*api, &cx);
    match request {
        Request::GetBlock { hash } => wrap(api.get_block(cx, hash).await, ResponseData::Block),
        Request::GetBlockHeader { hash } => {
            wrap(api.get_block_header(cx, hash).await, ResponseData::BlockHeader)
        }
        Request::GetTransaction { txid } => {
            wrap(api.get_transaction(cx, txid).await, ResponseData::Transaction)
        }
        Request::GetChainTip => wrap(api.get_chain_tip(cx).await, ResponseData::ChainTip),
        Request::GetBlockHeight => wrap(api.get_block_height(cx).await, ResponseData::BlockHeight),
        Request::GetUtxo { outpoint } => wrap(api.get_utxo(cx, outpoint).await, ResponseData::Utxo),
        Request::GetMempoolTransactions => {
            wrap(api.get_mempool_transactions(cx).await, ResponseData::MempoolTransactions)
        }
        Request::GetNetworkStats => wrap(api.get_network_stats(cx).await, ResponseData::NetworkStats),
        Request::GetNetworkPeers => wrap(api.get_network_peers(cx).await, ResponseData::NetworkPeers),
        Request::GetChainInfo => wrap(api.get_chain_info(cx).await, ResponseData::ChainInfo),
        Request::GetBlockByHeight { height } => {
            wrap(api.get_block_by_height(cx, height).await, ResponseData::BlockByHeight)
        }
        Request::GetMempoolTransaction { txid } => {
            wrap(api.get_mempool_transaction(cx, txid).await, ResponseData::MempoolTransaction)
        }
        Request::SubmitTransaction { raw } => {
            wrap(api.submit_transaction(cx, raw).await, |txid| ResponseData::Submitted { txid })
        }
        // The host itself serves these: the connection hands them over as subscriptions and never as calls.
        request @ (Request::SubscribeEvents { .. } | Request::Unsubscribe { .. }) => {
            NodeError::Unsupported { request: request.message_type() }.into()
        }
    }
}

fn wrap<T>(result: NodeResult<T>, data: impl FnOnce(T) -> ResponseData) -> Response {
    match result {
        Ok(value) => Response::Success(data(value)),
        Err(error) => error.into(),
    }
}
