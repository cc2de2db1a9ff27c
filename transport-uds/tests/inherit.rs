//! A connection passed to a real child [T-2], by `MODIPC_FD` and by `LISTEN_FDS`. This program is both processes.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitStatus};

use modipc_transport_uds::{FD_VARIABLE, UdsStream, socketpair_for_child};

/// Says which part of the test this process plays.
const ROLE: &str = "MODIPC_TEST_ROLE";

fn main() {
    match std::env::var(ROLE).as_deref() {
        Err(_) => launcher(),
        Ok("module") => module(),
        Ok("grandchild") => grandchild(),
        Ok(role) => panic!("no role {role:?}"),
    }
}

fn launcher() {
    passes_by_modipc_fd();
    passes_by_listen_fds();
    without_either_there_is_nothing();
    println!("inherit: 3 tests passed");
}

fn passes_by_modipc_fd() {
    let (ours, childs) = socketpair_for_child().expect("a pair");
    // `dup` gives a descriptor without the close-on-exec flag. Nothing else is started meanwhile.
    let passed = rustix::io::dup(&childs).expect("the copy that the child inherits");
    let mut command = this_program("module");
    command.env(FD_VARIABLE, passed.as_raw_fd().to_string());
    let mut child = command.spawn().expect("a child");
    drop((childs, passed));
    assert_eq!(conversation(ours), "own user, hello");
    succeeded(child.wait().expect("its end"));
}

/// The number is fixed there: 3, of the very process. So a shell opens it and becomes the module.
fn passes_by_listen_fds() {
    let (ours, childs) = socketpair_for_child().expect("a pair");
    let passed = rustix::io::dup(&childs).expect("the copy that the child inherits");
    let own = std::env::current_exe().expect("this program");
    let script = format!(
        "exec 3<&{fd}; [ {fd} = 3 ] || exec {fd}<&-; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\"",
        fd = passed.as_raw_fd()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(own).env(ROLE, "module").env_remove(FD_VARIABLE);
    let mut child = command.spawn().expect("a shell");
    drop((childs, passed));
    assert_eq!(conversation(ours), "own user, hello");
    succeeded(child.wait().expect("its end"));
}

fn without_either_there_is_nothing() {
    assert!(UdsStream::from_env().expect("no error").is_none());
}

/// What the module says until it ends.
fn conversation(ours: UdsStream) -> String {
    let mut stream = UnixStream::from(OwnedFd::from(ours));
    stream.set_nonblocking(false).expect("blocking");
    stream.write_all(b"hello").expect("a write");
    stream.shutdown(std::net::Shutdown::Write).expect("half closed");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("what the module says, and its end");
    said
}

fn module() {
    let stream = UdsStream::from_env().expect("no error").expect("the inherited connection");
    let uid = stream.peer().uid;
    assert!(UdsStream::from_env().is_err(), "the connection was taken twice");
    let fd = OwnedFd::from(stream);
    let mut command = this_program("grandchild");
    command.arg(fd.as_raw_fd().to_string());
    succeeded(command.status().expect("the grandchild"));
    let mut stream = UnixStream::from(fd);
    stream.set_nonblocking(false).expect("blocking");
    let mut heard = String::new();
    stream.read_to_string(&mut heard).expect("what the host says");
    let user = if uid == rustix::process::geteuid().as_raw() { "own user" } else { "another user" };
    stream.write_all(format!("{user}, {heard}").as_bytes()).expect("a write");
}

/// It has the module's environment, but not its connection.
fn grandchild() {
    let number = std::env::args().nth(1).expect("the number");
    let link = std::fs::read_link(format!("/proc/self/fd/{number}"));
    assert!(
        !link.as_ref().is_ok_and(|link| link.to_string_lossy().starts_with("socket:")),
        "the connection was passed on: {link:?}"
    );
    match UdsStream::from_env() {
        // LISTEN_PID names the module.
        Ok(None) => {}
        // MODIPC_FD names a number that is not open here.
        Err(error) => println!("the grandchild is told: {error}"),
        Ok(Some(_)) => panic!("the grandchild inherited a connection"),
    }
}

fn this_program(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.env(ROLE, role);
    command
}

fn succeeded(status: ExitStatus) {
    assert!(status.success(), "{status}");
}
