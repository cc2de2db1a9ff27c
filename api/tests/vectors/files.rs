//! Reads the vector files and takes a frame's body out of its envelope, by hand.

use std::collections::BTreeMap;
use std::fmt::Debug;

use bytes::Bytes;

/// The vectors of one file by name: whole frames.
pub(crate) fn read(file: &str) -> BTreeMap<String, Vec<u8>> {
    let path = format!("{}/../docs/vectors/{file}.hex", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut vectors: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            name = comment.split_once(": ").expect("name: meaning").0.to_owned();
            assert!(vectors.insert(name.clone(), Vec::new()).is_none(), "{name} occurs twice");
            continue;
        }
        let (pairs, rest) = line.as_bytes().as_chunks::<2>();
        assert!(rest.is_empty(), "{name}");
        let bytes = vectors.get_mut(&name).expect("a name stands before the digits");
        bytes.extend(
            pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()),
        );
    }
    vectors
}

/// The body of a plain frame of this kind, or of an x1 frame with `fixed` bytes of fields after its id.
pub(crate) fn body(frame: &[u8], kind: u8, fixed: usize) -> Bytes {
    let length = u32::from_le_bytes(frame[..4].try_into().unwrap());
    assert_eq!(length as usize, frame.len() - 4);
    assert_eq!(frame[4], kind);
    // Kinds 0, 1, 4 and 5 have an id in both profiles; in the others the plain profile has no flags and no id.
    let plain = frame[5..8] == [0; 3];
    let has_id = matches!(kind, 0 | 1 | 4 | 5) || !plain;
    Bytes::copy_from_slice(&frame[8 + if has_id { 8 } else { 0 } + fixed..])
}

/// Compares every vector of a file with the value expected for it, both ways; neither side may have one more.
pub(crate) fn check<T: PartialEq + Debug, E: Debug>(
    file: &str,
    prefix: &str,
    kind: u8,
    expected: Vec<(&str, T)>,
    encode: impl Fn(&T, &mut Vec<u8>),
    decode: impl Fn(&Bytes) -> Result<T, E>,
) {
    let mut vectors = read(file);
    vectors.retain(|name, _| name.starts_with(prefix));
    for (name, value) in expected {
        let frame = vectors.remove(&format!("{prefix}{name}")).unwrap_or_else(|| panic!("no vector {name}"));
        let body = body(&frame, kind, 0);
        assert_eq!(decode(&body).expect(name), value, "{name}");
        let mut encoded = Vec::new();
        encode(&value, &mut encoded);
        assert_eq!(encoded, body, "{name}");
    }
    assert!(vectors.is_empty(), "vectors without an expected value: {:?}", vectors.keys());
}
