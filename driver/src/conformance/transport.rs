//! What [`Transport`], [`PollRead`] and [`PollWrite`] promise. Each check is named after its promise.

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::task::{Context, Poll};

use super::{
    CountingWaker, Gate, ReaderOf, Stage, Task, WriterOf, assert_same, byte_at, bytes, close, read,
    read_exact, read_to_end, write, write_all,
};
use crate::{PollRead, PollWrite, Transport};

/// More than any buffer of the transports that are checked.
const BIG: usize = 4 * 1024 * 1024;
/// A writer that has taken so much without a reader has no bound.
const NO_BOUND: usize = 256 * 1024 * 1024;

/// Every stream holds so many bytes that nobody has read.
const FITS: usize = 64;

type Halves<S> = (ReaderOf<S>, WriterOf<S>);

fn split_pair<S: Stage>(stage: &S) -> (Halves<S>, Halves<S>) {
    let (ours, theirs) = stage.pair();
    (ours.split(), theirs.split())
}

/// Whether an error is one that a lost peer causes.
fn is_loss(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotConnected
    )
}

/// Bytes arrive unchanged and in order, however they are cut into writes and reads.
pub fn every_chunking_keeps_the_bytes<S: Stage>(stage: &S) {
    const SIZES: [usize; 7] = [1, 2, 3, 7, 64, 4_096, 70_000];
    let runtime = stage.runtime();
    let pairs: Vec<_> = SIZES
        .iter()
        .flat_map(|out| SIZES.map(|into| (*out, into)))
        .map(|(out, into)| (out, into, split_pair(stage)))
        .collect();
    stage.run(Box::pin(async move {
        for (out, into, ((our_reader, mut writer), (mut reader, their_writer))) in pairs {
            // Small chunks of many bytes would only take long.
            let len = 150_000.min(out.min(into) * 2_000);
            let sender = Task::spawn(&*runtime, async move {
                write_all(&mut writer, &bytes(len), out).await.expect("a write to a peer that reads");
                close(&mut writer).await.expect("a close");
                our_reader
            });
            let got = read_to_end(&mut reader, into).await.expect("a read from a peer that writes");
            assert_same(&got, &bytes(len));
            drop((sender.join().await, their_writer));
        }
    }));
}

/// The slices of a vectored write and of a vectored read are used in order; empty ones are passed over.
pub fn vectored_slices_keep_their_order<S: Stage>(stage: &S) {
    const LEN: usize = 1_000;
    let runtime = stage.runtime();
    let ((our_reader, mut writer), (mut reader, _their_writer)) = split_pair(stage);
    stage.run(Box::pin(async move {
        let sender = Task::spawn(&*runtime, async move {
            let sent = bytes(LEN);
            let mut done = 0;
            while done < LEN {
                let (head, tail) = sent[done..].split_at((LEN - done) / 3);
                let bufs = [IoSlice::new(&[]), IoSlice::new(head), IoSlice::new(&[]), IoSlice::new(tail)];
                done += poll_fn(|cx| writer.poll_write(cx, &bufs)).await.expect("a write");
            }
            (our_reader, writer)
        });
        let mut got = Vec::new();
        while got.len() < LEN {
            let (mut one, mut two, mut three) = ([0; 5], [0; 0], [0; 90]);
            let n = poll_fn(|cx| {
                let mut bufs =
                    [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two), IoSliceMut::new(&mut three)];
                reader.poll_read(cx, &mut bufs)
            })
            .await
            .expect("a read");
            assert!((1..=95).contains(&n), "a read into 95 bytes gave {n}");
            let joined: Vec<u8> = one.into_iter().chain(three).take(n).collect();
            got.extend(joined);
        }
        assert_same(&got, &bytes(LEN));
        sender.join().await;
    }));
}

/// A caller need not know how many slices a system call takes (1,024 on Linux).
pub fn more_slices_than_the_system_takes<S: Stage>(stage: &S) {
    const SLICES: usize = 3_000;
    let runtime = stage.runtime();
    let ((our_reader, mut writer), (mut reader, _their_writer)) = split_pair(stage);
    stage.run(Box::pin(async move {
        let sender = Task::spawn(&*runtime, async move {
            let sent = bytes(SLICES);
            let mut done = 0;
            while done < SLICES {
                let bufs: Vec<_> = sent[done..].chunks(1).map(IoSlice::new).collect();
                done += poll_fn(|cx| writer.poll_write(cx, &bufs)).await.expect("a write of many slices");
            }
            (our_reader, writer)
        });
        let mut got = vec![0; SLICES];
        let mut done = 0;
        while done < SLICES {
            let mut bufs: Vec<_> = got[done..].chunks_mut(1).map(IoSliceMut::new).collect();
            done += poll_fn(|cx| reader.poll_read(cx, &mut bufs)).await.expect("a read into many slices");
        }
        assert_same(&got, &bytes(SLICES));
        sender.join().await;
    }));
}

/// More than fits into any buffer goes through.
pub fn big_transfer_one_way<S: Stage>(stage: &S) {
    let runtime = stage.runtime();
    let ((our_reader, mut writer), (mut reader, _their_writer)) = split_pair(stage);
    stage.run(Box::pin(async move {
        let sender = Task::spawn(&*runtime, async move {
            write_all(&mut writer, &bytes(BIG), BIG).await.expect("a write to a peer that reads");
            close(&mut writer).await.expect("a close");
            our_reader
        });
        let got = read_to_end(&mut reader, 65_536).await.expect("a read from a peer that writes");
        assert_same(&got, &bytes(BIG));
        sender.join().await;
    }));
}

/// All four halves are used at the same time, from tasks of their own.
pub fn both_directions_from_four_tasks<S: Stage>(stage: &S) {
    const LEN: usize = 1_000_000;
    let runtime = stage.runtime();
    let (ours, theirs) = split_pair(stage);
    stage.run(Box::pin(async move {
        let mut tasks = Vec::new();
        for (mut reader, mut writer) in [ours, theirs] {
            let sender = Task::spawn(&*runtime, async move {
                write_all(&mut writer, &bytes(LEN), 10_007).await.expect("a write to a peer that reads");
                close(&mut writer).await.expect("a close");
                writer
            });
            let receiver = Task::spawn(&*runtime, async move {
                let got = read_to_end(&mut reader, 4_096).await.expect("a read from a peer that writes");
                assert_same(&got, &bytes(LEN));
                reader
            });
            tasks.push((sender, receiver));
        }
        // The halves are kept until all is read: a side that left could not send.
        let mut kept = Vec::new();
        for (sender, receiver) in tasks {
            kept.push((sender.join().await, receiver.join().await));
        }
    }));
}

/// A read that is pending has written nothing into the buffer.
pub fn pending_read_leaves_the_buffer<S: Stage>(stage: &S) {
    let (_ours, (mut reader, _their_writer)) = split_pair(stage);
    stage.run(Box::pin(async move {
        let (_, waker) = CountingWaker::new();
        let mut buf = [0xa5; 64];
        let polled = reader.poll_read(&mut Context::from_waker(&waker), &mut [IoSliceMut::new(&mut buf)]);
        assert!(polled.is_pending(), "a read of nothing gave {polled:?}");
        assert_eq!(buf, [0xa5; 64]);
    }));
}

/// Of two wakers of the same read, the second is woken.
pub fn last_read_waker_counts<S: Stage>(stage: &S) {
    let runtime = stage.runtime();
    let ((our_reader, mut writer), (mut reader, _their_writer)) = split_pair(stage);
    stage.run(Box::pin(async move {
        let (_, stale) = CountingWaker::new();
        let mut buf = [0; 1];
        let polled = reader.poll_read(&mut Context::from_waker(&stale), &mut [IoSliceMut::new(&mut buf)]);
        assert!(polled.is_pending(), "a read of nothing gave {polled:?}");
        let send = || {
            Task::spawn(&*runtime, async move {
                write_all(&mut writer, b"!", 1).await.expect("a write");
                (our_reader, writer)
            })
        };
        let read = |cx: &mut Context<'_>| reader.poll_read(cx, &mut [IoSliceMut::new(&mut buf)]);
        let (got, sender) = pending_then(read, send).await;
        assert_eq!((got.expect("a read"), buf), (1, *b"!"));
        sender.join().await;
    }));
}

/// Of two wakers of the same write, the second is woken.
pub fn last_write_waker_counts<S: Stage>(stage: &S) {
    let runtime = stage.runtime();
    let ((_our_reader, mut writer), (mut reader, their_writer)) = split_pair(stage);
    stage.run(Box::pin(async move {
        let filled = fill(&mut writer).await;
        let (_, stale) = CountingWaker::new();
        let polled = writer.poll_write(&mut Context::from_waker(&stale), &[IoSlice::new(b"!")]);
        assert!(polled.is_pending(), "a write into a full stream gave {polled:?}");
        let drain = || {
            Task::spawn(&*runtime, async move {
                let got = read_exact(&mut reader, filled + 1).await;
                assert_eq!(got.last(), Some(&b'!'));
                (reader, their_writer)
            })
        };
        let (written, receiver) =
            pending_then(|cx| writer.poll_write(cx, &[IoSlice::new(b"!")]), drain).await;
        assert_eq!(written.expect("a write"), 1);
        receiver.join().await;
    }));
}

/// A task that waits to read is woken although another waits to write on the same transport, and the other way round.
pub fn read_and_write_wakers_are_independent<S: Stage>(stage: &S) {
    let runtime = stage.runtime();
    let ((mut reader, mut writer), (mut their_reader, mut their_writer)) = split_pair(stage);
    stage.run(Box::pin(async move {
        let filled = fill(&mut writer).await;
        let (read_waits, reader_waits) = Gate::new();
        let (write_waits, writer_waits) = Gate::new();
        let receiver = Task::spawn(&*runtime, async move {
            let mut buf = [0; 1];
            let read = |cx: &mut Context<'_>| reader.poll_read(cx, &mut [IoSliceMut::new(&mut buf)]);
            let (got, ()) = pending_then(read, || read_waits.open()).await;
            assert_eq!((got.expect("a read"), buf), (1, *b"?"));
            reader
        });
        let peer = Task::spawn(&*runtime, async move {
            // Nothing is sent or read before both of the other side's halves wait.
            reader_waits.join().await;
            writer_waits.join().await;
            write_all(&mut their_writer, b"?", 1).await.expect("a write");
            read_exact(&mut their_reader, filled + 1).await;
            (their_reader, their_writer)
        });
        let write = |cx: &mut Context<'_>| writer.poll_write(cx, &[IoSlice::new(b"!")]);
        let (written, ()) = pending_then(write, || write_waits.open()).await;
        assert_eq!(written.expect("a write"), 1);
        drop((peer.join().await, receiver.join().await));
    }));
}

/// After a close in one direction the peer reads to the end, and can still send.
pub fn half_close_leaves_the_other_direction<S: Stage>(stage: &S) {
    let ((mut reader, mut writer), (mut their_reader, mut their_writer)) = split_pair(stage);
    stage.run(Box::pin(async move {
        write_all(&mut writer, &bytes(FITS), 50).await.expect("a write");
        close(&mut writer).await.expect("a close");
        let got = read_to_end(&mut their_reader, 7).await.expect("a read up to the end");
        assert_same(&got, &bytes(FITS));
        write_all(&mut their_writer, &bytes(FITS), 50).await.expect("a write after the peer's close");
        close(&mut their_writer).await.expect("a close");
        let got = read_to_end(&mut reader, 7).await.expect("a read after our own close");
        assert_same(&got, &bytes(FITS));
    }));
}

/// A second close is as good as the first, also when the peer has closed and when it is gone.
pub fn close_is_idempotent<S: Stage>(stage: &S) {
    let ((_our_reader, mut writer), (mut reader, mut their_writer)) = split_pair(stage);
    stage.run(Box::pin(async move {
        for _ in 0..3 {
            close(&mut writer).await.expect("a repeated close");
        }
        assert_eq!(read(&mut reader, &mut [0]).await.expect("a read of the end"), 0);
        close(&mut their_writer).await.expect("a close");
        close(&mut writer).await.expect("a close after the peer's");
        drop((reader, their_writer));
        // Whether a close of what is already gone succeeds is the transport's business; it must not wait or panic.
        let _ = close(&mut writer).await;
    }));
}

/// Whoever reads on after the end reads the end.
pub fn the_end_stays<S: Stage>(stage: &S) {
    let ((_our_reader, mut writer), (mut reader, _their_writer)) = split_pair(stage);
    stage.run(Box::pin(async move {
        write_all(&mut writer, b"last", 4).await.expect("a write");
        close(&mut writer).await.expect("a close");
        assert_eq!(read_exact(&mut reader, 4).await, b"last");
        for _ in 0..3 {
            assert_eq!(read(&mut reader, &mut [0; 8]).await.expect("a read of the end"), 0);
        }
    }));
}

/// A write after our own close is an error, not a loss.
pub fn write_after_close_fails<S: Stage>(stage: &S) {
    let ((_our_reader, mut writer), _theirs) = split_pair(stage);
    stage.run(Box::pin(async move {
        close(&mut writer).await.expect("a close");
        let written = poll_fn(|cx| writer.poll_write(cx, &[IoSlice::new(b"late")])).await;
        let error = written.expect_err("a write after the close");
        assert!(is_loss(&error), "{error:?}");
    }));
}

/// A writer whose peer does not read has to wait, and goes on when the peer reads.
pub fn backpressure_stops_and_resumes<S: Stage>(stage: &S) {
    const ROUNDS: usize = 3;
    let runtime = stage.runtime();
    let ((_our_reader, mut writer), (reader, their_writer)) = split_pair(stage);
    stage.run(Box::pin(async move {
        let mut reader = reader;
        for _ in 0..ROUNDS {
            let filled = fill(&mut writer).await;
            let drain = || {
                Task::spawn(&*runtime, async move {
                    let got = read_exact(&mut reader, filled + 1).await;
                    assert_same(&got[..filled], &bytes(filled));
                    reader
                })
            };
            let (written, receiver) =
                pending_then(|cx| writer.poll_write(cx, &[IoSlice::new(b"!")]), drain).await;
            assert_eq!(written.expect("a write"), 1);
            reader = receiver.join().await;
        }
        drop(their_writer);
    }));
}

/// When the peer is dropped, what it wrote is read, and then the end or an error that says so.
pub fn dropped_peer_is_the_end_of_reads<S: Stage>(stage: &S) {
    let ((our_reader, mut writer), (mut reader, _their_writer)) = split_pair(stage);
    stage.run(Box::pin(async move {
        write_all(&mut writer, &bytes(FITS), 50).await.expect("a write");
        drop((our_reader, writer));
        assert_same(&read_exact(&mut reader, FITS).await, &bytes(FITS));
        assert_gone(read(&mut reader, &mut [0]).await);
    }));
}

/// A reader that waits learns that its peer was dropped.
pub fn dropped_peer_wakes_a_reader<S: Stage>(stage: &S) {
    let (ours, (mut reader, _their_writer)) = split_pair(stage);
    stage.run(Box::pin(async move {
        let mut buf = [0; 8];
        let read = |cx: &mut Context<'_>| reader.poll_read(cx, &mut [IoSliceMut::new(&mut buf)]);
        let (got, ()) = pending_then(read, || drop(ours)).await;
        assert_gone(got);
    }));
}

/// A writer that waits for room learns that its peer was dropped.
pub fn dropped_peer_wakes_a_full_writer<S: Stage>(stage: &S) {
    let ((_our_reader, mut writer), theirs) = split_pair(stage);
    stage.run(Box::pin(async move {
        fill(&mut writer).await;
        let write = |cx: &mut Context<'_>| writer.poll_write(cx, &[IoSlice::new(b"!")]);
        let (written, ()) = pending_then(write, || drop(theirs)).await;
        let error = written.expect_err("a write to a dropped peer");
        assert!(is_loss(&error), "{error:?}");
    }));
}

/// Writing to a dropped peer is an error (and never a signal that kills the process).
pub fn write_to_a_dropped_peer_fails<S: Stage>(stage: &S) {
    let ((_our_reader, mut writer), theirs) = split_pair(stage);
    stage.run(Box::pin(async move {
        drop(theirs);
        for _ in 0..2 {
            let written = poll_fn(|cx| writer.poll_write(cx, &[IoSlice::new(b"!")])).await;
            let error = written.expect_err("a write to a dropped peer");
            assert!(is_loss(&error), "{error:?}");
        }
    }));
}

/// A half that is dropped takes nothing from the other.
pub fn one_dropped_half_leaves_the_other<S: Stage>(stage: &S) {
    let ((our_reader, mut writer), (mut their_reader, their_writer)) = split_pair(stage);
    stage.run(Box::pin(async move {
        drop(our_reader);
        drop(their_writer);
        write_all(&mut writer, &bytes(FITS), 50).await.expect("a write without our reader");
        close(&mut writer).await.expect("a close");
        let got = read_to_end(&mut their_reader, 7).await.expect("a read without their writer");
        assert_same(&got, &bytes(FITS));
    }));
}

/// `try_read` says `None` when nothing is there, and otherwise what `poll_read` would say.
pub fn try_read_is_honest<S: Stage>(stage: &S) {
    let runtime = stage.runtime();
    let ((_our_reader, mut writer), (mut reader, _their_writer)) = split_pair(stage);
    stage.run(Box::pin(async move {
        let mut buf = [0; 8];
        assert!(try_read(&mut reader, &mut buf).is_none(), "something was read before anything was sent");
        write_all(&mut writer, b"ab", 2).await.expect("a write");
        assert_eq!(read_exact(&mut reader, 1).await, b"a");
        if !S::TRY_READ {
            assert!(try_read(&mut reader, &mut buf).is_none(), "a transport that cannot do this did it");
            return;
        }
        let got = eventually(&*runtime, || try_read(&mut reader, &mut buf)).await;
        assert_eq!((got.expect("a read"), buf[0]), (1, b'b'));
        assert!(try_read(&mut reader, &mut buf).is_none(), "a byte was read twice");
        close(&mut writer).await.expect("a close");
        let got = eventually(&*runtime, || try_read(&mut reader, &mut buf)).await;
        assert_eq!(got.expect("a read of the end"), 0);
    }));
}

fn try_read<R: PollRead>(reader: &mut R, buf: &mut [u8]) -> Option<io::Result<usize>> {
    reader.try_read(&mut [IoSliceMut::new(buf)])
}

/// Tries until there is something, and lets the time pass in between.
async fn eventually<T>(runtime: &impl crate::Runtime, mut attempt: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        runtime.sleep_until(runtime.now() + 1_000).await;
    }
}

fn assert_gone(got: io::Result<usize>) {
    match got {
        Ok(n) => assert_eq!(n, 0, "bytes from a dropped peer"),
        Err(error) => assert!(is_loss(&error), "{error:?}"),
    }
}

/// Writes the pattern from its beginning until the writer has to wait. Gives the number of bytes.
async fn fill<W: PollWrite>(writer: &mut W) -> usize {
    const CHUNK: usize = 1024 * 1024;
    // One write that is awaited: a transport may have to learn first that there is room.
    let mut filled = write(writer, &bytes(1)).await.expect("a write");
    loop {
        let chunk: Vec<u8> = (filled..filled + CHUNK).map(byte_at).collect();
        let polled = poll_fn(|cx| Poll::Ready(writer.poll_write(cx, &[IoSlice::new(&chunk)]))).await;
        match polled {
            Poll::Ready(written) => filled += written.expect("a write"),
            Poll::Pending => return filled,
        }
        assert!(filled < NO_BOUND, "{filled} bytes were taken although nobody reads");
    }
}

/// Polls once, which must be pending; then does `then`, and polls again only when woken.
async fn pending_then<T, U>(
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    then: impl FnOnce() -> U,
) -> (T, U) {
    let mut then = Some(then);
    let mut made = None;
    let value = poll_fn(|cx| {
        let polled = poll(cx);
        if let Some(then) = then.take() {
            assert!(polled.is_pending(), "it was ready before anything happened");
            made = Some(then());
        }
        polled
    })
    .await;
    (value, made.expect("the first poll made it"))
}
