//! Who may connect to whom: one policy per component, each naming both what comes in and what goes out.
//!
//! ```text
//! ingressFrom → gateway → services with an API → Redis ← services without one → mail server
//! ```
//!
//! A pod that a policy selects is closed but for what the policies name. What a node sends to its own pods, the
//! probes, is let in by every network.

use k8s_openapi::{
    api::networking::v1::{
        IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
        NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
        util::intstr::IntOrString,
    },
};

use super::{deployment::ADMIN_PORT, metadata, redis::PORT as REDIS_PORT};
use crate::{
    controller::{labels, validate::ValidShop},
    crd::Peer,
    service::Service,
};

const DNS_PORT: i32 = 53;

/// One per component; none when they are switched off.
pub(in crate::controller) fn network_policies(shop: &ValidShop) -> Vec<NetworkPolicy> {
    if !shop.network.enabled {
        return Vec::new();
    }
    let services = Service::ALL.into_iter().map(|service| of_service(shop, service));
    services.chain(shop.redis_url.is_none().then(|| of_redis(shop))).collect()
}

fn of_service(shop: &ValidShop, service: Service) -> NetworkPolicy {
    let mut ingress = Vec::new();
    if let Some(http) = service.http() {
        let from = match service {
            Service::Gateway => shop.network.ingress_from.iter().map(peer).collect(),
            _ => vec![component(shop, &[Service::Gateway.name()])],
        };
        ingress.push(allowed_in(from, http.container));
    }
    if !shop.network.metrics_from.is_empty() {
        ingress.push(allowed_in(shop.network.metrics_from.iter().map(peer).collect(), ADMIN_PORT));
    }
    let mut egress = vec![NetworkPolicyEgressRule {
        // Anywhere: a DNS cache on the node is no pod.
        ports: Some(vec![port(DNS_PORT, "UDP"), port(DNS_PORT, "TCP")]),
        to: None,
    }];
    if service == Service::Gateway {
        for target in Service::behind_the_gateway() {
            let to = component(shop, &[target.name()]);
            egress.extend(target.http().map(|http| allowed_out(to, http.container)));
        }
    }
    // Where the mail server is, or a Redis that is not the shop's own, stands in a Secret whose content the operator
    // does not keep.
    let somewhere = (service == Service::Notification && shop.smtp.is_some())
        || (service.uses_redis() && shop.redis_url.is_some());
    if somewhere {
        egress.push(NetworkPolicyEgressRule::default());
    } else if service.uses_redis() {
        egress.push(allowed_out(component(shop, &[labels::REDIS]), REDIS_PORT));
    }
    // The spec names a host, a policy takes pods and addresses: so it is the port that is opened.
    let collector = shop.collector.as_ref().map(|collector| i32::from(collector.port));
    egress.extend(
        collector.map(|number| NetworkPolicyEgressRule { to: None, ports: Some(vec![port(number, "TCP")]) }),
    );
    policy(shop, service.name(), ingress, egress)
}

/// Redis connects to nobody.
fn of_redis(shop: &ValidShop) -> NetworkPolicy {
    let services: Vec<_> =
        Service::ALL.into_iter().filter(|service| service.uses_redis()).map(Service::name).collect();
    let others = shop.network.redis_from.iter().map(peer);
    let from = [component(shop, &services)].into_iter().chain(others).collect();
    policy(shop, labels::REDIS, vec![allowed_in(from, REDIS_PORT)], Vec::new())
}

fn policy(
    shop: &ValidShop,
    component: &str,
    ingress: Vec<NetworkPolicyIngressRule>,
    egress: Vec<NetworkPolicyEgressRule>,
) -> NetworkPolicy {
    NetworkPolicy {
        metadata: metadata(&shop.owner, component),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(labels::selector(&shop.owner.name, component)),
                ..LabelSelector::default()
            }),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: (!ingress.is_empty()).then_some(ingress),
            egress: (!egress.is_empty()).then_some(egress),
        }),
    }
}

/// Pods of these components of the shop.
fn component(shop: &ValidShop, components: &[&str]) -> NetworkPolicyPeer {
    let mut shop_labels = labels::selector(&shop.owner.name, "");
    shop_labels.remove(labels::COMPONENT);
    NetworkPolicyPeer {
        pod_selector: Some(LabelSelector {
            match_labels: Some(shop_labels),
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: labels::COMPONENT.to_owned(),
                operator: "In".to_owned(),
                values: Some(components.iter().map(|&name| name.to_owned()).collect()),
            }]),
        }),
        ..NetworkPolicyPeer::default()
    }
}

fn peer(said: &Peer) -> NetworkPolicyPeer {
    let selector = |labels: &std::collections::BTreeMap<String, String>| LabelSelector {
        match_labels: (!labels.is_empty()).then(|| labels.clone()),
        ..LabelSelector::default()
    };
    NetworkPolicyPeer {
        namespace_selector: said.namespace_labels.as_ref().map(selector),
        pod_selector: said.pod_labels.as_ref().map(selector),
        ip_block: said.cidr.clone().map(|cidr| IPBlock { cidr, except: None }),
    }
}

/// Nobody named is everybody.
fn allowed_in(from: Vec<NetworkPolicyPeer>, number: i32) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from: (!from.is_empty()).then_some(from),
        ports: Some(vec![port(number, "TCP")]),
    }
}

fn allowed_out(to: NetworkPolicyPeer, number: i32) -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule { to: Some(vec![to]), ports: Some(vec![port(number, "TCP")]) }
}

fn port(number: i32, protocol: &str) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(number)),
        protocol: Some(protocol.to_owned()),
        end_port: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::controller::{
        build::tests::{defaults, shop},
        sources::{SourceKind, Sources},
        validate::validate,
    };

    fn built(spec: &str) -> Vec<Value> {
        let keys = Some([("url".to_owned(), "hash".to_owned())].into());
        let found = Sources([((SourceKind::Secret, "redis".to_owned()), keys)].into());
        let valid = validate(&shop(spec), &defaults(), &found).unwrap();
        network_policies(&valid).iter().map(|policy| serde_json::to_value(policy).unwrap()).collect()
    }

    fn named(policies: &[Value], component: &str) -> Value {
        let name = format!("shop-{component}");
        policies.iter().find(|policy| policy["metadata"]["name"] == name).unwrap()["spec"].clone()
    }

    fn components(peer: &Value) -> Vec<&str> {
        let values = &peer["podSelector"]["matchExpressions"][0]["values"];
        values.as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect()
    }

    #[test]
    fn every_pod_is_closed_in_both_directions_but_for_what_is_named() {
        let policies = built("{}");
        assert_eq!(policies.len(), 10);
        for policy in &policies {
            assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        }
        assert!(named(&policies, "crm").get("ingress").is_none(), "crm listens to nobody");
        assert!(named(&policies, "redis").get("egress").is_none(), "Redis connects to nobody");
    }

    #[test]
    fn only_services_reach_redis_and_only_the_gateway_reaches_the_services() {
        let policies = built("{}");
        let redis = named(&policies, "redis");
        let ingress = redis["ingress"].as_array().unwrap();
        assert_eq!(ingress.len(), 1);
        assert_eq!(ingress[0]["ports"], json!([{"port": 6379, "protocol": "TCP"}]));
        assert_eq!(ingress[0]["from"].as_array().unwrap().len(), 1);
        let from = components(&ingress[0]["from"][0]);
        assert!(from.len() == 8 && !from.contains(&"gateway"), "{from:?}");

        for service in Service::behind_the_gateway() {
            let policy = named(&policies, service.name());
            assert_eq!(policy["ingress"].as_array().unwrap().len(), 1);
            assert_eq!(components(&policy["ingress"][0]["from"][0]), ["gateway"]);
            assert_eq!(policy["ingress"][0]["ports"][0]["port"], 8080);
        }
    }

    #[test]
    fn the_gateway_is_open_to_all_unless_the_spec_says_to_whom() {
        assert!(named(&built("{}"), "gateway")["ingress"][0].get("from").is_none());
        let policies = built(
            "{ networkPolicy: { ingressFrom: [{ namespaceLabels: { a: b }, podLabels: {} }, { cidr: 10.0.0.0/8 }], \
             metricsFrom: [{ namespaceLabels: {} }], redisFrom: [{ podLabels: { c: d } }] } }",
        );
        assert_eq!(
            named(&policies, "gateway")["ingress"][0]["from"],
            json!([
                {"namespaceSelector": {"matchLabels": {"a": "b"}}, "podSelector": {}},
                {"ipBlock": {"cidr": "10.0.0.0/8"}},
            ])
        );
        let crm = named(&policies, "crm");
        assert_eq!(crm["ingress"][0]["ports"][0]["port"], 9090);
        assert_eq!(crm["ingress"][0]["from"], json!([{"namespaceSelector": {}}]));
        assert_eq!(named(&policies, "redis")["ingress"][0]["from"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn only_notification_reaches_a_mail_server_and_only_when_there_is_one() {
        let open = |spec: &str, component: &str| {
            let egress = named(&built(spec), component)["egress"].clone();
            egress.as_array().unwrap().iter().any(|rule| rule == &json!({}))
        };
        let mail = "{ mail: { smtpSecret: { name: smtp } } }";
        assert!(open(mail, "notification") && !open("{}", "notification"));
        assert!(!open(mail, "crm") && !open(mail, "gateway"));
    }

    #[test]
    fn every_service_reaches_the_port_of_the_collector_of_traces_when_there_is_one() {
        let policies = built("{ telemetry: { otlpEndpoint: http://otel.monitoring:4318 } }");
        let rule = json!({"ports": [{"port": 4318, "protocol": "TCP"}]});
        let reaches = |policies: &[Value], component: &str| {
            named(policies, component)["egress"].as_array().is_some_and(|rules| rules.contains(&rule))
        };
        for service in Service::ALL {
            assert!(reaches(&policies, service.name()), "{}", service.name());
            assert!(!reaches(&built("{}"), service.name()), "{}", service.name());
        }
        assert!(!reaches(&policies, "redis"), "Redis sends no traces");
    }

    #[test]
    fn an_external_redis_has_no_policy_and_may_be_anywhere() {
        let policies = built("{ redis: { external: { urlSecret: { name: redis } } } }");
        assert_eq!(policies.len(), 9);
        let egress = named(&policies, "crm")["egress"].clone();
        assert!(egress.as_array().unwrap().contains(&json!({})));
        assert!(!named(&policies, "gateway")["egress"].as_array().unwrap().contains(&json!({})));
    }

    #[test]
    fn switched_off_there_are_none() {
        assert!(built("{ networkPolicy: { enabled: false } }").is_empty());
    }
}
