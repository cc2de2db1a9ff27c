//! A walk over everything that the store holds.

use std::collections::BTreeMap;

use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, OutPoint, Txid};
use redb::{ReadTransaction, ReadableTable as _, ReadableTableMetadata as _};

use crate::block::ParsedBlock;
use crate::connect::can_be_spent;
use crate::error::StoreError;
use crate::tables::{self, hash_bytes};
use crate::{BlockId, ChainStore, check};

/// What [`ChainStore::verify`] has seen and found in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The newest block of the snapshot that was walked.
    pub tip: BlockId,
    /// Blocks, the genesis block included if the store holds it.
    pub blocks: u64,
    /// Transactions in them.
    pub transactions: u64,
    /// Outputs that can be spent.
    pub utxos: u64,
    /// Inputs of all transactions but the coinbases.
    pub spends: u64,
}

/// What the tables must hold, rebuilt from the raw blocks alone.
#[derive(Default)]
struct Expected {
    transactions: BTreeMap<Txid, tables::TransactionRow>,
    utxos: BTreeMap<OutPoint, (u64, u32, bool, Vec<u8>)>,
    spends: BTreeMap<OutPoint, (u32, u32, Txid)>,
}

impl ChainStore {
    /// Rebuilds header index, transaction index, UTXO set and spends from the raw blocks and compares each row.
    ///
    /// Every block is checked again as when it was imported: link, proof of work, merkle root, witness
    /// commitment. The walk sees one snapshot and disturbs nobody, but takes time and memory in proportion to
    /// all transactions of the store.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] names the first row that does not fit, or the database cannot be read.
    pub fn verify(&self) -> Result<Verified, StoreError> {
        let txn = self.begin_read()?;
        let tip = self.stored_tip(&txn)?;
        let first = if self.anchor.height == 0 { 0 } else { self.anchor.height + 1 };
        let mut parent = if first == 0 { BlockHash::all_zeros() } else { self.anchor.hash };
        let mut expected = Expected::default();
        let blocks = u64::from(tip.height) + 1 - u64::from(first);

        for height in first..=tip.height {
            parent = self.verify_block(&txn, height, parent, &mut expected)?;
        }
        if parent != tip.hash {
            return Err(self.corrupt(format!("the newest block is {parent}, the recorded tip {tip}")));
        }
        self.verify_counts(&txn, blocks, &expected)?;
        self.verify_rows(&txn, &expected)?;
        Ok(Verified {
            tip,
            blocks,
            transactions: expected.transactions.len() as u64,
            utxos: expected.utxos.len() as u64,
            spends: expected.spends.len() as u64,
        })
    }

    fn stored_tip(&self, txn: &ReadTransaction) -> Result<BlockId, StoreError> {
        let meta = self.table(txn, tables::META)?;
        let row = meta.get(tables::META_TIP).map_err(|e| self.engine(e))?;
        let tip = row.and_then(|row| BlockId::from_bytes(row.value()));
        let tip = tip.ok_or_else(|| self.corrupt("its tip does not decode".to_owned()))?;
        if tip.height < self.anchor.height {
            return Err(self.corrupt(format!("the tip {tip} is below the anchor {}", self.anchor)));
        }
        Ok(tip)
    }

    /// Checks one block and its index rows, and adds its transactions to what is expected.
    fn verify_block(
        &self,
        txn: &ReadTransaction,
        height: u32,
        parent: BlockHash,
        expected: &mut Expected,
    ) -> Result<BlockHash, StoreError> {
        let bad = |what: String| self.corrupt(format!("block {height}: {what}"));
        let hashes = self.table(txn, tables::HEIGHTS)?;
        let hash = hashes.get(height).map_err(|e| self.engine(e))?;
        let hash = hash.ok_or_else(|| bad("no hash".to_owned()))?;
        let hash = BlockHash::from_byte_array(*hash.value());

        let blocks = self.table(txn, tables::BLOCKS)?;
        let raw = blocks.get(hash_bytes(&hash)).map_err(|e| self.engine(e))?;
        let raw = raw.ok_or_else(|| bad(format!("no bytes of {hash}")))?;
        let parsed = ParsedBlock::decode(raw.value()).map_err(|fault| bad(fault.to_string()))?;
        if parsed.hash != hash || parsed.block.header.prev_blockhash != parent {
            return Err(bad(format!("{} follows {}", parsed.hash, parsed.block.header.prev_blockhash)));
        }
        check::work(&parsed.block.header, self.network).map_err(|fault| bad(fault.to_string()))?;
        check::body(&parsed, height, self.network).map_err(|fault| bad(fault.to_string()))?;

        let headers = self.table(txn, tables::HEADERS)?;
        let header = headers.get(hash_bytes(&hash)).map_err(|e| self.engine(e))?;
        let header = header.ok_or_else(|| bad("no header".to_owned()))?;
        let (header_height, bytes) = header.value();
        if header_height != height || bytes.as_slice() != serialize(&parsed.block.header) {
            return Err(bad("its header row differs".to_owned()));
        }
        expected.add(height, &parsed).map_err(bad)?;
        Ok(hash)
    }

    fn verify_counts(
        &self,
        txn: &ReadTransaction,
        blocks: u64,
        expected: &Expected,
    ) -> Result<(), StoreError> {
        let counts = [
            ("blocks", self.table(txn, tables::BLOCKS)?.len(), blocks),
            ("heights", self.table(txn, tables::HEIGHTS)?.len(), blocks),
            ("headers", self.table(txn, tables::HEADERS)?.len(), blocks),
            (
                "transactions",
                self.table(txn, tables::TRANSACTIONS)?.len(),
                expected.transactions.len() as u64,
            ),
            ("utxos", self.table(txn, tables::UTXOS)?.len(), expected.utxos.len() as u64),
            ("spends", self.table(txn, tables::SPENDS)?.len(), expected.spends.len() as u64),
        ];
        for (table, found, wanted) in counts {
            let found = found.map_err(|e| self.engine(e))?;
            if found != wanted {
                return Err(self.corrupt(format!("table {table} has {found} rows instead of {wanted}")));
            }
        }
        Ok(())
    }

    /// The counts agree, so it is enough that each row that is there is an expected one.
    fn verify_rows(&self, txn: &ReadTransaction, expected: &Expected) -> Result<(), StoreError> {
        let transactions = self.table(txn, tables::TRANSACTIONS)?;
        for row in transactions.iter().map_err(|e| self.engine(e))? {
            let (key, value) = row.map_err(|e| self.engine(e))?;
            let txid = Txid::from_byte_array(*key.value());
            if expected.transactions.get(&txid) != Some(&value.value()) {
                return Err(self.corrupt(format!("the index row of transaction {txid} differs")));
            }
        }
        let utxos = self.table(txn, tables::UTXOS)?;
        for row in utxos.iter().map_err(|e| self.engine(e))? {
            let (key, value) = row.map_err(|e| self.engine(e))?;
            let outpoint = outpoint(key.value());
            let (value, height, coinbase, script) = value.value();
            let wanted = expected.utxos.get(&outpoint);
            if wanted.map(|(v, h, c, s)| (*v, *h, *c, s.as_slice()))
                != Some((value, height, coinbase, script))
            {
                return Err(self.corrupt(format!("the row of unspent output {outpoint} differs")));
            }
        }
        let spends = self.table(txn, tables::SPENDS)?;
        for row in spends.iter().map_err(|e| self.engine(e))? {
            let (key, value) = row.map_err(|e| self.engine(e))?;
            let outpoint = outpoint(key.value());
            let (height, input, by) = value.value();
            if expected.spends.get(&outpoint) != Some(&(height, input, Txid::from_byte_array(*by))) {
                return Err(self.corrupt(format!("the row of spent output {outpoint} differs")));
            }
        }
        Ok(())
    }
}

fn outpoint((txid, vout): tables::OutPointKey<'_>) -> OutPoint {
    OutPoint { txid: Txid::from_byte_array(*txid), vout }
}

impl Expected {
    fn add(&mut self, height: u32, parsed: &ParsedBlock<'_>) -> Result<(), String> {
        for (index, (span, tx)) in (0..).zip(parsed.spans.iter().zip(&parsed.block.txdata)) {
            if index > 0 {
                for (vin, input) in (0..).zip(&tx.input) {
                    self.utxos.remove(&input.previous_output);
                    if self.spends.insert(input.previous_output, (height, vin, span.txid)).is_some() {
                        return Err(format!("output {} is spent again", input.previous_output));
                    }
                }
            }
            let row = (height, index, span.offset, span.len);
            if self.transactions.insert(span.txid, row).is_some() {
                return Err(format!("transaction {} is there again", span.txid));
            }
            for (vout, output) in (0..).zip(&tx.output) {
                let key = OutPoint { txid: span.txid, vout };
                if can_be_spent(height, &output.script_pubkey) {
                    let script = output.script_pubkey.to_bytes();
                    self.utxos.insert(key, (output.value.to_sat(), height, index == 0, script));
                }
            }
        }
        Ok(())
    }
}
