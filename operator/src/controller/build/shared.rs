//! What every component has beside its pods: a ServiceAccount, a Service, the common environment.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        ConfigMap, Service as ServiceObject, ServiceAccount, ServicePort, ServiceSpec as ServiceObjectSpec,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::metadata;
use crate::{
    controller::{labels, validate::ValidShop},
    crd::GatewayServiceType,
    service::Service,
};

/// The component name of the common environment's ConfigMap.
pub(super) const CONFIG: &str = "config";

/// An identity of its own for each component, without a token: nothing in a shop talks to Kubernetes.
pub(super) fn service_account(shop: &ValidShop, component: &str) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(&shop.owner, component),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// The environment of every service that talks to Redis.
pub(super) fn config_map(shop: &ValidShop) -> ConfigMap {
    let redis = labels::object_name(&shop.owner.name, labels::REDIS);
    ConfigMap {
        metadata: metadata(&shop.owner, CONFIG),
        data: Some(BTreeMap::from([(
            "ORDERSHOP_REDIS_URL".to_owned(),
            format!("redis://{redis}:{}", super::redis::PORT),
        )])),
        ..ConfigMap::default()
    }
}

/// The Service of a service with an HTTP API.
pub(super) fn service(shop: &ValidShop, service: Service) -> Option<ServiceObject> {
    let ports = service.http()?;
    let (type_, node_port) = match (service, shop.gateway_type) {
        (Service::Gateway, GatewayServiceType::NodePort) => ("NodePort", shop.node_port),
        (Service::Gateway, GatewayServiceType::LoadBalancer) => ("LoadBalancer", shop.node_port),
        _ => ("ClusterIP", None),
    };
    Some(service_object(
        shop,
        service.name(),
        type_,
        ServicePort {
            name: Some("http".to_owned()),
            port: ports.service,
            target_port: Some(IntOrString::String("http".to_owned())),
            protocol: Some("TCP".to_owned()),
            node_port,
            ..ServicePort::default()
        },
    ))
}

/// A Service with one port.
pub(super) fn service_object(
    shop: &ValidShop,
    component: &str,
    type_: &str,
    port: ServicePort,
) -> ServiceObject {
    ServiceObject {
        metadata: metadata(&shop.owner, component),
        spec: Some(ServiceObjectSpec {
            type_: Some(type_.to_owned()),
            selector: Some(labels::selector(&shop.owner.name, component)),
            ports: Some(vec![port]),
            ..ServiceObjectSpec::default()
        }),
        status: None,
    }
}
