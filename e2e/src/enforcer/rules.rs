//! What `NetworkPolicy` objects allow, pure: from policies, pods and namespaces to each closed pod's list of exceptions.
//!
//! As Kubernetes defines it, for IPv4 and numbered ports; what a policy says beyond that is refused, never ignored.

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};

/// Which way a connection is opened, as seen from the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// To the pod.
    In,
    /// From the pod.
    Out,
}

/// One exception of a closed pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Allow {
    /// The other ends: an address, or a network with the parts of it that are not meant. `None`: all.
    pub peers: Option<BTreeMap<String, BTreeSet<String>>>,
    /// Protocol (`tcp`, `udp`) with first and last port. `None`: all.
    pub ports: Option<BTreeSet<(String, i32, i32)>>,
}

/// The closed pods, each by its address and direction, and what they allow.
pub type Closed = BTreeMap<(String, Direction), BTreeSet<Allow>>;

/// What the policies close and allow.
pub fn closed(policies: &[NetworkPolicy], pods: &[Pod], namespaces: &[Namespace]) -> Result<Closed> {
    let mut closed = Closed::new();
    for policy in policies {
        let name = policy.name_any();
        let spec = policy.spec.as_ref().with_context(|| format!("{name} has no spec"))?;
        let world = World { pods, namespaces, own: policy.namespace().unwrap_or_default() };
        let types = spec.policy_types.iter().flatten().map(String::as_str).collect::<BTreeSet<_>>();
        let selected = world.pods_of(spec.pod_selector.as_ref(), |namespace| namespace == world.own)?;
        let mut allowed: BTreeMap<Direction, BTreeSet<Allow>> = BTreeMap::new();
        if types.is_empty() || types.contains("Ingress") {
            let rules = spec.ingress.iter().flatten();
            let rules = rules.map(|rule| world.allow(rule.from.as_deref(), rule.ports.as_deref()));
            allowed.insert(Direction::In, rules.collect::<Result<_>>().with_context(|| name.clone())?);
        }
        if types.contains("Egress") || (types.is_empty() && spec.egress.is_some()) {
            let rules = spec.egress.iter().flatten();
            let rules = rules.map(|rule| world.allow(rule.to.as_deref(), rule.ports.as_deref()));
            allowed.insert(Direction::Out, rules.collect::<Result<_>>().with_context(|| name.clone())?);
        }
        for address in selected {
            for (direction, rules) in &allowed {
                closed.entry((address.clone(), *direction)).or_default().extend(rules.iter().cloned());
            }
        }
    }
    Ok(closed)
}

/// All there is, from where a policy stands.
struct World<'a> {
    pods: &'a [Pod],
    namespaces: &'a [Namespace],
    own: String,
}

impl World<'_> {
    fn allow(
        &self,
        peers: Option<&[NetworkPolicyPeer]>,
        ports: Option<&[NetworkPolicyPort]>,
    ) -> Result<Allow> {
        let mut ends = BTreeMap::new();
        for peer in peers.unwrap_or_default() {
            if let Some(block) = &peer.ip_block {
                ends.insert(block.cidr.clone(), block.except.iter().flatten().cloned().collect());
            } else {
                ends.extend(self.peers(peer)?.into_iter().map(|address| (address, BTreeSet::new())));
            }
        }
        let ports = ports.filter(|ports| !ports.is_empty());
        Ok(Allow {
            peers: peers.is_some_and(|peers| !peers.is_empty()).then_some(ends),
            ports: ports.map(|ports| ports.iter().map(numbers).collect()).transpose()?,
        })
    }

    fn peers(&self, peer: &NetworkPolicyPeer) -> Result<BTreeSet<String>> {
        let Some(selector) = &peer.namespace_selector else {
            return self.pods_of(peer.pod_selector.as_ref(), |namespace| namespace == self.own);
        };
        let mut meant = BTreeSet::new();
        for namespace in self.namespaces {
            if matches(selector, namespace.labels())? {
                meant.insert(namespace.name_any());
            }
        }
        self.pods_of(peer.pod_selector.as_ref(), |namespace| meant.contains(namespace))
    }

    /// The addresses of the pods that are alive, not on the node's own network, and selected.
    fn pods_of(
        &self,
        selector: Option<&LabelSelector>,
        namespace: impl Fn(&str) -> bool,
    ) -> Result<BTreeSet<String>> {
        let mut addresses = BTreeSet::new();
        for pod in self.pods {
            let status = pod.status.as_ref();
            let over = status.and_then(|status| status.phase.as_deref());
            let on_node = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
            let Some(address) = status.and_then(|status| status.pod_ip.clone()) else { continue };
            if on_node || matches!(over, Some("Succeeded" | "Failed")) {
                continue;
            }
            let selected = selector.map_or(Ok(true), |selector| matches(selector, pod.labels()))?;
            if selected && namespace(&pod.namespace().unwrap_or_default()) {
                addresses.insert(address);
            }
        }
        Ok(addresses)
    }
}

fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> Result<bool> {
    let same = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    for needed in selector.match_expressions.iter().flatten() {
        let among = || {
            labels
                .get(&needed.key)
                .is_some_and(|value| needed.values.iter().flatten().any(|one| one == value))
        };
        let holds = match needed.operator.as_str() {
            "In" => among(),
            "NotIn" => !among(),
            "Exists" => labels.contains_key(&needed.key),
            "DoesNotExist" => !labels.contains_key(&needed.key),
            other => bail!("unknown operator {other}"),
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(same)
}

fn numbers(port: &NetworkPolicyPort) -> Result<(String, i32, i32)> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP").to_lowercase();
    match &port.port {
        None => Ok((protocol, 0, 65535)),
        Some(IntOrString::Int(first)) => Ok((protocol, *first, port.end_port.unwrap_or(*first))),
        Some(IntOrString::String(name)) => bail!("the port {name:?} has no number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(namespace: &str, app: &str, address: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": app, "namespace": namespace, "labels": {"app": app}},
            "status": {"podIP": address, "phase": "Running"},
        }))
        .unwrap()
    }

    fn world() -> (Vec<Pod>, Vec<Namespace>) {
        let pods = vec![pod("a", "web", "10.0.0.1"), pod("a", "db", "10.0.0.2"), pod("b", "web", "10.0.0.3")];
        let namespace = |name: &str| {
            serde_json::from_value(json!({"metadata": {"name": name, "labels": {"name": name}}})).unwrap()
        };
        (pods, vec![namespace("a"), namespace("b")])
    }

    fn of(spec: &Value) -> Closed {
        let policy = json!({"metadata": {"name": "p", "namespace": "a"}, "spec": spec});
        let (pods, namespaces) = world();
        closed(&[serde_json::from_value(policy).unwrap()], &pods, &namespaces).unwrap()
    }

    fn peers(closed: &Closed, address: &str, direction: Direction) -> Vec<Option<Vec<String>>> {
        let rules = &closed[&(address.to_owned(), direction)];
        rules.iter().map(|rule| rule.peers.clone().map(|peers| peers.into_keys().collect())).collect()
    }

    #[test]
    fn an_empty_selector_closes_every_pod_of_the_namespace_and_no_other() {
        let closed = of(&json!({"podSelector": {}, "policyTypes": ["Ingress"]}));
        let keys: Vec<_> = closed.keys().map(|(address, direction)| (address.as_str(), *direction)).collect();
        assert_eq!(keys, [("10.0.0.1", Direction::In), ("10.0.0.2", Direction::In)]);
        assert!(closed.values().all(BTreeSet::is_empty));
    }

    #[test]
    fn a_peer_without_namespaces_is_of_the_policys_own() {
        let web = json!({"podSelector": {"matchLabels": {"app": "web"}}});
        let db = json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["db"]}]});
        let closed =
            of(&json!({"podSelector": db, "policyTypes": ["Ingress"], "ingress": [{"from": [web]}]}));
        assert_eq!(peers(&closed, "10.0.0.2", Direction::In), [Some(vec!["10.0.0.1".to_owned()])]);
    }

    #[test]
    fn namespaces_are_selected_by_their_labels() {
        let everywhere = json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "web"}}});
        let closed =
            of(&json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [everywhere]}]}));
        let expected = Some(vec!["10.0.0.1".to_owned(), "10.0.0.3".to_owned()]);
        assert_eq!(peers(&closed, "10.0.0.1", Direction::Out), [expected]);
    }

    #[test]
    fn a_rule_without_peers_or_ports_is_for_all() {
        let closed = of(&json!({"podSelector": {}, "ingress": [{}]}));
        let rules = &closed[&("10.0.0.1".to_owned(), Direction::In)];
        let all = Allow { peers: None, ports: None };
        assert_eq!(rules.iter().collect::<Vec<_>>(), [&all]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let policy = json!({"metadata": {"name": "p", "namespace": "a"}, "spec": {
            "podSelector": {}, "ingress": [{"ports": [{"port": "http"}]}],
        }});
        let (pods, namespaces) = world();
        let refused = closed(&[serde_json::from_value(policy).unwrap()], &pods, &namespaces);
        assert!(format!("{:#}", refused.unwrap_err()).contains("has no number"));
    }
}
