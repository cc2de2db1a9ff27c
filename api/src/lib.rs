//! What hosts and modules say to each other: requests, responses, events, log messages, invocations, capabilities and
//! errors, and their bytes (docs/PROTOCOL.md, sections 9 and 10).
//!
//! Each message has `encode`, which appends its body, and `decode`, which is total: whatever the bytes are, it yields a
//! value or a [`DecodeError`], and it allocates no more than the bytes account for. Messages that may carry a block or a
//! transaction also have `encode_parts` and `decode_shared`, which share those bytes instead of copying them. Length,
//! header and correlation id belong to the envelope, that is to `modipc-core`.
#![forbid(unsafe_code)]

mod capability;
mod codec;
mod data;
mod decode_error;
mod dialect;
mod error_code;
mod event;
#[doc(hidden)]
#[allow(clippy::panic, reason = "a property that does not hold must stop the test or the fuzzer")]
pub mod harness;
mod invocation;
mod log;
mod macros;
mod module_error;
mod object;
mod request;
mod response;

#[cfg(feature = "bitcoin")]
mod bitcoin_types;

pub use capability::{
    Capability, CapabilitySet, UnknownCapability, required, required_for_event, required_for_group,
};
pub use data::{
    BlockAt, ChainInfo, Coin, MempoolTransaction, NetworkStats, PeerInfo, Spender, Transaction, Utxo,
};
pub use decode_error::{DecodeError, Fault};
pub use dialect::NativeDialect;
pub use error_code::{ErrorCode, ErrorInfo, detail};
pub use event::{AnyEvent, Event, EventGroup, EventType, RawEvent};
pub use invocation::{HealthReport, HealthStatus, Invocation, InvocationResult, InvocationType};
pub use log::{
    ForeignLog, LogLevel, LogMessage, decode_fields, decode_target, encode_fields, encode_log, encode_target,
};
pub use module_error::{ConnectionFault, ModuleError, Party};
pub use object::{
    BlockHash, BlockHeader, BlockRef, OutPoint, ParseHashError, ParseOutPointError, RawBlock, RawTransaction,
    Txid,
};
pub use request::{MessageType, Request};
pub use response::{Response, ResponseData};
