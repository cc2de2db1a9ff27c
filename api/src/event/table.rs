//! The table of event types. A row's number is its place; later rows go to the end, whatever their group.

use crate::codec::Reader;
use crate::{BlockHash, DecodeError, EventGroup, Txid};

/// The wire's word for a field's type, as section 10.7 writes it.
macro_rules! kind {
    (u8) => {
        "u8"
    };
    (u32) => {
        "u32"
    };
    (u64) => {
        "u64"
    };
    (bool) => {
        "bool"
    };
    (String) => {
        "string"
    };
    (BlockHash) => {
        "hash"
    };
    (Txid) => {
        "hash"
    };
    (Option<u32>) => {
        "u32?"
    };
    (Option<u64>) => {
        "u64?"
    };
    (Option<BlockHash>) => {
        "hash?"
    };
    (Vec<String>) => {
        "string*"
    };
}

macro_rules! events {
    ($(
        $number:literal $group:ident $name:ident $summary:literal
        { $( $field:ident: $kind:ident $(<$of:ident>)? ),* };
    )*) => {
        /// The type of an event: its number is its topic [V-1].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum EventType { $( #[doc = $summary] $name = $number ),* }

        /// An event. Its type is its variant; a body in which type and payload differ does not decode. Units end a field's
        /// name: `_us` microseconds, `_s` seconds since 1970, `_sat` satoshi, `_bytes` bytes.
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[allow(missing_docs, reason = "a variant's text speaks of its fields, and their names carry the units")]
        pub enum Event {
            $(
                #[doc = $summary]
                $name {
                    $( #[serde(deserialize_with = "crate::codec::field")] $field: $kind $(<$of>)? ),*
                }
            ),*
        }

        impl Event {
            /// The event's type.
            pub const fn event_type(&self) -> EventType {
                match self { $( Event::$name { .. } => EventType::$name ),* }
            }
        }

        impl EventType {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [EventType] = &[$( EventType::$name ),*];

            /// The number on the wire.
            pub const fn number(self) -> u32 {
                self as u32
            }

            /// The one with this number, if this build knows it.
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $( $number => Some(EventType::$name), )* _ => None }
            }

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $( EventType::$name => stringify!($name) ),* }
            }

            /// The one of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $( stringify!($name) => Some(EventType::$name), )* _ => None }
            }

            /// The group it belongs to.
            pub const fn group(self) -> EventGroup {
                match self { $( EventType::$name => EventGroup::$group ),* }
            }

            /// What it tells, in a sentence.
            pub const fn summary(self) -> &'static str {
                match self { $( EventType::$name => $summary ),* }
            }

            /// Names and types of its payload's fields, in order: `u8`, `u32`, `u64`, `bool`, `string`, `hash`; `?` after
            /// a type means that it may be absent, `*` means any number of it.
            pub const fn fields(self) -> &'static [(&'static str, &'static str)] {
                match self {
                    $( EventType::$name => &[$( (stringify!($field), kind!($kind $(<$of>)?)) ),*] ),*
                }
            }

            /// Reads the number, or says which one is unknown.
            pub(crate) fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let number = reader.u32()?;
                let known = Self::ALL.len() as u32;
                Self::from_number(number).ok_or(DecodeError::UnknownVariant { what: "event type", number, known })
            }
        }

        impl core::fmt::Display for EventType {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

events! {
    0 Chain NewBlock "A block joined the active chain." { hash: BlockHash, height: u64, tx_count: u32, time_s: u32 };
    1 Chain ChainTipUpdated "The active chain has a new tip." { hash: BlockHash, height: u64, previous: Option<BlockHash> };
    2 Chain BlockDisconnected "A block left the active chain." { hash: BlockHash, height: u64 };
    3 Chain ChainReorganized "The active chain changed branches above a fork." { fork_height: u64, old_tip: BlockHash, new_tip: BlockHash, disconnected: u32, connected: u32 };
    4 Chain NewHeader "A header extended the best header chain." { hash: BlockHash, height: u64 };
    5 Chain BlockRejected "A block broke a rule and was not taken." { hash: BlockHash, reason: String };
    6 Mempool MempoolTransactionAdded "A transaction entered the mempool." { txid: Txid, fee_sat: Option<u64>, virtual_bytes: u64 };
    7 Mempool FeeRateChanged "The lowest fee rate that the mempool takes changed, in satoshi per 1000 virtual bytes." { old_sat_per_kvb: u64, new_sat_per_kvb: u64 };
    8 Mempool MempoolTransactionRemoved "A transaction left the mempool: confirmed, replaced, expired, evicted or conflict." { txid: Txid, reason: String };
    9 Mempool MempoolTransactionReplaced "A transaction in the mempool was replaced by another." { txid: Txid, replaced_by: Txid };
    10 Mempool MempoolTransactionRejected "A transaction was not taken into the mempool." { txid: Txid, reason: String };
    11 Mempool MempoolCleared "The mempool was emptied." { removed: u64 };
    12 Mempool MempoolLimitReached "The mempool reached its limit and evicts." { used_bytes: u64, limit_bytes: u64 };
    13 Network PeerConnected "A peer connected." { peer_id: u64, address: String, inbound: bool };
    14 Network MessageReceived "A peer sent a message." { peer_id: u64, command: String, size_bytes: u32 };
    15 Network PeerDisconnected "A peer's connection ended." { peer_id: u64, reason: String };
    16 Network MessageSent "A message was sent to a peer." { peer_id: u64, command: String, size_bytes: u32 };
    17 Network PeerBanned "An address was banned until a time." { address: String, until_s: u64, reason: String };
    18 Network PeerUnbanned "An address is no longer banned." { address: String };
    19 Network PeerMisbehaved "A peer broke the peer-to-peer protocol." { peer_id: u64, reason: String };
    20 Network AddressDiscovered "The node learnt of an address." { address: String };
    21 Network ReachabilityChanged "A network became reachable or unreachable." { network: String, reachable: bool };
    22 Payment PaymentRequestCreated "A payment was requested." { payment_id: String, amount_sat: Option<u64>, expires_at_s: Option<u64> };
    23 Payment PaymentVerified "A transaction that pays a request was seen and found valid." { payment_id: String, txid: Txid };
    24 Payment PaymentSettled "A payment has the confirmations it needs." { payment_id: String, txid: Txid, confirmations: u32 };
    25 Payment PaymentFailed "A payment cannot be completed." { payment_id: String, reason: String };
    26 Payment PaymentExpired "A payment request passed its time." { payment_id: String };
    27 Payment PaymentRefunded "A payment was paid back." { payment_id: String, txid: Txid };
    28 Mining BlockTemplateCreated "A template for the next block is ready." { height: u64, tx_count: u32, fees_sat: u64 };
    29 Mining BlockMined "This node's miner found a block." { hash: BlockHash, height: u64 };
    30 Mining ShareSubmitted "A worker submitted a share." { worker: String, accepted: bool };
    31 Mining MiningJobCreated "Workers got a new job." { job_id: String, height: u64 };
    32 Mining DifficultyAdjusted "The target changed, in its compact form." { height: u64, old_bits: u32, new_bits: u32 };
    33 Mining MiningStarted "Mining started." { workers: u32 };
    34 Mining MiningStopped "Mining stopped." { reason: String };
    35 Governance ProposalCreated "A proposal was made." { proposal_id: String, title: String };
    36 Governance ProposalVoteCast "A vote on a proposal was cast." { proposal_id: String, voter: String, in_favour: bool };
    37 Governance ProposalAccepted "A proposal was accepted." { proposal_id: String };
    38 Governance ProposalRejected "A proposal was rejected." { proposal_id: String, reason: String };
    39 Governance ProposalExecuted "An accepted proposal took effect." { proposal_id: String };
    40 Consensus BlockValidationStarted "The validation of a block began." { hash: BlockHash };
    41 Consensus BlockValidationCompleted "The validation of a block ended." { hash: BlockHash, valid: bool, duration_us: u64 };
    42 Consensus ScriptVerificationFailed "An input's script did not verify." { txid: Txid, input: u32, reason: String };
    43 Consensus DeploymentSignalled "A deployment of new rules is being signalled." { deployment: String, height: u64 };
    44 Consensus DeploymentLockedIn "A deployment of new rules will activate." { deployment: String, height: u64 };
    45 Consensus DeploymentActivated "A deployment of new rules is active." { deployment: String, height: u64 };
    46 Consensus UnknownRulesSignalled "Blocks signal rules that this node does not know." { bit: u8, height: u64 };
    47 Sync SyncStarted "Catching up began." { from_height: u64, target_height: Option<u64> };
    48 Sync SyncProgress "Catching up went on." { height: u64, target_height: Option<u64> };
    49 Sync HeadersSynced "All headers that peers know are here." { height: u64 };
    50 Sync SyncCompleted "The node has caught up." { height: u64 };
    51 Sync SyncStalled "Catching up makes no progress." { height: u64, stalled_us: u64 };
    52 Storage BlockStored "A block was written to disk." { hash: BlockHash, height: u64, size_bytes: u64 };
    53 Storage StorageFlushed "What was in memory is on disk." { written_bytes: u64, duration_us: u64 };
    54 Storage BlocksPruned "Old blocks were deleted, first and last height given." { from_height: u64, to_height: u64 };
    55 Storage IndexBuilt "An index is complete up to a height." { index: String, height: u64 };
    56 Storage StorageFailed "A read or write failed." { operation: String, reason: String };
    57 Storage SnapshotCreated "A snapshot of the unspent outputs was written." { hash: BlockHash, height: u64, size_bytes: u64 };
    58 ModuleLifecycle ModuleLoaded "A module was found and its manifest read." { module_id: String, version: String };
    59 ModuleLifecycle ModuleStarted "A module's process was started." { module_id: String, pid: Option<u32> };
    60 ModuleLifecycle ModuleReady "A module completed its handshake." { module_id: String, version: String };
    61 ModuleLifecycle ModuleStopped "A module ended in order." { module_id: String, reason: String };
    62 ModuleLifecycle ModuleCrashed "A module's process ended by itself, with an exit code or a signal." { module_id: String, exit_code: Option<u32>, signal: Option<u32> };
    63 ModuleLifecycle ModuleRestarted "A module was started again." { module_id: String, attempt: u32 };
    64 ModuleLifecycle ModulePermissionDenied "A module asked for what it was not granted." { module_id: String, request: String, missing: Vec<String> };
    65 ModuleLifecycle ModuleHealthChanged "A module's health changed." { module_id: String, status: String, detail: String };
    66 ModuleLifecycle ModuleGrantsChanged "A module's grants changed; all that it has now are named." { module_id: String, granted: Vec<String> };
    67 NodeLifecycle NodeStarting "The node starts." { version: String };
    68 NodeLifecycle NodeReady "The node serves requests." { version: String };
    69 NodeLifecycle NodeStopping "The node stops within a time." { reason: String, grace_us: u64 };
    70 NodeLifecycle ConfigReloaded "The node's configuration was read again; what changed is named." { changed: Vec<String> };
    71 NodeLifecycle NodeFault "A part of the node failed." { part: String, reason: String };
    72 Maintenance MaintenanceStarted "Scheduled work began." { task: String };
    73 Maintenance MaintenanceCompleted "Scheduled work ended." { task: String, duration_us: u64 };
    74 Maintenance BackupCompleted "A backup was written." { name: String, size_bytes: u64 };
    75 Maintenance DataCompacted "A database was compacted." { before_bytes: u64, after_bytes: u64 };
    76 Maintenance UpgradeAvailable "A newer version can be installed." { version: String };
    77 Resources MemoryPressure "Memory runs short." { used_bytes: u64, limit_bytes: u64 };
    78 Resources DiskPressure "Disk space runs short." { free_bytes: u64, limit_bytes: u64 };
    79 Resources ProcessorPressure "The processor is busy, in thousandths of its time." { used_permille: u32 };
    80 Resources DescriptorsLow "File descriptors run short." { used: u32, limit: u32 };
    81 Resources ModuleQuotaExceeded "A module used up a quota." { module_id: String, quota: String, limit: u64 };
    82 Resources ResourcesRecovered "A resource that ran short is available again." { resource: String };
}
