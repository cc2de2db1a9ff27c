//! What a failed `accept` means. One that fails does not end the listener.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// An `accept` that failed. Unless it [is final](AcceptError::is_final) the listener goes on: report it and accept again.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The connection was gone before it was accepted.
    #[error("a connection to {} was lost before it was accepted: {source}", path.display())]
    Lost {
        /// The listener's path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There are no descriptors or no memory for another connection. The listener waits before it tries again.
    #[error(
        "no room for another connection to {}: {source}; tried again in {retry_us} us. Raise the limit of open files, or \
         serve fewer modules",
        path.display()
    )]
    Exhausted {
        /// The listener's path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// How long the next `accept` waits first, in microseconds.
        retry_us: u64,
    },
    /// The listening socket is of no use any more.
    #[error("{} cannot accept any more: {source}", path.display())]
    Broken {
        /// The listener's path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl AcceptError {
    /// Whether the listener is of no use any more.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Broken { .. })
    }
}

/// How long to wait after failures in a row, in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    last_us: u64,
}

impl Retry {
    const FIRST_US: u64 = 10_000;
    const LONGEST_US: u64 = 1_000_000;

    /// An `accept` succeeded.
    pub(crate) fn reset(&mut self) {
        self.last_us = 0;
    }

    /// What to make of a failure. With [`AcceptError::Exhausted`] comes the wait.
    pub(crate) fn failed(&mut self, path: &Path, source: io::Error) -> AcceptError {
        let path = path.to_owned();
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(
                Errno::CONNABORTED
                | Errno::CONNRESET
                | Errno::PROTO
                | Errno::PERM
                | Errno::NOTCONN
                | Errno::PIPE,
            ) => AcceptError::Lost { path, source },
            Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP | Errno::FAULT) => {
                AcceptError::Broken { path, source }
            }
            // EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC; and whatever we do not know must not make a busy loop either.
            _ => {
                self.last_us = (self.last_us * 2).clamp(Self::FIRST_US, Self::LONGEST_US);
                AcceptError::Exhausted { path, source, retry_us: self.last_us }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(retry: &mut Retry, errno: Errno) -> AcceptError {
        retry.failed(Path::new("/run/x/s"), errno.into())
    }

    #[test]
    fn only_a_useless_socket_is_final() {
        let mut retry = Retry::default();
        for errno in
            [Errno::CONNABORTED, Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::PROTO]
        {
            assert!(!failed(&mut retry, errno).is_final(), "{errno:?}");
        }
        for errno in [Errno::BADF, Errno::INVAL, Errno::NOTSOCK] {
            assert!(failed(&mut retry, errno).is_final(), "{errno:?}");
        }
        let unknown = retry.failed(Path::new("/run/x/s"), io::Error::other("?"));
        assert!(matches!(unknown, AcceptError::Exhausted { .. }), "{unknown}");
    }

    #[test]
    fn the_wait_doubles_up_to_a_second_and_starts_anew_after_a_success() {
        let mut retry = Retry::default();
        let wait = |retry: &mut Retry| match failed(retry, Errno::MFILE) {
            AcceptError::Exhausted { retry_us, .. } => retry_us,
            other => panic!("{other}"),
        };
        let waits: Vec<u64> = (0..9).map(|_| wait(&mut retry)).collect();
        assert_eq!(waits[..3], [10_000, 20_000, 40_000]);
        assert_eq!(waits[7..], [1_000_000, 1_000_000]);
        retry.reset();
        assert_eq!(wait(&mut retry), 10_000);
    }
}
