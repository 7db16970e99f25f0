//! PodDisruptionBudgets: of a service with several pods at most one goes at a time when nodes are drained.
//!
//! Redis and services of a single pod have none: a budget would only keep their node from being drained.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::metadata;
use crate::controller::{
    labels,
    validate::{ValidService, ValidShop},
};

/// One for each service that has several pods, or may have.
pub(in crate::controller) fn disruption_budgets(shop: &ValidShop) -> Vec<PodDisruptionBudget> {
    let several = |service: &&ValidService| {
        service.autoscaling.map_or(service.replicas, |autoscaling| autoscaling.max) > 1
    };
    shop.services.iter().filter(several).map(|service| disruption_budget(shop, service)).collect()
}

fn disruption_budget(shop: &ValidShop, service: &ValidService) -> PodDisruptionBudget {
    let name = service.service.name();
    PodDisruptionBudget {
        metadata: metadata(&shop.owner, name),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(labels::selector(&shop.owner.name, name)),
                ..LabelSelector::default()
            }),
            // A pod that is not ready protects nobody by staying.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;

    use super::super::tests::valid;
    use super::*;

    #[test]
    fn a_service_has_a_budget_when_it_has_several_pods_or_may_have() {
        let names = |spec: &str| -> Vec<String> {
            disruption_budgets(&valid(spec)).iter().map(ResourceExt::name_any).collect()
        };
        assert_eq!(names("{}"), Vec::<String>::new());
        assert_eq!(names("{services: {order: {replicas: 2}, crm: {replicas: 0}}}"), ["shop-order"]);
        assert_eq!(names("{services: {crm: {autoscaling: {maxReplicas: 3}}}}"), ["shop-crm"]);
        assert_eq!(
            names("{services: {crm: {replicas: 3, autoscaling: {maxReplicas: 1}}}}"),
            Vec::<String>::new()
        );
        let budget = &disruption_budgets(&valid("{services: {order: {replicas: 2}}}"))[0];
        let spec = budget.spec.as_ref().unwrap();
        assert_eq!(spec.max_unavailable, Some(IntOrString::Int(1)));
        let selector = spec.selector.as_ref().and_then(|selector| selector.match_labels.clone());
        assert_eq!(selector, Some(labels::selector("shop", "order")));
    }
}
