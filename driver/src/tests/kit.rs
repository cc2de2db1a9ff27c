//! A transport, a clock and a peer that tests move by hand. All of it stands on the façade, so that loom explores it too.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::task::Wake;

use bytes::Bytes;
use modipc_core::{
    Accepted, Body, CallClass, CallId, CallOptions, CallRefusal, CloseReason, Config, Connection, Dialect,
    Event, Hello, Host, Kind, Limits, Meaning, Module, Role,
};

use crate::runtime::{BoxFuture, Runtime};
use crate::service::Service;
use crate::sync::{Arc, Mutex};
use crate::transport::{PollRead, PollWrite, Transport};
use crate::{Call, CallError, Link};

/// A dialect in which every call is ordinary.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Toy;

impl Dialect for Toy {
    fn classify(&self, _: Kind, _: &[u8]) -> Meaning {
        Meaning { class: CallClass::Ordinary, needs: 0 }
    }

    fn encode_refusal(&self, _: Kind, _: CallRefusal, out: &mut Vec<u8>) {
        out.extend_from_slice(b"refused");
    }
}

pub(crate) type ToyLink = Link<Module, Toy>;

pub(crate) fn options(deadline_us: u64) -> CallOptions {
    CallOptions { deadline_us, trace: None, idempotency: None, subscribe: None }
}

pub(crate) const SECOND: u64 = 1_000_000;

// ---- the stream ----

/// One direction of a stream.
#[derive(Clone)]
pub(crate) struct Pipe(Arc<Mutex<PipeState>>);

struct PipeState {
    bytes: VecDeque<u8>,
    capacity: usize,
    ended: bool,
    broken: bool,
    /// Fewer bytes were read than there was room for, and none came since: what a transport remembers to save a system call.
    drained: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    count: Counts,
}

/// What would be system calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) reads: usize,
    pub(crate) reads_in_vain: usize,
    pub(crate) writes: usize,
}

impl Pipe {
    pub(crate) fn new(capacity: usize) -> Pipe {
        Pipe(Arc::new(Mutex::new(PipeState {
            bytes: VecDeque::new(),
            capacity,
            ended: false,
            broken: false,
            drained: false,
            reader: None,
            writer: None,
            count: Counts::default(),
        })))
    }

    /// Puts bytes in and wakes the reader.
    pub(crate) fn put(&self, bytes: &[u8]) {
        let reader = {
            let mut state = self.0.lock();
            state.bytes.extend(bytes);
            state.drained = false;
            state.reader.take()
        };
        reader.into_iter().for_each(Waker::wake);
    }

    /// Takes everything out and wakes the writer.
    pub(crate) fn take(&self) -> Vec<u8> {
        let (bytes, writer) = {
            let mut state = self.0.lock();
            (state.bytes.drain(..).collect(), state.writer.take())
        };
        writer.into_iter().for_each(Waker::wake);
        bytes
    }

    /// The writer is gone.
    pub(crate) fn end(&self) {
        let reader = {
            let mut state = self.0.lock();
            state.ended = true;
            state.drained = false;
            state.reader.take()
        };
        reader.into_iter().for_each(Waker::wake);
    }

    /// The reader is gone: writing fails from now on.
    pub(crate) fn break_off(&self) {
        let writer = {
            let mut state = self.0.lock();
            state.broken = true;
            state.writer.take()
        };
        writer.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn ended(&self) -> bool {
        self.0.lock().ended
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().bytes.len()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.0.lock().count
    }
}

impl PollRead for Pipe {
    fn poll_read(&mut self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        if state.bytes.is_empty() && !state.ended {
            state.count.reads_in_vain += usize::from(!state.drained);
            state.drained = true;
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut n = 0;
        let mut room = 0;
        for buf in bufs {
            room += buf.len();
            for place in buf.iter_mut() {
                let Some(byte) = state.bytes.pop_front() else { break };
                *place = byte;
                n += 1;
            }
        }
        state.drained = n < room;
        state.count.reads += 1;
        let writer = state.writer.take();
        drop(state);
        writer.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(n))
    }
}

impl PollWrite for Pipe {
    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        if state.broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = state.capacity.saturating_sub(state.bytes.len());
        if room == 0 {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).take(room).collect();
        assert!(!all.is_empty(), "the driver never writes nothing");
        state.bytes.extend(&all);
        state.drained = false;
        state.count.writes += 1;
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(all.len()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

/// One end of a stream.
pub(crate) struct Ends {
    pub(crate) read: Pipe,
    pub(crate) write: Pipe,
}

impl Transport for Ends {
    type Reader = Pipe;
    type Writer = Pipe;

    fn split(self) -> (Pipe, Pipe) {
        (self.read, self.write)
    }
}

// ---- the clock ----

/// A runtime whose time only tests move.
#[derive(Default)]
pub(crate) struct Clock(Mutex<ClockState>);

#[derive(Default)]
struct ClockState {
    now: u64,
    sleepers: Vec<(u64, Waker)>,
    sleeps: usize,
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Mutex::new(T::default())
    }
}

impl Clock {
    pub(crate) fn advance(&self, us: u64) {
        let wakers: Vec<_> = {
            let mut state = self.0.lock();
            state.now += us;
            let now = state.now;
            let (due, later) = state.sleepers.drain(..).partition(|(at, _)| *at <= now);
            state.sleepers = later;
            due
        };
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Sleeps that were begun so far.
    pub(crate) fn sleeps(&self) -> usize {
        self.0.lock().sleeps
    }
}

struct Sleep {
    clock: Arc<Clock>,
    at: u64,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.clock.0.lock();
        if state.now >= self.at {
            return Poll::Ready(());
        }
        state.sleepers.push((self.at, cx.waker().clone()));
        Poll::Pending
    }
}

/// The handle of a [`Clock`].
#[derive(Clone, Default)]
pub(crate) struct ToyRuntime(pub(crate) Arc<Clock>);

impl Runtime for ToyRuntime {
    fn now(&self) -> u64 {
        self.0.0.lock().now
    }

    fn sleep_until(&self, at: u64) -> BoxFuture<()> {
        self.0.0.lock().sleeps += 1;
        Box::pin(Sleep { clock: Arc::clone(&self.0), at })
    }

    fn spawn(&self, _: BoxFuture<()>) {
        panic!("the driver spawns nothing");
    }

    fn seed(&self) -> u64 {
        0
    }
}

// ---- futures by hand ----

/// Counts wakes.
#[derive(Default)]
pub(crate) struct Bell(Mutex<usize>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.0.lock() += 1;
    }
}

impl Bell {
    /// Wakes since the last look.
    pub(crate) fn rings(&self) -> usize {
        core::mem::take(&mut *self.0.lock())
    }
}

/// A future that is polled by hand, with its own waker.
pub(crate) struct Hand<F: Future> {
    pub(crate) future: Pin<Box<F>>,
    pub(crate) bell: Arc<Bell>,
}

impl<F: Future> Hand<F> {
    pub(crate) fn new(future: F) -> Self {
        Hand { future: Box::pin(future), bell: Arc::default() }
    }

    pub(crate) fn poll(&mut self) -> Poll<F::Output> {
        let waker = Waker::from(Arc::clone(&self.bell));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    pub(crate) fn rings(&self) -> usize {
        self.bell.rings()
    }

    /// Polls for as long as the future is woken. Fails if that never ends.
    pub(crate) fn run(&mut self) -> Poll<F::Output> {
        for _ in 0..1000 {
            let out = self.poll();
            if out.is_ready() || self.rings() == 0 {
                return out;
            }
        }
        panic!("the future wakes itself without end");
    }
}

// ---- two ends ----

/// After the handshake, with nothing in either outbox or inbox.
pub(crate) fn active(config: Config) -> (Connection<Module, Toy>, Connection<Host, Toy>) {
    let mut module = Connection::<Module, Toy>::new(0, config, Toy);
    let mut host = Connection::<Host, Toy>::new(0, config, Toy);
    let hello = Hello { module_id: "m".into(), version: "1".into(), ..Hello::default() };
    module.hello(0, hello).unwrap();
    host.recv(0, &drain(&mut module));
    assert!(matches!(host.poll_event(), Some(Event::Hello(_))));
    let accepted = Accepted {
        granted: vec![],
        limits: Limits::DEFAULT,
        node_version: "test".into(),
        instance_id: [0; 16],
        next_token: vec![],
        x1: false,
    };
    host.accept(0, accepted, 0).unwrap();
    module.recv(0, &drain(&mut host));
    assert!(matches!(module.poll_event(), Some(Event::Accepted(_))));
    (module, host)
}

/// Everything that an end wants to send.
pub(crate) fn drain<R: Role>(end: &mut Connection<R, Toy>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(mut batch) = end.take_batch(0) {
        batch.slices().for_each(|slice| bytes.extend_from_slice(slice));
        batch.advance(usize::MAX);
        end.batch_done(batch);
    }
    bytes
}

/// The host, moved by hand.
pub(crate) struct Peer {
    pub(crate) host: Connection<Host, Toy>,
    pub(crate) up: Pipe,
    pub(crate) down: Pipe,
}

impl Peer {
    /// Takes in what the module wrote; the bodies of the calls among it.
    pub(crate) fn calls(&mut self) -> Vec<(CallId, Bytes)> {
        let calls = self.events().into_iter().filter_map(|event| match event {
            Event::Call(call) => Some((call.id, call.body)),
            _ => None,
        });
        calls.collect()
    }

    /// Takes in what the module wrote.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        let bytes = self.up.take();
        self.host.recv(0, &bytes);
        core::iter::from_fn(|| self.host.poll_event()).collect()
    }

    /// Sends what the host has to say.
    pub(crate) fn send(&mut self) {
        let bytes = drain(&mut self.host);
        self.down.put(&bytes);
    }

    /// Answers one call with these bytes, at once.
    pub(crate) fn answer(&mut self, id: CallId, body: &[u8]) {
        self.host.reply(0, id, Body { head: &[], tail: Bytes::copy_from_slice(body) }).unwrap();
        self.send();
    }

    /// Calls the module.
    pub(crate) fn invoke(&mut self, body: &[u8]) {
        self.host.call(0, &options(SECOND), Body::from(body), 0).unwrap();
        self.send();
    }
}

/// Everything that the service was given.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<Event>>>);

impl Seen {
    pub(crate) fn take(&self) -> Vec<Event> {
        core::mem::take(&mut *self.0.lock())
    }
}

/// Notes events, and answers calls with their own body if it echoes.
pub(crate) struct Recorder {
    pub(crate) seen: Seen,
    pub(crate) echo: bool,
}

impl<R: Role> Service<R, Toy> for Recorder {
    fn event(&mut self, link: &Link<R, Toy>, event: Event) {
        if let (true, Event::Call(call)) = (self.echo, &event) {
            let body = Body { head: &[], tail: call.body.clone() };
            let _ = link.with(|connection, now| connection.reply(now, call.id, body));
        }
        self.seen.0.lock().push(event);
    }

    fn poll(&mut self, _: &mut Context<'_>, _: &Link<R, Toy>) {}
}

/// A module's link whose task and peer are moved by hand.
pub(crate) struct Stage {
    pub(crate) link: ToyLink,
    pub(crate) task: Hand<BoxFuture<CloseReason>>,
    pub(crate) peer: Peer,
    pub(crate) clock: Arc<Clock>,
    pub(crate) seen: Seen,
}

pub(crate) type HandCall = Hand<Call<Module, Toy>>;

impl Stage {
    pub(crate) fn new() -> Stage {
        Stage::with(Config::DEFAULT, usize::MAX)
    }

    /// The task has run once and has parked.
    pub(crate) fn with(config: Config, capacity: usize) -> Stage {
        let mut stage = Stage::fresh(config, capacity);
        assert!(stage.task.run().is_pending());
        stage
    }

    /// The task has not run.
    pub(crate) fn fresh(config: Config, capacity: usize) -> Stage {
        let (module, host) = active(config);
        let (up, down) = (Pipe::new(capacity), Pipe::new(usize::MAX));
        let peer = Peer { host, up: up.clone(), down: down.clone() };
        let runtime = ToyRuntime::default();
        let clock = Arc::clone(&runtime.0);
        let seen = Seen::default();
        let service = Recorder { seen: seen.clone(), echo: true };
        let (link, task) = Link::new(Arc::new(runtime), Ends { read: down, write: up }, module, service);
        Stage { link, task: Hand::new(task), peer, clock, seen }
    }

    pub(crate) fn call(&self, body: &[u8]) -> HandCall {
        Hand::new(self.link.call(&options(10 * SECOND), Body::from(body)))
    }

    /// Slots of calls in use.
    pub(crate) fn slots(&self) -> usize {
        self.link.cell().enter(|state, _| state.calls.len())
    }

    pub(crate) fn has_leader(&self) -> bool {
        self.link.cell().enter(|state, _| state.leader.is_some())
    }
}

/// The answer that a call ended with.
#[track_caller]
pub(crate) fn reply(out: Poll<Result<Bytes, CallError>>) -> Bytes {
    match out {
        Poll::Ready(Ok(body)) => body,
        other => panic!("no answer but {other:?}"),
    }
}
