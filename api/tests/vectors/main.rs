//! The bodies of docs/vectors, which an independent encoder wrote: each decodes to the value that is written out here,
//! and that value encodes to the same bytes. So do the headers and the handshake in front of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, helpers too"
)]

mod events;
mod files;
mod frames;
mod invalid;
mod others;
mod requests;
mod responses;

use modipc_api::{BlockHash, Txid};

/// 32 bytes counting up.
fn counting(first: u8) -> [u8; 32] {
    std::array::from_fn(|i| first.wrapping_add(i as u8))
}

fn block_hash(first: u8) -> BlockHash {
    BlockHash::from_bytes(counting(first))
}

fn txid(first: u8) -> Txid {
    Txid::from_bytes(counting(first))
}

/// Bytes 0, 1 … 250, 0, 1 …
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

/// Not a transaction, but what the vectors carry in its place.
fn raw_transaction() -> modipc_api::RawTransaction {
    modipc_api::RawTransaction::new([&[2, 0, 0, 0, 1, 0xff][..], &pattern(20)].concat().into())
}
