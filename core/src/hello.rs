//! Hello and Answer: the two frames of the handshake (PROTOCOL.md, section 4).

use alloc::string::String;
use alloc::vec::Vec;
use core::hash::Hash;

use crate::limits::Limits;
use crate::wire::{Reader, put_bytes, put_strings};

/// The protocol's version.
pub const PROTOCOL: u32 = 1;

const RECORD_X1: u16 = 1;
const RECORD_LIMITS: u16 = 2;
const CRITICAL: u16 = 1;

const CAPABILITIES_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 4096;

/// The module's first frame.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Hello {
    /// The module's name [H-4].
    pub module_id: String,
    /// The capabilities that it asks for.
    pub capabilities: Vec<String>,
    /// The module's own version.
    pub version: String,
    /// What goes beyond the seed; without it the plain profile holds [H-2].
    pub tail: Option<HelloTail>,
}

/// The optional tail of a [`Hello`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HelloTail {
    /// The protocol's version that the module speaks.
    pub protocol: u32,
    /// The one-time token of a module attached by hand; empty for an inherited connection.
    pub token: Vec<u8>,
    /// Whether the module offers x1.
    pub x1: bool,
    /// The module's limits as a receiver.
    pub limits: Option<Limits>,
    /// A critical record that this side does not know [H-3].
    pub unknown_critical: Option<u16>,
}

/// The host's answer to a [`Hello`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Answer {
    /// The module is admitted.
    Accepted(Accepted),
    /// It is not.
    Refused(Refusal),
}

/// What an admitted module is told.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Accepted {
    /// The capabilities that it got.
    pub granted: Vec<String>,
    /// What it may send.
    pub limits: Limits,
    /// The node's version.
    pub node_version: String,
    /// A number of the node's run: another one means that the node was restarted.
    pub instance_id: [u8; 16],
    /// The token for the next connection, or empty.
    pub next_token: Vec<u8>,
    /// Whether x1 is confirmed.
    pub x1: bool,
}

/// What a module that was not admitted is told.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Refusal {
    /// What is wrong.
    pub code: RefusalCode,
    /// The same in words, with names.
    pub message: String,
    /// What to change.
    pub hint: String,
}

/// Why a handshake is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u32)]
pub enum RefusalCode {
    /// The Hello could not be read.
    Malformed = 1,
    /// The module's id breaks [H-4].
    BadModuleId = 2,
    /// The protocol's version.
    UnsupportedVersion = 3,
    /// A critical record is not known.
    UnknownCritical = 4,
    /// The token is absent, unknown or used.
    BadToken = 5,
    /// A module of this id is connected.
    DuplicateId = 6,
    /// Credentials, or the host's policy.
    NotAllowed = 7,
    /// The module cannot work with what is granted.
    MissingCapability = 8,
    /// Too many modules.
    Busy = 9,
    /// The host is going down.
    ShuttingDown = 10,
    /// The Hello did not come in time.
    Timeout = 11,
    /// The first frame was not a Hello.
    NotHello = 12,
    /// A code that this version does not know.
    Unknown = u32::MAX,
}

impl RefusalCode {
    /// Every code of version 1, in order of its number.
    pub const ALL: [RefusalCode; 12] = [
        RefusalCode::Malformed,
        RefusalCode::BadModuleId,
        RefusalCode::UnsupportedVersion,
        RefusalCode::UnknownCritical,
        RefusalCode::BadToken,
        RefusalCode::DuplicateId,
        RefusalCode::NotAllowed,
        RefusalCode::MissingCapability,
        RefusalCode::Busy,
        RefusalCode::ShuttingDown,
        RefusalCode::Timeout,
        RefusalCode::NotHello,
    ];

    fn from_u32(n: u32) -> RefusalCode {
        RefusalCode::ALL.into_iter().find(|code| *code as u32 == n).unwrap_or(RefusalCode::Unknown)
    }
}

/// Why a module id is not one [H-4].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum BadModuleId {
    /// It is empty.
    #[error("a module id has at least one character")]
    Empty,
    /// It is too long.
    #[error("a module id has at most 64 bytes, this one has {0}")]
    TooLong(usize),
    /// It has a character that ids do not have, at this byte.
    #[error(
        "a module id consists of a-z 0-9 - _ . and begins with a letter or digit; byte {0} is something else"
    )]
    Character(usize),
    /// It contains `..`.
    #[error("a module id is a name and not a path: it may not contain \"..\"")]
    Dots,
}

/// Checks a module id [H-4].
///
/// # Errors
/// What is wrong with it.
pub fn check_module_id(id: &str) -> Result<(), BadModuleId> {
    if id.is_empty() {
        return Err(BadModuleId::Empty);
    }
    if id.len() > NAME_BYTES_MAX {
        return Err(BadModuleId::TooLong(id.len()));
    }
    for (at, byte) in id.bytes().enumerate() {
        let plain = byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if !plain && (at == 0 || !matches!(byte, b'-' | b'_' | b'.')) {
            return Err(BadModuleId::Character(at));
        }
    }
    if id.contains("..") { Err(BadModuleId::Dots) } else { Ok(()) }
}

impl Hello {
    /// Whether every field is short enough for [`Hello::decode`].
    pub(crate) fn fits(&self) -> bool {
        self.module_id.len() <= TEXT_BYTES_MAX
            && names_fit(&self.capabilities)
            && self.version.len() <= NAME_BYTES_MAX
            && self.tail.as_ref().is_none_or(|tail| tail.token.len() <= NAME_BYTES_MAX)
    }

    /// Appends the body of the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.module_id.as_bytes());
        put_strings(out, &self.capabilities);
        put_bytes(out, self.version.as_bytes());
        if let Some(tail) = &self.tail {
            out.extend_from_slice(&tail.protocol.to_le_bytes());
            put_bytes(out, &tail.token);
            let count = u32::from(tail.x1) + u32::from(tail.limits.is_some());
            out.extend_from_slice(&count.to_le_bytes());
            if tail.x1 {
                put_record(out, RECORD_X1, &[]);
            }
            if let Some(limits) = &tail.limits {
                let mut bytes = Vec::with_capacity(Limits::WIRE_BYTES);
                put_limits(&mut bytes, limits);
                put_record(out, RECORD_LIMITS, &bytes);
            }
        }
    }

    /// Reads the body of the frame; `None` if it is malformed. The module id is not checked here: see [`check_module_id`].
    #[must_use]
    pub fn decode(body: &[u8]) -> Option<Hello> {
        let mut reader = Reader::new(body);
        let module_id = reader.string(TEXT_BYTES_MAX)?.into();
        let capabilities = read_names(&mut reader)?;
        let version = reader.string(NAME_BYTES_MAX)?.into();
        let tail = if reader.is_empty() { None } else { Some(HelloTail::decode(&mut reader)?) };
        reader.is_empty().then_some(Hello { module_id, capabilities, version, tail })
    }
}

impl HelloTail {
    fn decode(reader: &mut Reader<'_>) -> Option<HelloTail> {
        let protocol = reader.u32()?;
        let token = reader.bytes(NAME_BYTES_MAX)?.to_vec();
        let mut tail = HelloTail { protocol, token, x1: false, limits: None, unknown_critical: None };
        for_each_record(reader, |id, flags, value| {
            match id {
                RECORD_X1 if value.is_empty() => tail.x1 = true,
                RECORD_LIMITS if value.len() == Limits::WIRE_BYTES => {
                    tail.limits = Some(read_limits(&mut Reader::new(value))?);
                }
                RECORD_X1 | RECORD_LIMITS => return None,
                _ if flags & CRITICAL != 0 => tail.unknown_critical = tail.unknown_critical.or(Some(id)),
                _ => {}
            }
            Some(())
        })?;
        Some(tail)
    }
}

impl Answer {
    /// Appends the body of the frame. The tail is written only if x1 is confirmed: a module that knows only the seed gets no
    /// bytes that it does not expect. The texts of a refusal are cut to what a module reads.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Answer::Accepted(accepted) => {
                out.extend_from_slice(&0u32.to_le_bytes());
                put_strings(out, &accepted.granted);
                put_limits(out, &accepted.limits);
                put_bytes(out, accepted.node_version.as_bytes());
                out.extend_from_slice(&accepted.instance_id);
                put_bytes(out, &accepted.next_token);
                if accepted.x1 {
                    out.extend_from_slice(&PROTOCOL.to_le_bytes());
                    out.extend_from_slice(&1u32.to_le_bytes());
                    put_record(out, RECORD_X1, &[]);
                }
            }
            Answer::Refused(refusal) => {
                out.extend_from_slice(&1u32.to_le_bytes());
                out.extend_from_slice(&(refusal.code as u32).to_le_bytes());
                put_bytes(out, cut(&refusal.message).as_bytes());
                put_bytes(out, cut(&refusal.hint).as_bytes());
            }
        }
    }

    /// Reads the body of the frame; `None` if it is malformed.
    #[must_use]
    pub fn decode(body: &[u8]) -> Option<Answer> {
        let mut reader = Reader::new(body);
        let answer = match reader.u32()? {
            0 => Answer::Accepted(Accepted::decode(&mut reader)?),
            1 => Answer::Refused(Refusal {
                code: RefusalCode::from_u32(reader.u32()?),
                message: reader.string(TEXT_BYTES_MAX)?.into(),
                hint: reader.string(TEXT_BYTES_MAX)?.into(),
            }),
            _ => return None,
        };
        reader.is_empty().then_some(answer)
    }
}

impl Accepted {
    /// Whether every field is short enough for [`Answer::decode`].
    pub(crate) fn fits(&self) -> bool {
        names_fit(&self.granted)
            && self.node_version.len() <= TEXT_BYTES_MAX
            && self.next_token.len() <= NAME_BYTES_MAX
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Accepted> {
        let mut accepted = Accepted {
            granted: read_names(reader)?,
            limits: read_limits(reader)?,
            node_version: reader.string(TEXT_BYTES_MAX)?.into(),
            instance_id: reader.array()?,
            next_token: reader.bytes(NAME_BYTES_MAX)?.to_vec(),
            x1: false,
        };
        if !reader.is_empty() {
            reader.u32()?;
            for_each_record(reader, |id, _, _| {
                accepted.x1 |= id == RECORD_X1;
                Some(())
            })?;
        }
        Some(accepted)
    }
}

/// Whether these are as many names, and as short, as a list of capabilities may have [H-4].
pub(crate) fn names_fit(names: &[String]) -> bool {
    names.len() <= CAPABILITIES_MAX && names.iter().all(|name| name.len() <= NAME_BYTES_MAX)
}

/// A list of capabilities.
pub(crate) fn read_names(reader: &mut Reader<'_>) -> Option<Vec<String>> {
    reader.strings(CAPABILITIES_MAX, NAME_BYTES_MAX)
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default()
}

fn put_limits(out: &mut Vec<u8>, limits: &Limits) {
    out.extend_from_slice(&limits.frame_bytes_max.to_le_bytes());
    out.extend_from_slice(&limits.calls_max.to_le_bytes());
    out.extend_from_slice(&limits.abandoned_max.to_le_bytes());
    out.extend_from_slice(&limits.inline_bytes_max.to_le_bytes());
    out.extend_from_slice(&limits.body_bytes_max.to_le_bytes());
    out.extend_from_slice(&limits.credit_bytes.to_le_bytes());
    out.extend_from_slice(&limits.call_deadline_us_max.to_le_bytes());
}

fn read_limits(reader: &mut Reader<'_>) -> Option<Limits> {
    Some(Limits {
        frame_bytes_max: reader.u32()?,
        calls_max: reader.u32()?,
        abandoned_max: reader.u32()?,
        inline_bytes_max: reader.u32()?,
        body_bytes_max: reader.u64()?,
        credit_bytes: reader.u64()?,
        call_deadline_us_max: reader.u64()?,
    })
}

fn put_record(out: &mut Vec<u8>, id: u16, value: &[u8]) {
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&0u16.to_le_bytes());
    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    out.extend_from_slice(value);
}

fn for_each_record(reader: &mut Reader<'_>, mut f: impl FnMut(u16, u16, &[u8]) -> Option<()>) -> Option<()> {
    let mut last = None;
    for _ in 0..reader.u32()? {
        let (id, flags, len) = (reader.u16()?, reader.u16()?, reader.u32()?);
        let value = reader.take(usize::try_from(len).ok()?)?;
        if last >= Some(id) {
            return None;
        }
        last = Some(id);
        f(id, flags, value)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn hello() -> Hello {
        Hello {
            module_id: "watcher".into(),
            capabilities: vec!["ReadBlockchain".into()],
            version: "1.0".into(),
            tail: Some(HelloTail {
                protocol: 1,
                token: vec![7; 32],
                x1: true,
                limits: Some(Limits::DEFAULT),
                unknown_critical: None,
            }),
        }
    }

    #[test]
    fn a_hello_cut_anywhere_is_malformed_except_where_the_seed_ends() {
        let mut bytes = Vec::new();
        hello().encode(&mut bytes);
        assert_eq!(Hello::decode(&bytes), Some(hello()));
        let mut seed = Vec::new();
        Hello { tail: None, ..hello() }.encode(&mut seed);
        for cut in 0..bytes.len() {
            let expected = (cut == seed.len()).then(|| Hello { tail: None, ..hello() });
            assert_eq!(Hello::decode(&bytes[..cut]), expected, "cut at {cut}");
        }
        bytes.push(0);
        assert_eq!(Hello::decode(&bytes), None, "trailing byte");
    }

    #[test]
    fn a_known_record_of_another_length_is_malformed() {
        let mut bytes = Vec::new();
        Hello { tail: None, ..hello() }.encode(&mut bytes);
        bytes.extend_from_slice(&1u32.to_le_bytes());
        put_bytes(&mut bytes, &[]);
        bytes.extend_from_slice(&1u32.to_le_bytes());
        for (id, len, fits) in
            [(1, 0, true), (1, 1, false), (2, 39, false), (2, 40, true), (2, 41, false), (9, 5, true)]
        {
            let mut bytes = bytes.clone();
            put_record(&mut bytes, id, &vec![0; len]);
            assert_eq!(Hello::decode(&bytes).is_some(), fits, "record {id} of {len} bytes");
        }
    }

    #[test]
    fn a_claimed_count_allocates_nothing() {
        let mut bytes = vec![0; 8];
        bytes.extend_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(Hello::decode(&bytes), None);
    }

    #[test]
    fn module_ids_are_names_and_never_paths() {
        for good in ["a", "block-analyst", "x_1.2", "9"] {
            assert_eq!(check_module_id(good), Ok(()), "{good}");
        }
        for bad in ["", "../etc", "a/b", "A", "-a", ".hidden", "a..b", "ü", "a b", "a\0", &"x".repeat(65)] {
            assert!(check_module_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_answer_comes_back_as_it_was() {
        let accepted = Answer::Accepted(Accepted {
            granted: vec!["ReadUTXO".into()],
            limits: Limits { calls_max: 3, ..Limits::DEFAULT },
            node_version: "node 1".into(),
            instance_id: [9; 16],
            next_token: vec![1, 2],
            x1: true,
        });
        let refused =
            Answer::Refused(Refusal { code: RefusalCode::BadToken, message: "m".into(), hint: "h".into() });
        for answer in [accepted, refused] {
            let mut bytes = Vec::new();
            answer.encode(&mut bytes);
            assert_eq!(Answer::decode(&bytes), Some(answer));
            for cut in 0..bytes.len() {
                if let Some(Answer::Accepted(short)) = Answer::decode(&bytes[..cut]) {
                    assert!(!short.x1, "cut at {cut}");
                }
            }
        }
    }
}
