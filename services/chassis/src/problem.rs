//! Errors of the HTTP API as RFC 9457 problem details (`application/problem+json`). The text of a
//! problem is for the caller: it never carries what only the log should know.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use event_store::{AppendError, AppendErrorKind, ProjectionError, ReadError};
use serde::Serialize;
use serde_json::{Map, Value};

const BLANK: &str = "about:blank";

/// A problem: what an HTTP API answers instead of success.
///
/// ```
/// # use chassis::Problem;
/// use axum::http::StatusCode;
/// let problem = Problem::new(StatusCode::CONFLICT)
///     .kind("out-of-stock", "Out of stock")
///     .detail("2 lines are short; nothing was taken")
///     .with("short", &["6d3ff6f4"]);
/// ```
#[derive(Clone, Debug, Serialize)]
#[must_use = "a problem does nothing until it is answered"]
pub struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    #[serde(serialize_with = "number")]
    status: StatusCode,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(flatten)]
    extensions: Map<String, Value>,
    #[serde(skip)]
    retry_after: Option<u32>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    /// A problem that says no more than its status.
    pub fn new(status: StatusCode) -> Self {
        Self {
            kind: BLANK.to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status,
            detail: None,
            extensions: Map::new(),
            retry_after: None,
        }
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST).detail(detail)
    }

    /// 404: there is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND).detail(detail)
    }

    /// 409: it contradicts what is there.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT).detail(detail)
    }

    /// 422: understood, but it cannot be so. `errors` says what is wrong, one entry per mistake.
    pub fn unprocessable(detail: impl Into<String>, errors: &impl Serialize) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY).detail(detail).with("errors", errors)
    }

    /// 503: what is needed for an answer is not there now; `Retry-After: 1`.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE).detail(detail).retry_after(1)
    }

    /// 500: our mistake. The caller learns nothing of it; log the cause.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR).detail("this is our mistake; the cause is in our log")
    }

    /// A type of its own, for problems that a program should tell from others of the same status.
    pub fn kind(mut self, name: &str, title: &str) -> Self {
        self.kind = format!("urn:ordershop:problem:{name}");
        title.clone_into(&mut self.title);
        self
    }

    /// What happened here, for people.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// A further member. The five members of the RFC cannot be replaced.
    pub fn with(mut self, name: &str, value: &impl Serialize) -> Self {
        let reserved = ["type", "title", "status", "detail", "instance"].contains(&name);
        if let (false, Ok(value)) = (reserved, serde_json::to_value(value)) {
            self.extensions.insert(name.to_owned(), value);
        }
        self
    }

    /// Answers with `Retry-After`, in seconds.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, retry_after) = (self.status, self.retry_after);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// The store cannot be read: the cause goes to the log.
impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        tracing::warn!(%error, "the event store cannot be read");
        Self::unavailable("the event store cannot be read now")
    }
}

/// The projection has not caught up or cannot be read: the cause goes to the log.
impl From<ProjectionError> for Problem {
    fn from(error: ProjectionError) -> Self {
        tracing::warn!(%error, "the projection cannot answer");
        Self::unavailable(
            "the read model has not caught up with the latest writes; \
            ?consistency=eventual reads what it has",
        )
    }
}

/// An append that was refused, as the caller of a route sees it.
impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        match error.kind() {
            AppendErrorKind::Conflict { deleted: true, .. } => Self::not_found("it was deleted meanwhile"),
            AppendErrorKind::Conflict { actual, .. } => {
                Self::conflict("it was changed meanwhile").with("version", &actual)
            }
            AppendErrorKind::TooLarge { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY).detail(error.to_string())
            }
            AppendErrorKind::Unavailable => {
                tracing::warn!(%error, "the event store cannot be written");
                Self::unavailable("the event store cannot be written now")
            }
            _ => {
                tracing::error!(%error, "an append was refused");
                Self::internal()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_problem_has_the_members_of_the_rfc_and_its_extensions() {
        let problem = Problem::new(StatusCode::CONFLICT)
            .kind("out-of-stock", "Out of stock")
            .detail("one line is short")
            .with("short", &json!([{"product_id": "p"}]))
            .with("status", &"no");
        let text = serde_json::to_value(&problem).unwrap();
        let expected = json!({
            "type": "urn:ordershop:problem:out-of-stock", "title": "Out of stock", "status": 409,
            "detail": "one line is short", "short": [{"product_id": "p"}],
        });
        assert_eq!(text, expected);
    }

    #[test]
    fn an_answer_is_problem_json_and_says_when_to_come_back() {
        let response = Problem::unavailable("later").into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }
}
