//! A chain store for modules and tests: raw blocks, header index, transaction index and UTXO set in one
//! crash-safe file.
//!
//! It is **not a consensus node**. It checks what a block says about itself (proof of work against its own
//! target, merkle root, witness commitment) and that it does not spend what cannot be there, but neither
//! scripts nor the difficulty that the chain's history asks for; it knows one branch and no peers. Whoever
//! feeds it decides what the best chain is. `docs/chain.md` lists what is checked and what is not.
//!
//! A store begins at an *anchor*, the block below the first one that can be imported. What is older than
//! the anchor is unknown, and every answer says so instead of guessing: see [`Utxo`].
//!
//! ```no_run
//! use modipc_chain::{BlockId, ChainConfig, ChainStore};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = ChainConfig::from_genesis(bitcoin::Network::Regtest);
//! let store = ChainStore::open_or_create("chain", &config)?;
//! let imported = store.import(&std::fs::read("block.raw")?)?;
//! println!("{} has {} transactions", imported.block, imported.transactions);
//! # Ok(())
//! # }
//! ```
//!
//! [`ChainStore`] is synchronous and belongs to no executor. All its reads may run at once, also beside an
//! import; imports queue. [`Chain`] is the same store as a node that modules can ask.

#![forbid(unsafe_code)]

mod block;
mod chain;
mod check;
mod connect;
mod disconnect;
mod error;
mod id;
#[cfg(test)]
mod power_loss;
mod query;
mod rules;
mod store;
mod tables;
mod verify;

pub mod regtest;

pub use crate::chain::{Chain, KNOWN_FROM_HEIGHT, events_of_failure};
pub use crate::error::{BlockFault, DisconnectError, ImportError, OpenError, StoreError};
pub use crate::id::BlockId;
pub use crate::query::{StoredHeader, StoredTransaction, Unspent, Utxo};
pub use crate::rules::{BLOCK_WEIGHT_MAX, subsidy};
pub use crate::store::{ChainConfig, ChainStore, Imported};
pub use crate::verify::Verified;
