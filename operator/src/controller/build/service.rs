//! The Services: the gateway is reached as the spec says, all others from inside the cluster only.

use k8s_openapi::{
    api::core::v1::{Service as ServiceObject, ServicePort, ServiceSpec as ServiceObjectSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{metadata, redis};
use crate::{
    controller::{labels, validate::ValidShop},
    crd::GatewayServiceType,
    service::Service,
};

/// One per component that listens.
pub(in crate::controller) fn services(shop: &ValidShop) -> Vec<ServiceObject> {
    let redis = shop.redis_url.is_none().then(|| redis::service(shop));
    Service::ALL.into_iter().filter_map(|service| http(shop, service)).chain(redis).collect()
}

/// The Service of a service with an HTTP API.
fn http(shop: &ValidShop, service: Service) -> Option<ServiceObject> {
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
