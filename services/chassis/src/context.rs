//! Who asks: the id of a request and its place in a trace. Taken from the caller when it is well
//! formed, made anew otherwise, and never trusted for anything but telling requests apart.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use std::convert::Infallible;
use uuid::Uuid;

/// The header that carries a request's id, both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The W3C trace context of the caller.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The context of a request; an extractor for handlers. Its id becomes the `correlation_id` of the
/// events that the request causes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Names this request in logs, answers and events.
    pub request_id: String,
    /// W3C trace context: of this request's span where traces are sent, else of the caller, if it sent a valid one.
    pub traceparent: Option<String>,
}

impl Context {
    /// The context that a request's headers give.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self {
            request_id: text(REQUEST_ID)
                .filter(|id| is_request_id(id))
                .unwrap_or_else(|| Uuid::new_v4().to_string()),
            traceparent: text(TRACEPARENT).filter(|value| is_traceparent(value)),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Context {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_else(|| Self::from_headers(&parts.headers)))
    }
}

/// Short and printable: it goes into logs and events.
fn is_request_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
}

/// `00-<trace id>-<span id>-<flags>`, lower-case hex, neither id all zero.
fn is_traceparent(value: &str) -> bool {
    let parts: Vec<&str> = value.split('-').collect();
    let hex = |text: &str, length| {
        text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let zero = |text: &str| text.bytes().all(|b| b == b'0');
    matches!(parts.as_slice(), [version, trace, span, flags]
        if *version == "00" && hex(trace, 32) && hex(span, 16) && hex(flags, 2) && !zero(trace) && !zero(span))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_well_formed_id_and_trace_are_kept() {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, "abc-1".parse().unwrap());
        headers.insert(TRACEPARENT, TRACE.parse().unwrap());
        let context = Context::from_headers(&headers);
        assert_eq!(context, Context { request_id: "abc-1".to_owned(), traceparent: Some(TRACE.to_owned()) });
    }

    #[test]
    fn what_could_confuse_a_log_is_replaced() {
        for bad in ["a b", "\"", "", &"x".repeat(129)] {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, bad.parse().unwrap());
            assert!(Uuid::parse_str(&Context::from_headers(&headers).request_id).is_ok(), "{bad}");
        }
    }

    #[test]
    fn an_invalid_trace_is_dropped() {
        for bad in
            ["", "00-1-2-3", &TRACE.to_uppercase(), &TRACE.replace("00f067aa0ba902b7", &"0".repeat(16))]
        {
            assert!(!is_traceparent(bad), "{bad}");
        }
        assert!(is_traceparent(TRACE));
    }
}
