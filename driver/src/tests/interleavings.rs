//! Races of the cell. `explore` runs each scenario in every order (loom) or on real threads.
//!
//! A lost wake-up shows as a thread that waits for ever: loom reports it, a plain run hangs. What must hold at the end is
//! asserted. The handshake is over before the threads begin, and the peer answers inside the write, so that all that is
//! explored is the cell.

use core::task::{Context, Poll, Waker};
use std::io::{self, IoSlice};

use modipc_core::{Body, CloseReason, Config, Connection, Event, Host, Module};

use super::kit::{Bell, Pipe, Toy, ToyLink, active, drain, options};
use crate::runtime::{BoxFuture, Runtime};
use crate::sync::{Arc, block_on, explore, thread};
use crate::{Call, CallError, Link, PollWrite, Service, Transport};

/// Time stands still: nothing here is decided by it.
struct Still;

impl Runtime for Still {
    fn now(&self) -> u64 {
        0
    }
    fn sleep_until(&self, _: u64) -> BoxFuture<()> {
        Box::pin(core::future::pending())
    }
    fn spawn(&self, _: BoxFuture<()>) {
        panic!("the driver spawns nothing");
    }
    fn seed(&self) -> u64 {
        0
    }
}

/// A host that takes in what is written, and answers calls before the write returns.
struct Answering {
    host: Connection<Host, Toy>,
    down: Pipe,
    answers: bool,
}

impl PollWrite for Answering {
    fn poll_write(&mut self, _: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        bufs.iter().for_each(|buf| self.host.recv(0, buf));
        while let Some(event) = self.host.poll_event() {
            if let (true, Event::Call(call)) = (self.answers, event) {
                let body = Body { head: &[], tail: call.body };
                self.host.reply(0, call.id, body).unwrap();
            }
        }
        let bytes = drain(&mut self.host);
        if !bytes.is_empty() {
            self.down.put(&bytes);
        }
        Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Ends(Pipe, Answering);

impl Transport for Ends {
    type Reader = Pipe;
    type Writer = Answering;

    fn split(self) -> (Pipe, Answering) {
        (self.0, self.1)
    }
}

/// Drops the connection at the first event that the peer sent.
struct OneEvent;

impl Service<Module, Toy> for OneEvent {
    fn event(&mut self, link: &Link<Module, Toy>, event: Event) {
        if matches!(event, Event::Call(_) | Event::Pong { .. }) {
            link.with(|connection, now| connection.abort(now));
        }
    }

    fn poll(&mut self, _: &mut Context<'_>, _: &Link<Module, Toy>) {}
}

struct Scene {
    link: ToyLink,
    task: BoxFuture<CloseReason>,
    down: Pipe,
    /// What the host would send: an answer to call 1, and a call of its own.
    answer: Vec<u8>,
    invocation: Vec<u8>,
}

fn scene(answers: bool) -> Scene {
    let (module, host) = active(Config::DEFAULT);
    let mut script = (module.clone(), host.clone());
    script.0.call(0, &options(1), Body::from(&b"?"[..]), 0).unwrap();
    script.1.recv(0, &drain(&mut script.0));
    let Some(Event::Call(call)) = script.1.poll_event() else { panic!("no call") };
    script.1.reply(0, call.id, Body::from(&b"!"[..])).unwrap();
    let answer = drain(&mut script.1);
    script.1.call(0, &options(1), Body::from(&b"?"[..]), 0).unwrap();
    let invocation = drain(&mut script.1);
    let down = Pipe::new(usize::MAX);
    let ends = Ends(down.clone(), Answering { host, down: down.clone(), answers });
    let (link, task) = Link::new(Arc::new(Still), ends, module, OneEvent);
    Scene { link, task, down, answer, invocation }
}

fn call(link: &ToyLink) -> Call<Module, Toy> {
    link.call(&options(1), Body::from(&b"?"[..]))
}

fn assert_clean(link: &ToyLink) {
    let stats = link.stats();
    let outcomes = stats.replies + stats.cancelled + stats.lost + stats.deadlines_exceeded;
    assert_eq!(stats.calls, outcomes, "one outcome for each call");
    let (slots, leader) = link.cell().enter(|state, _| (state.calls.len(), state.leader));
    assert_eq!((slots, leader), (0, None), "no slot and no leader is left");
}

#[test]
fn an_answer_and_a_cancel_give_one_outcome() {
    explore(|| {
        let Scene { link, task, down, answer, .. } = scene(false);
        let call = call(&link);
        let caller = thread::spawn(move || {
            let mut call = Box::pin(call);
            let first = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(!matches!(first, Poll::Ready(Err(_))), "{first:?}");
        });
        let peer = thread::spawn(move || {
            down.put(&answer);
            down.end();
        });
        assert_eq!(block_on(task), CloseReason::PeerGone);
        caller.join().unwrap();
        peer.join().unwrap();
        assert_clean(&link);
    });
}

#[test]
fn what_comes_when_the_leader_leaves_is_read_by_the_task() {
    explore(|| {
        let Scene { link, task, down, answer, invocation } = scene(false);
        let call = call(&link);
        let caller = thread::spawn(move || block_on(call));
        let peer = thread::spawn(move || {
            down.put(&answer);
            down.put(&invocation);
        });
        // If the invocation is not read, this never ends.
        assert_eq!(block_on(task), CloseReason::Aborted);
        assert_eq!(caller.join().unwrap().unwrap(), "!");
        peer.join().unwrap();
        assert_clean(&link);
    });
}

#[test]
fn a_leader_that_is_dropped_leaves_no_read_behind() {
    explore(|| {
        let Scene { link, task, down, invocation, .. } = scene(false);
        let mut call = Box::pin(call(&link));
        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let caller = thread::spawn(move || drop(call));
        let peer = thread::spawn(move || down.put(&invocation));
        assert_eq!(block_on(task), CloseReason::Aborted);
        caller.join().unwrap();
        peer.join().unwrap();
        assert_clean(&link);
    });
}

#[test]
fn a_second_call_and_the_leaders_exit_strand_nobody() {
    explore(|| {
        let Scene { link, task, .. } = scene(true);
        let task = thread::spawn(move || block_on(task));
        let other = link.clone();
        let second = thread::spawn(move || block_on(call(&other)));
        assert_eq!(block_on(call(&link)).unwrap(), "?");
        assert_eq!(second.join().unwrap().unwrap(), "?");
        link.with(|connection, now| connection.abort(now));
        assert_eq!(task.join().unwrap(), CloseReason::Aborted);
        assert_clean(&link);
    });
}

#[test]
fn what_is_enqueued_while_the_writer_is_out_is_written() {
    explore(|| {
        let Scene { link, task, .. } = scene(true);
        let other = link.clone();
        let pings = thread::spawn(move || other.with(|connection, now| connection.ping(now)).is_ok());
        let other = link.clone();
        let caller = thread::spawn(move || block_on(call(&other)));
        // The pong ends the connection; it comes only if the ping was written.
        assert_eq!(block_on(task), CloseReason::Aborted);
        assert!(pings.join().unwrap());
        let ended = caller.join().unwrap();
        assert!(matches!(ended, Ok(_) | Err(CallError::Lost { .. })), "{ended:?}");
        assert_eq!(link.cell().enter(|state, _| state.calls.len()), 0);
    });
}

#[test]
fn whoever_registers_while_the_connection_closes_is_told() {
    explore(|| {
        let Scene { link, task, .. } = scene(false);
        let (one, two) = (link.clone(), link.clone());
        let caller = thread::spawn(move || block_on(call(&one)));
        let waiter = thread::spawn(move || block_on(two.wait_closed()));
        link.with(|connection, now| connection.abort(now));
        assert_eq!(block_on(task), CloseReason::Aborted);
        let lost = caller.join().unwrap();
        assert!(matches!(lost, Err(CallError::Lost { reason: CloseReason::Aborted, .. })), "{lost:?}");
        assert_eq!(waiter.join().unwrap(), CloseReason::Aborted);
        assert_eq!(link.stats().replies, 0);
    });
}

#[test]
fn a_caller_that_moves_to_another_waker_is_woken_there() {
    explore(|| {
        let Scene { link, task, down, answer, .. } = scene(false);
        let mut call = Box::pin(call(&link));
        let old = Waker::from(Arc::<Bell>::default());
        let task = thread::spawn(move || block_on(task));
        let peer = thread::spawn(move || {
            down.put(&answer);
            down
        });
        let first = call.as_mut().poll(&mut Context::from_waker(&old));
        let answer = if let Poll::Ready(answer) = first { answer } else { block_on(call) };
        assert_eq!(answer.unwrap(), "!");
        peer.join().unwrap().end();
        assert_eq!(task.join().unwrap(), CloseReason::PeerGone);
        assert_clean(&link);
    });
}

#[test]
fn a_task_that_is_dropped_ends_every_call() {
    explore(|| {
        let Scene { link, task, down, answer, .. } = scene(false);
        let call = call(&link);
        let caller = thread::spawn(move || block_on(call));
        let peer = thread::spawn(move || down.put(&answer));
        drop(task);
        let ended = caller.join().unwrap();
        peer.join().unwrap();
        assert!(
            matches!(ended, Ok(_) | Err(CallError::Lost { reason: CloseReason::Aborted, .. })),
            "{ended:?}"
        );
        assert_clean(&link);
        let (reader, writer) = link.cell().enter(|state, _| (state.reader.is_gone(), state.writer.is_gone()));
        assert!(reader && writer);
    });
}

#[test]
fn a_command_that_meets_a_parking_task_is_seen() {
    explore(|| {
        let Scene { link, task, .. } = scene(false);
        let task = thread::spawn(move || block_on(task));
        link.with(|connection, now| connection.abort(now));
        assert_eq!(task.join().unwrap(), CloseReason::Aborted);
    });
}
