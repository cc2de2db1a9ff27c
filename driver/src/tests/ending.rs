//! How connections end, and what that does to whoever waits.

use core::task::Poll;

use modipc_core::{CloseReason, Config, Event, Initiator, Violation};

use super::kit::{Hand, SECOND, Stage};
use crate::CallError;
use crate::cell::LAST_WORDS_US;

fn lost(reason: CloseReason, was_sent: bool) -> Poll<Result<bytes::Bytes, CallError>> {
    Poll::Ready(Err(CallError::Lost { reason, was_sent }))
}

#[test]
fn the_end_of_the_stream_wakes_everybody_and_later_calls_fail_at_once() {
    let mut stage = Stage::new();
    let (mut first, mut second) = (stage.call(b"1"), stage.call(b"2"));
    let (mut one, mut two) = (Hand::new(stage.link.wait_closed()), Hand::new(stage.link.wait_closed()));
    assert!(first.poll().is_pending() && second.poll().is_pending());
    assert!(one.poll().is_pending() && two.poll().is_pending());
    stage.peer.down.end();
    assert_eq!(stage.task.run(), Poll::Ready(CloseReason::PeerGone));
    assert!(first.rings() > 0 && second.rings() > 0 && one.rings() > 0 && two.rings() > 0);
    assert_eq!(first.poll(), lost(CloseReason::PeerGone, true));
    assert!(matches!(second.poll(), Poll::Ready(Err(CallError::Lost { .. }))));
    assert_eq!(
        (one.poll(), two.poll()),
        (Poll::Ready(CloseReason::PeerGone), Poll::Ready(CloseReason::PeerGone))
    );
    assert_eq!(stage.call(b"3").poll(), lost(CloseReason::PeerGone, false));
    assert_eq!(Hand::new(stage.link.wait_closed()).poll(), Poll::Ready(CloseReason::PeerGone));
    assert!(matches!(stage.seen.take()[..], [Event::Closed(CloseReason::PeerGone)]));
    assert_eq!((stage.slots(), stage.link.closed()), (0, Some(CloseReason::PeerGone)));
}

#[test]
fn a_call_that_was_never_handed_to_the_transport_says_so() {
    let mut stage = Stage::new();
    let (first, mut second) = (stage.call(b"1"), stage.call(b"2"));
    stage.link.with(|connection, now| connection.abort(now));
    assert_eq!(second.poll(), lost(CloseReason::Aborted, false));
    drop(first);
    assert_eq!(stage.task.run(), Poll::Ready(CloseReason::Aborted));
}

#[test]
fn a_leader_that_reads_the_end_ends_the_connection() {
    let mut stage = Stage::new();
    let mut call = stage.call(b"1");
    assert!(call.poll().is_pending());
    stage.peer.down.end();
    assert_eq!(call.poll(), lost(CloseReason::PeerGone, true));
    assert!(stage.task.rings() > 0);
    assert_eq!(stage.task.run(), Poll::Ready(CloseReason::PeerGone));
}

#[test]
fn dropping_the_task_ends_the_connection() {
    let stage = Stage::new();
    let mut call = stage.call(b"1");
    assert!(call.poll().is_pending());
    drop(stage.task);
    assert_eq!(call.rings(), 1);
    assert_eq!(call.poll(), lost(CloseReason::Aborted, true));
    assert_eq!(stage.link.closed(), Some(CloseReason::Aborted));
}

#[test]
fn a_guilty_peer_is_told_before_the_stream_ends() {
    let mut stage = Stage::new();
    stage.peer.down.put(&[2, 0, 0, 0]);
    let reason = CloseReason::Violation(Violation::FrameTooShort);
    assert_eq!(stage.task.run(), Poll::Ready(reason));
    let told = stage.peer.events();
    let number = Violation::FrameTooShort.goodbye_reason();
    assert!(matches!(told[..], [Event::Closed(CloseReason::Blamed(n))] if n == number), "{told:?}");
    assert!(stage.peer.up.ended());
}

#[test]
fn the_last_words_wait_for_a_slow_peer_but_not_for_a_dead_one() {
    let mut stage = Stage::with(Config::DEFAULT, 8);
    stage.peer.down.put(&[2, 0, 0, 0]);
    assert!(stage.task.run().is_pending());
    let reason = CloseReason::Violation(Violation::FrameTooShort);
    assert_eq!(stage.link.closed(), Some(reason));
    assert!(stage.peer.events().is_empty());
    assert!(stage.task.run().is_pending(), "eight bytes more");
    stage.clock.advance(LAST_WORDS_US - 1);
    assert!(stage.task.run().is_pending());
    stage.clock.advance(1);
    assert_eq!(stage.task.run(), Poll::Ready(reason));
    assert!(!stage.peer.up.ended(), "the stream is cut, not ended");
}

#[test]
fn when_writing_fails_the_peers_last_words_are_still_read() {
    let mut stage = Stage::new();
    // The host says goodbye for a violation of ours, and closes: our write fails before we have read it.
    stage.peer.host.recv(0, &[2, 0, 0, 0]);
    stage.peer.up.break_off();
    let mut call = stage.call(b"1");
    assert!(call.poll().is_pending());
    assert!(stage.task.run().is_pending(), "the peer may still say why");
    stage.peer.send();
    stage.peer.down.end();
    let reason = CloseReason::Blamed(Violation::FrameTooShort.goodbye_reason());
    assert_eq!(stage.task.run(), Poll::Ready(reason));
    assert_eq!(call.poll(), lost(reason, true));
}

#[test]
fn when_writing_fails_and_the_peer_is_silent_the_connection_ends() {
    let mut stage = Stage::new();
    stage.peer.up.break_off();
    let mut call = stage.call(b"1");
    assert!(call.poll().is_pending());
    assert!(stage.task.run().is_pending());
    stage.clock.advance(SECOND);
    assert_eq!(stage.task.run(), Poll::Ready(CloseReason::TransportFailed));
    assert_eq!(call.poll(), lost(CloseReason::TransportFailed, true));
}

#[test]
fn both_sides_say_goodbye_and_open_calls_are_answered_first() {
    let mut stage = Stage::new();
    let mut call = stage.call(b"1");
    assert!(call.poll().is_pending());
    let id = stage.peer.calls()[0].0;
    stage.link.with(|connection, now| connection.goodbye(now, 0, "done")).unwrap();
    assert!(stage.task.run().is_pending());
    stage.peer.events();
    stage.peer.answer(id, b"one");
    assert_eq!(super::kit::reply(call.poll()), "one");
    let reason = CloseReason::Drained { by: Initiator::Us, reason: 0 };
    for _ in 0..4 {
        stage.peer.events();
        stage.peer.send();
        if let Poll::Ready(ended) = stage.task.run() {
            assert_eq!(ended, reason);
            return;
        }
    }
    panic!("it never ended");
}

#[test]
fn a_waiter_for_the_end_that_is_dropped_leaves_nothing() {
    let mut stage = Stage::new();
    let mut waits = Hand::new(stage.link.wait_closed());
    assert!(waits.poll().is_pending());
    let bell = super::kit::Hand::new(core::future::ready(())).bell;
    let old = core::mem::replace(&mut waits.bell, bell);
    assert!(waits.poll().is_pending());
    stage.link.with(|connection, now| connection.abort(now));
    assert_eq!((old.rings(), waits.rings()), (0, 1), "the last waker counts");
    drop(waits);
    assert_eq!(stage.task.run(), Poll::Ready(CloseReason::Aborted));
}
