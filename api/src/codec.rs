//! The bincode-1 layout (section 9), and the only module that names `bincode`.
//!
//! Two levels meet here. The *outer* shape of a message, its variant numbers, hashes and raw tails, is read and written by
//! [`Reader`] and the `put_*` functions: that is where unknown numbers get a typed error and where a block is sliced
//! instead of copied. The *inner* structures derive serde and pass through `bincode`. Both follow the same layout, which
//! the vectors of section 13 pin byte by byte.
//!
//! `bincode` trusts lengths: its own `String` allocates whatever the prefix claims. Every field of a wire structure
//! therefore goes through [`Field`], which takes text from the bytes at hand and never reserves for a claimed count.

use core::fmt;
use core::marker::PhantomData;

use bincode::config::{Configuration, Fixint, LittleEndian, NoLimit};
use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::{DecodeError, Fault};

/// No limit is configured because none is needed: borrowed decoding allocates nothing that is not in the slice.
const LAYOUT: Configuration<LittleEndian, Fixint, NoLimit> = bincode::config::legacy();

/// Appends `value` in the layout.
pub(crate) fn put<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let written = bincode::serde::encode_into_writer(value, Sink(out), LAYOUT);
    // The sink takes everything and every sequence of ours knows its length, so there is no error to hand on.
    if written.is_err() {
        unreachable!("a wire structure has a shape that the layout cannot express");
    }
}

pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// A length or count: `u64` on the wire.
pub(crate) fn put_len(out: &mut Vec<u8>, len: usize) {
    put_u64(out, len as u64);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

/// Pairs of texts: `u64` count, then name and value of each.
pub(crate) fn put_pairs(out: &mut Vec<u8>, pairs: &[(String, String)]) {
    put_len(out, pairs.len());
    for (name, value) in pairs {
        put_text(out, name);
        put_text(out, value);
    }
}

struct Sink<'a>(&'a mut Vec<u8>);

impl bincode::enc::write::Writer for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Reads one body from front to back.
///
/// It is total: each method either yields a value that lay in the body or says what is wrong, and none allocates more
/// than the body holds.
pub(crate) struct Reader<'a> {
    what: &'static str,
    whole: &'a [u8],
    rest: &'a [u8],
    /// The allocation that `whole` lies in, if the caller can share it: tails are then slices of it.
    shared: Option<&'a Bytes>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'static str, body: &'a [u8]) -> Self {
        Reader { what, whole: body, rest: body, shared: None }
    }

    pub(crate) fn shared(what: &'static str, body: &'a Bytes) -> Self {
        Reader { what, whole: body, rest: body, shared: Some(body) }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(*head)
            }
            None => Err(self.fault(Fault::Truncated { missing: N.saturating_sub(self.rest.len()) })),
        }
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next number, which stays where it is.
    pub(crate) fn peek_u32(&self) -> Result<u32, DecodeError> {
        Reader { shared: None, ..*self }.u32()
    }

    /// A count of elements of at least `element_bytes_min` bytes each: what cannot fit into the rest is refused.
    pub(crate) fn count(&mut self, element_bytes_min: usize) -> Result<usize, DecodeError> {
        self.count_up_to(usize::MAX, element_bytes_min)
    }

    /// As [`Reader::count`], and at most `count_max`.
    pub(crate) fn count_up_to(&mut self, count_max: usize, bytes_min: usize) -> Result<usize, DecodeError> {
        let fits = self.rest.len().saturating_sub(8) / bytes_min.max(1);
        self.count_at_most(count_max.min(fits))
    }

    fn count_at_most(&mut self, possible: usize) -> Result<usize, DecodeError> {
        let at = self.offset();
        let claimed = self.u64()?;
        match usize::try_from(claimed) {
            Ok(count) if count <= possible => Ok(count),
            _ => Err(self.fault_at(at, Fault::Length { claimed, possible: possible as u64 })),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.count(1)?;
        match self.rest.split_at_checked(len) {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(bytes)
            }
            None => Err(self.fault(Fault::Truncated { missing: len.saturating_sub(self.rest.len()) })),
        }
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, DecodeError> {
        let at = self.offset();
        let bytes = self.bytes()?;
        core::str::from_utf8(bytes).map_err(|_| self.fault_at(at, Fault::Utf8))
    }

    pub(crate) fn pairs(&mut self) -> Result<Vec<(String, String)>, DecodeError> {
        // Two empty texts are two lengths.
        let count = self.count(16)?;
        let mut pairs = Vec::with_capacity(count);
        for _ in 0..count {
            pairs.push((self.text()?.to_owned(), self.text()?.to_owned()));
        }
        Ok(pairs)
    }

    /// The byte string that ends a message: its length must be exactly what is left. Sliced when the body is shared.
    pub(crate) fn tail(&mut self) -> Result<Bytes, DecodeError> {
        let at = self.offset();
        let claimed = self.u64()?;
        let left = self.rest.len();
        if claimed < left as u64 {
            let extra = left.saturating_sub(claimed as usize);
            return Err(self.fault_at(at, Fault::Trailing { extra }));
        }
        if claimed > left as u64 {
            return Err(self.fault_at(at, Fault::Length { claimed, possible: left as u64 }));
        }
        Ok(self.rest())
    }

    /// All that is left, sliced when the body is shared.
    pub(crate) fn rest(&mut self) -> Bytes {
        let end = core::mem::take(&mut self.rest);
        match self.shared {
            // A slice of an empty body would point nowhere.
            Some(owner) if !end.is_empty() => owner.slice_ref(end),
            _ => Bytes::copy_from_slice(end),
        }
    }

    /// A structure that derives serde.
    pub(crate) fn get<T: Deserialize<'a>>(&mut self) -> Result<T, DecodeError> {
        match bincode::serde::borrow_decode_from_slice(self.rest, LAYOUT) {
            Ok((value, used)) => {
                self.rest = self.rest.get(used..).unwrap_or_default();
                Ok(value)
            }
            Err(error) => Err(self.fault(Fault::from_bincode(error, self.rest))),
        }
    }

    /// The body must end here.
    pub(crate) fn finish(&self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(self.fault(Fault::Trailing { extra })),
        }
    }

    fn offset(&self) -> usize {
        self.whole.len().saturating_sub(self.rest.len())
    }

    fn fault(&self, fault: Fault) -> DecodeError {
        self.fault_at(self.offset(), fault)
    }

    fn fault_at(&self, offset: usize, fault: Fault) -> DecodeError {
        DecodeError::Malformed { what: self.what, offset, fault }
    }
}

impl Fault {
    fn from_bincode(error: bincode::error::DecodeError, rest: &[u8]) -> Fault {
        use bincode::error::DecodeError as E;
        match error {
            E::UnexpectedEnd { additional } => Fault::Truncated { missing: additional },
            E::InvalidBooleanValue(byte) => Fault::Bool(byte),
            E::UnexpectedVariant { found, .. } => Fault::Option(found),
            E::Utf8 { .. } => Fault::Utf8,
            E::OutsideUsizeRange(claimed) => Fault::Length { claimed, possible: rest.len() as u64 },
            _ => Fault::Value,
        }
    }
}

/// A type that a wire structure may have as a field: one whose decoding is bounded by the bytes at hand.
pub(crate) trait Field<'de>: Sized {
    fn field<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

/// What `deserialize_with` of every wire structure's fields names.
pub(crate) fn field<'de, T: Field<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::field(deserializer)
}

/// Types whose own `Deserialize` is bounded already.
macro_rules! plain_fields {
    ($($ty:ty),* $(,)?) => { $(
        impl<'de> $crate::codec::Field<'de> for $ty {
            fn field<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                serde::Deserialize::deserialize(deserializer)
            }
        }
    )* };
}
pub(crate) use plain_fields;

plain_fields!(bool, u8, u16, u32, u64);

impl<'de> Field<'de> for String {
    fn field<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = String;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E>(self, text: &str) -> Result<String, E> {
                Ok(text.to_owned())
            }
        }
        // Not `deserialize_string`: that one allocates what the length claims.
        deserializer.deserialize_str(Text)
    }
}

impl<'de, T: Field<'de>> Field<'de> for Option<T> {
    fn field<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<Wrapped<T>>::deserialize(deserializer)?.map(|wrapped| wrapped.0))
    }
}

impl<'de, T: Field<'de>> Field<'de> for Vec<T> {
    fn field<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T>(PhantomData<T>);
        impl<'de, T: Field<'de>> Visitor<'de> for Elements<T> {
            type Value = Vec<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Vec<T>, A::Error> {
                // The claimed count is not believed: the vector grows with the elements that are there.
                let mut elements = Vec::new();
                while let Some(element) = access.next_element_seed(Seed(PhantomData))? {
                    elements.push(element);
                }
                Ok(elements)
            }
        }
        deserializer.deserialize_seq(Elements(PhantomData))
    }
}

struct Wrapped<T>(T);

impl<'de, T: Field<'de>> Deserialize<'de> for Wrapped<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::field(deserializer).map(Wrapped)
    }
}

struct Seed<T>(PhantomData<T>);

impl<'de, T: Field<'de>> DeserializeSeed<'de> for Seed<T> {
    type Value = T;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::field(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Inner {
        #[serde(deserialize_with = "field")]
        names: Vec<String>,
        #[serde(deserialize_with = "field")]
        port: Option<u16>,
    }

    #[test]
    fn a_claimed_length_is_not_allocated() {
        for claimed in [5u64, 1 << 20, 1 << 40, u64::MAX] {
            // A count with no elements behind it, and a text with no bytes behind it.
            let count = claimed.to_le_bytes();
            let text = [1u64.to_le_bytes(), claimed.to_le_bytes()].concat();
            for body in [&count[..], &text[..]] {
                let error = Reader::new("inner", body).get::<Inner>().unwrap_err();
                assert!(
                    matches!(error, DecodeError::Malformed { fault: Fault::Truncated { .. }, .. }),
                    "{claimed}: {error}"
                );
            }
            let error = Reader::new("text", &count).text().unwrap_err();
            assert!(matches!(error, DecodeError::Malformed { fault: Fault::Length { .. }, .. }), "{error}");
        }
    }

    #[test]
    fn inner_structures_follow_the_layout() {
        let inner = Inner { names: vec!["ab".into(), String::new()], port: Some(0x0102) };
        let mut out = Vec::new();
        put(&mut out, &inner);
        let expected =
            [&[2, 0, 0, 0, 0, 0, 0, 0][..], &[2, 0, 0, 0, 0, 0, 0, 0], b"ab", &[0; 8], &[1, 2, 1]].concat();
        assert_eq!(out, expected);
        let mut reader = Reader::new("inner", &out);
        assert_eq!(reader.get::<Inner>(), Ok(inner));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn faults_say_where_and_what() {
        let mut reader = Reader::new("thing", &[9, 0, 0, 0, 7]);
        assert_eq!(reader.u32(), Ok(9));
        assert_eq!(
            reader.u64(),
            Err(DecodeError::Malformed { what: "thing", offset: 4, fault: Fault::Truncated { missing: 7 } })
        );
        assert_eq!(
            reader.finish(),
            Err(DecodeError::Malformed { what: "thing", offset: 4, fault: Fault::Trailing { extra: 1 } })
        );
        let option_of_two = [&[0; 8][..], &[2]].concat();
        let error = Reader::new("inner", &option_of_two).get::<Inner>().unwrap_err();
        assert!(matches!(error, DecodeError::Malformed { fault: Fault::Option(2), .. }), "{error:?}");
    }

    #[test]
    fn a_tail_is_a_slice_of_a_shared_body() {
        let body = Bytes::from([&3u64.to_le_bytes()[..], b"abc"].concat());
        let tail = Reader::shared("raw", &body).tail().unwrap();
        assert_eq!(tail.as_ptr(), body[8..].as_ptr());
        for claimed in [2u64, 4, u64::MAX] {
            let body = Bytes::from([&claimed.to_le_bytes()[..], b"abc"].concat());
            assert!(Reader::shared("raw", &body).tail().is_err());
        }
    }
}
