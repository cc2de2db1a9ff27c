//! The five errors of the seed, each with the facts that a program needs to act.

use core::fmt;

use crate::error_code::detail;
use crate::{Capability, CapabilitySet, ErrorCode, ErrorInfo, MessageType};

/// What went wrong between a module and its node. The text says what happened, to whom and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModuleError {
    /// There is no connection, or it was lost.
    #[error(
        "module {module_id}: connection {fault}{}: {remedy}",
        if *was_sent { "; the call was sent and its outcome is unknown" } else { "" }
    )]
    ConnectionError {
        /// The module whose connection it is.
        module_id: String,
        /// What happened to the connection.
        fault: ConnectionFault,
        /// Whether the call that failed had left this process. If so, only an idempotent call may simply be repeated.
        was_sent: bool,
        /// What to do.
        remedy: String,
    },
    /// Someone broke the protocol.
    #[error("{guilty} broke the protocol{}: {what}", violation_text(*violation))]
    ProtocolError {
        /// Who broke it.
        guilty: Party,
        /// The violation's number [G-2], if the connection ended for it.
        violation: Option<u32>,
        /// What is wrong.
        what: String,
    },
    /// A capability is missing. The connection stays usable [C-6].
    #[error(
        "module {module_id} may not call {request}: it lacks {missing}; \
         ask for it in the module's manifest and let the operator's policy allow it"
    )]
    PermissionDenied {
        /// The module that called.
        module_id: String,
        /// What it called.
        request: MessageType,
        /// The capabilities that are missing.
        missing: CapabilitySet,
    },
    /// A bound was reached.
    #[error("module {module_id}: {resource} is used up{}: {remedy}", limit_text(*limit))]
    ResourceExhausted {
        /// The module concerned.
        module_id: String,
        /// The bound, by name.
        resource: String,
        /// The bound, if it is known, in the unit of the resource.
        limit: Option<u64>,
        /// What to do.
        remedy: String,
    },
    /// A deadline passed. The connection stays active [C-4].
    #[error(
        "module {module_id}: {call} was not answered within {deadline_us} µs; \
         the connection is fine, so call again or allow more time"
    )]
    Timeout {
        /// The module that waited, or that was waited for.
        module_id: String,
        /// What was called.
        call: String,
        /// The time that was allowed, in microseconds.
        deadline_us: u64,
    },
}

/// Who speaks on a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// The host.
    Host,
    /// A module, by id; `None` before its handshake told it.
    Module(Option<String>),
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Party::Host => f.write_str("the host"),
            Party::Module(Some(id)) => write!(f, "module {id}"),
            Party::Module(None) => f.write_str("a module without handshake"),
        }
    }
}

/// What happened to a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionFault {
    /// It could not be made.
    #[error("could not be made ({0})")]
    NotMade(String),
    /// The handshake was refused, with the refusal's code of section 4.
    #[error("was refused with code {code} ({message})")]
    Refused {
        /// The code.
        code: u32,
        /// What the host said.
        message: String,
    },
    /// It ended in order, with the Goodbye's reason [G-2].
    #[error("ended by goodbye, reason {0}")]
    Goodbye(u32),
    /// The peer is gone without a word.
    #[error("was lost: the peer closed it or ended")]
    Lost,
    /// The operating system reported an error.
    #[error("failed ({0})")]
    Io(String),
}

fn violation_text(violation: Option<u32>) -> String {
    violation.map(|number| format!(" (violation {number})")).unwrap_or_default()
}

fn limit_text(limit: Option<u64>) -> String {
    limit.map(|limit| format!(" (limit {limit})")).unwrap_or_default()
}

impl ModuleError {
    /// The error that a node's answer stands for, as far as it is one of the seed's five: the node's view of what this
    /// module called. `None` for codes that speak of the request alone (Unsupported, Unavailable, Internal, Rejected,
    /// Cancelled and those of later versions).
    pub fn from_answer(
        module_id: &str,
        request: MessageType,
        deadline_us: u64,
        error: &ErrorInfo,
    ) -> Option<Self> {
        let module_id = module_id.to_owned();
        match error.code {
            ErrorCode::PermissionDenied => {
                let missing = error.missing_capabilities();
                Some(ModuleError::PermissionDenied { module_id, request, missing })
            }
            ErrorCode::InvalidRequest | ErrorCode::UnknownRequest => Some(ModuleError::ProtocolError {
                guilty: Party::Module(Some(module_id)),
                violation: None,
                what: format!("{request}: {error}"),
            }),
            ErrorCode::Busy | ErrorCode::PayloadTooLarge | ErrorCode::ResourceExhausted => {
                Some(ModuleError::ResourceExhausted {
                    module_id,
                    resource: named(error, detail::RESOURCE).unwrap_or(error.code.name()).to_owned(),
                    limit: named(error, detail::LIMIT).and_then(|limit| limit.parse().ok()),
                    remedy: error.message.clone(),
                })
            }
            ErrorCode::DeadlineExceeded => {
                Some(ModuleError::Timeout { module_id, call: request.name().to_owned(), deadline_us })
            }
            ErrorCode::Unsupported
            | ErrorCode::Cancelled
            | ErrorCode::Unavailable
            | ErrorCode::Internal
            | ErrorCode::Rejected
            | ErrorCode::Other(_) => None,
        }
    }

    /// Is a certain capability among those that a denial names?
    pub fn lacks(&self, capability: Capability) -> bool {
        matches!(self, ModuleError::PermissionDenied { missing, .. } if missing.contains(capability))
    }
}

fn named<'a>(error: &'a ErrorInfo, name: &'a str) -> Option<&'a str> {
    error.details_named(name).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_becomes_permission_denied() {
        let missing = CapabilitySet::of(&[Capability::ReadUtxo]);
        let answer = ErrorInfo::permission_denied(MessageType::GetUtxo, missing);
        let error = ModuleError::from_answer("watcher", MessageType::GetUtxo, 1, &answer).unwrap();
        assert!(error.lacks(Capability::ReadUtxo) && !error.lacks(Capability::ReadMempool));
        assert!(error.to_string().starts_with("module watcher may not call GetUTXO: it lacks ReadUTXO"));
    }

    #[test]
    fn a_quota_keeps_its_name_and_limit() {
        let answer = ErrorInfo::new(ErrorCode::ResourceExhausted, "wait for the next minute")
            .with(detail::RESOURCE, "requests per minute")
            .with(detail::LIMIT, "600");
        let error = ModuleError::from_answer("watcher", MessageType::GetBlock, 1, &answer).unwrap();
        assert_eq!(
            error.to_string(),
            "module watcher: requests per minute is used up (limit 600): wait for the next minute"
        );
        let silent = ErrorInfo::new(ErrorCode::Unsupported, "no peers here");
        assert_eq!(ModuleError::from_answer("watcher", MessageType::GetNetworkPeers, 1, &silent), None);
    }

    #[test]
    fn texts_say_who() {
        let error = ModuleError::ProtocolError {
            guilty: Party::Host,
            violation: Some(15),
            what: "an answer that nobody asked for".into(),
        };
        assert_eq!(
            error.to_string(),
            "the host broke the protocol (violation 15): an answer that nobody asked for"
        );
        let error = ModuleError::ConnectionError {
            module_id: "watcher".into(),
            fault: ConnectionFault::Lost,
            was_sent: true,
            remedy: "reconnect".into(),
        };
        assert_eq!(
            error.to_string(),
            "module watcher: connection was lost: the peer closed it or ended; \
             the call was sent and its outcome is unknown: reconnect"
        );
    }
}
