//! Where the collector is: the standard environment of OpenTelemetry, read and checked. Pure but for
//! [`Settings::from_env`].

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::{Scheme, Uri};
use percent_encoding::percent_decode_str;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const TRACES_HEADERS: &str = "OTEL_EXPORTER_OTLP_TRACES_HEADERS";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const TRACES_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL";

/// Where traces go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The whole URL, with its path.
    pub(crate) url: Uri,
    /// Sent with each batch; values are not shown.
    pub(crate) headers: HeaderMap,
}

/// The environment says something about traces that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The endpoint is no URL of a collector.
    #[error(
        "{variable}={value:?} is no address of a collector: set it to http://host:4318, or leave it out to send no traces"
    )]
    Endpoint {
        /// The variable.
        variable: &'static str,
        /// What it says.
        value: String,
    },
    /// The endpoint asks for TLS.
    #[error(
        "{variable}={value:?}: traces are sent without TLS; set it to the http:// address of a collector in the cluster \
         or on this machine, and let that send on with TLS"
    )]
    Tls {
        /// The variable.
        variable: &'static str,
        /// What it says.
        value: String,
    },
    /// The headers are none. Their values may be secret and are not repeated.
    #[error("{variable} is no list of headers: set it to name=value,name=value with values percent-encoded")]
    Headers {
        /// The variable.
        variable: &'static str,
    },
    /// Another protocol is asked for.
    #[error(
        "{variable}={value:?}: only http/protobuf is spoken; leave it out, and name the collector's HTTP port (4318)"
    )]
    Protocol {
        /// The variable.
        variable: &'static str,
        /// What it says.
        value: String,
    },
}

impl Settings {
    /// What the environment of this process says; `None` without an endpoint.
    pub fn from_env() -> Result<Option<Self>, SettingsError> {
        Self::read(|name| std::env::var(name).ok())
    }

    /// As [`Self::from_env`], of other variables. One that is empty counts as absent.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, SettingsError> {
        let said =
            |name: &'static str| variable(name).filter(|value| !value.is_empty()).map(|value| (name, value));
        let (name, value, path) = match (said(TRACES_ENDPOINT), said(ENDPOINT)) {
            (Some((name, value)), _) => (name, value, ""),
            (None, Some((name, value))) => (name, value, "/v1/traces"),
            (None, None) => return Ok(None),
        };
        if let Some((variable, value)) = said(TRACES_PROTOCOL).or_else(|| said(PROTOCOL))
            && value != "http/protobuf"
        {
            return Err(SettingsError::Protocol { variable, value });
        }
        let headers = match said(TRACES_HEADERS).or_else(|| said(HEADERS)) {
            Some((variable, list)) => headers(&list).ok_or(SettingsError::Headers { variable })?,
            None => HeaderMap::new(),
        };
        Ok(Some(Self { url: url(name, value, path)?, headers }))
    }
}

fn url(variable: &'static str, value: String, path: &str) -> Result<Uri, SettingsError> {
    let parsed =
        value.parse::<Uri>().ok().filter(|url| url.authority().is_some_and(|at| !at.host().is_empty()));
    match parsed.as_ref().and_then(Uri::scheme) {
        Some(scheme) if *scheme == Scheme::HTTP => {}
        Some(scheme) if *scheme == Scheme::HTTPS => return Err(SettingsError::Tls { variable, value }),
        _ => return Err(SettingsError::Endpoint { variable, value }),
    }
    let whole =
        if path.is_empty() { value.clone() } else { format!("{}{path}", value.trim_end_matches('/')) };
    whole.parse().map_err(|_| SettingsError::Endpoint { variable, value })
}

/// `name=value,name=value`, values percent-encoded.
fn headers(list: &str) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for pair in list.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let name: HeaderName = name.trim().parse().ok()?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        let mut value: HeaderValue = value.parse().ok()?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, SettingsError> {
        Settings::read(|name| {
            variables.iter().find(|(one, _)| *one == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn without_an_endpoint_there_is_nothing_to_set_up() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[(ENDPOINT, ""), (PROTOCOL, "grpc"), (HEADERS, "?")]), Ok(None));
    }

    #[test]
    fn the_endpoint_is_a_base_and_the_one_for_traces_is_whole() {
        let table: [(&[_], &str); 5] = [
            (&[(ENDPOINT, "http://otel:4318")], "http://otel:4318/v1/traces"),
            (&[(ENDPOINT, "http://otel:4318/")], "http://otel:4318/v1/traces"),
            (&[(ENDPOINT, "http://[::1]:4318/base/")], "http://[::1]:4318/base/v1/traces"),
            (&[(TRACES_ENDPOINT, "http://otel/mine")], "http://otel/mine"),
            (&[(TRACES_ENDPOINT, "http://a/b"), (ENDPOINT, "http://c")], "http://a/b"),
        ];
        for (variables, url) in table {
            assert_eq!(read(variables).unwrap().unwrap().url.to_string(), url);
        }
    }

    #[test]
    fn what_cannot_be_says_which_variable_to_change_and_to_what() {
        for bad in ["otel:4318", "grpc://otel:4317", "http://", "http:// a", "/v1"] {
            let error = read(&[(ENDPOINT, bad)]).unwrap_err();
            assert!(matches!(error, SettingsError::Endpoint { variable: ENDPOINT, .. }), "{bad}: {error}");
            assert!(error.to_string().contains("http://host:4318"));
        }
        let tls = read(&[(TRACES_ENDPOINT, "https://otel")]).unwrap_err();
        assert!(matches!(tls, SettingsError::Tls { variable: TRACES_ENDPOINT, .. }), "{tls}");
        let grpc = read(&[(ENDPOINT, "http://otel"), (PROTOCOL, "grpc")]).unwrap_err();
        assert!(matches!(grpc, SettingsError::Protocol { variable: PROTOCOL, .. }), "{grpc}");
    }

    #[test]
    fn headers_are_decoded_and_never_shown() {
        let settings = read(&[(ENDPOINT, "http://otel"), (HEADERS, "authorization=Basic%20YQ==, X-Team=a")]);
        let settings = settings.unwrap().unwrap();
        assert_eq!(settings.headers["authorization"], "Basic YQ==");
        assert_eq!(settings.headers["x-team"], "a");
        assert!(!format!("{settings:?}").contains("YQ"));
        for bad in ["secret", "a b=secret", "a=secret%0A"] {
            let error = read(&[(ENDPOINT, "http://otel"), (HEADERS, bad)]).unwrap_err();
            assert_eq!(error, SettingsError::Headers { variable: HEADERS }, "{bad}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
