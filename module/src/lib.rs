//! The module author's SDK.
#![forbid(unsafe_code)]

mod blocking;
mod client;
mod connect;
mod environment;
mod error;
mod events;
mod exit;
mod invocation;
mod log;
mod module;
mod reply;
mod requests;
mod room;
mod run;
mod service;
mod session;
mod sync;

pub use blocking::BlockingClient;
pub use client::{Client, DEADLINE_DEFAULT, HostInfo};
pub use connect::Connect;
pub use environment::Environment;
pub use error::{ConnectError, Error};
pub use events::{Delivery, EventStream, Topics};
pub use exit::{Exit, RunError};
pub use invocation::{Defaults, InvocationContext, InvocationHandler};
pub use module::{Context, Failure, Module};
pub use reply::Reply;
pub use run::{explain, run, run_on};
pub use session::{Draining, State};
