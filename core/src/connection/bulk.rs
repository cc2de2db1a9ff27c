//! Bodies that travel in fragments, in both directions (PROTOCOL.md, section 7).

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use super::{About, Connection, Event};
use crate::dialect::Dialect;
use crate::envelope::{Head, Profile};
use crate::kind::{Kind, Role};
use crate::machine::{Command, FRAGMENT_BYTES_MAX, FRAGMENT_BYTES_MIN, Input, Peer};
use crate::outbox::Body;
use crate::session::BodyId;
use crate::step::Cause;

/// How long our fragments are, in bytes: the time that one takes is what a Ping waits.
const FRAGMENT_BYTES: usize = 128 << 10;
const _: () =
    assert!(FRAGMENT_BYTES as u64 >= FRAGMENT_BYTES_MIN && FRAGMENT_BYTES as u64 <= FRAGMENT_BYTES_MAX);

/// As long as fewer bytes wait for the transport, another fragment is added.
const OUTBOX_LOW: usize = FRAGMENT_BYTES;

#[derive(Clone, Debug, Default)]
pub(super) struct Bulk {
    /// Bodies that have begun: a fragment of each in turn.
    outgoing: VecDeque<Outgoing>,
    /// Answers that wait for credit, in order: a long one is not starved by shorter ones, and nobody looks behind the first.
    waiting: VecDeque<Outgoing>,
    assemblies: BTreeMap<BodyId, Assembly>,
    /// The fragment whose bytes come next.
    streaming: Option<Streaming>,
}

/// A body on its way out.
#[derive(Clone, Debug)]
struct Outgoing {
    kind: Kind,
    id: u64,
    head: Bytes,
    tail: Bytes,
    at: usize,
}

impl Outgoing {
    fn total(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// The next `n` bytes, in two parts.
    fn part(&self, n: usize) -> (Bytes, Bytes) {
        let cut = self.head.len();
        let (from, to) = (self.at, self.at + n);
        (self.head.slice(from.min(cut)..to.min(cut)), self.tail.slice(from.max(cut) - cut..to.max(cut) - cut))
    }
}

/// A body on its way in.
#[derive(Clone, Debug)]
struct Assembly {
    /// As long as the whole body; empty if nobody wants it.
    buf: Vec<u8>,
    at: usize,
    /// What the first fragment's header said; its body is filled in at the end.
    call: Option<super::recv::CallHead>,
}

#[derive(Clone, Copy, Debug)]
struct Streaming {
    body: BodyId,
    left: usize,
    more: bool,
    lent: bool,
}

/// A reassembly buffer that the driver reads into directly.
#[derive(Debug)]
pub struct BulkBuf {
    buf: Vec<u8>,
    at: usize,
    end: usize,
}

impl BulkBuf {
    /// Where to read to; not empty.
    pub fn space(&mut self) -> &mut [u8] {
        self.buf.get_mut(self.at..self.end).unwrap_or_default()
    }
}

/// It is worth a lent buffer only if this much is still to come.
const LEND_FROM: usize = 4 << 10;

impl<R: Role, D: Dialect> Connection<R, D> {
    // ---- out ----

    pub(super) fn is_bulk(&self, bytes: u64) -> bool {
        self.machine.session().is_some_and(|session| session.is_bulk(bytes))
    }

    /// Sends the first fragment of a call, for which the machine has spent credit, so that ids leave in order.
    pub(super) fn begin_bulk_call(&mut self, now: u64, head: &Head<'_>, body: Body<'_>) {
        self.send_fragment(now, outgoing(head.kind, head.id, body), head);
    }

    pub(super) fn queue_bulk_answer(&mut self, id: u64, body: Body<'_>) {
        self.bulk.waiting.push_back(outgoing(R::SERVE_ANSWER, id, body));
    }

    /// Whether a fragment could go out.
    pub(super) fn bulk_ready(&self) -> bool {
        !self.bulk.outgoing.is_empty() || self.waiting_with_credit().is_some()
    }

    /// The length of the next answer to begin, if there is credit for it.
    fn waiting_with_credit(&self) -> Option<u64> {
        let total = self.bulk.waiting.front()?.total() as u64;
        self.machine.session()?.has_credit(total).then_some(total)
    }

    /// Moves fragments to the outbox as long as it runs low.
    pub(super) fn pump_bulk(&mut self, now: u64) {
        while self.outbox.len() < OUTBOX_LOW {
            let begins = self.waiting_with_credit();
            let queue = if begins.is_some() { &mut self.bulk.waiting } else { &mut self.bulk.outgoing };
            let Some(body) = queue.pop_front() else { return };
            if let Some(total) = begins {
                let about = About::sent(body.kind, body.id, body.total());
                // Not refused: there is credit.
                let _ = self.command(now, about, Command::SendBulk { total });
            }
            let head = Head::new(body.kind, body.id);
            self.send_fragment(now, body, &head);
        }
    }

    fn send_fragment(&mut self, now: u64, mut body: Outgoing, head: &Head<'_>) {
        let left = body.total() - body.at;
        let n = left.min(FRAGMENT_BYTES);
        let total = if body.at == 0 { Some(body.total() as u64) } else { None };
        let (first, second) = body.part(n);
        body.at += n;
        self.send(&Head { total, more: n < left, ..*head }, &Body { head: &first, tail: second });
        if n < left {
            self.bulk.outgoing.push_back(body);
        } else {
            let _ = self.command(now, About::sent(body.kind, body.id, n), Command::BulkSent);
        }
    }

    // ---- in ----

    /// If the next bytes belong to a bulk body, its buffer to read into. Give it back with [`Connection::recv_bulk`] before
    /// any other input; [`Connection::recv`] may follow with what was read beyond it.
    pub fn take_bulk(&mut self) -> Option<BulkBuf> {
        let streaming = self
            .bulk
            .streaming
            .as_mut()
            .filter(|streaming| streaming.left >= LEND_FROM && !streaming.lent)?;
        let assembly =
            self.bulk.assemblies.get_mut(&streaming.body).filter(|assembly| !assembly.buf.is_empty())?;
        streaming.lent = true;
        let buf = core::mem::take(&mut assembly.buf);
        Some(BulkBuf { buf, at: assembly.at, end: assembly.at + streaming.left })
    }

    /// `n` bytes were read into the buffer.
    pub fn recv_bulk(&mut self, now: u64, buf: BulkBuf, n: usize) {
        let Some(streaming) = self.bulk.streaming.as_mut().filter(|streaming| streaming.lent) else { return };
        let n = n.min(streaming.left);
        streaming.lent = false;
        streaming.left -= n;
        if let Some(assembly) = self.bulk.assemblies.get_mut(&streaming.body) {
            assembly.buf = buf.buf;
            assembly.at += n;
        }
        self.end_fragment(now);
    }

    /// Whether the next bytes are a fragment's.
    pub(super) fn is_streaming(&self) -> bool {
        self.bulk.streaming.is_some()
    }

    /// Takes bytes of the present fragment; returns the rest.
    pub(super) fn stream<'a>(&mut self, now: u64, bytes: &'a [u8]) -> &'a [u8] {
        let Some(streaming) = &mut self.bulk.streaming else { return bytes };
        let (now_bytes, rest) = bytes.split_at(streaming.left.min(bytes.len()));
        streaming.left -= now_bytes.len();
        if let Some(assembly) = self.bulk.assemblies.get_mut(&streaming.body) {
            if let Some(space) = assembly.buf.get_mut(assembly.at..assembly.at + now_bytes.len()) {
                space.copy_from_slice(now_bytes);
            }
            assembly.at += now_bytes.len();
        }
        self.end_fragment(now);
        rest
    }

    /// Whether a frame with this header is a fragment.
    pub(super) fn fragment_of(&self, head: &Head<'_>) -> Option<BodyId> {
        if self.profile == Profile::Plain || !head.kind.is_call_or_answer() {
            return None;
        }
        let body = BodyId { answer: head.kind == R::CALL_ANSWER, id: head.id };
        let known = self.machine.session().is_some_and(|session| session.incoming.contains_key(&body));
        (head.total.is_some() || head.more || known).then_some(body)
    }

    /// A fragment's header is there; its `len` bytes follow.
    pub(super) fn begin_fragment(&mut self, now: u64, head: &Head<'_>, body: BodyId, len: usize) {
        let about = About::new(Cause::Received(head.kind as u8), head.id, len);
        let (more, deadline_us) = (head.more, head.deadline_us);
        let peer = match head.total {
            Some(total) => Peer::BulkFirst { body, deadline_us, total, len: len as u64, more },
            None => Peer::BulkNext { body, len: len as u64, more },
        };
        let _ = self.run(now, about, Input::Peer(peer), None, Bytes::new());
        if self.closed().is_some() {
            return;
        }
        if let Some(total) = head.total {
            let wanted =
                !body.answer || self.machine.session().is_some_and(|session| session.awaits(body.id));
            let total = if wanted { usize::try_from(total).unwrap_or(0) } else { 0 };
            let deadline_max = self.machine.config().limits.call_deadline_us_max;
            let call = (!body.answer).then(|| super::recv::CallHead::new(now, head, deadline_max));
            self.bulk.assemblies.insert(body, Assembly { buf: vec![0; total], at: 0, call });
        }
        self.bulk.streaming = Some(Streaming { body, left: len, more, lent: false });
    }

    fn end_fragment(&mut self, now: u64) {
        let Some(Streaming { body, left: 0, more, .. }) = self.bulk.streaming else { return };
        self.bulk.streaming = None;
        if more {
            return;
        }
        let Some(assembly) = self.bulk.assemblies.remove(&body) else { return };
        let bytes = Bytes::from(assembly.buf);
        match assembly.call {
            None => self.recv_answer(now, body.id, bytes),
            Some(head) => self.recv_call_complete(now, body.id, head, bytes),
        }
    }

    pub(super) fn recv_answer(&mut self, now: u64, id: u64, body: Bytes) {
        let about = About::new(Cause::Received(R::CALL_ANSWER as u8), id, body.len());
        let _ = self.run(now, about, Input::Peer(Peer::Answer { id }), None, body);
    }

    fn recv_call_complete(&mut self, now: u64, id: u64, head: super::recv::CallHead, body: Bytes) {
        let about = About::new(Cause::Received(R::SERVE as u8), id, body.len());
        let meaning = self.dialect.classify(R::SERVE, &body);
        let peer = Peer::CallComplete { id, needs: meaning.needs, congested: self.is_congested() };
        let event: Event = head.into_event(id, meaning, body);
        let _ = self.run(now, about, Input::Peer(peer), Some(event), Bytes::new());
    }
}

fn outgoing(kind: Kind, id: u64, body: Body<'_>) -> Outgoing {
    Outgoing { kind, id, head: Bytes::copy_from_slice(body.head), tail: body.tail, at: 0 }
}
