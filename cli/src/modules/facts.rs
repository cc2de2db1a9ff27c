//! What a block says of itself, computed from its bytes alone.

use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, Block, Transaction, TxMerkleNode};
use modipc_api::RawBlock;
use serde::{Deserialize, Serialize};

/// What the analyst finds out about a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlockFacts {
    /// Its hash, computed from its header.
    pub(crate) hash: String,
    /// Its height, as the node says, and as the coinbase does since BIP 34.
    pub(crate) height: u64,
    /// The height that the coinbase states.
    pub(crate) height_in_coinbase: Option<u64>,
    /// The time in its header, in seconds since 1970.
    pub(crate) time_s: u32,
    /// Number of transactions, the coinbase included.
    pub(crate) transactions: u64,
    /// Transactions with a witness.
    pub(crate) transactions_with_witness: u64,
    /// Inputs of all transactions but the coinbase.
    pub(crate) inputs: u64,
    /// Outputs of all transactions.
    pub(crate) outputs: u64,
    /// Length of its bytes, witnesses included.
    pub(crate) size_bytes: u64,
    /// Its weight (BIP 141).
    pub(crate) weight: u64,
    /// Sum of the coinbase's outputs.
    pub(crate) coinbase_sat: u64,
    /// What a block of this height may newly create.
    pub(crate) subsidy_sat: u64,
    /// What the miner took beyond the subsidy: the fees of all transactions.
    pub(crate) fees_sat: u64,
    /// The merkle root that the header states.
    pub(crate) merkle_root_stated: String,
    /// The merkle root of the transactions.
    pub(crate) merkle_root_computed: String,
}

/// Why bytes have no facts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoFacts {
    #[error("the node's bytes are no block: {0}")]
    NotABlock(#[from] bitcoin::consensus::encode::Error),
    #[error("the block has no coinbase")]
    NoCoinbase,
    #[error("the coinbase pays {paid}, less than the subsidy {subsidy}: fees cannot be told")]
    PaysLess { paid: Amount, subsidy: Amount },
}

impl BlockFacts {
    /// Parses a block and counts. Takes milliseconds.
    pub(crate) fn of(raw: &RawBlock, height: u64) -> Result<BlockFacts, NoFacts> {
        let block = raw.parse()?;
        let (coinbase, others) = block.txdata.split_first().ok_or(NoFacts::NoCoinbase)?;
        let paid: Amount = coinbase.output.iter().map(|output| output.value).sum();
        let subsidy = subsidy(height);
        let fees = paid.checked_sub(subsidy).ok_or(NoFacts::PaysLess { paid, subsidy })?;
        let has_witness = |transaction: &Transaction| transaction.input.iter().any(|i| !i.witness.is_empty());
        Ok(BlockFacts {
            hash: block.block_hash().to_string(),
            height,
            height_in_coinbase: block.bip34_block_height().ok(),
            time_s: block.header.time,
            transactions: block.txdata.len() as u64,
            transactions_with_witness: block.txdata.iter().filter(|t| has_witness(t)).count() as u64,
            inputs: others.iter().map(|t| t.input.len() as u64).sum(),
            outputs: block.txdata.iter().map(|t| t.output.len() as u64).sum(),
            size_bytes: raw.as_bytes().len() as u64,
            weight: block.weight().to_wu(),
            coinbase_sat: paid.to_sat(),
            subsidy_sat: subsidy.to_sat(),
            fees_sat: fees.to_sat(),
            merkle_root_stated: block.header.merkle_root.to_string(),
            merkle_root_computed: merkle_root(&block).to_string(),
        })
    }
}

/// Mainnet's: halves every 210,000 blocks.
fn subsidy(height: u64) -> Amount {
    let halvings = height / u64::from(bitcoin::constants::SUBSIDY_HALVING_INTERVAL);
    let halvings = u32::try_from(halvings).unwrap_or(u32::MAX);
    Amount::from_sat((50 * Amount::ONE_BTC.to_sat()).checked_shr(halvings).unwrap_or(0))
}

/// The root over the transactions' ids. Without transactions there is none: all zeros.
fn merkle_root(block: &Block) -> TxMerkleNode {
    block.compute_merkle_root().unwrap_or_else(TxMerkleNode::all_zeros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subsidy_halves() {
        let sat = |height| subsidy(height).to_sat();
        assert_eq!([sat(0), sat(209_999), sat(210_000)], [5_000_000_000, 5_000_000_000, 2_500_000_000]);
        assert_eq!(sat(702_861), 625_000_000);
        assert_eq!(sat(33 * 210_000), 0);
        assert_eq!(sat(u64::MAX), 0);
    }

    #[test]
    fn the_genesis_block() {
        let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Bitcoin);
        let facts = BlockFacts::of(&RawBlock::from(&genesis), 0).unwrap();
        assert_eq!(facts.hash, "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f");
        assert_eq!((facts.transactions, facts.size_bytes, facts.weight, facts.fees_sat), (1, 285, 1140, 0));
        assert_eq!(
            facts.merkle_root_computed,
            "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"
        );
        assert_eq!(facts.merkle_root_stated, facts.merkle_root_computed);
        assert!(BlockFacts::of(&RawBlock::from(&genesis), 210_000).is_ok());
    }

    #[test]
    fn what_is_no_block_or_pays_too_little_has_no_facts() {
        assert!(matches!(BlockFacts::of(&RawBlock::new(bytes::Bytes::new()), 0), Err(NoFacts::NotABlock(_))));
        let mut block = bitcoin::constants::genesis_block(bitcoin::Network::Bitcoin);
        block.txdata[0].output[0].value = Amount::ONE_BTC;
        assert!(matches!(BlockFacts::of(&RawBlock::from(&block), 0), Err(NoFacts::PaysLess { .. })));
        block.txdata.clear();
        assert!(matches!(BlockFacts::of(&RawBlock::from(&block), 0), Err(NoFacts::NoCoinbase)));
    }
}
