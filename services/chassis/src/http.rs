//! What surrounds every route: the request's context, counting, panics, and the answers for what
//! is no route.

use crate::context::{Context, REQUEST_ID};
use crate::metrics::Metrics;
use crate::problem::Problem;
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use std::time::Instant;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::{Instrument, debug_span, field};

/// A router with everything around its routes. Without metrics its requests are neither counted nor traced.
pub(crate) fn dressed(router: Router, metrics: Option<Metrics>) -> Router {
    router
        .fallback(async |uri: Uri| Problem::not_found(format!("there is nothing at {}", uri.path())))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED)
                .detail(format!("{} does not answer {method}", uri.path()))
        })
        .layer(CatchPanicLayer::custom(|_| Problem::internal().into_response()))
        .layer(from_fn_with_state(metrics, observe))
}

async fn observe(
    State(metrics): State<Option<Metrics>>,
    route: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let mut context = Context::from_headers(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let request_id = context.request_id.clone();
    let known = if is_standard(&method) { method.as_str() } else { "other" };
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let span = match &metrics {
        Some(_) => debug_span!("request", otel.kind = "server", otel.name = %format_args!("{known} {route}"),
            otel.status_code = field::Empty, http.request.method = known, http.route = route, url.path = path,
            http.response.status_code = field::Empty, request_id, traceparent = context.traceparent),
        None => tracing::Span::none(),
    };
    // Whoever is asked in turn, and whoever handles the events, continues from here.
    if let Some(here) = span.in_scope(telemetry::traceparent) {
        context.traceparent = Some(here);
    }
    request.extensions_mut().insert(context);

    let mut response = next.run(request).instrument(span.clone()).await;

    let _within = span.enter();
    let took = started.elapsed();
    let status = response.status();
    if let Some(metrics) = metrics {
        metrics.answered(known, route, status.as_u16(), took);
    }
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    let milliseconds = took.as_secs_f64() * 1000.0;
    // 503 is an answer, not a mistake: whoever gave it has logged why.
    let mistake = status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE;
    let status = status.as_u16();
    if mistake {
        tracing::warn!(request_id, %method, path, status, milliseconds, "request failed");
    } else {
        tracing::debug!(request_id, %method, path, status, milliseconds, "request");
    }
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().entry(REQUEST_ID).or_insert(value);
    }
    response
}

/// A caller can invent methods without end; labels must not grow with them.
fn is_standard(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS]
        .contains(method)
}
