//! What the node asks of a module (section 10.6).

use bytes::Bytes;

use crate::codec::{Reader, put_pairs, put_text, put_u32, put_u64};
use crate::macros::numbered_enum;
use crate::response::put_tail;
use crate::{DecodeError, ErrorInfo};

numbered_enum! {
    /// The type of an invocation.
    InvocationType ("invocation type") {
        0 Health "Health" "How the module is.";
        1 Call "Call" "Call a method that the module offers.";
        2 Configure "Configure" "Apply changed settings.";
        3 PrepareShutdown "PrepareShutdown" "Save what must be saved: a Goodbye follows.";
    }
}

numbered_enum! {
    /// How a module is.
    HealthStatus ("health status") {
        0 Healthy "healthy" "All is well.";
        1 Degraded "degraded" "It works, with something missing or slow.";
        2 Failing "failing" "It cannot do its work.";
    }
}

/// A call from the node into a module. Its type is its variant; a body in which type and payload differ does not decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// How the module is. Its answer is Success with a [`HealthReport`].
    Health,
    /// Call a method that the module offers.
    Call {
        /// The method's name.
        method: String,
        /// Its parameters, in a form that caller and module agree on.
        params: Bytes,
    },
    /// Apply changed settings.
    Configure {
        /// Names and values of the settings that changed.
        settings: Vec<(String, String)>,
    },
    /// Save what must be saved: a Goodbye follows.
    PrepareShutdown {
        /// How long the node will wait for the module, in microseconds.
        grace_us: u64,
    },
}

impl Invocation {
    /// The invocation's type.
    pub const fn invocation_type(&self) -> InvocationType {
        match self {
            Invocation::Health => InvocationType::Health,
            Invocation::Call { .. } => InvocationType::Call,
            Invocation::Configure { .. } => InvocationType::Configure,
            Invocation::PrepareShutdown { .. } => InvocationType::PrepareShutdown,
        }
    }

    /// Appends the body: type and payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let tail = self.encode_parts(out);
        out.extend_from_slice(&tail);
    }

    /// Appends the body without its tail, and returns the tail: a call's parameters, shared, or empty.
    pub fn encode_parts(&self, head: &mut Vec<u8>) -> Bytes {
        let number = self.invocation_type().number();
        put_u32(head, number);
        put_u32(head, number);
        match self {
            Invocation::Health => {}
            Invocation::Call { method, params } => {
                put_text(head, method);
                return put_tail(head, params);
            }
            Invocation::Configure { settings } => put_pairs(head, settings),
            Invocation::PrepareShutdown { grace_us } => put_u64(head, *grace_us),
        }
        Bytes::new()
    }

    /// Decodes a body; parameters in it are copied.
    ///
    /// # Errors
    /// [`DecodeError`]: the module answers it with an error [L-1].
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        Invocation::take(Reader::new("invocation", body))
    }

    /// Decodes a body; parameters in it are a slice of `body`.
    ///
    /// # Errors
    /// As [`Invocation::decode`].
    pub fn decode_shared(body: &Bytes) -> Result<Self, DecodeError> {
        Invocation::take(Reader::shared("invocation", body))
    }

    fn take(mut reader: Reader<'_>) -> Result<Self, DecodeError> {
        let announced = InvocationType::take(&mut reader)?;
        let carried = reader.u32()?;
        if carried != announced.number() {
            let announced = announced.number();
            return Err(DecodeError::Mismatch { what: "invocation", announced, carried });
        }
        let invocation = match announced {
            InvocationType::Health => Invocation::Health,
            InvocationType::Call => {
                Invocation::Call { method: reader.text()?.to_owned(), params: reader.tail()? }
            }
            InvocationType::Configure => Invocation::Configure { settings: reader.pairs()? },
            InvocationType::PrepareShutdown => Invocation::PrepareShutdown { grace_us: reader.u64()? },
        };
        reader.finish()?;
        Ok(invocation)
    }
}

/// The answer to an invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvocationResult {
    /// It succeeded, with what the invocation's type says: see [`InvocationResult::healthy`] for Health, what the method
    /// returns for Call, nothing for the others.
    Success(Bytes),
    /// It failed.
    Error(ErrorInfo),
    /// The module has no such method.
    NotFound,
}

const SUCCESS: u32 = 0;
const ERROR: u32 = 1;
const NOT_FOUND: u32 = 2;

impl InvocationResult {
    /// The answer to Health.
    pub fn healthy(report: &HealthReport) -> Self {
        let mut body = Vec::new();
        report.encode(&mut body);
        InvocationResult::Success(body.into())
    }

    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let tail = self.encode_parts(out);
        out.extend_from_slice(&tail);
    }

    /// Appends the body without its tail, and returns the tail: what the call returned, shared, or empty.
    pub fn encode_parts(&self, head: &mut Vec<u8>) -> Bytes {
        match self {
            InvocationResult::Success(returned) => {
                put_u32(head, SUCCESS);
                return put_tail(head, returned);
            }
            InvocationResult::Error(error) => {
                put_u32(head, ERROR);
                error.put(head);
            }
            InvocationResult::NotFound => put_u32(head, NOT_FOUND),
        }
        Bytes::new()
    }

    /// Decodes a body; what was returned is copied.
    ///
    /// # Errors
    /// [`DecodeError`]: the module speaks a later version or breaks the protocol.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        InvocationResult::take(Reader::new("invocation result", body))
    }

    /// Decodes a body; what was returned is a slice of `body`.
    ///
    /// # Errors
    /// As [`InvocationResult::decode`].
    pub fn decode_shared(body: &Bytes) -> Result<Self, DecodeError> {
        InvocationResult::take(Reader::shared("invocation result", body))
    }

    fn take(mut reader: Reader<'_>) -> Result<Self, DecodeError> {
        let result = match reader.u32()? {
            SUCCESS => InvocationResult::Success(reader.tail()?),
            ERROR => InvocationResult::Error(ErrorInfo::take(&mut reader)?),
            NOT_FOUND => InvocationResult::NotFound,
            number => {
                return Err(DecodeError::UnknownVariant { what: "invocation result", number, known: 3 });
            }
        };
        reader.finish()?;
        Ok(result)
    }
}

/// What a module says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthReport {
    /// How it is.
    pub status: HealthStatus,
    /// In words; empty if there is nothing to say.
    pub detail: String,
}

impl HealthReport {
    /// Appends the report as it stands in the Success of a Health invocation.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u32(out, self.status.number());
        put_text(out, &self.detail);
    }

    /// Decodes the Success of a Health invocation.
    ///
    /// # Errors
    /// [`DecodeError`]: the module speaks a later version or breaks the protocol.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("health report", body);
        let status = HealthStatus::take(&mut reader)?;
        let detail = reader.text()?.to_owned();
        reader.finish()?;
        Ok(HealthReport { status, detail })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_and_payload_must_agree() {
        let mismatch = DecodeError::Mismatch { what: "invocation", announced: 0, carried: 3 };
        assert_eq!(Invocation::decode(&[0, 0, 0, 0, 3, 0, 0, 0]), Err(mismatch));
        assert_eq!(Invocation::decode(&[0; 8]), Ok(Invocation::Health));
    }

    #[test]
    fn a_health_report_travels_in_the_success() {
        let report = HealthReport { status: HealthStatus::Degraded, detail: "slow disk".into() };
        let InvocationResult::Success(body) = InvocationResult::healthy(&report) else {
            panic!("not a success");
        };
        assert_eq!(HealthReport::decode(&body), Ok(report));
    }
}
