//! What a module prints: read to the end, line by line, into the log. Nothing of it is protocol.

use std::io::{self, Read};
use std::sync::Arc;

use modipc_driver::Runtime;
use tracing::Dispatch;

use crate::config::NodeConfig;
use crate::launcher::Output;
use crate::logs::{Gate, LogGate, TARGET};
use crate::text::Shown;

/// A reader's stack: it formats lines and does nothing else.
const STACK_BYTES: usize = 256 << 10;

/// Reads a stream on a thread of its own, until it ends. The thread is what makes a module never wait for a full pipe, whatever the
/// node's executor is busy with.
pub(crate) fn drain(
    module: Arc<str>,
    output: Output,
    runtime: Arc<dyn Runtime>,
    config: &NodeConfig,
) -> io::Result<()> {
    let gate = LogGate::new(runtime.now(), config);
    let mut lines = Lines::new(config.log_text_bytes_max);
    let Output { name, mut stream } = output;
    let mut printer = Printer { module, name, runtime, gate };
    // The thread writes to the log that is current here.
    let dispatch = tracing::dispatcher::get_default(Dispatch::clone);
    let body = move || {
        tracing::dispatcher::with_default(&dispatch, || {
            let mut buffer = [0; 8192];
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(n) => {
                        let read = buffer.get(..n).unwrap_or_default();
                        lines.push(read, |line, more| printer.print(line, more));
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        tracing::warn!(module = %printer.module, stream = name, "cannot read on: {error}");
                        break;
                    }
                }
            }
            lines.finish(|line, more| printer.print(line, more));
            printer.report();
        });
    };
    std::thread::Builder::new().name(format!("modipc-{name}")).stack_size(STACK_BYTES).spawn(body)?;
    Ok(())
}

/// Takes bytes apart into lines, of which it keeps the first `bytes_max` bytes and counts the others.
struct Lines {
    line: Vec<u8>,
    more: u64,
    bytes_max: usize,
}

impl Lines {
    fn new(bytes_max: usize) -> Lines {
        Lines { line: Vec::new(), more: 0, bytes_max }
    }

    fn push(&mut self, bytes: &[u8], mut print: impl FnMut(&[u8], u64)) {
        let mut parts = bytes.split(|byte| *byte == b'\n');
        // What follows the last line break is the beginning of the next line.
        let begun = parts.next_back().unwrap_or_default();
        for part in parts {
            self.keep(part);
            self.finish(&mut print);
        }
        self.keep(begun);
    }

    fn keep(&mut self, part: &[u8]) {
        let room = self.bytes_max.saturating_sub(self.line.len());
        let (kept, left_out) = part.split_at(room.min(part.len()));
        self.line.extend_from_slice(kept);
        self.more += left_out.len() as u64;
    }

    fn finish(&mut self, mut print: impl FnMut(&[u8], u64)) {
        if !self.line.is_empty() {
            print(&self.line, self.more);
        }
        self.line.clear();
        self.more = 0;
    }
}

struct Printer {
    module: Arc<str>,
    name: &'static str,
    runtime: Arc<dyn Runtime>,
    gate: LogGate,
}

impl Printer {
    fn print(&mut self, line: &[u8], more: u64) {
        match self.gate.record(self.runtime.now()) {
            Gate::Drop { .. } => return,
            Gate::Pass { dropped: 0 } => {}
            Gate::Pass { dropped } => self.say_dropped(dropped),
        }
        let text = String::from_utf8_lossy(line);
        let text = Shown::new(text.trim_end_matches('\r'), usize::MAX);
        let (module, stream) = (&*self.module, self.name);
        if more == 0 {
            tracing::info!(target: TARGET, module, stream, "{text}");
        } else {
            tracing::info!(target: TARGET, module, stream, "{text}… ({more} bytes more)");
        }
    }

    fn report(&self) {
        if self.gate.unreported() > 0 {
            self.say_dropped(self.gate.unreported());
        }
    }

    fn say_dropped(&self, dropped: u64) {
        tracing::warn!(module = %self.module, stream = self.name, dropped, "printed lines were dropped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<(String, u64)> {
        let mut lines = Lines::new(5);
        let mut found = Vec::new();
        let mut print =
            |line: &[u8], more: u64| found.push((String::from_utf8_lossy(line).into_owned(), more));
        for chunk in chunks {
            lines.push(chunk, &mut print);
        }
        lines.finish(&mut print);
        found
    }

    #[test]
    fn lines_are_found_in_any_chunking_and_are_bounded() {
        let text = b"one\n\ntwo and more\r\nthree";
        let expected = [("one".to_owned(), 0), ("two a".to_owned(), 8), ("three".to_owned(), 0)];
        for size in 1..text.len() {
            let chunks: Vec<_> = text.chunks(size).collect();
            assert_eq!(lines(&chunks), expected, "chunks of {size}");
        }
        assert_eq!(lines(&[b"", b"\n"]), []);
    }
}
