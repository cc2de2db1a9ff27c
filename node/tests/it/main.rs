//! The node in virtual time, against peers that do exactly what a test says.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod admission;
mod calls;
mod events;
mod launch;
mod logs;
mod rough;
mod support;
mod teardown;
