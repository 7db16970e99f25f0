//! Between a span's end and its way to the collector: a bounded queue that never keeps anybody waiting, and the count
//! of what did not arrive.

use opentelemetry::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Spans that may wait, as many as the SDK's own queue takes.
pub(crate) const CAPACITY: usize = 2048;

/// How many spans were lost, and how many are on their way. Clones are the same counts.
#[derive(Clone, Debug, Default)]
pub struct Lost(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    lost: AtomicU64,
    under_way: AtomicU64,
}

impl Lost {
    /// Spans that did not reach the collector.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// These have left the queue for good; `lost` of them did not arrive.
    pub(crate) fn done(&self, spans: u64, lost: u64) {
        self.0.under_way.fetch_sub(spans, Ordering::Relaxed);
        self.0.lost.fetch_add(lost, Ordering::Relaxed);
    }

    /// Nobody sends any more: what is on its way is lost.
    pub(crate) fn give_up(&self) {
        let left = self.0.under_way.swap(0, Ordering::Relaxed);
        self.0.lost.fetch_add(left, Ordering::Relaxed);
    }
}

/// Takes the spans that end.
#[derive(Debug)]
pub(crate) struct Queue {
    spans: mpsc::Sender<SpanData>,
    lost: Lost,
}

/// A queue and its other end.
pub(crate) fn queue() -> (Queue, mpsc::Receiver<SpanData>) {
    let (spans, receiver) = mpsc::channel(CAPACITY);
    (Queue { spans, lost: Lost::default() }, receiver)
}

impl Queue {
    pub(crate) fn lost(&self) -> Lost {
        self.lost.clone()
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        // Counted first: the other end may be quicker than this one.
        self.lost.0.under_way.fetch_add(1, Ordering::Relaxed);
        if self.spans.try_send(span).is_err() {
            self.lost.done(1, 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{Tracer, TracerProvider};
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};

    #[test]
    fn what_the_queue_cannot_take_is_counted_and_nobody_waits() {
        let (queue, mut spans) = queue();
        let lost = queue.lost();
        let provider = SdkTracerProvider::builder().with_span_processor(queue).build();
        let tracer = provider.tracer("test");
        for _ in 0..CAPACITY + 3 {
            drop(tracer.start("a"));
        }
        assert_eq!(lost.count(), 3);
        assert!(spans.try_recv().is_ok());
        lost.give_up();
        assert_eq!(lost.count(), 3 + CAPACITY as u64, "what nobody sends any more is lost");
    }

    #[test]
    fn what_is_not_sampled_is_not_queued() {
        let (queue, mut spans) = queue();
        let provider =
            SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOff).with_span_processor(queue).build();
        drop(provider.tracer("test").start("a"));
        assert!(spans.try_recv().is_err());
    }
}
