//! What exists only while the handshake stands: calls, credit, subscription, grants.

use alloc::collections::BTreeMap;

use crate::envelope::Profile;
use crate::event_log::Overflow;
use crate::id_table::IdTable;
use crate::limits::{Config, Limits};
use crate::topics::TopicSet;

/// "No deadline", for the running minima.
pub(crate) const NEVER: u64 = u64::MAX;

/// The state of an open connection. Bodies are not in it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Session<K> {
    pub(crate) profile: Profile,
    /// What the peer takes.
    pub(crate) peer: Limits,
    /// Our calls that have no answer yet.
    pub(crate) calls: IdTable<Call<K>>,
    pub(crate) last_call: u64,
    pub(crate) abandoned: u32,
    /// Not later than the earliest deadline in `calls`.
    pub(crate) calls_due: u64,
    /// The peer's calls that we have not answered.
    pub(crate) served: IdTable<Served>,
    /// The peer's last id. The seed does not say where a module begins to count, so it may be 0.
    pub(crate) last_served: Option<u64>,
    /// Not later than the earliest deadline in `served`.
    pub(crate) served_due: u64,
    /// Bulk bodies on their way in, by [`BodyId`].
    pub(crate) incoming: BTreeMap<BodyId, Incoming>,
    /// Bulk bodies of ours that are not wholly out.
    pub(crate) outgoing: u32,
    /// Bulk bytes that we sent, and may send, since the beginning [B-2].
    pub(crate) credit_spent: u64,
    pub(crate) credit_limit: u64,
    /// Bulk bytes that the peer sent, and may send, since the beginning.
    pub(crate) granted_spent: u64,
    pub(crate) granted_limit: u64,
    pub(crate) subscription: Option<Cursor>,
    pub(crate) grants: u64,
    pub(crate) pings: u64,
    pub(crate) ping: Option<Ping>,
    /// Position of the last event that was received (module) or sent (host): on one connection positions only rise [V-1].
    pub(crate) last_position: u64,
}

/// A call of ours.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Call<K> {
    Pending { key: K, due: u64 },
    Abandoned,
}

/// A call of the peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Served {
    pub(crate) due: u64,
    pub(crate) cancelled: bool,
    pub(crate) expired: bool,
    /// Its body is not complete yet.
    pub(crate) arriving: bool,
    /// Credit that its body holds.
    pub(crate) held: u64,
}

/// A bulk body: of an answer or of a call, and which.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BodyId {
    /// Whether it is an answer.
    pub answer: bool,
    /// The call's id.
    pub id: u64,
}

/// A bulk body on its way in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Incoming {
    pub(crate) total: u64,
    pub(crate) got: u64,
}

/// Where a subscriber is in the host's log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Cursor {
    pub(crate) topics: TopicSet,
    pub(crate) next: u64,
    pub(crate) overflow: Overflow,
}

/// A Ping that waits for its Pong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Ping {
    pub(crate) nonce: u64,
    pub(crate) sent: u64,
    pub(crate) due: u64,
}

impl<K: Copy> Session<K> {
    pub(crate) fn new(profile: Profile, ours: &Limits, peer: Limits, grants: u64) -> Self {
        Session {
            profile,
            peer,
            calls: IdTable::new(),
            last_call: 0,
            abandoned: 0,
            calls_due: NEVER,
            served: IdTable::new(),
            last_served: None,
            served_due: NEVER,
            incoming: BTreeMap::new(),
            outgoing: 0,
            credit_spent: 0,
            credit_limit: peer.credit_bytes,
            granted_spent: 0,
            granted_limit: ours.credit_bytes,
            subscription: None,
            grants,
            pings: 0,
            ping: None,
            last_position: 0,
        }
    }

    pub(crate) fn pending(&self) -> usize {
        self.calls.len().saturating_sub(self.abandoned as usize)
    }

    /// Whether nothing is open in either direction, so that draining is over. Abandoned calls are not waited for.
    pub(crate) fn idle(&self) -> bool {
        self.pending() == 0 && self.served.len() == 0 && self.outgoing == 0
    }

    /// Whether this call of ours still wants its answer.
    pub(crate) fn awaits(&self, id: u64) -> bool {
        matches!(self.calls.get(id), Some(Call::Pending { .. }))
    }

    /// Whether a call of the peer may not have this id [C-1].
    pub(crate) fn is_stale(&self, id: u64) -> bool {
        self.last_served >= Some(id) || (id == 0 && self.profile == Profile::X1)
    }

    /// The longest body of a call or answer that the peer takes.
    pub(crate) fn body_max(&self) -> u64 {
        match self.profile {
            Profile::X1 => self.peer.body_bytes_max,
            Profile::Plain => u64::from(self.peer.frame_bytes_max).saturating_sub(12),
        }
    }

    /// Whether a body of this length travels as bulk.
    pub(crate) fn is_bulk(&self, bytes: u64) -> bool {
        self.profile == Profile::X1 && bytes > u64::from(self.peer.inline_bytes_max)
    }

    pub(crate) fn has_credit(&self, bytes: u64) -> bool {
        self.credit_spent.checked_add(bytes).is_some_and(|spent| spent <= self.credit_limit)
    }

    /// A call's body holds its credit until the answer, and whoever answers may first ask for something long itself. So calls leave
    /// credit for the longest answer: answers alone give theirs back as they arrive, and never wait for a call [B-2].
    pub(crate) fn has_credit_for_call(&self, bytes: u64) -> bool {
        bytes.checked_add(self.peer.body_bytes_max).is_some_and(|bytes| self.has_credit(bytes))
    }

    /// Whether a call's body that came in one piece counts against the credit all the same: in the plain profile it may be long, and
    /// open calls together should hold no more than they could in x1.
    pub(crate) fn is_held(&self, bytes: u64, config: &Config) -> bool {
        self.profile == Profile::Plain && bytes > u64::from(config.limits.inline_bytes_max)
    }

    /// Whether such a body is too much, given those that are open. One alone never is [B-4].
    pub(crate) fn holds_too_much(&self, bytes: u64, config: &Config) -> bool {
        let left = self.granted_limit.saturating_sub(self.granted_spent);
        self.is_held(bytes, config) && bytes > left && left < config.limits.credit_bytes
    }

    /// The earliest deadline, perhaps too early.
    pub(crate) fn due(&self) -> u64 {
        self.calls_due.min(self.served_due).min(self.ping.map_or(NEVER, |ping| ping.due))
    }
}
