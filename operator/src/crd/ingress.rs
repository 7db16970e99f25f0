//! The Ingress in front of the gateway.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::pod::annotation_values;

/// The Ingress in front of the gateway: HTTP from outside the cluster, through the cluster's ingress controller.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IngressSpec {
    /// The host name under which the shop is reached. Default: every host that leads to the controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub host: Option<String>,

    /// The IngressClass. Default: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: Option<String>,

    /// The Secret of type `kubernetes.io/tls` in the shop's namespace with the certificate of the host. The
    /// ingress controller reads it, the operator does not. Default: none, so plain HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub tls_secret: Option<String>,

    /// Annotations of the Ingress, which is how ingress controllers are configured.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "annotation_values")]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('ordershop.dev/'))")
        .message("ingress.annotations: annotations under ordershop.dev/ are the operator's own; choose another prefix"))]
    pub annotations: BTreeMap<String, String>,
}
