//! The transport × runtime conformance suite on the simulation: on a perfect link, on one that does everything that is
//! legal, and on one that does all of it as badly as it can.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use core::num::NonZeroUsize;
use std::sync::Arc;

use modipc_driver::BoxFuture;
use modipc_driver::conformance::Stage;
use modipc_transport_mem::{
    Chance, LinkConfig, MemTransport, PairConfig, Sim, SimConfig, SimRuntime, Sizes, pair,
};

struct Simulated {
    sim: Sim,
    /// `None`: the pair that needs no simulation.
    link: Option<LinkConfig>,
}

impl Stage for Simulated {
    type Transport = MemTransport;
    type Runtime = SimRuntime;
    const TRY_READ: bool = true;

    fn runtime(&self) -> Arc<SimRuntime> {
        Arc::new(self.sim.runtime())
    }

    fn pair(&self) -> (MemTransport, MemTransport) {
        match &self.link {
            Some(config) => self.sim.runtime().link(config),
            None => pair(PairConfig::default()),
        }
    }

    fn run(&self, check: BoxFuture<()>) {
        if let Err(stuck) = self.sim.run_until(check) {
            panic!("{stuck}");
        }
    }
}

fn plain() -> Simulated {
    Simulated { sim: Sim::new(1), link: None }
}

fn perfect() -> Simulated {
    Simulated { sim: Sim::new(2), link: Some(LinkConfig::default()) }
}

/// Everything that the contracts allow: early sleeps and spurious wakes too.
fn rough(seed: u64) -> Simulated {
    let config = SimConfig {
        seed,
        early_sleep: Chance::percent(30),
        spurious_wake: Chance::percent(10),
        ..SimConfig::default()
    };
    Simulated { sim: Sim::with_config(config), link: Some(LinkConfig::rough()) }
}

/// Room for 600 bytes, and never more than 130 at a time, often one: hardly any operation is whole.
fn narrow() -> Simulated {
    let size = |n| NonZeroUsize::new(n).expect("not zero");
    let mut link = LinkConfig::perfect(size(600));
    for lane in [&mut link.first, &mut link.second] {
        lane.writes = Sizes::Cycle(vec![size(130), size(1), size(70)]);
        lane.reads = Sizes::Cycle(vec![size(20), size(110)]);
    }
    let sim = Sim::with_config(SimConfig { seed: 3, steps_max: 100_000_000, ..SimConfig::default() });
    Simulated { sim, link: Some(link) }
}

modipc_driver::conformance_suite!(pair_on_sim, plain());
modipc_driver::conformance_suite!(perfect_link_on_sim, perfect());
modipc_driver::conformance_suite!(rough_link_on_sim_seed_1, rough(1));
modipc_driver::conformance_suite!(rough_link_on_sim_seed_2, rough(2));
modipc_driver::conformance_suite!(rough_link_on_sim_seed_3, rough(3));
modipc_driver::conformance_suite!(narrow_link_on_sim, narrow());
