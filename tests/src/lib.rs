//! What the end-to-end suites stand on: worlds to run in, a node that does what a test says, peers that are nobody's code but
//! the test's, and a log that can be read back.
//!
//! Invariant: nothing here waits for a time to pass. Every wait is for something that happens, and has a deadline after which
//! the test fails.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "support code of tests: a test fails by panicking"
)]

pub mod healthy;
pub mod house;
pub mod mailbox;
pub mod node;
pub mod notes;
pub mod raw;
pub mod server;
pub mod session;
pub mod vectors;
pub mod world;

/// How long a test waits for anything before it fails, in seconds. Nothing takes so long unless it is broken.
pub const PATIENCE_S: u64 = 60;

/// A second, in microseconds.
pub const SECOND: u64 = 1_000_000;
