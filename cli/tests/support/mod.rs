//! What the tests of the command share.

pub(crate) mod block;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// The command, with a directory of its own for temporary files.
pub(crate) fn modipc(temporary: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_modipc"));
    command.args(args).env("TMPDIR", temporary);
    for variable in ["MODIPC_FD", "SOCKET_PATH", "LISTEN_FDS", "MODULE_ID"] {
        command.env_remove(variable);
    }
    command
}

pub(crate) fn output(temporary: &Path, args: &[&str]) -> Output {
    modipc(temporary, args).output().expect("the command starts")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// A demo that has to end well, and its report.
pub(crate) fn report(temporary: &Path, more: &[&str]) -> Value {
    let output = output(temporary, &[&["demo", "--format", "json"], more].concat());
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert_eq!(stderr, "", "a good day leaves nothing on standard error");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// The list under a key.
pub(crate) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("no list {key} in {value}"))
}

/// Whether the process of a module is still there. (A process id may be another's by now; its command line is not.)
pub(crate) fn is_running(pid: u64) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains("__module")
}
