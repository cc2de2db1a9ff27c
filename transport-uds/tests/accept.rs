//! Listeners on both runtimes: credentials, policy, and what a failed `accept` does.
//!
//! The file has one test, because it lowers this process's limit of open files.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;

use modipc_driver::{PollRead, PollWrite, Transport};
use modipc_transport_uds::{
    AcceptError, BoundListener, ListenerConfig, PeerPolicy, Reactor, TokioRuntime, UdsListener, UdsTransport,
    connect,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn bound(root: &tempfile::TempDir) -> BoundListener {
    let config = ListenerConfig { dir: root.path().join("run"), name: "host.sock".to_owned() };
    BoundListener::bind(&config).expect("a listener")
}

/// An accepted connection carries bytes both ways, and both sides know the other's user.
async fn accepts<R: Reactor>(runtime: &R) {
    let root = tempfile::tempdir().expect("a directory");
    let mut listener = UdsListener::new(runtime, bound(&root), PeerPolicy::SameUser).expect("registered");
    let stream = connect(listener.path(), &PeerPolicy::SameUser).expect("a connection");
    let accepted = listener.accept().await.expect("accepted");
    assert_eq!(accepted.verdict, Ok(()));
    assert_eq!(accepted.peer.uid, rustix::process::geteuid().as_raw());
    assert_eq!(accepted.peer.pid, std::process::id().cast_signed());
    let (mut reader, mut writer) = accepted.transport.split();
    let (mut far_reader, mut far_writer) = UdsTransport::new(runtime, stream).expect("registered").split();
    let mut buf = [0; 8];
    for (reader, writer) in [(&mut reader, &mut far_writer), (&mut far_reader, &mut writer)] {
        let sent = std::future::poll_fn(|cx| writer.poll_write(cx, &[IoSlice::new(b"hello")])).await;
        assert_eq!(sent.expect("a write"), 5);
        let got = std::future::poll_fn(|cx| reader.poll_read(cx, &mut [IoSliceMut::new(&mut buf)])).await;
        assert_eq!(&buf[..got.expect("a read")], b"hello");
    }
}

/// A peer that the policy refuses is accepted with that verdict, so that it can be told.
async fn judges<R: Reactor>(runtime: &R) {
    let root = tempfile::tempdir().expect("a directory");
    let policy = PeerPolicy::Uids([4_711].into());
    let mut listener = UdsListener::new(runtime, bound(&root), policy).expect("registered");
    let _stream = connect(listener.path(), &PeerPolicy::SameUser).expect("a connection");
    let refused = listener.accept().await.expect("accepted").verdict.expect_err("not that user");
    assert!(refused.to_string().contains("4711"), "{refused}");
}

/// Without descriptors `accept` fails, says so, and goes on when there are some again.
async fn outlives_exhaustion<R: Reactor>(runtime: &R) {
    let root = tempfile::tempdir().expect("a directory");
    let mut listener = UdsListener::new(runtime, bound(&root), PeerPolicy::SameUser).expect("registered");
    let _waiting = connect(listener.path(), &PeerPolicy::SameUser).expect("a connection");
    let limit = getrlimit(Resource::Nofile);
    let mut hoard: Vec<OwnedFd> = Vec::new();
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: limit.maximum }).expect("a low limit");
    while let Ok(fd) = rustix::io::dup(std::io::stderr()) {
        hoard.push(fd);
    }
    let mut waits = Vec::new();
    let started_us = runtime.now();
    for _ in 0..2 {
        match listener.accept().await.expect_err("no descriptor is left") {
            AcceptError::Exhausted { retry_us, source, .. } => {
                assert_eq!(source.raw_os_error(), Some(libc::EMFILE), "{source}");
                waits.push(retry_us);
            }
            error => panic!("{error}"),
        }
    }
    assert_eq!(waits, [10_000, 20_000]);
    assert!(runtime.now() >= started_us + waits[0], "the second attempt did not wait");
    drop(hoard);
    setrlimit(Resource::Nofile, limit).expect("the limit as it was");
    assert_eq!(listener.accept().await.expect("there is room again").verdict, Ok(()));
}

#[test]
fn listeners_accept_judge_and_outlive_exhaustion() {
    let current = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let multi = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    for tokio in [current, multi] {
        let runtime = TokioRuntime::new(tokio.handle().clone());
        tokio.block_on(async {
            accepts(&runtime).await;
            judges(&runtime).await;
            outlives_exhaustion(&runtime).await;
        });
    }
    #[cfg(feature = "smol")]
    {
        let executor = std::sync::Arc::new(async_executor::Executor::new());
        let runtime = modipc_transport_uds::SmolRuntime::new(executor);
        runtime.block_on(async {
            accepts(&runtime).await;
            judges(&runtime).await;
            outlives_exhaustion(&runtime).await;
        });
    }
}
