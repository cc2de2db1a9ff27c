use modipc_api::{AnyEvent, Event, EventType, RawEvent};

use crate::files::{body, read};
use crate::{block_hash, txid};

#[rustfmt::skip]
fn expected() -> Vec<Event> {
    use Event::*;
    let height = 702_861;
    vec![
        NewBlock { hash: block_hash(1), height, tx_count: 2500, time_s: 1_633_390_422 },
        ChainTipUpdated { hash: block_hash(1), height, previous: Some(block_hash(2)) },
        BlockDisconnected { hash: block_hash(1), height },
        ChainReorganized { fork_height: 702_850, old_tip: block_hash(1), new_tip: block_hash(2), disconnected: 3, connected: 4 },
        NewHeader { hash: block_hash(1), height: 702_862 },
        BlockRejected { hash: block_hash(1), reason: "bad-txnmrklroot".into() },
        MempoolTransactionAdded { txid: txid(3), fee_sat: Some(1500), virtual_bytes: 141 },
        FeeRateChanged { old_sat_per_kvb: 1000, new_sat_per_kvb: 2500 },
        MempoolTransactionRemoved { txid: txid(3), reason: "confirmed".into() },
        MempoolTransactionReplaced { txid: txid(3), replaced_by: txid(4) },
        MempoolTransactionRejected { txid: txid(3), reason: "dust".into() },
        MempoolCleared { removed: 12 },
        MempoolLimitReached { used_bytes: 300_000_001, limit_bytes: 300_000_000 },
        PeerConnected { peer_id: 7, address: "203.0.113.7:8333".into(), inbound: true },
        MessageReceived { peer_id: 7, command: "inv".into(), size_bytes: 37 },
        PeerDisconnected { peer_id: 7, reason: "timeout".into() },
        MessageSent { peer_id: 7, command: "getdata".into(), size_bytes: 37 },
        PeerBanned { address: "203.0.113.7".into(), until_s: 1_633_476_822, reason: "misbehaviour".into() },
        PeerUnbanned { address: "203.0.113.7".into() },
        PeerMisbehaved { peer_id: 7, reason: "invalid header".into() },
        AddressDiscovered { address: "[2001:db8::1]:8333".into() },
        ReachabilityChanged { network: "onion".into(), reachable: false },
        PaymentRequestCreated { payment_id: "pay-1".into(), amount_sat: Some(250_000), expires_at_s: None },
        PaymentVerified { payment_id: "pay-1".into(), txid: txid(5) },
        PaymentSettled { payment_id: "pay-1".into(), txid: txid(5), confirmations: 6 },
        PaymentFailed { payment_id: "pay-1".into(), reason: "amount too small".into() },
        PaymentExpired { payment_id: "pay-1".into() },
        PaymentRefunded { payment_id: "pay-1".into(), txid: txid(6) },
        BlockTemplateCreated { height: 702_862, tx_count: 2000, fees_sat: 12_345_678 },
        BlockMined { hash: block_hash(7), height: 702_862 },
        ShareSubmitted { worker: "rig-1".into(), accepted: true },
        MiningJobCreated { job_id: "job-9".into(), height: 702_862 },
        DifficultyAdjusted { height: 703_584, old_bits: 0x170e_d0eb, new_bits: 0x170e_2632 },
        MiningStarted { workers: 4 },
        MiningStopped { reason: "operator".into() },
        ProposalCreated { proposal_id: "prop-1".into(), title: "Raise the fee floor".into() },
        ProposalVoteCast { proposal_id: "prop-1".into(), voter: "alice".into(), in_favour: true },
        ProposalAccepted { proposal_id: "prop-1".into() },
        ProposalRejected { proposal_id: "prop-1".into(), reason: "quorum".into() },
        ProposalExecuted { proposal_id: "prop-1".into() },
        BlockValidationStarted { hash: block_hash(8) },
        BlockValidationCompleted { hash: block_hash(8), valid: true, duration_us: 350_000 },
        ScriptVerificationFailed { txid: txid(9), input: 2, reason: "EVAL_FALSE".into() },
        DeploymentSignalled { deployment: "taproot".into(), height: 681_408 },
        DeploymentLockedIn { deployment: "taproot".into(), height: 687_456 },
        DeploymentActivated { deployment: "taproot".into(), height: 709_632 },
        UnknownRulesSignalled { bit: 13, height },
        SyncStarted { from_height: 0, target_height: Some(height) },
        SyncProgress { height: 350_000, target_height: None },
        HeadersSynced { height },
        SyncCompleted { height },
        SyncStalled { height: 350_000, stalled_us: 60_000_000 },
        BlockStored { hash: block_hash(1), height, size_bytes: 1_381_836 },
        StorageFlushed { written_bytes: 450_000_000, duration_us: 2_000_000 },
        BlocksPruned { from_height: 0, to_height: 1000 },
        IndexBuilt { index: "txindex".into(), height },
        StorageFailed { operation: "write".into(), reason: "no space left".into() },
        SnapshotCreated { hash: block_hash(1), height, size_bytes: 5_000_000_000 },
        ModuleLoaded { module_id: "watcher".into(), version: "0.3.0".into() },
        ModuleStarted { module_id: "watcher".into(), pid: Some(4711) },
        ModuleReady { module_id: "watcher".into(), version: "0.3.0".into() },
        ModuleStopped { module_id: "watcher".into(), reason: "done".into() },
        ModuleCrashed { module_id: "watcher".into(), exit_code: None, signal: Some(9) },
        ModuleRestarted { module_id: "watcher".into(), attempt: 2 },
        ModulePermissionDenied { module_id: "watcher".into(), request: "GetUTXO".into(), missing: vec!["ReadUTXO".into()] },
        ModuleHealthChanged { module_id: "watcher".into(), status: "degraded".into(), detail: "slow disk".into() },
        ModuleGrantsChanged { module_id: "watcher".into(), granted: vec!["ReadBlockchain".into(), "ReadUTXO".into()] },
        NodeStarting { version: "0.1.0".into() },
        NodeReady { version: "0.1.0".into() },
        NodeStopping { reason: "operator".into(), grace_us: 5_000_000 },
        ConfigReloaded { changed: vec![] },
        NodeFault { part: "indexer".into(), reason: "panicked".into() },
        MaintenanceStarted { task: "vacuum".into() },
        MaintenanceCompleted { task: "vacuum".into(), duration_us: 1_500_000 },
        BackupCompleted { name: "nightly".into(), size_bytes: 123_456_789 },
        DataCompacted { before_bytes: 1_000_000, after_bytes: 600_000 },
        UpgradeAvailable { version: "0.2.0".into() },
        MemoryPressure { used_bytes: 900, limit_bytes: 1000 },
        DiskPressure { free_bytes: 100, limit_bytes: 500 },
        ProcessorPressure { used_permille: 950 },
        DescriptorsLow { used: 1000, limit: 1024 },
        ModuleQuotaExceeded { module_id: "watcher".into(), quota: "requests per minute".into(), limit: 600 },
        ResourcesRecovered { resource: "memory".into() },
    ]
}

#[test]
fn events_are_the_documents_bytes() {
    let mut vectors = read("events");
    let events = expected();
    let types: Vec<EventType> = events.iter().map(Event::event_type).collect();
    assert_eq!(types, EventType::ALL, "one event of each type");

    for event in events {
        let name = event.event_type().name();
        let plain = vectors.remove(&format!("plain-event-{name}")).expect(name);
        let x1 = vectors.remove(&format!("x1-event-{name}")).expect(name);
        let plain = body(&plain, 2, 0);
        // PREV stands between the id and the body.
        assert_eq!(body(&x1, 2, 8), plain, "{name}: the body is the same in both profiles");

        assert_eq!(Event::decode(&plain), Ok(event.clone()), "{name}");
        let mut encoded = Vec::new();
        event.encode(&mut encoded);
        assert_eq!(encoded, plain, "{name}");
    }

    let later = body(&vectors.remove("plain-event-later").unwrap(), 2, 0);
    assert_eq!(body(&vectors.remove("x1-event-later").unwrap(), 2, 8), later);
    let payload = later.slice(4..);
    assert_eq!(AnyEvent::decode(&later), Ok(AnyEvent::Raw(RawEvent { topic: 250, payload })));
    assert!(vectors.is_empty(), "vectors without an expected value: {:?}", vectors.keys());
}
