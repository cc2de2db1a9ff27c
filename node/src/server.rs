//! Accepting connections, of which the node knows nothing but that they come.

use async_trait::async_trait;
use modipc_driver::Transport;

use crate::node::Node;
use crate::policy::{Credentials, PeerIdentity};

/// Something that connections come from.
#[async_trait]
pub trait Acceptor: Send + 'static {
    /// What comes.
    type Transport: Transport;

    /// The next connection, and what the kernel says of the process behind it. Must be cancel safe.
    ///
    /// # Errors
    /// [`AcceptFault`]. Unless it is final the accept loop goes on after a pause.
    async fn accept(&mut self) -> Result<(Self::Transport, Credentials), AcceptFault>;
}

/// Why a connection could not be accepted.
#[derive(Debug, thiserror::Error)]
#[error("a connection could not be accepted: {source}")]
pub struct AcceptFault {
    /// What happened.
    pub source: Box<dyn std::error::Error + Send + Sync>,
    /// Whether no connection will ever come again.
    pub is_final: bool,
}

impl Node {
    /// Accepts connections and serves them all at once until the node shuts down. No connection waits for another's handshake, and
    /// neither a bad handshake nor a failed accept ends the loop.
    ///
    /// Cancel safe: dropping the future ends accepting; connections that were accepted go on.
    ///
    /// # Errors
    /// A fault that is final. Connected modules are not affected.
    pub async fn serve(&self, mut acceptor: impl Acceptor) -> Result<(), AcceptFault> {
        let mut pause = Pause::new(self.inner.config.accept_pause_us);
        loop {
            let Some(accepted) = self.or_stop(acceptor.accept()).await else { return Ok(()) };
            match accepted {
                Ok((transport, credentials)) => {
                    pause.reset();
                    if self.attach(transport, PeerIdentity::Attached { credentials }).is_err() {
                        return Ok(());
                    }
                }
                Err(fault) if fault.is_final => return Err(fault),
                Err(fault) => {
                    let pause_us = pause.next();
                    tracing::warn!(pause_us, "{fault}; connected modules are not affected");
                    let until = self.runtime().now().saturating_add(pause_us);
                    if self.or_stop(self.runtime().sleep_until(until)).await.is_none() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The future's value, or `None` as soon as the node shuts down.
    async fn or_stop<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let stopping = || self.inner.registry().admission.is_shutting_down().then_some(());
        let stop = self.inner.stopping.wait(stopping);
        futures_util::pin_mut!(future, stop);
        match futures_util::future::select(stop, future).await {
            futures_util::future::Either::Left(((), _)) => None,
            futures_util::future::Either::Right((value, _)) => Some(value),
        }
    }
}

/// Pauses that double, so that a lack of descriptors does not become a busy loop.
struct Pause {
    us: u64,
    us_max: u64,
}

impl Pause {
    fn new(us_max: u64) -> Pause {
        Pause { us: us_max.div_ceil(100), us_max }
    }

    fn next(&mut self) -> u64 {
        let us = self.us;
        self.us = us.saturating_mul(2).min(self.us_max);
        us
    }

    fn reset(&mut self) {
        *self = Pause::new(self.us_max);
    }
}
