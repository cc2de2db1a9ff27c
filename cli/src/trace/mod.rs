//! The trace format (docs/TRACE.md): one line for each step of each connection.
//!
//! [`TraceFile`] writes it, [`Reader`] reads it strictly, and both know a line only as [`Line`].

mod file;
mod line;
mod read;

pub use file::{TraceError, TraceFile};
pub use line::{Line, LineFault, Origin, StepLine, TraceRole};
pub use read::{ReadError, Reader};

/// The first line of every trace: a name and the format's version.
pub const HEADER: &str = "modipc-trace 1";
