//! Reading. Each question is answered from one snapshot, beside imports and other reads.

use bitcoin::block::Header;
use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, BlockHash, OutPoint, ScriptBuf, Transaction, Txid};
use bytes::Bytes;
use redb::{Key, ReadOnlyTable, ReadTransaction, TableDefinition, Value};

use crate::connect::can_be_spent;
use crate::error::StoreError;
use crate::tables::{self, hash_bytes, outpoint_key, txid_bytes};
use crate::{BlockId, ChainStore};

/// A header and where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredHeader {
    /// The block.
    pub block: BlockId,
    /// Its header.
    pub header: Header,
}

/// A transaction and where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTransaction {
    /// Its consensus bytes, witnesses included.
    pub raw: Bytes,
    /// The block that has it.
    pub block: BlockId,
    /// Its place in that block: 0 is the coinbase.
    pub index: u32,
}

/// An output that can be spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unspent {
    /// Its value.
    pub value: Amount,
    /// The script that guards it.
    pub script: ScriptBuf,
    /// Height of the block that created it.
    pub height: u32,
    /// Whether a coinbase created it. (Such an output may only be spent 100 blocks later.)
    pub coinbase: bool,
}

/// What a store knows about an output. Only [`Utxo::OlderThanAnchor`] leaves the question open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Utxo {
    /// It was created above the anchor and is unspent at the tip.
    Unspent(Unspent),
    /// It was spent above the anchor, wherever it was created.
    Spent {
        /// Height of the block that spent it.
        height: u32,
        /// The spending transaction.
        by: Txid,
        /// Number of the input there.
        input: u32,
    },
    /// Its transaction is known and created it, but nothing can ever spend it (`OP_RETURN`, an oversized script,
    /// the genesis coinbase).
    Unspendable,
    /// It does not exist: its transaction is known and has no output of this number, or the store begins at the
    /// genesis block and knows no such transaction.
    None,
    /// Neither its transaction nor a spend of it is above the anchor. It may be an unspent output of an older
    /// block, one that was spent below the anchor, or none at all.
    OlderThanAnchor,
}

impl ChainStore {
    /// The header of a block.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read. A block that is not here is `Ok(None)`, in all queries.
    pub fn header(&self, hash: &BlockHash) -> Result<Option<StoredHeader>, StoreError> {
        self.header_in(&self.begin_read()?, hash)
    }

    /// The header at a height.
    ///
    /// # Errors
    /// As [`Self::header`].
    pub fn header_at(&self, height: u32) -> Result<Option<StoredHeader>, StoreError> {
        let txn = self.begin_read()?;
        match self.hash_in(&txn, height)? {
            Some(hash) => self.header_in(&txn, &hash),
            None => Ok(None),
        }
    }

    /// The hash of the block at a height. The anchor's is known, although the anchor's block is not.
    ///
    /// # Errors
    /// As [`Self::header`].
    pub fn hash_at(&self, height: u32) -> Result<Option<BlockHash>, StoreError> {
        if height == self.anchor.height {
            return Ok(Some(self.anchor.hash));
        }
        self.hash_in(&self.begin_read()?, height)
    }

    /// A whole block as it was imported, in one copy.
    ///
    /// # Errors
    /// As [`Self::header`].
    pub fn block(&self, hash: &BlockHash) -> Result<Option<Bytes>, StoreError> {
        self.block_in(&self.begin_read()?, hash, Bytes::copy_from_slice)
    }

    /// The whole block at a height, in one copy.
    ///
    /// # Errors
    /// As [`Self::header`].
    pub fn block_at(&self, height: u32) -> Result<Option<(BlockHash, Bytes)>, StoreError> {
        let txn = self.begin_read()?;
        let Some(hash) = self.hash_in(&txn, height)? else { return Ok(None) };
        let raw = self.block_in(&txn, &hash, Bytes::copy_from_slice)?;
        Ok(raw.map(|raw| (hash, raw)))
    }

    /// A transaction, cut out of its block.
    ///
    /// # Errors
    /// As [`Self::header`].
    pub fn transaction(&self, txid: &Txid) -> Result<Option<StoredTransaction>, StoreError> {
        self.transaction_in(&self.begin_read()?, txid)
    }

    /// What is known about an output.
    ///
    /// # Errors
    /// As [`Self::header`].
    pub fn utxo(&self, outpoint: &OutPoint) -> Result<Utxo, StoreError> {
        let txn = self.begin_read()?;
        let key = outpoint_key(outpoint);
        if let Some(row) = self.table(&txn, tables::UTXOS)?.get(key).map_err(|e| self.engine(e))? {
            let (value, height, coinbase, script) = row.value();
            let script = ScriptBuf::from_bytes(script.to_vec());
            return Ok(Utxo::Unspent(Unspent { value: Amount::from_sat(value), script, height, coinbase }));
        }
        if let Some(row) = self.table(&txn, tables::SPENDS)?.get(key).map_err(|e| self.engine(e))? {
            let (height, input, by) = row.value();
            return Ok(Utxo::Spent { height, by: Txid::from_byte_array(*by), input });
        }
        match self.transaction_in(&txn, &outpoint.txid)? {
            Some(stored) => self.neither_unspent_nor_spent(outpoint, &stored),
            None if self.anchor.height == 0 => Ok(Utxo::None),
            None => Ok(Utxo::OlderThanAnchor),
        }
    }

    fn neither_unspent_nor_spent(
        &self,
        outpoint: &OutPoint,
        stored: &StoredTransaction,
    ) -> Result<Utxo, StoreError> {
        let tx: Transaction = deserialize(&stored.raw)
            .map_err(|error| self.corrupt(format!("transaction {}: {error}", outpoint.txid)))?;
        let output = usize::try_from(outpoint.vout).ok().and_then(|vout| tx.output.get(vout));
        match output {
            None => Ok(Utxo::None),
            Some(output) if !can_be_spent(stored.block.height, &output.script_pubkey) => {
                Ok(Utxo::Unspendable)
            }
            Some(_) => Err(self.corrupt(format!("output {outpoint} is neither unspent nor spent"))),
        }
    }

    fn transaction_in(
        &self,
        txn: &ReadTransaction,
        txid: &Txid,
    ) -> Result<Option<StoredTransaction>, StoreError> {
        let table = self.table(txn, tables::TRANSACTIONS)?;
        let Some(row) = table.get(txid_bytes(txid)).map_err(|e| self.engine(e))? else { return Ok(None) };
        let (height, index, offset, len) = row.value();
        let missing = || self.corrupt(format!("transaction {txid} is not where its index says"));
        let hash = self.hash_in(txn, height)?.ok_or_else(missing)?;
        let cut = |raw: &[u8]| {
            let end = offset.checked_add(len)?;
            raw.get(offset as usize..end as usize).map(Bytes::copy_from_slice)
        };
        let raw = self.block_in(txn, &hash, cut)?.flatten().ok_or_else(missing)?;
        Ok(Some(StoredTransaction { raw, block: BlockId { height, hash }, index }))
    }

    fn header_in(&self, txn: &ReadTransaction, hash: &BlockHash) -> Result<Option<StoredHeader>, StoreError> {
        let table = self.table(txn, tables::HEADERS)?;
        let Some(row) = table.get(hash_bytes(hash)).map_err(|e| self.engine(e))? else { return Ok(None) };
        let (height, bytes) = row.value();
        let header: Header =
            deserialize(bytes).map_err(|error| self.corrupt(format!("header {hash}: {error}")))?;
        Ok(Some(StoredHeader { block: BlockId { height, hash: *hash }, header }))
    }

    fn hash_in(&self, txn: &ReadTransaction, height: u32) -> Result<Option<BlockHash>, StoreError> {
        let row = self.table(txn, tables::HEIGHTS)?.get(height).map_err(|e| self.engine(e))?;
        Ok(row.map(|hash| BlockHash::from_byte_array(*hash.value())))
    }

    fn block_in<T>(
        &self,
        txn: &ReadTransaction,
        hash: &BlockHash,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, StoreError> {
        let row = self.table(txn, tables::BLOCKS)?.get(hash_bytes(hash)).map_err(|e| self.engine(e))?;
        Ok(row.map(|raw| take(raw.value())))
    }

    pub(crate) fn table<K: Key + 'static, V: Value + 'static>(
        &self,
        txn: &ReadTransaction,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<ReadOnlyTable<K, V>, StoreError> {
        txn.open_table(definition).map_err(|error| StoreError::engine(&self.path, error))
    }

    pub(crate) fn engine(&self, error: redb::StorageError) -> StoreError {
        StoreError::engine(&self.path, error)
    }

    pub(crate) fn corrupt(&self, detail: String) -> StoreError {
        StoreError::corrupt(&self.path, detail)
    }
}
