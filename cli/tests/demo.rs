//! The real command, from its flags to its exit code.
#![allow(clippy::expect_used, clippy::panic, reason = "what fails in a helper fails the test")]

mod support;

use std::fs::OpenOptions;
use std::process::Stdio;

use modipc_cli::trace::{Line, Reader};
use serde_json::{Value, json};
use support::{block, is_running, list, modipc, output, report, text};

/// PROTOCOL.md, section 10.1.
const REQUESTS: [&str; 15] = [
    "GetBlock",
    "GetBlockHeader",
    "GetTransaction",
    "GetChainTip",
    "GetBlockHeight",
    "GetUTXO",
    "SubscribeEvents",
    "GetMempoolTransactions",
    "GetNetworkStats",
    "GetNetworkPeers",
    "GetChainInfo",
    "GetBlockByHeight",
    "GetMempoolTransaction",
    "SubmitTransaction",
    "Unsubscribe",
];

fn request<'a>(report: &'a Value, name: &str) -> &'a Value {
    list(report, "requests").iter().find(|request| request["request"] == name).expect("the request")
}

#[test]
fn the_demo_tells_what_the_block_s_bytes_say() {
    let dir = tempfile::tempdir().unwrap();
    let report = report(dir.path(), &[]);
    let facts = block::facts(bitcoin_test_data::blocks::mainnet_702861());
    let subsidy_sat = (50 * 100_000_000) >> (702_861 / 210_000);
    assert_eq!(
        report["analyst"]["block"],
        json!({
            "hash": facts.hash,
            "height": 702_861,
            "height_in_coinbase": 702_861,
            "time_s": facts.time_s,
            "transactions": facts.transactions,
            "transactions_with_witness": facts.with_witness,
            "inputs": facts.inputs,
            "outputs": facts.outputs,
            "size_bytes": facts.size,
            "weight": facts.weight,
            "coinbase_sat": facts.coinbase_sat,
            "subsidy_sat": subsidy_sat,
            "fees_sat": facts.coinbase_sat - subsidy_sat,
            "merkle_root_stated": facts.root_stated,
            "merkle_root_computed": facts.root_computed,
        })
    );
    assert_eq!(facts.root_stated, facts.root_computed);
    let watcher = &report["watcher"];
    assert_eq!(watcher["block_hash"], facts.hash);
    assert_eq!(watcher["spent_inside"], facts.spent_inside);
    assert_eq!(watcher["spent_older"], facts.spent_older);
    let states: Vec<&Value> = list(watcher, "outputs").iter().map(|lookup| &lookup["state"]).collect();
    assert_eq!(states, ["unspent", "spent", "spent", "unknown"]);
    assert_eq!(watcher["outputs"][0]["name"], format!("{}:0", facts.coinbase_txid));
    assert!(list(watcher, "transactions").iter().all(|lookup| lookup["state"] == "found"));
}

#[test]
fn every_request_is_used_and_answered_honestly() {
    let dir = tempfile::tempdir().unwrap();
    let report = report(dir.path(), &[]);
    let names: Vec<&Value> = list(&report, "requests").iter().map(|request| &request["request"]).collect();
    assert_eq!(names, REQUESTS);
    for request in list(&report, "requests") {
        let number = |key: &str| request[key].as_u64().unwrap_or_else(|| panic!("{key} of {request}"));
        assert!(number("calls") > 0 && number("unanswered") == 0, "{request}");
        assert!(number("median_us") <= number("max_us"), "{request}");
        assert!(number("request_bytes") >= 8 && number("response_bytes") >= 4, "{request}");
    }
    for name in ["GetNetworkStats", "GetNetworkPeers", "SubmitTransaction"] {
        assert_eq!(request(&report, name)["errors"], json!({ "Unsupported": 1 }), "{name}");
    }
    assert_eq!(request(&report, "GetMempoolTransaction")["not_found"], 1);
    assert_eq!(request(&report, "GetChainInfo")["errors"], json!({ "Unavailable": 1 }));
    // The whole block crosses once for each of the two that fetch it: variant, data's number and length are 16 bytes.
    let block = bitcoin_test_data::blocks::mainnet_702861().len();
    assert_eq!(request(&report, "GetBlock")["response_bytes"], block + 16);
    assert_eq!(request(&report, "GetBlockByHeight")["response_bytes"], block + 16 + 32);
}

#[test]
fn a_refusal_names_what_is_missing_and_the_connection_stays() {
    let dir = tempfile::tempdir().unwrap();
    let report = report(dir.path(), &[]);
    let module = &report["unprivileged"];
    let refused: Vec<Value> = list(module, "refusals")
        .iter()
        .map(|refusal| json!([refusal["request"], refusal["code"], refusal["missing"]]))
        .collect();
    let denied = "PermissionDenied";
    let wanted =
        [json!(["GetUTXO", denied, ["ReadUTXO"]]), json!(["SubscribeEvents", denied, ["SubscribeEvents"]])];
    assert_eq!(refused, wanted);
    assert_eq!(module["granted"], json!(["ReadChainState"]));
    assert_eq!(module["height_afterwards"], 702_860);
    let at_node = list(&report, "modules").iter().find(|m| m["module"] == "unprivileged").unwrap();
    assert_eq!((&at_node["denials"], &at_node["requests_at_node"]), (&json!(2), &json!(3)));
}

#[test]
fn a_module_is_killed_in_its_call_and_nobody_else_is_hurt_or_left() {
    let dir = tempfile::tempdir().unwrap();
    let report = report(dir.path(), &[]);
    let kill = &report["kill"];
    assert_eq!((&kill["outcome"], &kill["was_sent"]), (&json!("lost"), &json!(true)), "{kill}");
    assert_eq!(kill["exit"], json!({ "code": null, "signal": 9 }));
    for name in ["analyst", "watcher"] {
        let other = &kill["others"][name];
        assert_eq!(other["failed"], 0, "{name}");
        assert!(other["answered"].as_u64().unwrap() >= 2, "{name}: {other}");
    }
    assert_eq!(report["watcher"]["crash_seen"], json!({ "module": "sleeper", "signal": 9 }));
    for module in list(&report, "modules") {
        let killed = module["module"] == "sleeper";
        assert_eq!(module["exit"]["code"], if killed { Value::Null } else { json!(0) }, "{module}");
        assert!(!list(module, "logs").is_empty(), "{module}");
        assert!(!is_running(module["pid"].as_u64().unwrap()), "{module}");
    }
    assert_eq!(report["shutdown"]["drained"], json!(["analyst", "unprivileged", "watcher"]));
    assert!(list(&report, "checks").iter().all(|check| check["ok"] == true), "{}", report["checks"]);
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_trace_has_every_connection_from_handshake_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace");
    let report = report(dir.path(), &["--trace", path.to_str().unwrap()]);
    let raw = std::fs::read_to_string(&path).unwrap();
    for (at, module) in list(&report, "modules").iter().enumerate() {
        let (number, name) = (at + 1, module["module"].as_str().unwrap());
        let lines: Vec<Vec<&str>> = raw
            .lines()
            .skip(1)
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .filter(|words| words.get(1) == Some(&number.to_string().as_str()))
            .collect();
        let named = format!("module={name}");
        assert_eq!(lines[0][2..], ["open", "role=host", "origin=inherited", &named]);
        assert_eq!(
            (&lines[1][2..4], &lines[1][6..]),
            (&["<", "6"][..], &["PeerHello", "Idle", "Greeting"][..])
        );
        assert_eq!(
            (&lines[2][2..4], &lines[2][6..]),
            (&[">", "7"][..], &["Accept", "Greeting", "Active"][..])
        );
        let (close, steps) = lines.split_last().unwrap();
        assert_eq!(close[2..], ["close", &format!("steps={}", lines.len() - 2)]);
        let last = steps.last().unwrap();
        assert_eq!(last.last(), Some(&"Closed"), "{name}: {last:?}");
        let says_goodbye = steps.iter().any(|words| words[2..4] == [">", "11"]);
        assert_eq!(says_goodbye, name != "sleeper", "{name}");
        let closing =
            steps.iter().find(|words| words.len() > 6 && words[words.len() - 1] == "Closed").unwrap();
        let how = &closing[closing.len() - 3..];
        match name {
            // A socket whose last bytes were not read is reset rather than closed: both are an end without goodbye.
            "sleeper" => {
                assert!(
                    ["PeerEof", "PeerEofOwing", "TransportFailure"].contains(&how[0]) && how[1] == "Active",
                    "{how:?}"
                )
            }
            _ => assert_eq!(how, ["Drained", "Finishing", "Closed"], "{name}"),
        }
    }
    let lines: Result<Vec<Line>, _> = Reader::open(&path).unwrap().collect();
    let lines = lines.expect("the strict reader takes all of it");
    assert_eq!(lines.len(), raw.lines().count() - 1);
    assert!(matches!(lines.last(), Some(Line::End { connections: 4, .. })));
}

#[test]
fn a_kept_directory_serves_again_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let kept = dir.path().join("kept");
    let kept = kept.to_str().unwrap();
    let first = report(dir.path(), &["--data-dir", kept]);
    assert_eq!((&first["chain"]["held_block"], &first["chain"]["directory"]), (&json!(false), &json!(kept)));
    let second = report(dir.path(), &["--data-dir", kept]);
    assert_eq!(second["chain"]["held_block"], true);
    assert_eq!(second["analyst"], first["analyst"]);
    let third = output(dir.path(), &["demo", "--data-dir", kept]);
    assert_eq!(third.status.code(), Some(0));
    assert!(text(&third.stdout).contains("held the block from an earlier run"), "{}", text(&third.stdout));
}

/// Each failure has its exit code, and says one thing that names what it is about.
#[test]
fn failures_are_one_message_and_one_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let (file, foreign) = (dir.path().join("file"), dir.path().join("foreign"));
    std::fs::write(&file, "").unwrap();
    std::fs::create_dir_all(foreign.join("chain")).unwrap();
    std::fs::write(foreign.join("chain/chain.redb"), "this is no database").unwrap();
    let (below, foreign) = (file.join("x"), foreign.to_str().unwrap().to_owned());
    let cases: [(&[&str], i32, &str); 6] = [
        (&["demo", "--bogus"], 64, "--bogus"),
        (&["demo", "--format", "xml"], 64, "xml"),
        (&["demo", "--log", "=="], 64, "--log"),
        (&["demo", "--data-dir", &foreign], 65, &foreign),
        (&["demo", "--data-dir", below.to_str().unwrap()], 74, below.to_str().unwrap()),
        (&["demo", "--trace", "/dev/full"], 74, "/dev/full"),
    ];
    for (args, code, named) in cases {
        let output = output(dir.path(), args);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(named), "{args:?}: {stderr}");
        assert_eq!(text(&output.stdout), "", "{args:?}");
    }
}

#[test]
fn a_report_that_cannot_be_written_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = modipc(dir.path(), &["demo"]).stdout(Stdio::from(full)).output().unwrap();
    assert_eq!(output.status.code(), Some(74), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("standard output"));
}

#[test]
fn a_module_that_is_started_by_hand_explains_itself() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["analyst", "watcher", "unprivileged", "sleeper"] {
        let output = output(dir.path(), &["__module", name]);
        assert_eq!(output.status.code(), Some(64), "{name}");
        assert!(text(&output.stderr).starts_with(&format!("{name} ")), "{}", text(&output.stderr));
    }
}
