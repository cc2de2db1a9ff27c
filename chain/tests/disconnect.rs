//! A block that leaves the chain leaves nothing behind, and takes nothing with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, Block, BlockHash, Network, OutPoint, Transaction, Txid};
use futures_lite::future::block_on;
use modipc_api::Event;
use modipc_chain::regtest::{Miner, raw, spend};
use modipc_chain::{BlockId, Chain, ChainConfig, ChainStore, DisconnectError, Utxo};

const COIN: Amount = Amount::ONE_BTC;

fn store(anchor: BlockId) -> (tempfile::TempDir, ChainStore) {
    let directory = tempfile::tempdir().unwrap();
    let config = ChainConfig::new(Network::Regtest, anchor);
    let store = ChainStore::open_or_create(directory.path(), &config).unwrap();
    (directory, store)
}

fn outpoint(tx: &Transaction, vout: u32) -> OutPoint {
    OutPoint { txid: tx.compute_txid(), vout }
}

/// Three blocks: a coinbase; its split and a chain of spends in one block; spends of both, and of what is older.
fn blocks(miner: &mut Miner, older: &[OutPoint]) -> Vec<Block> {
    let first = miner.mine(vec![], Amount::ZERO);
    let split = spend(&[outpoint(&first.txdata[0], 0)], &[COIN * 10, COIN * 40]);
    let within = spend(&[outpoint(&split, 0)], &[COIN * 3, COIN * 7]);
    let again = spend(&[outpoint(&within, 1)], &[COIN * 7]);
    let second = miner.mine(vec![split.clone(), within.clone(), again.clone()], Amount::ZERO);
    let inputs =
        [vec![outpoint(&split, 1), outpoint(&within, 0), outpoint(&again, 0)], older.to_vec()].concat();
    let third = miner.mine(vec![spend(&inputs, &[COIN * 50])], Amount::ZERO);
    vec![first, second, third]
}

#[test]
fn connecting_and_disconnecting_cancel_out() {
    let older = OutPoint { txid: Txid::from_byte_array([5; 32]), vout: 1 };
    let anchored = BlockId { height: 100, hash: BlockHash::from_byte_array([7; 32]) };
    for (anchor, older) in [(BlockId::genesis(Network::Regtest), vec![]), (anchored, vec![older])] {
        let (_directory, store) = store(anchor);
        let blocks = blocks(&mut Miner::above(anchor), &older);
        let mut states = vec![store.verify().unwrap()];
        for block in &blocks {
            store.import(&raw(block)).unwrap();
            states.push(store.verify().unwrap());
        }
        for (block, state) in blocks.iter().zip(&states).rev() {
            let gone = store.disconnect_tip().unwrap();
            assert_eq!(gone.hash, block.block_hash());
            // `verify` rebuilds every row from the raw blocks that are left.
            assert_eq!(store.verify().unwrap(), *state);
            assert_eq!(store.tip(), state.tip);
            assert_eq!(store.block(&gone.hash).unwrap(), None);
            assert_eq!(store.block_at(gone.height).unwrap(), None);
        }
        match store.disconnect_tip() {
            Err(DisconnectError::AtAnchor { anchor: named }) => assert_eq!(named, anchor),
            other => panic!("{other:?}"),
        }
        for outpoint in older {
            assert_eq!(store.utxo(&outpoint).unwrap(), Utxo::OlderThanAnchor);
        }
        // And all of it once more.
        for block in &blocks {
            store.import(&raw(block)).unwrap();
        }
        assert_eq!(store.verify().unwrap(), states[3]);
    }
}

#[test]
fn a_real_block_leaves_no_trace() {
    let parent = "00000000000000000009c3deb8b5e706d7be57a427f4f03f01c49d5219213b5f".parse().unwrap();
    let anchor = BlockId { height: 702_860, hash: parent };
    let directory = tempfile::tempdir().unwrap();
    let config = ChainConfig::new(Network::Bitcoin, anchor);
    let store = ChainStore::open_or_create(directory.path(), &config).unwrap();
    let empty = store.verify().unwrap();
    let imported = store.import(bitcoin_test_data::blocks::mainnet_702861()).unwrap();
    assert_eq!(store.disconnect_tip().unwrap(), imported.block);
    assert_eq!(store.verify().unwrap(), empty);
    assert_eq!((store.tip(), store.tip_header()), (anchor, None));
}

#[test]
fn the_other_branch_can_be_followed_also_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let config = ChainConfig::from_genesis(Network::Regtest);
    let chain = Chain::new(ChainStore::open_or_create(directory.path(), &config).unwrap());
    let mut ours = Miner::from_genesis();
    let common = ours.mine(vec![], Amount::ZERO);
    let mut theirs = ours.clone().branch(1);
    let left = ours.mine(vec![], Amount::ZERO);
    for block in [&common, &left] {
        chain.import_blocking(&raw(block)).unwrap();
    }
    let (gone, events) = block_on(chain.disconnect_tip()).unwrap();
    assert_eq!(gone, BlockId { height: 2, hash: left.block_hash() });
    let (hash, tip) = (left.block_hash().into(), common.block_hash().into());
    assert_eq!(
        events,
        [
            Event::BlockDisconnected { hash, height: 2 },
            Event::ChainTipUpdated { hash: tip, height: 1, previous: Some(hash) },
        ]
    );
    drop(chain);
    let store = ChainStore::open(directory.path(), &config).unwrap();
    assert_eq!(store.tip().hash, common.block_hash());
    for _ in 0..2 {
        store.import(&raw(&theirs.mine(vec![], Amount::ZERO))).unwrap();
    }
    assert_eq!(store.tip(), theirs.tip());
    assert_eq!(store.verify().unwrap().blocks, 4);
}
