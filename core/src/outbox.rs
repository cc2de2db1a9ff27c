//! What waits for the transport: whole frames in one order.

use alloc::vec::Vec;

use bytes::Bytes;

/// Shared bytes shorter than this are copied: that is cheaper than a segment of their own.
const SHARE_FROM: usize = 8 << 10;

/// A spare buffer is kept if it is at most this long, or if the batch filled a good part of it: a busy connection does not
/// allocate, an idle one holds next to nothing.
const SPARE_BYTES: usize = 1 << 10;

/// A list of segments is kept if it is at most this long.
const SPARE_SEGMENTS: usize = 8;

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
#[derive(Clone, Debug, Default)]
pub struct Batch {
    segments: Vec<Segment>,
    /// Segments that are written whole.
    done: usize,
    /// Bytes of the next one that are written.
    offset: usize,
    left: usize,
}

#[derive(Clone, Debug)]
enum Segment {
    Own(Vec<u8>),
    Shared(Bytes),
}

impl Segment {
    fn bytes(&self) -> &[u8] {
        match self {
            Segment::Own(bytes) => bytes,
            Segment::Shared(bytes) => bytes,
        }
    }
}

impl Batch {
    /// The bytes that are not written yet, as slices in order; none is empty.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let rest = self.segments.get(self.done..).unwrap_or_default();
        rest.iter().enumerate().map(|(i, segment)| {
            let skip = if i == 0 { self.offset } else { 0 };
            segment.bytes().get(skip..).unwrap_or_default()
        })
    }

    /// Bytes that are not written yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.left
    }

    /// Whether everything is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Notes that `n` bytes were written. More than [`Batch::len`] counts as all.
    pub fn advance(&mut self, n: usize) {
        let mut n = n.min(self.left);
        self.left -= n;
        while let Some(segment) = self.segments.get(self.done) {
            let rest = segment.bytes().len() - self.offset;
            if n < rest {
                self.offset += n;
                return;
            }
            n -= rest;
            self.offset = 0;
            self.done += 1;
        }
    }
}

/// One FIFO of whole frames. More lanes would let an unsubscribe's answer be overtaken by events.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    sealed: Vec<Segment>,
    tail: Vec<u8>,
    /// Bytes in `sealed` and `tail`.
    waiting: usize,
    /// Bytes in the batch that is out.
    out: Option<usize>,
    /// All bytes that ever entered, and that were ever taken: what lies below `taken` may have been seen by the peer.
    entered: u64,
    taken: u64,
    /// Frames in `sealed` and `tail`, and in the batch that is out, that the peer provoked.
    provoked: usize,
    provoked_out: usize,
    spare: Vec<u8>,
    spare_segments: Vec<Segment>,
}

impl Outbox {
    /// Bytes that the transport has not confirmed.
    pub(crate) fn len(&self) -> usize {
        self.waiting + self.out.unwrap_or(0)
    }

    pub(crate) fn has_batch(&self) -> bool {
        self.waiting > 0 && self.out.is_none()
    }

    pub(crate) fn is_out(&self) -> bool {
        self.out.is_some()
    }

    /// The offset after the last byte that entered.
    pub(crate) fn mark(&self) -> u64 {
        self.entered
    }

    /// Whether any byte of the frame that begins at `mark` may have been seen by the peer.
    pub(crate) fn was_taken(&self, mark: u64) -> bool {
        self.taken > mark
    }

    /// Frames that the peer provoked and that the transport has not confirmed.
    pub(crate) fn provoked(&self) -> usize {
        self.provoked + self.provoked_out
    }

    /// The frame that entered last was provoked by the peer.
    pub(crate) fn note_provoked(&mut self) {
        self.provoked += 1;
    }

    /// Appends a frame: `encode` writes its header (without the length prefix), the body follows. `prefix` makes the prefix from
    /// the payload's length. Returns the payload's length.
    pub(crate) fn push(
        &mut self,
        prefix: impl Fn(u32) -> [u8; 4],
        encode: impl FnOnce(&mut Vec<u8>),
        body: &Body<'_>,
    ) -> u64 {
        let start = self.tail.len();
        self.tail.extend_from_slice(&[0; 4]);
        encode(&mut self.tail);
        let payload = self.tail.len() - start - 4 + body.len();
        let bytes = prefix(payload as u32);
        if let Some(at) = self.tail.get_mut(start..start + 4) {
            at.copy_from_slice(&bytes);
        }
        self.tail.extend_from_slice(body.head);
        if body.tail.len() < SHARE_FROM {
            self.tail.extend_from_slice(&body.tail);
        } else {
            let tail = core::mem::take(&mut self.tail);
            self.sealed.push(Segment::Own(tail));
            self.sealed.push(Segment::Shared(body.tail.clone()));
        }
        self.waiting += payload + 4;
        self.entered += payload as u64 + 4;
        payload as u64
    }

    pub(crate) fn take(&mut self) -> Option<Batch> {
        if !self.has_batch() {
            return None;
        }
        let mut segments = core::mem::replace(&mut self.sealed, core::mem::take(&mut self.spare_segments));
        if !self.tail.is_empty() {
            segments.push(Segment::Own(core::mem::replace(&mut self.tail, core::mem::take(&mut self.spare))));
        }
        let left = core::mem::take(&mut self.waiting);
        self.taken = self.entered;
        self.out = Some(left);
        self.provoked_out = core::mem::take(&mut self.provoked);
        Some(Batch { segments, done: 0, offset: 0, left })
    }

    pub(crate) fn done(&mut self, mut batch: Batch) {
        let bytes = self.out.take().unwrap_or(0);
        self.provoked_out = 0;
        for segment in batch.segments.drain(..) {
            if let Segment::Own(mut buffer) = segment
                && buffer.capacity() <= SPARE_BYTES.max(bytes * 4)
                && buffer.capacity() > self.spare.capacity()
            {
                buffer.clear();
                if self.tail.capacity() == 0 { self.tail = buffer } else { self.spare = buffer }
            }
        }
        if batch.segments.capacity() <= SPARE_SEGMENTS {
            self.spare_segments = batch.segments;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn collect(batch: &Batch) -> Vec<u8> {
        batch.slices().flatten().copied().collect()
    }

    proptest! {
        /// Whatever is pushed leaves in order, through batches that are written in pieces of any size.
        #[test]
        fn bytes_leave_in_order(
            frames in prop::collection::vec((0usize..40, prop_oneof![0usize..100, SHARE_FROM..SHARE_FROM + 100], any::<bool>()), 1..20),
            steps in prop::collection::vec(1usize..9000, 1..8),
        ) {
            let (mut outbox, mut expected, mut got) = (Outbox::default(), Vec::new(), Vec::new());
            let mut steps = steps.iter().cycle();
            for (i, (head, tail, take)) in frames.iter().enumerate() {
                let head = vec![i as u8; *head];
                let body = Body { head: &head, tail: Bytes::from(vec![!(i as u8); *tail]) };
                outbox.push(u32::to_le_bytes, |out| out.push(7), &body);
                expected.extend_from_slice(&(body.len() as u32 + 1).to_le_bytes());
                expected.push(7);
                expected.extend_from_slice(&head);
                expected.extend_from_slice(&body.tail);
                prop_assert_eq!(outbox.len(), expected.len() - got.len());
                if *take && let Some(mut batch) = outbox.take() {
                    prop_assert!(outbox.take().is_none());
                    while !batch.is_empty() {
                        let step = *steps.next().unwrap();
                        let bytes = collect(&batch);
                        prop_assert_eq!(bytes.len(), batch.len());
                        got.extend_from_slice(&bytes[..step.min(bytes.len())]);
                        batch.advance(step);
                    }
                    outbox.done(batch);
                }
            }
            if let Some(batch) = outbox.take() {
                got.extend_from_slice(&collect(&batch));
                outbox.done(batch);
            }
            prop_assert_eq!(outbox.len(), 0);
            prop_assert_eq!(got, expected);
        }
    }

    #[test]
    fn an_idle_connection_keeps_no_large_buffer() {
        let mut outbox = Outbox::default();
        outbox.push(u32::to_le_bytes, |_| {}, &Body::from(&[0; 60_000][..]));
        let mut batch = outbox.take().unwrap();
        batch.advance(usize::MAX);
        outbox.done(batch);
        outbox.push(u32::to_le_bytes, |_| {}, &Body::from(&[0; 10][..]));
        let mut batch = outbox.take().unwrap();
        batch.advance(usize::MAX);
        outbox.done(batch);
        assert!(outbox.tail.capacity() + outbox.spare.capacity() <= 2 * SPARE_BYTES);
    }
}
