//! Bodies of requests: read within a limit of size and time, and JSON whatever their content type
//! says. Looks at no field: what a body must contain is the service's to decide.

use crate::Problem;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;
use std::time::Duration;

/// The last line of defence of every service; the gateway refuses earlier.
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// A body that has not arrived by then will not.
const READ_BOUND: Duration = Duration::from_secs(30);

/// How much of a refused body is still read, so that a client that is busy sending gets the answer
/// instead of a broken connection.
const DRAIN_BYTES: usize = 32 * 1024 * 1024;
const DRAIN_BOUND: Duration = Duration::from_secs(2);

/// The body as JSON. 400 when it is none, 413 when it is too large.
#[derive(Clone, Debug)]
pub struct RawJson(pub Value);

impl<S: Sync> FromRequest<S> for RawJson {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = read(&parts.headers, body, MAX_BODY_BYTES).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(Problem::bad_request("the body is empty; JSON is expected"));
        }
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| Problem::bad_request(format!("the body is not JSON: {error}")))
    }
}

/// Reads a whole body of at most `limit` bytes.
pub async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Problem> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        // A client that asked first has sent nothing yet.
        if !headers.contains_key(header::EXPECT) {
            drain(body).await;
        }
        return Err(too_large(limit));
    }
    match tokio::time::timeout(READ_BOUND, collect(body, limit)).await {
        Ok(result) => result,
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT)
            .detail(format!("the body did not arrive within {} s", READ_BOUND.as_secs()))),
    }
}

async fn collect(mut body: Body, limit: usize) -> Result<Bytes, Problem> {
    let mut whole: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::bad_request("the body ended before it was complete"))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > limit {
            drain(body).await;
            return Err(too_large(limit));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.into())
}

async fn drain(mut body: Body) {
    let all = async {
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > DRAIN_BYTES {
                break;
            }
        }
    };
    // Whoever sends more slowly than this loses the answer; that is the client's risk.
    let _ = tokio::time::timeout(DRAIN_BOUND, all).await;
}

fn too_large(limit: usize) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE)
        .detail(format!("the body is larger than {limit} bytes"))
        .with("limit", &limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn json(body: impl Into<Body>, content_type: &str) -> Result<Value, Problem> {
        let request = Request::post("/").header("content-type", content_type).body(body.into()).unwrap();
        RawJson::from_request(request, &()).await.map(|RawJson(value)| value)
    }

    #[tokio::test]
    async fn a_body_is_json_whatever_its_content_type_says() {
        for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/json"] {
            assert_eq!(json(r#"{"a": 1}"#, content_type).await.unwrap()["a"], 1);
        }
    }

    #[tokio::test]
    async fn what_is_not_json_is_a_bad_request() {
        for bad in ["", " \n", "{", "{}x", "\u{0}", &"[".repeat(100_000)] {
            let problem = json(bad.to_owned(), "application/json").await.unwrap_err();
            assert_eq!(problem.status(), 400, "{bad:?}");
        }
        assert_eq!(json(vec![0xff, 0xfe], "application/json").await.unwrap_err().status(), 400);
    }

    #[tokio::test]
    async fn the_limit_is_the_last_byte_that_passes() {
        let none = HeaderMap::new();
        assert_eq!(read(&none, Body::from("12345"), 5).await.unwrap(), "12345");
        assert_eq!(read(&none, Body::from("123456"), 5).await.unwrap_err().status(), 413);
        let mut announced = HeaderMap::new();
        announced.insert(header::CONTENT_LENGTH, 6.into());
        assert_eq!(read(&announced, Body::from("123456"), 5).await.unwrap_err().status(), 413);
    }
}
