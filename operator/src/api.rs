//! The way to the API server: every request is counted, none waits for ever, and no write leaves once another
//! replica may lead.
//!
//! It stands outside the client's own retries, so that neither a request that is answered late nor one that is
//! sent again outlives the lead. The Lease's own requests are not fenced: they decide who leads.

use std::{
    future::ready,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use http::{Method, Request, Response, StatusCode, Uri};
use kube::{
    Client,
    client::{Body, ClientBuilder},
};
use tokio::time::{Instant, timeout_at};
use tower::{BoxError, Layer, Service};

use crate::metrics::Metrics;

/// How long an answer may take to begin. A connection that was cut silently would otherwise be waited for until
/// the system gives it up, after a quarter of an hour.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// A client that counts its requests, waits for no answer longer than is reasonable, and writes within `fence`.
pub fn client(config: kube::Config, metrics: &Metrics, fence: &Fence) -> Result<Client, kube::Error> {
    let guard = Guard { metrics: metrics.clone(), fence: fence.clone(), answer_within: ANSWER_WITHIN };
    Ok(ClientBuilder::try_from(config)?.with_layer(&guard).build())
}

/// Until when this replica may write. Cloning shares it; at first it may not.
#[derive(Clone, Debug, Default)]
pub struct Fence(Arc<Mutex<Option<Instant>>>);

impl Fence {
    /// Writes may be under way until then.
    pub fn open_until(&self, end: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    }

    /// No write leaves any more.
    pub fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn end(&self) -> Option<Instant> {
        let end = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        end.filter(|end| *end > Instant::now())
    }
}

/// A request was not sent, or its answer is not waited for any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// Another replica may lead by now.
    #[error("not sent: another replica may lead")]
    Fenced,
    /// The API server did not answer in time. Whether it has done what it was asked for is unknown.
    #[error("the API server did not answer in time")]
    NoAnswer,
}

/// What a request asks for, as RBAC names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    verb: &'static str,
    resource: String,
}

/// Reads it from the path: `/api/v1/…`, `/apis/GROUP/VERSION/…`, with or without `namespaces/NAME` before it.
fn asked(method: &Method, uri: &Uri) -> Asked {
    let mut path = uri.path().trim_matches('/').split('/').peekable();
    let prefix = if path.next() == Some("apis") { 2 } else { 1 };
    let mut path = path.skip(prefix).peekable();
    let first = path.next().unwrap_or_default();
    // `/api/v1/namespaces/ns` is about a namespace, `/api/v1/namespaces/ns/pods` is about pods in it.
    let (resource, name, subresource) = match (first, path.next(), path.next()) {
        ("namespaces", Some(_), Some(resource)) => (resource, path.next(), path.next()),
        (resource, name, subresource) => (resource, name, subresource),
    };
    let watches =
        uri.query().unwrap_or_default().split('&').any(|part| matches!(part, "watch=true" | "watch=1"));
    let verb = match (method.as_str(), name) {
        ("GET", _) if watches => "watch",
        ("GET", None) => "list",
        ("GET", Some(_)) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", _) => "delete",
        _ => "other",
    };
    let resource = subresource.map_or_else(|| resource.to_owned(), |sub| format!("{resource}/{sub}"));
    Asked { verb, resource }
}

impl Asked {
    fn is_fenced(&self) -> bool {
        !matches!(self.verb, "get" | "list" | "watch") && self.resource != "leases"
    }
}

/// The layer of the client.
#[derive(Clone, Debug)]
struct Guard {
    metrics: Metrics,
    fence: Fence,
    answer_within: Duration,
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, guard: self.clone() }
    }
}

/// The client's service behind the guard.
struct Guarded<S> {
    inner: S,
    guard: Guard,
}

impl<S, B> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send + 'static>,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let asked = asked(request.method(), request.uri());
        let mut deadline = Instant::now() + self.guard.answer_within;
        if asked.is_fenced() {
            match self.guard.fence.end() {
                Some(end) => deadline = deadline.min(end),
                None => return Box::pin(ready(Err(GuardError::Fenced.into()))),
            }
        }
        self.guard.metrics.requested(asked.verb, &asked.resource);
        let answer = timeout_at(deadline, self.inner.call(request));
        let metrics = self.guard.metrics.clone();
        Box::pin(async move {
            let answer = answer.await.map_err(|_| GuardError::NoAnswer)?.map_err(Into::into)?;
            if answer.status() == StatusCode::FORBIDDEN {
                metrics.denied(asked.verb, &asked.resource);
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{Api, api::DeleteParams};

    use super::*;

    #[test]
    fn a_request_is_counted_by_what_it_asks_for_and_never_by_a_name() {
        for (method, uri, verb, resource) in [
            ("GET", "/api/v1/namespaces/ns/configmaps/shop-config", "get", "configmaps"),
            ("GET", "/api/v1/namespaces/ns/configmaps?labelSelector=a%3Db", "list", "configmaps"),
            ("GET", "/api/v1/pods?watch=true&resourceVersion=1", "watch", "pods"),
            ("GET", "/apis/ordershop.dev/v1alpha1/ordershops?limit=1", "list", "ordershops"),
            (
                "PATCH",
                "/apis/ordershop.dev/v1alpha1/namespaces/ns/ordershops/shop/status?force=true",
                "patch",
                "ordershops/status",
            ),
            ("DELETE", "/apis/apps/v1/namespaces/ns/deployments/shop-crm", "delete", "deployments"),
            ("POST", "/apis/events.k8s.io/v1/namespaces/ns/events", "create", "events"),
            (
                "PUT",
                "/apis/coordination.k8s.io/v1/namespaces/ns/leases/ordershop-operator",
                "update",
                "leases",
            ),
            ("GET", "/api/v1/namespaces/ns", "get", "namespaces"),
        ] {
            let asked = asked(&Method::from_bytes(method.as_bytes()).unwrap(), &uri.parse().unwrap());
            assert_eq!((asked.verb, asked.resource.as_str()), (verb, resource), "{method} {uri}");
        }
    }

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_mins(5);

    /// A client of a server that answers each request after `delay`, and its fence.
    fn slow(delay: Duration, answer_within: Duration) -> (Client, Fence) {
        let fence = Fence::default();
        let guard = Guard { metrics: Metrics::default(), fence: fence.clone(), answer_within };
        let server = tower::service_fn(move |_: Request<Body>| async move {
            tokio::time::sleep(delay).await;
            let status = br#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success"}"#;
            Ok::<_, BoxError>(Response::new(Body::from(status.to_vec())))
        });
        (Client::new(guard.layer(server), "ns"), fence)
    }

    async fn delete(client: &Client) -> Result<(), String> {
        let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
        api.delete("x", &DeleteParams::default()).await.map(drop).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_write_leaves_only_while_this_replica_leads() {
        let (client, fence) = slow(Duration::ZERO, LONG);
        let refused = async |why: &str| {
            let error = delete(&client).await.unwrap_err();
            assert!(error.contains(&GuardError::Fenced.to_string()), "{why}: {error}");
        };
        refused("a standby").await;
        fence.open_until(Instant::now() + LONG);
        delete(&client).await.unwrap();
        fence.open_until(Instant::now());
        refused("a holder that could not renew in time").await;
        fence.open_until(Instant::now() + LONG);
        fence.close();
        refused("one that gave the lead back").await;
    }

    #[tokio::test]
    async fn no_write_is_under_way_beyond_the_lead() {
        let (client, fence) = slow(LONG, LONG);
        fence.open_until(Instant::now() + SHORT);
        let error = delete(&client).await.unwrap_err();
        assert!(error.contains(&GuardError::NoAnswer.to_string()), "{error}");
    }

    #[tokio::test]
    async fn a_read_needs_no_lead_and_does_not_wait_for_ever() {
        let (client, _) = slow(LONG, SHORT);
        let api: Api<ConfigMap> = Api::default_namespaced(client);
        let error = api.get_opt("x").await.unwrap_err().to_string();
        assert!(error.contains(&GuardError::NoAnswer.to_string()), "{error}");
    }
}
