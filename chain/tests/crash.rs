//! Kills a process with SIGKILL while it imports, again and again, and looks at what it left behind.
//!
//! The child imports regtest blocks and acknowledges each by writing its height. The parent kills it after some
//! acknowledgement plus a moment that differs from round to round, opens the store, rebuilds everything from the
//! raw blocks, and demands: a prefix of whole blocks, no acknowledged block missing, at most one more than
//! acknowledged. The next child carries on from there. (Power loss, in which unsynced writes vanish too, is
//! simulated in `src/power_loss.rs`.)
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bitcoin::{Amount, Block, Network, OutPoint, Transaction};
use modipc_chain::regtest::{Miner, raw, spend};
use modipc_chain::{ChainConfig, ChainStore, OpenError, Utxo};

const ROUNDS: u32 = 25;
const CHILD: &str = "MODIPC_CHAIN_TEST_CHILD";

fn main() {
    if let Some(directory) = std::env::var_os(CHILD) {
        return import_until_killed(Path::new(&directory));
    }
    // Without the harness there are no tests to list.
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    killed_at_any_moment_a_prefix_of_whole_blocks_remains();
    a_store_in_use_by_another_process_is_not_opened();
}

/// Every block spends what its predecessor created, so that a half-written one could not stay hidden.
struct Blocks {
    miner: Miner,
    coin: Option<OutPoint>,
    mined: Vec<Block>,
}

impl Blocks {
    fn new() -> Self {
        Self { miner: Miner::from_genesis(), coin: None, mined: Vec::new() }
    }

    fn at(&mut self, height: u32) -> &Block {
        while self.mined.len() < height as usize {
            let next = self.mine();
            self.mined.push(next);
        }
        &self.mined[height as usize - 1]
    }

    fn mine(&mut self) -> Block {
        let mut transactions: Vec<Transaction> = Vec::new();
        // One output becomes a hundred, and these one again.
        if let Some(coin) = self.coin {
            let split = spend(&[coin], &[Amount::from_sat(1_000); 100]);
            let txid = split.compute_txid();
            let pieces: Vec<OutPoint> = (0..99).map(|vout| OutPoint { txid, vout }).collect();
            transactions.extend([split, spend(&pieces, &[Amount::from_sat(99_000)])]);
        }
        let fees = match self.coin {
            Some(_) => self.last_value() - Amount::from_sat(100_000),
            None => Amount::ZERO,
        };
        let block = self.miner.mine(transactions, fees);
        self.coin = Some(OutPoint { txid: block.txdata[0].compute_txid(), vout: 0 });
        block
    }

    /// What the newest coinbase pays.
    fn last_value(&self) -> Amount {
        self.mined.last().map_or(Amount::ZERO, |block| block.txdata[0].output[0].value)
    }
}

fn config() -> ChainConfig {
    ChainConfig::from_genesis(Network::Regtest)
}

fn import_until_killed(directory: &Path) {
    let store = ChainStore::open_or_create(directory, &config()).expect("the child opens the store");
    let mut blocks = Blocks::new();
    let mut out = std::io::stdout();
    writeln!(out, "{}", store.tip().height).expect("the parent reads");
    for height in store.tip().height + 1.. {
        store.import(&raw(blocks.at(height))).expect("the child imports");
        writeln!(out, "{height}").expect("the parent reads");
    }
}

fn start(directory: &Path) -> (Child, impl Iterator<Item = u32> + use<>) {
    let myself = std::env::current_exe().expect("this program has a path");
    let mut child = Command::new(myself)
        .env(CHILD, directory)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program starts again");
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    // A line that the kill cut off is no acknowledgement.
    let heights = lines.map_while(Result::ok).filter_map(|line| line.parse().ok());
    (child, heights)
}

fn killed_at_any_moment_a_prefix_of_whole_blocks_remains() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut blocks = Blocks::new();
    let mut acknowledged = 0;
    let mut unacknowledged_survivors = 0;
    for round in 0..ROUNDS {
        let (mut child, mut heights) = start(directory.path());
        // The first rounds hit the creation of the store itself; the rest some import.
        let wait_for = if round < 5 { 0 } else { 1 + round as usize % 4 };
        for height in heights.by_ref().take(wait_for) {
            acknowledged = height;
        }
        let moment = u64::from(round.wrapping_mul(2_654_435_761) >> 20);
        std::thread::sleep(Duration::from_micros(moment * 4));
        child.kill().expect("it can be killed");
        child.wait().expect("it is gone");
        acknowledged = heights.last().unwrap_or(acknowledged);

        let store = match ChainStore::open(directory.path(), &config()) {
            Ok(store) => store,
            Err(OpenError::Missing { .. }) if acknowledged == 0 && round < 5 => continue,
            Err(error) => panic!("round {round}: {error}"),
        };
        let tip = store.tip();
        assert!(
            tip.height == acknowledged || tip.height == acknowledged + 1,
            "round {round}: {acknowledged} was acknowledged, the tip is {tip}"
        );
        unacknowledged_survivors += tip.height - acknowledged;
        let verified = store.verify().unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!((verified.tip, verified.blocks), (tip, u64::from(tip.height) + 1));
        if tip.height > 0 {
            check_tip(&store, blocks.at(tip.height), tip.height);
        }
        acknowledged = tip.height;
    }
    assert!(acknowledged > ROUNDS, "the children got {acknowledged} blocks done");
    println!(
        "{ROUNDS} kills: {acknowledged} blocks, none lost or torn, \
         {unacknowledged_survivors} whole without an acknowledgement"
    );
}

fn check_tip(store: &ChainStore, block: &Block, height: u32) {
    let (hash, bytes) = store.block_at(height).expect("readable").expect("there");
    assert_eq!(hash, block.block_hash());
    assert_eq!(bytes, raw(block));
    let coin = OutPoint { txid: block.txdata[0].compute_txid(), vout: 0 };
    assert!(matches!(store.utxo(&coin), Ok(Utxo::Unspent(_))), "the newest coinbase is unspent");
}

fn a_store_in_use_by_another_process_is_not_opened() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut child, mut heights) = start(directory.path());
    assert_eq!(heights.next(), Some(0));
    match ChainStore::open(directory.path(), &config()) {
        Err(OpenError::InUse { path }) => assert_eq!(path, directory.path()),
        other => panic!("{other:?}"),
    }
    child.kill().expect("it can be killed");
    child.wait().expect("it is gone");
    ChainStore::open(directory.path(), &config()).expect("the lock went with the process");
    println!("a store in use by another process is refused, and free once that is gone");
}
