//! Bytes in: frames are cut out of the stream and handed to the machine.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use super::{About, CallId, Connection, Event, ServedCall, SubscribeOptions, Subscription};
use crate::dialect::{CallClass, Dialect, Meaning};
use crate::envelope::{
    Head, Headed, IdempotencyKey, Profile, RECORD_OVERFLOW, RECORD_RESUME, Records, TraceContext,
};
use crate::error::Violation;
use crate::event_log::Overflow;
use crate::hello::{Answer, Hello, read_names};
use crate::kind::{Kind, Role};
use crate::limits::Limits;
use crate::machine::{Input, Offer, Peer};
use crate::session::BodyId;
use crate::step::Cause;
use crate::wire::Reader;

/// The part of a frame that has arrived, if the stream stopped inside one. It grows with what arrives [F-3].
#[derive(Clone, Debug, Default)]
pub(super) struct Inbound {
    partial: Vec<u8>,
    skipping: Option<Skipping>,
}

/// A long extension frame that is not kept while it arrives.
#[derive(Clone, Copy, Debug)]
struct Skipping {
    kind: u8,
    len: usize,
    left: usize,
}

#[cfg(test)]
impl Inbound {
    pub(super) fn capacity(&self) -> usize {
        self.partial.capacity()
    }
}

/// How much of a frame is added at a time while its header is not complete.
const HEAD_STEP: usize = 256;

/// What the header of a call says beyond its id.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallHead {
    deadline: Option<u64>,
    trace: Option<TraceContext>,
    idempotency: Option<IdempotencyKey>,
    subscribe: SubscribeOptions,
}

impl<R: Role, D: Dialect> Connection<R, D> {
    /// Bytes arrived.
    pub fn recv(&mut self, now: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.closed().is_none() {
            bytes = if self.is_streaming() {
                self.stream(now, bytes)
            } else if let Some(skipping) = self.inbound.skipping {
                self.skip(now, skipping, bytes)
            } else if self.inbound.partial.is_empty() {
                self.recv_fresh(now, bytes)
            } else {
                self.recv_more(now, bytes)
            };
        }
    }

    /// The stream ended.
    pub fn recv_eof(&mut self, now: u64) {
        if self.is_streaming() || self.inbound.skipping.is_some() || !self.inbound.partial.is_empty() {
            return self.fault(now, Violation::Truncated);
        }
        let _ = self.run(now, About::new(Cause::Stream, 0, 0), Input::Peer(Peer::Eof), None, Bytes::new());
    }

    /// The transport failed.
    pub fn recv_failure(&mut self, now: u64) {
        let _ =
            self.run(now, About::new(Cause::Stream, 0, 0), Input::Peer(Peer::Failure), None, Bytes::new());
    }

    /// Bytes at the start of a frame. Whole frames are taken where they lie.
    fn recv_fresh<'a>(&mut self, now: u64, bytes: &'a [u8]) -> &'a [u8] {
        let Some((prefix, rest)) = bytes.split_first_chunk::<4>() else {
            self.inbound.partial.extend_from_slice(bytes);
            return &[];
        };
        let Some(len) = self.check_len(now, *prefix) else { return &[] };
        if let Some((payload, rest)) = rest.split_at_checked(len) {
            self.recv_payload(now, payload, None);
            return rest;
        }
        match self.try_stream(now, rest, len) {
            Some(used) => rest.get(used..).unwrap_or_default(),
            None => {
                self.inbound.partial.extend_from_slice(bytes);
                &[]
            }
        }
    }

    /// More bytes of a frame that has begun.
    fn recv_more<'a>(&mut self, now: u64, bytes: &'a [u8]) -> &'a [u8] {
        let have = self.inbound.partial.len();
        let Some(prefix) = self.inbound.partial.first_chunk::<4>().copied() else {
            let (used, rest) = bytes.split_at((4 - have).min(bytes.len()));
            self.inbound.partial.extend_from_slice(used);
            // A bad length is a violation as soon as its four bytes are there [F-2].
            if let Some(prefix) = self.inbound.partial.first_chunk::<4>().copied() {
                self.check_len(now, prefix);
            }
            return rest;
        };
        let Some(len) = self.check_len(now, prefix) else { return &[] };
        let need = 4 + len - have;
        // A fragment's body goes straight to its buffer: do not collect more than its header.
        let step = if self.may_be_fragment(len) { need.min(HEAD_STEP) } else { need };
        let (used, rest) = bytes.split_at(step.min(bytes.len()));
        self.inbound.partial.extend_from_slice(used);
        if used.len() == need {
            let frame = Bytes::from(core::mem::take(&mut self.inbound.partial));
            self.recv_payload(now, frame.get(4..).unwrap_or_default(), Some(&frame));
        } else if self.may_be_fragment(len) {
            let partial = core::mem::take(&mut self.inbound.partial);
            let payload = partial.get(4..).unwrap_or_default();
            match self.try_stream(now, payload, len) {
                Some(used) => {
                    let body = payload.get(used..).unwrap_or_default();
                    self.stream(now, body);
                }
                None => self.inbound.partial = partial,
            }
        }
        rest
    }

    fn check_len(&mut self, now: u64, prefix: [u8; 4]) -> Option<usize> {
        let len = self.dialect.frame_len(prefix);
        let open = self.phase().is_open();
        let max =
            if open { self.machine.config().limits.frame_bytes_max } else { Limits::FIRST_FRAME_BYTES_MAX };
        if len < 4 {
            self.fault(now, Violation::FrameTooShort);
        } else if len > max {
            self.fault(now, Violation::FrameTooLong);
        } else {
            return usize::try_from(len).ok();
        }
        None
    }

    fn may_be_fragment(&self, len: usize) -> bool {
        self.profile == Profile::X1 && len > self.machine.config().limits.inline_bytes_max as usize
    }

    /// If the incomplete payload need not be collected, because it is a fragment's or nobody's, begins it and says how many of its
    /// bytes are dealt with.
    fn try_stream(&mut self, now: u64, payload: &[u8], len: usize) -> Option<usize> {
        if !self.may_be_fragment(len) {
            return None;
        }
        match self.dialect.clone().decode_head(self.profile, payload, len as u32) {
            Ok(Headed::Incomplete) => None,
            Ok(Headed::Skip { kind }) => {
                self.inbound.skipping = Some(Skipping { kind, len, left: len - payload.len() });
                Some(payload.len())
            }
            Ok(Headed::Frame { head, len: head_len }) => match self.check_head(&head, len - head_len) {
                Ok(Some(body)) => {
                    self.begin_fragment(now, &head, body, len - head_len);
                    Some(head_len)
                }
                Ok(None) => None,
                Err(violation) => {
                    self.fault(now, violation);
                    Some(payload.len())
                }
            },
            Err(violation) => {
                self.fault(now, violation);
                Some(payload.len())
            }
        }
    }

    /// Passes over bytes of an extension frame; returns the rest.
    fn skip<'a>(&mut self, now: u64, mut skipping: Skipping, bytes: &'a [u8]) -> &'a [u8] {
        let (passed, rest) = bytes.split_at(skipping.left.min(bytes.len()));
        skipping.left -= passed.len();
        self.inbound.skipping = (skipping.left > 0).then_some(skipping);
        if skipping.left == 0 {
            self.skipped(now, skipping.kind, skipping.len);
        }
        rest
    }

    /// A whole extension frame was passed over [E-3].
    fn skipped(&mut self, now: u64, kind: u8, len: usize) {
        self.extensions += 1;
        let about = About::new(Cause::Received(kind), 0, len);
        let _ = self.run(now, about, Input::Peer(Peer::Extension), None, Bytes::new());
    }

    /// What a frame's header says by itself, whether its body is there or not: the bulk body that it is a fragment of, if it is one.
    fn check_head(&self, head: &Head<'_>, body_len: usize) -> Result<Option<BodyId>, Violation> {
        if R::RECEIVES & head.kind.bit() == 0 {
            return Err(Violation::WrongDirection);
        }
        if head.kind == Kind::Request && subscribe_options(head.records).is_none() {
            return Err(Violation::BadField);
        }
        if let Some(body) = self.fragment_of(head) {
            let bare = Head { more: head.more, ..Head::new(head.kind, head.id) };
            return if head.total.is_some() || *head == bare {
                Ok(Some(body))
            } else {
                Err(Violation::BadFlags)
            };
        }
        let inline = self.machine.config().limits.inline_bytes_max as usize;
        if self.profile == Profile::X1 && body_len > inline { Err(Violation::NotBulk) } else { Ok(None) }
    }

    /// A whole payload. `owner` is the buffer that it lies in, if it can be shared.
    fn recv_payload(&mut self, now: u64, payload: &[u8], owner: Option<&Bytes>) {
        match self.dialect.clone().decode_head(self.profile, payload, payload.len() as u32) {
            Ok(Headed::Frame { head, len }) => {
                let body = payload.get(len..).unwrap_or_default();
                self.recv_frame(now, &head, body, owner);
            }
            Ok(Headed::Skip { kind }) => self.skipped(now, kind, payload.len()),
            Ok(Headed::Incomplete) => self.fault(now, Violation::FrameTooShort),
            Err(violation) => self.fault(now, violation),
        }
    }

    fn recv_frame(&mut self, now: u64, head: &Head<'_>, body: &[u8], owner: Option<&Bytes>) {
        match self.check_head(head, body.len()) {
            Ok(None) => {}
            Ok(Some(id)) => {
                self.begin_fragment(now, head, id, body.len());
                self.stream(now, body);
                return;
            }
            Err(violation) => return self.fault(now, violation),
        }
        if head.kind == R::CALL_ANSWER {
            return self.recv_answer(now, head.id, share(body, owner));
        }
        let about = About::new(Cause::Received(head.kind as u8), head.id, body.len());
        match self.read_frame(now, head, body, owner) {
            Some((peer, event)) => {
                let _ = self.run(now, about, Input::Peer(peer), event, Bytes::new());
            }
            None => {
                let violation = match head.kind {
                    Kind::Hello => Violation::MalformedHello,
                    Kind::Answer => Violation::MalformedAnswer,
                    Kind::Request
                    | Kind::Response
                    | Kind::Event
                    | Kind::Log
                    | Kind::Invocation
                    | Kind::InvocationResult
                    | Kind::Cancel
                    | Kind::Ping
                    | Kind::Pong
                    | Kind::Goodbye
                    | Kind::Lagged
                    | Kind::Credit
                    | Kind::Progress
                    | Kind::GrantsChanged => Violation::MalformedControl,
                };
                self.fault(now, violation);
            }
        }
    }

    /// What a frame is to the machine, and the event that it stands for; `None` if its body cannot be read.
    fn read_frame(
        &mut self,
        now: u64,
        head: &Head<'_>,
        body: &[u8],
        owner: Option<&Bytes>,
    ) -> Option<(Peer, Option<Event>)> {
        let mut reader = Reader::new(body);
        let id = head.id;
        let read = match head.kind {
            Kind::Request | Kind::Invocation => {
                let meaning = self.dialect.classify(head.kind, body);
                let deadline_max = self.machine.config().limits.call_deadline_us_max;
                let event =
                    CallHead::new(now, head, deadline_max).into_event(id, meaning, share(body, owner));
                let congested = self.is_congested();
                let (needs, deadline_us, bytes) = (meaning.needs, head.deadline_us, body.len() as u64);
                return Some((Peer::Call { id, deadline_us, bytes, needs, congested }, Some(event)));
            }
            // Its body goes to the call and not into an event: `recv_frame` takes it before.
            Kind::Response | Kind::InvocationResult => (Peer::Answer { id }, None),
            Kind::Event => {
                let event =
                    Event::Event { position: id, prev: head.prev.unwrap_or(0), body: share(body, owner) };
                return Some((Peer::Event { position: id }, Some(event)));
            }
            Kind::Log => {
                let event =
                    Event::Log { body: share(body, owner), records: Bytes::copy_from_slice(head.records) };
                return Some((Peer::Log, Some(event)));
            }
            Kind::Hello => {
                let hello = Hello::decode(body)?;
                let tail = hello.tail.as_ref();
                let limits = tail.and_then(|tail| tail.limits).unwrap_or(Limits::DEFAULT);
                let offer = Offer { x1: tail.is_some_and(|tail| tail.x1), limits };
                return Some((Peer::Hello(offer), Some(Event::Hello(hello))));
            }
            Kind::Answer => {
                return Some(match Answer::decode(body)? {
                    Answer::Accepted(accepted) => {
                        let peer = Peer::Accepts { x1: accepted.x1, limits: accepted.limits };
                        (peer, Some(Event::Accepted(accepted)))
                    }
                    Answer::Refused(refusal) => (Peer::Refuses(refusal.code), Some(Event::Refused(refusal))),
                });
            }
            Kind::Cancel => (Peer::Cancel { id }, None),
            Kind::Ping => (Peer::Ping { nonce: id }, None),
            Kind::Pong => (Peer::Pong { nonce: id }, None),
            Kind::Goodbye => {
                let (reason, resume) = (reader.u32()?, reader.u64()?);
                let detail = String::from(reader.string(DETAIL_BYTES_MAX)?);
                let event = Event::Draining { by: crate::Initiator::Peer, reason, resume, detail };
                (Peer::Goodbye { reason }, Some(event))
            }
            Kind::Lagged => (Peer::Lagged, Some(Event::Lagged { first: reader.u64()?, last: reader.u64()? })),
            Kind::Credit => (Peer::Credit { limit: reader.u64()? }, None),
            Kind::Progress => {
                let (done, total) = (reader.u64()?, reader.u64()?);
                let event = self.key_of(id).map(|key| Event::Progress { key, done, total });
                (Peer::Progress { id }, event)
            }
            Kind::GrantsChanged => (Peer::Grants, Some(Event::GrantsChanged(read_names(&mut reader)?))),
        };
        reader.is_empty().then_some(read)
    }

    fn key_of(&self, id: u64) -> Option<u64> {
        match self.machine.session()?.calls.get(id)? {
            crate::session::Call::Pending { key, .. } => Some(key.user),
            crate::session::Call::Abandoned => None,
        }
    }

    /// Whether so much waits for the transport that a further call is answered Busy [C-3].
    pub(super) fn is_congested(&self) -> bool {
        self.outbox.len() > self.machine.config().outbox_bytes_max as usize
    }
}

const DETAIL_BYTES_MAX: usize = 4096;

impl CallHead {
    /// A peer may name any deadline; the call expires with the longest that it was told it may.
    pub(super) fn new(now: u64, head: &Head<'_>, deadline_us_max: u64) -> CallHead {
        CallHead {
            deadline: head.deadline_us.map(|us| now.saturating_add(us.min(deadline_us_max))),
            trace: head.trace,
            idempotency: head.idempotency,
            subscribe: subscribe_options(head.records).unwrap_or_default(),
        }
    }

    pub(super) fn into_event(self, id: u64, meaning: Meaning, body: Bytes) -> Event {
        let CallHead { deadline, trace, idempotency, subscribe } = self;
        let call = ServedCall { id: CallId(id), deadline, trace, idempotency, body };
        match meaning.class {
            CallClass::Ordinary => Event::Call(call),
            CallClass::Subscribe(topics) => {
                Event::Subscribe(call, Subscription::Replace { topics, options: subscribe })
            }
            CallClass::Unsubscribe(topics) => Event::Subscribe(call, Subscription::Remove { topics }),
        }
    }
}

/// What a call's records say about the subscription that it asks for; `None` if they do not fit.
fn subscribe_options(records: &[u8]) -> Option<SubscribeOptions> {
    let mut options = SubscribeOptions::default();
    for (key, value) in Records::new(records) {
        match (key, value) {
            (RECORD_RESUME, value) => options.resume = Some(u64::from_le_bytes(value.try_into().ok()?)),
            (RECORD_OVERFLOW, [policy]) => options.overflow = Overflow::from_u8(*policy)?,
            (RECORD_OVERFLOW, _) => return None,
            (_, _) => {}
        }
    }
    Some(options)
}

/// The body as shared bytes: a slice of its owner if there is one and copying would cost, else a copy.
fn share(body: &[u8], owner: Option<&Bytes>) -> Bytes {
    match owner {
        Some(owner) if body.len() > 1024 => owner.slice_ref(body),
        Some(_) | None => Bytes::copy_from_slice(body),
    }
}
