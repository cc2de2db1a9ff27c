//! Capabilities, and the table that says which request needs which of them. What the table does not name is denied.

use core::fmt;
use core::str::FromStr;

use serde::{Serialize, Serializer};

use crate::macros::numbered_enum;
use crate::{EventGroup, EventType, MessageType};

numbered_enum! {
    /// A right that the host may grant to a module (section 10.5). On the wire and for people it is its name; the number
    /// is its bit in a [`CapabilitySet`].
    Capability ("capability") {
        0 ReadBlockchain "ReadBlockchain" "Read blocks, headers and confirmed transactions.";
        1 ReadUtxo "ReadUTXO" "Read the set of unspent outputs.";
        2 ReadChainState "ReadChainState" "Read the height, the tip and the chain's parameters.";
        3 SubscribeEvents "SubscribeEvents" "Receive events.";
        4 SendTransactions "SendTransactions" "Submit transactions to the mempool.";
        5 ReadMempool "ReadMempool" "Read unconfirmed transactions, also as events.";
        6 ReadNetwork "ReadNetwork" "Read the node's peers and traffic, also as events.";
        7 ReadPayments "ReadPayments" "Receive events about payments.";
    }
}

impl Capability {
    /// The name that a manifest uses: `read_utxo` for `ReadUTXO`.
    pub const fn manifest_name(self) -> &'static str {
        match self {
            Capability::ReadBlockchain => "read_blockchain",
            Capability::ReadUtxo => "read_utxo",
            Capability::ReadChainState => "read_chain_state",
            Capability::SubscribeEvents => "subscribe_events",
            Capability::SendTransactions => "send_transactions",
            Capability::ReadMempool => "read_mempool",
            Capability::ReadNetwork => "read_network",
            Capability::ReadPayments => "read_payments",
        }
    }
}

/// A name that is no capability.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no capability {name:?}; the capabilities are {}", CapabilitySet::ALL)]
pub struct UnknownCapability {
    /// The name as it was written.
    pub name: String,
}

impl FromStr for Capability {
    type Err = UnknownCapability;

    /// Takes both the wire's name and the manifest's.
    fn from_str(name: &str) -> Result<Self, UnknownCapability> {
        Capability::ALL
            .iter()
            .copied()
            .find(|capability| capability.name() == name || capability.manifest_name() == name)
            .ok_or_else(|| UnknownCapability { name: name.to_owned() })
    }
}

/// A set of capabilities: one bit each, bit 0 is [`Capability::ReadBlockchain`].
///
/// It holds known capabilities only. Serialised (for people; it never goes on the wire as a set) it is a list of names.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// None.
    pub const EMPTY: CapabilitySet = CapabilitySet(0);

    /// All that this build knows.
    pub const ALL: CapabilitySet = CapabilitySet::of(Capability::ALL);

    /// The given ones.
    pub const fn of(capabilities: &[Capability]) -> Self {
        let mut set = CapabilitySet::EMPTY;
        let mut rest = capabilities;
        while let [first, others @ ..] = rest {
            set = set.with(*first);
            rest = others;
        }
        set
    }

    /// From bits; bits that stand for no known capability are dropped.
    pub const fn from_bits(bits: u64) -> Self {
        CapabilitySet(bits & CapabilitySet::ALL.0)
    }

    /// The bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// These and one more.
    #[must_use]
    pub const fn with(self, capability: Capability) -> Self {
        CapabilitySet(self.0 | 1 << capability.number())
    }

    /// Those of either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        CapabilitySet(self.0 | other.0)
    }

    /// Those of both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        CapabilitySet(self.0 & other.0)
    }

    /// These without the other's: `required.without(granted)` is what is missing.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        CapabilitySet(self.0 & !other.0)
    }

    /// Is this one in the set?
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & 1 << capability.number() != 0
    }

    /// Are all of these in the set?
    pub const fn contains_all(self, required: Self) -> bool {
        required.without(self).is_empty()
    }

    /// Is it empty?
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The members in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL.iter().copied().filter(move |capability| self.contains(*capability))
    }

    /// Parses names, of the wire or of a manifest. The second part holds the names that are unknown here: a host grants
    /// none of them and says so.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> (Self, Vec<UnknownCapability>) {
        let mut set = CapabilitySet::EMPTY;
        let mut unknown = Vec::new();
        for name in names {
            match name.parse() {
                Ok(capability) => set = set.with(capability),
                Err(error) => unknown.push(error),
            }
        }
        (set, unknown)
    }

    /// The wire's names of the members.
    pub fn names(self) -> Vec<&'static str> {
        self.iter().map(Capability::name).collect()
    }
}

impl FromIterator<Capability> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        capabilities.into_iter().fold(CapabilitySet::EMPTY, CapabilitySet::with)
    }
}

impl fmt::Display for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (index, capability) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{capability}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for CapabilitySet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Capability::name))
    }
}

/// What a request of this type needs (section 10.5). Subscribing needs what [`required_for_event`] says of each topic, too.
pub const fn required(request: MessageType) -> CapabilitySet {
    use Capability as C;
    use MessageType as M;
    match request {
        M::GetBlock | M::GetBlockHeader | M::GetTransaction | M::GetBlockByHeight => {
            CapabilitySet::of(&[C::ReadBlockchain])
        }
        M::GetChainTip | M::GetBlockHeight | M::GetChainInfo => CapabilitySet::of(&[C::ReadChainState]),
        M::GetUtxo => CapabilitySet::of(&[C::ReadUtxo]),
        M::SubscribeEvents => CapabilitySet::of(&[C::SubscribeEvents]),
        M::GetMempoolTransactions | M::GetMempoolTransaction => CapabilitySet::of(&[C::ReadMempool]),
        M::GetNetworkStats | M::GetNetworkPeers => CapabilitySet::of(&[C::ReadNetwork]),
        M::SubmitTransaction => CapabilitySet::of(&[C::SendTransactions]),
        // A module whose grant was revoked must still be able to stop listening.
        M::Unsubscribe => CapabilitySet::EMPTY,
    }
}

/// What receiving events of this group needs. Three groups tell what a request would only tell with a further capability;
/// without this an event would be a way around it.
pub const fn required_for_group(group: EventGroup) -> CapabilitySet {
    const EVENTS: CapabilitySet = CapabilitySet::of(&[Capability::SubscribeEvents]);
    match group {
        EventGroup::Mempool => EVENTS.with(Capability::ReadMempool),
        EventGroup::Network => EVENTS.with(Capability::ReadNetwork),
        EventGroup::Payment => EVENTS.with(Capability::ReadPayments),
        EventGroup::Chain
        | EventGroup::Mining
        | EventGroup::Governance
        | EventGroup::Consensus
        | EventGroup::Sync
        | EventGroup::Storage
        | EventGroup::ModuleLifecycle
        | EventGroup::NodeLifecycle
        | EventGroup::Maintenance
        | EventGroup::Resources => EVENTS,
    }
}

/// What receiving events of this type needs.
pub const fn required_for_event(event: EventType) -> CapabilitySet {
    required_for_group(event.group())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_parse() {
        for capability in Capability::ALL {
            assert_eq!(capability.name().parse(), Ok(*capability));
            assert_eq!(capability.manifest_name().parse(), Ok(*capability));
        }
        let error = "read_everything".parse::<Capability>().unwrap_err();
        assert!(error.to_string().contains("\"read_everything\""), "{error}");
        assert!(error.to_string().contains("ReadUTXO"), "{error}");
    }

    #[test]
    fn sets_behave_as_sets() {
        let set = CapabilitySet::of(&[Capability::ReadUtxo, Capability::ReadBlockchain]);
        assert_eq!(set.bits(), 0b11);
        assert_eq!(set.names(), ["ReadBlockchain", "ReadUTXO"]);
        assert_eq!(set.to_string(), "ReadBlockchain, ReadUTXO");
        assert_eq!(serde_json::to_string(&set).unwrap(), r#"["ReadBlockchain","ReadUTXO"]"#);
        assert_eq!(CapabilitySet::from_bits(u64::MAX), CapabilitySet::ALL);
        assert!(set.contains_all(required(MessageType::GetUtxo)));
        assert_eq!(required(MessageType::SubmitTransaction).without(set).names(), ["SendTransactions"]);
        let (parsed, unknown) = CapabilitySet::from_names(["read_utxo", "nonsense", "ReadBlockchain"]);
        assert_eq!(parsed, set);
        assert_eq!(unknown, [UnknownCapability { name: "nonsense".into() }]);
    }

    #[test]
    fn every_request_but_unsubscribe_needs_something() {
        for request in MessageType::ALL {
            assert_eq!(required(*request).is_empty(), *request == MessageType::Unsubscribe, "{request}");
        }
    }
}
