//! The connection that a launcher left for us [T-2].

use std::ffi::OsStr;
use std::os::fd::RawFd;

use crate::fd::{Untaken, take_inherited};
use crate::stream::{NotAStream, UdsStream};

/// The environment variable that holds the number of the inherited descriptor [T-2].
pub const FD_VARIABLE: &str = "MODIPC_FD";

/// The first descriptor that `LISTEN_FDS` counts.
const LISTEN_FDS_START: RawFd = 3;

/// Why no connection could be inherited.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    /// The value is not a descriptor's number above 2.
    #[error(
        "{variable} is {value:?}, which is not the number of a descriptor above 2: the launcher has to put the \
         number of the connected socket there"
    )]
    NotANumber {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
    /// Nothing is open under the number.
    #[error(
        "descriptor {fd} is not open: the launcher did not pass it on (close-on-exec left on?), or this process \
         inherited the variable from a parent that had used it up"
    )]
    NotOpen {
        /// The number.
        fd: RawFd,
    },
    /// Something is open under the number, but this process opened it itself, or took the connection before.
    #[error(
        "descriptor {fd} was not inherited, or was already taken: take the connection once, at the start of the \
         program"
    )]
    NotInherited {
        /// The number.
        fd: RawFd,
    },
    /// What was passed is not a connected Unix stream socket.
    #[error("descriptor {fd} cannot be the connection: {why}")]
    NotAStream {
        /// The number.
        fd: RawFd,
        /// What it is instead.
        why: NotAStream,
    },
    /// `LISTEN_FDS` counts another number of descriptors.
    #[error("LISTEN_FDS passes {count} descriptors: exactly one is expected, the connected socket")]
    Count {
        /// How many were passed.
        count: u32,
    },
}

impl UdsStream {
    /// The connection that the launcher left: `MODIPC_FD`, or else `LISTEN_PID` and `LISTEN_FDS`. `None` if neither is
    /// there for us: this process was not started as a module.
    ///
    /// To be called once, at the start. The descriptor is not passed on to this process's own children.
    ///
    /// # Errors
    /// [`InheritError`].
    pub fn from_env() -> Result<Option<Self>, InheritError> {
        if let Some(value) = std::env::var_os(FD_VARIABLE) {
            return inherited(&value).map(Some);
        }
        match (std::env::var_os("LISTEN_PID"), std::env::var_os("LISTEN_FDS")) {
            (Some(pid), Some(fds)) => inherited_by_listen_fds(&pid, &fds),
            _ => Ok(None),
        }
    }
}

/// Takes the inherited connection that `MODIPC_FD` names.
///
/// # Errors
/// [`InheritError`]. A descriptor that is refused stays open and untouched, for it belongs to somebody else.
pub fn inherited(value: &OsStr) -> Result<UdsStream, InheritError> {
    let fd = number(value).ok_or_else(|| InheritError::NotANumber {
        variable: FD_VARIABLE,
        value: value.to_string_lossy().into_owned(),
    })?;
    take(fd)
}

/// Takes the inherited connection that `LISTEN_PID` and `LISTEN_FDS` announce. `None` if they are meant for another
/// process: a parent's variables are often inherited along.
///
/// # Errors
/// [`InheritError`].
pub fn inherited_by_listen_fds(pid: &OsStr, fds: &OsStr) -> Result<Option<UdsStream>, InheritError> {
    if pid.to_str().and_then(|pid| pid.parse().ok()) != Some(std::process::id()) {
        return Ok(None);
    }
    let count = fds.to_str().and_then(|fds| fds.parse::<u32>().ok()).ok_or_else(|| {
        InheritError::NotANumber { variable: "LISTEN_FDS", value: fds.to_string_lossy().into_owned() }
    })?;
    if count != 1 {
        return Err(InheritError::Count { count });
    }
    take(LISTEN_FDS_START).map(Some)
}

/// 0, 1 and 2 are never the connection: what prints there would destroy it.
fn number(value: &OsStr) -> Option<RawFd> {
    value.to_str()?.parse().ok().filter(|fd| *fd > 2)
}

fn take(fd: RawFd) -> Result<UdsStream, InheritError> {
    let taken = take_inherited(fd, UdsStream::check).map_err(|why| match why {
        Untaken::Closed => InheritError::NotOpen { fd },
        Untaken::Ours => InheritError::NotInherited { fd },
        Untaken::Unwanted(why) => InheritError::NotAStream { fd, why },
    })?;
    UdsStream::try_from(taken).map_err(|why| InheritError::NotAStream { fd, why })
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
    use std::os::unix::net::UnixStream;

    use rustix::io::{FdFlags, fcntl_setfd};

    use super::*;

    fn refusal(value: &str) -> String {
        inherited(OsStr::new(value)).expect_err("nothing to inherit").to_string()
    }

    /// What the launcher leaves: a descriptor without the close-on-exec flag.
    fn leave(fd: impl Into<OwnedFd>) -> String {
        let fd = fd.into();
        fcntl_setfd(&fd, FdFlags::empty()).expect("the flag off");
        fd.into_raw_fd().to_string()
    }

    #[test]
    fn a_connection_is_inherited_once() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let value = leave(theirs);
        let stream = inherited(OsStr::new(&value)).expect("the connection");
        assert_eq!(stream.peer().uid, rustix::process::geteuid().as_raw());
        assert!(refusal(&value).contains("already taken"));
        drop(ours);
    }

    #[test]
    fn what_is_no_descriptor_is_refused_with_its_value() {
        for value in ["", "x", "-1", "0", "1", "2", "3 ", "0x5", "99999999999"] {
            let text = refusal(value);
            assert!(text.contains(&format!("{value:?}")), "{text}");
        }
        assert!(refusal("999983").contains("is not open"));
    }

    #[test]
    fn what_is_our_own_is_refused_and_left_open() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        assert!(refusal(&ours.as_raw_fd().to_string()).contains("not inherited"));
        std::io::Write::write_all(&mut theirs, b"x").expect("the refused end is still open");
    }

    #[test]
    fn what_is_no_connection_is_refused() {
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        assert!(refusal(&leave(reader)).contains("not a socket"));
    }

    #[test]
    fn listen_fds_of_another_process_are_not_ours() {
        let found = inherited_by_listen_fds(OsStr::new("1"), OsStr::new("1")).expect("no error");
        assert!(found.is_none());
        let own = std::process::id().to_string();
        for fds in ["0", "2"] {
            let error =
                inherited_by_listen_fds(OsStr::new(&own), OsStr::new(fds)).expect_err("a wrong count");
            assert!(matches!(error, InheritError::Count { .. }), "{error}");
        }
        let error = inherited_by_listen_fds(OsStr::new(&own), OsStr::new("one")).expect_err("no number");
        assert!(error.to_string().contains("LISTEN_FDS"));
    }
}
