//! Bitcoin objects as they travel: hashes in internal byte order, blocks and transactions as consensus bytes.

use core::fmt;
use core::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::macros::wire_structs;

/// A text that is not a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseHashError {
    /// The text has the wrong length.
    #[error("a hash has 64 hexadecimal digits, not {0} characters")]
    Length(usize),
    /// A character is no hexadecimal digit.
    #[error("character {at} is no hexadecimal digit")]
    Digit {
        /// Its place, counted from 0.
        at: usize,
    },
}

macro_rules! hashes {
    ($( $(#[$meta:meta])* $name:ident )*) => { $(
        $(#[$meta])*
        ///
        /// The bytes are in internal order, as hashed and as on the wire. `Display` and `FromStr` use the reversed order,
        /// which explorers and RPC interfaces show.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// From bytes in internal order.
            pub const fn from_bytes(internal: [u8; 32]) -> Self {
                $name(internal)
            }

            /// The bytes in internal order.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The bytes in internal order.
            pub const fn to_bytes(self) -> [u8; 32] {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().rev().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseHashError;
            fn from_str(text: &str) -> Result<Self, ParseHashError> {
                parse_reversed_hex(text).map($name)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    return serializer.collect_str(self);
                }
                words_of(&self.0).serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text: String = crate::codec::field(deserializer)?;
                    return text.parse().map_err(serde::de::Error::custom);
                }
                Deserialize::deserialize(deserializer).map(|words| $name(bytes_of(words)))
            }
        }

        crate::codec::plain_fields!($name);
    )* };
}

hashes! {
    /// A block's hash: double SHA-256 of its header.
    BlockHash
    /// A transaction's id: double SHA-256 without witness.
    Txid
}

/// Four little-endian words have the same bytes as the array, and cost a serialiser 4 calls instead of 32.
fn words_of(bytes: &[u8; 32]) -> [u64; 4] {
    let mut words = [0; 4];
    for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*chunk);
    }
    words
}

fn bytes_of(words: [u64; 4]) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (chunk, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *chunk = word.to_le_bytes();
    }
    bytes
}

fn parse_reversed_hex(text: &str) -> Result<[u8; 32], ParseHashError> {
    let digits = text.as_bytes();
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != 32 || !rest.is_empty() {
        return Err(ParseHashError::Length(text.chars().count()));
    }
    let mut bytes = [0; 32];
    for (index, (byte, [high, low])) in bytes.iter_mut().rev().zip(pairs).enumerate() {
        let high = hex_digit(*high).ok_or(ParseHashError::Digit { at: 2 * index })?;
        let low = hex_digit(*low).ok_or(ParseHashError::Digit { at: 2 * index + 1 })?;
        *byte = high << 4 | low;
    }
    Ok(bytes)
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

wire_structs! {
    /// One output of one transaction. `Display` and `FromStr`: `txid:vout`.
    #[derive(Copy, PartialOrd, Ord, Hash)]
    OutPoint {
        /// The transaction.
        txid: Txid,
        /// The output's index in it.
        vout: u32,
    }

    /// A block by hash and height.
    #[derive(Copy, PartialOrd, Ord, Hash)]
    BlockRef {
        /// The block's hash.
        hash: BlockHash,
        /// Its height on the active chain.
        height: u64,
    }
}

/// A text that is not an outpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseOutPointError {
    /// There is no colon.
    #[error("an outpoint is written txid:vout")]
    Form,
    /// What stands before the colon is no transaction id.
    #[error("before the colon: {0}")]
    Txid(#[from] ParseHashError),
    /// What stands after the colon is no output index.
    #[error("after the colon stands an output index between 0 and 4294967295")]
    Vout,
}

impl fmt::Display for OutPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.txid, self.vout)
    }
}

impl FromStr for OutPoint {
    type Err = ParseOutPointError;
    fn from_str(text: &str) -> Result<Self, ParseOutPointError> {
        let (txid, vout) = text.split_once(':').ok_or(ParseOutPointError::Form)?;
        Ok(OutPoint { txid: txid.parse()?, vout: vout.parse().map_err(|_| ParseOutPointError::Vout)? })
    }
}

/// A block header: its 80 consensus bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockHeader([u8; 80]);

impl BlockHeader {
    /// From consensus bytes.
    pub const fn from_bytes(bytes: [u8; 80]) -> Self {
        BlockHeader(bytes)
    }

    /// The consensus bytes.
    pub const fn as_bytes(&self) -> &[u8; 80] {
        &self.0
    }

    /// The version field.
    pub fn version(&self) -> i32 {
        i32::from_le_bytes(self.part::<0, 4>())
    }

    /// The hash of the block before this one.
    pub fn previous(&self) -> BlockHash {
        BlockHash(self.part::<4, 32>())
    }

    /// The merkle root over the transaction ids, in internal byte order.
    pub fn merkle_root(&self) -> [u8; 32] {
        self.part::<36, 32>()
    }

    /// The time that the miner wrote, in seconds since 1970.
    pub fn time(&self) -> u32 {
        u32::from_le_bytes(self.part::<68, 4>())
    }

    /// The target in its compact form.
    pub fn bits(&self) -> u32 {
        u32::from_le_bytes(self.part::<72, 4>())
    }

    /// The nonce.
    pub fn nonce(&self) -> u32 {
        u32::from_le_bytes(self.part::<76, 4>())
    }

    fn part<const AT: usize, const LEN: usize>(&self) -> [u8; LEN] {
        const { assert!(AT + LEN <= 80) };
        let mut part = [0; LEN];
        for (to, from) in part.iter_mut().zip(self.0.iter().skip(AT)) {
            *to = *from;
        }
        part
    }
}

impl fmt::Debug for BlockHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlockHeader(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

macro_rules! raw_objects {
    ($( $(#[$meta:meta])* $name:ident )*) => { $(
        $(#[$meta])*
        ///
        /// Cloning shares the bytes. They are what the peer sent: nothing here has checked that they are consensus bytes.
        #[derive(Clone, PartialEq, Eq, Hash)]
        pub struct $name(Bytes);

        impl $name {
            /// Wraps consensus bytes without looking at them.
            pub const fn new(consensus: Bytes) -> Self {
                $name(consensus)
            }

            /// The consensus bytes.
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }

            /// The consensus bytes, shared.
            pub const fn shared(&self) -> &Bytes {
                &self.0
            }

            /// The consensus bytes, shared.
            pub fn into_bytes(self) -> Bytes {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({} bytes)", stringify!($name), self.0.len())
            }
        }
    )* };
}

raw_objects! {
    /// A block: its consensus bytes, witnesses included.
    RawBlock
    /// A transaction: its consensus bytes, witnesses included.
    RawTransaction
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENESIS: &str = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f";

    #[test]
    fn hashes_show_and_parse_in_reversed_order() {
        let hash: BlockHash = GENESIS.parse().unwrap();
        assert_eq!(hash.to_string(), GENESIS);
        assert_eq!(hash.as_bytes()[0], 0x6f);
        assert_eq!(hash.as_bytes()[31], 0);
        assert_eq!(GENESIS.to_uppercase().parse(), Ok(hash));
        assert_eq!("00".parse::<BlockHash>(), Err(ParseHashError::Length(2)));
        assert_eq!(format!("0{GENESIS}").parse::<BlockHash>(), Err(ParseHashError::Length(65)));
        let off = GENESIS.replace("19d", "19x");
        assert_eq!(off.parse::<BlockHash>(), Err(ParseHashError::Digit { at: 12 }));
    }

    #[test]
    fn hashes_are_text_for_people_and_32_bytes_on_the_wire() {
        let hash: Txid = GENESIS.parse().unwrap();
        assert_eq!(serde_json::to_string(&hash).unwrap(), format!("\"{GENESIS}\""));
        assert_eq!(serde_json::from_str::<Txid>(&format!("\"{GENESIS}\"")).unwrap(), hash);
        let mut out = Vec::new();
        crate::codec::put(&mut out, &hash);
        assert_eq!(out, hash.as_bytes());
        assert_eq!(crate::codec::Reader::new("hash", &out).get::<Txid>(), Ok(hash));
    }

    #[test]
    fn outpoints_parse() {
        let text = format!("{GENESIS}:7");
        let outpoint: OutPoint = text.parse().unwrap();
        assert_eq!((outpoint.vout, outpoint.to_string()), (7, text));
        assert_eq!("7".parse::<OutPoint>(), Err(ParseOutPointError::Form));
        assert_eq!(format!("{GENESIS}:-1").parse::<OutPoint>(), Err(ParseOutPointError::Vout));
        assert!(matches!("ab:1".parse::<OutPoint>(), Err(ParseOutPointError::Txid(_))));
    }

    #[test]
    fn a_header_gives_its_fields() {
        let mut bytes = [0; 80];
        for (byte, value) in bytes.iter_mut().zip(0u8..) {
            *byte = value;
        }
        let header = BlockHeader::from_bytes(bytes);
        assert_eq!(header.version(), 0x03020100);
        assert_eq!(header.previous().as_bytes()[0], 4);
        assert_eq!(header.merkle_root()[31], 67);
        assert_eq!((header.time(), header.bits(), header.nonce()), (0x47464544, 0x4b4a4948, 0x4f4e4d4c));
    }
}
