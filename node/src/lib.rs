//! The host side: admits modules, checks what they may do, serves their requests and sends them events.
#![forbid(unsafe_code)]

mod api;

pub use api::{CallContext, NodeApi, NodeError, NodeResult};
