//! Paths that a host must not listen on and a module must not connect to, on the real file system.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use modipc_transport_uds::{
    BoundListener, ConnectError, DirFault, Kind, ListenError, ListenerConfig, PeerPolicy, connect,
};

struct Scratch {
    root: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        Self { root: tempfile::tempdir().expect("a directory for the test") }
    }

    /// A path that is not there yet.
    fn dir(&self) -> PathBuf {
        self.root.path().join("run")
    }

    fn made(&self) -> PathBuf {
        let dir = self.dir();
        fs::create_dir(&dir).expect("the directory");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).expect("its mode");
        dir
    }
}

fn config(dir: &Path) -> ListenerConfig {
    ListenerConfig { dir: dir.to_owned(), name: "host.sock".to_owned() }
}

fn bind(dir: &Path) -> Result<BoundListener, ListenError> {
    BoundListener::bind(&config(dir))
}

fn refused(dir: &Path) -> ListenError {
    bind(dir).expect_err("nothing to listen on")
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("its metadata").mode() & 0o7777
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("the directory");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect()
}

#[test]
fn the_directory_is_made_0700_and_the_socket_0600_and_all_is_tidied_up() {
    let scratch = Scratch::new();
    let listener = bind(&scratch.dir()).expect("a listener");
    assert_eq!(mode(&scratch.dir()), 0o700);
    assert_eq!(mode(listener.path()), 0o600);
    let stream = connect(listener.path(), &PeerPolicy::SameUser).expect("a connection");
    assert_eq!(stream.peer().pid, std::process::id().cast_signed());
    drop(listener);
    assert_eq!(names(&scratch.dir()), Vec::<String>::new());
}

#[test]
fn a_path_that_is_too_long_is_explained() {
    let scratch = Scratch::new();
    // The limit is exact: the longest path works, one byte more does not.
    let dir = scratch.made();
    let room = 107 - dir.as_os_str().len() - 1;
    let named = |len: usize| ListenerConfig { dir: dir.clone(), name: "n".repeat(len) };
    let listener = BoundListener::bind(&named(room)).expect("a path of 107 bytes");
    assert_eq!(listener.path().as_os_str().len(), 107);
    assert!(connect(listener.path(), &PeerPolicy::SameUser).is_ok());
    let error = BoundListener::bind(&named(room + 1)).expect_err("a path of 108 bytes");
    let text = error.to_string();
    assert!(matches!(error, ListenError::PathTooLong(_)), "{text}");
    for part in ["108 bytes", "107", "shorter directory", "run/nnn"] {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
    let error = connect(&dir.join("n".repeat(room + 1)), &PeerPolicy::Any).expect_err("108 bytes");
    assert!(matches!(error, ConnectError::PathTooLong(_)), "{error}");
}

#[test]
fn a_name_that_is_a_path_is_refused() {
    let scratch = Scratch::new();
    for name in ["", ".", "..", "a/b", "/abs", "../up", "nul\0"] {
        let config = ListenerConfig { dir: scratch.dir(), name: name.to_owned() };
        let error = BoundListener::bind(&config).expect_err("no file name");
        assert!(matches!(error, ListenError::Name { .. }), "{error}");
    }
    assert!(!scratch.dir().exists(), "a refused name left a directory");
}

#[test]
fn a_path_that_is_held_names_its_holder_and_stays() {
    let scratch = Scratch::new();
    let own = std::process::id().cast_signed();
    let first = bind(&scratch.dir()).expect("a listener");
    let error = refused(&scratch.dir());
    assert!(matches!(error, ListenError::InUse { pid: Some(pid), .. } if pid == own), "{error}");
    assert!(error.to_string().contains(&first.path().display().to_string()), "{error}");
    assert!(connect(first.path(), &PeerPolicy::SameUser).is_ok(), "the holder lost its path");

    // A holder that knows nothing of our lock.
    let other = Scratch::new();
    let path = other.made().join("host.sock");
    let holder = UnixListener::bind(&path).expect("a listener");
    let error = refused(&other.dir());
    assert!(matches!(error, ListenError::InUse { pid: Some(pid), .. } if pid == own), "{error}");
    assert!(UnixStream::connect(&path).is_ok(), "the holder lost its path");
    drop(holder);
}

#[test]
fn a_holder_whose_queue_is_full_is_alive() {
    let scratch = Scratch::new();
    let path = scratch.made().join("host.sock");
    let socket = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None);
    let socket = socket.expect("a socket");
    rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(&path).expect("an address")).expect("bound");
    rustix::net::listen(&socket, 0).expect("a queue of one");
    let _waiting = UnixStream::connect(&path).expect("the one who waits");
    let error = refused(&scratch.dir());
    assert!(matches!(error, ListenError::InUse { pid: None, .. }), "{error}");
    let error = connect(&path, &PeerPolicy::Any).expect_err("no room in the queue");
    assert!(matches!(error, ConnectError::Busy { .. }), "{error}");
}

#[test]
fn a_live_socket_of_another_type_is_not_removed() {
    let scratch = Scratch::new();
    let path = scratch.made().join("host.sock");
    let _holder = UnixDatagram::bind(&path).expect("a datagram socket");
    assert!(matches!(refused(&scratch.dir()), ListenError::InUse { pid: None, .. }));
    assert!(path.exists());
}

#[test]
fn a_stale_socket_is_replaced() {
    let scratch = Scratch::new();
    let path = scratch.made().join("host.sock");
    drop(UnixListener::bind(&path).expect("a listener that dies without tidying up"));
    assert!(fs::symlink_metadata(&path).expect("the leftover").file_type().is_socket());
    let error = connect(&path, &PeerPolicy::SameUser).expect_err("nobody listens");
    assert!(matches!(error, ConnectError::NobodyListens { .. }), "{error}");
    let listener = bind(&scratch.dir()).expect("a listener in its place");
    assert!(connect(listener.path(), &PeerPolicy::SameUser).is_ok());
}

#[test]
fn of_many_who_start_at_once_over_a_stale_socket_one_succeeds() {
    const STARTERS: usize = 8;
    for _ in 0..20 {
        let scratch = Scratch::new();
        let dir = scratch.made();
        drop(UnixListener::bind(dir.join("host.sock")).expect("a listener that dies"));
        let (ready, done) = (Arc::new(Barrier::new(STARTERS)), Arc::new(Barrier::new(STARTERS)));
        let starters: Vec<_> = (0..STARTERS)
            .map(|_| {
                let (dir, ready, done) = (dir.clone(), Arc::clone(&ready), Arc::clone(&done));
                std::thread::spawn(move || {
                    ready.wait();
                    let bound = bind(&dir);
                    // The winner holds its path until everybody has tried.
                    done.wait();
                    match bound {
                        Ok(listener) => connect(listener.path(), &PeerPolicy::SameUser).is_ok(),
                        Err(ListenError::InUse { .. }) => false,
                        Err(error) => panic!("{error}"),
                    }
                })
            })
            .collect();
        let outcomes: Vec<bool> =
            starters.into_iter().map(|starter| starter.join().expect("no panic")).collect();
        assert_eq!(outcomes.iter().filter(|won| **won).count(), 1, "{outcomes:?}");
    }
}

#[test]
fn of_many_who_come_and_go_never_two_have_the_path() {
    const STARTERS: usize = 4;
    let scratch = Scratch::new();
    let dir = scratch.made();
    let holders = Arc::new(AtomicUsize::new(0));
    let starters: Vec<_> = (0..STARTERS)
        .map(|_| {
            let (dir, holders) = (dir.clone(), Arc::clone(&holders));
            std::thread::spawn(move || {
                let mut held = 0;
                for _ in 0..2_000 {
                    match bind(&dir) {
                        Ok(listener) => {
                            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two have the path");
                            let connected = connect(listener.path(), &PeerPolicy::SameUser);
                            // Nobody accepts here, so those who look whether the path is held may have filled its queue.
                            let there = matches!(connected, Ok(_) | Err(ConnectError::Busy { .. }));
                            assert!(there, "{connected:?}");
                            held += 1;
                            holders.fetch_sub(1, Ordering::SeqCst);
                        }
                        Err(ListenError::InUse { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                held
            })
        })
        .collect();
    let held: Vec<u32> = starters.into_iter().map(|starter| starter.join().expect("no panic")).collect();
    assert!(held.iter().sum::<u32>() > 0, "nobody ever had the path");
    assert_eq!(names(&dir), Vec::<String>::new());
}

#[test]
fn a_file_or_directory_in_the_sockets_place_stays() {
    let scratch = Scratch::new();
    let path = scratch.made().join("host.sock");
    fs::write(&path, "precious").expect("a file");
    let error = refused(&scratch.dir());
    assert!(matches!(error, ListenError::NotASocket { kind: Kind::File, .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).expect("the file"), "precious");
    let error = connect(&path, &PeerPolicy::Any).expect_err("a file");
    assert!(matches!(error, ConnectError::NotASocket { kind: Kind::File, .. }), "{error}");
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("a directory");
    assert!(matches!(refused(&scratch.dir()), ListenError::NotASocket { kind: Kind::Directory, .. }));
}

#[test]
fn a_link_in_the_sockets_place_is_not_followed() {
    let scratch = Scratch::new();
    let dir = scratch.made();
    let elsewhere = scratch.root.path().join("elsewhere");
    let _listener = UnixListener::bind(&elsewhere).expect("a listener elsewhere");
    for target in [elsewhere.as_path(), Path::new("nowhere")] {
        symlink(target, dir.join("host.sock")).expect("a link");
        let error = refused(&dir);
        assert!(matches!(error, ListenError::NotASocket { kind: Kind::Symlink, .. }), "{error}");
        let error = connect(&dir.join("host.sock"), &PeerPolicy::Any).expect_err("a link");
        assert!(matches!(error, ConnectError::NotASocket { kind: Kind::Symlink, .. }), "{error}");
        fs::remove_file(dir.join("host.sock")).expect("removed");
    }
}

#[test]
fn a_link_in_the_locks_place_is_not_followed() {
    let scratch = Scratch::new();
    let dir = scratch.made();
    let target = scratch.root.path().join("target");
    symlink(&target, dir.join(".host.sock.lock")).expect("a link");
    assert!(matches!(refused(&dir), ListenError::Io { .. }));
    assert!(!target.exists(), "the link was followed");
}

#[test]
fn a_link_as_the_directory_is_not_followed_whatever_it_ends_in() {
    let scratch = Scratch::new();
    let real = scratch.made();
    let link = scratch.root.path().join("link");
    symlink(&real, &link).expect("a link");
    for end in ["", "/", "/.", "//"] {
        let dir = PathBuf::from(format!("{}{end}", link.display()));
        let error = refused(&dir);
        let fault = DirFault::NotADirectory { kind: Kind::Symlink };
        assert!(matches!(&error, ListenError::Directory { fault: found, .. } if *found == fault), "{error}");
    }
    assert_eq!(names(&real), Vec::<String>::new());
}

#[test]
fn a_file_as_the_directory_is_refused() {
    let scratch = Scratch::new();
    fs::write(scratch.dir(), "").expect("a file");
    let fault = DirFault::NotADirectory { kind: Kind::File };
    let error = refused(&scratch.dir());
    assert!(matches!(&error, ListenError::Directory { fault: found, .. } if *found == fault), "{error}");
}

#[test]
fn a_directory_that_others_may_write_is_refused_and_not_changed() {
    let scratch = Scratch::new();
    let dir = scratch.made();
    for writable in [0o777, 0o1777, 0o770, 0o702] {
        fs::set_permissions(&dir, fs::Permissions::from_mode(writable)).expect("the mode");
        let error = refused(&dir);
        assert!(
            matches!(&error, ListenError::Directory { fault: DirFault::Writable { mode }, .. } if *mode == writable),
            "{error}"
        );
        assert!(error.to_string().contains("chmod it to 0700"), "{error}");
        assert_eq!(mode(&dir), writable);
    }
    assert_eq!(names(&dir), Vec::<String>::new());
}

#[test]
fn a_directory_whose_parent_others_may_write_is_refused() {
    let scratch = Scratch::new();
    let dir = scratch.made();
    fs::set_permissions(scratch.root.path(), fs::Permissions::from_mode(0o777)).expect("the mode");
    let error = refused(&dir);
    assert!(
        matches!(&error, ListenError::Directory { fault: DirFault::ParentWritable { .. }, .. }),
        "{error}"
    );
    fs::set_permissions(scratch.root.path(), fs::Permissions::from_mode(0o1777)).expect("the mode");
    assert!(bind(&dir).is_ok(), "a sticky parent protects our name");
}

#[test]
fn a_directory_of_another_user_is_refused() {
    if !is_root() {
        println!(
            "not root: a directory cannot be given away here; directory.rs tests the same with injected facts"
        );
        return;
    }
    let scratch = Scratch::new();
    let dir = scratch.made();
    std::os::unix::fs::chown(&dir, Some(12_345), None).expect("given away");
    let error = refused(&dir);
    assert!(
        matches!(&error, ListenError::Directory { fault: DirFault::Owner { uid: 12_345, .. }, .. }),
        "{error}"
    );
}

#[test]
fn a_socket_whose_owner_does_not_answer_is_an_impostors() {
    if !is_root() {
        println!(
            "not root: a socket cannot be given away here; connect.rs tests the same with injected facts"
        );
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.made().join("host.sock");
    let _listener = UnixListener::bind(&path).expect("a listener");
    std::os::unix::fs::chown(&path, Some(12_345), None).expect("given away");
    let error = connect(&path, &PeerPolicy::Any).expect_err("another owner");
    assert!(matches!(&error, ConnectError::Impostor { owner_uid: 12_345, .. }), "{error}");
}

#[test]
fn a_directory_without_permission_is_an_error_with_its_path() {
    let scratch = Scratch::new();
    let dir = scratch.made();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o000)).expect("the mode");
    if is_root() {
        println!(
            "root passes every permission check: that a refusal is typed is tested in connect.rs (injected)"
        );
        assert!(bind(&dir).is_ok(), "root is let through");
        return;
    }
    let error = refused(&dir);
    assert!(
        matches!(&error, ListenError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    );
    assert!(error.to_string().contains(&dir.display().to_string()), "{error}");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).expect("the mode");
}

#[test]
fn parents_that_are_missing_are_not_made() {
    let scratch = Scratch::new();
    let error = refused(&scratch.dir().join("below"));
    assert!(
        matches!(&error, ListenError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound),
        "{error}"
    );
    assert!(!scratch.dir().exists());
}

#[test]
fn what_took_our_place_is_not_removed_with_us() {
    let scratch = Scratch::new();
    let listener = bind(&scratch.dir()).expect("a listener");
    let path = listener.path().to_owned();
    fs::remove_file(&path).expect("somebody removes our socket");
    let _other = UnixListener::bind(&path).expect("and puts another there");
    drop(listener);
    assert!(UnixStream::connect(&path).is_ok(), "the other's socket is gone");
}

#[test]
fn a_module_trusts_no_socket_that_everybody_could_have_put_there() {
    let scratch = Scratch::new();
    let dir = scratch.made();
    let path = dir.join("host.sock");
    let _listener = UnixListener::bind(&path).expect("a listener");
    for writable in [0o777, 0o1777] {
        fs::set_permissions(&dir, fs::Permissions::from_mode(writable)).expect("the mode");
        let error = connect(&path, &PeerPolicy::Any).expect_err("a public directory");
        assert!(matches!(error, ConnectError::ParentWritable { mode, .. } if mode == writable), "{error}");
    }
}

#[test]
fn a_path_without_a_host_is_not_found() {
    let scratch = Scratch::new();
    let error = connect(&scratch.dir().join("host.sock"), &PeerPolicy::Any).expect_err("nothing there");
    assert!(matches!(error, ConnectError::NotFound { .. }), "{error}");
}

#[test]
fn a_host_that_is_not_allowed_is_refused() {
    let scratch = Scratch::new();
    let listener = bind(&scratch.dir()).expect("a listener");
    let error = connect(listener.path(), &PeerPolicy::Uids([4_711].into())).expect_err("not that user");
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("4711"), "{error}");
}
