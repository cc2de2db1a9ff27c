//! The host side: admits modules, checks what they may do, serves their requests and sends them events.
#![forbid(unsafe_code)]

mod admission;
mod api;
mod config;
mod policy;
mod text;
mod token;

pub use admission::{Admission, AdmissionError, Admitted, NotAttachable};
pub use api::{CallContext, NodeApi, NodeError, NodeResult};
pub use config::{ConfigError, NodeConfig};
pub use policy::{Attach, Credentials, ModulePolicy, PeerIdentity, Policy};
pub use token::Token;
