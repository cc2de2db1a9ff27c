//! What is asked and answered, and how the answers are checked: the same bytes for every variant.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

/// Bytes of a lookup's answer: a block header.
pub(crate) const HEADER_BYTES: usize = 80;

/// Bytes of a block.
pub(crate) const BLOCK_BYTES: usize = 1 << 20;

/// Bytes of an event's body.
pub(crate) const EVENT_BYTES: usize = 100;

/// What fills an event behind its number.
pub(crate) const FILLER: u8 = 0x5a;

/// An answer, or an event, that is not what it has to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Wrong {
    #[error("the answer to lookup {asked} is another lookup's or damaged")]
    Answer { asked: u64 },
    #[error("there is no answer to request {asked}")]
    Missing { asked: u64 },
    #[error("a block of {BLOCK_BYTES} bytes was expected, and {bytes} came")]
    BlockLength { bytes: usize },
    #[error("byte {at} of the block is wrong")]
    BlockByte { at: usize },
    #[error("event {expected} was expected, and {came} came: lost or out of order")]
    Event { expected: u64, came: u64 },
    #[error("an event is damaged, or there is a notice of events that were lost: {what}")]
    EventContent { what: String },
    #[error("the events ended: {why}")]
    EventsEnded { why: String },
}

/// The hash of request `n`: `n`, then 24 bytes that are made from it.
pub(crate) fn hash(n: u64) -> [u8; 32] {
    let mut hash = [0; 32];
    let mut word = n;
    for part in hash.as_chunks_mut::<8>().0 {
        *part = word.to_le_bytes();
        word = (word ^ (word >> 31)).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xd6e8_feb8_6659_fd93);
    }
    hash
}

/// The number in a hash.
pub(crate) fn number(hash: &[u8; 32]) -> u64 {
    hash.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The server's work for a lookup: hash and number, twice.
pub(crate) fn header(hash: &[u8; 32]) -> [u8; HEADER_BYTES] {
    let number = number(hash).to_le_bytes();
    let mut header = [0; HEADER_BYTES];
    for (to, from) in header.chunks_exact_mut(HEADER_BYTES / 2).zip([hash, hash]) {
        let (head, tail) = to.split_at_mut(hash.len());
        head.copy_from_slice(from);
        tail.copy_from_slice(&number);
    }
    header
}

/// Whether the header answers lookup `n`.
pub(crate) fn check_header(n: u64, header: &[u8]) -> Result<(), Wrong> {
    let came = header.get(HEADER_BYTES - 8..).and_then(|bytes| bytes.first_chunk::<8>());
    match came {
        Some(bytes) if u64::from_le_bytes(*bytes) == n && header.len() == HEADER_BYTES => Ok(()),
        Some(_) | None => Err(Wrong::Answer { asked: n }),
    }
}

fn block_byte(at: usize) -> u8 {
    (at as u32).wrapping_mul(2_654_435_761) as u8
}

/// The block that is served under every hash.
pub(crate) fn block() -> Bytes {
    (0..BLOCK_BYTES).map(block_byte).collect()
}

/// Whether this is the block: its length and four bytes.
pub(crate) fn check_block(block: &[u8]) -> Result<(), Wrong> {
    if block.len() != BLOCK_BYTES {
        return Err(Wrong::BlockLength { bytes: block.len() });
    }
    for at in [0, 4097, BLOCK_BYTES / 2 + 1, BLOCK_BYTES - 1] {
        if block.get(at) != Some(&block_byte(at)) {
            return Err(Wrong::BlockByte { at });
        }
    }
    Ok(())
}

/// Counts the events of one subscriber and insists on order without gaps.
#[derive(Debug)]
pub(crate) struct EventSink {
    next: u64,
    /// Only this sink writes it.
    count: Arc<AtomicU64>,
}

impl EventSink {
    pub(crate) fn new(count: Arc<AtomicU64>) -> Self {
        EventSink { next: 0, count }
    }

    /// The next event has this number.
    pub(crate) fn got(&mut self, came: u64) -> Result<(), Wrong> {
        if came != self.next {
            return Err(Wrong::Event { expected: self.next, came });
        }
        self.next += 1;
        self.count.store(self.next, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_fits_one_request_only() {
        for n in [0, 1, 255, u64::MAX, 7 << 40] {
            let answer = header(&hash(n));
            assert!(check_header(n, &answer).is_ok());
            assert!(check_header(n.wrapping_add(1), &answer).is_err());
            assert!(check_header(n, &answer[..79]).is_err());
        }
        assert_ne!(hash(1)[8..], hash(2)[8..]);
    }

    #[test]
    fn a_damaged_block_is_noticed() {
        let block = block();
        assert!(check_block(&block).is_ok());
        assert!(check_block(&block[1..]).is_err());
        let mut damaged = block.to_vec();
        damaged[BLOCK_BYTES - 1] ^= 1;
        assert!(check_block(&damaged).is_err());
    }

    #[test]
    fn a_lost_event_is_noticed() {
        let count = Arc::new(AtomicU64::new(0));
        let mut sink = EventSink::new(Arc::clone(&count));
        assert!(sink.got(0).is_ok() && sink.got(1).is_ok());
        assert!(sink.got(3).is_err() && sink.got(1).is_err());
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }
}
