//! The checks that need nothing but the block, its height and its network.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::block::Header;
use bitcoin::hashes::Hash as _;
use bitcoin::script::Builder;
use bitcoin::{Amount, Block, Network, OutPoint, Target, Transaction, TxMerkleNode, Txid};

use crate::block::ParsedBlock;
use crate::error::BlockFault;
use crate::rules;

/// Proof of work against the header's own target, and that target against the network's limit.
///
/// Whether the target is the one that the chain's history asks for is not checked.
pub(crate) fn work(header: &Header, network: Network) -> Result<(), BlockFault> {
    let bits = header.bits.to_consensus();
    let target = header.target();
    // Negative, overflowing and wasteful encodings all decode to something that encodes differently.
    if target == Target::ZERO || target.to_compact_lossy() != header.bits {
        return Err(BlockFault::BadTarget { bits });
    }
    let limit = rules::target_max(network);
    if target > limit {
        return Err(BlockFault::TargetTooEasy { bits, limit: limit.to_compact_lossy().to_consensus() });
    }
    if !target.is_met_by(header.block_hash()) {
        return Err(BlockFault::NoProofOfWork { bits });
    }
    Ok(())
}

/// What the body's checks found out, for use by whoever connects the block.
pub(crate) struct Body {
    pub(crate) weight: u64,
    /// The sum of each transaction's outputs, in order.
    pub(crate) paid: Vec<Amount>,
    /// The place of each transaction in the block.
    pub(crate) places: BTreeMap<Txid, u32>,
}

/// Everything about the body that can be said without looking at other blocks.
pub(crate) fn body(parsed: &ParsedBlock<'_>, height: u32, network: Network) -> Result<Body, BlockFault> {
    let block = &parsed.block;
    coinbase(block, height, network)?;
    merkle_root(parsed)?;
    let places = unique_transactions(parsed)?;
    unique_inputs(block)?;
    let paid = parsed
        .spans
        .iter()
        .zip(&block.txdata)
        .map(|(span, tx)| output_sum(tx).ok_or(BlockFault::TooMuchMoney { txid: span.txid }))
        .collect::<Result<Vec<_>, _>>()?;
    witnesses(block, height, network)?;
    let weight = block.weight().to_wu();
    if weight > rules::BLOCK_WEIGHT_MAX {
        return Err(BlockFault::TooHeavy { weight });
    }
    Ok(Body { weight, paid, places })
}

fn coinbase(block: &Block, height: u32, network: Network) -> Result<(), BlockFault> {
    for (index, tx) in (0..).zip(&block.txdata) {
        if tx.input.is_empty() {
            return Err(BlockFault::Empty { index, what: "inputs" });
        }
        if tx.output.is_empty() {
            return Err(BlockFault::Empty { index, what: "outputs" });
        }
        if index > 0 && tx.input.iter().any(|input| input.previous_output.is_null()) {
            return Err(BlockFault::NullInput { index });
        }
    }
    let first = block.txdata.first().ok_or(BlockFault::NoTransactions)?;
    let input = match first.input.as_slice() {
        [input] if input.previous_output.is_null() => input,
        _ => return Err(BlockFault::FirstIsNotCoinbase),
    };
    let script = input.script_sig.as_bytes();
    if !(2..=100).contains(&script.len()) {
        return Err(BlockFault::CoinbaseScript { bytes: script.len() as u64 });
    }
    let stated = Builder::new().push_int(i64::from(height)).into_script();
    if height >= rules::coinbase_height_from(network) && !script.starts_with(stated.as_bytes()) {
        return Err(BlockFault::CoinbaseHeight { height });
    }
    Ok(())
}

fn merkle_root(parsed: &ParsedBlock<'_>) -> Result<(), BlockFault> {
    let leaves = parsed.spans.iter().map(|span| span.txid.to_raw_hash());
    let root = bitcoin::merkle_tree::calculate_root(leaves).ok_or(BlockFault::NoTransactions)?;
    let computed = TxMerkleNode::from_raw_hash(root);
    let header = parsed.block.header.merkle_root;
    if header != computed {
        return Err(BlockFault::MerkleRoot { header, computed });
    }
    Ok(())
}

/// A merkle tree of odd width pairs its last leaf with itself, so a block with its last transactions repeated
/// has the same root. The root alone therefore does not identify the transactions.
fn unique_transactions(parsed: &ParsedBlock<'_>) -> Result<BTreeMap<Txid, u32>, BlockFault> {
    let mut places = BTreeMap::new();
    for (place, span) in (0..).zip(&parsed.spans) {
        if places.insert(span.txid, place).is_some() {
            return Err(BlockFault::DuplicateTransaction { txid: span.txid });
        }
    }
    Ok(places)
}

fn unique_inputs(block: &Block) -> Result<(), BlockFault> {
    let mut spent: BTreeSet<OutPoint> = BTreeSet::new();
    for input in block.txdata.iter().flat_map(|tx| &tx.input) {
        if !spent.insert(input.previous_output) {
            return Err(BlockFault::DuplicateInput { outpoint: input.previous_output });
        }
    }
    Ok(())
}

/// None if an output or the sum exceeds 21 million bitcoin.
fn output_sum(tx: &Transaction) -> Option<Amount> {
    tx.output.iter().try_fold(Amount::ZERO, |sum, output| {
        sum.checked_add(output.value).filter(|sum| *sum <= Amount::MAX_MONEY)
    })
}

const COMMITMENT_PREFIX: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

/// BIP 141's commitment. A coinbase that commits must do so correctly, also when no witness is there: a block
/// whose witnesses were cut off has the same hash and merkle root, and would otherwise be taken for whole.
fn witnesses(block: &Block, height: u32, network: Network) -> Result<(), BlockFault> {
    let has_witness = block.txdata.iter().flat_map(|tx| &tx.input).any(|input| !input.witness.is_empty());
    let coinbase = block.txdata.first().ok_or(BlockFault::NoTransactions)?;
    let commitment = coinbase.output.iter().rev().find_map(|output| {
        output.script_pubkey.as_bytes().strip_prefix(&COMMITMENT_PREFIX)?.first_chunk::<32>()
    });
    let commitment = match commitment {
        Some(commitment) if height >= rules::segwit_from(network) => commitment,
        _ if has_witness => return Err(BlockFault::UncommittedWitness),
        _ => return Ok(()),
    };
    let reserved = coinbase
        .input
        .first()
        .filter(|input| input.witness.len() == 1)
        .and_then(|input| input.witness.nth(0))
        .filter(|value| value.len() == 32)
        .ok_or(BlockFault::WitnessReservedValue)?;
    let root = block.witness_root().ok_or(BlockFault::NoTransactions)?;
    let computed = Block::compute_witness_commitment(&root, reserved);
    if computed.as_byte_array() != commitment {
        return Err(BlockFault::WitnessCommitment);
    }
    Ok(())
}
