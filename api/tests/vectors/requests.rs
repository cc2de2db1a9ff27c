use modipc_api::{EventType, MessageType, OutPoint, Request};

use crate::files::check;
use crate::{block_hash, raw_transaction, txid};

fn expected() -> Vec<(&'static str, Request)> {
    let some = vec![EventType::NewBlock, EventType::MempoolTransactionAdded, EventType::PeerConnected];
    vec![
        ("get-block", Request::GetBlock { hash: block_hash(1) }),
        ("get-block-header", Request::GetBlockHeader { hash: block_hash(2) }),
        ("get-transaction", Request::GetTransaction { txid: txid(3) }),
        ("get-chain-tip", Request::GetChainTip),
        ("get-block-height", Request::GetBlockHeight),
        ("get-utxo", Request::GetUtxo { outpoint: OutPoint { txid: txid(4), vout: 7 } }),
        ("subscribe-events", Request::SubscribeEvents { event_types: some }),
        ("subscribe-nothing", Request::SubscribeEvents { event_types: vec![] }),
        ("get-mempool-transactions", Request::GetMempoolTransactions),
        ("get-network-stats", Request::GetNetworkStats),
        ("get-network-peers", Request::GetNetworkPeers),
        ("get-chain-info", Request::GetChainInfo),
        ("get-block-by-height", Request::GetBlockByHeight { height: 702_861 }),
        ("get-mempool-transaction", Request::GetMempoolTransaction { txid: txid(5) }),
        ("submit-transaction", Request::SubmitTransaction { raw: raw_transaction() }),
        ("unsubscribe", Request::Unsubscribe { event_types: vec![EventType::BlockDisconnected] }),
        ("unsubscribe-all", Request::Unsubscribe { event_types: vec![] }),
    ]
}

#[test]
fn requests_are_the_documents_bytes() {
    for decode in [Request::decode_shared, |body: &bytes::Bytes| Request::decode(body)] {
        check("requests", "plain-request-", 0, expected(), Request::encode, decode);
    }
}

#[test]
fn every_request_has_a_vector() {
    for message_type in MessageType::ALL {
        assert!(
            expected().iter().any(|(_, request)| request.message_type() == *message_type),
            "{message_type}"
        );
    }
}
