//! The host side: admits modules, checks what they may do, serves their requests and sends them events.
//!
//! A node author implements [`NodeApi`] and builds a [`Node`]; connections come from [`Node::attach`], from an accept loop
//! ([`Node::serve`]), or from modules that the node starts ([`Node::launch`]). The node knows no socket and no executor:
//! they are behind [`modipc_driver::Transport`] and [`modipc_driver::Runtime`].
//!
//! Invariant: nothing that one module sends, or omits to read, ends or delays another module's connection.
#![forbid(unsafe_code)]

mod admission;
mod admission_error;
mod api;
mod bus;
mod config;
mod launcher;
mod logs;
mod node;
mod output;
mod policy;
mod process;
mod running;
mod server;
mod serving;
mod session;
mod shutdown;
mod signal;
mod status;
mod supervision;
mod text;
mod token;

pub use admission::{Admission, AdmissionError, Admitted, NotAttachable};
pub use api::{CallContext, NodeApi, NodeError, NodeResult};
pub use bus::PublishError;
pub use config::{ConfigError, NodeConfig};
pub use launcher::{Child, Exit, LaunchError, Launched, Launcher, ModuleSpec, Output};
pub use logs::TARGET as LOG_TARGET;
pub use node::{Attached, InvokeError, Node, NodeBuilder, NotConnected, ShuttingDown, TraceSinks};
pub use policy::{Attach, Credentials, ModulePolicy, PeerIdentity, Policy};
pub use process::{ConnectionPairs, ProcessLauncher};
pub use running::{Ended, RunningModule};
pub use server::{AcceptFault, Acceptor};
pub use shutdown::ShutdownReport;
pub use status::{ModuleCounts, ModuleState, ModuleStatus};
pub use supervision::{Happened, Step, Supervision};
pub use token::Token;
