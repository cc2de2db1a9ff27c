//! What can go wrong for a module's author.

use modipc_api::{ConnectionFault, ErrorCode, ErrorInfo, MessageType, ModuleError, Party};
use modipc_core::{BadModuleId, CloseReason, RefusalCode, Refused, Violation};
use modipc_driver::CallError;

/// Why a call gave no data.
///
/// The five errors of the seed are [`ModuleError`]; what speaks of the one request alone is [`Error::Answered`]. That something
/// does not exist is not an error: calls that may find nothing give an `Option`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Connection, protocol, permission, resources or time.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The host answered with an error of this request: Unsupported, Unavailable, Rejected and so on. Call again only if
    /// [`ErrorCode::is_transient`].
    #[error("module {module_id}: the host could not answer {request}: {error}")]
    Answered {
        /// The module that called.
        module_id: String,
        /// What it called.
        request: MessageType,
        /// The host's answer.
        error: ErrorInfo,
    },
}

impl Error {
    /// The seed's error, if it is one.
    #[must_use]
    pub fn module_error(&self) -> Option<&ModuleError> {
        match self {
            Error::Module(error) => Some(error),
            Error::Answered { .. } => None,
        }
    }

    /// The code of the host's answer, if it is one that speaks of the request alone.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Error::Module(_) => None,
            Error::Answered { error, .. } => Some(error.code),
        }
    }
}

/// Why there is no [`Client`](crate::Client).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The module's own id is not one [H-4]. Nothing was sent.
    #[error("{module_id:?} is no module id: {why}")]
    BadModuleId {
        /// The id.
        module_id: String,
        /// What is wrong with it.
        why: BadModuleId,
    },
    /// The Hello could not be sent: a version or token of more than 64 bytes, say.
    #[error("module {module_id}: the Hello cannot be sent: {why}")]
    BadHello {
        /// The module.
        module_id: String,
        /// What is wrong.
        why: Refused,
    },
    /// The host refused [H-5].
    #[error("module {module_id}: the host refused the connection ({code:?}): {message}; {hint}")]
    Refused {
        /// The module.
        module_id: String,
        /// Why, for programs.
        code: RefusalCode,
        /// Why, for people.
        message: String,
        /// What to change.
        hint: String,
    },
    /// The connection ended before the handshake was over.
    #[error("module {module_id}: no connection to the host: {reason}")]
    Ended {
        /// The module.
        module_id: String,
        /// Why.
        reason: CloseReason,
    },
}

impl From<ConnectError> for ModuleError {
    fn from(error: ConnectError) -> Self {
        let what = error.to_string();
        match error {
            ConnectError::BadModuleId { module_id, .. } | ConnectError::BadHello { module_id, .. } => {
                ModuleError::ProtocolError { guilty: Party::Module(Some(module_id)), violation: None, what }
            }
            ConnectError::Refused { module_id, code, message, hint } => ModuleError::ConnectionError {
                module_id,
                fault: ConnectionFault::Refused { code: code as u32, message },
                was_sent: false,
                remedy: hint,
            },
            ConnectError::Ended { module_id, reason } => closed(&module_id, reason, false),
        }
    }
}

/// The error of a call that got no answer.
pub(crate) fn failed(module_id: &str, request: MessageType, deadline_us: u64, error: CallError) -> Error {
    match error {
        CallError::Refused(why) => refused(module_id, why),
        CallError::DeadlineExceeded => {
            let (module_id, call) = (module_id.to_owned(), request.name().to_owned());
            ModuleError::Timeout { module_id, call, deadline_us }.into()
        }
        // Only the owner of a call cancels it, and it does so by dropping it.
        CallError::Cancelled => Error::Answered {
            module_id: module_id.to_owned(),
            request,
            error: ErrorInfo::new(ErrorCode::Cancelled, "this side gave the call up"),
        },
        CallError::Lost { reason, was_sent } => closed(module_id, reason, was_sent).into(),
    }
}

/// The error that a host's answer stands for.
pub(crate) fn answered(module_id: &str, request: MessageType, deadline_us: u64, error: ErrorInfo) -> Error {
    match ModuleError::from_answer(module_id, request, deadline_us, &error) {
        Some(error) => Error::Module(error),
        None => Error::Answered { module_id: module_id.to_owned(), request, error },
    }
}

/// An answer that is none to what was asked.
pub(crate) fn unexpected(request: MessageType, given: &str) -> Error {
    undecodable(format!("it answered {request} with {given}, which is no answer to it"))
}

/// The host sent something that is not what the protocol says.
pub(crate) fn undecodable(what: String) -> Error {
    ModuleError::ProtocolError { guilty: Party::Host, violation: None, what }.into()
}

/// The command was not executed at all.
pub(crate) fn refused(module_id: &str, why: Refused) -> Error {
    let exhausted = |resource: &str, remedy: &str| ModuleError::ResourceExhausted {
        module_id: module_id.to_owned(),
        resource: resource.to_owned(),
        limit: None,
        remedy: remedy.to_owned(),
    };
    let error = match why {
        Refused::Closed(reason) => closed(module_id, reason, false),
        Refused::Draining => ModuleError::ConnectionError {
            module_id: module_id.to_owned(),
            fault: ConnectionFault::Goodbye(0),
            was_sent: false,
            remedy: "finish what runs: the connection is draining and nothing new begins".to_owned(),
        },
        Refused::WindowFull => exhausted("the host's window for calls", "wait for answers"),
        Refused::OutboxFull => exhausted("the room for bytes to send", "wait until the host reads"),
        Refused::BodyTooLong | Refused::FieldTooLong => {
            exhausted("the length that the host takes", "send less at a time")
        }
        Refused::PingUnderWay => exhausted("the one ping at a time", "wait for its answer"),
        Refused::NotActive
        | Refused::HandshakeOver
        | Refused::UnknownCall
        | Refused::PlainProfile
        | Refused::BadDeadline => ModuleError::ProtocolError {
            guilty: Party::Module(Some(module_id.to_owned())),
            violation: None,
            what: why.to_string(),
        },
    };
    Error::Module(error)
}

/// The connection ended.
pub(crate) fn closed(module_id: &str, reason: CloseReason, was_sent: bool) -> ModuleError {
    let lost = |fault: ConnectionFault, remedy: &str| ModuleError::ConnectionError {
        module_id: module_id.to_owned(),
        fault,
        was_sent,
        remedy: remedy.to_owned(),
    };
    match reason {
        CloseReason::Violation(violation) => ModuleError::ProtocolError {
            guilty: Party::Host,
            violation: Some(number(violation)),
            what: violation.text().to_owned(),
        },
        CloseReason::Blamed(reason) => {
            let violation = Violation::from_goodbye_reason(reason);
            ModuleError::ProtocolError {
                guilty: Party::Module(Some(module_id.to_owned())),
                violation: violation.map(number),
                what: violation.map_or("an unknown fault", Violation::text).to_owned(),
            }
        }
        CloseReason::Drained { reason, .. } => {
            lost(ConnectionFault::Goodbye(reason), "end, or connect again when the host is back")
        }
        CloseReason::Refused(code) => lost(
            ConnectionFault::Refused { code: code as u32, message: format!("{code:?}") },
            "see the refusal's hint",
        ),
        CloseReason::PeerGone => {
            lost(ConnectionFault::Lost, "end, and let the supervisor start the module again")
        }
        CloseReason::SubscriberLagged => lost(
            ConnectionFault::Io(reason.to_string()),
            "read events faster, or subscribe with the policy that lags instead of ending",
        ),
        CloseReason::HandshakeTimeout
        | CloseReason::PingTimeout
        | CloseReason::DrainTimeout
        | CloseReason::TransportFailed
        | CloseReason::Aborted => lost(
            ConnectionFault::Io(reason.to_string()),
            "end, and let the supervisor start the module again",
        ),
    }
}

fn number(violation: Violation) -> u32 {
    u32::from(violation as u8)
}
