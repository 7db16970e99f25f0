//! Traces: the spans of `tracing` that a program's own crates make go to a collector, by OTLP as protobuf over HTTP.
//! The services and the operator need the same, so it stands here once.
//!
//! ```text
//! span ends → Queue (bounded, never waits) → Sender (one task, in batches) → collector
//!                    └─ full: lost, counted         └─ not taken: lost, counted, one warning a minute
//! ```
//!
//! The main path: [`Settings::from_env`] says whether there is a collector; without one nothing is set up and nothing
//! is paid. With one, [`Traces::start`] begins, [`Traces::layer`] joins the program's subscriber, and
//! [`Traces::flush`] ends it.
//!
//! A span with a field `traceparent` continues that trace; [`traceparent`] is what a caller hands on. So a library
//! with spans needs to know `tracing` only.
//!
//! Never here: a wait or a failure of the work that is traced, the end of a program because its collector is away, a
//! second attempt at a batch, metrics or logs as OTLP.

mod causes;
mod collector;
mod continued;
mod lines;
mod queue;
mod sender;
mod settings;
#[cfg(feature = "testing")]
pub mod testing;

pub use causes::with_causes;
pub use continued::{trace_id, traceparent};
pub use lines::Traced;
pub use queue::Lost;
pub use settings::{Settings, SettingsError};

use continued::Continued;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::SdkTracerProvider;
use sender::Sender;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

/// How long an end may take longer for the sake of the last spans.
pub const LONGEST_FLUSH: Duration = Duration::from_secs(2);

/// What the spans are said to come from.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// `service.name`, unless the environment names it (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`).
    pub name: &'a str,
    /// `service.version`.
    pub version: &'a str,
    /// `service.instance.id`: tells replicas apart.
    pub instance: &'a str,
    /// How the modules begin whose spans are sent; those of other crates are not.
    pub own: &'static [&'static str],
}

/// Spans on their way to a collector.
#[derive(Debug)]
#[must_use = "the last spans are lost without a flush"]
pub struct Traces {
    provider: SdkTracerProvider,
    own: &'static [&'static str],
    lost: Lost,
    stop: oneshot::Sender<()>,
    sending: JoinHandle<()>,
}

impl Traces {
    /// Begins to send, as a task of `runtime`. How many traces are sampled, and how large a span may be, is said by
    /// the standard environment (`OTEL_TRACES_SAMPLER` and others). The collector need not be there.
    pub fn start(program: &Program<'_>, settings: Settings, runtime: &Handle) -> Self {
        let resource = resource(program);
        let (queue, spans) = queue::queue();
        let lost = queue.lost();
        let (stop, stopped) = oneshot::channel();
        let sender = Sender::new(settings, &resource, lost.clone());
        let sending = runtime.spawn(sender.run(spans, stopped));
        let provider =
            SdkTracerProvider::builder().with_resource(resource).with_span_processor(queue).build();
        Self { provider, own: program.own, lost, stop, sending }
    }

    /// What joins the program's subscriber. Its filter is its own: which spans are sent does not depend on which lines
    /// are logged. Spans of every level are sent; what is logged within one, from `info` on, goes with it.
    #[must_use]
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        let own = self.own;
        let wanted = filter_fn(move |metadata| {
            (metadata.is_span() || *metadata.level() <= Level::INFO)
                && own.iter().any(|prefix| metadata.target().starts_with(prefix))
        });
        tracing_opentelemetry::layer()
            .with_tracer(Continued(self.provider.tracer("tracing")))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_filter(wanted)
    }

    /// How many spans did not reach the collector so far.
    #[must_use]
    pub fn lost(&self) -> Lost {
        self.lost.clone()
    }

    /// Sends what is left, within a bound and [`LONGEST_FLUSH`]. Spans that end later are lost.
    pub async fn flush(self, within: Duration) {
        let Self { lost, stop, mut sending, provider, .. } = self;
        let before = lost.count();
        // The sender ends only when it is told to, or with the runtime.
        let _ = stop.send(());
        if tokio::time::timeout(within.min(LONGEST_FLUSH), &mut sending).await.is_err() {
            sending.abort();
            lost.give_up();
        }
        let lost = lost.count() - before;
        if lost > 0 {
            tracing::warn!(lost, "the last spans did not reach the collector");
        }
        drop(provider);
    }
}

/// The environment wins over what the program says of itself.
fn resource(program: &Program<'_>) -> Resource {
    let named = std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty());
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", program.name.to_owned()),
            KeyValue::new("service.version", program.version.to_owned()),
            KeyValue::new("service.instance.id", program.instance.to_owned()),
        ])
        .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())])
        .with_attributes(named.map(|name| KeyValue::new("service.name", name)))
        .build()
}
