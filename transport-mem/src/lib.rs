//! Everything that a node and its modules need of a machine, inside one thread and without a clock: a byte stream, an
//! executor whose time is virtual, a link that misbehaves on request, and a network of names.
//!
//! Every choice comes from one seed, so a run that failed is a number that somebody can type in again. The same node
//! and modules that run here run on real sockets: they know only [`Runtime`](modipc_driver::Runtime) and
//! [`Transport`](modipc_driver::Transport).
//!
//! - [`pair`]: two ends of a perfect stream, for any executor.
//! - [`Sim`]: the executor; [`SimRuntime`] is the handle that tasks hold.
//! - [`SimRuntime::link`]: two ends of a stream with [`LinkConfig`]'s faults.
//! - [`Network`]: listeners by name, and whoever connects to them.
//!
//! Invariant: no real clock, thread, socket or source of randomness is used here.
#![forbid(unsafe_code)]

mod chance;
mod faults;
mod lane;
mod link;
mod network;
mod sim;
mod state;
mod stuck;
mod transport;

pub use chance::{Chance, Rng};
pub use faults::{Cut, Delay, How, LaneFaults, Lasts, LinkConfig, Side, Sizes, Stall, When};
pub use network::{Accepted, ConnectError, ListenError, Listener, Network, NetworkConfig};
pub use sim::{Sim, SimConfig, SimRuntime, Sleep};
pub use stuck::{Pending, Stuck, Wait};
pub use transport::{MemReader, MemTransport, MemWriter, PairConfig, pair};
