//! Where the services send their traces, checked.

use http::{Uri, uri::Scheme};

use super::ValidateError;
use crate::crd::{SecretKey, TelemetrySpec};

/// The collector of a shop's traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// Its address, as the services take it.
    pub endpoint: String,
    /// The port that the services connect to.
    pub port: u16,
    /// Where the headers are that it asks for.
    pub headers: Option<SecretKey>,
}

/// The collector that the spec names.
pub(super) fn collector(said: &TelemetrySpec) -> Result<Option<Collector>, ValidateError> {
    let Some(endpoint) = &said.otlp_endpoint else { return Ok(None) };
    let invalid = || ValidateError::NotKubernetes {
        field: "spec.telemetry.otlpEndpoint".to_owned(),
        what: format!("{endpoint:?} is no http:// address of a collector"),
    };
    let uri: Uri = endpoint.parse().map_err(|_| invalid())?;
    let at = uri.authority().filter(|_| uri.scheme() == Some(&Scheme::HTTP)).ok_or_else(invalid)?;
    // By hand: a number that is no port would count as none.
    let port = match at.as_str().strip_prefix(at.host()) {
        Some("") => 80,
        Some(rest) => {
            rest.trim_start_matches(':').parse().ok().filter(|port| *port > 0).ok_or_else(invalid)?
        }
        None => return Err(invalid()),
    };
    let headers = said.otlp_headers_secret.as_ref();
    Ok(Some(Collector {
        endpoint: endpoint.clone(),
        port,
        headers: headers.map(|at| SecretKey { name: at.name.clone(), key: at.key.clone() }),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(endpoint: &str) -> Result<Option<Collector>, ValidateError> {
        collector(&TelemetrySpec { otlp_endpoint: Some(endpoint.to_owned()), ..TelemetrySpec::default() })
    }

    #[test]
    fn the_port_is_that_of_the_endpoint_or_that_of_http() {
        assert_eq!(collector(&TelemetrySpec::default()).unwrap(), None);
        for (endpoint, port) in
            [("http://otel:4318", 4318), ("http://otel.monitoring", 80), ("http://[::1]:9/base", 9)]
        {
            assert_eq!(said(endpoint).unwrap().unwrap().port, port, "{endpoint}");
        }
    }

    #[test]
    fn what_an_older_schema_could_have_let_through_is_an_error_that_names_the_field() {
        for bad in [
            "",
            "otel:4318",
            "https://otel",
            "http://",
            "http://otel:0",
            "http://otel:99999",
            "http://a:b@otel:1",
        ] {
            let error = said(bad).unwrap_err();
            assert!(error.to_string().starts_with("spec.telemetry.otlpEndpoint: "), "{bad}: {error}");
        }
    }
}
