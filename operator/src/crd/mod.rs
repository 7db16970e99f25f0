//! The resource a user writes: `kind: OrderShop`.
//!
//! The doc comments of these types are the reference: they become the schema's descriptions and with them
//! `kubectl explain shop.spec…`. Every field has a default that works, so `spec: {}` is a whole shop. A field
//! stands here only when the operator acts on it.
//!
//! Nothing here decides anything: what a loose spec means is settled in [`crate::controller::validate`].

mod autoscaling;
mod environment;
mod external;
mod gateway;
mod image;
mod ingress;
mod mail;
pub mod manifest;
mod network;
mod pod;
mod quantity;
mod redis;
mod services;
mod status;
mod telemetry;

#[cfg(test)]
mod tests;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub use autoscaling::AutoscalingSpec;
pub use environment::{KeyReference, NameReference, SecretKey, ValueFrom, Variable, VariablesFrom};
pub use external::ExternalRedis;
pub use gateway::{GatewayServiceSpec, GatewayServiceType, GatewaySpec};
pub use image::{ImageSpec, PullPolicy, PullSecret};
pub use ingress::IngressSpec;
pub use mail::MailSpec;
pub use network::{NetworkPolicySpec, Peer};
pub use pod::{
    NodePolicy, PodSettings, TaintEffect, Toleration, TolerationOperator, TopologySpread, WhenUnsatisfiable,
};
pub(crate) use quantity::same_quantity;
pub use quantity::{InvalidQuantity, Quantity};
pub use redis::{OnDelete, Persistence, RedisSpec, StorageSpec};
pub use services::{Resources, ServiceSpec, ServicesSpec};
pub use status::{Condition, ConditionStatus, ConditionType, OrderShopStatus, ServiceStatus};
pub use telemetry::{HeadersSecret, TelemetrySpec};

/// The longest name a shop can have: the names of its pods' controllers are labels of at most 63 characters.
pub const MAX_NAME_LENGTH: usize = 40;

/// What the shop should be. Every field has a default that works: `spec: {}` is a whole shop.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "ordershop.dev",
    version = "v1alpha1",
    kind = "OrderShop",
    singular = "ordershop",
    plural = "ordershops",
    shortname = "shop",
    namespaced,
    status = "OrderShopStatus",
    derive = "PartialEq",
    doc = "An event-driven shop: nine services that communicate through the event store on one Redis. \
           The operator turns it into nine Deployments and a Redis StatefulSet, and keeps it so.",
    scale(
        spec_replicas_path = ".spec.services.crm.replicas",
        status_replicas_path = ".status.crmReplicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        description = "Whether every service and Redis run as the spec says.",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Services",
        type_ = "string",
        description = "Services whose replicas are all ready, of nine.",
        json_path = ".status.servicesReady"
    ),
    printcolumn(
        name = "URL",
        type_ = "string",
        description = "Where the gateway answers.",
        json_path = ".status.url"
    ),
    printcolumn(
        name = "Version",
        type_ = "string",
        description = "The version that was last rolled out to the end.",
        json_path = ".status.version"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        description = "What the shop is waiting for, or what is wrong with it.",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    ),
    validation = Rule::new("self.metadata.name.size() <= 40")
        .message("metadata.name: at most 40 characters, because the names of the shop's pods are made from it"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name: lower-case letters, digits and '-', beginning with a letter, because Services are named after it")
)]
#[serde(rename_all = "camelCase")]
pub struct OrderShopSpec {
    /// The version of the nine services: the tag of their images. Default: the version the operator was
    /// installed with (its `--default-version`), so that upgrading the operator upgrades the shop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"))]
    pub version: Option<String>,

    /// Where the images come from and how they are pulled.
    #[serde(default)]
    pub image: ImageSpec,

    /// Stops the operator from changing anything that belongs to this shop, so that it can be examined or
    /// repaired by hand. The status is still kept up to date. What was changed by hand is repaired afterwards.
    #[serde(default)]
    pub paused: bool,

    /// Puts the shop to sleep: first the services are stopped, then Redis, whose volume keeps all data. When it
    /// is taken back, Redis comes first, then the services with the replicas they had. Autoscalers rest too.
    #[serde(default)]
    pub hibernated: bool,

    /// The Redis that holds the events and the entities.
    #[serde(default)]
    pub redis: RedisSpec,

    /// The nine services, each by its name.
    #[serde(default)]
    pub services: ServicesSpec,

    /// The shop's edge: how the gateway is reached.
    #[serde(default)]
    pub gateway: GatewaySpec,

    /// How the notification service sends mails.
    #[serde(default)]
    pub mail: MailSpec,

    /// Where the services send their traces.
    #[serde(default)]
    pub telemetry: TelemetrySpec,

    /// Who may connect to whom, where the cluster's network enforces it.
    #[serde(default)]
    pub network_policy: NetworkPolicySpec,
}
