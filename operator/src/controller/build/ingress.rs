//! The Ingress in front of the gateway, when the spec asks for one.

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend,
    IngressSpec, IngressTLS, ServiceBackendPort,
};

use super::metadata;
use crate::{
    controller::{labels, validate::ValidShop},
    service::Service,
};

/// One, or none.
pub(in crate::controller) fn ingresses(shop: &ValidShop) -> Vec<Ingress> {
    let Some(said) = &shop.ingress else { return Vec::new() };
    let gateway = Service::Gateway.name();
    let mut object = metadata(&shop.owner, gateway);
    object.annotations = (!said.annotations.is_empty()).then(|| said.annotations.clone());
    let backend = IngressBackend {
        service: Some(IngressServiceBackend {
            name: labels::object_name(&shop.owner.name, gateway),
            port: Some(ServiceBackendPort { name: Some("http".to_owned()), number: None }),
        }),
        resource: None,
    };
    let everything = HTTPIngressPath { path: Some("/".to_owned()), path_type: "Prefix".to_owned(), backend };
    vec![Ingress {
        metadata: object,
        spec: Some(IngressSpec {
            ingress_class_name: said.class_name.clone(),
            rules: Some(vec![IngressRule {
                host: said.host.clone(),
                http: Some(HTTPIngressRuleValue { paths: vec![everything] }),
            }]),
            tls: said.tls_secret.as_ref().map(|secret| {
                let hosts = said.host.iter().cloned().collect::<Vec<_>>();
                let hosts = (!hosts.is_empty()).then_some(hosts);
                vec![IngressTLS { hosts, secret_name: Some(secret.clone()) }]
            }),
            default_backend: None,
        }),
        status: None,
    }]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::controller::build::tests::built;

    #[test]
    fn an_ingress_is_there_when_the_spec_asks_for_it() {
        assert!(built("{}").ingresses.is_empty());
        let built = built(
            "{ gateway: { ingress: { host: shop.test, className: nginx, tlsSecret: cert, annotations: { a: b } } } }",
        );
        let ingress = serde_json::to_value(&built.ingresses[0]).unwrap();
        assert_eq!(ingress["metadata"]["name"], "shop-gateway");
        assert_eq!(ingress["metadata"]["annotations"]["a"], "b");
        assert_eq!(
            ingress["spec"],
            json!({
                "ingressClassName": "nginx",
                "rules": [{"host": "shop.test", "http": {"paths": [{
                    "path": "/", "pathType": "Prefix",
                    "backend": {"service": {"name": "shop-gateway", "port": {"name": "http"}}},
                }]}}],
                "tls": [{"hosts": ["shop.test"], "secretName": "cert"}],
            })
        );
    }

    #[test]
    fn without_a_host_every_host_leads_to_the_gateway() {
        let built = built("{ gateway: { ingress: { tlsSecret: cert } } }");
        let spec = serde_json::to_value(&built.ingresses[0]).unwrap()["spec"].clone();
        assert!(spec["rules"][0].get("host").is_none() && spec["tls"][0].get("hosts").is_none());
        assert!(spec.get("ingressClassName").is_none(), "the cluster's default class");
    }
}
