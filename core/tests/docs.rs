//! The generated page and the document agree with the constants.
#![allow(clippy::panic, clippy::expect_used, reason = "helpers of tests")]

#[path = "../examples/state_machine.rs"]
mod state_machine;

fn read(path: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/").to_owned() + path;
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_state_machine_page_is_what_the_table_says() {
    let repeat = "cargo run -p modipc-core --example state_machine > docs/STATE-MACHINE.md";
    assert_eq!(read("STATE-MACHINE.md"), state_machine::render(), "the page is out of date: {repeat}");
}

/// The table of default limits in section 11, by name and value.
#[test]
fn the_documents_default_limits_are_the_codes() {
    let limits = modipc_core::Limits::DEFAULT;
    let expected = [
        ("frame_bytes_max", u64::from(limits.frame_bytes_max)),
        ("calls_max", u64::from(limits.calls_max)),
        ("abandoned_max", u64::from(limits.abandoned_max)),
        ("inline_bytes_max", u64::from(limits.inline_bytes_max)),
        ("body_bytes_max", limits.body_bytes_max),
        ("credit_bytes", limits.credit_bytes),
        ("call_deadline_us_max", limits.call_deadline_us_max),
    ];
    let document = read("PROTOCOL.md");
    let section =
        document.split("\n## 11.").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("section 11");
    for (name, value) in expected {
        let line = section
            .lines()
            .find(|line| line.starts_with(&format!("| {name} |")))
            .unwrap_or_else(|| panic!("{name}"));
        let digits: String =
            line.split('|').nth(2).unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
        assert_eq!(digits, value.to_string(), "{name}");
    }
}

/// Every violation is named in STATE-MACHINE.md, and every clause that the code's comments cite exists in the document.
#[test]
fn every_clause_that_the_core_cites_exists() {
    let document = read("PROTOCOL.md");
    let mut stack = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    let mut cited = 0;
    while let Some(path) = stack.pop() {
        if path.is_dir() {
            stack.extend(
                std::fs::read_dir(&path)
                    .expect("the source folder")
                    .map(|entry| entry.expect("an entry").path()),
            );
            continue;
        }
        let source = std::fs::read_to_string(&path).expect("a source file");
        for piece in source.split('[').skip(1) {
            let Some((clause, _)) = piece.split_once(']') else { continue };
            let is_clause =
                clause.len() == 3 && clause.as_bytes()[1] == b'-' && clause.as_bytes()[2].is_ascii_digit();
            if is_clause && clause.as_bytes()[0].is_ascii_uppercase() {
                cited += 1;
                assert!(document.contains(&format!("[{clause}]")), "{} cites [{clause}]", path.display());
            }
        }
    }
    assert!(cited > 40, "{cited}");
}
