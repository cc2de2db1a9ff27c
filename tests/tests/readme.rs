//! The tests that README.md names exist: its tables say which test covers what, and a name that is gone covers nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::read_to_string;
use std::path::Path;

#[test]
fn every_test_that_the_readme_names_exists() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = read_to_string(folder.join("README.md")).unwrap();
    let mut named = 0;
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let mut source = None;
        // Between backticks stand a file and, after it, the tests in it.
        for word in row.split('`').skip(1).step_by(2) {
            if word.ends_with(".rs") && word.contains('/') && !word.starts_with("tests/")
                || word.starts_with("tests/tests/")
            {
                let path = folder.join("..").join(word);
                source = Some(read_to_string(&path).unwrap_or_else(|error| panic!("{word}: {error}")));
            } else if let Some(source) = &source {
                let is_there = source.contains(&format!("fn {word}("));
                assert!(is_there, "{row:?} names {word}, and there is no such function");
                named += 1;
            }
        }
    }
    assert!(named > 50, "only {named} tests were found on the page");
}
