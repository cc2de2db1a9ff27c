//! Why a body did not decode.

/// A body that does not decode. The connection is not affected: only faults of the envelope close it [L-1].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// An enum's number is not one of those that this build knows. Enums grow at the end, so the peer may be newer.
    #[error("{what} number {number} is unknown here ({known} are known): the peer speaks a later version")]
    UnknownVariant {
        /// Which enum.
        what: &'static str,
        /// The number on the wire.
        number: u32,
        /// How many variants this build knows; their numbers are below this.
        known: u32,
    },
    /// A message names its type twice, and the two differ.
    #[error("a {what} is announced as number {announced} but carries the payload of number {carried}")]
    Mismatch {
        /// Which message.
        what: &'static str,
        /// The number in the type field.
        announced: u32,
        /// The number of the payload's variant.
        carried: u32,
    },
    /// The bytes are not the layout of section 9.
    #[error("a {what} does not decode at byte {offset}: {fault}")]
    Malformed {
        /// Which message.
        what: &'static str,
        /// Where in the body the value begins that could not be read.
        offset: usize,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// What is wrong with a value's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The body ends before the value does.
    #[error("it ends {missing} bytes too early")]
    Truncated {
        /// Bytes missing for the value being read, at least.
        missing: usize,
    },
    /// The message is complete, and bytes follow.
    #[error("{extra} bytes follow its end")]
    Trailing {
        /// Bytes after the end.
        extra: usize,
    },
    /// A length or count exceeds what the rest of the body can hold, or what the protocol allows.
    #[error("a length of {claimed} where at most {possible} is possible")]
    Length {
        /// The length or count on the wire.
        claimed: u64,
        /// The most that is possible here.
        possible: u64,
    },
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    Utf8,
    /// A bool is neither 0 nor 1.
    #[error("a bool is {0}, neither 0 nor 1")]
    Bool(u8),
    /// An option's byte is neither 0 nor 1.
    #[error("an option begins with {0}, neither 0 nor 1")]
    Option(u32),
    /// Any other fault that the codec reports.
    #[error("a value is outside of its type's range")]
    Value,
}
