//! Opening, creating and importing.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use bitcoin::block::Header;
use bitcoin::consensus::encode::serialize;
use bitcoin::p2p::Magic;
use bitcoin::{Amount, Network};
use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};

use crate::block::ParsedBlock;
use crate::check;
use crate::connect::{self, Place, Refusal};
use crate::error::{BlockFault, ImportError, OpenError, StoreError};
use crate::tables::{self, SCHEMA};
use crate::{BlockId, rules};

/// What a store is about, and how it is to be held open.
#[derive(Clone, Debug)]
pub struct ChainConfig {
    /// The network whose blocks it takes.
    pub network: Network,
    /// The block below the first one that can be imported.
    pub anchor: BlockId,
    /// Memory that the database engine may use for its cache, in bytes. 64 MiB unless changed.
    pub cache_bytes: usize,
    /// Whether opening reads the whole file and checks each page's checksum. On unless changed.
    ///
    /// With it off, opening a large store is instant, and a file that was altered from outside may be noticed
    /// late or not at all. A crash needs no check: commits are atomic either way.
    pub check_on_open: bool,
}

impl ChainConfig {
    /// A store that begins above `anchor`.
    #[must_use]
    pub fn new(network: Network, anchor: BlockId) -> Self {
        Self { network, anchor, cache_bytes: 64 * 1024 * 1024, check_on_open: true }
    }

    /// A store that begins with the genesis block, which it then holds.
    #[must_use]
    pub fn from_genesis(network: Network) -> Self {
        Self::new(network, BlockId::genesis(network))
    }
}

/// What an import found out about its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The block, which is the tip now.
    pub block: BlockId,
    /// Its header.
    pub header: Header,
    /// Number of transactions, the coinbase included.
    pub transactions: u32,
    /// Length of the raw block, in bytes.
    pub bytes: u64,
    /// Its weight, in weight units.
    pub weight: u64,
    /// Outputs that can be spent from now on.
    pub outputs_created: u32,
    /// Inputs whose output this store held.
    pub inputs_known: u32,
    /// Inputs whose output is older than the anchor, so that neither their existence nor their value was checked.
    pub inputs_unknown: u32,
    /// What the block may newly create.
    pub subsidy: Amount,
    /// Sum of the coinbase's outputs.
    pub coinbase_paid: Amount,
    /// Sum of the fees by inputs less outputs: `None` if an input is unknown.
    pub fees: Option<Amount>,
}

impl Imported {
    /// Fees as the coinbase claims them: what it pays less the subsidy. `None` if it pays less than the subsidy.
    #[must_use]
    pub fn fees_claimed(&self) -> Option<Amount> {
        self.coinbase_paid.checked_sub(self.subsidy)
    }
}

/// A chain in one directory: see the crate's documentation.
///
/// Dropping it closes it. There is nothing to flush: what was imported is on the disk.
#[derive(Debug)]
pub struct ChainStore {
    // Before the lock, so that the file is closed when the next owner may come.
    db: Database,
    pub(crate) path: PathBuf,
    pub(crate) network: Network,
    pub(crate) anchor: BlockId,
    /// The committed tip. It follows the commit, so a reader may see the new block before the new tip.
    tip: RwLock<Tip>,
    /// Held while importing.
    writer: Mutex<()>,
    _lock: Option<File>,
}

/// The newest block. Of the anchor only height and hash are known, so it has no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tip {
    pub(crate) block: BlockId,
    pub(crate) header: Option<Header>,
}

const FILE: &str = "chain.redb";
const FILE_BEING_MADE: &str = "chain.redb.new";
const LOCK: &str = "lock";

impl ChainStore {
    /// Opens the store in directory `path`. It must be of the network and the anchor of `config`.
    ///
    /// # Errors
    /// [`OpenError`]: missing, in use, of another schema, network or anchor, corrupt, read-only, or any
    /// refusal of the system. The store is as it was.
    pub fn open(path: impl AsRef<Path>, config: &ChainConfig) -> Result<Self, OpenError> {
        let path = path.as_ref();
        check_anchor(config)?;
        match path.join(FILE).try_exists() {
            Ok(true) => {}
            Ok(false) => return Err(OpenError::Missing { path: path.to_owned() }),
            Err(error) => return Err(StoreError::io(path, error).into()),
        }
        let lock = lock(path)?;
        let db = open_file(path, config)?;
        Self::from_database(db, path, config, Some(lock))
    }

    /// Opens the store in directory `path`, or makes the directory and an empty store in it.
    ///
    /// A new store appears whole or not at all, whenever the process or the machine stops.
    ///
    /// # Errors
    /// As [`Self::open`], except for [`OpenError::Missing`].
    pub fn open_or_create(path: impl AsRef<Path>, config: &ChainConfig) -> Result<Self, OpenError> {
        let path = path.as_ref();
        check_anchor(config)?;
        let io = |error| StoreError::io(path, error);
        fs::create_dir_all(path).map_err(io)?;
        let lock = lock(path)?;
        if !path.join(FILE).try_exists().map_err(io)? {
            create_file(path, config)?;
        }
        let db = open_file(path, config)?;
        Self::from_database(db, path, config, Some(lock))
    }

    /// The store's network.
    #[must_use]
    pub fn network(&self) -> Network {
        self.network
    }

    /// The block below the first one that can be imported.
    #[must_use]
    pub fn anchor(&self) -> BlockId {
        self.anchor
    }

    /// The newest block; the anchor while nothing was imported. Answered from memory.
    #[must_use]
    pub fn tip(&self) -> BlockId {
        self.tip_and_header().block
    }

    /// The header of the newest block; `None` while that is the anchor, unless it is the genesis block. Answered
    /// from memory.
    #[must_use]
    pub fn tip_header(&self) -> Option<Header> {
        self.tip_and_header().header
    }

    pub(crate) fn tip_and_header(&self) -> Tip {
        *self.tip.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a raw block, writes it into all tables in one durable transaction, and makes it the tip.
    ///
    /// When this returns, the block is on the disk as far as the system's `fsync` can be trusted. If the process or
    /// machine stops before, the block is there whole or not at all. Imports from several threads queue.
    ///
    /// # Errors
    /// [`ImportError`]: already here, not on the tip, a rule is broken: nothing of the block is there. If the disk
    /// refused ([`ImportError::Store`]), nothing of it is visible here, and after reopening it is there whole or,
    /// nearly always, not at all.
    pub fn import(&self, raw: &[u8]) -> Result<Imported, ImportError> {
        self.import_above(raw).map(|(imported, _parent)| imported)
    }

    /// [`Self::import`], with the tip that the block was put upon.
    pub(crate) fn import_above(&self, raw: &[u8]) -> Result<(Imported, Tip), ImportError> {
        let parsed = ParsedBlock::decode(raw).map_err(|fault| ImportError::Invalid { hash: None, fault })?;
        let invalid = |fault| ImportError::Invalid { hash: Some(parsed.hash), fault };
        check::work(&parsed.block.header, self.network).map_err(invalid)?;

        let _writer = self.lock_writer();
        let parent = self.tip_and_header();
        let height = self.next_height(&parsed)?;
        let body = check::body(&parsed, height, self.network).map_err(invalid)?;

        let txn = begin_write(&self.db, &self.path)?;
        let place = Place { path: &self.path, network: self.network, anchor: self.anchor, height };
        let spent = connect::connect(&txn, &place, &parsed, &body).map_err(|refusal| match refusal {
            Refusal::Fault(fault) => invalid(fault),
            Refusal::Store(error) => error.into(),
        })?;
        txn.commit().map_err(|error| StoreError::engine(&self.path, error))?;

        let block = BlockId { height, hash: parsed.hash };
        let header = parsed.block.header;
        self.set_tip(Tip { block, header: Some(header) });
        let imported = Imported {
            block,
            header,
            transactions: parsed.spans.len() as u32,
            bytes: raw.len() as u64,
            weight: body.weight,
            outputs_created: spent.created,
            inputs_known: spent.known,
            inputs_unknown: spent.unknown,
            subsidy: rules::subsidy(self.network, height),
            coinbase_paid: body.paid.first().copied().unwrap_or(Amount::ZERO),
            fees: spent.fees,
        };
        Ok((imported, parent))
    }

    /// The height that the block gets, if it follows the tip.
    fn next_height(&self, parsed: &ParsedBlock<'_>) -> Result<u32, ImportError> {
        let tip = self.tip();
        let parent = parsed.block.header.prev_blockhash;
        let hash = parsed.hash;
        if parent == tip.hash {
            // Heights end where 32 bits do, some 80,000 years from now.
            return tip.height.checked_add(1).ok_or(ImportError::NotOnTip { hash, parent, tip });
        }
        if hash == self.anchor.hash {
            return Err(ImportError::AlreadyHave { block: self.anchor });
        }
        match self.header(&hash)? {
            Some(stored) => Err(ImportError::AlreadyHave { block: stored.block }),
            None => Err(ImportError::NotOnTip { hash, parent, tip }),
        }
    }

    pub(crate) fn database(&self) -> &Database {
        &self.db
    }

    pub(crate) fn set_tip(&self, tip: Tip) {
        *self.tip.write().unwrap_or_else(PoisonError::into_inner) = tip;
    }

    pub(crate) fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        self.db.begin_read().map_err(|error| StoreError::engine(&self.path, error))
    }

    /// A panic while importing leaves nothing half done in memory, so a poisoned lock is as good as any.
    pub(crate) fn lock_writer(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an open database whose meta table exists.
    pub(crate) fn from_database(
        db: Database,
        path: &Path,
        config: &ChainConfig,
        lock: Option<File>,
    ) -> Result<Self, OpenError> {
        let meta = Meta::read(&db, path)?;
        let path = path.to_owned();
        let (network, anchor) = (config.network, config.anchor);
        if meta.network != network {
            return Err(OpenError::OtherNetwork { path, found: meta.network, wanted: network });
        }
        if meta.anchor != anchor {
            return Err(OpenError::OtherAnchor { path, found: meta.anchor, wanted: anchor });
        }
        let tip = RwLock::new(Tip { block: meta.tip, header: None });
        let store = Self { db, path, network, anchor, tip, writer: Mutex::new(()), _lock: lock };
        let header = store.header(&meta.tip.hash)?.map(|stored| stored.header);
        if header.is_none() && meta.tip != anchor {
            return Err(store.corrupt(format!("the newest block {} has no header", meta.tip)).into());
        }
        store.set_tip(Tip { block: meta.tip, header });
        Ok(store)
    }
}

/// The meta table.
struct Meta {
    network: Network,
    anchor: BlockId,
    tip: BlockId,
}

impl Meta {
    fn read(db: &Database, path: &Path) -> Result<Self, OpenError> {
        let engine = |error: redb::Error| StoreError::engine(path, error);
        let table = (|| Ok(db.begin_read()?.open_table(tables::META)?))().map_err(engine)?;
        let get = |key: &str| match table.get(key) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(StoreError::corrupt(path, format!("its meta table has no `{key}`"))),
            Err(error) => Err(engine(error.into())),
        };
        let bad = |key: &str| StoreError::corrupt(path, format!("`{key}` in its meta table does not decode"));

        // The schema first: nothing else can be trusted to mean what it meant.
        let schema = get(tables::META_SCHEMA)?;
        let found = u32::from_le_bytes(schema.value().try_into().map_err(|_| bad(tables::META_SCHEMA))?);
        if found != SCHEMA {
            return Err(OpenError::Schema { path: path.to_owned(), found, known: SCHEMA });
        }
        let magic: [u8; 4] =
            get(tables::META_NETWORK)?.value().try_into().map_err(|_| bad(tables::META_NETWORK))?;
        let network =
            Network::from_magic(Magic::from_bytes(magic)).ok_or_else(|| bad(tables::META_NETWORK))?;
        let block = |key| BlockId::from_bytes(get(key)?.value()).ok_or_else(|| bad(key));
        Ok(Self { network, anchor: block(tables::META_ANCHOR)?, tip: block(tables::META_TIP)? })
    }
}

/// An anchor at height 0 can only be the genesis block.
fn check_anchor(config: &ChainConfig) -> Result<(), OpenError> {
    let genesis = BlockId::genesis(config.network).hash;
    if config.anchor.height == 0 && config.anchor.hash != genesis {
        let hash = config.anchor.hash;
        return Err(OpenError::NotGenesis { hash, network: config.network, genesis });
    }
    Ok(())
}

/// One owner for a directory, from before its database file exists. The lock goes with the process.
fn lock(path: &Path) -> Result<File, OpenError> {
    let io = |error| StoreError::io(path, error);
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).open(path.join(LOCK)).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io(error).into()),
    }
}

fn open_file(path: &Path, config: &ChainConfig) -> Result<Database, OpenError> {
    let builder = builder(config);
    guarded(path, || builder.open(path.join(FILE)))
}

/// Makes the file under another name and moves it into place once it is complete.
fn create_file(path: &Path, config: &ChainConfig) -> Result<(), OpenError> {
    let io = |error| StoreError::io(path, error);
    let unfinished = path.join(FILE_BEING_MADE);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error).into()),
        _ => {}
    }
    let builder = builder(config);
    let db = guarded(path, || builder.create(&unfinished))?;
    initialise(&db, path, config)?;
    db.close().map_err(|error| StoreError::engine(path, error))?;
    fs::rename(&unfinished, path.join(FILE)).map_err(io)?;
    // The new name is durable only when the directory is.
    File::open(path).and_then(|directory| directory.sync_all()).map_err(io)?;
    Ok(())
}

pub(crate) fn builder(config: &ChainConfig) -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(config.cache_bytes);
    builder.set_check_integrity_on_open(config.check_on_open);
    builder
}

/// Opens a database with the engine's errors translated.
///
/// The engine asserts some properties of a file instead of checking them. A file that violates one is corrupt,
/// which is an answer and no reason to stop the process.
pub(crate) fn guarded(
    path: &Path,
    open: impl FnOnce() -> Result<Database, redb::DatabaseError>,
) -> Result<Database, OpenError> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(open)) {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(redb::DatabaseError::DatabaseAlreadyOpen)) => Err(OpenError::InUse { path: path.to_owned() }),
        Ok(Err(error)) => Err(StoreError::engine(path, error).into()),
        Err(_) => Err(StoreError::corrupt(path, "the database engine gave up on it").into()),
    }
}

/// Begins a transaction that is durable once it is committed.
///
/// Blocks come from strangers, and the engine's single-phase commit trusts a checksum that a stranger who
/// writes the data could forge; its two-phase commit does not, for one more `fsync` per block.
pub(crate) fn begin_write(db: &Database, path: &Path) -> Result<WriteTransaction, StoreError> {
    let mut txn = db.begin_write().map_err(|error| StoreError::engine(path, error))?;
    txn.set_two_phase_commit(true);
    Ok(txn)
}

/// Makes all tables, so that a reader finds each of them, and stores the genesis block if that is the anchor.
pub(crate) fn initialise(db: &Database, path: &Path, config: &ChainConfig) -> Result<(), StoreError> {
    let txn = begin_write(db, path)?;
    make_tables(&txn, config).map_err(|error| StoreError::engine(path, error))?;
    if config.anchor.height == 0 {
        let raw = serialize(&bitcoin::constants::genesis_block(config.network));
        let place = Place { path, network: config.network, anchor: config.anchor, height: 0 };
        let connected = ParsedBlock::decode(&raw).map_err(Refusal::from).and_then(|parsed| {
            let body = check::body(&parsed, 0, config.network)?;
            connect::connect(&txn, &place, &parsed, &body)
        });
        match connected {
            Ok(_) => {}
            Err(Refusal::Store(error)) => return Err(error),
            Err(Refusal::Fault(fault)) => return Err(genesis_refused(path, &fault)),
        }
    }
    txn.commit().map_err(|error| StoreError::engine(path, error))
}

fn make_tables(txn: &WriteTransaction, config: &ChainConfig) -> Result<(), redb::Error> {
    txn.open_table(tables::BLOCKS)?;
    txn.open_table(tables::HEIGHTS)?;
    txn.open_table(tables::HEADERS)?;
    txn.open_table(tables::TRANSACTIONS)?;
    txn.open_table(tables::UTXOS)?;
    txn.open_table(tables::SPENDS)?;
    let mut meta = txn.open_table(tables::META)?;
    meta.insert(tables::META_SCHEMA, SCHEMA.to_le_bytes().as_slice())?;
    meta.insert(tables::META_NETWORK, config.network.magic().to_bytes().as_slice())?;
    meta.insert(tables::META_ANCHOR, config.anchor.to_bytes().as_slice())?;
    meta.insert(tables::META_TIP, config.anchor.to_bytes().as_slice())?;
    Ok(())
}

fn genesis_refused(path: &Path, fault: &BlockFault) -> StoreError {
    StoreError::Engine { path: path.to_owned(), detail: format!("the genesis block was refused: {fault}") }
}
