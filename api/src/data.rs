//! What successful responses carry (section 10.2).
//!
//! What a node does not know is `None` or a variant of its own, never an invented number.

use bytes::Bytes;

use crate::codec::{Reader, put, put_bytes, put_u32, put_u64};
use crate::macros::wire_structs;
use crate::{BlockHash, BlockRef, DecodeError, RawBlock, RawTransaction, Txid};

wire_structs! {
    /// The chain's name, tip and state of synchronisation.
    ChainInfo {
        /// `main`, `test`, `testnet4`, `signet` or `regtest`.
        chain: String,
        /// The active chain's last block.
        tip: BlockRef,
        /// The time in the tip's header, in seconds since 1970.
        tip_time: u32,
        /// The tip's target in its compact form.
        tip_bits: u32,
        /// The height up to which headers are known; never below the tip's.
        headers_height: u64,
        /// The block on which the node's own data begins, itself not stored. `None`: it begins with the genesis block.
        anchor: Option<BlockRef>,
        /// Whether the node is still catching up with its peers; `None` if it has no way to know.
        syncing: Option<bool>,
    }

    /// Counters since the node started.
    NetworkStats {
        /// Connections that others opened.
        peers_inbound: u32,
        /// Connections that the node opened.
        peers_outbound: u32,
        /// Bytes received from peers.
        received_bytes: u64,
        /// Bytes sent to peers.
        sent_bytes: u64,
        /// Seconds since the network was started.
        uptime_s: u64,
    }

    /// One connected peer.
    PeerInfo {
        /// The node's number for this connection.
        peer_id: u64,
        /// Address and port, as the node writes them.
        address: String,
        /// Whether the peer opened the connection.
        inbound: bool,
        /// The peer's protocol version.
        protocol_version: u32,
        /// The peer's service bits.
        services: u64,
        /// What the peer calls itself: untrusted text.
        user_agent: String,
        /// The height that the peer announced.
        start_height: Option<u64>,
        /// When the connection was opened, in seconds since 1970.
        connected_at_s: u64,
        /// The last round trip, in microseconds.
        ping_us: Option<u64>,
        /// Bytes received from this peer.
        received_bytes: u64,
        /// Bytes sent to this peer.
        sent_bytes: u64,
    }

    /// The input that spent an output.
    #[derive(Copy)]
    Spender {
        /// The spending transaction.
        txid: Txid,
        /// The input's index in it.
        vin: u32,
        /// The height of the block that holds it.
        height: u64,
    }
}

/// A peer's shortest encoding: its fixed fields, two empty texts, two absent options.
const PEER_BYTES_MIN: usize = 8 + 8 + 1 + 4 + 8 + 8 + 1 + 8 + 1 + 8 + 8;

/// What the node knows of a transaction output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Utxo {
    /// It exists and is unspent on the active chain.
    Unspent(Coin),
    /// It existed and was spent on the active chain.
    Spent {
        /// By which input, if the node keeps track.
        by: Option<Spender>,
    },
    /// The node cannot tell: its data begins at a later block than the output may come from. (An output that a node with
    /// complete data does not know is answered NotFound.)
    Unknown {
        /// The height of the first block whose outputs the node knows. The output is not one of theirs.
        known_from_height: u64,
    },
}

/// An unspent output.
#[derive(Clone, PartialEq, Eq)]
pub struct Coin {
    /// Its value in satoshi.
    pub value_sat: u64,
    /// The height of the block that created it.
    pub height: u64,
    /// Whether a coinbase created it.
    pub coinbase: bool,
    /// The script that locks it.
    pub script_pubkey: Bytes,
}

impl core::fmt::Debug for Coin {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Coin")
            .field("value_sat", &self.value_sat)
            .field("height", &self.height)
            .field("coinbase", &self.coinbase)
            .field("script_pubkey", &format_args!("{:x}", self.script_pubkey))
            .finish()
    }
}

impl Utxo {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Utxo::Unspent(coin) => {
                put_u32(out, 0);
                put_u64(out, coin.value_sat);
                put_u64(out, coin.height);
                out.push(u8::from(coin.coinbase));
                put_bytes(out, &coin.script_pubkey);
            }
            Utxo::Spent { by } => {
                put_u32(out, 1);
                put(out, by);
            }
            Utxo::Unknown { known_from_height } => {
                put_u32(out, 2);
                put_u64(out, *known_from_height);
            }
        }
    }

    pub(crate) fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u32()? {
            0 => Ok(Utxo::Unspent(Coin {
                value_sat: reader.u64()?,
                height: reader.u64()?,
                coinbase: reader.get()?,
                script_pubkey: Bytes::copy_from_slice(reader.bytes()?),
            })),
            1 => Ok(Utxo::Spent { by: reader.get()? }),
            2 => Ok(Utxo::Unknown { known_from_height: reader.u64()? }),
            number => Err(DecodeError::UnknownVariant { what: "state of an output", number, known: 3 }),
        }
    }
}

/// A confirmed transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The block of the active chain that holds it, if the node knows.
    pub block: Option<BlockRef>,
    /// The transaction.
    pub raw: RawTransaction,
}

/// A block asked for by height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockAt {
    /// The block's hash.
    pub hash: BlockHash,
    /// The block.
    pub raw: RawBlock,
}

/// An unconfirmed transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MempoolTransaction {
    /// Its fee in satoshi, if the node knows it.
    pub fee_sat: Option<u64>,
    /// When the node took it into its mempool, in seconds since 1970, if it knows.
    pub received_at_s: Option<u64>,
    /// The transaction.
    pub raw: RawTransaction,
}

pub(crate) fn put_peers(out: &mut Vec<u8>, peers: &[PeerInfo]) {
    put(out, peers);
}

pub(crate) fn take_peers(reader: &mut Reader<'_>) -> Result<Vec<PeerInfo>, DecodeError> {
    let count = reader.count(PEER_BYTES_MIN)?;
    let mut peers = Vec::with_capacity(count);
    for _ in 0..count {
        peers.push(reader.get()?);
    }
    Ok(peers)
}
