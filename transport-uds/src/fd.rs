//! Descriptors that are taken on trust: the only module of this crate with `unsafe`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use rustix::io::{FdFlags, fcntl_setfd};

/// Why a number is not the descriptor that this process is to take.
#[derive(Debug)]
pub(crate) enum Untaken<E> {
    /// It is not open.
    Closed,
    /// It is open, but with the close-on-exec flag: it did not come through an `exec`, so this process opened it, and it
    /// belongs to whoever did.
    Ours,
    /// It is inherited, but the caller does not want it.
    Unwanted(E),
}

/// Takes ownership of a descriptor that came through `exec` and passes the check, once: it gets the close-on-exec flag,
/// which also marks it as taken. One that is not taken stays as it is.
///
/// Everything that Rust's standard library and this crate open has this flag from birth, so a number without it is
/// inherited, or was opened by code that leaks it to every child. The launcher's word is what tells these two apart: it
/// names the number [T-2], and the caller's check demands that it is a connected Unix stream.
pub(crate) fn take_inherited<E>(
    number: RawFd,
    check: impl FnOnce(BorrowedFd<'_>) -> Result<(), E>,
) -> Result<OwnedFd, Untaken<E>> {
    /// Two takers of the same number: the second one finds the flag that the first one set.
    static TAKING: Mutex<()> = Mutex::new(());
    let _taking = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: F_GETFD takes no pointer, changes nothing and is defined for every number: EBADF if nothing is open.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 {
        return Err(Untaken::Closed);
    }
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(Untaken::Ours);
    }
    // SAFETY: it is open (checked above), not -1 (fcntl would have failed), and nobody in this process owns it: by the
    // launcher's contract it came through exec, the missing flag bears that out, and the flag that is set below under the
    // lock keeps everyone from taking it a second time.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    if let Err(why) = check(fd.as_fd()) {
        // Not ours to close.
        let _ = fd.into_raw_fd();
        return Err(Untaken::Unwanted(why));
    }
    if fcntl_setfd(&fd, FdFlags::CLOEXEC).is_err() {
        // That fails only for a number that is not open, and then there is nothing to own.
        let _ = fd.into_raw_fd();
        return Err(Untaken::Closed);
    }
    Ok(fd)
}

/// Keeps every descriptor above standard error from the programs that this process will start: a host calls it first thing, for
/// descriptors that its own parent left open would otherwise reach its modules.
///
/// Not for a module: the flag is also the mark by which an inherited connection counts as taken.
///
/// # Errors
/// `ENOSYS` or `EINVAL` on a kernel older than 5.11.
pub fn keep_descriptors_from_children() -> io::Result<()> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC the call closes nothing and touches no memory; it sets a flag that concerns exec only.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(feature = "tokio")]
pub(crate) mod tokio {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::sync::Arc;

    use ::tokio::io::Interest;
    use ::tokio::io::unix::AsyncFd;

    /// Registers a descriptor with the runtime whose context this is. Panics outside of one.
    pub(crate) fn register(fd: Arc<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
        // SAFETY: an `Arc<OwnedFd>` gives the same open descriptor for as long as it lives, and the `AsyncFd` holds it.
        let registered = unsafe { AsyncFd::register_with_interest(fd, interest) };
        registered.map_err(io::Error::from)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use rustix::io::fcntl_getfd;

    use super::*;

    /// A descriptor as it is after an `exec`.
    fn inherited() -> RawFd {
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        let fd = OwnedFd::from(reader);
        fcntl_setfd(&fd, FdFlags::empty()).expect("the flag off");
        fd.into_raw_fd()
    }

    fn take(number: RawFd) -> Result<OwnedFd, Untaken<()>> {
        take_inherited(number, |_| Ok(()))
    }

    #[test]
    fn an_inherited_descriptor_is_taken_once_and_not_passed_on() {
        let number = inherited();
        let fd = take(number).expect("the first taker");
        assert_eq!(fcntl_getfd(&fd).expect("its flags"), FdFlags::CLOEXEC);
        assert!(matches!(take(number), Err(Untaken::Ours)));
    }

    #[test]
    fn what_is_unwanted_stays_as_it_is() {
        let number = inherited();
        assert!(matches!(take_inherited(number, |_| Err("no")), Err(Untaken::Unwanted("no"))));
        let fd = take(number).expect("it is still there to be taken");
        assert_eq!(fd.as_raw_fd(), number);
    }

    #[test]
    fn what_this_process_opened_is_not_inherited() {
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        assert!(matches!(take(reader.as_raw_fd()), Err(Untaken::Ours)));
        assert!(fcntl_getfd(&reader).is_ok(), "a refusal closed what it refused");
    }

    /// In a process of its own, so that no test beside it loses a descriptor that it is about to pass on.
    #[test]
    fn what_a_parent_left_open_does_not_reach_the_next_child() {
        let left = inherited();
        if std::env::var_os("MODIPC_TEST_KEEP").is_none() {
            let me = std::env::current_exe().expect("this test");
            let name = "fd::tests::what_a_parent_left_open_does_not_reach_the_next_child";
            let run = std::process::Command::new(me)
                .args(["--exact", name])
                .env("MODIPC_TEST_KEEP", "1")
                .output()
                .expect("it runs");
            let said = String::from_utf8_lossy(&run.stdout).into_owned();
            assert!(run.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let open_in_child = || {
            let path = format!("/proc/self/fd/{left}");
            std::process::Command::new("test").args(["-e", &path]).status().expect("test(1)").success()
        };
        assert!(open_in_child(), "the descriptor is inherited at first");
        keep_descriptors_from_children().expect("close_range");
        assert!(!open_in_child());
    }

    #[test]
    fn a_number_that_is_not_open_is_refused() {
        for number in [-1, i32::MIN, i32::MAX, 1_000_000] {
            assert!(matches!(take(number), Err(Untaken::Closed)), "{number}");
        }
    }
}
