//! Writing to a dead peer in a process that has not ignored SIGPIPE, as Rust programs do by default and others do not.
//!
//! The file has one test, because it changes the signal's disposition for the whole process.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{ErrorKind, IoSlice};

use modipc_driver::{PollWrite, Transport};
use modipc_transport_uds::{TokioRuntime, UdsTransport, socketpair_for_child};

#[test]
fn a_dead_peer_is_an_error_and_not_a_signal() {
    // SAFETY: the default disposition needs no handler, and nothing else in this process sets one.
    let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    assert_ne!(before, libc::SIG_ERR);
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let runtime = TokioRuntime::new(tokio.handle().clone());
    tokio.block_on(async {
        let (ours, theirs) = socketpair_for_child().expect("a pair");
        let (_reader, mut writer) = UdsTransport::new(&runtime, ours).expect("registered").split();
        drop(theirs);
        for bufs in [&[IoSlice::new(b"one")][..], &[IoSlice::new(b"two"), IoSlice::new(b"slices")][..]] {
            let written = std::future::poll_fn(|cx| writer.poll_write(cx, bufs)).await;
            assert_eq!(written.expect_err("a dead peer").kind(), ErrorKind::BrokenPipe);
        }
    });
}
