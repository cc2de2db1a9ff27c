//! A real mainnet block above an anchor.
//!
//! The figures were computed from the raw block by a script of its own in another language, which shares no code
//! with this crate or its dependencies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use bitcoin::consensus::encode::deserialize;
use bitcoin::{Amount, Block, Network, OutPoint, Txid};
use modipc_chain::{BlockFault, BlockId, ChainConfig, ChainStore, ImportError, Utxo};

const HASH: &str = "000000000000000000000c835b2adcaedc20fdf6ee440009c249452c726dafae";
const PARENT: &str = "00000000000000000009c3deb8b5e706d7be57a427f4f03f01c49d5219213b5f";
const MERKLE_ROOT: &str = "407d72768cec1a244b7599af79f554055c72d6b2356c890f8c25abf797679022";
const COINBASE: &str = "764b60c3d9a2c3c5bb6fe7141d9ca6e6778122df75f19366a2c5cb948d1d7d84";
const SECOND: &str = "7bf717689b9033eafb2f3272719989b304bb7db616c2bfb5ded2e1b76d50a4f0";

fn raw() -> &'static [u8] {
    bitcoin_test_data::blocks::mainnet_702861()
}

fn anchored_at(height: u32) -> (tempfile::TempDir, ChainStore) {
    let directory = tempfile::tempdir().unwrap();
    let anchor = BlockId { height, hash: PARENT.parse().unwrap() };
    let config = ChainConfig::new(Network::Bitcoin, anchor);
    let store = ChainStore::open_or_create(directory.path(), &config).unwrap();
    (directory, store)
}

fn outpoint(txid: &str, vout: u32) -> OutPoint {
    OutPoint { txid: txid.parse().unwrap(), vout }
}

#[test]
fn the_parent_is_the_one_that_the_header_names() {
    assert_eq!(raw()[4..36].iter().rev().map(|byte| format!("{byte:02x}")).collect::<String>(), PARENT);
}

#[test]
fn block_702861_has_the_known_facts() {
    let (_directory, store) = anchored_at(702_860);
    let imported = store.import(raw()).unwrap();
    assert_eq!(imported.block.height, 702_861);
    assert_eq!(imported.block.hash.to_string(), HASH);
    assert_eq!(imported.header.merkle_root.to_string(), MERKLE_ROOT);
    assert_eq!(imported.transactions, 2_500);
    assert_eq!(imported.bytes, 1_381_836);
    assert_eq!(imported.weight, 3_993_054);
    assert_eq!(imported.outputs_created, 5_992);
    assert_eq!(imported.inputs_known, 327);
    assert_eq!(imported.inputs_unknown, 6_517 - 327);
    assert_eq!(imported.subsidy, Amount::from_sat(625_000_000));
    assert_eq!(imported.coinbase_paid, Amount::from_sat(629_948_405));
    assert_eq!(imported.fees_claimed(), Some(Amount::from_sat(4_948_405)));
    assert_eq!(imported.fees, None, "most inputs are older than the anchor: their value is unknown");

    let verified = store.verify().unwrap();
    assert_eq!((verified.blocks, verified.transactions), (1, 2_500));
    assert_eq!((verified.utxos, verified.spends), (5_665, 6_517));
}

#[test]
fn the_block_and_each_transaction_come_back_byte_for_byte() {
    let (_directory, store) = anchored_at(702_860);
    store.import(raw()).unwrap();
    let hash = HASH.parse().unwrap();
    assert_eq!(store.block(&hash).unwrap().unwrap(), raw());
    assert_eq!(store.block_at(702_861).unwrap().unwrap(), (hash, raw().to_vec().into()));
    let block: Block = deserialize(raw()).unwrap();
    assert_eq!(store.header(&hash).unwrap().unwrap().header, block.header);
    for (index, tx) in block.txdata.iter().enumerate().step_by(97) {
        let stored = store.transaction(&tx.compute_txid()).unwrap().unwrap();
        assert_eq!(stored.index as usize, index);
        assert_eq!(stored.block, BlockId { height: 702_861, hash });
        assert_eq!(deserialize::<bitcoin::Transaction>(&stored.raw).unwrap(), *tx);
    }
}

#[test]
fn what_is_older_than_the_anchor_is_unknown_and_not_invented() {
    let (_directory, store) = anchored_at(702_860);
    store.import(raw()).unwrap();
    // Created in the block, spent in the block, never spendable, never there.
    match store.utxo(&outpoint(COINBASE, 0)).unwrap() {
        Utxo::Unspent(unspent) => {
            assert_eq!(unspent.value, Amount::from_sat(629_948_405));
            assert!(unspent.coinbase);
            assert_eq!(unspent.height, 702_861);
        }
        other => panic!("{other:?}"),
    }
    let spent = outpoint("4ef8d98421ae5807b80e97329d90cde3fa8ccda00702ca7432153f90378ec122", 1);
    assert!(matches!(store.utxo(&spent).unwrap(), Utxo::Spent { height: 702_861, .. }));
    assert_eq!(store.utxo(&outpoint(COINBASE, 1)).unwrap(), Utxo::Unspendable);
    assert_eq!(store.utxo(&outpoint(COINBASE, 9)).unwrap(), Utxo::None);
    // Older than the anchor: this one the second transaction spent, of the other nothing is known.
    let foreign = outpoint("52d5375c349d6aed6e9e5a0f1d7bd72d17be31751ca7d6b34b1700306e5eb153", 1);
    let second: Txid = SECOND.parse().unwrap();
    assert_eq!(store.utxo(&foreign).unwrap(), Utxo::Spent { height: 702_861, by: second, input: 0 });
    assert_eq!(store.transaction(&second).unwrap().unwrap().index, 1);
    let sibling = OutPoint { vout: 0, ..foreign };
    assert_eq!(store.utxo(&sibling).unwrap(), Utxo::OlderThanAnchor);
    // The anchor itself is known by name only.
    let parent = PARENT.parse().unwrap();
    assert_eq!(store.hash_at(702_860).unwrap(), Some(parent));
    assert_eq!(store.block(&parent).unwrap(), None);
    assert_eq!(store.block_at(702_860).unwrap(), None);
    assert_eq!(store.header(&parent).unwrap(), None);
}

#[test]
fn an_anchor_of_the_wrong_height_is_noticed() {
    let (_directory, store) = anchored_at(702_859);
    match store.import(raw()) {
        Err(ImportError::Invalid { fault, .. }) => {
            assert_eq!(fault, BlockFault::CoinbaseHeight { height: 702_860 });
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(store.tip(), store.anchor());
}

#[test]
fn a_real_block_without_its_witnesses_is_not_taken_for_whole() {
    let (_directory, store) = anchored_at(702_860);
    let mut block: Block = deserialize(raw()).unwrap();
    for input in block.txdata.iter_mut().flat_map(|tx| &mut tx.input) {
        input.witness.clear();
    }
    assert_eq!(block.block_hash().to_string(), HASH);
    match store.import(&bitcoin::consensus::serialize(&block)) {
        Err(ImportError::Invalid { fault: BlockFault::WitnessReservedValue, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(store.verify().unwrap().blocks, 0);
}
