//! The host's events as the module sees them (PROTOCOL.md, section 6).

mod queue;
mod stream;
mod topics;
mod track;

pub use stream::{Delivery, EventStream};
pub use topics::Topics;

pub(crate) use queue::{Claim, EventQueue};
