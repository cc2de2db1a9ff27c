//! A peer without any code of ours: a blocking socket, and frames that are put together from the document by hand.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::PATIENCE_S;

/// A socket to a node.
#[derive(Debug)]
pub struct RawPeer {
    stream: UnixStream,
}

/// A frame's payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload(pub Vec<u8>);

impl RawPeer {
    /// Connects.
    #[must_use]
    pub fn connect(path: &Path) -> RawPeer {
        RawPeer::new(UnixStream::connect(path).unwrap())
    }

    /// One end of a stream.
    #[must_use]
    pub fn new(stream: UnixStream) -> RawPeer {
        // A node that says nothing fails the test.
        stream.set_read_timeout(Some(Duration::from_secs(PATIENCE_S))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(PATIENCE_S))).unwrap();
        RawPeer { stream }
    }

    /// Writes bytes. A node that is gone does not take them.
    pub fn send(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Err(error) if is_end(&error) => {}
            written => written.unwrap(),
        }
    }

    /// The next frame; `None` at the end of the stream.
    pub fn frame(&mut self) -> Option<Payload> {
        let mut prefix = [0; 4];
        if !self.fill(&mut prefix) {
            return None;
        }
        let mut payload = vec![0; u32::from_le_bytes(prefix) as usize];
        assert!(self.fill(&mut payload) || payload.is_empty(), "the node ended in the middle of a frame");
        Some(Payload(payload))
    }

    /// The next frame, which is of this kind.
    pub fn expect(&mut self, kind: u8) -> Payload {
        let frame = self.frame().unwrap_or_else(|| panic!("the end instead of a frame of kind {kind}"));
        assert_eq!(frame.kind(), kind, "{frame:?}");
        frame
    }

    /// All frames up to the end of the stream.
    pub fn rest(&mut self) -> Vec<Payload> {
        std::iter::from_fn(|| self.frame()).collect()
    }

    /// Says that nothing more is sent, and reads on.
    pub fn end_writing(&self) {
        // A node that is gone needs no end.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Introduces itself and is admitted.
    pub fn greet(&mut self, hello: &[u8]) -> Payload {
        self.send(hello);
        let answer = self.expect(ANSWER);
        assert_eq!(answer.u32(4), 0, "refused: {}", answer.text());
        answer
    }

    /// Whether the node still answers, on a connection of the profile x1 or plain alike.
    pub fn is_served(&mut self, call: u64) -> bool {
        self.send(&request(call, GET_BLOCK_HEIGHT, &[]));
        let answer = self.expect(RESPONSE);
        answer.id() == call && answer.u32(12) == 0
    }

    /// Whether all bytes came; `false` if the stream ended before the first.
    fn fill(&mut self, buf: &mut [u8]) -> bool {
        let mut at = 0;
        while at < buf.len() {
            match self.stream.read(&mut buf[at..]) {
                Ok(0) => break,
                Ok(n) => at += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_end(&error) => break,
                Err(error) => panic!("the node says nothing: {error}"),
            }
        }
        assert!(at == 0 || at == buf.len(), "the node ended in the middle of a frame");
        at > 0
    }
}

/// The kernel says so when the node closed without having read everything.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

impl Payload {
    /// Bits 0 to 7 of the tag.
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.0[0]
    }

    /// Bits 8 to 31 of the tag.
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.u32(0) >> 8
    }

    /// Whether it is the first fragment of a body in bulk: a length of eight bytes stands before the body [B-1].
    #[must_use]
    pub fn is_bulk(&self) -> bool {
        self.flags() & 1 << 4 != 0
    }

    /// Whether further fragments of its body follow.
    #[must_use]
    pub fn is_bulk_continued(&self) -> bool {
        self.flags() & 1 << 5 != 0
    }

    /// The id, in x1 and in the kinds that have one in both profiles.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.u64(4)
    }

    /// An integer at an offset.
    #[must_use]
    pub fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    /// An integer at an offset.
    #[must_use]
    pub fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    /// Everything in it that can be read, for messages and for looking whether a word was said.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    /// Whether it is a Response whose variant is Error, with this code.
    #[must_use]
    pub fn is_error(&self, code: u32) -> bool {
        self.kind() == RESPONSE && (self.u32(12), self.u32(16)) == (1, code)
    }
}

// ---- frames, from the document ----

/// Kind 0.
pub const REQUEST: u8 = 0;
/// Kind 1.
pub const RESPONSE: u8 = 1;
/// Kind 2.
pub const EVENT: u8 = 2;
/// Kind 3.
pub const LOG: u8 = 3;
/// Kind 4.
pub const INVOCATION: u8 = 4;
/// Kind 5.
pub const INVOCATION_RESULT: u8 = 5;
/// Kind 6.
pub const HELLO: u8 = 6;
/// Kind 7.
pub const ANSWER: u8 = 7;
/// Kind 9.
pub const PING: u8 = 9;
/// Kind 10.
pub const PONG: u8 = 10;
/// Kind 11.
pub const GOODBYE: u8 = 11;
/// Kind 12.
pub const LAGGED: u8 = 12;
/// Kind 13.
pub const CREDIT: u8 = 13;

/// Request 4.
pub const GET_BLOCK_HEIGHT: u32 = 4;
/// Request 6.
pub const SUBSCRIBE_EVENTS: u32 = 6;
/// Request 10.
pub const GET_CHAIN_INFO: u32 = 10;
/// Request 11.
pub const GET_BLOCK_BY_HEIGHT: u32 = 11;

/// A frame: length, then payload.
#[must_use]
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap();
    [&len.to_le_bytes(), payload].concat()
}

/// A frame of the plain profile.
#[must_use]
pub fn plain(tag: u32, body: &[u8]) -> Vec<u8> {
    frame(&[&tag.to_le_bytes(), body].concat())
}

/// A frame with an id: of the profile x1, or of a kind that has one in both.
#[must_use]
pub fn with_id(tag: u32, id: u64, body: &[u8]) -> Vec<u8> {
    plain(tag, &[&id.to_le_bytes(), body].concat())
}

/// A Request.
#[must_use]
pub fn request(id: u64, number: u32, fields: &[u8]) -> Vec<u8> {
    let number = number.to_le_bytes();
    with_id(u32::from(REQUEST), id, &[&number, &number, fields].concat())
}

/// The fields of a subscription.
#[must_use]
pub fn event_types(topics: &[u32]) -> Vec<u8> {
    let mut out = (topics.len() as u64).to_le_bytes().to_vec();
    out.extend(topics.iter().flat_map(|topic| topic.to_le_bytes()));
    out
}

/// A string or byte string.
#[must_use]
pub fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

/// A Hello as the seed has it.
#[must_use]
pub fn seed_hello(module_id: impl AsRef<[u8]>) -> Vec<u8> {
    plain(u32::from(HELLO), &seed_fields(module_id))
}

/// A Hello with a token (perhaps empty) that offers x1.
#[must_use]
pub fn x1_hello(module_id: impl AsRef<[u8]>, token: &[u8]) -> Vec<u8> {
    hello_with_records(module_id, 1, token, &[(1, 0, &[])])
}

/// A Hello with a tail: protocol, token, and records of id, flags and value.
#[must_use]
pub fn hello_with_records(
    module_id: impl AsRef<[u8]>,
    protocol: u32,
    token: &[u8],
    records: &[(u16, u16, &[u8])],
) -> Vec<u8> {
    let mut body = seed_fields(module_id);
    body.extend(protocol.to_le_bytes());
    body.extend(string(token));
    body.extend((records.len() as u32).to_le_bytes());
    for (id, flags, value) in records {
        body.extend([id.to_le_bytes(), flags.to_le_bytes()].concat());
        body.extend((value.len() as u32).to_le_bytes());
        body.extend(*value);
    }
    plain(u32::from(HELLO), &body)
}

fn seed_fields(module_id: impl AsRef<[u8]>) -> Vec<u8> {
    let no_capabilities = 0u64.to_le_bytes();
    [string(module_id), no_capabilities.to_vec(), string("1.0")].concat()
}
