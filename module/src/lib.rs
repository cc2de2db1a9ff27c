//! The module author's SDK: a client for any number of calls from any number of tasks, a stream of events, and the frame in which a
//! module lives.
//!
//! ```no_run
//! use modipc_module::prelude::*;
//!
//! struct Watcher;
//!
//! #[async_trait]
//! impl Module for Watcher {
//!     fn about(&self) -> About {
//!         let capabilities = [Capability::ReadChainState, Capability::SubscribeEvents];
//!         About::new("watcher", "0.1.0").asks_for(&capabilities).wants(EventGroup::Chain)
//!     }
//!     async fn on_event(&mut self, cx: &Context, _position: u64, event: Event) -> Result<(), Failure> {
//!         let tip = cx.client().get_chain_tip().await?;
//!         cx.client().log(LogLevel::Info, format!("{}: the tip is at {}", event.event_type(), tip.height));
//!         Ok(())
//!     }
//! }
//! # fn connect() -> Result<(modipc_transport_mem::SimRuntime, modipc_transport_mem::MemTransport), Failure> {
//! #     Err("a transport provides this".into())
//! # }
//!
//! // `connect` comes with a transport: it gives the executor and the connection that the host left.
//! async fn start() -> Exit {
//!     modipc_module::run(connect, Watcher).await
//! }
//! ```
//!
//! [`Client`] is the connection, for those who want no frame: [`Client::connect`], the requests as methods, [`Client::subscribe`].
//! [`BlockingClient`] is the same for threads. docs/module.md says the rest.
//!
//! Invariant: this crate names no executor and no socket; time, tasks and bytes come through `modipc_driver`.
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
pub use module::{About, Context, Failure, Module};
pub use reply::Reply;
pub use run::{explain, run, run_on};
pub use session::{Draining, State};

// What the interface above speaks of, so that a module needs no other crate for it.
pub use async_trait::async_trait;
pub use modipc_api as api;
pub use modipc_core::{
    CloseReason, Config, IdempotencyKey, Initiator, Limits, Overflow, Profile, RefusalCode, SubscribeOptions,
    TraceContext,
};

/// What a module's source needs, in one line.
pub mod prelude {
    pub use crate::{
        About, Client, Context, Delivery, Draining, Error, EventStream, Exit, Failure, InvocationContext,
        InvocationHandler, Module, Overflow, SubscribeOptions, Topics, async_trait,
    };
    pub use modipc_api::{
        Capability, CapabilitySet, ErrorCode, ErrorInfo, Event, EventGroup, EventType, HealthReport,
        HealthStatus, LogLevel, ModuleError,
    };
}
