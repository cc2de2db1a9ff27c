//! A block by height and hash.

use std::fmt;

use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, Network};

/// A block's height together with its hash: an anchor, a tip, a place in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId {
    /// Number of blocks below it. The genesis block has 0.
    pub height: u32,
    /// Its hash.
    pub hash: BlockHash,
}

impl BlockId {
    /// The genesis block of a network.
    #[must_use]
    pub fn genesis(network: Network) -> Self {
        Self { height: 0, hash: bitcoin::constants::genesis_block(network).block_hash() }
    }

    /// As the tables keep it: the height, little-endian, then the hash.
    pub(crate) fn to_bytes(self) -> [u8; 36] {
        let mut bytes = [0; 36];
        let (height, hash) = bytes.split_at_mut(4);
        height.copy_from_slice(&self.height.to_le_bytes());
        hash.copy_from_slice(self.hash.as_byte_array());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (height, hash) = bytes.split_first_chunk::<4>()?;
        let hash = BlockHash::from_byte_array(hash.try_into().ok()?);
        Some(Self { height: u32::from_le_bytes(*height), hash })
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.height, self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_there_and_back() {
        let id = BlockId { height: 0x0102_0304, hash: BlockId::genesis(Network::Bitcoin).hash };
        let bytes = id.to_bytes();
        assert_eq!(bytes[..4], [4, 3, 2, 1]);
        // The last bytes of a mainnet block's hash, in order of computation, are zero.
        assert_eq!(bytes[32..], [0; 4]);
        assert_eq!(BlockId::from_bytes(&bytes), Some(id));
        assert_eq!(BlockId::from_bytes(&bytes[..35]), None);
    }
}
