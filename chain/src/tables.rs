//! The tables of a chain store. `docs/chain.md` describes them for readers of the file.
//!
//! Hashes are stored in the order of their computation (not reversed, as they are displayed).

use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, OutPoint, Txid};
use redb::TableDefinition;

/// The layout that this code reads and writes. It rises with any change to a table.
pub(crate) const SCHEMA: u32 = 1;

/// What the store is about, under the `META_*` keys.
pub(crate) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// `u32`: the layout's number.
pub(crate) const META_SCHEMA: &str = "schema";
/// 4 bytes: the network's message magic.
pub(crate) const META_NETWORK: &str = "network";
/// A [`crate::BlockId`]: the block below the first one that can be imported.
pub(crate) const META_ANCHOR: &str = "anchor";
/// A [`crate::BlockId`]: the newest block, the anchor at first.
pub(crate) const META_TIP: &str = "tip";

/// Block hash → the whole block as it came.
pub(crate) const BLOCKS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("blocks");

/// Height → block hash. Consecutive from the first stored block to the tip.
pub(crate) const HEIGHTS: TableDefinition<'_, u32, &[u8; 32]> = TableDefinition::new("heights");

/// Block hash → (height, the 80 bytes of the header).
pub(crate) const HEADERS: TableDefinition<'_, &[u8; 32], (u32, &[u8; 80])> = TableDefinition::new("headers");

/// Transaction id → (height of its block, place in the block, offset and length in the raw block).
pub(crate) const TRANSACTIONS: TableDefinition<'_, &[u8; 32], TransactionRow> =
    TableDefinition::new("transactions");
pub(crate) type TransactionRow = (u32, u32, u32, u32);

/// (Transaction id, output number) → an output that can be spent.
pub(crate) const UTXOS: TableDefinition<'_, OutPointKey<'_>, UtxoRow<'_>> = TableDefinition::new("utxos");
pub(crate) type OutPointKey<'a> = (&'a [u8; 32], u32);
/// (value in satoshi, height, whether of a coinbase, script).
pub(crate) type UtxoRow<'a> = (u64, u32, bool, &'a [u8]);

/// (Transaction id, output number) → the input that spent it.
///
/// It has a row for each input above the anchor, also when the output is older than the anchor: so the
/// store can tell "spent" from "never seen", and refuses a second spend of an output that it never held.
pub(crate) const SPENDS: TableDefinition<'_, OutPointKey<'_>, SpendRow<'_>> = TableDefinition::new("spends");
/// (height, number of the input, id of its transaction).
pub(crate) type SpendRow<'a> = (u32, u32, &'a [u8; 32]);

/// Keys need a reference that lives as long as the lookup.
pub(crate) fn txid_bytes(txid: &Txid) -> &[u8; 32] {
    txid.as_byte_array()
}

pub(crate) fn hash_bytes(hash: &BlockHash) -> &[u8; 32] {
    hash.as_byte_array()
}

pub(crate) fn outpoint_key(outpoint: &OutPoint) -> OutPointKey<'_> {
    (outpoint.txid.as_byte_array(), outpoint.vout)
}
