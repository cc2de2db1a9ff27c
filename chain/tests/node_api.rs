//! The store as a module sees it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::sync::Arc;

use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, Network};
use futures_lite::future::block_on;
use modipc_api::{
    BlockHash, BlockRef, CapabilitySet, ErrorCode, Event, MessageType, OutPoint, RawTransaction, Txid, Utxo,
};
use modipc_chain::regtest::{Miner, commit, raw, solve, spend};
use modipc_chain::{BlockId, Chain, ChainConfig, ChainStore, KNOWN_FROM_HEIGHT, events_of_failure};
use modipc_core::CallId;
use modipc_node::{CallContext, NodeApi, NodeError, NodeResult};

fn context() -> CallContext {
    CallContext {
        module_id: Arc::from("test"),
        call: CallId(1),
        deadline: None,
        idempotency: None,
        trace: None,
        grants: CapabilitySet::ALL,
    }
}

fn chain(anchor: BlockId) -> (tempfile::TempDir, Chain, Miner) {
    let directory = tempfile::tempdir().unwrap();
    let config = ChainConfig::new(Network::Regtest, anchor);
    let store = ChainStore::open_or_create(directory.path(), &config).unwrap();
    (directory, Chain::new(store), Miner::above(anchor))
}

fn from_genesis() -> (tempfile::TempDir, Chain, Miner) {
    chain(BlockId::genesis(Network::Regtest))
}

fn anchor() -> BlockId {
    BlockId { height: 100, hash: bitcoin::BlockHash::from_byte_array([7; 32]) }
}

#[test]
fn every_request_about_a_block_is_answered() {
    let (_directory, chain, mut miner) = from_genesis();
    let first = miner.mine(vec![], Amount::ZERO);
    let coin = bitcoin::OutPoint { txid: first.txdata[0].compute_txid(), vout: 0 };
    let second = miner.mine(vec![spend(&[coin], &[Amount::ONE_BTC * 50])], Amount::ZERO);
    let cx = context();
    block_on(async {
        for block in [&first, &second] {
            chain.import(raw(block)).await.unwrap();
        }
        let hash = BlockHash::from(second.block_hash());
        assert_eq!(chain.get_block(&cx, hash).await.unwrap().as_bytes(), raw(&second));
        assert_eq!(chain.get_block_header(&cx, hash).await.unwrap().parse().unwrap(), second.header);
        let at = chain.get_block_by_height(&cx, 2).await.unwrap();
        assert_eq!((at.hash, at.raw.as_bytes()), (hash, raw(&second).as_slice()));
        assert_eq!(chain.get_chain_tip(&cx).await.unwrap(), BlockRef { hash, height: 2 });
        assert_eq!(chain.get_block_height(&cx).await.unwrap(), 2);

        let tx = &second.txdata[1];
        let answer = chain.get_transaction(&cx, tx.compute_txid().into()).await.unwrap();
        assert_eq!(answer.block, Some(BlockRef { hash, height: 2 }));
        assert_eq!(&answer.raw.parse().unwrap(), tx);

        match chain.get_utxo(&cx, coin.into()).await.unwrap() {
            Utxo::Spent { by: Some(by) } => {
                assert_eq!((by.txid, by.vin, by.height), (tx.compute_txid().into(), 0, 2));
            }
            other => panic!("{other:?}"),
        }
        let unspent = OutPoint { txid: tx.compute_txid().into(), vout: 0 };
        match chain.get_utxo(&cx, unspent).await.unwrap() {
            Utxo::Unspent(coin) => {
                assert_eq!((coin.value_sat, coin.height, coin.coinbase), (5_000_000_000, 2, false));
                assert_eq!(&coin.script_pubkey[..], tx.output[0].script_pubkey.as_bytes());
            }
            other => panic!("{other:?}"),
        }

        let info = chain.get_chain_info(&cx).await.unwrap();
        assert_eq!((info.chain.as_str(), info.tip.height, info.headers_height), ("regtest", 2, 2));
        assert_eq!((info.tip_time, info.tip_bits), (second.header.time, 0x207f_ffff));
        assert_eq!((info.anchor, info.syncing), (None, None));
    });
}

#[test]
fn what_this_chain_has_no_data_for() {
    let (_directory, chain, _) = from_genesis();
    let cx = context();
    let nobody = Txid::from_bytes([9; 32]);
    let unsupported = |request| NodeError::Unsupported { request };
    block_on(async {
        assert_eq!(chain.get_mempool_transactions(&cx).await, Ok(vec![]));
        assert_eq!(chain.get_mempool_transaction(&cx, nobody).await, Err(NodeError::NotFound));
        assert_eq!(chain.get_network_peers(&cx).await, Err(unsupported(MessageType::GetNetworkPeers)));
        assert_eq!(chain.get_network_stats(&cx).await, Err(unsupported(MessageType::GetNetworkStats)));
        let submitted = chain.submit_transaction(&cx, RawTransaction::new(vec![1].into())).await;
        assert_eq!(submitted, Err(unsupported(MessageType::SubmitTransaction)));
    });
}

#[test]
fn from_genesis_on_not_found_is_certain() {
    let (_directory, chain, _) = from_genesis();
    let cx = context();
    let hash = BlockHash::from_bytes([9; 32]);
    let txid = Txid::from_bytes([9; 32]);
    block_on(async {
        assert_eq!(chain.get_block(&cx, hash).await, Err(NodeError::NotFound));
        assert_eq!(chain.get_block_header(&cx, hash).await, Err(NodeError::NotFound));
        assert_eq!(chain.get_transaction(&cx, txid).await, Err(NodeError::NotFound));
        assert_eq!(chain.get_utxo(&cx, OutPoint { txid, vout: 0 }).await, Err(NodeError::NotFound));
        for height in [1, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(chain.get_block_by_height(&cx, height).await, Err(NodeError::NotFound));
        }
        assert_eq!(chain.get_chain_info(&cx).await.unwrap().tip.height, 0);
    });
}

#[track_caller]
fn is_older<T: std::fmt::Debug>(answer: NodeResult<T>) {
    match answer {
        Err(NodeError::Failed { code: ErrorCode::Unsupported, details, .. }) => {
            assert_eq!(details, [(KNOWN_FROM_HEIGHT.to_owned(), "101".to_owned())]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn above_an_anchor_what_may_be_older_is_said_to_be() {
    let (_directory, chain, mut miner) = chain(anchor());
    let cx = context();
    let hash = BlockHash::from_bytes([9; 32]);
    let txid = Txid::from_bytes([9; 32]);
    block_on(async {
        // Of the anchor itself only height and hash are known.
        assert_eq!(chain.get_chain_tip(&cx).await.unwrap(), anchor().into());
        match chain.get_chain_info(&cx).await {
            Err(NodeError::Failed { code: ErrorCode::Unavailable, .. }) => {}
            other => panic!("{other:?}"),
        }
        chain.import(raw(&miner.mine(vec![], Amount::ZERO))).await.unwrap();
        let info = chain.get_chain_info(&cx).await.unwrap();
        assert_eq!((info.anchor, info.tip.height), (Some(anchor().into()), 101));

        is_older(chain.get_block(&cx, hash).await);
        is_older(chain.get_block_header(&cx, anchor().hash.into()).await);
        is_older(chain.get_transaction(&cx, txid).await);
        is_older(chain.get_block_by_height(&cx, 100).await);
        is_older(chain.get_block_by_height(&cx, 0).await);
        let utxo = chain.get_utxo(&cx, OutPoint { txid, vout: 0 }).await;
        assert_eq!(utxo, Ok(Utxo::Unknown { known_from_height: 101 }));
        assert_eq!(chain.get_block_by_height(&cx, 102).await, Err(NodeError::NotFound));
    });
}

#[test]
fn an_import_shows_its_events_in_order() {
    let (_directory, chain, mut miner) = from_genesis();
    let block = miner.mine(vec![], Amount::ZERO);
    let (imported, events) = chain.import_blocking(&raw(&block)).unwrap();
    let (hash, height) = (BlockHash::from(block.block_hash()), 1);
    let previous = Some(block.header.prev_blockhash.into());
    let (size_bytes, time_s) = (imported.bytes, block.header.time);
    assert_eq!(
        events,
        [
            Event::NewHeader { hash, height },
            Event::BlockStored { hash, height, size_bytes },
            Event::NewBlock { hash, height, tx_count: 1, time_s },
            Event::ChainTipUpdated { hash, height, previous },
        ]
    );
    assert_eq!(chain.store().tip(), imported.block, "the block is there before its events are");
}

#[test]
fn a_changed_target_is_an_event_of_its_own() {
    let (_directory, chain, mut miner) = from_genesis();
    chain.import_blocking(&raw(&miner.mine(vec![], Amount::ZERO))).unwrap();
    let mut block = miner.template(vec![], Amount::ZERO);
    block.header.bits = bitcoin::CompactTarget::from_consensus(0x207f_fffe);
    let (_, events) = chain.import_blocking(&raw(&solve(block))).unwrap();
    let changed = Event::DifficultyAdjusted { height: 2, old_bits: 0x207f_ffff, new_bits: 0x207f_fffe };
    assert_eq!(events.last(), Some(&changed));
}

#[test]
fn failures_that_subscribers_hear_of() {
    let (_directory, chain, miner) = from_genesis();
    let mut block = miner.template(vec![], Amount::ZERO);
    block.txdata.clear();
    commit(&mut block);
    let block = solve(block);
    let rejected = chain.import_blocking(&raw(&block)).unwrap_err();
    match events_of_failure(&rejected).as_slice() {
        [Event::BlockRejected { hash, reason }] => {
            assert_eq!(*hash, block.block_hash().into());
            assert_eq!(reason, "it has no transaction");
        }
        other => panic!("{other:?}"),
    }
    let genesis = raw(&bitcoin::constants::genesis_block(Network::Regtest));
    for unremarkable in [vec![1, 2, 3], genesis] {
        assert_eq!(events_of_failure(&chain.import_blocking(&unremarkable).unwrap_err()), []);
    }
}

#[test]
fn reads_run_beside_an_import() {
    let (_directory, chain, mut miner) = from_genesis();
    let blocks: Vec<_> = (0..20).map(|_| raw(&miner.mine(vec![], Amount::ZERO))).collect();
    let importer = {
        let chain = chain.clone();
        std::thread::spawn(move || {
            for block in &blocks {
                chain.import_blocking(block).unwrap();
            }
        })
    };
    let cx = context();
    // Whenever it is asked, the tip can be read whole.
    while !importer.is_finished() {
        let tip = block_on(chain.get_chain_tip(&cx)).unwrap();
        let block = block_on(chain.get_block(&cx, tip.hash)).unwrap();
        assert_eq!(BlockHash::from(block.parse().unwrap().block_hash()), tip.hash);
    }
    importer.join().unwrap();
    assert_eq!(block_on(chain.get_block_height(&cx)), Ok(20));
}
