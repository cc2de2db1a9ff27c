//! The embedded chain of the demo, and the block that is imported into it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use bitcoin::{BlockHash, Network};
use modipc_chain::{BlockId, Chain, ChainConfig, ChainStore};
use tempfile::TempDir;

use crate::error::CliError;

/// The height of the block, and its hash. The hash is checked against the bytes when they are imported.
pub(crate) const HEIGHT: u32 = 702_861;
pub(crate) const HASH: &str = "000000000000000000000c835b2adcaedc20fdf6ee440009c249452c726dafae";
const PARENT: &str = "00000000000000000009c3deb8b5e706d7be57a427f4f03f01c49d5219213b5f";

/// The chain, where it is kept, and what was in it.
pub(crate) struct Store {
    pub(crate) chain: Chain,
    pub(crate) anchor: BlockId,
    /// The directory, if it is kept.
    pub(crate) kept: Option<PathBuf>,
    /// Whether the block was there from an earlier run.
    pub(crate) held_block: bool,
    /// Removes the directory, if it is not kept.
    _temporary: Option<TempDir>,
}

/// The block's bytes.
pub(crate) fn block() -> &'static [u8] {
    bitcoin_test_data::blocks::mainnet_702861()
}

/// Opens the chain, anchored below the block. A block that is there from an earlier run is taken away again, so that modules see
/// it come: this is what a node does with a block that another branch replaces.
pub(crate) fn open(data_dir: Option<&Path>) -> Result<Store, CliError> {
    let (directory, temporary) = match data_dir {
        Some(kept) => (kept.to_owned(), None),
        None => {
            let made = tempfile::Builder::new().prefix("modipc-demo-").tempdir();
            let made = made.map_err(|source| CliError::Place {
                what: "make a directory in",
                path: std::env::temp_dir(),
                source,
            })?;
            (made.path().to_owned(), Some(made))
        }
    };
    let what = "make the directory";
    std::fs::create_dir_all(&directory).map_err(|source| CliError::Place {
        what,
        path: directory.clone(),
        source,
    })?;
    let (anchor, block) = (known(HEIGHT - 1, PARENT), known(HEIGHT, HASH));
    let store =
        ChainStore::open_or_create(directory.join("chain"), &ChainConfig::new(Network::Bitcoin, anchor))?;
    let held_block = store.tip() == block;
    if held_block {
        store.disconnect_tip()?;
    } else if store.tip() != anchor {
        return Err(CliError::OtherChain { path: directory, tip: store.tip().to_string() });
    }
    let kept = data_dir.map(Path::to_owned);
    Ok(Store { chain: Chain::new(store), anchor, kept, held_block, _temporary: temporary })
}

#[allow(clippy::expect_used, reason = "the constants above; a test parses them")]
fn known(height: u32, hash: &str) -> BlockId {
    BlockId { height, hash: BlockHash::from_str(hash).expect("64 hexadecimal digits") }
}

#[cfg(test)]
mod tests {
    use bitcoin::block::Header;
    use bitcoin::consensus::encode::deserialize;

    use super::*;

    #[test]
    fn the_constants_are_those_of_the_block() {
        let header: Header = deserialize(&block()[..80]).unwrap();
        assert_eq!(known(HEIGHT, HASH).hash, header.block_hash());
        assert_eq!(known(HEIGHT - 1, PARENT).hash, header.prev_blockhash);
    }

    #[test]
    fn a_second_run_finds_the_block_and_takes_it_away() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(Some(dir.path())).unwrap();
        assert!(!first.held_block);
        first.chain.import_blocking(block()).unwrap();
        drop(first);
        let second = open(Some(dir.path())).unwrap();
        assert!(second.held_block);
        assert_eq!(second.chain.store().tip(), second.anchor);
        second.chain.import_blocking(block()).unwrap();
    }

    #[test]
    fn a_temporary_directory_goes_with_the_store() {
        let store = open(None).unwrap();
        let directory = store._temporary.as_ref().unwrap().path().to_owned();
        assert!(directory.join("chain").is_dir());
        drop(store);
        assert!(!directory.exists());
    }

    #[test]
    fn another_chain_is_refused_with_its_tip() {
        let dir = tempfile::tempdir().unwrap();
        let config = ChainConfig::from_genesis(Network::Regtest);
        drop(ChainStore::open_or_create(dir.path().join("chain"), &config).unwrap());
        let Err(error) = open(Some(dir.path())) else { panic!("another chain was opened") };
        assert_eq!(error.exit_code(), crate::error::exit::DATA, "{error}");
    }
}
