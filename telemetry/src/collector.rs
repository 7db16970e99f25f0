//! The way to the collector: one batch, one request, over one kept connection. Decides nothing about what a failure
//! means.

use crate::Settings;
use crate::causes::with_causes;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use prost::Message;
use std::time::Duration;

/// How long a batch may take: the standard's own default.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Collectors keep idle connections longer, so that this side closes first.
const IDLE: Duration = Duration::from_secs(20);
/// The answer says in a few bytes what was not taken.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("no answer within {ANSWER_WITHIN:?}")]
    TimedOut,
    #[error("no connection: {0}")]
    NoConnection(String),
    #[error("the answer was {0}")]
    Refused(StatusCode),
    #[error("the answer cannot be read: {0}")]
    Answer(String),
}

/// A collector.
#[derive(Debug)]
pub(crate) struct Collector {
    client: Client<HttpConnector, Full<Bytes>>,
    url: Uri,
    headers: HeaderMap,
    resource: ResourceAttributesWithSchema,
}

impl Collector {
    pub(crate) fn new(settings: Settings, resource: &Resource) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_WITHIN));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(1)
            .build(connector);
        let Settings { url, mut headers } = settings;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        Self { client, url, headers, resource: resource.into() }
    }

    /// Sends spans; how many of them the collector did not want.
    pub(crate) async fn send(&self, spans: Vec<SpanData>) -> Result<u64, SendError> {
        let body = ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(spans, &self.resource),
        };
        let mut request = Request::new(Full::new(Bytes::from(body.encode_to_vec())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        *request.headers_mut() = self.headers.clone();
        tokio::time::timeout(ANSWER_WITHIN, self.exchange(request)).await.unwrap_or(Err(SendError::TimedOut))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<u64, SendError> {
        let answer = self
            .client
            .request(request)
            .await
            .map_err(|error| SendError::NoConnection(with_causes(&error)))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
        if !status.is_success() {
            return Err(SendError::Refused(status));
        }
        let body = body.map_err(|error| SendError::Answer(error.to_string()))?.to_bytes();
        // Not every collector answers in protobuf; that it took all is what the status says then.
        let said = ExportTraceServiceResponse::decode(body).ok().and_then(|answer| answer.partial_success);
        Ok(said.map_or(0, |said| u64::try_from(said.rejected_spans).unwrap_or(0)))
    }
}
