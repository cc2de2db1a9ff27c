//! Log messages to the host.

use std::borrow::Cow;
use std::fmt::Write;

use modipc_api::{LogLevel, encode_fields, encode_log, encode_target};
use modipc_core::envelope::{RECORD_LOG_FIELDS, RECORD_LOG_TARGET};
use modipc_core::{Body, Profile, Records};

use crate::Client;

/// Bytes of all records of a frame, at most, and of a record's own header.
const RECORDS_BYTES_MAX: usize = u16::MAX as usize;
const RECORD_HEADER_BYTES: usize = 4;
/// A log message's level and the lengths of its two texts.
const LOG_FIXED_BYTES: usize = 4 + 8 + 8;
/// What the note that a message was cut may need.
const CUT_NOTE_BYTES: usize = 48;

impl Client {
    /// Logs a message through the host.
    ///
    /// Never waits and never fails: a message that the host has no room for, or that comes while the connection is not active, is
    /// dropped and counted ([`Client::dropped_logs`]).
    pub fn log(&self, level: LogLevel, message: impl AsRef<str>) {
        self.log_with(level, "", message, &[]);
    }

    /// As [`Client::log`], with the target that it comes from (may be empty) and with fields.
    ///
    /// In the plain profile, which has neither, both are written into the message; so are fields in x1 if they are too long for
    /// their record. A message that is longer than the host takes in one piece (16 KiB, unless it says otherwise) is cut, and says
    /// so.
    pub fn log_with(&self, level: LogLevel, target: &str, message: impl AsRef<str>, fields: &[(&str, &str)]) {
        let message = message.as_ref();
        let plain = self.inner.host.profile == Profile::Plain;
        let records = if plain { None } else { records(target, fields) };
        let folded;
        let (message, records) = match records {
            Some(records) => (message, records),
            None if target.is_empty() && fields.is_empty() => (message, Vec::new()),
            None => {
                folded = fold(target, message, fields);
                (folded.as_str(), Vec::new())
            }
        };
        let room = self.inner.host.limits.inline_bytes_max as usize;
        let room = room.saturating_sub(LOG_FIXED_BYTES + self.module_id().len());
        let message = cut(message, room);
        let mut body = Vec::with_capacity(message.len() + 64);
        encode_log(level, &message, self.module_id(), &mut body);
        let sent =
            self.inner.link.with(|connection, now| connection.log(now, Body::from(&body[..]), &records));
        if sent.is_err() {
            self.inner.session.count_dropped_log();
        }
    }
}

/// The records, or `None` if they cannot carry everything.
fn records(target: &str, fields: &[(&str, &str)]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    if encode_target(target).len() != target.len() {
        return None;
    }
    if !target.is_empty() {
        Records::push(&mut out, RECORD_LOG_TARGET, target.as_bytes()).ok()?;
    }
    if !fields.is_empty() {
        let mut value = Vec::new();
        let room = RECORDS_BYTES_MAX.checked_sub(out.len() + RECORD_HEADER_BYTES)?;
        if encode_fields(fields.iter().copied(), room, &mut value) > 0 {
            return None;
        }
        Records::push(&mut out, RECORD_LOG_FIELDS, &value).ok()?;
    }
    (out.len() <= RECORDS_BYTES_MAX).then_some(out)
}

/// The message, cut to `room` bytes if need be.
fn cut(message: &str, room: usize) -> Cow<'_, str> {
    if message.len() <= room {
        return Cow::Borrowed(message);
    }
    let kept = message.floor_char_boundary(room.saturating_sub(CUT_NOTE_BYTES));
    let kept = message.get(..kept).unwrap_or_default();
    Cow::Owned(format!("{kept} [{} bytes cut]", message.len() - kept.len()))
}

/// Target and fields as text: `target: message name=value name=value`.
fn fold(target: &str, message: &str, fields: &[(&str, &str)]) -> String {
    let mut text = String::new();
    if !target.is_empty() {
        text.push_str(target);
        text.push_str(": ");
    }
    text.push_str(message);
    for (name, value) in fields {
        // Writing to a string has no errors.
        let _ = write!(text, " {name}={value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use modipc_api::{decode_fields, decode_target};

    #[test]
    fn target_and_fields_are_records() {
        let out = records("watch", &[("height", "7"), ("hash", "ab")]).unwrap();
        let records = Records::new(&out);
        assert!(records.well_formed());
        assert_eq!(decode_target(records.get(RECORD_LOG_TARGET).unwrap()), Ok("watch"));
        let fields: Vec<_> = decode_fields(records.get(RECORD_LOG_FIELDS).unwrap()).collect();
        assert_eq!(fields, [Ok(("height", "7")), Ok(("hash", "ab"))]);
        assert_eq!(records_len("", &[]), Some(0));
    }

    #[test]
    fn what_records_cannot_carry_is_folded() {
        let long = "x".repeat(70_000);
        assert_eq!(records_len(&long, &[]), None);
        assert_eq!(records_len("t", &[("name", &long)]), None);
        let half = "x".repeat(40_000);
        assert_eq!(records_len(&half, &[("name", &half)]), None, "together they are too long");
        assert_eq!(fold("t", "m", &[("a", "1"), ("b", "2")]), "t: m a=1 b=2");
        assert_eq!(fold("", "m", &[]), "m");
    }

    #[test]
    fn a_message_that_is_too_long_is_cut_between_characters_and_says_so() {
        assert_eq!(cut("short", 5), "short");
        let long = "é".repeat(100);
        let cut = cut(&long, 101);
        assert_eq!(cut, format!("{} [148 bytes cut]", "é".repeat(26)));
        assert!(cut.len() <= 101);
    }

    fn records_len(target: &str, fields: &[(&str, &str)]) -> Option<usize> {
        records(target, fields).map(|out| out.len())
    }
}
