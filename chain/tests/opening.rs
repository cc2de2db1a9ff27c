//! What can be wrong with a directory or its file, and the answer to each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::fs;

use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, BlockHash, Network};
use modipc_chain::regtest::{Miner, raw};
use modipc_chain::{BlockId, ChainConfig, ChainStore, OpenError, StoreError, Utxo};

fn config() -> ChainConfig {
    ChainConfig::from_genesis(Network::Regtest)
}

fn with_blocks(blocks: u32) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let store = ChainStore::open_or_create(directory.path(), &config()).unwrap();
    let mut miner = Miner::from_genesis();
    for _ in 0..blocks {
        store.import(&raw(&miner.mine(vec![], Amount::ZERO))).unwrap();
    }
    directory
}

#[test]
fn a_store_comes_back_as_it_was() {
    let directory = with_blocks(5);
    let store = ChainStore::open(directory.path(), &config()).unwrap();
    assert_eq!(store.tip().height, 5);
    assert_eq!(store.verify().unwrap().blocks, 6);
    assert_eq!(store.network(), Network::Regtest);
    assert_eq!(store.anchor(), BlockId::genesis(Network::Regtest));
}

#[test]
fn a_store_from_genesis_holds_the_genesis_block() {
    for network in [Network::Bitcoin, Network::Testnet, Network::Testnet4, Network::Signet, Network::Regtest]
    {
        let directory = tempfile::tempdir().unwrap();
        let config = ChainConfig::from_genesis(network);
        let store = ChainStore::open_or_create(directory.path(), &config).unwrap();
        let genesis = bitcoin::constants::genesis_block(network);
        let (hash, bytes) = store.block_at(0).unwrap().unwrap();
        assert_eq!(hash, genesis.block_hash());
        assert_eq!(bytes, raw(&genesis));
        assert_eq!(store.hash_at(0).unwrap(), Some(hash));
        let coinbase = bitcoin::OutPoint { txid: genesis.txdata[0].compute_txid(), vout: 0 };
        assert_eq!(store.utxo(&coinbase).unwrap(), Utxo::Unspendable);
        assert_eq!(store.verify().unwrap().utxos, 0);
    }
}

#[test]
fn nothing_there() {
    let directory = tempfile::tempdir().unwrap();
    for path in [directory.path().to_owned(), directory.path().join("no such directory")] {
        match ChainStore::open(&path, &config()) {
            Err(OpenError::Missing { path: named }) => assert_eq!(named, path),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "looking leaves nothing behind");
}

#[test]
fn another_network() {
    let directory = with_blocks(1);
    match ChainStore::open(directory.path(), &ChainConfig::from_genesis(Network::Signet)) {
        Err(OpenError::OtherNetwork { found: Network::Regtest, wanted: Network::Signet, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(ChainStore::open(directory.path(), &config()).unwrap().tip().height, 1);
}

#[test]
fn another_anchor() {
    let directory = with_blocks(1);
    let anchor = BlockId { height: 7, hash: BlockHash::from_byte_array([7; 32]) };
    match ChainStore::open_or_create(directory.path(), &ChainConfig::new(Network::Regtest, anchor)) {
        Err(OpenError::OtherAnchor { found, wanted, .. }) => {
            assert_eq!((found, wanted), (BlockId::genesis(Network::Regtest), anchor));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn height_zero_that_is_not_genesis() {
    let directory = tempfile::tempdir().unwrap();
    let anchor = BlockId { height: 0, hash: BlockId::genesis(Network::Bitcoin).hash };
    match ChainStore::open_or_create(directory.path(), &ChainConfig::new(Network::Regtest, anchor)) {
        Err(OpenError::NotGenesis { genesis, .. }) => {
            assert_eq!(genesis, BlockId::genesis(Network::Regtest).hash);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn in_use() {
    let directory = with_blocks(1);
    let first = ChainStore::open(directory.path(), &config()).unwrap();
    for _ in 0..2 {
        match ChainStore::open_or_create(directory.path(), &config()) {
            Err(OpenError::InUse { path }) => assert_eq!(path, directory.path()),
            other => panic!("{other:?}"),
        }
    }
    drop(first);
    ChainStore::open(directory.path(), &config()).unwrap();
}

#[test]
fn a_schema_of_another_version_is_named() {
    let directory = with_blocks(1);
    let meta: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("meta");
    let db = redb::Database::open(directory.path().join("chain.redb")).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(meta).unwrap().insert("schema", 77_u32.to_le_bytes().as_slice()).unwrap();
    txn.commit().unwrap();
    drop(db);
    match ChainStore::open(directory.path(), &config()) {
        Err(OpenError::Schema { found: 77, known: 1, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_is_no_database() {
    for content in [b"this is a text file".to_vec(), vec![0; 1 << 20], vec![0xff; 1 << 20]] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("chain.redb");
        fs::write(&file, &content).unwrap();
        match ChainStore::open_or_create(directory.path(), &config()) {
            Err(OpenError::Store(StoreError::Corrupt { path, .. })) => assert_eq!(path, directory.path()),
            other => panic!("{other:?}"),
        }
        assert_eq!(fs::read(&file).unwrap(), content, "a file that is not ours stays as it is");
    }
}

#[test]
fn a_database_of_somebody_else() {
    let directory = tempfile::tempdir().unwrap();
    let db = redb::Database::create(directory.path().join("chain.redb")).unwrap();
    let txn = db.begin_write().unwrap();
    let theirs: redb::TableDefinition<'_, u64, u64> = redb::TableDefinition::new("theirs");
    txn.open_table(theirs).unwrap().insert(1, 1).unwrap();
    txn.commit().unwrap();
    drop(db);
    match ChainStore::open(directory.path(), &config()) {
        Err(OpenError::Store(StoreError::Corrupt { detail, .. })) => {
            assert!(detail.contains("meta"), "{detail}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unfinished_creation_is_no_obstacle() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("chain.redb.new"), b"the machine stopped here").unwrap();
    let store = ChainStore::open_or_create(directory.path(), &config()).unwrap();
    assert_eq!(store.verify().unwrap().blocks, 1);
    assert!(!directory.path().join("chain.redb.new").exists());
}

#[test]
fn a_path_that_cannot_be_a_directory() {
    let file = tempfile::NamedTempFile::new().unwrap();
    match ChainStore::open_or_create(file.path(), &config()) {
        Err(OpenError::Store(StoreError::Io { path, .. })) => assert_eq!(path, file.path()),
        other => panic!("{other:?}"),
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_place_where_nobody_may_write() {
    // Not even the superuser makes directories here, so this holds in every container.
    let path = std::path::Path::new("/sys/kernel/modipc-chain-test");
    match ChainStore::open_or_create(path, &config()) {
        Err(OpenError::Store(StoreError::ReadOnly { path: named, .. })) => assert_eq!(named, path),
        other => panic!("{other:?}"),
    }
}

/// Flips a byte at a time all over the file. Whatever it hits, opening either reports corruption, or
/// finds a store that verifies: the byte was free space, or the engine recovered an earlier commit.
#[test]
fn a_damaged_file_is_reported_or_whole() {
    let source = with_blocks(8);
    let good = fs::read(source.path().join("chain.redb")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("chain.redb");
    let (mut reported, mut whole) = (0, 0);
    // The header densely, the pages at a stride that shares no factor with their size.
    let places = (0..400).step_by(3).chain((400..good.len()).step_by(1_543));
    for place in places {
        let mut bad = good.clone();
        bad[place] ^= 0x40;
        fs::write(&file, &bad).unwrap();
        match ChainStore::open(directory.path(), &config()) {
            Err(OpenError::Store(StoreError::Corrupt { .. } | StoreError::Engine { .. })) => reported += 1,
            Ok(store) => {
                let verified = store.verify().unwrap_or_else(|error| panic!("byte {place}: {error}"));
                assert!(verified.tip.height <= 8);
                whole += 1;
            }
            Err(other) => panic!("byte {place}: {other:?}"),
        }
    }
    assert!(reported > 20, "only {reported} of {} were noticed", reported + whole);
}

/// Cuts the file at many lengths.
#[test]
fn a_file_cut_short_is_reported_or_whole() {
    let source = with_blocks(8);
    let good = fs::read(source.path().join("chain.redb")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("chain.redb");
    let mut reported = 0;
    for len in (1..good.len()).step_by(good.len() / 60) {
        fs::write(&file, &good[..len]).unwrap();
        match ChainStore::open(directory.path(), &config()) {
            Err(OpenError::Store(StoreError::Corrupt { .. } | StoreError::Engine { .. })) => reported += 1,
            Ok(store) => drop(store.verify().unwrap_or_else(|error| panic!("cut at {len}: {error}"))),
            Err(other) => panic!("cut at {len}: {other:?}"),
        }
    }
    assert!(reported > 20, "{reported}");
}
