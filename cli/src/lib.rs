//! The `modipc` command.
//!
//! The library exists for the command itself and for those who read its traces.
#![forbid(unsafe_code)]

pub mod trace;
