//! The nine services, each by its name.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{AutoscalingSpec, PodSettings, Quantity, Variable, VariablesFrom};
use crate::service::Service;

/// The nine services, each by its name.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
// The API server also tries a rule on the default, `{}`: a service that is not there is asked for first.
#[x_kube(validation = Rule::new(
    "(!has(self.gateway) || !has(self.gateway.autoscaling) || !has(self.gateway.autoscaling.lagPerReplica)) && \
     (!has(self.customer) || !has(self.customer.autoscaling) || !has(self.customer.autoscaling.lagPerReplica)) && \
     (!has(self.product) || !has(self.product.autoscaling) || !has(self.product.autoscaling.lagPerReplica)) && \
     (!has(self.readModel) || !has(self.readModel.autoscaling) || !has(self.readModel.autoscaling.lagPerReplica))"
).message("autoscaling.lagPerReplica is for services that handle events; gateway, customer, product and readModel have autoscaling.targetCpu"))]
#[x_kube(validation = Rule::new(
    "(!has(self.inventory) || !has(self.inventory.autoscaling) || !has(self.inventory.autoscaling.targetCpu)) && \
     (!has(self.order) || !has(self.order.autoscaling) || !has(self.order.autoscaling.targetCpu)) && \
     (!has(self.billing) || !has(self.billing.autoscaling) || !has(self.billing.autoscaling.targetCpu)) && \
     (!has(self.crm) || !has(self.crm.autoscaling) || !has(self.crm.autoscaling.targetCpu)) && \
     (!has(self.notification) || !has(self.notification.autoscaling) || !has(self.notification.autoscaling.targetCpu))"
).message("autoscaling.targetCpu is for services that answer requests; inventory, order, billing, crm and notification have autoscaling.lagPerReplica"))]
pub struct ServicesSpec {
    /// The edge: takes every request from outside.
    #[serde(default)]
    pub gateway: ServiceSpec,
    /// Owns the customers.
    #[serde(default)]
    pub customer: ServiceSpec,
    /// Owns the products.
    #[serde(default)]
    pub product: ServiceSpec,
    /// Owns the stock and reserves it for orders.
    #[serde(default)]
    pub inventory: ServiceSpec,
    /// Owns the orders.
    #[serde(default)]
    pub order: ServiceSpec,
    /// Owns the bills.
    #[serde(default)]
    pub billing: ServiceSpec,
    /// Writes the customers' mails. `kubectl scale shop/NAME --replicas=N` sets its replicas.
    #[serde(default)]
    pub crm: ServiceSpec,
    /// Sends the mails.
    #[serde(default)]
    pub notification: ServiceSpec,
    /// Answers every query.
    #[serde(default)]
    pub read_model: ServiceSpec,
}

impl ServicesSpec {
    /// What the spec says about one service.
    #[must_use]
    pub fn get(&self, service: Service) -> &ServiceSpec {
        match service {
            Service::Gateway => &self.gateway,
            Service::Customer => &self.customer,
            Service::Product => &self.product,
            Service::Inventory => &self.inventory,
            Service::Order => &self.order,
            Service::Billing => &self.billing,
            Service::Crm => &self.crm,
            Service::Notification => &self.notification,
            Service::ReadModel => &self.read_model,
        }
    }
}

/// One of the nine services.
#[derive(KubeSchema, Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// How many pods run it. At 0 its events wait in the streams until it is back.
    #[serde(default = "ServiceSpec::default_replicas")]
    #[schemars(range(min = 0, max = 100))]
    pub replicas: i32,

    /// How the number of its pods follows its load. With it `replicas` has no meaning. Default: it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<AutoscalingSpec>,

    /// The whole image, for this service only. Default: made of `spec.image.registry` and `spec.version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,

    /// CPU and memory of the service's container. Default: requests of 20m and 24Mi, and a memory limit of
    /// 256Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// Further variables of the service's environment, as in a container: values, and keys of Secrets and
    /// ConfigMaps in the shop's namespace. When one of those changes, the service is rolled, within half a
    /// minute.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<Variable>,

    /// Secrets and ConfigMaps in the shop's namespace of which all keys become variables, as in a container.
    /// Later ones win over earlier ones, `env` wins over all of them, and the operator's own variables win over
    /// everything. When one of them changes, the service is rolled, within half a minute.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub env_from: Vec<VariablesFrom>,

    /// What the service's pods carry for others to see, and on which nodes they run.
    #[serde(default)]
    pub pod: PodSettings,
}

impl ServiceSpec {
    fn default_replicas() -> i32 {
        1
    }
}

impl Default for ServiceSpec {
    fn default() -> Self {
        Self {
            replicas: Self::default_replicas(),
            autoscaling: None,
            image: None,
            resources: None,
            env: Vec::new(),
            env_from: Vec::new(),
            pod: PodSettings::default(),
        }
    }
}

/// CPU and memory of a container, as in a pod. Requests and limits that are not given keep their default.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What the scheduler keeps free for the container: `cpu`, `memory`. Replaces the default requests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub requests: BTreeMap<String, Quantity>,

    /// What the container can use at most: `cpu`, `memory`. Replaces the default limits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub limits: BTreeMap<String, Quantity>,
}
