//! Reading a trace, strictly: whatever is not as docs/TRACE.md says is an error that names the line.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::HEADER;
use super::line::{Line, LineFault};

/// No line of the format is longer, in bytes: the longest has a module's name of 64 bytes, each escaped.
const LINE_BYTES_MAX: u64 = 512;

/// Gives the lines of a trace, the `end` line last, or the first thing that is wrong with it. Its memory is bounded by the
/// number of connections.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    number: u64,
    connections: BTreeMap<u64, Seen>,
    over: bool,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    open: bool,
    steps: u64,
    time_us: u64,
}

/// What is wrong with a trace.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("the trace cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The first line is not the header.
    #[error("this is no trace: its first line is {found:?} instead of {HEADER:?}")]
    NotATrace {
        /// The first line, or its beginning.
        found: String,
    },
    /// The trace is of a version that this program does not know.
    #[error("the trace has the header {found:?}; this program reads only {HEADER:?}")]
    Version {
        /// The header.
        found: String,
    },
    /// A line is not one of the format.
    #[error("line {number} of the trace: {fault}")]
    Line {
        /// The line's number, from 1.
        number: u64,
        /// What is wrong.
        fault: LineFault,
    },
    /// A line contradicts those before it.
    #[error("line {number} of the trace: {what}")]
    Contradiction {
        /// The line's number, from 1.
        number: u64,
        /// What does not fit.
        what: &'static str,
    },
    /// The `end` line is missing: the recording was cut off.
    #[error("the trace ends after line {number} without its end line: it was cut off")]
    CutOff {
        /// How many lines there are.
        number: u64,
    },
}

impl Reader<BufReader<File>> {
    /// Opens a file and checks the header.
    ///
    /// # Errors
    /// [`ReadError::Io`], [`ReadError::NotATrace`], [`ReadError::Version`].
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Reader::new(BufReader::new(File::open(path)?))
    }
}

impl<R: BufRead> Reader<R> {
    /// Checks the header.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn new(input: R) -> Result<Self, ReadError> {
        let mut reader = Reader { input, number: 0, connections: BTreeMap::new(), over: false };
        let found = reader.text()?.unwrap_or_default();
        if found == HEADER {
            return Ok(reader);
        }
        let is_trace = found.starts_with("modipc-trace ");
        let found: String = found.chars().take(80).collect();
        Err(if is_trace { ReadError::Version { found } } else { ReadError::NotATrace { found } })
    }

    fn line(&mut self) -> Result<Line, ReadError> {
        let Some(text) = self.text()? else { return Err(ReadError::CutOff { number: self.number }) };
        let number = self.number;
        let line = Line::parse(&text).map_err(|fault| ReadError::Line { number, fault })?;
        self.check(&line).map_err(|what| ReadError::Contradiction { number, what })?;
        if matches!(line, Line::End { .. }) && self.text()?.is_some() {
            return Err(ReadError::Contradiction { number, what: "lines follow the end line" });
        }
        Ok(line)
    }

    /// The next line without its line feed, if there is one. A line without line feed was cut off.
    fn text(&mut self) -> Result<Option<String>, ReadError> {
        let mut bytes = Vec::new();
        let taken = self.input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)?;
        if taken == 0 {
            return Ok(None);
        }
        self.number += 1;
        let too_long = taken as u64 == LINE_BYTES_MAX;
        if bytes.pop_if(|last| *last == b'\n').is_none() && !too_long {
            return Err(ReadError::CutOff { number: self.number });
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn check(&mut self, line: &Line) -> Result<(), &'static str> {
        match *line {
            Line::Open { time_us, connection, .. } => {
                let seen = Seen { open: true, steps: 0, time_us };
                match self.connections.insert(connection, seen) {
                    None => Ok(()),
                    Some(_) => Err("the connection was opened before"),
                }
            }
            Line::Step(step) => {
                let seen = self.at(step.connection, step.time_us)?;
                seen.steps += 1;
                Ok(())
            }
            Line::Close { time_us, connection, steps } => {
                let seen = self.at(connection, time_us)?;
                seen.open = false;
                if seen.steps == steps { Ok(()) } else { Err("the connection has another number of steps") }
            }
            Line::End { connections, lines } => {
                if self.connections.values().any(|seen| seen.open) {
                    Err("a connection is still open at the end")
                } else if self.connections.len() as u64 != connections {
                    Err("there are another number of connections")
                } else if self.number != lines + 2 {
                    // The header and the end line itself are not counted.
                    Err("there are another number of lines")
                } else {
                    Ok(())
                }
            }
        }
    }

    fn at(&mut self, connection: u64, time_us: u64) -> Result<&mut Seen, &'static str> {
        let seen = self.connections.get_mut(&connection).filter(|seen| seen.open);
        let seen = seen.ok_or("the connection is not open")?;
        if time_us < seen.time_us {
            return Err("the connection's time goes backwards");
        }
        seen.time_us = time_us;
        Ok(seen)
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Line, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let line = self.line();
        self.over = matches!(line, Err(_) | Ok(Line::End { .. }));
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "modipc-trace 1\n\
        10 1 open role=host origin=inherited module=analyst\n\
        12 1 < 6 id=0 len=143 PeerHello Idle Greeting\n\
        12 2 open role=host origin=attached module=-\n\
        13 1 > 7 id=0 len=200 Accept Greeting Active\n\
        20 2 close steps=0\n\
        21 1 close steps=2\n\
        end connections=2 lines=6\n";

    fn read(text: &str) -> Result<Vec<Line>, ReadError> {
        Reader::new(text.as_bytes())?.collect()
    }

    fn refusal(text: &str) -> String {
        read(text).expect_err("not a good trace").to_string()
    }

    #[test]
    fn a_good_trace_is_read_to_its_end() {
        let lines = read(GOOD).unwrap();
        assert_eq!(lines.len(), 7);
        assert_eq!(lines.last(), Some(&Line::End { connections: 2, lines: 6 }));
    }

    #[test]
    fn a_trace_that_was_cut_off_anywhere_is_refused() {
        for length in 0..GOOD.len() {
            let error = read(&GOOD[..length]).expect_err("cut off");
            let first = length <= HEADER.len();
            let expected = match error {
                ReadError::CutOff { .. } => true,
                ReadError::NotATrace { .. } => first,
                _ => false,
            };
            assert!(expected, "{length}: {error}");
        }
    }

    #[test]
    fn foreign_files_are_refused_by_name() {
        assert!(refusal("").contains("this is no trace"));
        assert!(refusal("#!/bin/sh\n").contains("this is no trace"));
        assert!(refusal(&"x".repeat(100_000)).contains("this is no trace"));
        assert!(refusal("modipc-trace 2\n").contains("reads only \"modipc-trace 1\""));
        let binary = [b"modipc-trace 1\n".as_slice(), &[0xff, 0xfe, b'\n']].concat();
        let error = Reader::new(&binary[..]).unwrap().next().unwrap().expect_err("not a line");
        assert!(error.to_string().starts_with("line 2 of the trace"), "{error}");
    }

    #[test]
    fn contradictions_are_refused_with_their_line() {
        for (from, to, what) in [
            ("12 2 open", "12 1 open", "line 4 of the trace: the connection was opened before"),
            ("13 1 >", "13 3 >", "line 5 of the trace: the connection is not open"),
            ("13 1 >", "11 1 >", "line 5 of the trace: the connection's time goes backwards"),
            ("13 1 >", "20 2 close steps=0\n13 2 >", "line 6 of the trace: the connection is not open"),
            ("steps=2", "steps=3", "line 7 of the trace: the connection has another number of steps"),
            ("21 1 close steps=2\n", "", "line 7 of the trace: a connection is still open at the end"),
            ("lines=6", "lines=5", "line 8 of the trace: there are another number of lines"),
            (
                "connections=2",
                "connections=1",
                "line 8 of the trace: there are another number of connections",
            ),
            ("lines=6\n", "lines=6\n\n", "line 8 of the trace: lines follow the end line"),
        ] {
            assert_eq!(refusal(&GOOD.replace(from, to)), what);
        }
    }
}
