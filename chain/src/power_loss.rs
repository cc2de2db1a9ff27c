//! A disk that forgets: what the machine's sudden end leaves of writes that were not synced, and a disk that fills.
//!
//! The backend keeps, beside the content, every write since the last sync. At each sync it makes pictures of disks
//! on which the power went a moment before: some of those writes arrived, some did not, some only in part. Each
//! picture must open as a prefix of whole blocks that lacks no acknowledged one.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bitcoin::{Amount, Network, OutPoint};
use redb::{Database, StorageBackend};

use crate::regtest::{Miner, commit, raw, spend};
use crate::store::{builder, guarded, initialise};
use crate::{ChainConfig, ChainStore, ImportError, OpenError, StoreError};

const BLOCKS: u32 = 10;
const PICTURES_PER_SYNC: u32 = 12;
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Operation {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

impl Operation {
    /// A write torn at a sector's boundary, of which only the first part arrived.
    fn torn(&self, random: &mut Random) -> Operation {
        match self {
            Operation::Write(offset, data) => {
                let sectors = data.len().div_ceil(SECTOR) as u64;
                let arrived = (random.below(sectors + 1) as usize * SECTOR).min(data.len());
                Operation::Write(*offset, data[..arrived].to_vec())
            }
            Operation::SetLen(len) => Operation::SetLen(*len),
        }
    }

    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Operation::Write(offset, data) => {
                let offset = *offset as usize;
                let end = offset + data.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[offset..end].copy_from_slice(data);
            }
            Operation::SetLen(len) => content.resize(*len as usize, 0),
        }
    }
}

/// SplitMix64: the same run each time.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[derive(Debug)]
struct State {
    content: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Operation>,
    random: Random,
    /// Height of the last import that returned.
    acknowledged: u32,
    /// (what was acknowledged when the power went, what the disk holds).
    pictures: Vec<(u32, Vec<u8>)>,
    /// The disk takes no more bytes than this.
    room: usize,
}

impl State {
    fn new(content: Vec<u8>) -> Self {
        let synced = content.clone();
        State {
            content,
            synced,
            unsynced: Vec::new(),
            random: Random(702_861),
            acknowledged: 0,
            pictures: Vec::new(),
            room: usize::MAX,
        }
    }

    fn operate(&mut self, operation: Operation) -> io::Result<()> {
        let mut content = std::mem::take(&mut self.content);
        operation.apply(&mut content);
        let fits = content.len() <= self.room;
        if !fits {
            content.truncate(self.room);
        }
        self.content = content;
        self.unsynced.push(operation);
        if fits { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    fn sync(&mut self) {
        for picture in 0..PICTURES_PER_SYNC {
            let mut disk = self.synced.clone();
            for operation in &self.unsynced {
                // The first two pictures are the extremes: nothing arrived, all but the last arrived.
                match (picture, self.random.below(4)) {
                    (0, _) | (2.., 0) => {}
                    (2.., 1) => operation.torn(&mut self.random).apply(&mut disk),
                    _ => operation.apply(&mut disk),
                }
            }
            self.pictures.push((self.acknowledged, disk));
        }
        self.synced = self.content.clone();
        self.unsynced.clear();
    }
}

#[derive(Clone, Debug)]
struct Disk(Arc<Mutex<State>>);

impl Disk {
    fn holding(content: Vec<u8>) -> Self {
        Disk(Arc::new(Mutex::new(State::new(content))))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn open(&self, config: &ChainConfig) -> Result<ChainStore, OpenError> {
        let path = Path::new("a simulated disk");
        let db: Database = guarded(path, || builder(config).create_with_backend(self.clone()))?;
        ChainStore::from_database(db, path, config, None)
    }

    /// A new disk with an empty store on it. Creation on a real disk happens under another name, so what a power
    /// loss leaves of it is never opened.
    fn with_store(config: &ChainConfig) -> (Self, ChainStore) {
        let disk = Disk::holding(Vec::new());
        let path = Path::new("a simulated disk");
        let db = builder(config).create_with_backend(disk.clone()).unwrap();
        initialise(&db, path, config).unwrap();
        drop(db);
        let store = disk.open(config).unwrap();
        disk.state().pictures.clear();
        (disk, store)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().content.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let offset = offset as usize;
        let from = state.content.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(from);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state().operate(Operation::SetLen(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.state().sync();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.state().operate(Operation::Write(offset, data.to_vec()))
    }
}

/// Each block spends the coinbase of the one before it.
fn blocks(count: u32) -> Vec<Vec<u8>> {
    let mut miner = Miner::from_genesis();
    let mut coin = None;
    let mut blocks = Vec::new();
    for _ in 0..count {
        let spends = coin.map(|coin| spend(&[coin], &[Amount::ONE_BTC; 50]));
        let block = miner.mine(spends.into_iter().collect(), Amount::ZERO);
        coin = Some(OutPoint { txid: block.txdata[0].compute_txid(), vout: 0 });
        blocks.push(raw(&block));
    }
    blocks
}

#[test]
fn whatever_a_power_loss_leaves_is_a_prefix_of_whole_blocks() {
    let config = ChainConfig::from_genesis(Network::Regtest);
    let (disk, store) = Disk::with_store(&config);
    let blocks = blocks(BLOCKS);
    for (height, block) in (1..).zip(&blocks) {
        store.import(block).unwrap();
        disk.state().acknowledged = height;
    }
    drop(store);
    let pictures = std::mem::take(&mut disk.state().pictures);
    assert!(pictures.len() > 100, "{} moments were tried", pictures.len());

    let (mut old, mut new) = (0, 0);
    for (number, (acknowledged, picture)) in pictures.into_iter().enumerate() {
        let after = Disk::holding(picture);
        let store = after.open(&config).unwrap_or_else(|error| panic!("picture {number}: {error}"));
        let tip = store.tip().height;
        assert!(
            tip == acknowledged || tip == acknowledged + 1,
            "picture {number}: {acknowledged} was acknowledged, the tip is {tip}"
        );
        let verified = store.verify().unwrap_or_else(|error| panic!("picture {number}: {error}"));
        assert_eq!(verified.blocks, u64::from(tip) + 1);
        if tip == acknowledged {
            old += 1
        } else {
            new += 1
        }
        // And it goes on from there.
        if let Some(next) = blocks.get(tip as usize) {
            store.import(next).unwrap_or_else(|error| panic!("picture {number}: {error}"));
            assert_eq!(store.verify().unwrap().blocks, u64::from(tip) + 2);
        }
    }
    assert!(old > 0 && new > 0, "both outcomes occurred: {old} without the newest block, {new} with it");
}

#[test]
fn a_full_disk_is_named_and_costs_nothing_that_was_there() {
    let config = ChainConfig::from_genesis(Network::Regtest);
    let (disk, store) = Disk::with_store(&config);
    for block in blocks(5) {
        store.import(&block).unwrap();
    }
    let before = store.verify().unwrap();
    // The engine takes room in advance, so a block that needs more than that meets the limit.
    let room = disk.state().content.len();
    disk.state().room = room;
    let mut miner = Miner::above(store.tip());
    let mut last = before;
    let failed = loop {
        match store.import(&fat_block(&mut miner)) {
            Ok(_) => last = store.verify().unwrap(),
            Err(error) => break error,
        }
    };
    match failed {
        ImportError::Store(StoreError::Full { path, .. }) => {
            assert_eq!(path, Path::new("a simulated disk"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(store.tip(), last.tip);
    drop(store);
    // Room is made, the store is opened again, and all is as before.
    disk.state().room = usize::MAX;
    let content = disk.state().content.clone();
    let store = Disk::holding(content).open(&config).unwrap();
    assert_eq!(store.verify().unwrap(), last);
    store.import(&fat_block(&mut Miner::above(last.tip))).unwrap();
}

/// 900 kB of one script, so that a few blocks fill what the engine took in advance.
fn fat_block(miner: &mut Miner) -> Vec<u8> {
    let mut block = miner.template(vec![], Amount::ZERO);
    block.txdata[0].output[0].script_pubkey = bitcoin::ScriptBuf::from_bytes(vec![0x51; 900_000]);
    commit(&mut block);
    raw(&miner.finish(block))
}
