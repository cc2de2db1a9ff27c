//! Takes the newest block away again, for whoever follows a chain that changed branches.

use std::collections::BTreeMap;

use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, OutPoint, Transaction};
use redb::{ReadableTable as _, Table, WriteTransaction};

use crate::block::ParsedBlock;
use crate::connect::can_be_spent;
use crate::error::{DisconnectError, StoreError};
use crate::store::{Tip, begin_write};
use crate::tables::{
    self, OutPointKey, SpendRow, TransactionRow, UtxoRow, hash_bytes, outpoint_key, txid_bytes,
};
use crate::{BlockId, ChainStore};

impl ChainStore {
    /// Removes the newest block in one durable transaction, so that its parent is the tip again, and returns it.
    ///
    /// What it created is gone, what it spent is unspent again. There is no undo data: an output comes back from the
    /// raw block that created it, or, if that is older than the anchor, is unknown again.
    ///
    /// # Errors
    /// [`DisconnectError`]: the tip is the anchor, or the disk refused. The store is as it was.
    pub fn disconnect_tip(&self) -> Result<BlockId, DisconnectError> {
        self.disconnect_to_parent().map(|(block, _parent)| block)
    }

    /// [`Self::disconnect_tip`], with the tip that is left.
    pub(crate) fn disconnect_to_parent(&self) -> Result<(BlockId, BlockId), DisconnectError> {
        let _writer = self.lock_writer();
        let tip = self.tip_and_header();
        let Some(header) = tip.header.filter(|_| tip.block != self.anchor) else {
            return Err(DisconnectError::AtAnchor { anchor: self.anchor });
        };
        let parent = BlockId { height: tip.block.height - 1, hash: header.prev_blockhash };
        // The anchor has no header here, unless it is the genesis block.
        let parent_header = self.header(&parent.hash)?.map(|stored| stored.header);

        let raw = self.block(&tip.block.hash)?;
        let raw = raw.ok_or_else(|| self.corrupt(format!("the newest block {} is missing", tip.block)))?;
        let parsed = ParsedBlock::decode(&raw)
            .map_err(|fault| self.corrupt(format!("the newest block {}: {fault}", tip.block)))?;

        let txn = begin_write(self.database(), &self.path)?;
        Undo::open(&txn, self)?.block(&parsed)?;
        unindex(&txn, tip.block, parent).map_err(|error| StoreError::engine(&self.path, error))?;
        txn.commit().map_err(|error| StoreError::engine(&self.path, error))?;
        self.set_tip(Tip { block: parent, header: parent_header });
        Ok((tip.block, parent))
    }
}

fn unindex(txn: &WriteTransaction, block: BlockId, parent: BlockId) -> Result<(), redb::Error> {
    let hash = hash_bytes(&block.hash);
    txn.open_table(tables::BLOCKS)?.remove(hash)?;
    txn.open_table(tables::HEADERS)?.remove(hash)?;
    txn.open_table(tables::HEIGHTS)?.remove(block.height)?;
    txn.open_table(tables::META)?.insert(tables::META_TIP, parent.to_bytes().as_slice())?;
    Ok(())
}

/// The tables that a block's transactions touched, and a few blocks at hand.
struct Undo<'txn, 'a> {
    store: &'a ChainStore,
    transactions: Table<'txn, &'static [u8; 32], TransactionRow>,
    utxos: Table<'txn, OutPointKey<'static>, UtxoRow<'static>>,
    spends: Table<'txn, OutPointKey<'static>, SpendRow<'static>>,
    heights: Table<'txn, u32, &'static [u8; 32]>,
    blocks: Table<'txn, &'static [u8; 32], &'static [u8]>,
}

impl<'txn, 'a> Undo<'txn, 'a> {
    fn open(txn: &'txn WriteTransaction, store: &'a ChainStore) -> Result<Self, StoreError> {
        let open = || -> Result<Self, redb::Error> {
            Ok(Self {
                store,
                transactions: txn.open_table(tables::TRANSACTIONS)?,
                utxos: txn.open_table(tables::UTXOS)?,
                spends: txn.open_table(tables::SPENDS)?,
                heights: txn.open_table(tables::HEIGHTS)?,
                blocks: txn.open_table(tables::BLOCKS)?,
            })
        };
        open().map_err(|error| StoreError::engine(&store.path, error))
    }

    /// The last transaction first, and of each its outputs before its inputs: the reverse of connecting. What the
    /// block created and spent itself thus comes back for a moment and then goes with its creator.
    fn block(&mut self, parsed: &ParsedBlock<'_>) -> Result<(), StoreError> {
        let txs = parsed.spans.iter().zip(&parsed.block.txdata).enumerate();
        for (index, (span, tx)) in txs.rev() {
            for vout in (0..).take(tx.output.len()) {
                let created = OutPoint { txid: span.txid, vout };
                self.utxos.remove(outpoint_key(&created)).map_err(|e| self.store.engine(e))?;
            }
            self.transactions.remove(txid_bytes(&span.txid)).map_err(|e| self.store.engine(e))?;
            if index > 0 {
                self.inputs(tx)?;
            }
        }
        Ok(())
    }

    fn inputs(&mut self, tx: &Transaction) -> Result<(), StoreError> {
        // Inputs of one transaction often spend from the same one.
        let mut parents: BTreeMap<_, Option<Parent>> = BTreeMap::new();
        for input in &tx.input {
            let outpoint = input.previous_output;
            self.spends.remove(outpoint_key(&outpoint)).map_err(|e| self.store.engine(e))?;
            let parent = match parents.entry(outpoint.txid) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(slot) => slot.insert(self.parent(&outpoint)?),
            };
            let Some(parent) = parent else { continue };
            let output = usize::try_from(outpoint.vout).ok().and_then(|vout| parent.tx.output.get(vout));
            let output = output.filter(|output| can_be_spent(parent.height, &output.script_pubkey));
            let output = output
                .ok_or_else(|| self.store.corrupt(format!("output {outpoint} was spent but cannot exist")))?;
            let script = output.script_pubkey.as_bytes();
            let row = (output.value.to_sat(), parent.height, parent.coinbase, script);
            self.utxos.insert(outpoint_key(&outpoint), row).map_err(|e| self.store.engine(e))?;
        }
        Ok(())
    }

    /// The transaction that created an output; `None` if it is older than the anchor.
    fn parent(&self, outpoint: &OutPoint) -> Result<Option<Parent>, StoreError> {
        let row = self.transactions.get(txid_bytes(&outpoint.txid)).map_err(|e| self.store.engine(e))?;
        let Some((height, index, offset, len)) = row.map(|row| row.value()) else { return Ok(None) };
        let lost =
            || self.store.corrupt(format!("transaction {} is not where its index says", outpoint.txid));
        let hash = self.heights.get(height).map_err(|e| self.store.engine(e))?.ok_or_else(lost)?;
        let hash = BlockHash::from_byte_array(*hash.value());
        let raw = self.blocks.get(hash_bytes(&hash)).map_err(|e| self.store.engine(e))?.ok_or_else(lost)?;
        let end = offset.checked_add(len).ok_or_else(lost)?;
        let slice = raw.value().get(offset as usize..end as usize).ok_or_else(lost)?;
        let tx = deserialize(slice).map_err(|_| lost())?;
        Ok(Some(Parent { tx, height, coinbase: index == 0 }))
    }
}

struct Parent {
    tx: Transaction,
    height: u32,
    coinbase: bool,
}
