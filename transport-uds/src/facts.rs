//! What the file system says about a path, as a value, so that what we conclude from it can be tested without having to
//! be another user.

use core::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A socket.
    Socket,
    /// A symbolic link.
    Symlink,
    /// A regular file.
    File,
    /// A device or a named pipe.
    Other,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "a directory",
            Self::Socket => "a socket",
            Self::Symlink => "a symbolic link",
            Self::File => "a regular file",
            Self::Other => "a device or a named pipe",
        })
    }
}

/// What the checks look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) kind: Kind,
    pub(crate) uid: u32,
    /// The permission bits, with sticky and the set-id bits.
    pub(crate) mode: u32,
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl Facts {
    pub(crate) fn same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl From<Stat> for Facts {
    fn from(stat: Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::Socket => Kind::Socket,
            FileType::Symlink => Kind::Symlink,
            FileType::RegularFile => Kind::File,
            _ => Kind::Other,
        };
        Self { kind, uid: stat.st_uid, mode: stat.st_mode & 0o7777, device: stat.st_dev, inode: stat.st_ino }
    }
}

/// The bytes of a socket address's path, with its closing zero byte (`sun_path` of unix(7)).
pub const SUN_PATH_BYTES: usize = 108;

/// The path does not fit into a socket address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the socket path {} has {bytes} bytes; the system allows {limit}: use a shorter directory (under $XDG_RUNTIME_DIR or \
     /run), or a path relative to the working directory",
    path.display()
)]
pub struct PathTooLong {
    /// The path.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: usize,
    /// The longest that is possible.
    pub limit: usize,
}

impl PathTooLong {
    pub(crate) fn check(path: &Path) -> Result<(), Self> {
        let bytes = path.as_os_str().as_bytes().len();
        let limit = SUN_PATH_BYTES - 1;
        if bytes <= limit { Ok(()) } else { Err(Self { path: path.to_owned(), bytes, limit }) }
    }
}
