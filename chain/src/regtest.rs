//! Regtest blocks made on the spot, for tests of modules, of nodes and of this store.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash as _;
use bitcoin::script::Builder;
use bitcoin::transaction::Version as TxVersion;
use bitcoin::{
    Amount, Block, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode,
    TxOut, Witness,
};

use crate::{BlockId, subsidy};

/// Regtest's target: every second hash meets it.
pub const BITS: u32 = 0x207f_ffff;

/// Mines regtest blocks one upon the other. The same calls make the same blocks.
#[derive(Clone, Debug)]
pub struct Miner {
    tip: BlockId,
    time: u32,
    /// Distinguishes the blocks of this miner from those of another one at the same heights.
    branch: u8,
}

impl Miner {
    /// A miner whose first block follows `tip`.
    #[must_use]
    pub fn above(tip: BlockId) -> Self {
        // The first timestamp after regtest's genesis block; the value itself matters to nobody.
        Self { tip, time: 1_296_688_603, branch: 0 }
    }

    /// A miner above regtest's genesis block.
    #[must_use]
    pub fn from_genesis() -> Self {
        Self::above(BlockId::genesis(Network::Regtest))
    }

    /// The same miner on a branch of its own: its blocks differ from those of every other branch.
    #[must_use]
    pub fn branch(mut self, branch: u8) -> Self {
        self.branch = branch;
        self
    }

    /// The newest block that it mined, or where it began.
    #[must_use]
    pub fn tip(&self) -> BlockId {
        self.tip
    }

    /// Mines a block with `transactions` behind its coinbase, which takes the subsidy and `fees`.
    pub fn mine(&mut self, transactions: Vec<Transaction>, fees: Amount) -> Block {
        let block = self.template(transactions, fees);
        self.finish(block)
    }

    /// Solves a template, perhaps changed, and makes it this miner's tip.
    pub fn finish(&mut self, template: Block) -> Block {
        let block = solve(template);
        self.tip = BlockId { height: self.tip.height + 1, hash: block.block_hash() };
        self.time += 600;
        block
    }

    /// The next block without proof of work, and without making it this miner's tip: for tests that change or spoil it.
    #[must_use]
    pub fn template(&self, transactions: Vec<Transaction>, fees: Amount) -> Block {
        let height = self.tip.height + 1;
        let mut txdata = vec![coinbase(height, self.branch, subsidy(Network::Regtest, height) + fees)];
        txdata.extend(transactions);
        let mut block = Block {
            header: Header {
                version: Version::TWO,
                prev_blockhash: self.tip.hash,
                merkle_root: TxMerkleNode::all_zeros(),
                time: self.time,
                bits: CompactTarget::from_consensus(BITS),
                nonce: 0,
            },
            txdata,
        };
        commit(&mut block);
        block
    }
}

/// Makes coinbase and header commit to the block's transactions and witnesses.
pub fn commit(block: &mut Block) {
    // The commitment leaves the coinbase's own witness out, so it can be computed before it is in place.
    if let Some(root) = block.witness_root()
        && let Some(coinbase) = block.txdata.first_mut()
    {
        let commitment = Block::compute_witness_commitment(&root, &[0; 32]);
        let mut script = vec![0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
        script.extend_from_slice(commitment.as_byte_array());
        coinbase.output.retain(|output| !output.script_pubkey.is_op_return());
        coinbase.output.push(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(script) });
    }
    if let Some(root) = block.compute_merkle_root() {
        block.header.merkle_root = root;
    }
}

/// Counts the nonce up until the header meets its own target.
#[must_use]
pub fn solve(mut block: Block) -> Block {
    while !block.header.target().is_met_by(block.header.block_hash()) {
        block.header.nonce = block.header.nonce.wrapping_add(1);
    }
    block
}

/// A transaction that spends `inputs` and pays each of `outputs`, with a witness that nobody checks here.
#[must_use]
pub fn spend(inputs: &[OutPoint], outputs: &[Amount]) -> Transaction {
    Transaction {
        version: TxVersion::TWO,
        lock_time: LockTime::ZERO,
        input: inputs.iter().map(|outpoint| input(*outpoint, ScriptBuf::new(), &[0x51])).collect(),
        output: outputs.iter().map(|value| TxOut { value: *value, script_pubkey: anyone() }).collect(),
    }
}

/// The consensus bytes of a block.
#[must_use]
pub fn raw(block: &Block) -> Vec<u8> {
    serialize(block)
}

fn coinbase(height: u32, branch: u8, value: Amount) -> Transaction {
    let script = Builder::new().push_int(i64::from(height)).push_slice([branch; 4]).into_script();
    Transaction {
        version: TxVersion::TWO,
        lock_time: LockTime::ZERO,
        input: vec![input(OutPoint::null(), script, &[0; 32])],
        output: vec![TxOut { value, script_pubkey: anyone() }],
    }
}

fn input(previous_output: OutPoint, script_sig: ScriptBuf, witness: &[u8]) -> TxIn {
    TxIn { previous_output, script_sig, sequence: Sequence::MAX, witness: Witness::from_slice(&[witness]) }
}

/// OP_TRUE: anyone can spend it.
fn anyone() -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51])
}
