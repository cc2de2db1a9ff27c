//! Two real ends and the bytes between them.

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use super::*;
use crate::dialect::{CallClass, Meaning};
use crate::error::Initiator;
use crate::event_log::{EventLog, Overflow};
use crate::hello::{Accepted, Hello};
use crate::kind::{Host, Module};
use crate::topics::TopicSet;

mod bulk;
mod chunks;
mod events;
mod faults;
mod honest;
mod life;
mod pairs;
mod table;
mod vectors;

/// A dialect whose calls say in their first byte what they are: `S` subscribes to the topics that follow, `U` unsubscribes from
/// them, anything else is ordinary; `!` needs capability 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Toy;

impl Dialect for Toy {
    fn classify(&self, _: Kind, body: &[u8]) -> Meaning {
        let topics: TopicSet = body.iter().skip(1).copied().collect();
        match body.first() {
            Some(b'S') => Meaning { class: CallClass::Subscribe(topics), needs: 0 },
            Some(b'U') if topics.is_empty() => {
                Meaning { class: CallClass::Unsubscribe(TopicSet::ALL), needs: 0 }
            }
            Some(b'U') => Meaning { class: CallClass::Unsubscribe(topics), needs: 0 },
            Some(b'!') => Meaning { class: CallClass::Ordinary, needs: 1 },
            Some(_) | None => Meaning { class: CallClass::Ordinary, needs: 0 },
        }
    }

    fn encode_refusal(&self, _: Kind, refusal: CallRefusal, out: &mut Vec<u8>) {
        match refusal {
            CallRefusal::Busy => out.extend_from_slice(b"busy"),
            CallRefusal::Denied(missing) => {
                out.extend_from_slice(b"denied ");
                out.extend_from_slice(missing.to_string().as_bytes());
            }
        }
    }
}

pub(crate) type HostEnd = Connection<Host, Toy>;
pub(crate) type ModuleEnd = Connection<Module, Toy>;

/// A host and a module with bytes between them that move in chunks of `chunk`.
pub(crate) struct Pair {
    pub(crate) host: HostEnd,
    pub(crate) module: ModuleEnd,
    pub(crate) now: u64,
    pub(crate) chunk: usize,
}

pub(crate) fn accepted() -> Accepted {
    Accepted {
        granted: vec!["one".into()],
        limits: Limits::DEFAULT,
        node_version: "test".into(),
        instance_id: [1; 16],
        next_token: vec![],
        x1: false,
    }
}

pub(crate) fn hello() -> Hello {
    Hello { module_id: "m".into(), capabilities: vec!["one".into()], version: "1".into(), tail: None }
}

pub(crate) fn options(deadline_us: u64) -> CallOptions {
    CallOptions { deadline_us, trace: None, idempotency: None, subscribe: None }
}

/// All bytes that an end wants to send.
pub(crate) fn drain<R: Role>(end: &mut Connection<R, Toy>, now: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(mut batch) = end.take_batch(now) {
        bytes.extend(batch.slices().flatten());
        batch.advance(usize::MAX);
        end.batch_done(batch);
    }
    bytes
}

pub(crate) fn events<R: Role>(end: &mut Connection<R, Toy>) -> Vec<Event> {
    core::iter::from_fn(|| end.poll_event()).collect()
}

pub(crate) fn outcomes<R: Role>(end: &mut Connection<R, Toy>) -> Vec<(u64, Outcome)> {
    core::iter::from_fn(|| end.poll_outcome()).collect()
}

fn feed<R: Role>(end: &mut Connection<R, Toy>, now: u64, bytes: &[u8], chunk: usize) {
    for piece in bytes.chunks(chunk.max(1)) {
        end.recv(now, piece);
    }
}

impl Pair {
    pub(crate) fn new(host: Config, module: Config) -> Pair {
        let host = Connection::new(0, host, Toy);
        let module = Connection::new(0, module, Toy);
        Pair { host, module, now: 0, chunk: usize::MAX }
    }

    /// After the handshake, with capability 1 granted, and no events left to look at.
    pub(crate) fn active(host: Config, module: Config) -> Pair {
        let mut pair = Pair::new(host, module);
        pair.module.hello(0, hello()).unwrap();
        pair.turn();
        assert!(matches!(events(&mut pair.host)[..], [Event::Hello(_)]));
        pair.host.accept(0, accepted(), 1).unwrap();
        pair.turn();
        assert!(matches!(events(&mut pair.module)[..], [Event::Accepted(_)]));
        pair
    }

    pub(crate) fn x1() -> Pair {
        Pair::active(Config::DEFAULT, Config::DEFAULT)
    }

    pub(crate) fn plain() -> Pair {
        Pair::active(Config::DEFAULT, Config { x1: false, ..Config::DEFAULT })
    }

    /// Moves bytes both ways until none are left.
    pub(crate) fn turn(&mut self) {
        loop {
            let up = drain(&mut self.module, self.now);
            feed(&mut self.host, self.now, &up, self.chunk);
            let down = drain(&mut self.host, self.now);
            feed(&mut self.module, self.now, &down, self.chunk);
            if up.is_empty() && down.is_empty() {
                return;
            }
        }
    }

    pub(crate) fn call(&mut self, body: &[u8]) -> CallId {
        self.module.call(self.now, &options(1_000_000), Body::from(body), 7).unwrap()
    }

    /// The host's next event, which is a call.
    pub(crate) fn served(&mut self) -> ServedCall {
        match self.host.poll_event() {
            Some(Event::Call(call)) => call,
            other => panic!("no call but {other:?}"),
        }
    }
}
