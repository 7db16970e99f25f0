//! What a task logs.

use std::fmt::Write;
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::{Level, span};

/// Keeps the lines that a task logs, without those for developers.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<Line>>>);

#[derive(Clone, Default)]
struct Line {
    level_and_message: String,
    /// ` name=value` of each field.
    fields: String,
}

impl Lines {
    /// Level and message of the lines whose message contains one of these.
    pub fn that_say(&self, texts: [&str; 2]) -> Vec<String> {
        let says = |line: &&Line| texts.iter().any(|text| line.level_and_message.contains(text));
        self.0.lock().unwrap().iter().filter(says).map(|line| line.level_and_message.clone()).collect()
    }

    /// The lines, with their fields, whose message is this one.
    pub fn with_message(&self, message: &str) -> Vec<String> {
        let is =
            |line: &&Line| line.level_and_message.split_once(' ').is_some_and(|(_, said)| said == message);
        let whole = |line: &Line| [&*line.level_and_message, &line.fields].concat();
        self.0.lock().unwrap().iter().filter(is).map(whole).collect()
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            write!(self.level_and_message, " {value:?}").unwrap();
        } else {
            write!(self.fields, " {}={value:?}", field.name()).unwrap();
        }
    }
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line { level_and_message: event.metadata().level().to_string(), ..Line::default() };
        event.record(&mut line);
        self.0.lock().unwrap().push(line);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}
