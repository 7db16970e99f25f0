//! What pods carry for others to see, and on which nodes they run.
//!
//! The shapes are those of a pod, so that what works there can be copied here.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What the pods carry for others to see, and on which nodes they run, in the words of a pod.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSettings {
    /// Labels of the pods beside the operator's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "label_values")]
    #[x_kube(validation = Rule::new(
        "self.all(key, !key.startsWith('app.kubernetes.io/') && !key.startsWith('ordershop.dev/'))"
    ).message("pod.labels: labels under app.kubernetes.io/ and ordershop.dev/ are the operator's own; choose another prefix"))]
    pub labels: BTreeMap<String, String>,

    /// Annotations of the pods beside the operator's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "annotation_values")]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('ordershop.dev/'))")
        .message("pod.annotations: annotations under ordershop.dev/ are the operator's own; choose another prefix"))]
    pub annotations: BTreeMap<String, String>,

    /// Labels that a node must have to run the pods. Default: none, so every node is good.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "label_values")]
    pub node_selector: BTreeMap<String, String>,

    /// Taints of nodes that do not keep the pods away. Default: none beyond those Kubernetes adds to every pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub tolerations: Vec<Toleration>,

    /// Rules about nodes and about pods beside them: a pod's `affinity` with its fields `nodeAffinity`,
    /// `podAffinity` and `podAntiAffinity`, exactly as `kubectl explain pod.spec.affinity` describes them. The
    /// operator refuses fields that are not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "kubernetes_object")]
    pub affinity: Option<Map<String, Value>>,

    /// How evenly the pods are spread over nodes, zones or other groups of nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["topologyKey", "whenUnsatisfiable"],
    ))]
    pub topology_spread_constraints: Vec<TopologySpread>,

    /// The PriorityClass of the pods: which pods make room for which when a cluster is full. Default: the
    /// cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
}

/// A taint that does not keep the pods away from a node.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.key) || (has(self.operator) && self.operator == 'Exists')")
        .message("tolerations: a toleration without a key tolerates every taint and needs the operator Exists"),
    validation = Rule::new("!has(self.value) || !has(self.operator) || self.operator == 'Equal'")
        .message("tolerations: value is compared by the operator Equal only; leave it out for Exists"),
    validation = Rule::new("!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')")
        .message("tolerations: tolerationSeconds needs the effect NoExecute"),
)]
pub struct Toleration {
    /// The key of the taint. Default: every key, which needs the operator `Exists`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    pub key: Option<String>,

    /// How the taint's value is compared. Default: `Equal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,

    /// The value of the taint, for the operator `Equal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,

    /// The effect of the taint. Default: every effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,

    /// How long a pod stays on a node after it got the taint, in seconds, for the effect `NoExecute`. Default:
    /// for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub toleration_seconds: Option<i64>,
}

/// How the value of a taint is compared.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum TolerationOperator {
    /// It is the same.
    Equal,
    /// It is not looked at.
    Exists,
}

/// What a taint does.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum TaintEffect {
    /// New pods do not come.
    NoSchedule,
    /// New pods come when there is no other place.
    PreferNoSchedule,
    /// Pods that are there go, too.
    NoExecute,
}

/// How evenly pods are spread over groups of nodes.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopologySpread {
    /// By how many pods two groups of nodes may differ.
    #[schemars(range(min = 1, max = 100))]
    pub max_skew: i32,

    /// The label of the nodes that makes the groups, such as `kubernetes.io/hostname` or
    /// `topology.kubernetes.io/zone`.
    #[schemars(length(min = 1, max = 317))]
    pub topology_key: String,

    /// What happens to a pod that would make the difference too large: `DoNotSchedule`, it waits;
    /// `ScheduleAnyway`, it goes where it does least harm.
    pub when_unsatisfiable: WhenUnsatisfiable,

    /// How many groups there must be at least, for `DoNotSchedule`. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_domains: Option<i32>,

    /// The pods that are counted: a label selector with `matchLabels` and `matchExpressions`. Default: the pods
    /// of the component that this stands at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "kubernetes_object")]
    pub label_selector: Option<Map<String, Value>>,

    /// Labels whose values only pods with the same ones share: `pod-template-hash` counts each rollout's pods
    /// by themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 317)), extend("x-kubernetes-list-type" = "set"))]
    pub match_label_keys: Vec<String>,

    /// Whether nodes that the pods cannot run on, by node selector and affinity, are counted. Default: `Honor`,
    /// they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_affinity_policy: Option<NodePolicy>,

    /// Whether nodes with taints that the pods do not tolerate are left out. Default: `Ignore`, they are
    /// counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_taints_policy: Option<NodePolicy>,
}

/// What happens to a pod that would make a difference too large.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum WhenUnsatisfiable {
    /// It waits.
    DoNotSchedule,
    /// It goes where it does least harm.
    ScheduleAnyway,
}

/// Whether something about nodes is respected when pods are counted.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum NodePolicy {
    /// It is.
    Honor,
    /// It is not.
    Ignore,
}

/// A part of a pod whose whole schema would be longer than this one.
fn kubernetes_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// A map to label values.
pub(super) fn label_values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {
            "type": "string",
            "maxLength": 63,
            "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
        },
    })
}

/// A map to texts of any kind.
pub(super) fn annotation_values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": { "type": "string", "maxLength": 32768 },
    })
}
