//! Facts about a block, from its raw bytes and a hash function alone: nothing here is shared with what is tested.

use std::collections::BTreeSet;

use bitcoin::hashes::{Hash, sha256d};

/// What the bytes say.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) hash: String,
    pub(crate) time_s: u32,
    pub(crate) transactions: u64,
    pub(crate) with_witness: u64,
    pub(crate) inputs: u64,
    pub(crate) outputs: u64,
    pub(crate) size: u64,
    pub(crate) weight: u64,
    pub(crate) coinbase_sat: u64,
    pub(crate) root_stated: String,
    pub(crate) root_computed: String,
    /// Inputs whose output the block itself creates, and the others.
    pub(crate) spent_inside: u64,
    pub(crate) spent_older: u64,
    pub(crate) coinbase_txid: String,
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let taken = &self.bytes[self.at..self.at + n];
        self.at += n;
        taken
    }

    fn number(&mut self, n: usize) -> u64 {
        self.take(n).iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }

    fn compact(&mut self) -> u64 {
        match self.number(1) {
            0xfd => self.number(2),
            0xfe => self.number(4),
            0xff => self.number(8),
            small => small,
        }
    }

    fn text(&mut self) -> &'a [u8] {
        let length = self.compact() as usize;
        self.take(length)
    }
}

struct Tx {
    txid: [u8; 32],
    /// Transaction ids of the outputs that it spends.
    spends: Vec<[u8; 32]>,
    outputs_sat: Vec<u64>,
    stripped: u64,
    witness: bool,
}

fn transaction(cursor: &mut Cursor<'_>) -> Tx {
    let mut stripped = cursor.take(4).to_vec();
    let segwit = cursor.bytes[cursor.at] == 0;
    if segwit {
        assert_eq!(cursor.take(2), [0, 1], "marker and flag");
    }
    let body = cursor.at;
    let inputs = cursor.compact();
    let mut spends = Vec::new();
    for _ in 0..inputs {
        spends.push(cursor.take(32).try_into().expect("32 bytes"));
        cursor.take(4);
        cursor.text();
        cursor.take(4);
    }
    let outputs_sat = (0..cursor.compact())
        .map(|_| {
            let value = cursor.number(8);
            cursor.text();
            value
        })
        .collect();
    stripped.extend_from_slice(&cursor.bytes[body..cursor.at]);
    let mut witness = false;
    if segwit {
        for _ in 0..inputs {
            let items = cursor.compact();
            witness |= items > 0;
            for _ in 0..items {
                cursor.text();
            }
        }
    }
    stripped.extend_from_slice(cursor.take(4));
    let txid = sha256d::Hash::hash(&stripped).to_byte_array();
    Tx { txid, spends, outputs_sat, stripped: stripped.len() as u64, witness }
}

fn root(mut row: Vec<[u8; 32]>) -> [u8; 32] {
    while row.len() > 1 {
        row = row
            .chunks(2)
            .map(|pair| {
                sha256d::Hash::hash(&[pair[0], *pair.last().expect("one at least")].concat()).to_byte_array()
            })
            .collect();
    }
    row[0]
}

/// As explorers show a hash.
fn shown(hash: &[u8]) -> String {
    hash.iter().rev().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a block to its last byte.
pub(crate) fn facts(bytes: &[u8]) -> Facts {
    let mut cursor = Cursor { bytes, at: 80 };
    let count = cursor.compact();
    let prefix = cursor.at as u64;
    let transactions: Vec<Tx> = (0..count).map(|_| transaction(&mut cursor)).collect();
    assert_eq!(cursor.at, bytes.len(), "bytes are left over");
    let own: BTreeSet<[u8; 32]> = transactions.iter().map(|tx| tx.txid).collect();
    let spends: Vec<&[u8; 32]> = transactions.iter().skip(1).flat_map(|tx| &tx.spends).collect();
    let inside = spends.iter().filter(|txid| own.contains(**txid)).count() as u64;
    let stripped = prefix + transactions.iter().map(|tx| tx.stripped).sum::<u64>();
    let size = bytes.len() as u64;
    Facts {
        hash: shown(sha256d::Hash::hash(&bytes[..80]).as_byte_array()),
        time_s: u32::from_le_bytes(bytes[68..72].try_into().expect("four bytes")),
        transactions: count,
        with_witness: transactions.iter().filter(|tx| tx.witness).count() as u64,
        inputs: spends.len() as u64,
        outputs: transactions.iter().map(|tx| tx.outputs_sat.len() as u64).sum(),
        size,
        weight: 3 * stripped + size,
        coinbase_sat: transactions[0].outputs_sat.iter().sum(),
        root_stated: shown(&bytes[36..68]),
        root_computed: shown(&root(transactions.iter().map(|tx| tx.txid).collect())),
        spent_inside: inside,
        spent_older: spends.len() as u64 - inside,
        coinbase_txid: shown(&transactions[0].txid),
    }
}
