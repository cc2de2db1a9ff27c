//! The frames of the independent encoder.

/// A vector: its name and its whole frame.
pub type Vector = (String, Vec<u8>);

/// The vectors of one file, in its order.
#[must_use]
pub fn read(file: &str) -> Vec<Vector> {
    let path = format!("{}/../docs/vectors/{file}.hex", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut vectors: Vec<Vector> = Vec::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let (name, _) = comment.split_once(": ").unwrap_or_else(|| panic!("{path}: {line}"));
            vectors.push((name.to_owned(), Vec::new()));
        } else {
            let (_, frame) = vectors.last_mut().unwrap_or_else(|| panic!("{path}: digits before a name"));
            frame.extend(line.as_bytes().chunks(2).map(digits));
        }
    }
    assert!(!vectors.is_empty(), "{path} is empty");
    vectors
}

/// The vector of this name.
#[must_use]
pub fn named(file: &str, name: &str) -> Vec<u8> {
    let found = read(file).into_iter().find(|(found, _)| found == name);
    found.unwrap_or_else(|| panic!("{file} has no vector {name}")).1
}

fn digits(pair: &[u8]) -> u8 {
    let text = std::str::from_utf8(pair).unwrap();
    assert_eq!(text.len(), 2, "half a byte");
    u8::from_str_radix(text, 16).unwrap()
}
