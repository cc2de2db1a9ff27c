//! What the host counts of each module, and how it shows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use modipc_api::{CapabilitySet, EventType};
use modipc_driver::Stats;

/// A number that rises. Nothing is ordered by it.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($( $(#[$doc:meta])* $name:ident )*) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $( pub(crate) $name: Counter, )* }

        /// What one module did since it connected. The numbers only rise.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct ModuleCounts { $( $(#[$doc])* pub $name: u64, )* }

        impl Counters {
            pub(crate) fn read(&self) -> ModuleCounts {
                ModuleCounts { $( $name: self.$name.read(), )* }
            }
        }
    };
}

counters! {
    /// Calls that reached the node, answered or not.
    calls
    /// Calls that the node answered with an error.
    errors
    /// Calls that were answered NotFound.
    not_found
    /// Calls whose handler panicked.
    panics
    /// Calls that did not decode.
    undecodable
    /// Calls that lacked a capability.
    denials
    /// Calls that were too many at a time.
    busy
    /// Calls that the module gave up, and calls whose deadline passed.
    given_up
    /// Log records that were written.
    logs
    /// Log records that were dropped because they were too many.
    logs_dropped
    /// Log records in another module's name, or that do not decode [M-6].
    logs_refused
    /// Calls of the node into the module.
    invocations
}

/// Where a connected module is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleState {
    /// It works.
    Active,
    /// Goodbye was said; what runs is finished.
    Draining,
}

/// One connected module, at one moment.
#[derive(Clone, Debug)]
pub struct ModuleStatus {
    /// Its id.
    pub module_id: Arc<str>,
    /// Its own version, as it says.
    pub version: String,
    /// Where it is.
    pub state: ModuleState,
    /// Whether the host started it, rather than that it connected by itself.
    pub inherited: bool,
    /// When it was admitted, in microseconds of the node's runtime.
    pub since_us: u64,
    /// What it may do now.
    pub grants: CapabilitySet,
    /// The event types that it receives.
    pub subscribed: Vec<EventType>,
    /// Positions of the event log that were not yet looked at for it; 0 if it is not subscribed.
    pub events_behind: u64,
    /// Calls of the module that are open.
    pub calls_open: usize,
    /// Bytes that wait for the module to read them.
    pub outbox_bytes: usize,
    /// What it did.
    pub counts: ModuleCounts,
    /// What its connection did.
    pub link: Stats,
}
