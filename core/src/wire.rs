//! Reading and writing of the fixed layout (PROTOCOL.md, section 9), for the few bodies that the connection itself reads.
//!
//! A read that does not fit is `None`; nothing is allocated by a length that the peer claims.

use alloc::string::String;
use alloc::vec::Vec;

/// A cursor over received bytes.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A byte string with its `u64` length, at most `max` bytes.
    pub(crate) fn bytes(&mut self, max: usize) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u64()?).ok().filter(|len| *len <= max)?;
        self.take(len)
    }

    /// A string with its `u64` length, at most `max` bytes of UTF-8.
    pub(crate) fn string(&mut self, max: usize) -> Option<&'a str> {
        core::str::from_utf8(self.bytes(max)?).ok()
    }

    /// A sequence of at most `count_max` strings of at most `max` bytes each.
    pub(crate) fn strings(&mut self, count_max: usize, max: usize) -> Option<Vec<String>> {
        let count = usize::try_from(self.u64()?).ok().filter(|count| *count <= count_max)?;
        (0..count).map(|_| self.string(max).map(String::from)).collect()
    }
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

pub(crate) fn put_strings(out: &mut Vec<u8>, strings: &[String]) {
    out.extend_from_slice(&(strings.len() as u64).to_le_bytes());
    for string in strings {
        put_bytes(out, string.as_bytes());
    }
}
