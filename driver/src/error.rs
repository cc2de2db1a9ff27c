//! How a call fails.

use modipc_core::{CloseReason, Refused};

/// Why a call has no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallError {
    /// The call was not issued, and nothing was sent. The reason says what to wait for or what to change.
    #[error("the call was not issued: {0}")]
    Refused(#[from] Refused),
    /// Its deadline passed [C-4]. The peer was told to stop and may or may not have acted.
    #[error(
        "the call's deadline passed: the peer may still have acted on it; ask for its result, or allow more time"
    )]
    DeadlineExceeded,
    /// It was cancelled on this side.
    #[error("the call was cancelled on this side")]
    Cancelled,
    /// The connection ended before the answer came, or had ended before the call.
    #[error(
        "the connection ended: {reason}; {}",
        if *.was_sent { "the peer may have acted on the call" } else { "the call was not sent and can be repeated on a new connection" }
    )]
    Lost {
        /// Why the connection ended.
        reason: CloseReason,
        /// Whether any byte of the call was handed to the transport. If not, the peer certainly did not see it, and
        /// repeating it is safe.
        was_sent: bool,
    },
}
