//! Writes one checked block into all tables of a write transaction.
//!
//! Nothing here takes effect before the caller commits. An error leaves rows behind that the caller drops
//! together with the transaction.

use std::path::Path;

use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, Network, OutPoint, Transaction, Txid};
use redb::{ReadableTable, Table, WriteTransaction};

use crate::block::{ParsedBlock, TxSpan};
use crate::check::Body;
use crate::error::{BlockFault, StoreError};
use crate::tables::{
    self, OutPointKey, SpendRow, TransactionRow, UtxoRow, hash_bytes, outpoint_key, txid_bytes,
};
use crate::{BlockId, rules};

/// What the inputs of a block turned out to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    /// Inputs whose output this store held.
    pub(crate) known: u32,
    /// Inputs whose output is older than the anchor.
    pub(crate) unknown: u32,
    /// Outputs that can be spent from now on.
    pub(crate) created: u32,
    /// Sum of the fees, unless an input is unknown.
    pub(crate) fees: Option<Amount>,
}

/// A block that must not be written, or a database that would not take it.
pub(crate) enum Refusal {
    Fault(BlockFault),
    Store(StoreError),
}

impl From<BlockFault> for Refusal {
    fn from(fault: BlockFault) -> Self {
        Self::Fault(fault)
    }
}

/// Where a block goes and what surrounds it.
pub(crate) struct Place<'a> {
    pub(crate) path: &'a Path,
    pub(crate) network: Network,
    pub(crate) anchor: BlockId,
    pub(crate) height: u32,
}

/// The tables that a block's transactions touch.
struct Ledger<'txn, 'a> {
    place: &'a Place<'a>,
    body: &'a Body,
    transactions: Table<'txn, &'static [u8; 32], TransactionRow>,
    utxos: Table<'txn, OutPointKey<'static>, UtxoRow<'static>>,
    spends: Table<'txn, OutPointKey<'static>, SpendRow<'static>>,
}

/// Writes `parsed` at `place.height` and makes it the tip.
pub(crate) fn connect(
    txn: &WriteTransaction,
    place: &Place<'_>,
    parsed: &ParsedBlock<'_>,
    body: &Body,
) -> Result<Spent, Refusal> {
    let engine = |error| Refusal::Store(StoreError::engine(place.path, error));
    let mut ledger = Ledger::open(txn, place, body).map_err(engine)?;
    let spent = ledger.block(parsed)?;
    index(txn, place.height, parsed).map_err(engine)?;
    Ok(spent)
}

/// The rows that need no rule: the block itself, its header, its height and the new tip.
fn index(txn: &WriteTransaction, height: u32, parsed: &ParsedBlock<'_>) -> Result<(), redb::Error> {
    let hash = hash_bytes(&parsed.hash);
    txn.open_table(tables::BLOCKS)?.insert(hash, parsed.raw)?;
    txn.open_table(tables::HEIGHTS)?.insert(height, hash)?;
    let mut header = [0; 80];
    header.copy_from_slice(&serialize(&parsed.block.header));
    txn.open_table(tables::HEADERS)?.insert(hash, (height, &header))?;
    let tip = BlockId { height, hash: parsed.hash };
    txn.open_table(tables::META)?.insert(tables::META_TIP, tip.to_bytes().as_slice())?;
    Ok(())
}

impl<'txn, 'a> Ledger<'txn, 'a> {
    fn open(txn: &'txn WriteTransaction, place: &'a Place<'a>, body: &'a Body) -> Result<Self, redb::Error> {
        Ok(Self {
            place,
            body,
            transactions: txn.open_table(tables::TRANSACTIONS)?,
            utxos: txn.open_table(tables::UTXOS)?,
            spends: txn.open_table(tables::SPENDS)?,
        })
    }

    /// Transactions in order, each one's inputs before its outputs: an output can be spent only after it
    /// was created, also within the block.
    fn block(&mut self, parsed: &ParsedBlock<'_>) -> Result<Spent, Refusal> {
        let mut spent = Spent { fees: Some(Amount::ZERO), ..Spent::default() };
        let txs = parsed.spans.iter().zip(&parsed.block.txdata).zip(&self.body.paid);
        for (index, ((span, tx), paid)) in (0..).zip(txs) {
            if index > 0 {
                let fee = self.inputs(index, span, tx, *paid, &mut spent)?;
                spent.fees = spent.fees.zip(fee).and_then(|(sum, fee)| sum.checked_add(fee));
            }
            self.place_transaction(index, span)?;
            self.outputs(index, span.txid, tx, &mut spent)?;
        }
        if let (Some(fees), Some(taken)) = (spent.fees, self.body.paid.first()) {
            let allowed = rules::subsidy(self.place.network, self.place.height).checked_add(fees);
            let allowed = allowed.unwrap_or(Amount::MAX_MONEY);
            // Genesis is exempt by being exactly the subsidy.
            if *taken > allowed {
                let (taken_sat, allowed_sat) = (taken.to_sat(), allowed.to_sat());
                return Err(BlockFault::CoinbaseOverpaid { taken_sat, allowed_sat }.into());
            }
        }
        Ok(spent)
    }

    /// Spends the inputs of one transaction. The fee is `None` if an input is unknown.
    fn inputs(
        &mut self,
        index: u32,
        span: &TxSpan,
        tx: &Transaction,
        paid: Amount,
        spent: &mut Spent,
    ) -> Result<Option<Amount>, Refusal> {
        let mut brought = Some(Amount::ZERO);
        for (vin, input) in (0..).zip(&tx.input) {
            let spender = (self.place.height, vin, txid_bytes(&span.txid));
            let value = self.spend(index, &input.previous_output, spender)?;
            match value {
                Some(_) => spent.known += 1,
                None => spent.unknown += 1,
            }
            brought = brought.zip(value).and_then(|(sum, value)| sum.checked_add(value));
        }
        let Some(brought) = brought else { return Ok(None) };
        let fee = brought.checked_sub(paid).ok_or(BlockFault::Overspent {
            txid: span.txid,
            inputs_sat: brought.to_sat(),
            outputs_sat: paid.to_sat(),
        })?;
        Ok(Some(fee))
    }

    /// Spends one output: its value, or `None` if it is older than the anchor.
    fn spend(
        &mut self,
        index: u32,
        outpoint: &OutPoint,
        spender: SpendRow<'_>,
    ) -> Result<Option<Amount>, Refusal> {
        let key = outpoint_key(outpoint);
        let earlier = self.spends.insert(key, spender).map_err(|e| self.place.store(e))?;
        if let Some(height) = earlier.map(|row| row.value().0) {
            return Err(BlockFault::AlreadySpent { outpoint: *outpoint, height }.into());
        }
        let removed = self.utxos.remove(key).map_err(|e| self.place.store(e))?;
        if let Some(value) = removed.map(|row| row.value().0) {
            return Ok(Some(Amount::from_sat(value)));
        }
        self.missing(index, outpoint)?;
        Ok(None)
    }

    /// Tells an output that is older than the anchor, which is no fault, from one that cannot be.
    fn missing(&self, index: u32, outpoint: &OutPoint) -> Result<(), Refusal> {
        if self.body.places.get(&outpoint.txid).is_some_and(|place| *place >= index) {
            return Err(BlockFault::SpentBeforeCreated { outpoint: *outpoint }.into());
        }
        let known =
            self.transactions.get(txid_bytes(&outpoint.txid)).map_err(|e| self.place.store(e))?.is_some();
        // Nothing that can be spent is older than the genesis block.
        if known || self.place.anchor.height == 0 {
            return Err(BlockFault::NoSuchOutput { outpoint: *outpoint }.into());
        }
        Ok(())
    }

    fn place_transaction(&mut self, index: u32, span: &TxSpan) -> Result<(), Refusal> {
        let row = (self.place.height, index, span.offset, span.len);
        let earlier =
            self.transactions.insert(txid_bytes(&span.txid), row).map_err(|e| self.place.store(e))?;
        if let Some(height) = earlier.map(|row| row.value().0) {
            return Err(BlockFault::KnownTransaction { txid: span.txid, height }.into());
        }
        // An earlier block may have spent from this transaction, which then passed as older than the anchor.
        let first = OutPoint { txid: span.txid, vout: 0 };
        let last = OutPoint { txid: span.txid, vout: u32::MAX };
        let mut spends =
            self.spends.range(outpoint_key(&first)..=outpoint_key(&last)).map_err(|e| self.place.store(e))?;
        match spends.next() {
            None => Ok(()),
            Some(Err(error)) => Err(self.place.store(error)),
            Some(Ok((key, _))) => {
                let (txid, vout) = key.value();
                let outpoint = OutPoint { txid: Txid::from_byte_array(*txid), vout };
                Err(BlockFault::SpentBeforeCreated { outpoint }.into())
            }
        }
    }

    fn outputs(
        &mut self,
        index: u32,
        txid: Txid,
        tx: &Transaction,
        spent: &mut Spent,
    ) -> Result<(), Refusal> {
        for (vout, output) in (0..).zip(&tx.output) {
            if !can_be_spent(self.place.height, &output.script_pubkey) {
                continue;
            }
            let key = OutPoint { txid, vout };
            let script = output.script_pubkey.as_bytes();
            let row = (output.value.to_sat(), self.place.height, index == 0, script);
            self.utxos.insert(outpoint_key(&key), row).map_err(|e| self.place.store(e))?;
            spent.created += 1;
        }
        Ok(())
    }
}

impl Place<'_> {
    fn store(&self, error: redb::StorageError) -> Refusal {
        Refusal::Store(StoreError::engine(self.path, error))
    }
}

/// Whether an output belongs into the UTXO set at all. The genesis coinbase never did.
pub(crate) fn can_be_spent(height: u32, script: &bitcoin::Script) -> bool {
    height > 0 && !script.is_op_return() && script.len() <= rules::SCRIPT_BYTES_MAX
}
