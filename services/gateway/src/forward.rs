//! Sends a request on to a service and brings back its answer, within bounds of size and time.
//!
//! A request is sent again only where that cannot do it twice: when no connection could be made,
//! so that nothing was sent, or when it only reads. A command whose answer was lost is never
//! repeated here: the caller learns that its outcome is unknown.

use crate::headers;
use crate::upstream::Upstream;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use chassis::context::{REQUEST_ID, TRACEPARENT};
use chassis::{Context, Problem, body, with_causes};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::time::Duration;

const CONNECT_BOUND: Duration = Duration::from_secs(1);

/// Shorter than the services keep idle connections: so this side closes first, and a request is
/// rarely sent on a connection that is just being closed.
const IDLE_BOUND: Duration = Duration::from_secs(10);
const IDLE_PER_SERVICE: usize = 64;

/// The waits between attempts, in milliseconds; a service that is being replaced is back by then, and a cluster that
/// still leads to the pod that went has learned of it.
const PAUSES: [u64; 6] = [20, 80, 200, 500, 1000, 1500];

/// Bounds of what is forwarded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of a request's body.
    pub(crate) body: usize,
    /// Time until the whole answer is there.
    pub(crate) answer: Duration,
}

/// Forwards requests over pooled connections. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Forwarder {
    client: Client<HttpConnector, Full<Bytes>>,
    limits: Limits,
}

/// A request that can be sent more than once.
struct Outgoing {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Outgoing {
    fn request(&self) -> axum::http::Request<Full<Bytes>> {
        let mut request = axum::http::Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// How an attempt failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// Nothing was sent.
    #[error("no connection: {0}")]
    NotSent(String),
    /// Sent, perhaps in part; the answer did not come.
    #[error("the answer was lost: {0}")]
    AnswerLost(String),
}

impl Forwarder {
    pub(crate) fn new(limits: Limits) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_BOUND));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_BOUND)
            .pool_max_idle_per_host(IDLE_PER_SERVICE)
            .build(connector);
        Self { client, limits }
    }

    /// Forwards to a service and answers with its answer.
    pub(crate) async fn forward(&self, upstream: &Upstream, context: &Context, request: Request) -> Response {
        let outgoing = match self.outgoing(upstream, context, request).await {
            Ok(outgoing) => outgoing,
            Err(problem) => return problem.into_response(),
        };
        match tokio::time::timeout(self.limits.answer, self.answer(&outgoing)).await {
            Ok(Ok(response)) => response,
            Ok(Err(failure)) => {
                tracing::warn!(%upstream, method = %outgoing.method, request_id = context.request_id, %failure,
                    "not forwarded");
                problem_of(&failure).into_response()
            }
            Err(_) => {
                tracing::warn!(%upstream, method = %outgoing.method, request_id = context.request_id,
                    "no answer in time");
                too_late(&outgoing.method, self.limits.answer).into_response()
            }
        }
    }

    async fn outgoing(
        &self,
        upstream: &Upstream,
        context: &Context,
        request: Request,
    ) -> Result<Outgoing, Problem> {
        let (parts, incoming) = request.into_parts();
        let body = body::read(&parts.headers, incoming, self.limits.body).await?;
        let uri = upstream
            .at(parts.uri.path_and_query())
            .map_err(|_| Problem::bad_request("the path cannot be forwarded"))?;
        let mut headers = headers::end_to_end(parts.headers);
        let of_request =
            [(REQUEST_ID, Some(&context.request_id)), (TRACEPARENT, context.traceparent.as_ref())];
        for (name, text) in of_request {
            if let Some(Ok(value)) = text.map(|text| HeaderValue::from_str(text)) {
                headers.insert(name, value);
            }
        }
        // What a HEAD answers is what a GET would, without its body: the server takes care of that.
        let method = if parts.method == Method::HEAD { Method::GET } else { parts.method };
        Ok(Outgoing { method, uri, headers, body })
    }

    async fn answer(&self, outgoing: &Outgoing) -> Result<Response, Failure> {
        let mut pauses = PAUSES.iter();
        loop {
            let failure = match self.attempt(outgoing).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            match pauses.next() {
                Some(pause) if may_repeat(&outgoing.method, &failure) => {
                    tokio::time::sleep(Duration::from_millis(*pause)).await;
                }
                _ => return Err(failure),
            }
        }
    }

    async fn attempt(&self, outgoing: &Outgoing) -> Result<Response, Failure> {
        let answered = self.client.request(outgoing.request()).await.map_err(|error| {
            let text = with_causes(&error);
            if error.is_connect() { Failure::NotSent(text) } else { Failure::AnswerLost(text) }
        })?;
        let (parts, incoming) = answered.into_parts();
        let body = incoming.collect().await.map_err(|error| Failure::AnswerLost(with_causes(&error)))?;
        let mut response = Response::new(Body::from(body.to_bytes()));
        *response.status_mut() = parts.status;
        *response.headers_mut() = headers::end_to_end(parts.headers);
        Ok(response)
    }
}

fn may_repeat(method: &Method, failure: &Failure) -> bool {
    match failure {
        Failure::NotSent(_) => true,
        Failure::AnswerLost(_) => method.is_safe(),
    }
}

fn problem_of(failure: &Failure) -> Problem {
    match failure {
        Failure::NotSent(_) => {
            Problem::unavailable("the service behind this route cannot be reached; nothing was sent")
        }
        Failure::AnswerLost(_) => Problem::new(StatusCode::BAD_GATEWAY)
            .detail("the service behind this route broke off; whether it did what was asked is unknown"),
    }
}

fn too_late(method: &Method, bound: Duration) -> Problem {
    let known = if method.is_safe() { "" } else { "; whether it did what was asked is unknown" };
    Problem::new(StatusCode::GATEWAY_TIMEOUT).detail(format!(
        "the service behind this route did not answer within {} ms{known}",
        bound.as_millis()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_repeated_only_when_nothing_was_sent() {
        let (unsent, lost) = (Failure::NotSent(String::new()), Failure::AnswerLost(String::new()));
        let table = [
            (Method::GET, &unsent, true),
            (Method::GET, &lost, true),
            (Method::POST, &unsent, true),
            (Method::POST, &lost, false),
            (Method::PUT, &lost, false),
            (Method::DELETE, &lost, false),
        ];
        for (method, failure, repeated) in table {
            assert_eq!(may_repeat(&method, failure), repeated, "{method} {failure:?}");
        }
    }

    #[test]
    fn the_caller_learns_whether_it_may_have_happened() {
        let unsent = problem_of(&Failure::NotSent(String::new()));
        assert_eq!(unsent.status(), 503);
        assert_eq!(problem_of(&Failure::AnswerLost(String::new())).status(), 502);
        assert_eq!(too_late(&Method::POST, Duration::from_secs(1)).status(), 504);
    }
}
