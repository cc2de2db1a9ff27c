//! Why a module is not admitted, for the log and for the module.

use std::sync::Arc;

use modipc_api::CapabilitySet;
use modipc_core::{BadModuleId, Refusal, RefusalCode};

/// Why a module is not admitted. Each becomes a [`Refusal`] that says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// The host is going down.
    #[error("the host is shutting down")]
    ShuttingDown,
    /// The id breaks [H-4].
    #[error("{id} is no module id: {reason}")]
    BadModuleId {
        /// The id, shortened and made harmless.
        id: String,
        /// What is wrong with it.
        reason: BadModuleId,
    },
    /// The Hello's version is one that never was.
    #[error("module {module_id:?} speaks protocol version {version}")]
    UnsupportedVersion {
        /// The module.
        module_id: String,
        /// The version.
        version: u32,
    },
    /// A record of the Hello is critical and not known here [H-3].
    #[error("module {module_id:?} demands record {record}, which this host does not know")]
    UnknownCritical {
        /// The module.
        module_id: String,
        /// The record's id.
        record: u16,
    },
    /// The connection was inherited by another module.
    #[error("this connection was given to module {expected:?}, and {claimed:?} introduces itself on it")]
    NotThisModule {
        /// Whose connection it is.
        expected: Arc<str>,
        /// Who says Hello.
        claimed: String,
    },
    /// The process belongs to a user that may not attach modules.
    #[error("the process of module {module_id:?} belongs to user {uid}, which may not attach modules")]
    UserNotAllowed {
        /// The module.
        module_id: String,
        /// The user.
        uid: u32,
    },
    /// The operator's policy does not name the module.
    #[error("the operator's policy does not name module {module_id:?}")]
    NotInPolicy {
        /// The module.
        module_id: String,
    },
    /// The module may be started by the host only.
    #[error("module {module_id:?} may not connect by itself: the host starts it")]
    NotAttachable {
        /// The module.
        module_id: String,
    },
    /// The Hello carries no token.
    #[error("module {module_id:?} presented no token")]
    TokenMissing {
        /// The module.
        module_id: String,
    },
    /// The token is not the one that is valid now: never issued, used, or replaced by a newer one.
    #[error("the token of module {module_id:?} is unknown or used")]
    TokenUnknown {
        /// The module.
        module_id: String,
    },
    /// The token was not used in time.
    #[error("the token of module {module_id:?} has expired")]
    TokenExpired {
        /// The module.
        module_id: String,
    },
    /// A module of this id is connected.
    #[error("a module {module_id:?} is connected already")]
    DuplicateId {
        /// The module.
        module_id: String,
    },
    /// The module cannot work with what it is granted.
    #[error("module {module_id:?} requires {missing}, which is not granted")]
    MissingCapability {
        /// The module.
        module_id: String,
        /// What is missing.
        missing: CapabilitySet,
    },
    /// As many modules are connected as the host takes.
    #[error("{modules_max} modules are connected, and this host takes no more")]
    TooManyModules {
        /// The bound.
        modules_max: usize,
    },
}

impl AdmissionError {
    /// The refusal's code on the wire.
    pub fn code(&self) -> RefusalCode {
        match self {
            AdmissionError::ShuttingDown => RefusalCode::ShuttingDown,
            AdmissionError::BadModuleId { .. } => RefusalCode::BadModuleId,
            AdmissionError::UnsupportedVersion { .. } => RefusalCode::UnsupportedVersion,
            AdmissionError::UnknownCritical { .. } => RefusalCode::UnknownCritical,
            AdmissionError::NotThisModule { .. }
            | AdmissionError::UserNotAllowed { .. }
            | AdmissionError::NotInPolicy { .. }
            | AdmissionError::NotAttachable { .. } => RefusalCode::NotAllowed,
            AdmissionError::TokenMissing { .. }
            | AdmissionError::TokenUnknown { .. }
            | AdmissionError::TokenExpired { .. } => RefusalCode::BadToken,
            AdmissionError::DuplicateId { .. } => RefusalCode::DuplicateId,
            AdmissionError::MissingCapability { .. } => RefusalCode::MissingCapability,
            AdmissionError::TooManyModules { .. } => RefusalCode::Busy,
        }
    }

    /// What to change.
    pub fn hint(&self) -> String {
        match self {
            AdmissionError::ShuttingDown => "connect again when the host is back".into(),
            AdmissionError::BadModuleId { .. } => {
                "choose an id such as \"block-analyst\": 1 to 64 of a-z 0-9 - _ . that begin with a letter or digit"
                    .into()
            }
            AdmissionError::UnsupportedVersion { .. } => {
                format!("say protocol version {}, the only one so far", modipc_core::PROTOCOL)
            }
            AdmissionError::UnknownCritical { record, .. } => {
                format!("do without record {record}, or clear its critical flag if the module can")
            }
            AdmissionError::NotThisModule { expected, .. } => format!(
                "introduce the module as {expected:?}, which the environment variable MODULE_ID names"
            ),
            AdmissionError::UserNotAllowed { uid, .. } => format!(
                "run the module as a user that the host's policy admits, or let the operator admit user {uid}"
            ),
            AdmissionError::NotInPolicy { module_id } => {
                format!("let the operator add module {module_id:?} to the host's policy")
            }
            AdmissionError::NotAttachable { module_id } => format!(
                "let the host start {module_id:?}, or let the operator's policy allow it to attach with a token"
            ),
            AdmissionError::TokenMissing { module_id } => {
                format!("obtain a token for {module_id:?} from the host's operator and put it into the Hello")
            }
            AdmissionError::TokenUnknown { module_id } | AdmissionError::TokenExpired { module_id } => format!(
                "a token admits once, and only the last one handed out for {module_id:?}: \
                 use next_token of the last Answer, or obtain a new one from the host's operator"
            ),
            AdmissionError::DuplicateId { module_id } => {
                format!("stop the module that is connected as {module_id:?}, or use another id")
            }
            AdmissionError::MissingCapability { module_id, missing } => format!(
                "let the operator grant {missing} to {module_id:?}, or remove it from what the manifest requires"
            ),
            AdmissionError::TooManyModules { .. } => {
                "stop another module, or let the operator raise modules_max".into()
            }
        }
    }
}

impl From<&AdmissionError> for Refusal {
    fn from(error: &AdmissionError) -> Self {
        Refusal { code: error.code(), message: error.to_string(), hint: error.hint() }
    }
}
