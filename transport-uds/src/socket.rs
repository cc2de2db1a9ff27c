//! The system calls on a connected stream. None of them blocks, whatever the descriptor's own flags say: an inherited
//! socket shares these flags with the process that it came from.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, recvmsg, send, sendmsg,
    shutdown,
};

use crate::reactor::Done;

/// The most slices of one system call (`UIO_MAXIOV`); with more it fails with `EMSGSIZE`.
const SLICES_MAX: usize = 1_024;

/// Reads what is there. `exhausted` says that the kernel has no more: a stream socket fills the buffers if it can.
///
/// A peer that sends descriptors or out-of-band data in spite of [T-1] can make a read short although more is there. The
/// descriptors are discarded by the kernel, and the rest is read when the next bytes arrive; it holds up nobody else.
pub(crate) fn receive(fd: impl AsFd, bufs: &mut [IoSliceMut<'_>]) -> io::Result<Done<usize>> {
    let first = bufs.iter().position(|buf| !buf.is_empty()).unwrap_or(0);
    let end = bufs.len().min(first + SLICES_MAX);
    let bufs = bufs.get_mut(first..end).unwrap_or_default();
    let room: usize = bufs.iter().map(|buf| buf.len()).sum();
    let bytes = repeat(|| match &mut *bufs {
        [only] => recv(&fd, &mut **only, RecvFlags::DONTWAIT).map(|(bytes, _)| bytes),
        bufs => {
            // Without room for control messages the kernel closes whatever descriptors a peer sends.
            let mut control = RecvAncillaryBuffer::default();
            recvmsg(&fd, bufs, &mut control, RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC)
                .map(|message| message.bytes)
        }
    })?;
    // The end of the stream exhausts nothing: it is read again and again.
    Ok(Done { value: bytes, exhausted: bytes > 0 && bytes < room })
}

/// Writes what there is room for. `exhausted` says that there is no more room. A dead peer is an error, not a SIGPIPE.
pub(crate) fn transmit(fd: impl AsFd, bufs: &[IoSlice<'_>]) -> io::Result<Done<usize>> {
    let first = bufs.iter().position(|buf| !buf.is_empty()).unwrap_or(0);
    let end = bufs.len().min(first + SLICES_MAX);
    let bufs = bufs.get(first..end).unwrap_or_default();
    let offered: usize = bufs.iter().map(|buf| buf.len()).sum();
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let bytes = repeat(|| match bufs {
        [only] => send(&fd, only, flags),
        bufs => sendmsg(&fd, bufs, &mut SendAncillaryBuffer::default(), flags),
    })?;
    Ok(Done { value: bytes, exhausted: bytes < offered })
}

/// Ends our direction. A peer that is gone needs no end.
pub(crate) fn close(fd: impl AsFd) -> io::Result<()> {
    match repeat(|| shutdown(&fd, Shutdown::Write)) {
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
        closed => closed,
    }
}

/// Repeats a call that a signal interrupted.
pub(crate) fn repeat<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    /// Blocking sockets, on purpose.
    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .expect("a socket pair")
    }

    #[test]
    fn nothing_blocks_even_on_a_blocking_socket() {
        let (ours, _theirs) = pair();
        let error = receive(&ours, &mut [IoSliceMut::new(&mut [0; 4])]).expect_err("nothing was sent");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let chunk = vec![0; 1 << 20];
        let mut sent = 0;
        let error = loop {
            match transmit(&ours, &[IoSlice::new(&chunk)]) {
                Ok(done) => sent += done.value,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(sent > 0);
    }

    #[test]
    fn exhausted_is_said_when_and_only_when_it_is_so() {
        let (ours, theirs) = pair();
        transmit(&ours, &[IoSlice::new(b"abcdef")]).expect("a write");
        let read = |room: usize| receive(&theirs, &mut [IoSliceMut::new(&mut vec![0; room])]);
        assert_eq!(read(4).expect("a read"), Done { value: 4, exhausted: false });
        assert_eq!(read(4).expect("a read"), Done { value: 2, exhausted: true });
        drop(ours);
        assert_eq!(read(4).expect("a read"), Done { value: 0, exhausted: false });
    }

    #[test]
    fn leading_empty_slices_are_not_the_end() {
        let (ours, theirs) = pair();
        let empty = [0_u8; 0];
        let mut slices = vec![IoSlice::new(&empty); 2_000];
        slices.push(IoSlice::new(b"x"));
        assert_eq!(transmit(&ours, &slices).expect("a write"), Done { value: 1, exhausted: false });
        let mut byte = [0; 1];
        let mut empties: Vec<[u8; 0]> = vec![[]; 2_000];
        let mut bufs: Vec<_> = empties.iter_mut().map(|empty| IoSliceMut::new(empty)).collect();
        bufs.push(IoSliceMut::new(&mut byte));
        assert_eq!(receive(&theirs, &mut bufs).expect("a read").value, 1);
        assert_eq!(byte, *b"x");
    }

    #[test]
    fn an_interrupted_call_is_repeated() {
        let mut left = 3;
        let value = repeat(|| {
            left -= 1;
            if left > 0 { Err(Errno::INTR) } else { Ok(7) }
        });
        assert_eq!(value.expect("the third attempt"), 7);
    }

    #[test]
    fn descriptors_that_a_peer_sends_are_not_received() {
        use rustix::net::{SendAncillaryMessage, sendmsg};
        let (ours, theirs) = pair();
        let (secret, kept) = pair();
        let mut space = [core::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [secret.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        sendmsg(&ours, &[IoSlice::new(b"ab")], &mut control, SendFlags::NOSIGNAL).expect("a send");
        let (mut one, mut two) = ([0; 1], [0; 1]);
        let mut bufs = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
        assert_eq!(receive(&theirs, &mut bufs).expect("a read").value, 2);
        drop(secret);
        // The kept end sees the end of the stream: no copy of the descriptor lives on in this process.
        let end = receive(&kept, &mut [IoSliceMut::new(&mut [0; 1])]).expect("a read of the end");
        assert_eq!(end.value, 0);
    }
}
