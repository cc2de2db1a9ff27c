//! Conversions to and from the types of the `bitcoin` crate (feature `bitcoin`).

use bitcoin::consensus::encode::{Error, deserialize, serialize};
use bitcoin::hashes::Hash;
use bytes::Bytes;

use crate::{BlockHash, BlockHeader, OutPoint, RawBlock, RawTransaction, Txid};

macro_rules! hashes {
    ($($name:ident),*) => { $(
        impl From<bitcoin::$name> for $name {
            fn from(hash: bitcoin::$name) -> Self {
                $name::from_bytes(hash.to_byte_array())
            }
        }

        impl From<$name> for bitcoin::$name {
            fn from(hash: $name) -> Self {
                bitcoin::$name::from_byte_array(hash.to_bytes())
            }
        }
    )* };
}

hashes!(BlockHash, Txid);

impl From<bitcoin::OutPoint> for OutPoint {
    fn from(outpoint: bitcoin::OutPoint) -> Self {
        OutPoint { txid: outpoint.txid.into(), vout: outpoint.vout }
    }
}

impl From<OutPoint> for bitcoin::OutPoint {
    fn from(outpoint: OutPoint) -> Self {
        bitcoin::OutPoint { txid: outpoint.txid.into(), vout: outpoint.vout }
    }
}

macro_rules! consensus {
    ($($raw:ident $parsed:ty, $what:literal;)*) => { $(
        impl $raw {
            #[doc = concat!("Parses the ", $what, ".")]
            ///
            /// # Errors
            /// The `bitcoin` crate's, if these are not its consensus bytes or others follow.
            pub fn parse(&self) -> Result<$parsed, Error> {
                deserialize(self.as_bytes())
            }
        }
    )* };
}

consensus! {
    RawBlock bitcoin::Block, "block";
    RawTransaction bitcoin::Transaction, "transaction";
    BlockHeader bitcoin::block::Header, "header";
}

impl From<&bitcoin::Block> for RawBlock {
    fn from(block: &bitcoin::Block) -> Self {
        RawBlock::new(Bytes::from(serialize(block)))
    }
}

impl From<&bitcoin::Transaction> for RawTransaction {
    fn from(transaction: &bitcoin::Transaction) -> Self {
        RawTransaction::new(Bytes::from(serialize(transaction)))
    }
}

impl From<&bitcoin::block::Header> for BlockHeader {
    fn from(header: &bitcoin::block::Header) -> Self {
        let mut bytes = [0; 80];
        // A header always has 80 bytes; the iterator's end is not reached before the array's.
        for (to, from) in bytes.iter_mut().zip(serialize(header)) {
            *to = from;
        }
        BlockHeader::from_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::constants::genesis_block;

    #[test]
    fn objects_survive_both_ways() {
        let genesis = genesis_block(bitcoin::Network::Bitcoin);
        let raw = RawBlock::from(&genesis);
        assert_eq!(raw.parse().unwrap(), genesis);
        let header = BlockHeader::from(&genesis.header);
        assert_eq!(header.parse().unwrap(), genesis.header);
        assert_eq!(header.as_bytes(), &raw.as_bytes()[..80]);
        assert_eq!((header.time(), header.nonce()), (genesis.header.time, genesis.header.nonce));
        assert_eq!(header.merkle_root(), genesis.header.merkle_root.to_byte_array());
        let coinbase = &genesis.txdata[0];
        assert_eq!(&RawTransaction::from(coinbase).parse().unwrap(), coinbase);
        let hash = BlockHash::from(genesis.block_hash());
        assert_eq!(hash.to_string(), genesis.block_hash().to_string());
        assert_eq!(bitcoin::BlockHash::from(hash), genesis.block_hash());
        let outpoint = OutPoint { txid: coinbase.compute_txid().into(), vout: 3 };
        assert_eq!(bitcoin::OutPoint::from(outpoint).to_string(), outpoint.to_string());
        assert!(RawTransaction::new(Bytes::from_static(&[1])).parse().is_err());
    }
}
