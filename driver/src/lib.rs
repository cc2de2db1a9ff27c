//! The async shell around [`modipc_core::Connection`]: the cell that callers and the connection's task share, and the
//! two traits behind which executors and sockets hide.
#![forbid(unsafe_code)]

mod runtime;
mod transport;

pub use runtime::{BoxFuture, Runtime};
pub use transport::{PollRead, PollWrite, Transport};
