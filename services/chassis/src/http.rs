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

/// A router with everything around its routes.
pub(crate) fn dressed(router: Router, metrics: Metrics) -> Router {
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
    State(metrics): State<Metrics>,
    route: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let context = Context::from_headers(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let request_id = context.request_id.clone();
    request.extensions_mut().insert(context);

    let mut response = next.run(request).await;

    let took = started.elapsed();
    let status = response.status();
    let known = if is_standard(&method) { method.as_str() } else { "other" };
    metrics.answered(known, route.as_ref().map_or("none", MatchedPath::as_str), status.as_u16(), took);
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
