//! HorizontalPodAutoscalers: for services whose load is their CPU.

use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricSpec,
    MetricTarget, ResourceMetricSource,
};

use super::metadata;
use crate::controller::{
    autoscaling::{Autoscaling, Load},
    labels,
    validate::{ValidService, ValidShop},
};

/// One for each service that is scaled by its CPU.
pub(in crate::controller) fn autoscalers(shop: &ValidShop) -> Vec<HorizontalPodAutoscaler> {
    shop.services.iter().filter_map(|service| autoscaler(shop, service)).collect()
}

fn autoscaler(shop: &ValidShop, service: &ValidService) -> Option<HorizontalPodAutoscaler> {
    let Autoscaling { min, max, by: Load::Cpu(percent) } = service.autoscaling? else { return None };
    let name = service.service.name();
    Some(HorizontalPodAutoscaler {
        metadata: metadata(&shop.owner, name),
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "Deployment".to_owned(),
                name: labels::object_name(&shop.owner.name, name),
            },
            min_replicas: Some(min),
            max_replicas: max,
            metrics: Some(vec![MetricSpec {
                type_: "Resource".to_owned(),
                resource: Some(ResourceMetricSource {
                    name: "cpu".to_owned(),
                    target: MetricTarget {
                        type_: "Utilization".to_owned(),
                        average_utilization: Some(percent),
                        ..MetricTarget::default()
                    },
                }),
                ..MetricSpec::default()
            }]),
            behavior: None,
        }),
        status: None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{json, to_value};

    use super::super::tests::valid;
    use super::*;

    #[test]
    fn a_service_with_autoscaling_by_cpu_has_an_autoscaler_of_its_deployment() {
        assert_eq!(autoscalers(&valid("{}")), []);
        let shop = valid(
            "{services: {gateway: {autoscaling: {minReplicas: 2, maxReplicas: 6}}, crm: {autoscaling: {maxReplicas: 3}}}}",
        );
        let [only] = &autoscalers(&shop)[..] else { panic!("crm is scaled by its lag") };
        let object = to_value(only).unwrap();
        assert_eq!(object["metadata"]["name"], "shop-gateway");
        assert_eq!(
            object["spec"],
            json!({
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop-gateway"},
                "minReplicas": 2,
                "maxReplicas": 6,
                "metrics": [{"type": "Resource", "resource": {
                    "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80},
                }}],
            })
        );
    }
}
