//! A call that was made, until its answer is there.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use modipc_api::{MessageType, Request};
use modipc_core::{Body, CallOptions, Refused};
use modipc_driver::{BoxFuture, CallError};

use crate::Error;
use crate::client::{Inner, ModuleCall};
use crate::error::failed;

/// Reads the answer of a request.
pub(crate) type Decode<T> = fn(&Inner, MessageType, u64, Bytes) -> Result<T, Error>;

/// A call that was made: a future of its answer.
///
/// The call is on its way when the method that gives this returns, polled or not, so any number of calls can be made first and
/// awaited later, in any order and from any task. If the host's window is full [C-3], the call gets in line for room when it is
/// first polled; the wait counts as time of its deadline.
///
/// Cancel safety: dropping it cancels the call [C-4]. The host is told, in x1, and nothing waits for anything.
///
/// # Errors
/// [`Error`].
#[must_use = "a call that is dropped is cancelled"]
pub struct Reply<T> {
    inner: Arc<Inner>,
    stage: Stage,
    request: MessageType,
    deadline_us: u64,
    decode: Decode<T>,
}

enum Stage {
    Issued(ModuleCall),
    Queued(BoxFuture<Result<Bytes, CallError>>),
    Refused(CallError),
    Done,
}

impl<T> Reply<T> {
    pub(crate) fn new(inner: Arc<Inner>, request: Request, options: &CallOptions, decode: Decode<T>) -> Self {
        let message_type = request.message_type();
        let stage = if inner.session.room.is_crowded() {
            queue(&inner, request, options)
        } else {
            let call = issue(&inner, &request, options);
            match refusal(call) {
                Ok(call) => Stage::Issued(call),
                Err(error) if is_full(&error) => queue(&inner, request, options),
                Err(error) => Stage::Refused(error),
            }
        };
        Reply { inner, stage, request: message_type, deadline_us: options.deadline_us, decode }
    }
}

impl<T> Future for Reply<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let result = match &mut this.stage {
            Stage::Issued(call) => match Pin::new(call).poll(cx) {
                Poll::Ready(result) => result,
                Poll::Pending => return Poll::Pending,
            },
            Stage::Queued(queued) => match queued.as_mut().poll(cx) {
                Poll::Ready(result) => result,
                Poll::Pending => return Poll::Pending,
            },
            Stage::Refused(error) => Err(*error),
            // As any future that was polled after its end: it never is ready again.
            Stage::Done => return Poll::Pending,
        };
        this.stage = Stage::Done;
        this.inner.session.room.freed();
        Poll::Ready(match result {
            Ok(body) => (this.decode)(&this.inner, this.request, this.deadline_us, body),
            Err(error) => Err(failed(&this.inner.module_id, this.request, this.deadline_us, error)),
        })
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if !matches!(self.stage, Stage::Done) {
            self.stage = Stage::Done;
            self.inner.session.room.freed();
        }
    }
}

fn queue(inner: &Arc<Inner>, request: Request, options: &CallOptions) -> Stage {
    Stage::Queued(Box::pin(wait_for_room(Arc::clone(inner), request, options.clone())))
}

/// Waits in line, then calls with what is left of the deadline.
async fn wait_for_room(
    inner: Arc<Inner>,
    request: Request,
    mut options: CallOptions,
) -> Result<Bytes, CallError> {
    let runtime = inner.link.runtime();
    let deadline = runtime.now().saturating_add(options.deadline_us);
    let first = !inner.session.room.is_crowded();
    let waiting = inner.session.room.wait();
    let mut may_try = first;
    let call = loop {
        let freed = waiting.listen();
        if may_try {
            match refusal(issue(&inner, &request, &options)) {
                Ok(call) => break call,
                Err(error) if !is_full(&error) => return Err(error),
                Err(_) => {}
            }
        }
        may_try = match select(freed, runtime.sleep_until(deadline)).await {
            Either::Left(_) => true,
            // The sleep may end early: the clock decides.
            Either::Right(_) => may_try,
        };
        options.deadline_us = deadline.saturating_sub(runtime.now());
        if options.deadline_us == 0 {
            return Err(CallError::DeadlineExceeded);
        }
    };
    drop(waiting);
    call.await
}

/// As a thread: calls, waiting in line if need be, and blocks until the answer is there.
pub(crate) fn block(inner: &Inner, request: &Request, options: &CallOptions) -> Result<Bytes, CallError> {
    use event_listener::Listener;
    use std::time::Duration;

    let link = modipc_driver::BlockingLink::new(inner.link.clone());
    let room = &inner.session.room;
    let call = |options: &CallOptions| encoded(request, |body| link.call(options, body));
    if !room.is_crowded() {
        match call(options) {
            Err(error) if is_full(&error) => {}
            result => {
                room.freed();
                return result;
            }
        }
    }
    let deadline = inner.link.runtime().now().saturating_add(options.deadline_us);
    let mut options = options.clone();
    let waiting = room.wait();
    loop {
        let freed = waiting.listen();
        match call(&options) {
            Err(error) if is_full(&error) => {}
            result => return result,
        }
        freed.wait_timeout(Duration::from_micros(options.deadline_us));
        options.deadline_us = deadline.saturating_sub(inner.link.runtime().now());
        if options.deadline_us == 0 {
            return Err(CallError::DeadlineExceeded);
        }
    }
}

fn issue(inner: &Inner, request: &Request, options: &CallOptions) -> ModuleCall {
    encoded(request, |body| inner.link.call(options, body))
}

/// The error of a call that was not issued, which it carries already.
fn refusal(mut call: ModuleCall) -> Result<ModuleCall, CallError> {
    if call.id().is_some() {
        return Ok(call);
    }
    match (&mut call).now_or_never() {
        Some(Err(error)) => Err(error),
        Some(Ok(_)) | None => Ok(call),
    }
}

fn is_full(error: &CallError) -> bool {
    matches!(error, CallError::Refused(Refused::WindowFull | Refused::OutboxFull))
}

/// Scratch space is kept up to this size, in bytes.
const SCRATCH_BYTES_MAX: usize = 4096;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Encodes into the thread's scratch space, so that a small request allocates nothing. A use within a use, and one while the
/// thread ends, gets space of its own.
fn encoded<R>(request: &Request, f: impl FnOnce(Body<'_>) -> R) -> R {
    let mut head = SCRATCH.try_with(Cell::take).unwrap_or_default();
    head.clear();
    let tail = request.encode_parts(&mut head);
    let result = f(Body { head: &head, tail });
    if head.capacity() <= SCRATCH_BYTES_MAX {
        let _ = SCRATCH.try_with(|scratch| scratch.set(head));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_space_serves_nested_use() {
        let plain = |request: &Request| {
            let mut body = Vec::new();
            request.encode(&mut body);
            body
        };
        let (outer, inner) = (Request::GetChainTip, Request::GetBlockByHeight { height: 7 });
        encoded(&outer, |first| {
            encoded(&inner, |second| assert_eq!(second.head, plain(&inner)));
            assert_eq!(first.head, plain(&outer));
        });
        encoded(&outer, |again| assert_eq!(again.head, plain(&outer)));
    }
}
