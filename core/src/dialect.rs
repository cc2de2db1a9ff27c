//! What a dialect decides: which bytes stand for which frame, and what a call's body means to the machine.
//!
//! Nothing above [`Dialect`] knows which dialect is spoken. Framing and envelope of the native dialect are provided here
//! ([`crate::envelope`]); the meaning of its bodies lives in the crate that defines them.

use alloc::vec::Vec;
use core::fmt::Debug;
use core::hash::Hash;

use crate::envelope::{self, Head, Headed, Profile};
use crate::error::Violation;
use crate::kind::Kind;
use crate::topics::TopicSet;

/// A wire dialect. Pure functions of bytes: a dialect keeps no state of the connection.
pub trait Dialect: Clone + Eq + Hash + Debug + Send + Sync + Unpin + 'static {
    /// The length that a frame's four-byte prefix claims.
    fn frame_len(&self, prefix: [u8; 4]) -> u32 {
        u32::from_le_bytes(prefix)
    }

    /// The prefix for a payload of this length.
    fn frame_prefix(&self, len: u32) -> [u8; 4] {
        len.to_le_bytes()
    }

    /// Reads the header at the start of a payload of which `payload` is there and `payload_len` bytes are claimed.
    ///
    /// # Errors
    /// The violation, as soon as the bytes that are there show it.
    fn decode_head<'a>(
        &self,
        profile: Profile,
        payload: &'a [u8],
        payload_len: u32,
    ) -> Result<Headed<'a>, Violation> {
        envelope::decode_head(profile, payload, payload_len)
    }

    /// Appends the header for a frame, without its length prefix.
    fn encode_head(&self, profile: Profile, head: &Head<'_>, out: &mut Vec<u8>) {
        envelope::encode_head(profile, head, out);
    }

    /// What a call's body means: an ordinary call or one that changes the subscription, and the capabilities that it needs.
    /// Runs for every call that is served, so it looks at fixed offsets and does not allocate. A body that does not decode is
    /// an ordinary call that needs nothing: whoever serves it answers with an error [L-1].
    fn classify(&self, call: Kind, body: &[u8]) -> Meaning;

    /// Appends the body of an answer by which the connection itself refuses a call of kind `call`.
    fn encode_refusal(&self, call: Kind, refusal: CallRefusal, out: &mut Vec<u8>);
}

/// What a call means to the machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Meaning {
    /// Whether it changes the subscription.
    pub class: CallClass,
    /// The capabilities that the caller must hold, as bits that only the dialect interprets.
    pub needs: u64,
}

/// Whether a call changes the subscription.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CallClass {
    /// It does not.
    Ordinary,
    /// It replaces the set of topics [V-2].
    Subscribe(TopicSet),
    /// It removes these topics [V-2]. An unsubscribe that names none removes [`TopicSet::ALL`].
    Unsubscribe(TopicSet),
}

/// Why the connection itself answers a call with an error.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CallRefusal {
    /// Too many calls are open, or their answers are not read [C-3].
    Busy,
    /// These capabilities are missing, as bits of [`Meaning::needs`] [C-6].
    Denied(u64),
}
