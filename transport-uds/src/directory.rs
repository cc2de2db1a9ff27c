//! The private directory of a listening socket. What is in it nobody else can have put there.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, chmodat, fchmod, flock, fstat, lstat, mkdir, openat, stat,
    statat, unlinkat,
};
use rustix::io::Errno;

use crate::facts::{Facts, Kind};
use crate::listen::ListenError;

/// What is wrong with a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirFault {
    /// It is something else; links are not followed.
    #[error("it is {kind}; name the directory itself, or remove what is there")]
    NotADirectory {
        /// What it is.
        kind: Kind,
    },
    /// It belongs to somebody else.
    #[error("it belongs to user {uid}, and we are user {own_uid}: use a directory of our own")]
    Owner {
        /// Its owner.
        uid: u32,
        /// Our effective user.
        own_uid: u32,
    },
    /// Others may put things there.
    #[error("its mode {mode:04o} lets others write: chmod it to 0700")]
    Writable {
        /// Its permission bits.
        mode: u32,
    },
    /// Others may replace it by a directory of theirs.
    #[error(
        "its parent's mode {mode:04o} lets others replace it: chmod the parent to 0755, or set its sticky bit"
    )]
    ParentWritable {
        /// The parent's permission bits.
        mode: u32,
    },
}

/// The bits that let others than the owner write.
const OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;
const PRIVATE_DIR: Mode = Mode::RWXU;
const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Whether this may be the directory of our socket.
pub(crate) fn check(directory: &Facts, parent: &Facts, own_uid: u32) -> Result<(), DirFault> {
    if directory.kind != Kind::Directory {
        return Err(DirFault::NotADirectory { kind: directory.kind });
    }
    if directory.uid != own_uid {
        return Err(DirFault::Owner { uid: directory.uid, own_uid });
    }
    if directory.mode & OTHERS_WRITE != 0 {
        return Err(DirFault::Writable { mode: directory.mode });
    }
    if parent.mode & OTHERS_WRITE != 0 && parent.mode & STICKY == 0 {
        return Err(DirFault::ParentWritable { mode: parent.mode });
    }
    Ok(())
}

/// A directory that passed the check, held open: names are looked up in it, wherever its path may lead by then.
#[derive(Debug)]
pub(crate) struct PrivateDir {
    fd: OwnedFd,
    path: PathBuf,
}

impl PrivateDir {
    /// Opens the directory, and makes it (0700) if it is not there. Its parents must be.
    pub(crate) fn open(path: &Path) -> Result<Self, ListenError> {
        // Without a trailing slash or dot, which would make the system follow a link.
        let path: PathBuf = path.components().collect();
        let io = |doing| {
            let path = path.clone();
            move |source: Errno| ListenError::Io { doing, path, source: source.into() }
        };
        let made = match mkdir(&path, PRIVATE_DIR) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(io("make the directory")(error)),
        };
        let found = Facts::from(lstat(&path).map_err(io("look at the directory"))?);
        let fault = |fault| ListenError::Directory { path: path.clone(), fault };
        if found.kind != Kind::Directory {
            return Err(fault(DirFault::NotADirectory { kind: found.kind }));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(CWD, &path, flags, Mode::empty()).map_err(io("open the directory"))?;
        if made {
            // Whatever the umask took away.
            fchmod(&fd, PRIVATE_DIR).map_err(io("set the mode of the directory"))?;
        }
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let parent = Facts::from(stat(parent).map_err(io("look at the parent of the directory"))?);
        let opened = Facts::from(fstat(&fd).map_err(io("look at the directory"))?);
        check(&opened, &parent, rustix::process::geteuid().as_raw()).map_err(fault)?;
        Ok(Self { fd, path })
    }

    /// What a name in the directory is, links not followed; `None` if there is nothing.
    pub(crate) fn look(&self, name: &OsStr) -> io::Result<Option<Facts>> {
        match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a name, if it is still this file.
    pub(crate) fn remove(&self, name: &OsStr, file: &Facts) -> io::Result<()> {
        match self.look(name)? {
            Some(found) if found.same_file(file) => Ok(unlinkat(&self.fd, name, AtFlags::empty())?),
            _ => Ok(()),
        }
    }

    /// Lets only the owner use what this name is.
    pub(crate) fn make_private(&self, name: &OsStr) -> io::Result<()> {
        Ok(chmodat(&self.fd, name, PRIVATE_FILE, AtFlags::empty())?)
    }

    /// Takes the lock of a name, which one process at a time has. `None` if another has it.
    ///
    /// The lock is a file of its own: who looks at a socket, finds it stale and replaces it must not be joined by another
    /// who does the same.
    pub(crate) fn lock(&self, name: &str) -> Result<Option<Lock>, ListenError> {
        const ATTEMPTS: u32 = 16;
        let name = format!(".{name}.lock");
        let io = |doing| {
            let path = self.path.join(&name);
            move |source: io::Error| ListenError::Io { doing, path, source }
        };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        for _ in 0..ATTEMPTS {
            let file = openat(&self.fd, &name, flags, PRIVATE_FILE)
                .map_err(|error| io("open the lock file")(error.into()))?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(io("lock the lock file")(error.into())),
            }
            let opened =
                Facts::from(fstat(&file).map_err(|error| io("look at the lock file")(error.into()))?);
            let named = self.look(OsStr::new(&name)).map_err(io("look at the lock file"))?;
            // Its last holder may have removed it between our opening and our locking it.
            if named.is_some_and(|named| named.same_file(&opened)) {
                return Ok(Some(Lock { _file: file, name, facts: opened }));
            }
        }
        Ok(None)
    }

    /// Gives a lock back and removes its file.
    pub(crate) fn unlock(&self, lock: &Lock) -> io::Result<()> {
        self.remove(OsStr::new(&lock.name), &lock.facts)
    }
}

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: OwnedFd,
    name: String,
    facts: Facts,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(kind: Kind, uid: u32, mode: u32) -> Facts {
        Facts { kind, uid, mode, device: 1, inode: 2 }
    }

    /// As root most of these cannot be produced for real, because root may do anything: so the facts are injected.
    #[test]
    fn only_a_directory_of_our_own_that_nobody_else_writes_will_do() {
        let fine = facts(Kind::Directory, 1_000, 0o700);
        let parent = facts(Kind::Directory, 0, 0o755);
        let sticky = facts(Kind::Directory, 0, 0o1777);
        assert_eq!(check(&fine, &parent, 1_000), Ok(()));
        assert_eq!(check(&fine, &sticky, 1_000), Ok(()));
        assert_eq!(check(&facts(Kind::Directory, 1_000, 0o755), &parent, 1_000), Ok(()));
        for kind in [Kind::Symlink, Kind::File, Kind::Socket, Kind::Other] {
            let fault = DirFault::NotADirectory { kind };
            assert_eq!(check(&facts(kind, 1_000, 0o700), &parent, 1_000), Err(fault));
        }
        for (uid, own_uid) in [(0, 1_000), (1_000, 0), (1_001, 1_000)] {
            let fault = DirFault::Owner { uid, own_uid };
            assert_eq!(check(&facts(Kind::Directory, uid, 0o700), &parent, own_uid), Err(fault));
        }
        for mode in [0o777, 0o770, 0o702, 0o720, 0o1777] {
            let fault = DirFault::Writable { mode };
            assert_eq!(check(&facts(Kind::Directory, 1_000, mode), &parent, 1_000), Err(fault));
        }
        for mode in [0o777, 0o775] {
            let fault = DirFault::ParentWritable { mode };
            assert_eq!(check(&fine, &facts(Kind::Directory, 0, mode), 1_000), Err(fault));
        }
    }
}
