//! The server process as its client sees it, and the clocks of both.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use procfs::process::Process;
use tempfile::TempDir;

use crate::Result;
use crate::args::{ClientArgs, RuntimeKind, Variant};

/// How long a server may take to end after its standard input was closed.
const END: Duration = Duration::from_secs(3);

/// A server that this process started. Dropping it ends it.
pub(crate) struct Server {
    child: Child,
    clock: ClockId,
    /// Private, with the socket in it.
    dir: TempDir,
}

impl Server {
    /// Starts a server and waits until it listens.
    pub(crate) fn start(args: &ClientArgs, variant: Variant) -> Result<Server> {
        let dir = tempfile::Builder::new().prefix("modipc-bench-").tempdir()?;
        let program = match &args.server_exe {
            Some(program) => program.clone(),
            None => std::env::current_exe()?,
        };
        let mut child = wrapped(program)?
            .args([variant.word(), "server", "--socket"])
            .arg(socket(&dir))
            .args(["--subs", &args.subs.to_string()])
            .args(["--rt", RuntimeKind::from_env("PEERS_SERVER_RT")?.word()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(output) = &mut child.stdout {
            BufReader::new(output).read_line(&mut line)?;
        }
        let pid = Pid::from_raw(child.id().try_into()?);
        let server = Server { child, clock: clock_getcpuclockid(pid)?, dir };
        if line.trim() == READY { Ok(server) } else { Err("the server ended before it was ready".into()) }
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        socket(&self.dir)
    }

    /// Its resident memory, in KiB.
    pub(crate) fn rss_kib(&self) -> Result<u64> {
        Ok(self.process()?.status()?.vmrss.unwrap_or(0))
    }

    fn cpu(&self) -> Result<Duration> {
        Ok(self.clock.now()?.into())
    }

    /// Context switches of the threads that it has now.
    fn switches(&self) -> Result<u64> {
        let mut switches = 0;
        for task in self.process()?.tasks()? {
            let status = task?.status()?;
            switches += status.voluntary_ctxt_switches.unwrap_or(0);
            switches += status.nonvoluntary_ctxt_switches.unwrap_or(0);
        }
        Ok(switches)
    }

    fn process(&self) -> Result<Process> {
        Ok(Process::new(self.child.id().try_into()?)?)
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let until = Instant::now() + END;
        while self.ended().is_none() {
            if Instant::now() >= until {
                // Nobody is left to be told if even this fails.
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn socket(dir: &TempDir) -> PathBuf {
    dir.path().join("s")
}

/// The command, behind another one if the environment says so.
fn wrapped(program: PathBuf) -> Result<std::process::Command> {
    let wrap = std::env::var("PEERS_SERVER_WRAP").unwrap_or_default();
    let mut words = wrap.split_whitespace();
    let Some(first) = words.next() else { return Ok(std::process::Command::new(program)) };
    let mut command = std::process::Command::new(first);
    command.args(words).arg(program);
    Ok(command)
}

/// What a server says when it listens.
const READY: &str = "READY";

/// As the server: says that it listens, and ends this process when the client closes our standard input.
pub(crate) fn ready() -> Result<()> {
    std::thread::Builder::new().stack_size(64 << 10).spawn(|| {
        let mut input = std::io::stdin().lock();
        while matches!(input.read(&mut [0; 64]), Ok(1..)) {}
        std::process::exit(0);
    })?;
    let mut output = std::io::stdout().lock();
    writeln!(output, "{READY}")?;
    output.flush()?;
    Ok(())
}

/// Directory and name of a socket.
pub(crate) fn place(socket: &Path) -> Result<(PathBuf, String)> {
    let name = socket.file_name().and_then(|name| name.to_str());
    match (socket.parent(), name) {
        (Some(dir), Some(name)) => Ok((dir.to_owned(), name.to_owned())),
        _ => Err(format!("{} is not the path of a socket", socket.display()).into()),
    }
}

/// What a window cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) elapsed: Duration,
    pub(crate) client_cpu: Duration,
    pub(crate) server_cpu: Duration,
    pub(crate) client_switches: u64,
    pub(crate) server_switches: u64,
}

/// The clocks at the start of a measured window.
pub(crate) struct Window {
    at: Instant,
    client_cpu: Duration,
    server_cpu: Duration,
    client_switches: u64,
    server_switches: u64,
}

impl Window {
    pub(crate) fn open(server: &Server) -> Result<Window> {
        let (server_switches, client_switches) = (server.switches()?, own_switches()?);
        let (client_cpu, server_cpu) = (own_cpu()?, server.cpu()?);
        Ok(Window { client_cpu, server_cpu, client_switches, server_switches, at: Instant::now() })
    }

    pub(crate) fn close(&self, server: &Server) -> Result<Cost> {
        Ok(Cost {
            elapsed: self.at.elapsed(),
            client_cpu: own_cpu()?.saturating_sub(self.client_cpu),
            server_cpu: server.cpu()?.saturating_sub(self.server_cpu),
            client_switches: own_switches()?.saturating_sub(self.client_switches),
            // Less than before, if a thread has ended since.
            server_switches: server.switches()?.saturating_sub(self.server_switches),
        })
    }
}

fn own_cpu() -> Result<Duration> {
    Ok(ClockId::CLOCK_PROCESS_CPUTIME_ID.now()?.into())
}

fn own_switches() -> Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let switches = usage.voluntary_context_switches() + usage.involuntary_context_switches();
    Ok(u64::try_from(switches).unwrap_or(0))
}
