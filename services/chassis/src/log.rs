//! Logs: one JSON object a line on standard output, each with the service and the consumer that
//! wrote it, and with its trace where there is one. Panics are logged like everything else. Spans join here, too.

use std::io::{self, Write};
use telemetry::{Traced, Traces};
use tracing::Subscriber;
use tracing_subscriber::fmt::format::{Format, Json, JsonFields};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::util::TryInitError;
use tracing_subscriber::{EnvFilter, Layer};

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("--log {0:?} is no filter: {1}")]
    Filter(String, tracing_subscriber::filter::ParseError),
    #[error("logging is already set up: {0}")]
    Again(#[from] TryInitError),
}

/// Sets up the logs of this process. With `traces`, its spans go there, whatever the filter of the logs says.
pub(crate) fn init(
    filter: &str,
    service: &str,
    consumer: &str,
    traces: Option<&Traces>,
) -> Result<(), LogError> {
    let parsed = EnvFilter::try_new(filter).map_err(|error| LogError::Filter(filter.to_owned(), error))?;
    let (registry, writer) = (tracing_subscriber::registry(), Lines::new(service, consumer, io::stdout));
    match traces {
        None => registry.with(parsed).with(json().with_writer(writer)).try_init()?,
        Some(traces) => {
            let lines = json().with_writer(Traced(writer)).with_filter(parsed);
            registry.with(lines).with(traces.layer()).try_init()?;
        }
    }
    std::panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("");
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(message, location, "panic");
    }));
    Ok(())
}

fn json<S>() -> fmt::Layer<S, JsonFields, Format<Json>>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fmt::layer().json().flatten_event(true).with_current_span(false)
}

/// Adds the process' own fields in front of every line. The formatter hands over one whole event
/// at a time, an object of JSON.
struct Lines<F> {
    prefix: Vec<u8>,
    output: F,
}

impl<F> Lines<F> {
    fn new(service: &str, consumer: &str, output: F) -> Self {
        let fields = serde_json::json!({ "service": service, "consumer": consumer }).to_string();
        let mut prefix = fields.into_bytes();
        prefix.pop();
        prefix.push(b',');
        Self { prefix, output }
    }
}

impl<'a, F, W> MakeWriter<'a> for Lines<F>
where
    F: Fn() -> W + 'a,
    W: Write + 'a,
{
    type Writer = Line<'a, W>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { prefix: &self.prefix, output: (self.output)() }
    }
}

struct Line<'a, W> {
    prefix: &'a [u8],
    output: W,
}

impl<W: Write> Write for Line<'_, W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        match event.split_first() {
            Some((b'{', rest)) if rest.first() == Some(&b'"') => {
                // One write, so that lines of several threads never mix.
                self.output.write_all(&[self.prefix, rest].concat())?;
            }
            _ => self.output.write_all(event)?,
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_object_with_service_and_consumer() {
        let sink = Sink::default();
        let output = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_writer(Lines::new("crm", "pod-\"1\"", move || output.clone()))
            .finish();
        tracing::subscriber::with_default(subscriber, || tracing::info!(amount = 3, "hello\nworld"));
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1);
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["service"], &line["consumer"]), (&"crm".into(), &"pod-\"1\"".into()));
        assert_eq!((&line["message"], &line["amount"]), (&"hello\nworld".into(), &3.into()));
        assert_eq!(line["level"], "INFO");
    }
}
