//! What can go wrong, one small type for each operation.
//!
//! Every message says what happened, to which file or block, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use bitcoin::{BlockHash, Network, OutPoint, TxMerkleNode, Txid};

use crate::BlockId;

/// Why a chain store could not be opened. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no chain store in this directory.
    #[error("no chain store in {}: create one there, which needs a network and an anchor", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// Another process, or another handle of this one, has the store open.
    #[error("the chain store in {} is in use: stop the process that has it open, or use another directory", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The store was written by another version of this crate.
    #[error(
        "the chain store in {} has schema {found}, this program knows only schema {known}: use the program \
         that wrote it, or import the blocks into a new directory", path.display()
    )]
    Schema {
        /// The directory.
        path: PathBuf,
        /// The schema number in the file.
        found: u32,
        /// The only schema number that this version reads.
        known: u32,
    },
    /// The store holds blocks of another network.
    #[error("the chain store in {} is of {found}, not of {wanted}: use another directory", path.display())]
    OtherNetwork {
        /// The directory.
        path: PathBuf,
        /// The store's network.
        found: Network,
        /// The network that was asked for.
        wanted: Network,
    },
    /// The store begins somewhere else.
    #[error("the chain store in {} is anchored at {found}, not at {wanted}: use another directory", path.display())]
    OtherAnchor {
        /// The directory.
        path: PathBuf,
        /// The store's anchor.
        found: BlockId,
        /// The anchor that was asked for.
        wanted: BlockId,
    },
    /// Height 0 was named with a hash that is not the network's genesis block.
    #[error("{hash} is not the genesis block of {network}, which is {genesis}: correct the anchor")]
    NotGenesis {
        /// The hash that was given for height 0.
        hash: BlockHash,
        /// The network.
        network: Network,
        /// The network's genesis block.
        genesis: BlockHash,
    },
    /// The disk or the database engine refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The disk, the database engine or the content of the file is at fault.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is no database, or its content contradicts itself.
    #[error(
        "the chain store in {} is corrupt: {detail}; restore a copy, or import the blocks into a new directory",
        path.display()
    )]
    Corrupt {
        /// The directory.
        path: PathBuf,
        /// What does not fit.
        detail: String,
    },
    /// No room is left. What was being written has no effect.
    #[error("no room left for the chain store in {}: make room on that file system, then reopen", path.display())]
    Full {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The place cannot be written to.
    #[error(
        "the chain store in {} cannot be written: mount the file system writable, or give this user the right",
        path.display()
    )]
    ReadOnly {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An earlier write failed, and the engine answers nothing until it has recovered.
    #[error("the chain store in {} stopped after a failed write: reopen it", path.display())]
    Stopped {
        /// The directory.
        path: PathBuf,
    },
    /// Any other refusal of the system.
    #[error("the chain store in {}: {source}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database engine refused in a way that this crate does not provoke.
    #[error("the chain store in {}: the database engine says: {detail}", path.display())]
    Engine {
        /// The directory.
        path: PathBuf,
        /// What the engine said.
        detail: String,
    },
}

impl StoreError {
    pub(crate) fn corrupt(path: &Path, detail: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), detail: detail.into() }
    }

    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full { path, source }
            }
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                Self::ReadOnly { path, source }
            }
            // The engine meets these when the file is shorter than its header says, or is no database.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
                Self::Corrupt { path, detail: source.to_string() }
            }
            _ => Self::Io { path, source },
        }
    }

    pub(crate) fn engine(path: &Path, error: impl Into<redb::Error>) -> Self {
        let path = path.to_owned();
        match error.into() {
            redb::Error::Io(source) => Self::io(&path, source),
            redb::Error::PreviousIo | redb::Error::DatabaseClosed => Self::Stopped { path },
            redb::Error::Corrupted(detail) => Self::Corrupt { path, detail },
            // Each of these means that a table is not as this crate writes it.
            error @ (redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. }
            | redb::Error::TableDoesNotExist(_)) => Self::Corrupt { path, detail: error.to_string() },
            other => Self::Engine { path, detail: other.to_string() },
        }
    }
}

/// Why a block was not imported. The store is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The store has this block: there is nothing to do.
    #[error("block {block} is already here")]
    AlreadyHave {
        /// The block.
        block: BlockId,
    },
    /// The block does not follow the newest one. Blocks are imported in order.
    #[error(
        "block {hash} follows {parent}, but the newest block is {tip}: import the blocks in between first, or, if it is \
         of another branch, take the newest blocks away down to the fork"
    )]
    NotOnTip {
        /// The block.
        hash: BlockHash,
        /// The block that its header names as its parent.
        parent: BlockHash,
        /// The newest block of the store.
        tip: BlockId,
    },
    /// The block breaks a rule that is checked here.
    #[error("{}: {fault}; get it from another source", BlockName(*.hash))]
    Invalid {
        /// The block, unless its bytes are no block.
        hash: Option<BlockHash>,
        /// The rule.
        fault: BlockFault,
    },
    /// The disk or the database engine refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the newest block was not removed. The store is as it was.
#[derive(Debug, thiserror::Error)]
pub enum DisconnectError {
    /// There is no block above the anchor.
    #[error("the newest block is the anchor {anchor}, below which this store has nothing")]
    AtAnchor {
        /// The anchor.
        anchor: BlockId,
    },
    /// The disk or the database engine refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

struct BlockName(Option<BlockHash>);

impl std::fmt::Display for BlockName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(hash) => write!(f, "block {hash} is invalid"),
            None => f.write_str("these bytes are no block"),
        }
    }
}

/// The rule that a block breaks: one variant for each check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockFault {
    /// Longer than any block may be; it was not read.
    #[error("{bytes} bytes are more than the 4000000 that a block can have")]
    TooLong {
        /// The length that came.
        bytes: u64,
    },
    /// The bytes end inside a field.
    #[error("the bytes end inside the {what} that begins at byte {offset}")]
    Truncated {
        /// The part of the block.
        what: &'static str,
        /// Where that part begins.
        offset: u32,
    },
    /// A field does not decode.
    #[error("the {what} at byte {offset} does not decode: {reason}")]
    Malformed {
        /// The part of the block.
        what: &'static str,
        /// Where that part begins.
        offset: u32,
        /// What the decoder said.
        reason: String,
    },
    /// Bytes are left over after the last transaction.
    #[error("{bytes} bytes are left over after the last transaction")]
    TrailingBytes {
        /// How many.
        bytes: u64,
    },
    /// The header's target is negative, zero, out of range or not in its shortest form.
    #[error("the target 0x{bits:08x} is not a valid one")]
    BadTarget {
        /// The header's field.
        bits: u32,
    },
    /// The header's target is easier than the network allows.
    #[error("the target 0x{bits:08x} is easier than the network's limit 0x{limit:08x}")]
    TargetTooEasy {
        /// The header's field.
        bits: u32,
        /// The network's easiest target.
        limit: u32,
    },
    /// The hash does not meet the header's own target.
    #[error("its hash does not meet its target 0x{bits:08x}")]
    NoProofOfWork {
        /// The header's field.
        bits: u32,
    },
    /// There is no transaction.
    #[error("it has no transaction")]
    NoTransactions,
    /// The first transaction is not a coinbase.
    #[error("its first transaction is not a coinbase")]
    FirstIsNotCoinbase,
    /// A transaction after the first has an input that spends nothing.
    #[error("transaction {index} has an input that spends nothing, which only the first may have")]
    NullInput {
        /// Place in the block.
        index: u32,
    },
    /// A transaction has no inputs or no outputs.
    #[error("transaction {index} has no {what}")]
    Empty {
        /// Place in the block.
        index: u32,
        /// `"inputs"` or `"outputs"`.
        what: &'static str,
    },
    /// The coinbase's script is shorter than 2 or longer than 100 bytes.
    #[error("the coinbase's script has {bytes} bytes instead of 2 to 100")]
    CoinbaseScript {
        /// Its length.
        bytes: u64,
    },
    /// The coinbase states another height than the one after the tip (BIP 34).
    #[error("its coinbase does not begin with the height {height}: the anchor's height may be wrong")]
    CoinbaseHeight {
        /// The height that the block would get.
        height: u32,
    },
    /// A transaction is there twice.
    #[error("transaction {txid} is in it twice")]
    DuplicateTransaction {
        /// The transaction.
        txid: Txid,
    },
    /// An output is spent twice in this block.
    #[error("output {outpoint} is spent in it twice")]
    DuplicateInput {
        /// The output.
        outpoint: OutPoint,
    },
    /// An output, or a sum of them, exceeds 21 million bitcoin.
    #[error("transaction {txid} has outputs of more than 21 million bitcoin")]
    TooMuchMoney {
        /// The transaction.
        txid: Txid,
    },
    /// The header does not commit to these transactions.
    #[error("the header's merkle root is {header}, that of the transactions is {computed}")]
    MerkleRoot {
        /// From the header.
        header: TxMerkleNode,
        /// From the transactions.
        computed: TxMerkleNode,
    },
    /// There are witnesses, and nothing commits to them.
    #[error("it has witnesses, but its coinbase does not commit to them")]
    UncommittedWitness,
    /// The coinbase commits to witnesses, but its own witness is not the one 32-byte value that belongs to it.
    /// A block that was served without its witnesses looks like this.
    #[error(
        "its coinbase commits to witnesses but lacks the 32-byte reserved value: perhaps they were cut off"
    )]
    WitnessReservedValue,
    /// The coinbase commits to other witnesses.
    #[error("its coinbase commits to other witnesses than it has")]
    WitnessCommitment,
    /// Heavier than any block may be.
    #[error("its weight of {weight} is more than 4000000")]
    TooHeavy {
        /// Its weight.
        weight: u64,
    },
    /// A transaction of this id is in an earlier block.
    #[error("transaction {txid} is already in block {height}")]
    KnownTransaction {
        /// The transaction.
        txid: Txid,
        /// The block that has it.
        height: u32,
    },
    /// An output is spent that was spent before.
    #[error("output {outpoint} was already spent in block {height}")]
    AlreadySpent {
        /// The output.
        outpoint: OutPoint,
        /// The block that spent it.
        height: u32,
    },
    /// An output is spent that does not exist or can never be spent.
    #[error("output {outpoint} does not exist or cannot be spent")]
    NoSuchOutput {
        /// The output.
        outpoint: OutPoint,
    },
    /// A transaction spends an output of a later transaction.
    #[error("output {outpoint} is spent before the transaction that creates it")]
    SpentBeforeCreated {
        /// The output.
        outpoint: OutPoint,
    },
    /// A transaction pays out more than its inputs bring, all of which are known.
    #[error("transaction {txid} spends {outputs_sat} satoshi but has only {inputs_sat}")]
    Overspent {
        /// The transaction.
        txid: Txid,
        /// Sum of its inputs, in satoshi.
        inputs_sat: u64,
        /// Sum of its outputs, in satoshi.
        outputs_sat: u64,
    },
    /// The coinbase takes more than subsidy and fees, which are all known.
    #[error("its coinbase takes {taken_sat} satoshi, subsidy and fees are {allowed_sat}")]
    CoinbaseOverpaid {
        /// Sum of the coinbase's outputs, in satoshi.
        taken_sat: u64,
        /// Subsidy and fees, in satoshi.
        allowed_sat: u64,
    },
}
