//! The simulation itself: that it repeats, that it ends, and that its faults happen where they should.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use core::num::NonZeroUsize;
use core::task::Poll;
use std::collections::BTreeSet;
use std::future::{pending, poll_fn};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use modipc_driver::{PollRead, PollWrite, Runtime, Transport};
use modipc_transport_mem::{
    Chance, ConnectError, Cut, Delay, How, Lasts, LinkConfig, ListenError, MemReader, MemTransport,
    MemWriter, Network, NetworkConfig, Side, Sim, SimConfig, SimRuntime, Sizes, Stall, Stuck, Wait, When,
};

async fn read(reader: &mut MemReader, room: usize) -> io::Result<Vec<u8>> {
    let mut buf = vec![0; room];
    let got = poll_fn(|cx| reader.poll_read(cx, &mut [IoSliceMut::new(&mut buf)])).await?;
    buf.truncate(got);
    Ok(buf)
}

async fn read_to_end(reader: &mut MemReader) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        match read(reader, 64).await? {
            got if got.is_empty() => return Ok(all),
            got => all.extend(got),
        }
    }
}

async fn write_all(writer: &mut MemWriter, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = poll_fn(|cx| writer.poll_write(cx, &[IoSlice::new(bytes)])).await?;
        bytes = &bytes[written..];
    }
    Ok(())
}

async fn close(writer: &mut MemWriter) -> io::Result<()> {
    poll_fn(|cx| writer.poll_close(cx)).await
}

/// Sends back whatever comes, until the end.
async fn echo(transport: MemTransport) -> io::Result<()> {
    let (mut reader, mut writer) = transport.split();
    loop {
        let got = read(&mut reader, 32).await?;
        if got.is_empty() {
            return close(&mut writer).await;
        }
        write_all(&mut writer, &got).await?;
    }
}

/// Sends 40 small messages and reads each one's echo; gives what came back before the first error.
async fn client(transport: MemTransport) -> (Vec<u8>, io::Result<()>) {
    let (mut reader, mut writer) = transport.split();
    let mut heard = Vec::new();
    for number in 0..40_u8 {
        let message = vec![number; 5 + usize::from(number % 3)];
        let done = async {
            write_all(&mut writer, &message).await?;
            let mut left = message.len();
            while left > 0 {
                let got = read(&mut reader, left).await?;
                if got.is_empty() {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                left -= got.len();
                heard.extend(got);
            }
            Ok(())
        };
        if let Err(error) = done.await {
            return (heard, Err(error));
        }
    }
    (heard, close(&mut writer).await)
}

fn sent() -> Vec<u8> {
    (0..40_u8).flat_map(|number| vec![number; 5 + usize::from(number % 3)]).collect()
}

fn spawn_echo(runtime: &SimRuntime, transport: MemTransport) {
    runtime.spawn_named("echo", async move {
        // Its end is what the client observes.
        let _ = echo(transport).await;
    });
}

/// Ten clients with their echoes on rough links, and what they did in the order in which they did it.
fn busy_run(config: SimConfig) -> (u64, u64, Vec<(u64, u8)>) {
    let sim = Sim::with_config(config);
    let runtime = sim.runtime();
    let log = Arc::new(Mutex::new(Vec::new()));
    for number in 0..10 {
        let (near, far) = runtime.link(&LinkConfig::rough());
        spawn_echo(&runtime, far);
        let (log, clock) = (Arc::clone(&log), sim.runtime());
        runtime.spawn_named(format!("client {number}"), async move {
            let (heard, ended) = client(near).await;
            ended.expect("a rough link loses nothing");
            assert_eq!(heard, sent());
            log.lock().expect("the log").push((clock.now(), number));
        });
    }
    let pending = sim.run_until_idle().unwrap_or_else(|stuck| panic!("{stuck}"));
    assert_eq!(pending, []);
    let log = log.lock().expect("the log").clone();
    assert_eq!(log.len(), 10);
    (sim.fingerprint(), sim.steps(), log)
}

fn seeded(seed: u64) -> SimConfig {
    SimConfig { seed, ..SimConfig::default() }
}

#[test]
fn the_same_seed_makes_the_same_schedule() {
    for seed in [0, 1, u64::MAX] {
        assert_eq!(busy_run(seeded(seed)), busy_run(seeded(seed)), "seed {seed}");
        let nasty = || SimConfig {
            early_sleep: Chance::percent(50),
            spurious_wake: Chance::percent(20),
            ..seeded(seed)
        };
        assert_eq!(busy_run(nasty()), busy_run(nasty()), "seed {seed}, with every disturbance");
    }
}

#[test]
fn different_seeds_make_different_schedules() {
    let fingerprints: BTreeSet<u64> = (0..20).map(|seed| busy_run(seeded(seed)).0).collect();
    assert_eq!(fingerprints.len(), 20);
    let orders: BTreeSet<Vec<u8>> = (0..20)
        .map(|seed| busy_run(seeded(seed)).2.into_iter().map(|(_, number)| number).collect())
        .collect();
    assert!(orders.len() > 10, "only {} orders of ten clients out of 20 seeds", orders.len());
}

#[test]
fn the_order_of_tasks_is_the_seeds_choice() {
    let order = |seed| {
        let sim = Sim::new(seed);
        let order = Arc::new(Mutex::new(Vec::new()));
        for number in 0..4 {
            let order = Arc::clone(&order);
            sim.runtime().spawn(Box::pin(async move { order.lock().expect("the order").push(number) }));
        }
        assert_eq!(sim.run_until_idle(), Ok(Vec::new()));
        order.lock().expect("the order").clone()
    };
    let orders: BTreeSet<Vec<i32>> = (0..500).map(order).collect();
    assert_eq!(orders.len(), 24, "every order of four tasks comes up");
}

#[test]
fn time_jumps_to_the_next_timer_and_stands_still_otherwise() {
    let sim = Sim::new(1);
    let runtime = sim.runtime();
    let clock = runtime.clone();
    let end = sim.run_until(async move {
        assert_eq!(clock.now(), 0);
        clock.sleep_until(86_400_000_000).await;
        assert_eq!(clock.now(), 86_400_000_000);
        clock.sleep_until(5).await;
        clock.now()
    });
    assert_eq!(end, Ok(86_400_000_000));
}

#[test]
fn a_run_for_a_time_ends_at_that_time() {
    let sim = Sim::new(1);
    let ticks = Arc::new(AtomicU64::new(0));
    let (clock, counter) = (sim.runtime(), Arc::clone(&ticks));
    sim.runtime().spawn_named("ticker", async move {
        loop {
            clock.sleep_until(clock.now() + 100).await;
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    for (us, now, expected) in [(99, 99, 0), (1, 100, 1), (950, 1_050, 10)] {
        let pending = sim.run_for(us).expect("no livelock");
        assert_eq!((sim.runtime().now(), ticks.load(Ordering::Relaxed)), (now, expected));
        assert_eq!(pending.len(), 1);
        assert_eq!(pending[0].name.as_deref(), Some("ticker"));
    }
}

#[test]
fn a_deadlock_says_who_waits_for_what_with_which_seed() {
    let sim = Sim::new(77);
    let runtime = sim.runtime();
    let (near, far) = runtime.link(&LinkConfig::default());
    runtime.spawn_named("module", async move {
        let (mut reader, _writer) = far.split();
        let _ = read(&mut reader, 1).await;
    });
    let stuck = sim.run_until(async move {
        let (mut reader, _writer) = near.split();
        read(&mut reader, 1).await
    });
    let stuck = stuck.map(|_| ()).expect_err("both wait for the other");
    let Stuck::Deadlock { seed: 77, now_us: 0, pending } = &stuck else { panic!("{stuck}") };
    let waits: Vec<_> = pending.iter().map(|task| (task.name.as_deref(), task.waits.clone())).collect();
    let reading = |side| vec![Wait::Read { link: 1, side }];
    assert_eq!(waits, [(None, reading(Side::First)), (Some("module"), reading(Side::Second))]);
    let text = stuck.to_string();
    for part in ["deadlock", "seed 77", "run_until", "module", "bytes on the Second side of link 1"] {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
}

#[test]
fn a_livelock_ends_with_the_seed() {
    let sim = Sim::with_config(SimConfig { seed: 99, steps_max: 1_000, ..SimConfig::default() });
    sim.runtime().spawn_named("spinner", async {
        poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        })
        .await;
    });
    let stuck = sim.run_until(pending::<()>()).expect_err("it never ends");
    let Stuck::Livelock { seed: 99, steps: 1_000, pending, .. } = &stuck else { panic!("{stuck}") };
    assert_eq!(pending[0].name.as_deref(), Some("spinner"), "who ran last comes first");
    assert!(stuck.to_string().contains("seed 99"), "{stuck}");
    // Sleeping again and again does not end either.
    let clock = sim.runtime();
    let stuck = sim.run_until(async move {
        loop {
            clock.sleep_until(clock.now() + 1).await;
        }
    });
    let stuck: Stuck = stuck.expect_err("it never ends");
    assert!(matches!(stuck, Stuck::Livelock { .. }), "{stuck}");
}

#[test]
fn a_panic_in_a_task_reaches_the_test_and_leaves_the_simulation_usable() {
    let sim = Sim::new(1);
    sim.runtime().spawn_named("doomed", async { panic!("as planned") });
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sim.run_until_idle()));
    assert!(panicked.is_err());
    assert_eq!(sim.run_until(async { 7 }), Ok(7));
}

#[test]
fn dropping_the_simulation_drops_its_tasks() {
    let sim = Sim::new(1);
    let runtime = sim.runtime();
    let held = Arc::new(());
    let (own, clock) = (Arc::clone(&held), runtime.clone());
    runtime.spawn(Box::pin(async move {
        clock.sleep_until(u64::MAX).await;
        drop(own);
    }));
    assert!(sim.run_for(10).is_ok());
    assert_eq!(Arc::strong_count(&held), 2);
    drop(sim);
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn early_sleeps_and_spurious_wakes_do_happen() {
    let config =
        SimConfig { early_sleep: Chance::percent(50), spurious_wake: Chance::percent(50), ..seeded(5) };
    let sim = Sim::with_config(config);
    let runtime = sim.runtime();
    let polls = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&polls);
    runtime.spawn(Box::pin(poll_fn(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        Poll::Pending
    })));
    let early = sim.run_until(async move {
        let mut early = 0;
        for _ in 0..100 {
            let at_us = runtime.now() + 1_000;
            runtime.sleep_until(at_us).await;
            early += u32::from(runtime.now() < at_us);
        }
        early
    });
    assert!(early.as_ref().is_ok_and(|early| (20..80).contains(early)), "{early:?} of 100 sleeps were early");
    assert!(polls.load(Ordering::Relaxed) > 10, "nobody woke the task that waits for nothing");
}

/// Every byte of a fixed session, both directions, every kind of cut: the client always ends, and has heard a prefix.
#[test]
fn a_cut_at_every_byte_ends_the_session_in_order() {
    let total = sent().len() as u64;
    let mut seen = BTreeSet::new();
    for how in [How::HalfClose, How::Reset, How::Crash] {
        for from in [Side::First, Side::Second] {
            for at in 0..=total + 1 {
                let sim = Sim::new(at);
                let runtime = sim.runtime();
                let (near, far) = runtime.link(&LinkConfig::default().cut_after(from, at, how));
                spawn_echo(&runtime, far);
                let (heard, ended) = sim
                    .run_until(client(near))
                    .unwrap_or_else(|stuck| panic!("{how:?} {from:?} {at}: {stuck}"));
                assert!(sent().starts_with(&heard), "{how:?} {from:?} {at}");
                if at > total {
                    assert!(ended.is_ok() && heard == sent(), "a cut behind the end changed something");
                } else if at < total {
                    let kind = ended.expect_err("the session was cut").kind();
                    assert!(heard.len() as u64 <= at, "{how:?} {from:?} {at}");
                    seen.insert((format!("{how:?} {from:?}"), format!("{kind:?}")));
                }
            }
        }
    }
    // The client writes, then reads the echo. So it meets the end of what it writes as a write that fails, and the end of
    // what it reads as an end, unless the peer ended before it wrote again.
    let expected = [
        ("Crash First", "ConnectionAborted"),
        ("Crash Second", "BrokenPipe"),
        ("Crash Second", "UnexpectedEof"),
        ("HalfClose First", "BrokenPipe"),
        ("HalfClose Second", "UnexpectedEof"),
        ("Reset First", "ConnectionReset"),
        ("Reset Second", "ConnectionReset"),
    ];
    let seen: Vec<_> = seen.iter().map(|(cut, kind)| (cut.as_str(), kind.as_str())).collect();
    assert_eq!(seen, expected, "which side sees which error");
}

#[test]
fn random_cuts_hit_some_sessions_and_spare_others() {
    let outcome = |seed| {
        let sim = Sim::new(seed);
        let runtime = sim.runtime();
        let mut link = LinkConfig::rough();
        link.first.cut = Cut { when: When::Random(Chance::percent(1)), how: How::Reset };
        let (near, far) = runtime.link(&link);
        spawn_echo(&runtime, far);
        let (heard, ended) = sim.run_until(client(near)).unwrap_or_else(|stuck| panic!("{stuck}"));
        assert!(sent().starts_with(&heard));
        (ended.is_ok(), heard.len())
    };
    let outcomes: Vec<_> = (0..100).map(outcome).collect();
    let spared = outcomes.iter().filter(|(spared, _)| *spared).count();
    assert!((20..90).contains(&spared), "{spared} of 100 sessions were spared");
    let lengths: BTreeSet<_> = outcomes.iter().map(|(_, heard)| heard).collect();
    assert!(lengths.len() > 10, "the cuts fell into {} places only", lengths.len());
}

#[test]
fn delays_take_time_and_coalescing_makes_few_reads_out_of_many_writes() {
    let run = |first| {
        let sim = Sim::new(1);
        let runtime = sim.runtime();
        let (near, far) = runtime.link(&LinkConfig { first, ..LinkConfig::default() });
        let clock = sim.runtime();
        runtime.spawn(Box::pin(async move {
            let (_reader, mut writer) = near.split();
            clock.sleep_until(5).await;
            for _ in 0..20 {
                write_all(&mut writer, b"x").await.expect("a write");
                clock.sleep_until(clock.now() + 10).await;
            }
        }));
        let reads = sim.run_until(async move {
            let (mut reader, _writer) = far.split();
            let mut reads = Vec::new();
            loop {
                match read(&mut reader, 64).await.expect("a read").len() {
                    0 => return reads,
                    got => reads.push(got),
                }
            }
        });
        (reads.unwrap_or_else(|stuck| panic!("{stuck}")), sim.runtime().now())
    };
    let fault = modipc_transport_mem::LaneFaults::default;
    assert_eq!(run(fault()), (vec![1; 20], 205));
    assert_eq!(
        run(modipc_transport_mem::LaneFaults { delay: Delay::Fixed(1_000), ..fault() }),
        (vec![1; 20], 1_195)
    );
    let (reads, _) = run(modipc_transport_mem::LaneFaults { coalesce_us: 100, ..fault() });
    assert_eq!(reads, [10, 10], "20 writes in 200 us arrive at 100 and 200 us");
    let split = Sizes::Fixed(NonZeroUsize::MIN);
    let (reads, _) = run(modipc_transport_mem::LaneFaults { coalesce_us: 100, reads: split, ..fault() });
    assert_eq!(reads, vec![1; 20]);
}

#[test]
fn a_peer_that_hangs_is_a_deadlock_and_one_that_stalls_is_not() {
    let run = |lasts| {
        let sim = Sim::new(1);
        let runtime = sim.runtime();
        let mut link = LinkConfig::default();
        link.second.stall = Stall { when: When::Byte(30), lasts };
        let (near, far) = runtime.link(&link);
        spawn_echo(&runtime, far);
        let ended = sim.run_until(client(near)).map(|(heard, ended)| (heard == sent(), ended.is_ok()));
        (ended, runtime.now())
    };
    assert_eq!(run(Lasts::Us(7_000)), (Ok((true, true)), 7_000));
    let (stuck, _) = run(Lasts::Forever);
    let stuck = stuck.expect_err("the peer hangs").to_string();
    assert!(stuck.contains("bytes on the First side") && stuck.contains("echo"), "{stuck}");
}

fn network(sim: &Sim, backlog: usize) -> Network {
    let backlog = NonZeroUsize::new(backlog).expect("not zero");
    Network::new(sim.runtime(), NetworkConfig { backlog, ..NetworkConfig::default() })
}

#[test]
fn connections_are_accepted_in_order_and_carry_bytes() {
    let sim = Sim::new(3);
    let network = network(&sim, 8);
    let mut listener = network.listen("node").expect("the name is free");
    assert_eq!(network.listen("node").err(), Some(ListenError::InUse { name: "node".into() }));
    let runtime = sim.runtime();
    sim.runtime().spawn_named("node", async move {
        for expected in 1..=3 {
            let accepted = listener.accept().await;
            assert_eq!(accepted.connection, expected);
            spawn_echo(&runtime, accepted.transport);
        }
    });
    for _ in 0..3 {
        let near = network.connect("node").expect("somebody listens");
        assert_eq!(near.side(), Side::First);
        let (heard, ended) = sim.run_until(client(near)).unwrap_or_else(|stuck| panic!("{stuck}"));
        assert!(ended.is_ok() && heard == sent());
    }
    assert_eq!(sim.run_until_idle(), Ok(Vec::new()));
    // The listener was dropped with its task.
    assert_eq!(network.connect("node").err(), Some(ConnectError::Refused { name: "node".into() }));
    assert!(network.listen("node").is_ok());
}

#[test]
fn a_full_queue_refuses_and_a_dropped_listener_resets_who_waits() {
    let sim = Sim::new(3);
    let network = network(&sim, 2);
    let listener = network.listen("node").expect("the name is free");
    let waiting = network.connect("node").expect("room for one");
    let other = network.connect("node").expect("room for two");
    assert_eq!(network.connect("node").err(), Some(ConnectError::Busy { name: "node".into(), backlog: 2 }));
    let ended = sim.run_until(async move {
        let (mut reader, mut writer) = waiting.split();
        write_all(&mut writer, b"hello").await.expect("nobody has accepted it, but there is room");
        drop(listener);
        (read_to_end(&mut reader).await, read_to_end(&mut other.split().0).await)
    });
    let (unread, silent) = ended.unwrap_or_else(|stuck| panic!("{stuck}"));
    assert_eq!(unread.expect_err("its bytes were never read").kind(), ErrorKind::ConnectionReset);
    assert_eq!(silent.expect("an orderly end"), b"");
}

#[test]
fn a_scripted_link_is_used_once() {
    let sim = Sim::new(3);
    let network = network(&sim, 8);
    let mut listener = network.listen("node").expect("the name is free");
    network.script_next_link(LinkConfig::default().cut_after(Side::First, 4, How::Reset));
    let runtime = sim.runtime();
    sim.runtime().spawn(Box::pin(async move {
        loop {
            spawn_echo(&runtime, listener.accept().await.transport);
        }
    }));
    let mut outcomes = Vec::new();
    for _ in 0..2 {
        let near = network.connect("node").expect("somebody listens");
        let (_, ended) = sim.run_until(client(near)).unwrap_or_else(|stuck| panic!("{stuck}"));
        outcomes.push(ended.map_err(|error| error.kind()));
    }
    assert_eq!(outcomes, [Err(ErrorKind::ConnectionReset), Ok(())]);
}
