//! Unix stream sockets for modipc [T-1]: how a module gets its connection, how a host listens, who is at the other end.
//!
//! - The connection of a spawned module is inherited [T-2]: the launcher uses [`socketpair_for_child`], the module
//!   [`UdsStream::from_env`].
//! - A module attached by hand connects to a path: [`connect`] on its side, [`BoundListener`] and [`UdsListener`] on the
//!   host's. Both check the path before they trust it, and the peer's credentials afterwards.
//! - [`UdsTransport`] makes a [`Transport`](modipc_driver::Transport) out of a stream, on [`TokioRuntime`] (feature
//!   `tokio`, on by default) or `SmolRuntime` (feature `smol`).
//!
//! Invariant: `tokio` and `async-io` are named in one module each; everything else is the same code for both.
//! Invariant: no descriptor is sent or received over a connection, and a write to a dead peer is an error and never a
//! signal.
#![deny(unsafe_code)]

mod acceptor;
#[cfg(any(feature = "tokio", feature = "smol"))]
mod clock;
mod connect;
mod directory;
mod facts;
#[allow(unsafe_code, reason = "the one place where descriptors are taken on trust; see there")]
mod fd;
mod inherit;
mod listen;
mod listener;
mod module;
mod nofile;
mod peer;
mod reactor;
#[cfg(feature = "smol")]
mod smol;
mod socket;
mod stream;
#[cfg(feature = "tokio")]
mod tokio;
mod transport;

pub use acceptor::AcceptError;
pub use connect::{ConnectError, connect};
pub use directory::DirFault;
pub use facts::{Kind, PathTooLong, SUN_PATH_BYTES};
pub use fd::keep_descriptors_from_children;
pub use inherit::{FD_VARIABLE, InheritError, inherited, inherited_by_listen_fds};
pub use listen::{BoundListener, ListenError, ListenerConfig};
pub use listener::{Accepted, UdsListener};
#[cfg(feature = "tokio")]
pub use module::from_env;
pub use module::{FromEnvError, PATH_VARIABLE, from_env_on};
pub use nofile::{NofileError, raise_nofile_limit};
pub use peer::{PeerCredentials, PeerPolicy, PeerRefused};
pub use reactor::{Done, Reactor, Watch};
#[cfg(feature = "smol")]
pub use smol::SmolRuntime;
pub use stream::{NotAStream, UdsStream, socketpair_for_child};
#[cfg(feature = "tokio")]
pub use tokio::{NoRuntime, TokioRuntime};
pub use transport::{UdsReader, UdsTransport, UdsWriter};
