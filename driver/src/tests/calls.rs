//! Calls: who writes, who reads, who is woken, and how calls end.

use core::task::Poll;

use bytes::Bytes;
use modipc_core::{Body, Config, Event, Limits, Refused};

use super::kit::{Counts, HandCall, SECOND, Stage, options, reply};
use crate::CallError;

#[test]
fn a_sole_caller_writes_and_reads_for_itself_and_the_task_sleeps() {
    let mut stage = Stage::new();
    // The first calls set the task's sleep, even if it runs after them; from then on it is not needed.
    answer_one(&mut stage);
    assert!(stage.task.run().is_pending());
    let sleeps = stage.clock.sleeps();
    assert!(sleeps > 0);
    let (up, down) = (stage.peer.up.counts(), stage.peer.down.counts());
    for _ in 0..10 {
        answer_one(&mut stage);
        assert_eq!(stage.task.rings(), 0, "the task has nothing to do");
    }
    assert_eq!(stage.peer.up.counts().writes - up.writes, 10);
    let read = Counts { reads: down.reads + 10, ..down };
    assert_eq!(stage.peer.down.counts(), read, "one read for each answer, none in vain");
    assert_eq!((stage.slots(), stage.clock.sleeps()), (0, sleeps));
}

fn answer_one(stage: &mut Stage) {
    let mut call = stage.call(b"ask");
    assert!(stage.peer.up.len() > 0, "written before anything was polled");
    assert!(call.poll().is_pending());
    let calls = stage.peer.calls();
    assert_eq!(calls.len(), 1);
    stage.peer.answer(calls[0].0, b"answer");
    assert_eq!(call.rings(), 1);
    assert_eq!(reply(call.poll()), "answer");
    assert_eq!(call.rings(), 0, "a caller that reads its own answer does not wake itself");
    assert!(!stage.has_leader());
}

#[test]
fn with_a_second_caller_the_task_reads_for_both() {
    let mut stage = Stage::new();
    let (mut first, mut second) = (stage.call(b"1"), stage.call(b"2"));
    assert!(!stage.has_leader());
    assert!(first.poll().is_pending() && second.poll().is_pending());
    assert_eq!(stage.peer.calls().len(), 1, "the second one waits for the task");
    assert!(stage.task.rings() > 0);
    assert!(stage.task.run().is_pending());
    let second_id = stage.peer.calls()[0].0;
    let first_id = modipc_core::CallId(second_id.0 - 1);
    stage.peer.answer(second_id, b"two");
    stage.peer.answer(first_id, b"one");
    assert_eq!((first.rings(), second.rings()), (0, 0));
    assert!(stage.task.run().is_pending());
    assert_eq!((first.rings(), second.rings()), (1, 1));
    assert_eq!((reply(first.poll()), reply(second.poll())), (Bytes::from("one"), Bytes::from("two")));
    assert_eq!(stage.slots(), 0);
}

#[test]
fn a_leader_that_has_read_nothing_yet_hands_a_ready_read_to_the_task() {
    let mut stage = Stage::new();
    answer_one(&mut stage);
    assert!(stage.task.run().is_pending());
    let mut first = stage.call(b"1");
    assert!(first.poll().is_pending());
    let id = stage.peer.calls()[0].0;
    stage.peer.answer(id, b"one");
    assert_eq!((first.rings(), stage.task.rings()), (1, 0), "the leader was woken, and did not run yet");
    let second = stage.call(b"2");
    assert!(stage.task.rings() > 0, "now it is up to the task");
    assert!(stage.task.run().is_pending());
    assert_eq!(reply(first.poll()), "one");
    drop(second);
}

/// One round of many callers: all call, the executor lets them, then the task runs.
fn round_of(stage: &mut Stage, n: usize) -> Counts {
    let before = (stage.peer.up.counts(), stage.peer.down.counts());
    let mut calls: Vec<HandCall> = (0..n).map(|_| stage.call(b"x")).collect();
    assert!(calls.iter_mut().all(|call| call.poll().is_pending()));
    assert!(stage.task.run().is_pending());
    let asked = stage.peer.calls();
    assert_eq!(asked.len(), n);
    for (id, body) in asked {
        stage.peer.host.reply(0, id, Body { head: &[], tail: body }).unwrap();
    }
    stage.peer.send();
    assert!(stage.task.run().is_pending());
    calls.iter_mut().for_each(|call| assert_eq!(reply(call.poll()), "x"));
    let after = (stage.peer.up.counts(), stage.peer.down.counts());
    Counts {
        writes: after.0.writes - before.0.writes,
        reads: after.1.reads - before.1.reads,
        reads_in_vain: after.1.reads_in_vain - before.1.reads_in_vain,
    }
}

#[test]
fn many_callers_are_written_together() {
    let mut stage = Stage::new();
    round_of(&mut stage, 64);
    let counts = round_of(&mut stage, 64);
    assert_eq!(counts, Counts { writes: 1, reads: 1, reads_in_vain: 0 });
}

#[test]
fn the_task_lets_others_run_once_before_it_writes_for_many() {
    let mut stage = Stage::new();
    round_of(&mut stage, 2);
    let first = stage.call(b"1");
    assert!(stage.task.rings() > 0);
    assert!(stage.task.poll().is_pending());
    assert_eq!(stage.peer.up.len(), 0, "it stepped back");
    let second = stage.call(b"2");
    assert!(stage.task.run().is_pending());
    assert_eq!(stage.peer.calls().len(), 2);
    drop((first, second));
}

#[test]
fn dropping_a_call_tells_the_peer_and_writes_nothing_itself() {
    let mut stage = Stage::new();
    let mut call = stage.call(b"long");
    assert!(call.poll().is_pending());
    assert!(stage.task.run().is_pending());
    let id = stage.peer.calls()[0].0;
    drop(call);
    assert_eq!(stage.peer.up.len(), 0, "the drop wrote nothing");
    assert_eq!(stage.slots(), 0);
    assert!(!stage.has_leader());
    assert!(stage.task.rings() > 0);
    assert!(stage.task.run().is_pending());
    assert!(matches!(stage.peer.events()[..], [Event::CallCancelled(cancelled)] if cancelled == id));
    // The late answer is nobody's.
    stage.peer.answer(id, b"late");
    assert!(stage.task.run().is_pending());
    assert_eq!(stage.link.stats().cancelled, 1);
    assert_eq!(stage.link.closed(), None);
}

#[test]
fn a_call_that_is_dropped_with_its_answer_unread_is_not_cancelled() {
    let mut stage = Stage::new();
    let (first, second) = (stage.call(b"1"), stage.call(b"2"));
    assert!(stage.task.run().is_pending());
    for (id, _) in stage.peer.calls() {
        stage.peer.answer(id, b"a");
    }
    assert!(stage.task.run().is_pending());
    drop((first, second));
    assert!(stage.task.run().is_pending());
    assert_eq!((stage.slots(), stage.peer.up.len()), (0, 0));
    assert_eq!(stage.link.stats().cancelled, 0);
}

#[test]
fn a_leader_that_is_dropped_leaves_its_read_to_the_task() {
    let mut stage = Stage::new();
    answer_one(&mut stage);
    assert!(stage.task.run().is_pending());
    let mut call = stage.call(b"1");
    assert!(call.poll().is_pending());
    stage.peer.invoke(b"hi");
    assert_eq!((call.rings(), stage.task.rings()), (1, 0));
    drop(call);
    assert!(stage.task.rings() > 0);
    assert!(stage.task.run().is_pending());
    assert!(matches!(&stage.seen.take()[..], [Event::Call(call)] if call.body == "hi"));
}

#[test]
fn a_leader_that_is_not_polled_holds_nobody_up_for_long() {
    let mut stage = Stage::new();
    let mut call = stage.call(b"1");
    assert!(call.poll().is_pending());
    assert!(stage.task.run().is_pending());
    stage.peer.invoke(b"hi");
    assert!(stage.task.run().is_pending(), "the first time, the task sets its sleep");
    assert!(stage.seen.take().is_empty());
    stage.clock.advance(crate::cell::LEADER_IDLE_US);
    assert!(stage.task.run().is_pending());
    assert!(matches!(&stage.seen.take()[..], [Event::Call(call)] if call.body == "hi"));
    let id = stage.peer.calls()[0].0;
    stage.peer.answer(id, b"one");
    assert!(stage.task.run().is_pending());
    assert_eq!(reply(call.poll()), "one");
}

#[test]
fn events_that_a_leader_reads_go_to_the_service_by_the_task() {
    let mut stage = Stage::new();
    let mut call = stage.call(b"1");
    assert!(call.poll().is_pending());
    assert!(stage.task.run().is_pending());
    let id = stage.peer.calls()[0].0;
    stage.peer.invoke(b"hi");
    assert!(call.poll().is_pending(), "its answer is not among it");
    assert!(stage.has_leader());
    assert!(stage.task.rings() > 0);
    assert!(stage.task.run().is_pending());
    assert!(matches!(&stage.seen.take()[..], [Event::Call(call)] if call.body == "hi"));
    stage.peer.answer(id, b"one");
    assert_eq!(reply(call.poll()), "one");
}

#[test]
fn a_leader_stops_reading_when_the_service_falls_behind() {
    let mut stage = Stage::new();
    let mut call = stage.call(b"1");
    assert!(call.poll().is_pending());
    for _ in 0..40 {
        stage.peer.invoke(b"hi");
        assert!(call.poll().is_pending());
    }
    assert!(!stage.has_leader());
    assert!(stage.peer.down.len() > 0, "the rest waits for the task");
    assert!(stage.task.run().is_pending());
    assert_eq!(stage.seen.take().len(), 40);
}

#[test]
fn a_deadline_ends_the_call_and_only_an_earlier_one_wakes_the_task() {
    let mut stage = Stage::new();
    let mut late = Stage::call(&stage, b"late");
    assert!(late.poll().is_pending());
    assert!(stage.task.run().is_pending());
    let sleeps = stage.clock.sleeps();
    stage.link.with(|connection, now| {
        connection.call(now, &options(20 * SECOND), Body::from(&b"later"[..]), u64::MAX).unwrap();
    });
    assert!(stage.task.run().is_pending());
    assert_eq!(stage.clock.sleeps(), sleeps, "a later deadline sets nothing");
    let mut soon = super::kit::Hand::new(stage.link.call(&options(SECOND), Body::from(&b"soon"[..])));
    assert!(soon.poll().is_pending());
    assert!(stage.task.run().is_pending());
    assert_eq!(stage.clock.sleeps(), sleeps + 1);
    stage.clock.advance(SECOND);
    assert!(stage.task.run().is_pending());
    assert_eq!(soon.poll(), Poll::Ready(Err(CallError::DeadlineExceeded)));
    assert!(late.poll().is_pending());
    stage.clock.advance(9 * SECOND);
    assert!(stage.task.run().is_pending());
    assert_eq!(late.poll(), Poll::Ready(Err(CallError::DeadlineExceeded)));
    assert_eq!(stage.link.stats().deadlines_exceeded, 2);
    assert_eq!(stage.link.closed(), None);
}

#[test]
fn a_sleep_that_fires_early_is_set_again() {
    let mut stage = Stage::new();
    let mut first = stage.call(b"1");
    assert!(stage.task.run().is_pending());
    assert!(first.poll().is_pending());
    let id = stage.peer.calls()[0].0;
    stage.peer.answer(id, b"one");
    assert_eq!(reply(first.poll()), "one");
    assert!(stage.task.run().is_pending());
    stage.clock.advance(5 * SECOND);
    assert!(stage.task.run().is_pending());
    let mut second = stage.call(b"2");
    assert_eq!(stage.task.rings(), 0, "what is set fires before it is needed");
    assert!(second.poll().is_pending());
    stage.clock.advance(5 * SECOND);
    assert!(stage.task.run().is_pending());
    assert!(second.poll().is_pending());
    stage.clock.advance(5 * SECOND);
    assert!(stage.task.run().is_pending());
    assert_eq!(second.poll(), Poll::Ready(Err(CallError::DeadlineExceeded)));
}

#[test]
fn the_last_waker_of_a_call_counts() {
    let mut stage = Stage::new();
    let mut call = stage.call(b"1");
    assert!(call.poll().is_pending());
    let old = core::mem::take(&mut call.bell);
    assert!(call.poll().is_pending());
    let id = stage.peer.calls()[0].0;
    stage.peer.answer(id, b"one");
    assert_eq!((old.rings(), call.rings()), (0, 1));
    assert_eq!(reply(call.poll()), "one");
}

#[test]
fn the_last_waker_of_the_task_counts() {
    let mut stage = Stage::new();
    let old = core::mem::take(&mut stage.task.bell);
    assert!(stage.task.run().is_pending());
    old.rings();
    stage.peer.invoke(b"hi");
    assert_eq!(old.rings(), 0);
    assert!(stage.task.rings() > 0);
}

#[test]
fn a_refused_call_fails_at_once_and_leaves_nothing() {
    let limits = Limits { calls_max: 1, ..Limits::DEFAULT };
    let mut stage = Stage::with(Config { limits, ..Config::DEFAULT }, usize::MAX);
    let first = stage.call(b"1");
    let mut second = stage.call(b"2");
    assert_eq!(second.poll(), Poll::Ready(Err(CallError::Refused(Refused::WindowFull))));
    assert_eq!(stage.slots(), 1);
    drop((first, second));
    assert_eq!(stage.slots(), 0);
    assert!(stage.task.run().is_pending());
}

#[test]
fn a_body_that_the_transport_takes_in_pieces_arrives_whole() {
    let mut stage = Stage::with(Config::DEFAULT, 100);
    let body: Vec<u8> = (0..10_000u32).map(|i| i as u8).collect();
    let mut call = stage.call(&body);
    assert!(call.poll().is_pending());
    // A second call while the first batch is half written: it must not be written into the middle.
    let mut second = stage.call(b"second");
    assert!(second.poll().is_pending());
    let mut asked = Vec::new();
    for _ in 0..200 {
        assert!(stage.task.run().is_pending());
        asked.extend(stage.peer.calls());
    }
    assert_eq!(asked.len(), 2);
    assert_eq!((&asked[0].1[..], &asked[1].1[..]), (&body[..], &b"second"[..]));
    assert!(stage.peer.up.counts().writes > 100);
}

#[test]
fn a_bulk_answer_is_read_into_its_own_buffer() {
    let mut stage = Stage::new();
    let block: Vec<u8> = (0..1_048_576u32).map(|i| i.wrapping_mul(2_654_435_761) as u8).collect();
    let mut call = stage.call(b"block");
    assert!(call.poll().is_pending());
    let id = stage.peer.calls()[0].0;
    stage.peer.answer(id, &block);
    let answer = loop {
        stage.peer.events();
        stage.peer.send();
        if let Poll::Ready(answer) = call.poll() {
            break answer.unwrap();
        }
        let woken = call.rings() + stage.task.rings();
        assert!(woken > 0, "somebody goes on");
        assert!(stage.task.run().is_pending());
    };
    assert_eq!(&answer[..], &block[..]);
    // Only headers, and what stands beside them, went through the scratch buffer.
    assert!(stage.peer.down.counts().reads < 40, "{:?}", stage.peer.down.counts());
}

#[test]
fn keys_name_a_call_for_its_progress() {
    let mut stage = Stage::new();
    let mut call = stage.call(b"long");
    let key = call.future.key().unwrap();
    assert!(call.poll().is_pending());
    let id = stage.peer.calls()[0].0;
    stage.peer.host.progress(0, id, 1, 2).unwrap();
    stage.peer.send();
    assert!(call.poll().is_pending());
    assert!(stage.task.run().is_pending());
    assert!(matches!(stage.seen.take()[..], [Event::Progress { key: k, done: 1, total: 2 }] if k == key));
    assert_eq!(call.future.id(), Some(id));
}
