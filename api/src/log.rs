//! What a module logs through the node (section 10.4), and the two x1 records that go with it.

use crate::codec::{Reader, put_text, put_u32};
use crate::macros::numbered_enum;
use crate::{DecodeError, Fault};

/// A record's value has a `u16` length, and so have the names and values in it.
const RECORD_BYTES_MAX: usize = u16::MAX as usize;

numbered_enum! {
    /// How grave a log message is. The order is the seed's: a smaller number is graver.
    LogLevel ("log level") {
        0 Error "error" "Something failed.";
        1 Warn "warn" "Something is wrong but work goes on.";
        2 Info "info" "Something worth knowing.";
        3 Debug "debug" "For whoever looks for a fault.";
        4 Trace "trace" "Every step.";
    }
}

/// A log message. Target and fields travel as records of the x1 header; see [`encode_fields`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogMessage {
    /// How grave it is.
    pub level: LogLevel,
    /// The text.
    pub message: String,
    /// The module that logs: must be the one of the session.
    pub module_id: String,
}

/// A log message whose module id is not that of the session it came on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "module {session:?} sent a log message in the name of {claimed:?}: \
     a module logs under the id of its own handshake"
)]
pub struct ForeignLog {
    /// The session's module.
    pub session: String,
    /// The module id in the message.
    pub claimed: String,
}

impl LogMessage {
    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_log(self.level, &self.message, &self.module_id, out);
    }

    /// Decodes a body.
    ///
    /// # Errors
    /// [`DecodeError`]; the host counts and drops such a message.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("log message", body);
        let level = LogLevel::take(&mut reader)?;
        let message = reader.text()?.to_owned();
        let module_id = reader.text()?.to_owned();
        reader.finish()?;
        Ok(LogMessage { level, message, module_id })
    }

    /// Checks that the message speaks for the session's module.
    ///
    /// # Errors
    /// [`ForeignLog`] if it names another one.
    pub fn check_module(&self, session: &str) -> Result<(), ForeignLog> {
        if self.module_id == session {
            return Ok(());
        }
        Err(ForeignLog { session: session.to_owned(), claimed: self.module_id.clone() })
    }
}

/// Appends a log message's body from borrowed parts.
pub fn encode_log(level: LogLevel, message: &str, module_id: &str, out: &mut Vec<u8>) {
    put_u32(out, level.number());
    put_text(out, message);
    put_text(out, module_id);
}

/// Appends the value of record 2 LOG_FIELDS and returns how many fields were left out because the value would have
/// exceeded `bytes_max` (at most 65 535, the most that a record holds).
pub fn encode_fields<'a>(
    fields: impl IntoIterator<Item = (&'a str, &'a str)>,
    bytes_max: usize,
    out: &mut Vec<u8>,
) -> usize {
    let bytes_max = bytes_max.min(RECORD_BYTES_MAX);
    let start = out.len();
    let mut left_out = 0;
    for (name, value) in fields {
        let before = out.len();
        let fits = put_short(out, name) && put_short(out, value) && out.len() - start <= bytes_max;
        if !fits {
            out.truncate(before);
            left_out += 1;
        }
    }
    left_out
}

fn put_short(out: &mut Vec<u8>, text: &str) -> bool {
    let Ok(len) = u16::try_from(text.len()) else { return false };
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    true
}

/// The fields in the value of record 2 LOG_FIELDS, as slices of it. The first malformed field is the last item.
pub fn decode_fields(value: &[u8]) -> impl Iterator<Item = Result<(&str, &str), DecodeError>> {
    let mut rest = value;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let offset = value.len() - rest.len();
        let field = take_short(&mut rest).and_then(|name| Ok((name, take_short(&mut rest)?)));
        if field.is_err() {
            rest = &[];
        }
        Some(field.map_err(|fault| DecodeError::Malformed { what: "log field", offset, fault }))
    })
}

fn take_short<'a>(rest: &mut &'a [u8]) -> Result<&'a str, Fault> {
    let Some((len, after)) = rest.split_first_chunk::<2>() else {
        return Err(Fault::Truncated { missing: 2 - rest.len() });
    };
    let len = usize::from(u16::from_le_bytes(*len));
    let Some((text, after)) = after.split_at_checked(len) else {
        return Err(Fault::Truncated { missing: len - after.len() });
    };
    *rest = after;
    core::str::from_utf8(text).map_err(|_| Fault::Utf8)
}

/// The value of record 1 LOG_TARGET, cut at a character's boundary to what a record holds.
pub fn encode_target(target: &str) -> &str {
    target.get(..target.floor_char_boundary(RECORD_BYTES_MAX)).unwrap_or(target)
}

/// The target in the value of record 1 LOG_TARGET.
///
/// # Errors
/// [`DecodeError::Malformed`] if it is not UTF-8.
pub fn decode_target(value: &[u8]) -> Result<&str, DecodeError> {
    core::str::from_utf8(value).map_err(|_| DecodeError::Malformed {
        what: "log target",
        offset: 0,
        fault: Fault::Utf8,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_bounded_and_losses_counted() {
        let long = "x".repeat(70_000);
        let mut value = Vec::new();
        let fields = [("a", "1"), ("long", long.as_str()), ("b", "2"), ("c", "3")];
        assert_eq!(encode_fields(fields, 12, &mut value), 2);
        assert_eq!(value, b"\x01\0a\x01\x001\x01\0b\x01\x002");
        let decoded: Vec<_> = decode_fields(&value).collect();
        assert_eq!(decoded, [Ok(("a", "1")), Ok(("b", "2"))]);
    }

    #[test]
    fn a_malformed_field_ends_the_list() {
        let decoded: Vec<_> = decode_fields(b"\x01\0a\x01\x001\x05\0b").collect();
        let fault = Fault::Truncated { missing: 4 };
        let error = DecodeError::Malformed { what: "log field", offset: 6, fault };
        assert_eq!(decoded, [Ok(("a", "1")), Err(error)]);
    }

    #[test]
    fn a_target_is_cut_between_characters() {
        let long = "é".repeat(40_000);
        let cut = encode_target(&long);
        assert_eq!(cut.len(), 65_534);
        assert_eq!(decode_target(cut.as_bytes()), Ok(cut));
        assert!(decode_target(&[0xff]).is_err());
    }

    #[test]
    fn a_module_logs_in_its_own_name_only() {
        let log = LogMessage { level: LogLevel::Info, message: "hello".into(), module_id: "watcher".into() };
        assert_eq!(log.check_module("watcher"), Ok(()));
        let error = log.check_module("analyst").unwrap_err();
        assert!(error.to_string().contains("\"analyst\"") && error.to_string().contains("\"watcher\""));
    }
}
