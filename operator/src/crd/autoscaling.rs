//! How the number of a service's pods follows its load.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// How the number of a service's pods follows its load.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.minReplicas <= self.maxReplicas")
    .message("autoscaling.minReplicas must not be greater than autoscaling.maxReplicas"))]
pub struct AutoscalingSpec {
    /// The fewest pods there are.
    #[serde(default = "AutoscalingSpec::default_min_replicas")]
    #[schemars(range(min = 1, max = 100))]
    pub min_replicas: i32,

    /// The most pods there are.
    #[schemars(range(min = 1, max = 100))]
    pub max_replicas: i32,

    /// For `gateway`, `customer`, `product` and `readModel`, by a HorizontalPodAutoscaler: the part of the CPU that
    /// they request which the pods use on average, in percent. Lower where load comes in bursts. Default: 80.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub target_cpu: Option<i32>,

    /// For `inventory`, `order`, `billing`, `crm` and `notification`, by a ScaledObject of KEDA, which must be
    /// installed: how many events wait in a stream for each pod. Lower where events must be handled sooner. Default:
    /// 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub lag_per_replica: Option<i32>,
}

impl AutoscalingSpec {
    fn default_min_replicas() -> i32 {
        1
    }
}
