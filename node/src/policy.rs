//! What the operator decides: which modules there are, how they prove who they are, and what they may do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use modipc_api::CapabilitySet;

/// Who is at the other end of a connection that was just opened, as far as the host knows it without asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerIdentity {
    /// A module that this host started and that inherited its connection: whoever holds the other end is that module. Its
    /// launcher knows its manifest, so what it may do comes with it and not from the [`Policy`].
    Inherited {
        /// The module's id.
        module_id: Arc<str>,
        /// What the operator granted it.
        grants: CapabilitySet,
        /// What it cannot work without, from its manifest.
        requires: CapabilitySet,
    },
    /// A process that connected by itself.
    Attached {
        /// What the kernel says of it.
        credentials: Credentials,
    },
}

/// What the kernel says of the process at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its process id, for the log only: ids are used again.
    pub pid: Option<u32>,
}

/// How a module that connects by itself proves who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attach {
    /// Not at all: only the host starts it.
    #[default]
    Never,
    /// With a one-time token, which the operator obtains for its first connection and the module gets for each further one.
    Token,
    /// By its user alone. For modules that know only the seed's handshake, which has no room for a token: any process of an
    /// admitted user may then take this id.
    Credentials,
}

/// What the operator decided about one module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModulePolicy {
    /// What it may do.
    pub grants: CapabilitySet,
    /// What it cannot work without: it is refused, rather than admitted to fail later.
    pub requires: CapabilitySet,
    /// Whether it may connect by itself.
    pub attach: Attach,
}

/// The operator's decisions. A module that is not named here, and was not started by the host, is not admitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    modules: BTreeMap<Arc<str>, ModulePolicy>,
    users: BTreeSet<u32>,
}

impl Policy {
    /// Nobody is admitted.
    pub fn new() -> Self {
        Policy::default()
    }

    /// The same and this module; a module that was named before is decided anew.
    #[must_use]
    pub fn module(mut self, module_id: impl Into<Arc<str>>, policy: ModulePolicy) -> Self {
        self.modules.insert(module_id.into(), policy);
        self
    }

    /// The same, and processes of this user may connect by themselves. Usually the one user that runs the host.
    #[must_use]
    pub fn user(mut self, uid: u32) -> Self {
        self.users.insert(uid);
        self
    }

    pub(crate) fn get(&self, module_id: &str) -> Option<&ModulePolicy> {
        self.modules.get(module_id)
    }

    pub(crate) fn admits_user(&self, uid: u32) -> bool {
        self.users.contains(&uid)
    }
}
