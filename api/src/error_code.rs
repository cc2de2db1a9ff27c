//! Errors that a call is answered with (section 10.3).

use core::fmt;

use serde::{Serialize, Serializer};

use crate::codec::{Reader, put_pairs, put_text, put_u32};
use crate::{CapabilitySet, DecodeError, MessageType};

macro_rules! error_codes {
    ($( $number:literal $name:ident $again:literal $doc:literal; )*) => {
        /// Why a call failed, in a form that a program can act on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $( #[doc = $doc] $name, )*
            /// A code of a later version: handled like [`ErrorCode::Internal`], and its number is kept. Never one of the
            /// numbers above when it was made by [`ErrorCode::from_number`].
            Other(u32),
        }

        impl ErrorCode {
            /// All that this build knows, in the order of their numbers.
            pub const ALL: &'static [ErrorCode] = &[$( ErrorCode::$name ),*];

            /// The number on the wire.
            pub const fn number(self) -> u32 {
                match self { $( ErrorCode::$name => $number, )* ErrorCode::Other(number) => number }
            }

            /// The code with this number.
            pub const fn from_number(number: u32) -> Self {
                match number { $( $number => ErrorCode::$name, )* other => ErrorCode::Other(other) }
            }

            /// The code's name; `Other` for one of a later version.
            pub const fn name(self) -> &'static str {
                match self { $( ErrorCode::$name => stringify!($name), )* ErrorCode::Other(_) => "Other" }
            }

            /// May the same call succeed later, with nothing changed but time?
            pub const fn is_transient(self) -> bool {
                match self { $( ErrorCode::$name => $again, )* ErrorCode::Other(_) => false }
            }
        }
    };
}

error_codes! {
    0 Unsupported false "This node has no data or no code for such a call.";
    1 PermissionDenied false "A capability is missing; the details name it.";
    2 InvalidRequest false "The body did not decode, or its values contradict each other.";
    3 UnknownRequest false "The call's type is unknown to this node: it speaks an earlier version.";
    4 Busy true "Too many calls are open on this connection, or answers pile up unread.";
    5 DeadlineExceeded true "The caller's deadline passed before the answer was there.";
    6 Cancelled false "The caller gave the call up.";
    7 Unavailable true "The callee cannot answer now: it starts, stops or has lost what it depends on.";
    8 Internal false "The callee failed; its log says why.";
    9 Rejected false "What was submitted breaks a rule; the message names it.";
    10 PayloadTooLarge false "The answer exceeds what the caller can receive.";
    11 ResourceExhausted true "A quota of this module is used up; the details name it.";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ErrorCode::Other(number) => write!(f, "error {number}"),
            known => f.pad(known.name()),
        }
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Keys of [`ErrorInfo::details`] that this protocol gives a meaning; others are for people.
pub mod detail {
    /// PermissionDenied: a missing capability, by name; once for each.
    pub const CAPABILITY: &str = "capability";
    /// The request's type, by name.
    pub const REQUEST: &str = "request";
    /// A bound that was reached, as a decimal number.
    pub const LIMIT: &str = "limit";
    /// The quota or bound, by name.
    pub const RESOURCE: &str = "resource";
}

/// The answer to a call that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ErrorInfo {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what happened and what to do.
    pub message: String,
    /// Facts: names and values. Section 10.3 says which names have a meaning.
    pub details: Vec<(String, String)>,
}

impl ErrorInfo {
    /// An error without details.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        ErrorInfo { code, message: message.into(), details: Vec::new() }
    }

    /// The same with one more detail.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.details.push((name.into(), value.into()));
        self
    }

    /// The answer to a call that lacks capabilities [C-6].
    pub fn permission_denied(request: MessageType, missing: CapabilitySet) -> Self {
        ErrorInfo::denied(Some(request), missing)
    }

    /// The connection itself refuses without knowing the request's name.
    pub(crate) fn denied(request: Option<MessageType>, missing: CapabilitySet) -> Self {
        let call = request.map_or("this request", MessageType::name);
        let message = format!(
            "{call} needs {missing}, which this module was not granted: \
             ask for it in the module's manifest and let the operator's policy allow it"
        );
        let mut error = ErrorInfo::new(ErrorCode::PermissionDenied, message);
        if let Some(request) = request {
            error = error.with(detail::REQUEST, request.name());
        }
        missing.iter().fold(error, |error, capability| error.with(detail::CAPABILITY, capability.name()))
    }

    /// The answer to a body that did not decode [L-1].
    pub fn undecodable(error: DecodeError) -> Self {
        let code = match error {
            DecodeError::UnknownVariant { what: "request type" | "invocation type", .. } => {
                ErrorCode::UnknownRequest
            }
            DecodeError::UnknownVariant { .. }
            | DecodeError::Mismatch { .. }
            | DecodeError::Malformed { .. } => ErrorCode::InvalidRequest,
        };
        ErrorInfo::new(code, error.to_string())
    }

    /// The values of a detail that may occur several times.
    pub fn details_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.details.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The capabilities that a PermissionDenied names, as far as this build knows them.
    pub fn missing_capabilities(&self) -> CapabilitySet {
        CapabilitySet::from_names(self.details_named(detail::CAPABILITY)).0
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u32(out, self.code.number());
        put_text(out, &self.message);
        put_pairs(out, &self.details);
    }

    pub(crate) fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(ErrorInfo {
            code: ErrorCode::from_number(reader.u32()?),
            message: reader.text()?.to_owned(),
            details: reader.pairs()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Capability;

    #[test]
    fn numbers_and_codes_agree() {
        for (number, code) in (0..).zip(ErrorCode::ALL) {
            assert_eq!(code.number(), number);
            assert_eq!(ErrorCode::from_number(number), *code);
        }
        assert_eq!(ErrorCode::from_number(12), ErrorCode::Other(12));
    }

    #[test]
    fn a_denial_names_request_and_capability() {
        let missing = CapabilitySet::of(&[Capability::ReadUtxo]);
        let denial = ErrorInfo::permission_denied(MessageType::GetUtxo, missing);
        assert_eq!(denial.missing_capabilities(), missing);
        assert_eq!(denial.details_named(detail::REQUEST).collect::<Vec<_>>(), ["GetUTXO"]);
        assert!(denial.to_string().starts_with("PermissionDenied: GetUTXO needs ReadUTXO"), "{denial}");
    }
}
