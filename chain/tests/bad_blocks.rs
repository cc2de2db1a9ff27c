//! Each way in which a block can be wrong gets its own answer and leaves the store as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use bitcoin::hashes::Hash as _;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, Network, OutPoint, ScriptBuf, Transaction, Txid, Witness,
};
use modipc_chain::regtest::{self, Miner, commit, raw, solve, spend};
use modipc_chain::{BlockFault, BlockId, ChainConfig, ChainStore, ImportError, Utxo};

/// A store with a few blocks, the miner above its tip, and an output that can be spent.
struct World {
    _directory: tempfile::TempDir,
    store: ChainStore,
    miner: Miner,
    /// Value 20 and 30 bitcoin.
    coins: [OutPoint; 2],
    blocks: Vec<Block>,
}

const COIN: Amount = Amount::ONE_BTC;

/// Above genesis everything is known; above an anchor somewhere else, older outputs are not.
fn world(anchor: BlockId) -> World {
    let directory = tempfile::tempdir().unwrap();
    let config = ChainConfig::new(Network::Regtest, anchor);
    let store = ChainStore::open_or_create(directory.path(), &config).unwrap();
    let mut miner = Miner::above(anchor);
    let first = miner.mine(vec![], Amount::ZERO);
    let coinbase = OutPoint { txid: first.txdata[0].compute_txid(), vout: 0 };
    let split = spend(&[coinbase], &[COIN * 20, COIN * 30]);
    let coins = [0, 1].map(|vout| OutPoint { txid: split.compute_txid(), vout });
    let blocks = vec![first, miner.mine(vec![split], Amount::ZERO)];
    for block in &blocks {
        store.import(&raw(block)).unwrap();
    }
    World { _directory: directory, store, miner, coins, blocks }
}

fn known() -> World {
    world(BlockId::genesis(Network::Regtest))
}

fn anchored() -> World {
    world(BlockId { height: 100, hash: BlockHash::from_byte_array([7; 32]) })
}

impl World {
    /// Imports and expects a fault; the store must be the same before and after, and still work.
    #[track_caller]
    fn refuses(&self, raw_block: &[u8]) -> BlockFault {
        let before = (self.store.tip(), self.store.verify().unwrap());
        let fault = match self.store.import(raw_block) {
            Err(ImportError::Invalid { fault, .. }) => fault,
            other => panic!("{other:?}"),
        };
        assert_eq!((self.store.tip(), self.store.verify().unwrap()), before);
        let next = self.miner.clone().mine(vec![], Amount::ZERO);
        self.store.import(&raw(&next)).expect("the store takes the next good block");
        assert_eq!(self.store.verify().unwrap().blocks, before.1.blocks + 1);
        fault
    }

    /// The next block with these transactions, all commitments and the proof of work in order.
    fn next(&self, transactions: Vec<Transaction>) -> Block {
        self.miner.clone().mine(transactions, Amount::ZERO)
    }

    /// The next block, spoilt, then committed to and solved again.
    fn spoilt(&self, transactions: Vec<Transaction>, spoil: impl FnOnce(&mut Block)) -> Vec<u8> {
        let mut block = self.miner.template(transactions, Amount::ZERO);
        spoil(&mut block);
        commit(&mut block);
        raw(&solve(block))
    }
}

#[test]
fn garbage_and_cut_and_overlong_bytes() {
    let world = known();
    let good = raw(&world.next(vec![]));
    let cut = &good[..good.len() - 1];
    assert!(matches!(world.refuses(cut), BlockFault::Truncated { what: "transaction", offset: 81 }));
    let world = known();
    assert_eq!(world.refuses(&[]), BlockFault::Truncated { what: "header", offset: 0 });
    let world = known();
    assert_eq!(world.refuses(&[good, vec![1, 2]].concat()), BlockFault::TrailingBytes { bytes: 2 });
    let world = known();
    let garbage: Vec<u8> = (0..5_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert!(matches!(
        world.refuses(&garbage),
        BlockFault::Truncated { .. } | BlockFault::Malformed { .. } | BlockFault::TrailingBytes { .. }
    ));
    let world = known();
    assert_eq!(world.refuses(&vec![0; 4_000_001]), BlockFault::TooLong { bytes: 4_000_001 });
}

#[test]
fn no_proof_of_work() {
    let world = known();
    let mut block = world.next(vec![]);
    while block.header.target().is_met_by(block.block_hash()) {
        block.header.nonce += 1;
    }
    assert_eq!(world.refuses(&raw(&block)), BlockFault::NoProofOfWork { bits: regtest::BITS });
}

#[test]
fn a_target_that_is_too_easy_or_none_at_all() {
    // Easier than regtest's; zero; negative; beyond 256 bits; zero bytes in front.
    for (bits, too_easy) in [
        (0x2100_ffff, true),
        (0, false),
        (0x0100_0000, false),
        (0x2080_0001, false),
        (0xff12_3456, false),
        (0x2300_0001, false),
        (0x2100_7fff, false),
    ] {
        let world = known();
        let mut block = world.miner.template(vec![], Amount::ZERO);
        block.header.bits = CompactTarget::from_consensus(bits);
        let wanted = match too_easy {
            true => BlockFault::TargetTooEasy { bits, limit: regtest::BITS },
            false => BlockFault::BadTarget { bits },
        };
        assert_eq!(world.refuses(&raw(&block)), wanted, "{bits:08x}");
    }
}

#[test]
fn a_merkle_root_of_other_transactions() {
    let world = known();
    let mut block = world.miner.template(vec![], Amount::ZERO);
    let computed = block.header.merkle_root;
    block.header.merkle_root = bitcoin::TxMerkleNode::all_zeros();
    let fault = world.refuses(&raw(&solve(block)));
    assert_eq!(fault, BlockFault::MerkleRoot { header: bitcoin::TxMerkleNode::all_zeros(), computed });
}

#[test]
fn the_last_transactions_repeated_have_the_same_merkle_root() {
    let world = known();
    let pays = spend(&[world.coins[0]], &[COIN * 20]);
    let next = spend(&[OutPoint { txid: pays.compute_txid(), vout: 0 }], &[COIN * 20]);
    let mut block = world.next(vec![pays, next.clone()]);
    let root = block.compute_merkle_root();
    block.txdata.push(next.clone());
    assert_eq!(block.compute_merkle_root(), root, "the block is another, the root is not");
    assert_eq!(world.refuses(&raw(&block)), BlockFault::DuplicateTransaction { txid: next.compute_txid() });
}

#[test]
fn witnesses_that_nothing_commits_to() {
    // Another witness than the committed one: the hash does not show it.
    let world = known();
    let mut block = world.next(vec![spend(&[world.coins[0]], &[COIN * 20])]);
    block.txdata[1].input[0].witness = Witness::from_slice(&[[0x52]]);
    assert_eq!(world.refuses(&raw(&block)), BlockFault::WitnessCommitment);
    // Another reserved value.
    let world = known();
    let mut block = world.next(vec![spend(&[world.coins[0]], &[COIN * 20])]);
    block.txdata[0].input[0].witness = Witness::from_slice(&[[1; 32]]);
    assert_eq!(world.refuses(&raw(&block)), BlockFault::WitnessCommitment);
    // None, too short, one too many.
    for reserved in [vec![], vec![vec![0; 31]], vec![vec![0; 32], vec![]]] {
        let world = known();
        let mut block = world.next(vec![spend(&[world.coins[0]], &[COIN * 20])]);
        block.txdata[0].input[0].witness = Witness::from_slice(&reserved);
        assert_eq!(world.refuses(&raw(&block)), BlockFault::WitnessReservedValue);
    }
    // No commitment at all.
    let world = known();
    let mut block = world.miner.template(vec![spend(&[world.coins[0]], &[COIN * 20])], Amount::ZERO);
    block.txdata[0].output.truncate(1);
    block.header.merkle_root = block.compute_merkle_root().unwrap();
    assert_eq!(world.refuses(&raw(&solve(block))), BlockFault::UncommittedWitness);
}

#[test]
fn coinbases_that_are_none() {
    let pay = |world: &World| spend(&[world.coins[0]], &[COIN * 20]);

    let world = known();
    assert_eq!(
        world.refuses(&world.spoilt(vec![], |block| block.txdata.clear())),
        BlockFault::NoTransactions
    );
    let world = known();
    let bytes = world.spoilt(vec![pay(&world)], |block| drop(block.txdata.remove(0)));
    assert_eq!(world.refuses(&bytes), BlockFault::FirstIsNotCoinbase);
    let world = known();
    let bytes = world.spoilt(vec![pay(&world)], |block| {
        let second = block.txdata[0].clone();
        block.txdata.push(second);
    });
    assert_eq!(world.refuses(&bytes), BlockFault::NullInput { index: 2 });
    let world = known();
    let bytes = world.spoilt(vec![pay(&world)], |block| {
        let null = block.txdata[0].input[0].clone();
        block.txdata[1].input.push(null);
    });
    assert_eq!(world.refuses(&bytes), BlockFault::NullInput { index: 1 });
    for len in [1, 101] {
        let world = known();
        let bytes = world.spoilt(vec![], |block| {
            block.txdata[0].input[0].script_sig = ScriptBuf::from_bytes(vec![0; len]);
        });
        assert_eq!(world.refuses(&bytes), BlockFault::CoinbaseScript { bytes: len as u64 });
    }
    let world = known();
    let bytes = world.spoilt(vec![pay(&world)], |block| block.txdata[1].output.clear());
    assert_eq!(world.refuses(&bytes), BlockFault::Empty { index: 1, what: "outputs" });
}

#[test]
fn money_from_nowhere() {
    let world = known();
    let overspent = spend(&[world.coins[0]], &[COIN * 20, Amount::from_sat(1)]);
    let (txid, inputs_sat) = (overspent.compute_txid(), 2_000_000_000);
    let fault = world.refuses(&raw(&world.next(vec![overspent])));
    assert_eq!(fault, BlockFault::Overspent { txid, inputs_sat, outputs_sat: inputs_sat + 1 });

    let world = known();
    let bytes = raw(&world.miner.clone().mine(vec![], Amount::from_sat(1)));
    let fault = BlockFault::CoinbaseOverpaid { taken_sat: 5_000_000_001, allowed_sat: 5_000_000_000 };
    assert_eq!(world.refuses(&bytes), fault);

    for outputs in [vec![Amount::MAX_MONEY + Amount::from_sat(1)], vec![Amount::MAX_MONEY, COIN]] {
        let world = known();
        let rich = spend(&[world.coins[0]], &outputs);
        let txid = rich.compute_txid();
        assert_eq!(world.refuses(&raw(&world.next(vec![rich]))), BlockFault::TooMuchMoney { txid });
    }
    // A sum that would wrap around 64 bits.
    let world = known();
    let rich = spend(&[world.coins[0]], &[Amount::MAX, Amount::from_sat(2)]);
    let txid = rich.compute_txid();
    assert_eq!(world.refuses(&raw(&world.next(vec![rich]))), BlockFault::TooMuchMoney { txid });
}

#[test]
fn fees_may_be_taken_if_they_are_there() {
    let world = known();
    let pays = spend(&[world.coins[0]], &[COIN * 19]);
    let imported = world.store.import(&raw(&world.miner.clone().mine(vec![pays], COIN))).unwrap();
    assert_eq!(imported.fees, Some(COIN));
    assert_eq!(imported.fees_claimed(), Some(COIN));
    world.store.verify().unwrap();
}

#[test]
fn outputs_spent_twice() {
    let world = known();
    let twice = [COIN, COIN * 2].map(|value| spend(&[world.coins[0]], &[value])).to_vec();
    let fault = BlockFault::DuplicateInput { outpoint: world.coins[0] };
    assert_eq!(world.refuses(&raw(&world.next(twice))), fault);

    let mut world = known();
    let block = world.miner.mine(vec![spend(&[world.coins[0]], &[COIN])], Amount::ZERO);
    world.store.import(&raw(&block)).unwrap();
    let again = spend(&[world.coins[0]], &[COIN * 2]);
    let fault = BlockFault::AlreadySpent { outpoint: world.coins[0], height: 3 };
    assert_eq!(world.refuses(&raw(&world.next(vec![again]))), fault);
}

#[test]
fn outputs_that_are_not_there() {
    let stranger = OutPoint { txid: Txid::from_byte_array([9; 32]), vout: 0 };
    // Above genesis nothing is unknown.
    let world = known();
    let fault = BlockFault::NoSuchOutput { outpoint: stranger };
    assert_eq!(world.refuses(&raw(&world.next(vec![spend(&[stranger], &[COIN])]))), fault);
    assert_eq!(world.store.utxo(&stranger).unwrap(), Utxo::None);

    for world in [known(), anchored()] {
        // A number that the transaction does not have, the commitment output, the genesis coinbase.
        let mut impossible = vec![OutPoint { vout: 2, ..world.coins[0] }];
        impossible.push(OutPoint { txid: world.blocks[0].txdata[0].compute_txid(), vout: 1 });
        if world.store.anchor().height == 0 {
            let genesis = bitcoin::constants::genesis_block(Network::Regtest);
            impossible.push(OutPoint { txid: genesis.txdata[0].compute_txid(), vout: 0 });
        }
        let before = world.store.verify().unwrap();
        for outpoint in impossible {
            let block = world.next(vec![spend(&[outpoint], &[Amount::ZERO])]);
            match world.store.import(&raw(&block)) {
                Err(ImportError::Invalid { fault, .. }) => {
                    assert_eq!(fault, BlockFault::NoSuchOutput { outpoint });
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(world.store.verify().unwrap(), before);
    }
}

#[test]
fn spends_of_what_is_older_than_the_anchor_are_counted_and_remembered() {
    let mut world = anchored();
    let older = [3, 4].map(|byte| OutPoint { txid: Txid::from_byte_array([byte; 32]), vout: 5 });
    assert_eq!(world.store.utxo(&older[0]).unwrap(), Utxo::OlderThanAnchor);
    let mixed = spend(&[older[0], world.coins[0]], &[COIN * 1_000]);
    let block = world.miner.mine(vec![mixed], COIN * 7);
    let imported = world.store.import(&raw(&block)).unwrap();
    assert_eq!((imported.inputs_known, imported.inputs_unknown), (1, 1));
    assert_eq!(imported.fees, None);
    assert_eq!(imported.fees_claimed(), Some(COIN * 7));
    assert_eq!(
        world.store.utxo(&older[0]).unwrap(),
        Utxo::Spent { height: 103, by: block.txdata[1].compute_txid(), input: 0 }
    );
    assert_eq!(world.store.utxo(&older[1]).unwrap(), Utxo::OlderThanAnchor);
    let fault = BlockFault::AlreadySpent { outpoint: older[0], height: 103 };
    assert_eq!(world.refuses(&raw(&world.next(vec![spend(&[older[0]], &[COIN])]))), fault);
}

#[test]
fn what_is_spent_before_it_is_created_was_not_older_than_the_anchor() {
    let parent = |world: &World| spend(&[world.coins[0]], &[COIN * 20]);
    // In one block, in both kinds of store.
    for world in [known(), anchored()] {
        let parent = parent(&world);
        let outpoint = OutPoint { txid: parent.compute_txid(), vout: 0 };
        let child = spend(&[outpoint], &[COIN]);
        let fault = BlockFault::SpentBeforeCreated { outpoint };
        assert_eq!(world.refuses(&raw(&world.next(vec![child, parent]))), fault);
    }
    // In an earlier block it passes as older than the anchor, until its transaction turns up.
    let mut world = anchored();
    let parent = parent(&world);
    let outpoint = OutPoint { txid: parent.compute_txid(), vout: 0 };
    let block = world.miner.mine(vec![spend(&[outpoint], &[COIN])], Amount::ZERO);
    assert_eq!(world.store.import(&raw(&block)).unwrap().inputs_unknown, 1);
    let fault = BlockFault::SpentBeforeCreated { outpoint };
    assert_eq!(world.refuses(&raw(&world.next(vec![parent]))), fault);
}

#[test]
fn a_transaction_that_an_earlier_block_has() {
    let mut world = known();
    let earlier = world.blocks[0].txdata[0].clone();
    // The coinbase of the first block once more: only a coinbase can repeat without a double spend.
    let mut block = world.miner.template(vec![], Amount::ZERO);
    block.txdata[0] = earlier.clone();
    block.header.merkle_root = block.compute_merkle_root().unwrap();
    let fault = BlockFault::KnownTransaction { txid: earlier.compute_txid(), height: 1 };
    assert_eq!(world.refuses(&raw(&solve(block))), fault);
    world.miner.mine(vec![], Amount::ZERO);
}

#[test]
fn too_heavy() {
    let world = known();
    let mut fat = spend(&[world.coins[0]], &[COIN]);
    // As output bytes each counts four times: 1.1 MB are 4.4 million weight units.
    fat.output[0].script_pubkey = ScriptBuf::from_bytes(vec![0x51; 1_100_000]);
    match world.refuses(&raw(&world.next(vec![fat]))) {
        BlockFault::TooHeavy { weight } => assert!((4_400_000..4_500_000).contains(&weight), "{weight}"),
        other => panic!("{other}"),
    }
}

#[test]
fn blocks_that_are_here_or_do_not_follow() {
    let world = known();
    let before = world.store.verify().unwrap();
    for (height, block) in (1..).zip(&world.blocks) {
        match world.store.import(&raw(block)) {
            Err(ImportError::AlreadyHave { block: known }) => {
                assert_eq!(known, BlockId { height, hash: block.block_hash() });
            }
            other => panic!("{other:?}"),
        }
    }
    let genesis = raw(&bitcoin::constants::genesis_block(Network::Regtest));
    assert!(
        matches!(world.store.import(&genesis), Err(ImportError::AlreadyHave { block }) if block.height == 0)
    );

    // A sibling of the tip, and a block whose parent is yet to come.
    let mut other = Miner::from_genesis().branch(1);
    let sibling = other.mine(vec![], Amount::ZERO);
    let cousin = other.mine(vec![], Amount::ZERO);
    for block in [sibling, cousin] {
        match world.store.import(&raw(&block)) {
            Err(ImportError::NotOnTip { hash, parent, tip }) => {
                assert_eq!((hash, parent), (block.block_hash(), block.header.prev_blockhash));
                assert_eq!(tip, world.store.tip());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.store.verify().unwrap(), before);
}
