//! A raw block taken apart, with the place of each transaction in it.

use bitcoin::consensus::Decodable;
use bitcoin::consensus::encode::{Error as DecodeError, VarInt};
use bitcoin::{Block, BlockHash, Txid};

use crate::error::BlockFault;
use crate::rules::BLOCK_WEIGHT_MAX;

/// A block that decoded to its last byte. Nothing else about it is checked yet.
pub(crate) struct ParsedBlock<'a> {
    pub(crate) raw: &'a [u8],
    pub(crate) hash: BlockHash,
    pub(crate) block: Block,
    /// One for each transaction, in order.
    pub(crate) spans: Vec<TxSpan>,
}

/// Where a transaction lies in the raw block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TxSpan {
    pub(crate) txid: Txid,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// A transaction with one input and one output cannot be shorter.
const TX_BYTES_MIN: usize = 60;

impl<'a> ParsedBlock<'a> {
    /// Takes the block apart and notes where each transaction lies.
    ///
    /// Memory is bounded by the bytes that came, never by a count that they claim.
    ///
    /// # Errors
    /// A [`BlockFault`] that says at which byte decoding stopped. Bytes after the block are a fault.
    pub(crate) fn decode(raw: &'a [u8]) -> Result<Self, BlockFault> {
        // A block's weight is at least its size, so anything longer is refused unread. This also makes
        // every offset fit in 32 bits.
        if raw.len() as u64 > BLOCK_WEIGHT_MAX {
            return Err(BlockFault::TooLong { bytes: raw.len() as u64 });
        }
        let mut reader = Cursor { raw, rest: raw };
        let header: bitcoin::block::Header = reader.take("header")?;
        let count = reader.take::<VarInt>("transaction count")?.0;

        let plausible = usize::try_from(count).unwrap_or(usize::MAX).min(raw.len() / TX_BYTES_MIN);
        let mut txdata = Vec::with_capacity(plausible);
        let mut spans = Vec::with_capacity(plausible);
        for _ in 0..count {
            let offset = reader.offset();
            let tx: bitcoin::Transaction = reader.take("transaction")?;
            spans.push(TxSpan { txid: tx.compute_txid(), offset, len: reader.offset() - offset });
            txdata.push(tx);
        }
        if !reader.rest.is_empty() {
            return Err(BlockFault::TrailingBytes { bytes: reader.rest.len() as u64 });
        }
        Ok(Self { raw, hash: header.block_hash(), block: Block { header, txdata }, spans })
    }
}

struct Cursor<'a> {
    raw: &'a [u8],
    rest: &'a [u8],
}

impl Cursor<'_> {
    /// Fits: the raw block is shorter than 2^32 bytes.
    fn offset(&self) -> u32 {
        (self.raw.len() - self.rest.len()) as u32
    }

    fn take<T: Decodable>(&mut self, what: &'static str) -> Result<T, BlockFault> {
        let offset = self.offset();
        T::consensus_decode_from_finite_reader(&mut self.rest).map_err(|error| match error {
            DecodeError::Io(_) => BlockFault::Truncated { what, offset },
            other => BlockFault::Malformed { what, offset, reason: other.to_string() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::consensus::{deserialize, serialize};

    fn real() -> &'static [u8] {
        bitcoin_test_data::blocks::mainnet_702861()
    }

    #[test]
    fn every_span_is_exactly_its_transaction() {
        let parsed = ParsedBlock::decode(real()).unwrap();
        let independent: Block = deserialize(real()).unwrap();
        assert_eq!(parsed.block, independent);
        assert_eq!(parsed.spans.len(), independent.txdata.len());
        for (span, tx) in parsed.spans.iter().zip(&independent.txdata) {
            let slice = &real()[span.offset as usize..(span.offset + span.len) as usize];
            assert_eq!(slice, serialize(tx));
            assert_eq!(span.txid, tx.compute_txid());
        }
    }

    #[test]
    fn every_way_to_end_early_is_truncated() {
        let raw = real();
        // All cuts of the beginning, then a sample up to the last byte.
        for cut in (0..2_000).chain((2_000..raw.len()).step_by(49_999)).chain([raw.len() - 1]) {
            match ParsedBlock::decode(&raw[..cut]) {
                Err(BlockFault::Truncated { offset, .. }) => assert!(offset as usize <= cut),
                Err(other) => panic!("cut at {cut}: {other}"),
                Ok(_) => panic!("cut at {cut} decoded"),
            }
        }
    }

    #[test]
    fn bytes_after_the_block_are_counted() {
        let mut raw = real().to_vec();
        raw.extend_from_slice(&[0; 3]);
        assert!(matches!(ParsedBlock::decode(&raw), Err(BlockFault::TrailingBytes { bytes: 3 })));
    }

    #[test]
    fn a_claimed_count_with_nothing_behind_it_costs_nothing() {
        let mut raw = real()[..80].to_vec();
        raw.extend_from_slice(&[0xff; 9]);
        assert!(matches!(
            ParsedBlock::decode(&raw),
            Err(BlockFault::Truncated { what: "transaction", offset: 89 })
        ));
    }

    #[test]
    fn a_count_written_wastefully_is_malformed() {
        let mut raw = real()[..80].to_vec();
        raw.extend_from_slice(&[0xfd, 1, 0]);
        assert!(matches!(
            ParsedBlock::decode(&raw),
            Err(BlockFault::Malformed { what: "transaction count", offset: 80, .. })
        ));
    }

    #[test]
    fn too_long_is_refused_unread() {
        assert!(matches!(
            ParsedBlock::decode(&vec![0; 4_000_001]),
            Err(BlockFault::TooLong { bytes: 4_000_001 })
        ));
    }
}
