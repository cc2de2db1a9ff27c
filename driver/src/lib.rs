//! The async shell around [`modipc_core::Connection`]: the cell that callers and the connection's task share, and the
//! two traits behind which executors and sockets hide.
//!
//! A [`Link`] is one end of one connection. Any number of tasks and threads call through it; one task, which
//! [`Link::new`] returns and the application spawns, does what no caller does: it serves the peer, keeps the time, and
//! reads and writes when there is more than one caller.
#![forbid(unsafe_code)]

mod blocking;
mod calls;
mod cell;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod half;
mod link;
mod read;
mod runtime;
mod service;
mod stats;
mod sync;
mod task;
#[cfg(test)]
mod tests;
mod trace;
mod transport;
mod write;

pub use blocking::BlockingLink;
pub use error::CallError;
pub use link::{Call, Link, WaitClosed};
pub use runtime::{BoxFuture, Runtime};
pub use service::Service;
pub use stats::Stats;
pub use trace::StepSink;
pub use transport::{PollRead, PollWrite, Transport};
