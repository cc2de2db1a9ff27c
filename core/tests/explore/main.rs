//! Every reachable state of two production machines with queues of frames between them, breadth first.
//!
//! Both sides are honest and do whatever they may, whenever they may; they also try commands that do not fit. In no state has either a
//! violation to complain of; each call has exactly one outcome; nothing happens after the end; every step refines its row of the
//! table; and from every state there is a way to the end. A first rung: each scenario is exhaustive, but calls, pings, events and ticks
//! of the clock are few.
#![allow(clippy::panic, clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests")]
#![allow(
    clippy::disallowed_types,
    reason = "the states' map is asked for membership and never iterated over"
)]
#![allow(unreachable_pub, reason = "a test's module")]

mod side;

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use modipc_core::table::Class::{self, *};
use modipc_core::table::Phase::{self, Active, Draining, Finishing, Greeting};
use modipc_core::{Host, Module};
use side::{Act, Scenario, Seen, Side, act};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    host: Side<Host>,
    module: Side<Module>,
    now: u64,
}

#[derive(Clone, Copy, Debug)]
enum Move {
    Tick,
    Host(Act),
    Module(Act),
}

impl World {
    fn moves(&self, scenario: &Scenario) -> Vec<Move> {
        let mut moves: Vec<Move> = (self.now < scenario.ticks).then_some(Move::Tick).into_iter().collect();
        let (hears_host, hears_module) = (!self.host.sent.is_empty(), !self.module.sent.is_empty());
        moves.extend(self.host.acts(scenario, self.now, hears_module).into_iter().map(Move::Host));
        moves.extend(self.module.acts(scenario, self.now, hears_host).into_iter().map(Move::Module));
        moves
    }

    /// `None`: it was refused.
    fn after(&self, scenario: &Scenario, step: Move, seen: &mut [Seen; 2]) -> Option<World> {
        let mut world = self.clone();
        let World { host, module, now } = &mut world;
        let done = match step {
            Move::Tick => {
                *now += 1;
                true
            }
            Move::Host(step) => act((host, module), (scenario, *now), step, &mut seen[0]),
            Move::Module(step) => act((module, host), (scenario, *now), step, &mut seen[1]),
        };
        done.then_some(world)
    }

    fn is_over(&self) -> bool {
        self.host.machine.closed().is_some() && self.module.machine.closed().is_some()
    }
}

/// What was explored: every step as an edge, and what the host and the module have seen.
struct Explored {
    states: usize,
    edges: usize,
    seen: [Seen; 2],
}

fn explore(scenario: &Scenario) -> Explored {
    let start = Rc::new(World { host: Side::new(scenario), module: Side::new(scenario), now: 0 });
    let mut index = HashMap::from([(Rc::clone(&start), 0usize)]);
    let mut paths: Vec<(usize, Option<Move>)> = vec![(0, None)];
    let (mut queue, mut edges, mut over) = (VecDeque::from([start]), Vec::new(), Vec::new());
    let mut seen = [Seen::new(), Seen::new()];
    for from in 0.. {
        let Some(world) = queue.pop_front() else { break };
        if world.is_over() {
            over.push(from);
        }
        for step in world.moves(scenario) {
            let after = catch_unwind(AssertUnwindSafe(|| world.after(scenario, step, &mut seen)));
            let Some(next) = after.unwrap_or_else(|fault| {
                println!("{}{step:?}", path(&paths, from));
                resume_unwind(fault)
            }) else {
                continue;
            };
            let next = Rc::new(next);
            let to = *index.entry(Rc::clone(&next)).or_insert_with(|| {
                paths.push((from, Some(step)));
                queue.push_back(next);
                paths.len() - 1
            });
            edges.push((to, from));
        }
    }
    let (states, stuck) = (paths.len(), leads_to(&mut edges, paths.len(), over));
    assert_eq!(stuck.map(|at| path(&paths, at)), None, "no way leads from here to the end of both");
    Explored { states, edges: edges.len(), seen }
}

/// The moves that lead to a state, one in a line.
fn path(paths: &[(usize, Option<Move>)], at: usize) -> String {
    match paths[at] {
        (_, None) => String::new(),
        (from, Some(step)) => format!("{}{step:?}\n", path(paths, from)),
    }
}

/// The first state from which none of `ends` can be reached. Edges are pairs of to and from.
fn leads_to(edges: &mut [(usize, usize)], states: usize, mut ends: Vec<usize>) -> Option<usize> {
    edges.sort_unstable();
    let mut leads = vec![false; states];
    ends.iter().for_each(|end| leads[*end] = true);
    while let Some(to) = ends.pop() {
        let first = edges.partition_point(|(at, _)| *at < to);
        for (_, from) in edges[first..].iter().take_while(|(at, _)| *at == to) {
            if !std::mem::replace(&mut leads[*from], true) {
                ends.push(*from);
            }
        }
    }
    leads.iter().position(|leads| !leads)
}

/// Explores, and checks what was found against what is pinned: the counts are change detectors, for a state space that shrank by itself proves
/// less than it seems to. Take new ones over when the reason is known. `sometimes` are inputs that the host, and the module, must have
/// met, so that nothing holds by never happening.
fn check(scenario: Scenario, pinned: (usize, usize), sometimes: [&[(Class, Phase)]; 2]) {
    let Explored { states, edges, seen } = explore(&scenario);
    for (seen, sometimes) in seen.iter().zip(sometimes) {
        let missing: Vec<_> = sometimes.iter().filter(|case| !seen.contains(case)).collect();
        assert!(missing.is_empty(), "never seen: {missing:?}");
        // Who keeps to the window is not turned away [C-3].
        let busy = |(class, _): &&(Class, Phase)| matches!(class, PeerCallBusy | PeerCompleteBusy);
        assert_eq!(seen.iter().find(busy), None);
    }
    assert_eq!((states, edges), pinned, "states and edges of {scenario:?}");
}

const QUIET: Scenario = Scenario {
    x1: true,
    window: 2,
    calls: [0, 0],
    bulk_from: u8::MAX,
    cancels: false,
    ticks: 0,
    drain_us: 1000,
    pings: 0,
    events: 0,
    revokes: false,
    refuses: false,
};

#[test]
fn calls_in_both_directions() {
    let both = [
        (PeerCall, Draining),
        (PeerCancel, Finishing),
        (PeerCancelLate, Active),
        (CallDue, Finishing),
        (ServedDue, Active),
        (PeerAnswer, Finishing),
        (PeerAnswerLate, Finishing),
        (PeerGoodbye, Active),
        (PeerGoodbye, Draining),
        (Drained, Finishing),
        (PeerEof, Finishing),
    ];
    let scenario = Scenario { calls: [1, 1], cancels: true, ticks: 1, ..QUIET };
    check(scenario, (78_015, 324_958), [&both, &both]);
}

#[test]
fn calls_within_a_window() {
    let host = [(PeerCancel, Draining), (PeerCancelLate, Finishing), (ServedDue, Draining)];
    let module =
        [(PeerAnswer, Active), (PeerAnswerLate, Active), (PeerAnswerLate, Draining), (CallDue, Active)];
    let scenario = Scenario { calls: [0, 3], cancels: true, ticks: 1, ..QUIET };
    check(scenario, (90_825, 370_058), [&host, &module]);
}

#[test]
fn bulk_in_both_directions() {
    let both = [
        (PeerBulkCall, Active),
        (PeerBulkCall, Draining),
        (PeerCallComplete, Finishing),
        (PeerBulkAnswer, Finishing),
        (PeerBulkNext, Finishing),
        (PeerAnswerLate, Finishing),
        (PeerCredit, Finishing),
        (PeerCancel, Finishing),
    ];
    let scenario = Scenario { calls: [1, 1], bulk_from: 0, cancels: true, ..QUIET };
    check(scenario, (80_894, 268_944), [&both, &both]);
}

#[test]
fn bulk_that_is_denied_or_waits_for_credit() {
    let host =
        [(PeerCompleteDenied, Active), (PeerCompleteDenied, Draining), (PeerCompleteDenied, Finishing)];
    let module = [(PeerBulkAnswer, Finishing), (PeerGrants, Finishing), (PeerCredit, Finishing)];
    let scenario = Scenario { calls: [0, 2], bulk_from: 0, revokes: true, ..QUIET };
    check(scenario, (18_410, 45_915), [&host, &module]);
}

#[test]
fn subscriptions_and_revoked_grants() {
    let host = [
        (SendLagged, Active),
        (ReplySubscription, Draining),
        (PeerCallDenied, Active),
        (PeerCallDenied, Draining),
    ];
    let module =
        [(PeerEvent, Active), (PeerEvent, Draining), (PeerLagged, Draining), (PeerGrants, Finishing)];
    let scenario = Scenario { calls: [0, 2], events: 2, revokes: true, ..QUIET };
    check(scenario, (10_758, 29_713), [&host, &module]);
}

#[test]
fn pings_and_draining_that_takes_too_long() {
    let both = [(PeerPing, Draining), (PeerPong, Draining), (PeerPong, Finishing), (DrainDue, Draining)];
    let module = [(PeerEofOwing, Finishing), (DrainDue, Finishing)];
    let scenario = Scenario { calls: [0, 1], pings: 1, ticks: 1, drain_us: 1, ..QUIET };
    check(scenario, (24_294, 77_068), [&both, &[&both[..], &module].concat()]);
}

#[test]
fn the_plain_profile() {
    let host = [(Drained, Draining), (PeerCall, Draining), (LaggedOut, Active), (PeerAnswerLate, Active)];
    let module = [(PeerEof, Active), (PeerEofOwing, Active), (PeerEvent, Active), (Drained, Draining)];
    let scenario = Scenario { x1: false, calls: [1, 1], cancels: true, ticks: 1, events: 1, ..QUIET };
    check(scenario, (3_214, 15_430), [&host, &module]);
}

#[test]
fn refusals() {
    let scenario = Scenario { refuses: true, ..QUIET };
    check(scenario, (18, 20), [&[(Refuse, Greeting)], &[(PeerRefuses, Greeting)]]);
}
