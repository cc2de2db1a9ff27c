//! One line of a trace: what it says, how it is written, how it is read.

use std::fmt;
use std::str::SplitAsciiWhitespace;

use modipc_core::table::{Class, Phase};
use modipc_core::{Cause, Step};

/// A line behind the header. Its `Display` is the line without its line feed, and [`Line::parse`] is the inverse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A connection's steps begin.
    Open {
        /// When, in microseconds of the recorder's time.
        time_us: u64,
        /// The connection's number, unique in the file.
        connection: u64,
        /// Which end of the connection was recorded.
        role: TraceRole,
        /// How the connection came to be.
        origin: Origin,
        /// The module at the other end, if it was known without asking.
        module: Option<String>,
    },
    /// One step.
    Step(StepLine),
    /// No further steps of this connection follow.
    Close {
        /// When, in microseconds of the recorder's time.
        time_us: u64,
        /// The connection's number.
        connection: u64,
        /// How many of its steps were written.
        steps: u64,
    },
    /// The trace is complete. Nothing follows.
    End {
        /// How many connections were opened.
        connections: u64,
        /// How many lines there are between the header and this one.
        lines: u64,
    },
}

/// Which end of a connection was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceRole {
    /// The node's.
    Host,
    /// The module's.
    Module,
}

/// How a connection came to be [T-2].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The host started the module, which inherited it.
    Inherited,
    /// A module connected by itself.
    Attached,
}

/// A [`Step`] with the connection that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepLine {
    /// When, in microseconds of the recorder's time.
    pub time_us: u64,
    /// The connection's number.
    pub connection: u64,
    /// What the step was about.
    pub cause: Cause,
    /// The id in the frame or of the call, else 0.
    pub id: u64,
    /// Payload bytes of the frame as far as they are known, else 0.
    pub len: u64,
    /// The row of the transition table.
    pub class: Class,
    /// The phase before.
    pub from: Phase,
    /// The phase after.
    pub to: Phase,
}

impl StepLine {
    /// The line for a step of this connection.
    #[must_use]
    pub fn new(connection: u64, step: &Step) -> Self {
        let Step { now, cause, id, len, transition } = *step;
        let (class, from, to) = (transition.class, transition.from, transition.to);
        StepLine { time_us: now, connection, cause, id, len, class, from, to }
    }
}

/// Why a line is not one of the format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} expected, found {found:?}")]
pub struct LineFault {
    /// What should have stood there.
    pub field: &'static str,
    /// What stood there; empty at the line's end.
    pub found: String,
}

impl Line {
    /// Reads a line, without its line feed.
    ///
    /// # Errors
    /// The first field that is not as the format says. Nothing is skipped, and nothing may follow.
    pub fn parse(line: &str) -> Result<Line, LineFault> {
        let mut words = Words { words: line.split_ascii_whitespace() };
        let parsed = if line.starts_with("end ") { parse_end(&mut words) } else { parse_timed(&mut words) }?;
        let rest = words.words.next().unwrap_or_default();
        if !rest.is_empty() {
            return Err(fault("end of line", rest));
        }
        // Words were split at any blank: the one canonical spelling has single spaces and no leading zero or plus.
        if parsed.to_string() != line {
            return Err(fault("the line's canonical spelling", line));
        }
        Ok(parsed)
    }
}

fn parse_end(words: &mut Words<'_>) -> Result<Line, LineFault> {
    words.next("end")?;
    Ok(Line::End { connections: words.named("connections=")?, lines: words.named("lines=")? })
}

fn parse_timed(words: &mut Words<'_>) -> Result<Line, LineFault> {
    let time_us = words.number("a time in microseconds")?;
    let connection = words.number("a connection's number")?;
    match words.next("open, close, <, >, @ or !")? {
        "open" => Ok(Line::Open {
            time_us,
            connection,
            role: words.chosen("role=", &[("host", TraceRole::Host), ("module", TraceRole::Module)])?,
            origin: words
                .chosen("origin=", &[("inherited", Origin::Inherited), ("attached", Origin::Attached)])?,
            module: match words.value("module=")? {
                "-" => None,
                escaped => {
                    Some(unescape(escaped).ok_or_else(|| fault("module= with an escaped name", escaped))?)
                }
            },
        }),
        "close" => Ok(Line::Close { time_us, connection, steps: words.named("steps=")? }),
        direction => Ok(Line::Step(StepLine {
            time_us,
            connection,
            cause: words.cause(direction)?,
            id: words.named("id=")?,
            len: words.named("len=")?,
            class: words.class()?,
            from: words.phase()?,
            to: words.phase()?,
        })),
    }
}

/// The rest of a line.
struct Words<'a> {
    words: SplitAsciiWhitespace<'a>,
}

impl<'a> Words<'a> {
    fn next(&mut self, field: &'static str) -> Result<&'a str, LineFault> {
        self.words.next().ok_or_else(|| fault(field, ""))
    }

    fn number(&mut self, field: &'static str) -> Result<u64, LineFault> {
        let word = self.next(field)?;
        word.parse().map_err(|_| fault(field, word))
    }

    fn value(&mut self, name: &'static str) -> Result<&'a str, LineFault> {
        let word = self.next(name)?;
        word.strip_prefix(name).ok_or_else(|| fault(name, word))
    }

    fn named(&mut self, name: &'static str) -> Result<u64, LineFault> {
        let value = self.value(name)?;
        value.parse().map_err(|_| fault(name, value))
    }

    fn chosen<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Result<T, LineFault> {
        let value = self.value(name)?;
        let choice = choices.iter().find(|(text, _)| *text == value);
        choice.map(|(_, choice)| *choice).ok_or_else(|| fault(name, value))
    }

    fn cause(&mut self, direction: &str) -> Result<Cause, LineFault> {
        let kind = self.next("a frame's kind or -")?;
        match (direction, kind) {
            ("<", "-") => Ok(Cause::Stream),
            ("@", "-") => Ok(Cause::Time),
            ("!", "-") => Ok(Cause::Local),
            ("<" | ">", kind) => {
                let number = kind.parse().map_err(|_| fault("a frame's kind", kind))?;
                Ok(if direction == "<" { Cause::Received(number) } else { Cause::Sent(number) })
            }
            (direction, _) => Err(fault("open, close, <, >, @ or !", direction)),
        }
    }

    fn class(&mut self) -> Result<Class, LineFault> {
        let word = self.next("a class of input")?;
        let known = Class::ALL.iter().find(|class| class.name() == word);
        known.copied().ok_or_else(|| fault("a class of input", word))
    }

    fn phase(&mut self) -> Result<Phase, LineFault> {
        let word = self.next("a phase")?;
        let known = Phase::ALL.iter().find(|phase| phase_name(**phase) == word);
        known.copied().ok_or_else(|| fault("a phase", word))
    }
}

fn fault(field: &'static str, found: &str) -> LineFault {
    // What is no trace may have very long lines.
    let found = found.chars().take(80).collect();
    LineFault { field, found }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Open { time_us, connection, role, origin, module } => {
                let role = match role {
                    TraceRole::Host => "host",
                    TraceRole::Module => "module",
                };
                let origin = match origin {
                    Origin::Inherited => "inherited",
                    Origin::Attached => "attached",
                };
                let module = module.as_deref().map_or_else(|| "-".to_owned(), escape);
                write!(f, "{time_us} {connection} open role={role} origin={origin} module={module}")
            }
            Line::Step(step) => step.fmt(f),
            Line::Close { time_us, connection, steps } => {
                write!(f, "{time_us} {connection} close steps={steps}")
            }
            Line::End { connections, lines } => write!(f, "end connections={connections} lines={lines}"),
        }
    }
}

impl fmt::Display for StepLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StepLine { time_us, connection, cause, id, len, class, from, to } = *self;
        write!(f, "{time_us} {connection} ")?;
        match cause {
            Cause::Received(kind) => write!(f, "< {kind}")?,
            Cause::Sent(kind) => write!(f, "> {kind}")?,
            Cause::Stream => f.write_str("< -")?,
            Cause::Time => f.write_str("@ -")?,
            Cause::Local => f.write_str("! -")?,
        }
        let (from, to) = (phase_name(from), phase_name(to));
        write!(f, " id={id} len={len} {} {from} {to}", class.name())
    }
}

/// The format's own names: a phase that is renamed in the code keeps its name in traces.
fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Idle => "Idle",
        Phase::Greeting => "Greeting",
        Phase::Active => "Active",
        Phase::Draining => "Draining",
        Phase::Finishing => "Finishing",
        Phase::Closed => "Closed",
    }
}

/// Bytes other than visible ASCII, and `%`, become `%XX`; so does all of `-`, which means "none".
fn escape(name: &str) -> String {
    if name == "-" {
        return "%2D".to_owned();
    }
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn unescape(escaped: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use modipc_core::machine::Transition;

    use super::*;

    /// Lines as docs/TRACE.md gives them, and what they say.
    fn documented() -> Vec<(&'static str, Line)> {
        let step = StepLine {
            time_us: 1290,
            connection: 1,
            cause: Cause::Received(6),
            id: 0,
            len: 143,
            class: Class::PeerHello,
            from: Phase::Idle,
            to: Phase::Greeting,
        };
        let open = |module: Option<&str>, origin| Line::Open {
            time_us: 1200,
            connection: 1,
            role: TraceRole::Host,
            origin,
            module: module.map(str::to_owned),
        };
        vec![
            (
                "1200 1 open role=host origin=inherited module=analyst",
                open(Some("analyst"), Origin::Inherited),
            ),
            ("1200 1 open role=host origin=attached module=-", open(None, Origin::Attached)),
            ("1200 1 open role=host origin=attached module=%2D", open(Some("-"), Origin::Attached)),
            (
                "1200 1 open role=host origin=attached module=a%20%25%C3%A9",
                open(Some("a %é"), Origin::Attached),
            ),
            ("1290 1 < 6 id=0 len=143 PeerHello Idle Greeting", Line::Step(step)),
            (
                "1290 1 > 0 id=4 len=44 Call Active Active",
                Line::Step(StepLine {
                    cause: Cause::Sent(0),
                    id: 4,
                    len: 44,
                    class: Class::Call,
                    from: Phase::Active,
                    to: Phase::Active,
                    ..step
                }),
            ),
            (
                "1290 1 @ - id=0 len=0 DrainDue Draining Closed",
                Line::Step(StepLine {
                    cause: Cause::Time,
                    len: 0,
                    class: Class::DrainDue,
                    from: Phase::Draining,
                    to: Phase::Closed,
                    ..step
                }),
            ),
            ("1300 1 close steps=12", Line::Close { time_us: 1300, connection: 1, steps: 12 }),
            ("end connections=1 lines=14", Line::End { connections: 1, lines: 14 }),
        ]
    }

    #[test]
    fn lines_are_written_and_read_as_documented() {
        for (text, line) in documented() {
            assert_eq!(line.to_string(), text);
            assert_eq!(Line::parse(text), Ok(line));
        }
    }

    #[test]
    fn a_step_is_written_as_the_core_shows_it() {
        let causes = [Cause::Received(3), Cause::Sent(200), Cause::Stream, Cause::Time, Cause::Local];
        for (cause, class) in causes.into_iter().cycle().zip(Class::ALL) {
            for phase in Phase::ALL {
                let transition = Transition { class: *class, from: phase, to: Phase::Closed, id: 9 };
                let step = Step { now: 17, cause, id: 5, len: 6, transition };
                let line = StepLine::new(3, &step);
                assert_eq!(line.to_string(), format!("17 3 {step}"));
                assert_eq!(Line::parse(&line.to_string()), Ok(Line::Step(line)));
            }
        }
    }

    #[test]
    fn whatever_differs_by_one_character_is_refused_or_another_line() {
        for (text, line) in documented() {
            for at in 0..text.len() {
                let mut shorter = text.to_owned();
                shorter.remove(at);
                assert_ne!(Line::parse(&shorter), Ok(line.clone()), "{shorter}");
                let mut longer = text.to_owned();
                longer.insert(at, ' ');
                assert!(Line::parse(&longer).is_err(), "{longer}");
            }
        }
    }

    #[test]
    fn faults_name_the_field() {
        for (text, field) in [
            ("", "a time in microseconds"),
            ("x", "a time in microseconds"),
            ("1", "a connection's number"),
            ("1 1", "open, close, <, >, @ or !"),
            ("1 1 ? 0 id=0 len=0 Call Active Active", "open, close, <, >, @ or !"),
            ("1 1 < 256 id=0 len=0 Call Active Active", "a frame's kind"),
            ("1 1 < 0 id=0 Call Active Active", "len="),
            ("1 1 < 0 id=0 len=0 Telepathy Active Active", "a class of input"),
            ("1 1 < 0 id=0 len=0 Call Awake Active", "a phase"),
            ("1 1 < 0 id=0 len=0 Call Active Active more", "end of line"),
            ("1 1 < 0 id=00 len=0 Call Active Active", "the line's canonical spelling"),
            ("1 1 open role=guest origin=inherited module=a", "role="),
            ("1 1 open role=host origin=inherited module=%f", "module= with an escaped name"),
            ("1 1 open role=host origin=inherited module=%c3%a9", "the line's canonical spelling"),
            ("end lines=2 connections=1", "connections="),
        ] {
            let error = Line::parse(text).expect_err(text);
            assert_eq!(error.field, field, "{text}: {error}");
        }
    }
}
