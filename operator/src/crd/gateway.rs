//! The shop's edge: how the gateway is reached.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::IngressSpec;

/// The shop's edge: how the gateway is reached.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    /// The gateway's Service. It listens on port 80.
    #[serde(default)]
    pub service: GatewayServiceSpec,

    /// An Ingress that leads to the gateway's Service. Default: none; one that is taken away here is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressSpec>,
}

/// The gateway's Service.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.nodePort) || self.type != 'ClusterIP'")
    .message("gateway.service.nodePort needs gateway.service.type NodePort or LoadBalancer"))]
pub struct GatewayServiceSpec {
    /// `ClusterIP`: reached from inside the cluster. `NodePort`: also on a port of every node. `LoadBalancer`:
    /// also on an address that the cloud assigns.
    #[serde(rename = "type", default)]
    pub type_: GatewayServiceType,

    /// The port on every node, for the types `NodePort` and `LoadBalancer`. Default: Kubernetes picks one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub node_port: Option<i32>,
}

/// The type of the gateway's Service.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum GatewayServiceType {
    /// Reached from inside the cluster.
    #[default]
    ClusterIP,
    /// Reached on a port of every node.
    NodePort,
    /// Reached on an address that the cloud assigns.
    LoadBalancer,
}
