//! Two ends that do random things, over streams that are cut anywhere, against simple bookkeeping: every call has one outcome, bodies
//! arrive as they were sent, and of the log exactly what was subscribed to arrives or is reported missing, in order.

use alloc::collections::{BTreeMap, BTreeSet};
use core::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::event_log::Append;

/// One thing that happens. `up` is the module's side of it.
#[derive(Clone, Debug)]
enum Op {
    Call { up: bool, len: usize, denied: bool, deadline_us: u64 },
    Cancel { up: bool, at: usize },
    Reply { up: bool, at: usize, len: usize },
    Progress { up: bool, at: usize },
    Subscribe { topics: Vec<u8>, resume: Option<u64> },
    Unsubscribe { topics: Vec<u8> },
    Publish { topic: u8 },
    Pull,
    Log,
    Ping { up: bool },
    Grant { all: bool },
    Extension { up: bool },
    Take { up: bool },
    Deliver { up: bool, len: usize, lend: bool },
    Tick { us: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    let len = || prop_oneof![4 => 0usize..100, 1 => 16_000usize..17_000, 1 => 60_000usize..190_000];
    let topics = || prop::collection::vec(0u8..3, 0..3);
    let up = any::<bool>;
    prop_oneof![
        4 => (up(), len(), prop::bool::weighted(0.2), prop_oneof![1u64..50, Just(1_000_000)])
            .prop_map(|(up, len, denied, deadline_us)| Op::Call { up, len, denied, deadline_us }),
        1 => (up(), any::<usize>()).prop_map(|(up, at)| Op::Cancel { up, at }),
        4 => (up(), any::<usize>(), len()).prop_map(|(up, at, len)| Op::Reply { up, at, len }),
        1 => (up(), any::<usize>()).prop_map(|(up, at)| Op::Progress { up, at }),
        1 => (topics(), prop::option::of(0u64..30)).prop_map(|(topics, resume)| Op::Subscribe { topics, resume }),
        1 => topics().prop_map(|topics| Op::Unsubscribe { topics }),
        5 => (0u8..3).prop_map(|topic| Op::Publish { topic }),
        3 => Just(Op::Pull),
        1 => Just(Op::Log),
        1 => up().prop_map(|up| Op::Ping { up }),
        1 => any::<bool>().prop_map(|all| Op::Grant { all }),
        1 => up().prop_map(|up| Op::Extension { up }),
        8 => up().prop_map(|up| Op::Take { up }),
        8 => (up(), prop_oneof![1usize..60, 1usize..100_000], any::<bool>())
            .prop_map(|(up, len, lend)| Op::Deliver { up, len, lend }),
        2 => (0u64..40).prop_map(|us| Op::Tick { us }),
    ]
}

/// A body that nothing else has.
fn body(first: u8, id: u64, len: usize) -> Bytes {
    let fill = (0..len).map(|i| (i as u64).wrapping_mul(id + 3) as u8);
    core::iter::once(first).chain(id.to_le_bytes()).chain(fill).collect()
}

struct End<R: Role> {
    connection: Connection<R, Toy>,
    wire: Vec<u8>,
    /// What was called, by id.
    calls: BTreeMap<u64, Bytes>,
    outcomes: BTreeMap<u64, Outcome>,
    /// Calls of the peer that are open here, and the subscription that they ask for.
    serving: Vec<(CallId, Option<Subscription>)>,
    answers: BTreeMap<u64, Bytes>,
    seen: Vec<Event>,
}

impl<R: Role> End<R> {
    fn new(connection: Connection<R, Toy>) -> Self {
        let (calls, outcomes, answers) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        End { connection, wire: vec![], calls, outcomes, serving: vec![], answers, seen: vec![] }
    }

    fn call(&mut self, now: u64, options: &CallOptions, first: u8, len: usize) {
        self.call_with(now, options, body(first, self.calls.len() as u64 + 1, len));
    }

    /// The key of a call is the id that it should get.
    fn call_with(&mut self, now: u64, options: &CallOptions, body: Bytes) {
        let id = self.calls.len() as u64 + 1;
        match self.connection.call(now, options, Body { head: &[], tail: body.clone() }, id) {
            Ok(issued) => {
                assert_eq!(issued, CallId(id));
                self.calls.insert(id, body);
            }
            Err(refused) => assert_eq!(refused, Refused::WindowFull),
        }
    }

    fn cancel(&mut self, now: u64, at: usize) {
        let id = at as u64 % (self.calls.len() as u64 + 2);
        let open = self.calls.contains_key(&id) && !self.outcomes.contains_key(&id);
        assert_eq!(self.connection.cancel(now, CallId(id)).is_ok(), open, "{id}");
    }

    fn reply(&mut self, now: u64, at: usize, len: usize) {
        if self.serving.is_empty() {
            return;
        }
        let (id, _) = self.serving.remove(at % self.serving.len());
        let answer = body(b'a', id.0, len);
        self.connection.reply(now, id, Body { head: &[], tail: answer.clone() }).unwrap();
        self.answers.insert(id.0, answer);
    }

    fn progress(&mut self, now: u64, at: usize) {
        if let Some((id, _)) = self.serving.get(at % self.serving.len().max(1)) {
            let sent = self.connection.progress(now, *id, 1, 2);
            assert!(matches!(sent, Ok(()) | Err(Refused::OutboxFull)), "{sent:?}");
        }
    }

    /// Bulk bytes that may be sent.
    fn credit(&self) -> u64 {
        self.connection.machine.session().map_or(0, |session| session.credit_limit - session.credit_spent)
    }

    fn take(&mut self, now: u64) {
        self.wire.extend(drain(&mut self.connection, now));
    }

    fn deliver(&mut self, now: u64, from: &mut Vec<u8>, len: usize, lend: bool) {
        let chunk: Vec<u8> = from.drain(..len.min(from.len())).collect();
        let mut rest = &chunk[..];
        if lend && let Some(mut buf) = self.connection.take_bulk() {
            let n = buf.space().len().min(rest.len());
            buf.space()[..n].copy_from_slice(&rest[..n]);
            self.connection.recv_bulk(now, buf, n);
            rest = &rest[n..];
        }
        self.connection.recv(now, rest);
    }

    /// Takes everything out and holds it against what the other side called and answered.
    fn look(&mut self, called: &BTreeMap<u64, Bytes>, answered: &BTreeMap<u64, Bytes>) {
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Call(call) => {
                    assert_eq!(Some(&call.body), called.get(&call.id.0), "not the call that was made");
                    self.serving.push((call.id, None));
                }
                Event::Subscribe(call, subscription) => self.serving.push((call.id, Some(subscription))),
                Event::Progress { key, .. } => assert!(!self.outcomes.contains_key(&key)),
                other => self.seen.push(other),
            }
        }
        while let Some((id, outcome)) = self.connection.poll_outcome() {
            if let Outcome::Reply(body) = &outcome {
                let refused = body == "busy" || body == "denied 1";
                assert!(refused || Some(body) == answered.get(&id), "not the answer that was given to {id}");
            }
            assert!(self.calls.contains_key(&id) && self.outcomes.insert(id, outcome).is_none(), "{id}");
        }
    }
}

struct World {
    host: End<Host>,
    module: End<Module>,
    now: u64,
    log: EventLog,
    /// Topics of the events from position 1 on.
    published: Vec<u8>,
    /// From which position to which (exclusive) the module was subscribed to what.
    subscribed: Vec<(u64, u64, TopicSet)>,
    topics: TopicSet,
}

impl World {
    fn new() -> World {
        let limits =
            Limits { calls_max: 8, body_bytes_max: 200_000, credit_bytes: 450_000, ..Limits::DEFAULT };
        let host = Config { limits, outbox_bytes_max: 20_000, ..Config::DEFAULT };
        let Pair { host, module, .. } = Pair::active(host, Config { limits, ..Config::DEFAULT });
        let log = EventLog::new(6, 1 << 20);
        World {
            host: End::new(host),
            module: End::new(module),
            now: 0,
            log,
            published: vec![],
            subscribed: vec![],
            topics: TopicSet::EMPTY,
        }
    }

    fn run(&mut self, op: Op) {
        let now = self.now;
        match op {
            Op::Call { up, len, denied, deadline_us } => {
                let first = if denied { b'!' } else { b'c' };
                if up {
                    self.module.call(now, &options(deadline_us), first, len);
                } else {
                    self.host.call(now, &options(deadline_us), first, len);
                }
            }
            Op::Subscribe { topics, resume } => {
                let subscribe = Some(SubscribeOptions { resume, overflow: Overflow::Lag });
                let body: Bytes = core::iter::once(b'S').chain(topics).collect();
                self.module.call_with(now, &CallOptions { subscribe, ..options(1_000_000) }, body);
            }
            Op::Unsubscribe { topics } => {
                let body: Bytes = core::iter::once(b'U').chain(topics).collect();
                self.module.call_with(now, &options(1_000_000), body);
            }
            Op::Cancel { up: true, at } => self.module.cancel(now, at),
            Op::Cancel { up: false, at } => self.host.cancel(now, at),
            Op::Reply { up: true, at, len } => self.module.reply(now, at, len),
            Op::Reply { up: false, at, len } => self.host_reply(at, len),
            Op::Progress { up: true, at } => self.module.progress(now, at),
            Op::Progress { up: false, at } => self.host.progress(now, at),
            Op::Publish { topic } => {
                self.published.push(topic);
                let position = self.published.len() as u64;
                assert_eq!(self.log.append(topic, body(b'e', position, 20)), Append::At(position));
            }
            Op::Pull => drop(self.host.connection.pull_events(now, &mut self.log)),
            Op::Log => drop(self.module.connection.log(now, Body::from(&b"note"[..]), b"")),
            Op::Ping { up: true } => drop(self.module.connection.ping(now)),
            Op::Ping { up: false } => drop(self.host.connection.ping(now)),
            Op::Grant { all } => self.host.connection.set_grants(now, u64::from(all), &[]).unwrap(),
            Op::Extension { up: true } => drop(self.module.connection.extension(now, 128)),
            Op::Extension { up: false } => drop(self.host.connection.extension(now, 255)),
            Op::Take { up: true } => self.module.take(now),
            Op::Take { up: false } => self.host.take(now),
            Op::Deliver { up: true, len, lend } => self.host.deliver(now, &mut self.module.wire, len, lend),
            Op::Deliver { up: false, len, lend } => self.module.deliver(now, &mut self.host.wire, len, lend),
            Op::Tick { us } => {
                self.now += us;
                self.host.connection.handle_timeout(self.now);
                self.module.connection.handle_timeout(self.now);
            }
        }
        self.look();
    }

    fn look(&mut self) {
        let (host, module) = (&mut self.host, &mut self.module);
        host.look(&module.calls, &module.answers);
        module.look(&host.calls, &host.answers);
    }

    fn host_reply(&mut self, at: usize, len: usize) {
        let Some((_, Some(subscription))) = self.host.serving.get(at % self.host.serving.len().max(1)) else {
            return self.host.reply(self.now, at, len);
        };
        let subscription = *subscription;
        let (id, _) = self.host.serving.remove(at % self.host.serving.len());
        self.end_subscription();
        let (answer, host) = (body(b'a', id.0, 0), &mut self.host);
        let shared = Body { head: &[], tail: answer.clone() };
        host.connection.reply_subscription(self.now, id, subscription, &mut self.log, shared).unwrap();
        host.answers.insert(id.0, answer);
        self.topics = match subscription {
            Subscription::Replace { topics, .. } => topics,
            Subscription::Remove { topics } => self.topics.without(&topics),
        };
        let start = host.connection.position();
        assert_eq!(start.is_none(), self.topics.is_empty());
        self.subscribed.extend(start.map(|start| (start, u64::MAX, self.topics)));
    }

    /// What was not looked at by now is no longer subscribed to.
    fn end_subscription(&mut self) {
        if let (Some((_, end, _)), Some(next)) = (self.subscribed.last_mut(), self.host.connection.position())
        {
            *end = next;
        }
    }

    /// Which of [`SOMETIMES`] happened.
    fn met(&self) -> Vec<&'static str> {
        let outcomes = self.host.outcomes.values().chain(self.module.outcomes.values());
        let outcomes = outcomes.filter_map(|outcome| match outcome {
            Outcome::Reply(body) if body == "busy" => Some("a busy answer"),
            Outcome::Reply(body) if body == "denied 1" => Some("a denial"),
            Outcome::Reply(body) if body.len() > 16 << 10 => Some("a bulk answer"),
            Outcome::Reply(_) => Some("an answer"),
            Outcome::DeadlineExceeded => Some("an expired call"),
            Outcome::Cancelled => Some("a cancelled call"),
            Outcome::Lost { .. } => None,
        });
        let events = self.module.seen.iter().filter_map(|event| match event {
            Event::Event { .. } => Some("an event"),
            Event::Lagged { .. } => Some("a lag notice"),
            Event::Pong { .. } => Some("a pong"),
            _ => None,
        });
        let bulk = self.module.calls.values().filter(|body| body.len() > 16 << 10).map(|_| "a bulk call");
        outcomes.chain(events).chain(bulk).collect()
    }

    /// Everything is answered, sent and delivered; then both part in peace.
    fn finish(&mut self) {
        for leaving in [false, true] {
            if leaving {
                assert_eq!(
                    (self.host.credit(), self.module.credit()),
                    (450_000, 450_000),
                    "all of it is back"
                );
                self.end_subscription();
                self.module.connection.goodbye(self.now, 0, "").unwrap();
            }
            for _ in 0..2_000 {
                for at in 0..8 {
                    self.host_reply(at, 10);
                    self.module.reply(self.now, at, 10);
                }
                self.run(Op::Pull);
                for up in [true, false] {
                    self.run(Op::Take { up });
                    self.run(Op::Deliver { up, len: usize::MAX, lend: false });
                }
                let (host, module) = (&self.host.connection, &self.module.connection);
                if [host.calls_open(), module.calls_open(), host.served_open(), module.served_open()]
                    == [0; 4]
                    && !(host.wants_write() || module.wants_write())
                    && host.position().is_none_or(|next| next == self.log.next())
                {
                    break;
                }
            }
        }
        for closed in [self.host.connection.closed(), self.module.connection.closed()] {
            assert!(matches!(closed, Some(CloseReason::Drained { .. })), "{closed:?}");
        }
        assert!(
            self.host.outcomes.keys().eq(self.host.calls.keys()),
            "each call of the host has its outcome"
        );
        assert!(
            self.module.outcomes.keys().eq(self.module.calls.keys()),
            "each call of the module has its outcome"
        );
        self.check_events();
    }

    /// What was subscribed to came, or was reported missing, in order; and nothing else.
    fn check_events(&self) {
        let wanted = |position: u64| {
            let topic = self.published[position as usize - 1];
            self.subscribed
                .iter()
                .any(|(from, to, topics)| (*from..*to).contains(&position) && topics.contains(topic))
        };
        let (mut told, mut came) = (BTreeSet::new(), 0);
        for event in &self.module.seen {
            match event {
                Event::Event { position, body: event, .. } => {
                    assert!(came < *position && wanted(*position), "{position} after {came}");
                    assert_eq!(*event, body(b'e', *position, 20));
                    told.insert(*position);
                    came = *position;
                }
                // Who resumes from the same position again is told again.
                Event::Lagged { first, last } => {
                    assert!(came < *first && first <= last && wanted(*last), "{first}..={last} after {came}");
                    told.extend(*first..=*last);
                }
                Event::InboxOverflow { .. } | Event::Log { .. } | Event::Hello(_) => panic!("{event:?}"),
                _ => {}
            }
        }
        for position in (1..=self.published.len() as u64).filter(|position| wanted(*position)) {
            assert!(told.contains(&position), "{position} is missing");
        }
    }
}

#[test]
fn whatever_two_honest_ends_do() {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) };
    let met = RefCell::new(BTreeSet::new());
    let result = TestRunner::new(config).run(&prop::collection::vec(op(), 1..200), |ops| {
        let mut world = World::new();
        for op in ops {
            world.run(op);
            prop_assert_eq!((world.host.connection.closed(), world.module.connection.closed()), (None, None));
        }
        world.finish();
        met.borrow_mut().extend(world.met());
        Ok(())
    });
    result.unwrap_or_else(|fault| panic!("{fault}"));
    let missing: Vec<_> = SOMETIMES.iter().filter(|name| !met.borrow().contains(**name)).collect();
    assert!(missing.is_empty(), "never met: {missing:?}");
}

/// What has to happen in some run, so that nothing holds by never happening.
const SOMETIMES: [&str; 10] = [
    "an event",
    "a lag notice",
    "a pong",
    "an expired call",
    "a cancelled call",
    "an answer",
    "a bulk answer",
    "a bulk call",
    "a denial",
    "a busy answer",
];
