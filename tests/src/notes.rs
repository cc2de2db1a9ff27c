//! A log that a test reads back.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use crate::PATIENCE_S;

/// Everything that was logged, as lines `LEVEL target message name=value …`. Clones are the same log.
#[derive(Clone, Default)]
pub struct Notes {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    lines: Mutex<Vec<Note>>,
    more: Condvar,
}

/// One line of the log.
#[derive(Clone, Debug)]
pub struct Note {
    /// How bad it is.
    pub level: Level,
    /// Where it comes from.
    pub target: String,
    /// Message and fields.
    pub text: String,
}

impl Notes {
    /// What writes to it. Make it a thread's default.
    #[must_use]
    pub fn dispatch(&self) -> Dispatch {
        Dispatch::new(tracing_subscriber::registry().with(self.clone()))
    }

    /// The lines so far.
    #[must_use]
    pub fn all(&self) -> Vec<Note> {
        self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Warnings and errors so far.
    #[must_use]
    pub fn complaints(&self) -> Vec<Note> {
        self.all().into_iter().filter(|note| note.level <= Level::WARN).collect()
    }

    /// Blocks until there is a line with this text in it, and gives it.
    #[must_use]
    pub fn wait_for(&self, text: &str) -> Note {
        let lines = self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let find = |lines: &[Note]| lines.iter().find(|note| note.text.contains(text)).cloned();
        let patience = Duration::from_secs(PATIENCE_S);
        let waited = self.shared.more.wait_timeout_while(lines, patience, |lines| find(lines).is_none());
        let (lines, _) = waited.unwrap_or_else(PoisonError::into_inner);
        find(&lines).unwrap_or_else(|| panic!("nobody logged {text:?}: {lines:#?}"))
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let space = if self.0.is_empty() { "" } else { " " };
        let written = match field.name() {
            "message" => write!(self.0, "{space}{value:?}"),
            name => write!(self.0, "{space}{name}={value:?}"),
        };
        written.unwrap();
    }
}

impl<S: Subscriber> Layer<S> for Notes {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let (level, target) = (*event.metadata().level(), event.metadata().target().to_owned());
        let note = Note { level, target, text: text.0 };
        self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner).push(note);
        self.shared.more.notify_all();
    }
}
