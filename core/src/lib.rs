//! The protocol between a host and its modules, as pure state machines.
//!
//! Bytes and the time go in, bytes, events and a deadline come out: this crate knows no clock, no thread, no socket and
//! nothing of what is said over the connection. [`Connection`] is what drivers hold; every byte enters and leaves through it.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

extern crate alloc;

pub mod dialect;
pub mod envelope;

mod connection;
mod error;
mod event_log;
mod hello;
mod id_table;
mod kind;
mod limits;
pub mod machine;
mod outbox;
mod session;
mod step;
pub mod table;
mod topics;
mod wire;

pub use connection::{
    BulkBuf, CallId, CallOptions, Connection, Event, Outcome, Pull, ServedCall, SubscribeOptions,
    Subscription,
};
pub use dialect::{CallClass, CallRefusal, Dialect, Meaning};
pub use envelope::{Head, Headed, IdempotencyKey, Profile, Records, TraceContext};
pub use error::{CloseReason, Initiator, Refused, Violation};
pub use event_log::{Append, EventLog, HoldId, Overflow};
pub use hello::{
    Accepted, Answer, BadModuleId, Hello, HelloTail, PROTOCOL, Refusal, RefusalCode, check_module_id,
};
pub use kind::{EXTENSION_FIRST, Host, Kind, Module, Role};
pub use limits::{Config, EVENT_BYTES_MAX, Limits};
pub use outbox::{Batch, Body};
pub use session::BodyId;
pub use step::{Cause, Step};
pub use topics::TopicSet;
