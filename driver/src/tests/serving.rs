//! The other direction: the peer calls, the service answers; and the service's own part in the task.

use core::task::{Context, Waker};

use bytes::Bytes;
use modipc_core::{Body, CallId, Config, Connection, Event, Module, Outcome, Step};

use super::kit::{Ends, Hand, Pipe, Seen, Stage, Toy, ToyRuntime, active, drain};
use crate::sync::{Arc, Mutex};
use crate::{Link, Service, StepSink};

fn outcomes(stage: &mut Stage) -> Vec<Bytes> {
    stage.peer.events();
    let outcomes = core::iter::from_fn(|| stage.peer.host.poll_outcome());
    outcomes
        .map(|(_, outcome)| match outcome {
            Outcome::Reply(body) => body,
            other => panic!("no answer but {other:?}"),
        })
        .collect()
}

#[test]
fn a_call_is_read_answered_and_written_in_one_poll() {
    let mut stage = Stage::new();
    let before = (stage.peer.up.counts(), stage.peer.down.counts());
    stage.peer.invoke(b"hi");
    assert!(stage.task.poll().is_pending());
    assert_eq!(stage.task.rings(), 1, "only the transport's wake");
    assert_eq!(outcomes(&mut stage), ["hi"]);
    let after = (stage.peer.up.counts(), stage.peer.down.counts());
    assert_eq!((after.0.writes - before.0.writes, after.1.reads - before.1.reads), (1, 1));
    assert_eq!(after.1.reads_in_vain, before.1.reads_in_vain);
}

#[test]
fn what_came_in_one_read_is_answered_with_one_write() {
    let mut stage = Stage::new();
    for i in 0..100u8 {
        let body = [i];
        stage.peer.host.call(0, &super::kit::options(1000), Body::from(&body[..]), 0).unwrap();
    }
    let before = stage.peer.up.counts();
    stage.peer.send();
    assert!(stage.task.run().is_pending());
    assert_eq!(stage.peer.up.counts().writes - before.writes, 1);
    assert_eq!(outcomes(&mut stage).len(), 100);
}

#[test]
fn a_ping_is_answered_while_a_caller_reads() {
    let mut stage = Stage::new();
    let mut call = stage.call(b"1");
    assert!(call.poll().is_pending());
    assert!(stage.task.run().is_pending());
    stage.peer.events();
    stage.peer.host.ping(0).unwrap();
    stage.peer.send();
    assert!(call.poll().is_pending());
    assert!(stage.task.run().is_pending());
    assert!(matches!(stage.peer.events()[..], [Event::Pong { .. }]));
}

/// A service that answers later, when it is told to, and notes who polls it.
struct Later {
    open: Vec<CallId>,
    told: Arc<Mutex<usize>>,
    waker: Arc<Mutex<Option<Waker>>>,
    fills: Arc<Mutex<usize>>,
}

impl Service<Module, Toy> for Later {
    fn event(&mut self, _: &Link<Module, Toy>, event: Event) {
        if let Event::Call(call) = event {
            self.open.push(call.id);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, link: &Link<Module, Toy>) {
        *self.waker.lock() = Some(cx.waker().clone());
        let mut told = self.told.lock();
        while *told > 0 && !self.open.is_empty() {
            *told -= 1;
            let id = self.open.remove(0);
            link.with(|connection, now| connection.reply(now, id, Body::from(&b"later"[..]))).unwrap();
        }
    }

    fn fill(&mut self, _: &mut Context<'_>, connection: &mut Connection<Module, Toy>, now: u64) {
        let mut fills = self.fills.lock();
        if *fills > 0 && connection.closed().is_none() && connection.outbox_bytes() == 0 {
            *fills -= 1;
            connection.log(now, Body::from(&b"log"[..]), &[]).unwrap();
        }
    }
}

struct LaterStage {
    told: Arc<Mutex<usize>>,
    waker: Arc<Mutex<Option<Waker>>>,
    fills: Arc<Mutex<usize>>,
    stage: Stage,
}

fn later() -> LaterStage {
    let (module, host) = active(Config::DEFAULT);
    let (up, down) = (Pipe::new(usize::MAX), Pipe::new(usize::MAX));
    let peer = super::kit::Peer { host, up: up.clone(), down: down.clone() };
    let (told, waker, fills) = (Arc::default(), Arc::default(), Arc::default());
    let service =
        Later { open: vec![], told: Arc::clone(&told), waker: Arc::clone(&waker), fills: Arc::clone(&fills) };
    let runtime = ToyRuntime::default();
    let clock = Arc::clone(&runtime.0);
    let (link, task) = Link::new(Arc::new(runtime), Ends { read: down, write: up }, module, service);
    let mut stage = Stage { link, task: Hand::new(task), peer, clock, seen: Seen::default() };
    assert!(stage.task.run().is_pending());
    LaterStage { told, waker, fills, stage }
}

#[test]
fn the_services_futures_wake_the_task() {
    let LaterStage { told, waker, mut stage, .. } = later();
    stage.peer.invoke(b"1");
    assert!(stage.task.run().is_pending());
    assert!(outcomes(&mut stage).is_empty());
    *told.lock() = 1;
    let woken = waker.lock().take().unwrap();
    woken.wake();
    assert!(stage.task.run().is_pending());
    assert_eq!(outcomes(&mut stage), ["later"]);
}

#[test]
fn waking_the_link_polls_the_service() {
    let LaterStage { told, mut stage, .. } = later();
    stage.peer.invoke(b"1");
    assert!(stage.task.run().is_pending());
    *told.lock() = 1;
    assert_eq!(stage.task.rings(), 0);
    stage.link.wake();
    stage.link.wake();
    assert_eq!(stage.task.rings(), 1, "woken once");
    assert!(stage.task.run().is_pending());
    assert_eq!(outcomes(&mut stage), ["later"]);
}

#[test]
fn the_service_fills_before_every_batch_until_it_has_no_more() {
    let LaterStage { fills, mut stage, .. } = later();
    *fills.lock() = 100;
    stage.link.wake();
    assert!(stage.task.run().is_pending());
    let logs = stage.peer.events();
    assert_eq!(logs.len(), 100);
    assert!(logs.iter().all(|event| matches!(event, Event::Log { .. })));
    assert_eq!(*fills.lock(), 0);
}

#[test]
fn a_command_from_elsewhere_is_written_by_the_task() {
    let mut stage = Stage::new();
    stage.link.with(|connection, now| connection.ping(now)).unwrap();
    assert_eq!(stage.task.rings(), 1);
    assert!(stage.task.run().is_pending());
    assert!(stage.peer.events().is_empty());
    assert!(!drain(&mut stage.peer.host).is_empty(), "the host answers the ping");
}

struct Lines(Arc<Mutex<Vec<String>>>);

impl StepSink for Lines {
    fn step(&mut self, step: &Step) {
        self.0.lock().push(step.to_string());
    }
}

#[test]
fn every_step_reaches_the_sink_in_order() {
    let mut stage = Stage::new();
    let lines = Arc::<Mutex<Vec<String>>>::default();
    stage.link.trace(100, Box::new(Lines(Arc::clone(&lines))));
    let mut call = stage.call(b"1");
    assert_eq!(lines.lock().len(), 1);
    assert!(call.poll().is_pending());
    let id = stage.peer.calls()[0].0;
    stage.peer.answer(id, b"one");
    assert_eq!(super::kit::reply(call.poll()), "one");
    stage.link.with(|connection, now| connection.abort(now));
    let lines = lines.lock();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with("> 0") && lines[1].starts_with("< 1"), "{lines:?}");
    assert!(lines[2].ends_with("Closed"), "{lines:?}");
}
