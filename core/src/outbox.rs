//! What waits for the transport.

use alloc::vec::Vec;

use bytes::Bytes;

/// A body to send: a head that is copied and a tail that is shared. Either may be empty. Encoders put the small fixed part into
/// the head and a block's bytes into the tail, so that a block is never copied on its way out.
#[derive(Clone, Debug, Default)]
pub struct Body<'a> {
    /// Copied into the outbox.
    pub head: &'a [u8],
    /// Shared if long, copied if short.
    pub tail: Bytes,
}

impl Body<'_> {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a> From<&'a [u8]> for Body<'a> {
    fn from(head: &'a [u8]) -> Self {
        Body { head, tail: Bytes::new() }
    }
}

/// Whole frames on their way to the transport. The driver takes a batch, writes it without holding any lock, and gives it back.
#[derive(Debug, Default)]
pub struct Batch {
    segments: Vec<Bytes>,
}

impl Batch {
    /// The bytes that are not written yet, as slices in order; none is empty.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.segments.iter().map(|s| &s[..])
    }

    /// Bytes that are not written yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.segments.iter().map(|s| s.len()).sum()
    }

    /// Whether everything is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes that `n` bytes were written. More than [`Batch::len`] counts as all.
    pub fn advance(&mut self, n: usize) {
        let _ = n;
        todo!()
    }
}
