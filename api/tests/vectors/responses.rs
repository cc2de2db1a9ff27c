use bytes::Bytes;
use modipc_api::{
    BlockAt, BlockHeader, BlockRef, ChainInfo, Coin, ErrorCode, ErrorInfo, EventType, MempoolTransaction,
    MessageType, NetworkStats, PeerInfo, RawBlock, Response, ResponseData, Spender, Transaction, Utxo,
};

use crate::files::check;
use crate::{block_hash, pattern, raw_transaction, txid};

fn data() -> Vec<(&'static str, ResponseData)> {
    let tip = BlockRef { hash: block_hash(10), height: 702_861 };
    let block = BlockRef { hash: block_hash(11), height: 702_860 };
    let coin = Coin {
        value_sat: 5_000_000_000,
        height: 1,
        coinbase: true,
        script_pubkey: Bytes::from_static(&[0x51]),
    };
    let spender = Spender { txid: txid(22), vin: 1, height: 702_860 };
    let subscribed = ResponseData::Subscribed {
        event_types: vec![EventType::NewBlock, EventType::MempoolTransactionAdded, EventType::PeerConnected],
        position: 41,
    };
    let known = MempoolTransaction {
        fee_sat: Some(1500),
        received_at_s: Some(1_633_390_500),
        raw: raw_transaction(),
    };
    let unknown = MempoolTransaction { fee_sat: None, received_at_s: None, raw: raw_transaction() };
    let block_at = BlockAt { hash: block_hash(13), raw: RawBlock::new(pattern(90).into()) };
    vec![
        ("block", ResponseData::Block(RawBlock::new(pattern(100).into()))),
        (
            "block-header",
            ResponseData::BlockHeader(BlockHeader::from_bytes(std::array::from_fn(|i| i as u8))),
        ),
        (
            "transaction",
            ResponseData::Transaction(Transaction { block: Some(block), raw: raw_transaction() }),
        ),
        (
            "transaction-block-unknown",
            ResponseData::Transaction(Transaction { block: None, raw: raw_transaction() }),
        ),
        ("chain-tip", ResponseData::ChainTip(tip)),
        ("block-height", ResponseData::BlockHeight(702_861)),
        ("utxo-unspent", ResponseData::Utxo(Utxo::Unspent(coin))),
        ("utxo-spent", ResponseData::Utxo(Utxo::Spent { by: Some(spender) })),
        ("utxo-spent-by-unknown", ResponseData::Utxo(Utxo::Spent { by: None })),
        ("utxo-unknown", ResponseData::Utxo(Utxo::Unknown { known_from_height: 702_861 })),
        ("subscribed", subscribed),
        ("mempool-transactions", ResponseData::MempoolTransactions(vec![txid(30), txid(31)])),
        ("mempool-transactions-none", ResponseData::MempoolTransactions(vec![])),
        ("network-stats", ResponseData::NetworkStats(network_stats())),
        ("network-peers", ResponseData::NetworkPeers(peers())),
        ("chain-info", ResponseData::ChainInfo(chain_info(tip, None, Some(true)))),
        (
            "chain-info-anchored",
            ResponseData::ChainInfo(chain_info(
                tip,
                Some(BlockRef { hash: block_hash(12), height: 702_860 }),
                None,
            )),
        ),
        ("block-by-height", ResponseData::BlockByHeight(block_at)),
        ("mempool-transaction", ResponseData::MempoolTransaction(known)),
        ("mempool-transaction-fee-unknown", ResponseData::MempoolTransaction(unknown)),
        ("submitted", ResponseData::Submitted { txid: txid(14) }),
        ("unsubscribed", ResponseData::Unsubscribed { event_types: vec![EventType::NewBlock] }),
    ]
}

fn chain_info(tip: BlockRef, anchor: Option<BlockRef>, syncing: Option<bool>) -> ChainInfo {
    ChainInfo {
        chain: "main".into(),
        tip,
        tip_time: 1_633_390_422,
        tip_bits: 0x170e_d0eb,
        headers_height: 702_870,
        anchor,
        syncing,
    }
}

fn network_stats() -> NetworkStats {
    NetworkStats {
        peers_inbound: 3,
        peers_outbound: 8,
        received_bytes: 123_456_789,
        sent_bytes: 987_654_321,
        uptime_s: 86_400,
    }
}

fn peers() -> Vec<PeerInfo> {
    vec![
        PeerInfo {
            peer_id: 3,
            address: "203.0.113.7:8333".into(),
            inbound: true,
            protocol_version: 70_016,
            services: 0x0409,
            user_agent: "/Satoshi:27.0.0/".into(),
            start_height: Some(702_850),
            connected_at_s: 1_633_390_000,
            ping_us: Some(41_000),
            received_bytes: 1000,
            sent_bytes: 2000,
        },
        PeerInfo {
            peer_id: 4,
            address: "[2001:db8::1]:8333".into(),
            inbound: false,
            protocol_version: 70_015,
            services: 1,
            user_agent: String::new(),
            start_height: None,
            connected_at_s: 1_633_390_001,
            ping_us: None,
            received_bytes: 0,
            sent_bytes: 0,
        },
    ]
}

fn errors() -> Vec<(&'static str, ErrorInfo)> {
    vec![
        ("error-unsupported", ErrorInfo::new(ErrorCode::Unsupported, "no peers here")),
        (
            "error-permission-denied",
            ErrorInfo::new(ErrorCode::PermissionDenied, "GetUTXO needs ReadUTXO")
                .with("request", "GetUTXO")
                .with("capability", "ReadUTXO"),
        ),
        ("error-invalid-request", ErrorInfo::new(ErrorCode::InvalidRequest, "the hash is short")),
        ("error-unknown-request", ErrorInfo::new(ErrorCode::UnknownRequest, "request type 99")),
        ("error-busy", ErrorInfo::new(ErrorCode::Busy, "64 calls are open").with("limit", "64")),
        ("error-deadline-exceeded", ErrorInfo::new(ErrorCode::DeadlineExceeded, "")),
        ("error-cancelled", ErrorInfo::new(ErrorCode::Cancelled, "given up")),
        ("error-unavailable", ErrorInfo::new(ErrorCode::Unavailable, "the node starts")),
        ("error-internal", ErrorInfo::new(ErrorCode::Internal, "a handler failed")),
        ("error-rejected", ErrorInfo::new(ErrorCode::Rejected, "min relay fee not met: 100 < 141")),
        (
            "error-payload-too-large",
            ErrorInfo::new(ErrorCode::PayloadTooLarge, "the block exceeds the frame"),
        ),
        (
            "error-resource-exhausted",
            ErrorInfo::new(ErrorCode::ResourceExhausted, "wait")
                .with("resource", "requests per minute")
                .with("limit", "600"),
        ),
        ("error-later-code", ErrorInfo::new(ErrorCode::Other(77), "grüße")),
    ]
}

fn expected() -> Vec<(&'static str, Response)> {
    let data = data().into_iter().map(|(name, data)| (name, Response::Success(data)));
    let errors = errors().into_iter().map(|(name, error)| (name, Response::Error(error)));
    data.chain(errors).chain([("not-found", Response::NotFound)]).collect()
}

#[test]
fn responses_are_the_documents_bytes() {
    for decode in [Response::decode_shared, |body: &Bytes| Response::decode(body)] {
        check("responses", "plain-response-", 1, expected(), Response::encode, decode);
    }
}

#[test]
fn every_data_variant_and_error_code_has_a_vector() {
    for message_type in MessageType::ALL {
        assert!(data().iter().any(|(_, data)| data.message_type() == *message_type), "{message_type}");
    }
    for code in ErrorCode::ALL {
        assert!(errors().iter().any(|(_, error)| error.code == *code), "{code}");
    }
}
