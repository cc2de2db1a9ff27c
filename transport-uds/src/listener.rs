//! Accepting connections on a runtime.

use core::fmt;
use core::task::{Context, Poll, ready};
use std::future::poll_fn;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use modipc_driver::BoxFuture;
use rustix::net::{SocketFlags, accept_with};

use crate::acceptor::{AcceptError, Retry};
use crate::listen::{BoundListener, Place};
use crate::peer::{PeerCredentials, PeerPolicy, PeerRefused};
use crate::reactor::{Done, Reactor, Watch};
use crate::socket::repeat;
use crate::stream::{NotAStream, UdsStream};
use crate::transport::UdsTransport;

/// A connection that a host accepted.
#[derive(Debug)]
pub struct Accepted<R: Reactor> {
    /// The stream.
    pub transport: UdsTransport<R>,
    /// Who connected.
    pub peer: PeerCredentials,
    /// What the policy says. The stream of a peer that is refused is there so that it can be told why (refusal code 7
    /// of [H-5]).
    pub verdict: Result<(), PeerRefused>,
}

/// A listening socket on a runtime. Dropping it removes the socket's file, if it is still ours, and closes the
/// connections that were not accepted.
pub struct UdsListener<R: Reactor> {
    // In this order: the place is tidied up before the socket is closed.
    place: Place,
    socket: R::Reads,
    runtime: R,
    policy: PeerPolicy,
    retry: Retry,
    /// The time before which nothing is accepted, and the sleep until then.
    pause: Option<(u64, BoxFuture<()>)>,
}

impl<R: Reactor> UdsListener<R> {
    /// Registers a listening socket with a runtime.
    ///
    /// # Errors
    /// The system's: `ENOMEM`, `ENOSPC` (too many watches) or `EMFILE`. The socket's file is removed then.
    pub fn new(runtime: &R, listener: BoundListener, policy: PeerPolicy) -> io::Result<Self> {
        let (place, socket) = listener.into_parts();
        let (socket, _) = runtime.register(socket)?;
        Ok(Self { place, socket, runtime: runtime.clone(), policy, retry: Retry::default(), pause: None })
    }

    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// The next connection, with its peer's credentials. Cancel safe: what was accepted is returned.
    ///
    /// # Errors
    /// [`AcceptError`]; unless it is final, report it and accept again. The listener waits by itself when the system has
    /// no room for another connection.
    pub async fn accept(&mut self) -> Result<Accepted<R>, AcceptError> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// As [`UdsListener::accept`]. Only the last waker counts.
    ///
    /// # Errors
    /// As [`UdsListener::accept`].
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Accepted<R>, AcceptError>> {
        ready!(self.poll_pause(cx));
        let accepted = ready!(self.socket.poll_io(cx, accept)).and_then(|stream| {
            let peer = stream.peer();
            let transport = UdsTransport::new(&self.runtime, stream)?;
            Ok(Accepted { transport, peer, verdict: self.policy.check(peer) })
        });
        Poll::Ready(match accepted {
            Ok(accepted) => {
                self.retry.reset();
                Ok(accepted)
            }
            Err(source) => Err(self.failed(source)),
        })
    }

    fn failed(&mut self, source: io::Error) -> AcceptError {
        let error = self.retry.failed(self.place.path(), source);
        if let AcceptError::Exhausted { retry_us, .. } = error {
            let until_us = self.runtime.now().saturating_add(retry_us);
            self.pause = Some((until_us, self.runtime.sleep_until(until_us)));
        }
        error
    }

    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some((until_us, sleep)) = &mut self.pause {
            if self.runtime.now() < *until_us {
                ready!(sleep.as_mut().poll(cx));
                if self.runtime.now() < *until_us {
                    // It was over early, which its contract allows.
                    *sleep = self.runtime.sleep_until(*until_us);
                    continue;
                }
            }
            self.pause = None;
        }
        Poll::Ready(())
    }
}

fn accept(socket: BorrowedFd<'_>) -> io::Result<Done<UdsStream>> {
    let fd = repeat(|| accept_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC))?;
    let stream = UdsStream::try_from(fd).map_err(|why| match why {
        NotAStream::Io(error) => error,
        // What a Unix listener accepts is a stream; at most it is no longer connected.
        _ => io::Error::from(rustix::io::Errno::CONNABORTED),
    })?;
    // Whether more wait is not known before the next attempt.
    Ok(Done { value: stream, exhausted: false })
}

impl<R: Reactor> fmt::Debug for UdsListener<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdsListener")
            .field("path", &self.path())
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
