//! A trace that goes on over the edges of a process: by a span's field `traceparent` inwards, by [`traceparent`]
//! outwards. The text is that of the W3C trace context.

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanBuilder, TraceContextExt, Tracer};
use opentelemetry::{Context, Value};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, Span};
use std::collections::HashMap;

const FIELD: &str = "traceparent";

/// The current span as callers hand it on: `00-<trace>-<span>-<flags>`. `None` outside of any span, and always
/// where no traces are set up.
#[must_use]
pub fn traceparent() -> Option<String> {
    let context = Context::current();
    let span = context.span();
    let span = span.span_context();
    span.is_valid()
        .then(|| format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8()))
}

/// The current trace, if there is one.
#[must_use]
pub fn trace_id() -> Option<String> {
    let context = Context::current();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| span.trace_id().to_string())
}

/// Makes spans; one without a parent here that carries a `traceparent` gets that parent.
#[derive(Clone, Debug)]
pub(crate) struct Continued(pub(crate) SdkTracer);

impl Tracer for Continued {
    type Span = Span;

    fn build_with_context(&self, mut builder: SpanBuilder, parent: &Context) -> Span {
        let remote = taken(&mut builder).filter(|_| !parent.has_active_span()).map(|text| {
            let carrier = HashMap::from([(FIELD.to_owned(), text)]);
            TraceContextPropagator::new().extract_with_context(parent, &carrier)
        });
        self.0.build_with_context(builder, remote.as_ref().unwrap_or(parent))
    }
}

/// The field is no attribute: it says the same as the span's parent.
fn taken(builder: &mut SpanBuilder) -> Option<String> {
    let attributes = builder.attributes.as_mut()?;
    let at = attributes.iter().position(|attribute| attribute.key.as_str() == FIELD)?;
    match attributes.swap_remove(at).value {
        Value::String(text) => Some(text.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{Span as _, TracerProvider};
    use opentelemetry::{KeyValue, trace::SpanContext};
    use opentelemetry_sdk::trace::SdkTracerProvider;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn started(tracer: &Continued, said: &str, parent: &Context) -> SpanContext {
        let mut builder = tracer.span_builder("a");
        builder.attributes = Some(vec![KeyValue::new("b", 1), KeyValue::new(FIELD, said.to_owned())]);
        tracer.build_with_context(builder, parent).span_context().clone()
    }

    #[test]
    fn a_span_without_a_parent_here_continues_the_trace_that_it_names() {
        let provider = SdkTracerProvider::builder().build();
        let tracer = Continued(provider.tracer("test"));
        let span = started(&tracer, TRACE, &Context::new());
        assert_eq!(span.trace_id().to_string(), TRACE[3..35]);
        let here = Context::new().with_remote_span_context(span.clone());
        let other = TRACE.replace('4', "5");
        assert_eq!(
            started(&tracer, &other, &here).trace_id(),
            span.trace_id(),
            "the parent here comes first"
        );
        for bad in ["", "00-1-2-3", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"] {
            let root = started(&tracer, bad, &Context::new());
            assert!(root.is_valid() && root.trace_id() != span.trace_id(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_handed_on_names_the_current_span() {
        assert_eq!((traceparent(), trace_id()), (None, None));
        let provider = SdkTracerProvider::builder().build();
        let tracer = Continued(provider.tracer("test"));
        let span = started(&tracer, TRACE, &Context::new());
        let text = format!("00-{}-{}-01", span.trace_id(), span.span_id());
        let _current = Context::new().with_remote_span_context(span).attach();
        assert_eq!(traceparent(), Some(text));
        assert_eq!(trace_id().as_deref(), Some(&TRACE[3..35]));
    }
}
