//! Connecting to a host's path, with a look at the path before and at the host afterwards.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{lstat, stat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect as connect_to, socket_with,
};

use crate::facts::{Facts, Kind, PathTooLong};
use crate::peer::{PeerCredentials, PeerPolicy, PeerRefused};
use crate::stream::{NotAStream, UdsStream};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The path is too long for a socket.
    #[error(transparent)]
    PathTooLong(#[from] PathTooLong),
    /// There is nothing.
    #[error("there is no socket {}: is the host running, and with this path?", path.display())]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// There is something else.
    #[error("{} is {kind} and not a socket (links are not followed): name the host's socket itself", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
        /// What is there.
        kind: Kind,
    },
    /// Anybody could have put the socket there.
    #[error(
        "{} is in a directory that everybody may write (mode {mode:04o}), so anybody may have put it there: the \
         host's socket has to be in a private directory",
        path.display()
    )]
    ParentWritable {
        /// The path.
        path: PathBuf,
        /// The directory's permission bits.
        mode: u32,
    },
    /// The socket is there, but nobody listens.
    #[error("nobody listens at {}: the host has ended; start it again", path.display())]
    NobodyListens {
        /// The path.
        path: PathBuf,
    },
    /// The host does not keep up.
    #[error("too many connections wait at {}: try again later", path.display())]
    Busy {
        /// The path.
        path: PathBuf,
    },
    /// The file system does not let us.
    #[error("{} is not open to user {own_uid}: run as the host's user, or let the operator give access", path.display())]
    PermissionDenied {
        /// The path.
        path: PathBuf,
        /// Our effective user.
        own_uid: u32,
    },
    /// Somebody else than the socket's owner answers.
    #[error("{} belongs to user {owner_uid}, but {server} answers: this is not the host", path.display())]
    Impostor {
        /// The path.
        path: PathBuf,
        /// The owner of the socket's file.
        owner_uid: u32,
        /// Who answers.
        server: PeerCredentials,
    },
    /// The host is not one that we talk to.
    #[error("{}: {refused}", path.display())]
    Refused {
        /// The path.
        path: PathBuf,
        /// Who answers, and who may.
        refused: PeerRefused,
    },
    /// What the path names was replaced while we connected.
    #[error("{} was replaced while we connected to it: try again", path.display())]
    Replaced {
        /// The path.
        path: PathBuf,
    },
    /// The system refused something.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Connects to the socket of a host [T-2], if it is certain that it is the host's: the path names a socket and not a link, in
/// a directory that not everybody may write, and the one who answers is its owner and allowed by the policy.
///
/// It does not wait: a host whose queue is full is [`ConnectError::Busy`].
///
/// # Errors
/// [`ConnectError`].
pub fn connect(path: &Path, policy: &PeerPolicy) -> Result<UdsStream, ConnectError> {
    PathTooLong::check(path)?;
    let socket = look(path)?;
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let parent = Facts::from(stat(parent).map_err(|error| failed("look at the directory of", path, error))?);
    check_path(path, &socket, &parent)?;
    let stream = open(path)?;
    let server = stream.peer();
    check_server(path, socket.uid, server)?;
    if !look(path)?.same_file(&socket) {
        return Err(ConnectError::Replaced { path: path.to_owned() });
    }
    policy.check(server).map_err(|refused| ConnectError::Refused { path: path.to_owned(), refused })?;
    Ok(stream)
}

fn check_path(path: &Path, socket: &Facts, parent: &Facts) -> Result<(), ConnectError> {
    const EVERYBODY_WRITES: u32 = 0o002;
    if socket.kind != Kind::Socket {
        return Err(ConnectError::NotASocket { path: path.to_owned(), kind: socket.kind });
    }
    // The sticky bit is no excuse: it protects the host's socket while there is one, and not its name before and after.
    if parent.mode & EVERYBODY_WRITES != 0 {
        return Err(ConnectError::ParentWritable { path: path.to_owned(), mode: parent.mode });
    }
    Ok(())
}

fn check_server(path: &Path, owner_uid: u32, server: PeerCredentials) -> Result<(), ConnectError> {
    if server.uid == owner_uid {
        return Ok(());
    }
    Err(ConnectError::Impostor { path: path.to_owned(), owner_uid, server })
}

fn look(path: &Path) -> Result<Facts, ConnectError> {
    lstat(path).map(Facts::from).map_err(|error| failed("look at", path, error))
}

fn open(path: &Path) -> Result<UdsStream, ConnectError> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket: OwnedFd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|error| failed("make a socket for", path, error))?;
    let address = SocketAddrUnix::new(path).map_err(|error| failed("name", path, error))?;
    loop {
        match connect_to(&socket, &address) {
            Ok(()) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(failed("connect to", path, error)),
        }
    }
    UdsStream::try_from(socket).map_err(|why| match why {
        // It was connected a moment ago, so the peer is already gone again.
        NotAStream::NotConnected => ConnectError::NobodyListens { path: path.to_owned() },
        NotAStream::Io(source) => {
            ConnectError::Io { doing: "set up the connection to", path: path.to_owned(), source }
        }
        why => ConnectError::Io {
            doing: "use the connection to",
            path: path.to_owned(),
            source: io::Error::other(why),
        },
    })
}

/// What an error of the system means here.
fn failed(doing: &'static str, path: &Path, error: Errno) -> ConnectError {
    let path = path.to_owned();
    match error {
        Errno::NOENT | Errno::NOTDIR => ConnectError::NotFound { path },
        Errno::CONNREFUSED => ConnectError::NobodyListens { path },
        Errno::AGAIN => ConnectError::Busy { path },
        Errno::ACCESS | Errno::PERM => {
            ConnectError::PermissionDenied { path, own_uid: rustix::process::geteuid().as_raw() }
        }
        error => ConnectError::Io { doing, path, source: error.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(kind: Kind, mode: u32) -> Facts {
        Facts { kind, uid: 7, mode, device: 1, inode: 2 }
    }

    #[test]
    fn only_a_socket_in_a_directory_of_few_will_do() {
        let path = Path::new("/run/x/s");
        let parent = facts(Kind::Directory, 0o700);
        assert!(check_path(path, &facts(Kind::Socket, 0o600), &parent).is_ok());
        for kind in [Kind::Symlink, Kind::File, Kind::Directory, Kind::Other] {
            let error = check_path(path, &facts(kind, 0o600), &parent).expect_err("not a socket");
            assert!(
                matches!(error, ConnectError::NotASocket { kind: found, .. } if found == kind),
                "{error}"
            );
        }
        for mode in [0o777, 0o1777, 0o702] {
            let parent = facts(Kind::Directory, mode);
            let error = check_path(path, &facts(Kind::Socket, 0o600), &parent).expect_err("writable by all");
            assert!(
                matches!(error, ConnectError::ParentWritable { mode: found, .. } if found == mode),
                "{error}"
            );
        }
    }

    /// Another user's server cannot be had without being root, and root's server would be the owner's: so it is injected.
    #[test]
    fn whoever_answers_must_be_the_owner() {
        let server = PeerCredentials { pid: 9, uid: 8, gid: 8 };
        let error = check_server(Path::new("/run/x/s"), 7, server).expect_err("an impostor");
        let text = error.to_string();
        assert!(text.contains("user 7") && text.contains("user 8") && text.contains("process 9"), "{text}");
        assert!(check_server(Path::new("/run/x/s"), 8, server).is_ok());
    }

    /// Root passes every permission check, so the error is injected.
    #[test]
    fn a_refusal_of_the_file_system_says_who_we_are() {
        for error in [Errno::ACCESS, Errno::PERM] {
            let error = failed("connect to", Path::new("/run/x/s"), error);
            assert!(matches!(error, ConnectError::PermissionDenied { .. }), "{error}");
            assert!(error.to_string().contains("/run/x/s"));
        }
    }
}
