//! A connected Unix stream socket before a runtime has it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketFlags, SocketType, getpeername, socketpair};

use crate::peer::PeerCredentials;

/// A descriptor that is known to be a connected Unix stream socket, does not block, and is not passed on by `exec`.
#[derive(Debug)]
pub struct UdsStream {
    fd: OwnedFd,
    peer: PeerCredentials,
}

/// Why a descriptor is not a connected Unix stream socket.
#[derive(Debug, thiserror::Error)]
pub enum NotAStream {
    /// It is a file, a pipe or the like.
    #[error("it is not a socket")]
    NotASocket,
    /// It is of another address family.
    #[error("it is a socket, but not a Unix socket (address family {family})")]
    NotUnix {
        /// The number of the family.
        family: u16,
    },
    /// It is a datagram or sequenced-packet socket, which keeps message boundaries that this protocol does not have.
    #[error("it is a Unix socket, but not a stream")]
    NotStream,
    /// It listens.
    #[error("it is a listening socket: pass one of the connections that it accepts")]
    Listening,
    /// It has no peer.
    #[error("it is a socket that is not connected")]
    NotConnected,
    /// The system could not say.
    #[error("its properties could not be read: {0}")]
    Io(#[from] io::Error),
}

impl UdsStream {
    /// Who is at the other end. See [`PeerCredentials`] for what that means on a socket pair.
    #[must_use]
    pub fn peer(&self) -> PeerCredentials {
        self.peer
    }

    /// Checks a descriptor without keeping it.
    pub(crate) fn check(fd: BorrowedFd<'_>) -> Result<(), NotAStream> {
        use rustix::io::Errno;
        let family = match socket_domain(fd) {
            Err(Errno::NOTSOCK) => return Err(NotAStream::NotASocket),
            family => family.map_err(io::Error::from)?,
        };
        if family != AddressFamily::UNIX {
            return Err(NotAStream::NotUnix { family: family.as_raw() });
        }
        if socket_type(fd).map_err(io::Error::from)? != SocketType::STREAM {
            return Err(NotAStream::NotStream);
        }
        if socket_acceptconn(fd).map_err(io::Error::from)? {
            return Err(NotAStream::Listening);
        }
        match getpeername(fd) {
            Err(Errno::NOTCONN) => Err(NotAStream::NotConnected),
            name => name.map(drop).map_err(|error| NotAStream::Io(error.into())),
        }
    }
}

impl TryFrom<OwnedFd> for UdsStream {
    type Error = NotAStream;

    fn try_from(fd: OwnedFd) -> Result<Self, NotAStream> {
        Self::check(fd.as_fd())?;
        fcntl_setfd(&fd, FdFlags::CLOEXEC).map_err(io::Error::from)?;
        ioctl_fionbio(&fd, true).map_err(io::Error::from)?;
        let peer = PeerCredentials::of(&fd)?;
        Ok(Self { fd, peer })
    }
}

impl From<UdsStream> for OwnedFd {
    fn from(stream: UdsStream) -> Self {
        stream.fd
    }
}

impl AsFd for UdsStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A connection to a child that is yet to be started: our end, and the child's.
///
/// Both have the close-on-exec flag, so that no other child inherits them by accident. The launcher lets exactly one
/// child have its end by duplicating it without the flag between `fork` and `exec`, and names the number in
/// [`FD_VARIABLE`](crate::FD_VARIABLE) [T-2]. The launcher drops its copy afterwards: as long as it is open, the child's
/// death does not end the stream. The child's end blocks, as programs in other languages expect.
///
/// # Errors
/// The system's: `EMFILE`, `ENFILE` or `ENOMEM`.
pub fn socketpair_for_child() -> io::Result<(UdsStream, OwnedFd)> {
    let (ours, childs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    ioctl_fionbio(&ours, true)?;
    let peer = PeerCredentials::of(&ours)?;
    Ok((UdsStream { fd: ours, peer }, childs))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use rustix::fs::{OFlags, fcntl_getfl};
    use rustix::io::fcntl_getfd;

    use super::*;

    fn refusal(fd: impl Into<OwnedFd>) -> String {
        UdsStream::try_from(fd.into()).expect_err("not a connected Unix stream").to_string()
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(dir.path().join("s")).expect("a listener");
        let alone = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
        let (datagram, _other) = UnixDatagram::pair().expect("a pair");
        let (pipe, _writer) = io::pipe().expect("a pipe");
        assert!(refusal(pipe).contains("not a socket"));
        assert!(refusal(TcpListener::bind("127.0.0.1:0").expect("a listener")).contains("not a Unix socket"));
        assert!(refusal(datagram).contains("not a stream"));
        assert!(refusal(listener).contains("listening"));
        assert!(refusal(alone).contains("not connected"));
    }

    #[test]
    fn a_stream_does_not_block_and_is_not_passed_on() {
        let (one, _other) = UnixStream::pair().expect("a pair");
        let fd = OwnedFd::from(one);
        fcntl_setfd(&fd, FdFlags::empty()).expect("the flag off");
        let stream = UdsStream::try_from(fd).expect("a stream");
        assert_eq!(fcntl_getfd(&stream).expect("flags"), FdFlags::CLOEXEC);
        assert!(fcntl_getfl(&stream).expect("flags").contains(OFlags::NONBLOCK));
        assert_eq!(stream.peer().pid, std::process::id().cast_signed());
    }

    #[test]
    fn a_stream_whose_peer_is_gone_is_still_one() {
        let (one, other) = UnixStream::pair().expect("a pair");
        drop(other);
        assert!(UdsStream::try_from(OwnedFd::from(one)).is_ok());
    }

    #[test]
    fn the_childs_end_blocks_and_ours_does_not() {
        let (ours, childs) = socketpair_for_child().expect("a pair");
        assert!(fcntl_getfl(&ours).expect("flags").contains(OFlags::NONBLOCK));
        assert!(!fcntl_getfl(&childs).expect("flags").contains(OFlags::NONBLOCK));
        assert_eq!(fcntl_getfd(&childs).expect("flags"), FdFlags::CLOEXEC);
    }
}
