//! How a module ends, and what its exit code tells the supervisor.

use std::process::{ExitCode, Termination};

use modipc_api::ModuleError;
use modipc_core::{CloseReason, RefusalCode};

use crate::{ConnectError, Error, Failure};

/// The exit code of a module's process. The supervisor starts it again after [`Exit::Failed`] and [`Exit::Retry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// The work is done, or the host asked it to end.
    Done = 0,
    /// The module failed.
    Failed = 1,
    /// It was started by hand, without a host.
    Usage = 64,
    /// The host is not there now.
    Retry = 75,
    /// One side does not speak the protocol.
    Protocol = 76,
    /// It is not allowed what it cannot do without.
    Permission = 77,
    /// It is set up wrongly: its id, say.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        self.into()
    }
}

/// Why a module ended other than in order.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There was no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// One of the module's own methods failed.
    #[error("the module failed: {0}")]
    Failed(Failure),
    /// The connection was lost.
    #[error("the connection was lost: {0}")]
    Lost(CloseReason),
}

impl RunError {
    /// The exit code for it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            RunError::Connect(error) => of_connect(error),
            RunError::Failed(failure) => of_failure(failure),
            RunError::Lost(reason) => of_reason(*reason),
        }
    }
}

fn of_connect(error: &ConnectError) -> Exit {
    match error {
        ConnectError::BadModuleId { .. } | ConnectError::BadHello { .. } => Exit::Config,
        ConnectError::Refused { code, .. } => of_refusal(*code),
        ConnectError::Ended { reason, .. } => of_reason(*reason),
    }
}

fn of_refusal(code: RefusalCode) -> Exit {
    match code {
        RefusalCode::Malformed
        | RefusalCode::UnsupportedVersion
        | RefusalCode::UnknownCritical
        | RefusalCode::NotHello
        | RefusalCode::Unknown => Exit::Protocol,
        RefusalCode::BadModuleId => Exit::Config,
        RefusalCode::BadToken | RefusalCode::NotAllowed | RefusalCode::MissingCapability => Exit::Permission,
        RefusalCode::DuplicateId | RefusalCode::Busy | RefusalCode::ShuttingDown | RefusalCode::Timeout => {
            Exit::Retry
        }
    }
}

fn of_reason(reason: CloseReason) -> Exit {
    match reason {
        CloseReason::Drained { .. } | CloseReason::Aborted => Exit::Done,
        CloseReason::Violation(_) | CloseReason::Blamed(_) => Exit::Protocol,
        CloseReason::Refused(code) => of_refusal(code),
        CloseReason::HandshakeTimeout
        | CloseReason::SubscriberLagged
        | CloseReason::PingTimeout
        | CloseReason::DrainTimeout
        | CloseReason::PeerGone
        | CloseReason::TransportFailed => Exit::Retry,
    }
}

/// A failure that a module handed on from one of its calls says itself what it is.
fn of_failure(failure: &Failure) -> Exit {
    let error = match failure.downcast_ref::<Error>() {
        Some(error) => error.module_error(),
        None => failure.downcast_ref::<ModuleError>(),
    };
    match error {
        Some(ModuleError::PermissionDenied { .. }) => Exit::Permission,
        Some(ModuleError::ProtocolError { .. }) => Exit::Protocol,
        Some(ModuleError::ConnectionError { .. }) => Exit::Retry,
        Some(ModuleError::ResourceExhausted { .. } | ModuleError::Timeout { .. }) | None => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modipc_api::{CapabilitySet, MessageType};

    #[test]
    fn a_missing_capability_is_not_worth_a_restart() {
        let denied = ModuleError::PermissionDenied {
            module_id: "watcher".into(),
            request: MessageType::GetBlock,
            missing: CapabilitySet::ALL,
        };
        for failure in [Failure::from(denied.clone()), Failure::from(Error::from(denied))] {
            assert_eq!(RunError::Failed(failure).exit(), Exit::Permission);
        }
        assert_eq!(RunError::Failed("disk full".into()).exit(), Exit::Failed);
    }

    #[test]
    fn refusals_lead_to_what_the_supervisor_should_do() {
        let exit = |code| {
            let (module_id, message, hint) = ("watcher".into(), String::new(), String::new());
            RunError::Connect(ConnectError::Refused { module_id, code, message, hint }).exit()
        };
        assert_eq!(exit(RefusalCode::Busy), Exit::Retry);
        assert_eq!(exit(RefusalCode::BadToken), Exit::Permission);
        assert_eq!(exit(RefusalCode::UnsupportedVersion), Exit::Protocol);
        assert_eq!(exit(RefusalCode::BadModuleId), Exit::Config);
        assert_eq!(RunError::Lost(CloseReason::PeerGone).exit(), Exit::Retry);
    }
}
