//! Taking a path: the socket of a host, in its private directory, without following a link and without taking it away
//! from somebody who lives.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use crate::directory::{DirFault, Lock, PrivateDir};
use crate::facts::{Facts, Kind, PathTooLong};
use crate::peer::PeerCredentials;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// A directory of our own, for instance under `$XDG_RUNTIME_DIR` or `/run`. It is made (0700) if it is not there; its
    /// parents must be.
    pub dir: PathBuf,
    /// The socket's name in it.
    pub name: String,
}

/// Why a path could not be listened on. Nothing was removed that was not certainly dead.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The name cannot be a file's.
    #[error(
        "the socket's name {name:?} is not a plain file name: it must not be empty, `.` or `..`, nor have a `/` or a \
             zero byte"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The path is too long for a socket.
    #[error(transparent)]
    PathTooLong(#[from] PathTooLong),
    /// The directory is not safe.
    #[error("the directory {} will not do: {fault}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        fault: DirFault,
    },
    /// Something else has the socket's name.
    #[error("{} is {kind} and not a socket of ours: move it away, or use another name", path.display())]
    NotASocket {
        /// The socket's path.
        path: PathBuf,
        /// What is there.
        kind: Kind,
    },
    /// Another process listens there, or is about to.
    #[error("{} is in use by {}: stop it, or use another name", path.display(), Holder(*pid))]
    InUse {
        /// The socket's path.
        path: PathBuf,
        /// The process, if it could be told.
        pid: Option<i32>,
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

struct Holder(Option<i32>);

impl core::fmt::Display for Holder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => write!(f, "another process"),
        }
    }
}

/// How many connections wait for `accept`. The system lowers it to `net.core.somaxconn` (4,096 by default).
const BACKLOG: i32 = 1_024;

/// A socket that listens, and its place in the file system. Dropping it removes the socket's file, if it is still ours.
#[derive(Debug)]
pub struct BoundListener {
    // In this order: the place is tidied up before the socket is closed.
    place: Place,
    socket: OwnedFd,
}

impl BoundListener {
    /// Listens at `dir/name`. The directory is 0700, the socket 0600 whatever the umask is.
    ///
    /// A socket that is there already is tried: if nobody answers it is a leftover and is removed, otherwise this fails
    /// with [`ListenError::InUse`]. A lock file beside it makes sure that of two who start at the same time one succeeds.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn bind(config: &ListenerConfig) -> Result<Self, ListenError> {
        let name = config.name.as_str();
        if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) {
            return Err(ListenError::Name { name: name.to_owned() });
        }
        let path: PathBuf = config.dir.components().chain(Path::new(name).components()).collect();
        PathTooLong::check(&path)?;
        let directory = PrivateDir::open(&config.dir)?;
        let Some(lock) = directory.lock(name)? else {
            let pid = match probe(&path) {
                Ok(Probe::Alive(pid)) => pid,
                _ => None,
            };
            return Err(ListenError::InUse { path, pid });
        };
        let mut place = Place { directory, name: name.to_owned(), path, lock, socket: None };
        place.clear()?;
        let socket = place.bind()?;
        Ok(Self { place, socket })
    }

    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// The socket and its place, which must be kept for as long as the socket listens.
    pub(crate) fn into_parts(self) -> (Place, OwnedFd) {
        (self.place, self.socket)
    }
}

/// A name in a private directory, locked, with our socket under it.
#[derive(Debug)]
pub(crate) struct Place {
    directory: PrivateDir,
    name: String,
    path: PathBuf,
    lock: Lock,
    /// Our socket's file, once there is one.
    socket: Option<Facts>,
}

impl Place {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn io(&self, doing: &'static str) -> impl FnOnce(io::Error) -> ListenError {
        let path = self.path.clone();
        move |source| ListenError::Io { doing, path, source }
    }

    /// Makes the name free, if what has it is certainly dead.
    fn clear(&self) -> Result<(), ListenError> {
        let name = OsStr::new(&self.name);
        let Some(found) = self.directory.look(name).map_err(self.io("look at"))? else { return Ok(()) };
        if found.kind != Kind::Socket {
            return Err(ListenError::NotASocket { path: self.path.clone(), kind: found.kind });
        }
        match probe(&self.path).map_err(self.io("find out whether anybody listens at"))? {
            Probe::Alive(pid) => Err(ListenError::InUse { path: self.path.clone(), pid }),
            Probe::Dead => self.directory.remove(name, &found).map_err(self.io("remove the stale socket")),
        }
    }

    fn bind(&mut self) -> Result<OwnedFd, ListenError> {
        let name = self.name.clone();
        let name = OsStr::new(&name);
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(|error| self.io("make a socket for")(error.into()))?;
        let address = SocketAddrUnix::new(&self.path).map_err(|error| self.io("name")(error.into()))?;
        match bind(&socket, &address) {
            Err(Errno::ADDRINUSE) => {
                return Err(ListenError::InUse { path: self.path.clone(), pid: None });
            }
            bound => bound.map_err(|error| self.io("bind the socket to")(error.into()))?,
        }
        let made = self.directory.look(name).map_err(self.io("look at"))?;
        let Some(made) = made.filter(|made| made.kind == Kind::Socket) else {
            let replaced = io::Error::other("the directory was replaced while the socket was being made");
            return Err(self.io("find the socket at")(replaced));
        };
        self.socket = Some(made);
        self.directory.make_private(name).map_err(self.io("set the mode of"))?;
        // Only now can anybody connect: a socket that does not listen yet refuses, whatever its mode was until here.
        listen(&socket, BACKLOG).map_err(|error| self.io("listen at")(error.into()))?;
        Ok(socket)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Nobody is left to tell of a failure; the next to start finds a stale socket and removes it.
        if let Some(socket) = &self.socket {
            let _ = self.directory.remove(OsStr::new(&self.name), socket);
        }
        let _ = self.directory.unlock(&self.lock);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Probe {
    /// Somebody listens; the process, if it could be told.
    Alive(Option<i32>),
    Dead,
}

/// Connects, to find out whether anybody listens.
fn probe(path: &Path) -> io::Result<Probe> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) => Ok(Probe::Alive(PeerCredentials::of(socket.as_fd()).ok().map(|peer| peer.pid))),
        // Nobody listens, or it is gone by now.
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(Probe::Dead),
        // So many wait that we may not; or it is a live socket of another type.
        Err(Errno::AGAIN | Errno::PROTOTYPE) => Ok(Probe::Alive(None)),
        Err(error) => Err(error.into()),
    }
}
