//! Who may connect to whom.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Who may connect to the shop's pods, and where these may connect to. It takes effect where the cluster's network
/// enforces `NetworkPolicy`, and is ignored elsewhere.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicySpec {
    /// Whether there are policies: only services reach Redis, only the gateway reaches the services, and each pod
    /// reaches only what it needs. Switch it off where policies are made by other means.
    #[serde(default = "NetworkPolicySpec::default_enabled")]
    pub enabled: bool,

    /// Who may reach the gateway, for example the ingress controller's namespace. Default: everybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 16, "x-kubernetes-list-type" = "atomic"))]
    pub ingress_from: Vec<Peer>,

    /// Who may read the metrics of the services, for example Prometheus' namespace. Default: nobody. The node's
    /// probes are always let in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 16, "x-kubernetes-list-type" = "atomic"))]
    pub metrics_from: Vec<Peer>,

    /// Who may reach Redis beside the services, for example KEDA's namespace. Redis asks for a password all the same.
    /// Default: nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 16, "x-kubernetes-list-type" = "atomic"))]
    pub redis_from: Vec<Peer>,
}

impl NetworkPolicySpec {
    fn default_enabled() -> bool {
        true
    }
}

impl Default for NetworkPolicySpec {
    fn default() -> Self {
        Self {
            enabled: Self::default_enabled(),
            ingress_from: Vec::new(),
            metrics_from: Vec::new(),
            redis_from: Vec::new(),
        }
    }
}

/// Some pods, or some addresses.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.cidr) != (has(self.namespaceLabels) || has(self.podLabels))")
        .message("a peer of networkPolicy is either addresses (cidr) or pods (namespaceLabels, podLabels, or both)")
)]
pub struct Peer {
    /// The pods of all namespaces with these labels; `{}` is every namespace. Default: the shop's own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::pod::label_values")]
    pub namespace_labels: Option<BTreeMap<String, String>>,

    /// Only pods with these labels. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::pod::label_values")]
    pub pod_labels: Option<BTreeMap<String, String>>,

    /// Addresses outside of the cluster, as `203.0.113.0/24`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 43), regex(pattern = r"^[0-9A-Fa-f.:]+/[0-9]{1,3}$"))]
    pub cidr: Option<String>,
}
