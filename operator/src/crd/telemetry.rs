//! Where the services send their traces.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Where the services send their traces.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.otlpHeadersSecret) || has(self.otlpEndpoint)")
        .message("telemetry.otlpHeadersSecret needs telemetry.otlpEndpoint")
)]
pub struct TelemetrySpec {
    /// The collector that takes the traces of all services by OTLP over HTTP, for example `http://otel-collector.monitoring:4318`,
    /// without the path `/v1/traces`. It is reached without TLS: name a collector in the cluster, and let that send on.
    /// It need not be there: the shop works without it, and the services count what they lose. Changing it rolls all
    /// services. What `env` of a service says of an `OTEL_…` variable wins, such as `OTEL_TRACES_SAMPLER`. Default: none,
    /// and no traces are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new(
        r"self.matches('^http://([-.a-zA-Z0-9]+|\\[[0-9a-fA-F:.]+\\])(:[0-9]{1,5})?(/[-._~%!$&+,;=:@/a-zA-Z0-9]*)?$')"
    ).message(
        "telemetry.otlpEndpoint: give the address of a collector's HTTP port, as http://otel-collector.monitoring:4318; \
         a collector outside, with https, is reached through one in the cluster"
    ))]
    pub otlp_endpoint: Option<String>,

    /// The Secret with the headers that the collector asks for: `name=value,name=value`, values percent-encoded. When
    /// the Secret changes, the services are rolled, within half a minute. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otlp_headers_secret: Option<HeadersSecret>,
}

/// One key of a Secret in the shop's namespace that holds headers.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeadersSecret {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// The key in the Secret.
    #[serde(default = "HeadersSecret::default_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

impl HeadersSecret {
    fn default_key() -> String {
        "headers".to_owned()
    }
}
