//! Two links over a simulated stream that splits, delays, stalls and breaks, on an executor that wakes for no reason and whose
//! sleeps end early. Everything follows from the seed in a failure's message.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use core::pin::Pin;
use core::task::{Context, Poll};
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use modipc_core::{
    Accepted, Body, CallClass, CallId, CallOptions, CallRefusal, CloseReason, Config, Connection, Dialect,
    Event, Hello, Host, Kind, Limits, Meaning, Module, Role,
};
use modipc_driver::{BoxFuture, CallError, Link, Runtime, Service, Stats};
use modipc_transport_mem::{Chance, How, LinkConfig, Rng, Side, Sim, SimConfig, SimRuntime, Stuck};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Toy;

impl Dialect for Toy {
    fn classify(&self, _: Kind, _: &[u8]) -> Meaning {
        Meaning { class: CallClass::Ordinary, needs: 0 }
    }

    fn encode_refusal(&self, _: Kind, _: CallRefusal, out: &mut Vec<u8>) {
        out.extend_from_slice(b"refused");
    }
}

/// Answers each call with its own body, some of them later.
struct Echo {
    runtime: SimRuntime,
    later: Vec<(BoxFuture<()>, CallId, Bytes)>,
}

impl Echo {
    fn new(runtime: SimRuntime) -> Self {
        Echo { runtime, later: Vec::new() }
    }
}

impl<R: Role> Service<R, Toy> for Echo {
    fn event(&mut self, link: &Link<R, Toy>, event: Event) {
        if let Event::Call(call) = event {
            match call.body.first() {
                Some(delay) if delay % 4 == 0 => {
                    let at = self.runtime.now() + u64::from(*delay) * 100;
                    self.later.push((self.runtime.sleep_until(at), call.id, call.body));
                }
                Some(_) | None => answer(link, call.id, call.body),
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, link: &Link<R, Toy>) {
        self.later.retain_mut(|(sleep, id, body)| {
            let ready = Pin::new(sleep).poll(cx).is_ready();
            if ready {
                answer(link, *id, core::mem::take(body));
            }
            !ready
        });
    }
}

fn answer<R: Role>(link: &Link<R, Toy>, id: CallId, body: Bytes) {
    let body = Body { head: &[], tail: body };
    // It is refused when the connection has ended, which is what half of the runs are about.
    let _ = link.with(|connection, now| connection.reply(now, id, body));
}

/// After the handshake, which has its own tests.
fn active() -> (Connection<Module, Toy>, Connection<Host, Toy>) {
    let mut module = Connection::<Module, Toy>::new(0, Config::DEFAULT, Toy);
    let mut host = Connection::<Host, Toy>::new(0, Config::DEFAULT, Toy);
    module.hello(0, Hello { module_id: "m".into(), version: "1".into(), ..Hello::default() }).unwrap();
    hand_over(&mut module, &mut host);
    assert!(matches!(host.poll_event(), Some(Event::Hello(_))));
    let accepted = Accepted {
        granted: vec![],
        limits: Limits::DEFAULT,
        node_version: "test".into(),
        instance_id: [0; 16],
        next_token: vec![],
        x1: true,
    };
    host.accept(0, accepted, 0).unwrap();
    hand_over(&mut host, &mut module);
    assert!(matches!(module.poll_event(), Some(Event::Accepted(_))));
    (module, host)
}

fn hand_over<A: Role, B: Role>(from: &mut Connection<A, Toy>, to: &mut Connection<B, Toy>) {
    while let Some(mut batch) = from.take_batch(0) {
        batch.slices().for_each(|slice| to.recv(0, slice));
        batch.advance(usize::MAX);
        from.batch_done(batch);
    }
}

/// How the calls of one run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Tally {
    answered: u64,
    dropped: u64,
    late: u64,
    lost: u64,
}

/// One caller: calls of all sizes, some with a deadline that is too short, some dropped half way.
async fn caller<R: Role>(link: Link<R, Toy>, seed: u64, tally: Arc<Mutex<Tally>>) {
    let mut rng = Rng::new(seed);
    for _ in 0..12 {
        let len = match rng.below(8) {
            0 => 200_000,
            1 => 20_000,
            n => n as usize * 30,
        };
        let body: Vec<u8> = (0..len).map(|i| (rng_byte(seed, i)) ^ len as u8).collect();
        let hasty = rng.below(6) == 0;
        let deadline_us = if hasty { 1_000 } else { 600_000_000 };
        let options = CallOptions { deadline_us, trace: None, idempotency: None, subscribe: None };
        let mut call = link.call(&options, Body { head: &[], tail: Bytes::from(body.clone()) });
        let patience = if rng.below(6) == 0 { rng.below(5_000) } else { u64::MAX / 2 };
        let mut enough = link.runtime().sleep_until(link.runtime().now() + patience);
        let ended = poll_fn(|cx| match Pin::new(&mut call).poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending => Pin::new(&mut enough).poll(cx).map(|()| None),
        });
        let ended = ended.await;
        drop(call);
        let mut tally = tally.lock().unwrap();
        match ended {
            None => tally.dropped += 1,
            Some(Ok(answer)) => {
                assert!(answer == body, "the answer to another call");
                tally.answered += 1;
            }
            Some(Err(CallError::DeadlineExceeded)) => {
                assert!(hasty, "the deadline came too early");
                tally.late += 1;
            }
            Some(Err(CallError::Lost { .. })) => tally.lost += 1,
            Some(Err(other)) => panic!("{other}"),
        }
    }
}

fn rng_byte(seed: u64, i: usize) -> u8 {
    (seed as usize).wrapping_mul(31).wrapping_add(i.wrapping_mul(2_654_435_761) >> 7) as u8
}

struct Ran {
    stats: [Stats; 2],
    reasons: [CloseReason; 2],
    tally: Tally,
    fingerprint: u64,
}

fn run(seed: u64, config: &LinkConfig) -> Result<Ran, Stuck> {
    let sim = Sim::with_config(SimConfig {
        seed,
        early_sleep: Chance::percent(20),
        spurious_wake: Chance::percent(5),
        ..SimConfig::default()
    });
    let runtime = sim.runtime();
    let (module, host) = active();
    let (first, second) = runtime.link(config);
    let shared: Arc<dyn Runtime> = Arc::new(runtime.clone());
    let (up, up_task) = Link::new(Arc::clone(&shared), first, module, Echo::new(runtime.clone()));
    let (down, down_task) = Link::new(shared, second, host, Echo::new(runtime.clone()));
    let reasons = Arc::new(Mutex::new([None; 2]));
    for (i, task) in [up_task, down_task].into_iter().enumerate() {
        let reasons = Arc::clone(&reasons);
        runtime.spawn_named(format!("connection {i}"), async move {
            let reason = task.await;
            reasons.lock().unwrap()[i] = Some(reason);
        });
    }
    let tally = Arc::new(Mutex::new(Tally::default()));
    let left = Arc::new(Mutex::new(0));
    for i in 0..5u64 {
        *left.lock().unwrap() += 1;
        let calls: BoxFuture<()> = if i < 3 {
            Box::pin(caller(up.clone(), seed * 8 + i, Arc::clone(&tally)))
        } else {
            Box::pin(caller(down.clone(), seed * 8 + i, Arc::clone(&tally)))
        };
        let (left, up) = (Arc::clone(&left), up.clone());
        runtime.spawn_named(format!("caller {i}"), async move {
            calls.await;
            let left = {
                let mut left = left.lock().unwrap();
                *left -= 1;
                *left
            };
            if left == 0 {
                // Refused if the stream broke before.
                let _ = up.with(|connection, now| connection.goodbye(now, 0, "done"));
            }
        });
    }
    let ended = async { (up.wait_closed().await, down.wait_closed().await) };
    sim.run_until(ended)?;
    let waiting = sim.run_until_idle()?;
    assert!(waiting.is_empty(), "seed {seed}: {waiting:?}");
    let reasons = reasons.lock().unwrap().map(|reason| reason.unwrap());
    let tally = *tally.lock().unwrap();
    Ok(Ran { stats: [up.stats(), down.stats()], reasons, tally, fingerprint: sim.fingerprint() })
}

#[track_caller]
fn check(seed: u64, config: &LinkConfig) -> Ran {
    let ran = run(seed, config).unwrap_or_else(|stuck| panic!("seed {seed}: {stuck}"));
    for stats in ran.stats {
        let outcomes = stats.replies + stats.cancelled + stats.deadlines_exceeded + stats.lost;
        assert_eq!(stats.calls, outcomes, "seed {seed}: one outcome for each call");
    }
    ran
}

#[test]
fn on_a_rough_stream_every_call_ends_as_it_should() {
    let mut sum = Tally::default();
    for seed in 0..80 {
        let Ran { stats, reasons, tally, .. } = check(seed, &LinkConfig::rough());
        assert!(
            reasons.iter().all(|reason| matches!(reason, CloseReason::Drained { .. })),
            "seed {seed}: {reasons:?}"
        );
        assert_eq!(tally.lost, 0, "seed {seed}");
        assert_eq!(stats[0].bytes_out, stats[1].bytes_in, "seed {seed}");
        assert_eq!(stats[1].bytes_out, stats[0].bytes_in, "seed {seed}");
        sum.answered += tally.answered;
        sum.dropped += tally.dropped;
        sum.late += tally.late;
    }
    assert!(sum.answered > 1000 && sum.dropped > 50 && sum.late > 50, "all of it happened: {sum:?}");
}

#[test]
fn on_a_stream_that_breaks_every_call_ends_and_both_sides_close() {
    let mut lost = 0;
    for seed in 0..160u64 {
        let how = [How::Crash, How::Reset, How::HalfClose][seed as usize % 3];
        let side = if seed % 2 == 0 { Side::First } else { Side::Second };
        let at = Rng::new(seed).next_u64() % 1_000_000;
        let ran = check(seed, &LinkConfig::rough().cut_after(side, at, how));
        lost += ran.tally.lost;
    }
    assert!(lost > 150, "calls were lost: {lost}");
}

#[test]
fn a_seed_repeats() {
    for seed in 0..5 {
        let (one, two) = (check(seed, &LinkConfig::rough()), check(seed, &LinkConfig::rough()));
        assert_eq!(one.fingerprint, two.fingerprint);
        assert_eq!((one.stats, one.tally), (two.stats, two.tally));
    }
}
