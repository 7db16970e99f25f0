//! Metrics: what `/metrics` shows, in the text form that Prometheus reads. Labels are bounded:
//! routes are patterns, never paths.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use telemetry::Lost;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: String,
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: String,
    route: String,
    status: u16,
}

/// From half a millisecond to eight seconds.
const BUCKETS: [f64; 15] =
    [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 2.0, 4.0, 8.0];

/// The metrics of one process. Cheap to clone: all clones are the same metrics.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    registry: Arc<Mutex<Registry>>,
    requests: Family<Answered, Counter>,
    durations: Family<Request, Histogram>,
}

impl Metrics {
    pub(crate) fn new(service: &'static str) -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        let durations =
            Family::<Request, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS.iter().copied()));
        registry.register("ordershop_http_requests", "HTTP requests answered", requests.clone());
        registry.register_with_unit(
            "ordershop_http_request_duration",
            "Time from a request's head to its answer's head",
            Unit::Seconds,
            durations.clone(),
        );
        let labels = vec![("service", service), ("version", env!("CARGO_PKG_VERSION"))];
        registry.register("ordershop_build", "What runs here", Info::new(labels));
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        registry.register_with_unit(
            "process_start_time",
            "Start of the process, seconds since the Unix epoch",
            Unit::Seconds,
            ConstGauge::new(started.as_secs_f64()),
        );
        Self { registry: Arc::new(Mutex::new(registry)), requests, durations }
    }

    /// Counts an answered request.
    pub(crate) fn answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        let (method, route) = (method.to_owned(), route.to_owned());
        self.durations
            .get_or_create(&Request { method: method.clone(), route: route.clone() })
            .observe(took.as_secs_f64());
        self.requests.get_or_create(&Answered { method, route, status }).inc();
    }

    /// Adds something that is asked at every scrape.
    pub(crate) fn collect(&self, collector: impl Collector) {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).register_collector(Box::new(collector));
    }

    /// Shows how many spans were lost; only where spans are sent.
    pub(crate) fn spans(&self, lost: Lost) {
        self.collect(Spans(lost));
    }

    /// The text of `/metrics`.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut output = String::new();
        text::encode(&mut output, &self.registry.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(output)
    }
}

#[derive(Debug)]
struct Spans(Lost);

impl Collector for Spans {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let (name, help) = ("ordershop_spans_lost", "Spans that did not reach the collector of traces");
        let counter = ConstCounter::new(self.0.count());
        counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_and_status() {
        let metrics = Metrics::new("order");
        metrics.answered("GET", "/order/{id}", 200, Duration::from_millis(3));
        metrics.answered("GET", "/order/{id}", 200, Duration::from_millis(3));
        let text = metrics.text().unwrap();
        let counter = r#"ordershop_http_requests_total{method="GET",route="/order/{id}",status="200"} 2"#;
        assert!(text.contains(counter), "{text}");
        assert!(text.contains("ordershop_http_request_duration_seconds_count"), "{text}");
        assert!(text.contains(r#"ordershop_build_info{service="order""#), "{text}");
        assert!(text.contains("process_start_time_seconds "), "{text}");
    }
}
