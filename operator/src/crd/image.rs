//! Where images come from and how they are pulled.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Where the images come from and how they are pulled.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageSpec {
    /// The registry and path before `/ordershop-<service>:<version>`. Default: what the operator was installed
    /// with (its `--default-registry`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$"))]
    pub registry: Option<String>,

    /// When the nodes pull an image: `IfNotPresent`, `Always` or `Never`.
    #[serde(default)]
    pub pull_policy: PullPolicy,

    /// Secrets in the shop's namespace with the credentials for the registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub pull_secrets: Vec<PullSecret>,
}

/// When the nodes pull an image.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum PullPolicy {
    /// When the node does not have it.
    #[default]
    IfNotPresent,
    /// At every start of a pod.
    Always,
    /// Never: it must be on the node.
    Never,
}

impl PullPolicy {
    /// The value as Kubernetes writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IfNotPresent => "IfNotPresent",
            Self::Always => "Always",
            Self::Never => "Never",
        }
    }
}

/// A Secret of type `kubernetes.io/dockerconfigjson` in the shop's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct PullSecret {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
