//! The table, against the machine that executes it: every class of input in every phase, for both roles and profiles.

use alloc::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::machine::Peer;
use crate::session::BodyId;
use crate::table::{Act, Class, End, Rule, TABLE, rule};

type M<R> = Machine<R, u8>;

const OFFER: crate::machine::Offer = crate::machine::Offer { x1: true, limits: Limits::DEFAULT };
const BULK: u64 = 70_000;
const CALL: BodyId = BodyId { answer: false, id: 9 };

fn step<R: Role>(machine: &mut M<R>, now: u64, input: Input<u8>) -> Vec<Effect<u8>> {
    let mut effects = Vec::new();
    machine.handle(now, input, &mut effects).unwrap();
    effects
}

/// Machines in every phase; the open ones with a call in every state a call can have.
fn machines<R: Role>(x1: bool) -> Vec<M<R>> {
    let config = Config { x1, ping_us: 1000, ..Config::DEFAULT };
    let idle: M<R> = Machine::new(0, config);
    let mut greeting = idle.clone();
    let offer = crate::machine::Offer { x1, ..OFFER };
    let (greet, open) = if R::IS_HOST {
        (Input::Peer(Peer::Hello(offer)), Input::Command(Command::Accept { grants: 1 }))
    } else {
        let accepts = Peer::Accepts { x1, limits: Limits::DEFAULT };
        (Input::Command(Command::SayHello(offer)), Input::Peer(accepts))
    };
    step(&mut greeting, 0, greet);
    let mut active = greeting.clone();
    step(&mut active, 0, open);
    let quiet = active.clone();
    let mut quiet_leaving = active.clone();
    step(&mut quiet_leaving, 0, Input::Command(Command::Goodbye { reason: 1 }));
    let mut quiet_finishing = active.clone();
    step(&mut quiet_finishing, 0, Input::Peer(Peer::Goodbye { reason: 1 }));
    // Our calls: 1 pending, 2 abandoned. The peer's: 1 open, 2 cancelled, 3 answered.
    for key in [1, 2] {
        step(&mut active, 0, Input::Command(Command::Call { key, deadline_us: 50, bytes: 0 }));
    }
    step(&mut active, 0, Input::Command(Command::Cancel { id: 2 }));
    for id in [1, 2, 3] {
        step(
            &mut active,
            0,
            Input::Peer(Peer::Call { id, deadline_us: Some(60), bytes: 0, needs: 0, congested: false }),
        );
    }
    step(&mut active, 0, Input::Peer(Peer::Cancel { id: 2 }));
    step(&mut active, 0, Input::Command(Command::Reply { id: 3, bytes: BULK }));
    if x1 {
        step(&mut active, 0, Input::Command(Command::SendPing));
        let first = Peer::BulkFirst {
            body: BodyId { answer: false, id: 4 },
            deadline_us: None,
            total: BULK,
            len: 65_536,
            more: true,
        };
        step(&mut active, 0, Input::Peer(first));
    }
    let subscription =
        Command::ReplySubscription { id: 2, bytes: 0, cursor: Some((TopicSet::ALL, 1, Overflow::Lag)) };
    step(&mut active, 0, Input::Command(subscription));
    let mut draining = active.clone();
    step(&mut draining, 0, Input::Command(Command::Goodbye { reason: 1 }));
    let mut finishing = active.clone();
    step(&mut finishing, 0, Input::Peer(Peer::Goodbye { reason: 1 }));
    let mut closed = active.clone();
    step(&mut closed, 0, Input::Peer(Peer::Eof));
    vec![idle, greeting, active, draining, finishing, closed, quiet, quiet_leaving, quiet_finishing]
}

/// At least one input for every class.
fn inputs() -> Vec<(u64, Input<u8>)> {
    let answer = BodyId { answer: true, id: 1 };
    let served = BodyId { answer: false, id: 4 };
    let peer = [
        Peer::Hello(OFFER),
        Peer::Accepts { x1: false, limits: Limits::DEFAULT },
        Peer::Refuses(RefusalCode::Busy),
        Peer::Call { id: 9, deadline_us: None, bytes: 0, needs: 0, congested: false },
        Peer::Call { id: 9, deadline_us: None, bytes: 0, needs: 0, congested: true },
        Peer::Call { id: 9, deadline_us: None, bytes: 0, needs: 2, congested: false },
        Peer::Call { id: 1, deadline_us: None, bytes: 0, needs: 0, congested: false },
        Peer::CallComplete { id: 4, needs: 0, congested: false },
        Peer::CallComplete { id: 4, needs: 0, congested: true },
        Peer::CallComplete { id: 4, needs: 2, congested: false },
        Peer::BulkFirst { body: answer, deadline_us: None, total: BULK, len: 65_536, more: true },
        Peer::BulkFirst { body: CALL, deadline_us: None, total: BULK, len: 65_536, more: true },
        Peer::BulkFirst { body: CALL, deadline_us: None, total: u64::MAX, len: 65_536, more: true },
        Peer::BulkNext { body: served, len: BULK - 65_536, more: false },
        Peer::BulkNext { body: answer, len: 1, more: false },
        Peer::Answer { id: 1 },
        Peer::Answer { id: 2 },
        Peer::Answer { id: 3 },
        Peer::Event { position: 5 },
        Peer::Log,
        Peer::Cancel { id: 1 },
        Peer::Cancel { id: 3 },
        Peer::Cancel { id: 77 },
        Peer::Ping { nonce: 8 },
        Peer::Pong { nonce: 1 },
        Peer::Pong { nonce: 2 },
        Peer::Goodbye { reason: 1 },
        Peer::Goodbye { reason: 300 },
        Peer::Lagged,
        Peer::Credit { limit: u64::MAX },
        Peer::Credit { limit: 0 },
        Peer::Progress { id: 1 },
        Peer::Progress { id: 2 },
        Peer::Progress { id: 99 },
        Peer::Grants,
        Peer::Extension,
        Peer::Fault(Violation::BadFlags),
        Peer::Eof,
        Peer::Failure,
    ];
    let command = [
        Command::SayHello(OFFER),
        Command::Accept { grants: 1 },
        Command::Refuse(RefusalCode::Busy),
        Command::Call { key: 3, deadline_us: 5, bytes: 0 },
        Command::Call { key: 3, deadline_us: 0, bytes: 0 },
        Command::Call { key: 3, deadline_us: 5, bytes: u64::MAX },
        Command::Cancel { id: 1 },
        Command::Cancel { id: 2 },
        Command::Reply { id: 1, bytes: 0 },
        Command::Reply { id: 4, bytes: 0 },
        Command::ReplySubscription { id: 1, bytes: 0, cursor: None },
        Command::SendProgress { id: 1 },
        Command::SendBulk { total: 1 },
        Command::SendBulk { total: u64::MAX },
        Command::BulkSent,
        Command::SendEvents { next: 2, last: 1 },
        Command::SendLagged { next: 2 },
        Command::SendLog,
        Command::SendPing,
        Command::SetGrants { grants: 0 },
        Command::SendExtension,
        Command::Goodbye { reason: 0 },
        Command::Abort,
    ];
    let times = [(0, Input::Settle), (50, Input::Timeout), (60, Input::Timeout), (u64::MAX, Input::Timeout)];
    let peer = peer.into_iter().map(|peer| (0, Input::Peer(peer)));
    peer.chain(command.into_iter().map(|command| (0, Input::Command(command)))).chain(times).collect()
}

/// Every time at which something may be due, so that each kind of deadline is seen as the one that fires.
fn timeouts<R: Role>(machine: &M<R>) -> Vec<M<R>> {
    let mut states = Vec::new();
    let mut machine = machine.clone();
    while let Some(due) = machine.deadline() {
        states.push(machine.clone());
        step(&mut machine, due, Input::Timeout);
    }
    states
}

/// Checks one step against the table and returns what was exercised.
fn check<R: Role>(machine: &M<R>, now: u64, input: Input<u8>) -> Option<(Phase, Class)> {
    let mut after = machine.clone();
    let mut effects = Vec::new();
    match after.handle(now, input, &mut effects) {
        Err(_) => {
            assert!(
                after == *machine && effects.is_empty(),
                "a refused command changed something: {input:?}"
            );
            None
        }
        Ok(transition) => {
            assert_eq!(transition.from, machine.phase());
            let expected = match rule(transition.from, transition.class) {
                Rule::Do(_) => transition.from,
                Rule::Go(_, to) => to,
                Rule::Close(_) => Phase::Closed,
                Rule::Ignore => {
                    assert!(after == *machine && effects.is_empty(), "{input:?} was not ignored");
                    transition.from
                }
                Rule::Deny(_) | Rule::DenyFound | Rule::DenyClosed => {
                    panic!("{input:?} was denied and is a step")
                }
            };
            assert_eq!((transition.to, after.phase()), (expected, expected), "{input:?}");
            let closes = effects.iter().filter(|effect| matches!(effect, Effect::Closed(_))).count();
            assert_eq!(
                closes == 1,
                expected == Phase::Closed && transition.from != Phase::Closed,
                "{input:?}"
            );
            Some((transition.from, transition.class))
        }
    }
}

fn explore<R: Role>(
    seen: &mut BTreeSet<(Phase, Class)>,
    denied: &mut BTreeMap<(Phase, &'static str), usize>,
) -> usize {
    let mut steps = 0;
    for x1 in [true, false] {
        for machine in machines::<R>(x1) {
            for (now, input) in inputs() {
                steps += 1;
                match check(&machine, now, input) {
                    Some(pair) => {
                        seen.insert(pair);
                    }
                    None => *denied.entry((machine.phase(), R::NAME)).or_default() += 1,
                }
            }
            for state in timeouts(&machine) {
                steps += 1;
                seen.extend(check(&state, state.deadline().unwrap_or(0), Input::Timeout));
            }
        }
    }
    steps
}

#[test]
fn every_class_in_every_phase_does_what_the_table_says() {
    let (mut seen, mut denied) = (BTreeSet::new(), BTreeMap::new());
    let steps = explore::<Host>(&mut seen, &mut denied) + explore::<Module>(&mut seen, &mut denied);
    assert!(steps > 1500, "{steps}");
    let mut missing = Vec::new();
    for row in TABLE {
        for phase in Phase::ALL {
            let executes = match rule(phase, row.class) {
                Rule::Do(_) | Rule::Go(..) | Rule::Close(_) => true,
                // A rule that changes nothing is executed too, unless classification never yields it there.
                Rule::Ignore => phase == Phase::Closed && row.class.name().starts_with("Peer"),
                Rule::Deny(_) | Rule::DenyFound | Rule::DenyClosed => false,
            };
            if executes && !seen.contains(&(phase, row.class)) && !by_construction(phase, row.class) {
                missing.push((phase, row.class));
            }
        }
    }
    assert_eq!(missing, [], "cells that no step exercised");
    assert_eq!(denied.len(), 12, "both roles are denied something in every phase: {denied:?}");
}

/// Cells that cannot be reached: without a session a frame or command of the session is classified as `PeerEarly` or `Unfit`, so
/// its own row is only a statement of what it would mean.
fn by_construction(phase: Phase, class: Class) -> bool {
    let session_only = matches!(
        class,
        Class::PeerCall
            | Class::PeerCallBusy
            | Class::PeerCallDenied
            | Class::PeerCallComplete
            | Class::PeerCompleteBusy
            | Class::PeerCompleteDenied
            | Class::PeerBulkCall
            | Class::PeerBulkAnswer
            | Class::PeerBulkNext
            | Class::PeerAnswer
            | Class::PeerAnswerLate
            | Class::PeerEvent
            | Class::PeerEofOwing
            | Class::PeerCancel
            | Class::PeerCancelLate
            | Class::PeerPong
            | Class::PeerCredit
            | Class::PeerProgress
            | Class::PeerProgressLate
    );
    session_only && !phase.is_open()
}

#[test]
fn a_peers_frame_never_meets_a_denial_and_a_command_never_a_violation() {
    for row in TABLE {
        let from_peer = row.class.name().starts_with("Peer") || row.class == Class::TransportFailure;
        for cell in row.rules {
            match cell {
                Rule::Deny(_) | Rule::DenyFound | Rule::DenyClosed => {
                    assert!(!from_peer, "{}", row.class.name())
                }
                Rule::Close(End::Violation(_) | End::FoundViolation) => {
                    assert!(from_peer, "{}", row.class.name())
                }
                Rule::Do(_) | Rule::Go(..) | Rule::Close(_) | Rule::Ignore => {}
            }
        }
    }
}

#[test]
fn only_three_actions_open_or_leave() {
    let mut moves = BTreeSet::new();
    for row in TABLE {
        for cell in row.rules {
            if let Rule::Go(act, to) = cell {
                moves.insert((act, to));
            }
        }
    }
    let expected = [
        (Act::Greet, Phase::Greeting),
        (Act::Open, Phase::Active),
        (Act::Farewell, Phase::Finishing),
        (Act::FarewellAnswered, Phase::Finishing),
        (Act::Leave, Phase::Draining),
    ];
    assert_eq!(moves, expected.into_iter().collect());
}
