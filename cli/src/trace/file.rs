//! Writing a trace.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use modipc_core::Step;
use modipc_driver::{Runtime, StepSink};
use modipc_node::{PeerIdentity, TraceSinks};

use super::HEADER;
use super::line::{Line, Origin, StepLine, TraceRole};

/// Bytes that wait in memory for the file, at most.
const BUFFER_BYTES: usize = 64 * 1024;

/// A trace that is being written, for any number of connections at once. Clones are the same file.
///
/// A step goes into a buffer of 64 KiB and with it into the file, on the thread that made the step: a slow disk slows the
/// connections down, but no step is dropped and no memory grows. When a write fails the recording is over; the connections
/// go on, and [`TraceFile::finish`] says what happened.
#[derive(Clone)]
pub struct TraceFile {
    clock: Arc<dyn Runtime>,
    state: Arc<Mutex<State>>,
    path: PathBuf,
}

/// The trace could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the trace {} cannot be written ({source}): make room or give the right to write, or choose another file", path.display())]
pub struct TraceError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

struct State {
    out: Box<dyn Write + Send>,
    /// The first failure; nothing is written after it.
    failed: Option<io::Error>,
    /// Steps written, of each connection that is open.
    open: BTreeMap<u64, u64>,
    connections: u64,
    lines: u64,
    finished: bool,
}

impl TraceFile {
    /// Creates the file, or empties it, and writes the header. `clock` is the recorded connections' own.
    ///
    /// # Errors
    /// The system's, with the path.
    pub fn create(path: &Path, clock: Arc<dyn Runtime>) -> Result<Self, TraceError> {
        let failed = |source| TraceError { path: path.to_owned(), source };
        let file = File::create(path).map_err(failed)?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
        // Flushed, so that a file that cannot be written is found before anything was done.
        writeln!(out, "{HEADER}").and_then(|()| out.flush()).map_err(failed)?;
        Ok(TraceFile::new(path, clock, Box::new(out)))
    }

    fn new(path: &Path, clock: Arc<dyn Runtime>, out: Box<dyn Write + Send>) -> Self {
        let state =
            State { out, failed: None, open: BTreeMap::new(), connections: 0, lines: 0, finished: false };
        TraceFile { clock, state: Arc::new(Mutex::new(state)), path: path.to_owned() }
    }

    /// What a node asks for a sink for each of its connections.
    #[must_use]
    pub fn sinks(&self) -> TraceSinks {
        let trace = self.clone();
        Arc::new(move |number, identity| Some(Box::new(trace.open(number, identity)) as Box<dyn StepSink>))
    }

    fn open(&self, connection: u64, identity: &PeerIdentity) -> Sink {
        let (origin, module) = match identity {
            PeerIdentity::Inherited { module_id, .. } => (Origin::Inherited, Some(module_id.to_string())),
            PeerIdentity::Attached { .. } => (Origin::Attached, None),
        };
        let role = TraceRole::Host;
        let mut state = self.lock();
        // Under the lock, as is every other time in the file that is not a step's.
        let time_us = self.clock.now();
        state.write(&Line::Open { time_us, connection, role, origin, module });
        state.open.insert(connection, 0);
        state.connections += 1;
        Sink { trace: self.clone(), connection }
    }

    /// Writes the last lines and hands everything to the system. Steps that come later are not in the trace.
    ///
    /// # Errors
    /// The first failure since the trace was created.
    pub fn finish(&self) -> Result<(), TraceError> {
        let mut state = self.lock();
        let open: Vec<u64> = state.open.keys().copied().collect();
        for connection in open {
            state.close(connection, self.clock.now());
        }
        let end = Line::End { connections: state.connections, lines: state.lines };
        state.write(&end);
        state.finished = true;
        if state.failed.is_none() {
            state.failed = state.out.flush().err();
        }
        match state.failed.take() {
            None => Ok(()),
            Some(source) => Err(TraceError { path: self.path.clone(), source }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while a line is written leaves at worst a torn line, which the reader refuses.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, line: &Line) {
        if self.failed.is_some() || self.finished {
            return;
        }
        match writeln!(self.out, "{line}") {
            Ok(()) => self.lines += 1,
            Err(error) => self.failed = Some(error),
        }
    }

    fn close(&mut self, connection: u64, time_us: u64) {
        if let Some(steps) = self.open.remove(&connection) {
            self.write(&Line::Close { time_us, connection, steps });
        }
    }
}

/// One connection's way into the file.
struct Sink {
    trace: TraceFile,
    connection: u64,
}

impl StepSink for Sink {
    fn step(&mut self, step: &Step) {
        let mut state = self.trace.lock();
        let Some(steps) = state.open.get_mut(&self.connection) else { return };
        *steps += 1;
        state.write(&Line::Step(StepLine::new(self.connection, step)));
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let now = self.trace.clock.now();
        self.trace.lock().close(self.connection, now);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use modipc_api::CapabilitySet;
    use modipc_core::Cause;
    use modipc_core::machine::Transition;
    use modipc_core::table::{Class, Phase};
    use modipc_driver::BoxFuture;

    use super::*;
    use crate::trace::Reader;

    /// A clock that is one microsecond later at each look.
    #[derive(Default)]
    struct Clock(AtomicU64);

    impl Runtime for Clock {
        fn now(&self) -> u64 {
            self.0.fetch_add(1, Ordering::Relaxed)
        }

        fn sleep_until(&self, _: u64) -> BoxFuture<()> {
            Box::pin(std::future::pending())
        }

        fn spawn(&self, task: BoxFuture<()>) {
            drop(task);
        }

        fn seed(&self) -> u64 {
            0
        }
    }

    fn identity() -> PeerIdentity {
        let (grants, requires) = (CapabilitySet::EMPTY, CapabilitySet::EMPTY);
        PeerIdentity::Inherited { module_id: "analyst".into(), grants, requires }
    }

    fn hello(now: u64) -> Step {
        let transition =
            Transition { class: Class::PeerHello, from: Phase::Idle, to: Phase::Greeting, id: 0 };
        Step { now, cause: Cause::Received(6), id: 0, len: 9, transition }
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace");
        let trace = TraceFile::create(&path, Arc::new(Clock::default())).unwrap();
        let mut first = trace.open(1, &identity());
        let mut second = trace.open(2, &identity());
        first.step(&hello(5));
        second.step(&hello(6));
        second.step(&hello(7));
        drop(first);
        trace.finish().unwrap();
        second.step(&hello(8));
        drop(second);
        let text = std::fs::read_to_string(&path).unwrap();
        let expected = "modipc-trace 1\n\
            0 1 open role=host origin=inherited module=analyst\n\
            1 2 open role=host origin=inherited module=analyst\n\
            5 1 < 6 id=0 len=9 PeerHello Idle Greeting\n\
            6 2 < 6 id=0 len=9 PeerHello Idle Greeting\n\
            7 2 < 6 id=0 len=9 PeerHello Idle Greeting\n\
            2 1 close steps=1\n\
            3 2 close steps=2\n\
            end connections=2 lines=7\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_full_disk_ends_the_recording_and_is_reported() {
        /// Has room for so many bytes.
        struct Disk(usize);
        impl Write for Disk {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let room = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
                self.0 = room;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let trace = TraceFile::new(Path::new("t"), Arc::new(Clock::default()), Box::new(Disk(120)));
        let mut sink = trace.open(1, &identity());
        for now in 0..100 {
            sink.step(&hello(now));
        }
        drop(sink);
        let error = trace.finish().expect_err("the disk is full");
        assert_eq!(error.source.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().contains("trace t "), "{error}");
    }

    #[test]
    fn what_is_written_passes_the_strict_reader() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace");
        let clock = Arc::new(Clock::default());
        let trace = TraceFile::create(&path, clock.clone()).unwrap();
        let mut sink = trace.open(1, &identity());
        for _ in 0..3 {
            sink.step(&hello(clock.now()));
        }
        drop(sink);
        trace.finish().unwrap();
        let lines: Result<Vec<Line>, _> = Reader::open(&path).unwrap().collect();
        assert_eq!(lines.unwrap().len(), 6);
    }
}
