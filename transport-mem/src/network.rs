//! Listeners by name, and whoever connects to them: the simulated counterpart of socket paths.

use core::num::NonZeroUsize;
use core::task::{Context, Poll};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::faults::LinkConfig;
use crate::sim::SimRuntime;
use crate::state::Event;
use crate::stuck::Wait;
use crate::transport::MemTransport;

/// How a [`Network`] behaves unless told otherwise.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// The links that it makes. [`Side::First`](crate::Side::First) is the one that connects.
    pub link: LinkConfig,
    /// How many connections wait for `accept` at one listener before further ones are refused.
    pub backlog: NonZeroUsize,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        const BACKLOG: NonZeroUsize = NonZeroUsize::new(128).unwrap();
        Self { link: LinkConfig::default(), backlog: BACKLOG }
    }
}

/// A namespace of listeners. Clones are the same network.
#[derive(Clone, Debug)]
pub struct Network {
    shared: Arc<Shared>,
}

/// A name could not be listened on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// Somebody listens there.
    #[error("{name:?} is in use: drop its listener first, or listen on another name")]
    InUse {
        /// The name.
        name: String,
    },
}

/// A connection could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens there: what a socket says with `ENOENT` or `ECONNREFUSED`.
    #[error("nobody listens on {name:?}")]
    Refused {
        /// The name.
        name: String,
    },
    /// The listener does not keep up: what a socket says with `EAGAIN`.
    #[error("{backlog} connections already wait at {name:?}: try again later")]
    Busy {
        /// The name.
        name: String,
        /// How many may wait.
        backlog: usize,
    },
}

/// A connection as its listener gets it.
#[derive(Debug)]
pub struct Accepted {
    /// The stream.
    pub transport: MemTransport,
    /// The connection's number on this network; they begin at 1 and rise in the order of `connect`.
    pub connection: u64,
}

impl Network {
    /// A network without listeners.
    #[must_use]
    pub fn new(runtime: SimRuntime, config: NetworkConfig) -> Self {
        let names = Names { config, listeners: BTreeMap::new(), scripted: VecDeque::new(), connections: 0 };
        Self { shared: Arc::new(Shared { runtime, names: Mutex::new(names) }) }
    }

    /// Listens on a name until the listener is dropped.
    ///
    /// # Errors
    /// [`ListenError::InUse`].
    pub fn listen(&self, name: &str) -> Result<Listener, ListenError> {
        let mut names = self.shared.lock();
        if names.listeners.contains_key(name) {
            return Err(ListenError::InUse { name: name.to_owned() });
        }
        names.listeners.insert(name.to_owned(), Queue::default());
        Ok(Listener { shared: Arc::clone(&self.shared), name: name.to_owned() })
    }

    /// Connects to a name. As with a Unix socket it is done when it returns, accepted or not.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect(&self, name: &str) -> Result<MemTransport, ConnectError> {
        let mut names = self.shared.lock();
        let backlog = names.config.backlog.get();
        let Some(queue) = names.listeners.get(name) else {
            return Err(ConnectError::Refused { name: name.to_owned() });
        };
        if queue.waiting.len() >= backlog {
            return Err(ConnectError::Busy { name: name.to_owned(), backlog });
        }
        names.connections += 1;
        let connection = names.connections;
        let config = names.scripted.pop_front().unwrap_or_else(|| names.config.link.clone());
        let (ours, transport) = self.shared.runtime.link(&config);
        self.shared.runtime.record(Event::Connected, connection, 0);
        let waker = names.listeners.get_mut(name).and_then(|queue| {
            queue.waiting.push_back(Accepted { transport, connection });
            queue.waker.take()
        });
        drop(names);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(ours)
    }

    /// The link of the next connection, instead of the configured one; further calls queue up.
    pub fn script_next_link(&self, link: LinkConfig) {
        self.shared.lock().scripted.push_back(link);
    }
}

/// A name that is listened on. Dropping it frees the name and closes what was not accepted.
#[derive(Debug)]
pub struct Listener {
    shared: Arc<Shared>,
    name: String,
}

impl Listener {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next connection, in the order of `connect`. Only the last waker counts.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Accepted> {
        let waker = cx.waker().clone();
        let mut names = self.shared.lock();
        let Some(queue) = names.listeners.get_mut(&self.name) else { return Poll::Pending };
        if let Some(accepted) = queue.waiting.pop_front() {
            return Poll::Ready(accepted);
        }
        let unwanted = queue.waker.replace(waker);
        drop(names);
        drop(unwanted);
        self.shared.runtime.note(Wait::Accept { name: self.name.clone() });
        Poll::Pending
    }

    /// The next connection. Cancel safe: a connection is taken only when this is ready.
    pub async fn accept(&mut self) -> Accepted {
        poll_fn(|cx| self.poll_accept(cx)).await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Bound outside the lock's statement: closing what was not accepted wakes its peers.
        let queue = self.shared.lock().listeners.remove(&self.name);
        drop(queue);
    }
}

#[derive(Debug)]
struct Shared {
    runtime: SimRuntime,
    names: Mutex<Names>,
}

#[derive(Debug)]
struct Names {
    config: NetworkConfig,
    listeners: BTreeMap<String, Queue>,
    scripted: VecDeque<LinkConfig>,
    connections: u64,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Accepted>,
    waker: Option<Waker>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
