//! Spans on their way to a collector over real sockets: there, away, and silent.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end at once")]

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use telemetry::testing::Collector;
use telemetry::{Program, Settings, Traced, Traces};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tracing::subscriber::{DefaultGuard, set_default};
use tracing_subscriber::layer::SubscriberExt;

const PROGRAM: Program<'_> =
    Program { name: "ledger", version: "1.2.3", instance: "ledger-1", own: &["collector"] };

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn lines(&self) -> Vec<serde_json::Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Traces to there, and lines of log; for this thread, on which all of the test runs.
fn started(endpoint: &str) -> (Traces, Sink, DefaultGuard) {
    let settings = Settings::read(|name| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.to_owned()),
        "OTEL_EXPORTER_OTLP_HEADERS" => Some("x-team=ledgers%20all".to_owned()),
        _ => None,
    });
    let traces = Traces::start(&PROGRAM, settings.unwrap().unwrap(), &Handle::current());
    let sink = Sink::default();
    let output = sink.clone();
    let lines = tracing_subscriber::fmt::layer().json().with_writer(Traced(move || output.clone()));
    let guard = set_default(tracing_subscriber::registry().with(lines).with(traces.layer()));
    (traces, sink, guard)
}

async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn spans_arrive_with_their_parents_and_who_sent_them_and_lines_name_their_trace() {
    let collector = Collector::start().await;
    let (traces, sink, _guard) = started(&collector.endpoint());
    let caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    tracing::info!("before");
    let handed_on = tracing::info_span!("above", traceparent = caller, amount = 3).in_scope(|| {
        tracing::debug_span!("below").in_scope(|| tracing::info!("within"));
        tracing::info_span!(target: "stranger", "of another crate").in_scope(|| ());
        telemetry::traceparent().unwrap()
    });
    traces.flush(Duration::MAX).await;

    let spans = collector.spans();
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let (above, below) = (named("above"), named("below"));
    assert_eq!(spans.len(), 2, "{spans:#?}");
    assert_eq!((above.trace.as_str(), above.parent.as_str()), (&caller[3..35], &caller[36..52]));
    assert_eq!((&below.trace, &below.parent), (&above.trace, &above.id));
    assert_eq!(handed_on, format!("00-{}-{}-01", above.trace, above.id));
    assert_eq!((above.service.as_str(), above.attributes["amount"].as_str()), ("ledger", "3"));
    assert_eq!(above.attributes["service.version"], "1.2.3");
    assert_eq!(above.attributes["service.instance.id"], "ledger-1");
    assert!(!above.attributes.contains_key("traceparent"));
    assert_eq!(collector.headers()["x-team"], "ledgers all");

    let lines = sink.lines();
    let line = |message: &str| lines.iter().find(|line| line["fields"]["message"] == message).unwrap();
    assert_eq!(line("within")["trace_id"], above.trace);
    assert!(line("before").get("trace_id").is_none());
}

#[tokio::test]
async fn spans_that_nobody_takes_are_counted_and_told() {
    let (traces, sink, _guard) = started(&nobody().await);
    let lost = traces.lost();
    tracing::info_span!("a").in_scope(|| ());
    let deadline = Instant::now() + Duration::from_secs(10);
    while lost.count() == 0 {
        assert!(Instant::now() < deadline, "never counted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for _ in 0..5 {
        tracing::info_span!("a").in_scope(|| ());
    }
    traces.flush(Duration::MAX).await;
    assert_eq!(lost.count(), 6);
    let warned: Vec<_> = sink.lines().into_iter().filter(|line| line["level"] == "WARN").collect();
    assert_eq!(warned.len(), 2, "the first loss, and what the flush lost: {warned:#?}");
    assert_eq!((&warned[0]["fields"]["lost"], &warned[1]["fields"]["lost"]), (&1.into(), &5.into()));
    assert!(warned[0]["fields"]["why"].as_str().unwrap().contains("refused"), "{warned:#?}");
}

#[tokio::test]
async fn a_collector_that_never_answers_keeps_an_end_waiting_for_two_seconds_at_most() {
    // Connections are made by the system; nobody reads from them.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (traces, sink, _guard) = started(&format!("http://{}", silent.local_addr().unwrap()));
    let lost = traces.lost();
    for _ in 0..3000 {
        tracing::info_span!("a").in_scope(|| ());
    }
    assert!(lost.count() >= 3000 - 2048 - 512, "the queue is bounded: {}", lost.count());
    let began = Instant::now();
    traces.flush(Duration::MAX).await;
    assert!(began.elapsed() < Duration::from_millis(2500), "{:?}", began.elapsed());
    assert_eq!(lost.count(), 3000);
    assert!(sink.lines().iter().any(|line| line["level"] == "WARN"));
}
