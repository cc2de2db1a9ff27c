//! The tables of docs/PROTOCOL.md, section 10, are those of the code. (Section 10.7 is compared beside the events' table.)

use modipc_api::{
    Capability, CapabilitySet, ErrorCode, EventGroup, InvocationType, LogLevel, MessageType, required,
    required_for_group,
};

const DOCUMENT: &str = include_str!("../../docs/PROTOCOL.md");

/// The cells of each table row between a heading and the next.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let section = DOCUMENT.lines().skip_while(|line| !line.starts_with(heading)).skip(1);
    let rows: Vec<Vec<&str>> = section
        .take_while(|line| !line.starts_with('#'))
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").collect())
        .collect();
    assert!(!rows.is_empty(), "no table below {heading}");
    rows
}

/// First and second cell of the rows that begin with a number.
fn numbered(heading: &str) -> Vec<(u32, &'static str)> {
    rows(heading).iter().filter_map(|row| Some((row[0].parse().ok()?, row[1]))).collect()
}

#[test]
fn requests_and_invocations_have_the_documents_numbers() {
    let requests: Vec<_> = MessageType::ALL.iter().map(|kind| (kind.number(), kind.name())).collect();
    assert_eq!(numbered("### 10.1"), requests);
    let invocations: Vec<_> = InvocationType::ALL.iter().map(|kind| (kind.number(), kind.name())).collect();
    assert_eq!(numbered("### 10.6"), invocations);
}

#[test]
fn error_codes_are_the_documents() {
    let codes: Vec<_> = ErrorCode::ALL
        .iter()
        .map(|code| {
            let again = if code.is_transient() { "yes" } else { "no" };
            [code.number().to_string(), code.name().to_owned(), again.to_owned()]
        })
        .collect();
    let rows = rows("### 10.3");
    let documented: Vec<_> = rows.iter().skip(1).map(|row| [row[0], row[1], row[2]]).collect();
    assert_eq!(documented, codes);
}

#[test]
fn log_levels_are_the_documents() {
    let levels: Vec<_> = LogLevel::ALL.iter().map(|level| format!("{} {level:?}", level.number())).collect();
    assert!(DOCUMENT.contains(&format!("Levels: {}.", levels.join(", "))));
}

#[test]
fn capabilities_open_what_the_document_says() {
    let expected: Vec<_> = Capability::ALL
        .iter()
        .map(|capability| {
            let requests = MessageType::ALL
                .iter()
                .filter(|request| required(**request).contains(*capability))
                .map(|request| request.name().to_owned());
            let groups = EventGroup::ALL
                .iter()
                .filter(|group| {
                    // What every subscription needs stands in the table once, as the request.
                    let beyond = CapabilitySet::of(&[Capability::SubscribeEvents]);
                    required_for_group(**group).without(beyond).contains(*capability)
                })
                .map(|group| format!("events of the group {group}"));
            let opens: Vec<_> = requests.chain(groups).collect();
            [capability.name().to_owned(), capability.manifest_name().to_owned(), opens.join(", ")]
        })
        .collect();
    let rows = rows("### 10.5");
    let documented: Vec<_> = rows.iter().skip(1).map(|row| [row[0], row[1], row[2]]).collect();
    assert_eq!(documented, expected);
}
