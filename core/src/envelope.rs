//! The header of a frame in the native dialect (PROTOCOL.md, section 3), for both profiles.

use alloc::vec::Vec;

use crate::error::Violation;
use crate::kind::{EXTENSION_FIRST, Kind};
use crate::wire::Reader;

/// How frames after the handshake are laid out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Profile {
    /// The seed specification, nothing else.
    #[default]
    Plain,
    /// Header with flags, ids for everything, bulk, cancel, ping.
    X1,
}

/// A call's W3C trace context: trace id, parent span id, flags.
pub type TraceContext = [u8; 25];

/// A call's idempotency key.
pub type IdempotencyKey = [u8; 16];

/// A decoded header. Fields that the frame does not have are `None`, 0 or empty.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Head<'a> {
    /// What the frame is.
    pub kind: Kind,
    /// Call id, event position or nonce.
    pub id: u64,
    /// Microseconds that the caller still waits.
    pub deadline_us: Option<u64>,
    /// The call's trace context.
    pub trace: Option<TraceContext>,
    /// The call's idempotency key.
    pub idempotency: Option<IdempotencyKey>,
    /// Position of the previous event of the same topic.
    pub prev: Option<u64>,
    /// Length of the whole body, on the first fragment of a bulk body.
    pub total: Option<u64>,
    /// Whether further fragments follow.
    pub more: bool,
    /// The records, still encoded; see [`Records`].
    pub records: &'a [u8],
}

impl Head<'_> {
    /// The header of a frame without optional fields.
    #[must_use]
    pub fn new(kind: Kind, id: u64) -> Self {
        Head {
            kind,
            id,
            deadline_us: None,
            trace: None,
            idempotency: None,
            prev: None,
            total: None,
            more: false,
            records: &[],
        }
    }
}

/// What the start of a payload turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Headed<'a> {
    /// More bytes of the payload are needed to tell.
    Incomplete,
    /// A frame; its body begins `len` bytes into the payload.
    Frame {
        /// The header.
        head: Head<'a>,
        /// Its length in bytes.
        len: usize,
    },
    /// An extension frame: skipped and counted [E-3].
    Skip {
        /// Its kind, at least [`EXTENSION_FIRST`].
        kind: u8,
    },
}

const DEADLINE: u32 = 1 << 8;
const TRACE: u32 = 1 << 9;
const IDEMPOTENCY: u32 = 1 << 10;
const PREV: u32 = 1 << 11;
const TOTAL: u32 = 1 << 12;
const MORE: u32 = 1 << 13;
const RECORDS: u32 = 1 << 15;

/// The flags that a kind may have [E-5].
const fn flags_allowed(kind: Kind) -> u32 {
    match kind {
        Kind::Request | Kind::Invocation => DEADLINE | TRACE | IDEMPOTENCY | TOTAL | MORE | RECORDS,
        Kind::Response | Kind::InvocationResult => TOTAL | MORE | RECORDS,
        Kind::Event => PREV | RECORDS,
        Kind::Log => RECORDS,
        Kind::Hello
        | Kind::Answer
        | Kind::Cancel
        | Kind::Ping
        | Kind::Pong
        | Kind::Goodbye
        | Kind::Lagged
        | Kind::Credit
        | Kind::Progress
        | Kind::GrantsChanged => 0,
    }
}

/// Whether the kind's `id` has a meaning; where it has none it must be zero [E-4].
const fn has_id(kind: Kind) -> bool {
    match kind {
        Kind::Log
        | Kind::Goodbye
        | Kind::Lagged
        | Kind::Credit
        | Kind::GrantsChanged
        | Kind::Hello
        | Kind::Answer => false,
        Kind::Request
        | Kind::Response
        | Kind::Event
        | Kind::Invocation
        | Kind::InvocationResult
        | Kind::Cancel
        | Kind::Ping
        | Kind::Pong
        | Kind::Progress => true,
    }
}

/// Reads the header of a payload of which `payload` has arrived and `payload_len` bytes are claimed.
///
/// # Errors
/// The violation, as soon as the bytes that are there show it.
pub fn decode_head(profile: Profile, payload: &[u8], payload_len: u32) -> Result<Headed<'_>, Violation> {
    let mut reader = Reader::new(payload);
    let Some(tag) = reader.u32() else {
        return incomplete(payload, payload_len, Violation::FrameTooShort);
    };
    let number = (tag & 0xff) as u8;
    match profile {
        Profile::Plain => decode_plain(tag, reader, payload, payload_len),
        Profile::X1 if number >= EXTENSION_FIRST => Ok(Headed::Skip { kind: number }),
        Profile::X1 => {
            let kind = Kind::from_u8(number).ok_or(Violation::UnknownKind)?;
            decode_x1(kind, tag & !0xff, payload, payload_len)
        }
    }
}

fn decode_plain<'a>(
    tag: u32,
    mut reader: Reader<'a>,
    payload: &'a [u8],
    payload_len: u32,
) -> Result<Headed<'a>, Violation> {
    let kind = u8::try_from(tag).ok().and_then(Kind::from_u8).filter(|kind| *kind <= Kind::Answer);
    let kind = kind.ok_or(Violation::UnknownKind)?;
    if !kind.is_call_or_answer() {
        return Ok(Headed::Frame { head: Head::new(kind, 0), len: 4 });
    }
    match reader.u64() {
        Some(id) => Ok(Headed::Frame { head: Head::new(kind, id), len: 12 }),
        None => incomplete(payload, payload_len, Violation::FrameTooShort),
    }
}

fn decode_x1(kind: Kind, flags: u32, payload: &[u8], payload_len: u32) -> Result<Headed<'_>, Violation> {
    // Hello and Answer are plain frames that come before this profile begins; the machine names the fault.
    if kind == Kind::Hello || kind == Kind::Answer {
        return Ok(Headed::Frame { head: Head::new(kind, 0), len: 4 });
    }
    if flags & !flags_allowed(kind) != 0 || (kind == Kind::Event && flags & PREV == 0) {
        return Err(Violation::BadFlags);
    }
    match read_fields(kind, flags, payload) {
        Some(fields) => fields,
        None => incomplete(payload, payload_len, Violation::BadField),
    }
}

/// The fields after the tag; `None` if the payload ends before they do.
fn read_fields(kind: Kind, flags: u32, payload: &[u8]) -> Option<Result<Headed<'_>, Violation>> {
    let mut reader = Reader::new(payload);
    reader.u32()?;
    let mut head = Head::new(kind, reader.u64()?);
    if flags & DEADLINE != 0 {
        head.deadline_us = Some(reader.u64()?);
    }
    if flags & TRACE != 0 {
        head.trace = Some(reader.array()?);
    }
    if flags & IDEMPOTENCY != 0 {
        head.idempotency = Some(reader.array()?);
    }
    if flags & PREV != 0 {
        head.prev = Some(reader.u64()?);
    }
    if flags & TOTAL != 0 {
        head.total = Some(reader.u64()?);
    }
    head.more = flags & MORE != 0;
    if flags & RECORDS != 0 {
        let len = reader.u16()?;
        head.records = reader.take(usize::from(len))?;
    }
    let bad = (!has_id(kind) && head.id != 0)
        || head.deadline_us == Some(0)
        || (flags & RECORDS != 0 && !Records::new(head.records).well_formed());
    if bad {
        return Some(Err(Violation::BadField));
    }
    Some(Ok(Headed::Frame { head, len: payload.len() - reader.rest().len() }))
}

/// The header does not end within what is there: wait, unless the whole payload is there.
fn incomplete(payload: &[u8], payload_len: u32, violation: Violation) -> Result<Headed<'_>, Violation> {
    if payload.len() < payload_len as usize { Ok(Headed::Incomplete) } else { Err(violation) }
}

/// Appends a header, without the frame's length prefix. In the plain profile only the kind, and the id of calls and answers,
/// exist.
pub fn encode_head(profile: Profile, head: &Head<'_>, out: &mut Vec<u8>) {
    let kind = head.kind as u32;
    if profile == Profile::Plain || head.kind == Kind::Hello || head.kind == Kind::Answer {
        out.extend_from_slice(&kind.to_le_bytes());
        if head.kind.is_call_or_answer() {
            out.extend_from_slice(&head.id.to_le_bytes());
        }
        return;
    }
    let tag_at = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&head.id.to_le_bytes());
    let mut tag = kind;
    if let Some(us) = head.deadline_us {
        tag |= DEADLINE;
        out.extend_from_slice(&us.to_le_bytes());
    }
    if let Some(trace) = &head.trace {
        tag |= TRACE;
        out.extend_from_slice(trace);
    }
    if let Some(key) = &head.idempotency {
        tag |= IDEMPOTENCY;
        out.extend_from_slice(key);
    }
    if let Some(prev) = head.prev {
        tag |= PREV;
        out.extend_from_slice(&prev.to_le_bytes());
    }
    if let Some(total) = head.total {
        tag |= TOTAL;
        out.extend_from_slice(&total.to_le_bytes());
    }
    if head.more {
        tag |= MORE;
    }
    if let (false, Ok(len)) = (head.records.is_empty(), u16::try_from(head.records.len())) {
        tag |= RECORDS;
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(head.records);
    }
    out[tag_at..tag_at + 4].copy_from_slice(&tag.to_le_bytes());
}

/// A frame's records: an iterator of keys and values.
#[derive(Clone, Copy)]
pub struct Records<'a> {
    reader: Reader<'a>,
}

/// What the module's log record was emitted from.
pub const RECORD_LOG_TARGET: u16 = 1;
/// The log record's fields.
pub const RECORD_LOG_FIELDS: u16 = 2;
/// The first position that a subscriber wants.
pub const RECORD_RESUME: u16 = 3;
/// The subscription's overflow policy.
pub const RECORD_OVERFLOW: u16 = 4;

impl<'a> Records<'a> {
    /// The records in these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Records { reader: Reader::new(bytes) }
    }

    /// The value of the record with this key.
    #[must_use]
    pub fn get(self, key: u16) -> Option<&'a [u8]> {
        self.into_iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// Whether the records fill their bytes exactly and their keys rise [E-5].
    #[must_use]
    pub fn well_formed(mut self) -> bool {
        let mut last = None;
        while !self.reader.is_empty() {
            match self.next() {
                Some((key, _)) if last < Some(key) => last = Some(key),
                Some(_) | None => return false,
            }
        }
        true
    }

    /// Appends a record. Keys have to rise.
    ///
    /// # Errors
    /// The value is longer than 65 535 bytes; nothing was appended.
    pub fn push(out: &mut Vec<u8>, key: u16, value: &[u8]) -> Result<(), crate::error::Refused> {
        let len = u16::try_from(value.len()).map_err(|_| crate::error::Refused::FieldTooLong)?;
        out.extend_from_slice(&key.to_le_bytes());
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(value);
        Ok(())
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.reader.u16()?;
        let len = self.reader.u16()?;
        Some((key, self.reader.take(usize::from(len))?))
    }
}
