//! The modes of what a listener makes do not depend on the umask.
//!
//! The file has one test, because the umask is the whole process's.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use modipc_transport_uds::{BoundListener, ListenerConfig};
use rustix::fs::Mode;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("its metadata").mode() & 0o7777
}

#[test]
fn modes_are_exact_under_every_umask() {
    for umask in [0o000, 0o022, 0o077, 0o177] {
        let root = tempfile::tempdir().expect("a directory");
        rustix::process::umask(Mode::from_raw_mode(umask));
        let config = ListenerConfig { dir: root.path().join("run"), name: "host.sock".to_owned() };
        let bound = BoundListener::bind(&config);
        rustix::process::umask(Mode::from_raw_mode(0o022));
        let listener = bound.expect("a listener");
        assert_eq!(mode(&config.dir), 0o700, "umask {umask:o}");
        assert_eq!(mode(listener.path()), 0o600, "umask {umask:o}");
    }
}
