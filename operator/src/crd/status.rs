//! What the shop is: written by the operator only, from what it found or applied.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What the shop is. Written by the operator only.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderShopStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready`: everything runs as the spec says. `Available`: the shop answers. `Progressing`: a rollout is
    /// under way. `Degraded`: something is wrong that does not go away by waiting. `RedisReady`: Redis answers.
    /// `Paused`: the operator changes nothing. `Hibernated`: the services and Redis are stopped, the data is kept.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// The nine services.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub services: Vec<ServiceStatus>,

    /// How many services have all their replicas ready, as `ready/all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services_ready: Option<String>,

    /// Where the gateway answers: inside the cluster, or at the load balancer's address once it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,

    /// The version that was last rolled out to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,

    /// The number of crm pods, for the scale subresource.
    #[serde(default)]
    pub crm_replicas: i32,

    /// The label selector of the crm pods, for the scale subresource and autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
}

impl OrderShopStatus {
    /// The condition of a type.
    #[must_use]
    pub fn condition(&self, type_: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == type_.as_str())
    }

    /// Whether the condition of a type is `True`.
    #[must_use]
    pub fn is(&self, type_: ConditionType) -> bool {
        self.condition(type_).is_some_and(|condition| condition.status == ConditionStatus::True)
    }
}

/// One of the nine services, as it runs.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// The name of the service.
    pub name: String,
    /// The replicas the spec asks for.
    pub desired: i32,
    /// The replicas that are ready.
    pub ready: i32,
    /// The image its Deployment has now; empty before there is one.
    #[serde(default)]
    pub image: String,
}

/// One aspect of the shop's state, in the form all of Kubernetes uses.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The aspect that this is about.
    #[serde(rename = "type")]
    pub type_: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// The generation of the spec that this was found for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When `status` last changed.
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
    /// Why, in one word for programs.
    pub reason: String,
    /// Why, for people.
    #[serde(default)]
    pub message: String,
}

/// Whether a condition holds.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It could not be found out.
    Unknown,
}

/// The aspects of a shop's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionType {
    /// Everything runs as the spec says.
    Ready,
    /// The shop answers.
    Available,
    /// A rollout is under way.
    Progressing,
    /// Something is wrong that does not go away by waiting.
    Degraded,
    /// Redis answers.
    RedisReady,
    /// The operator changes nothing.
    Paused,
    /// Everything is stopped, the data is kept.
    Hibernated,
}

impl ConditionType {
    /// The name of the aspect.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Available => "Available",
            Self::Progressing => "Progressing",
            Self::Degraded => "Degraded",
            Self::RedisReady => "RedisReady",
            Self::Paused => "Paused",
            Self::Hibernated => "Hibernated",
        }
    }
}
