//! What a spec says in the words of a pod, as Kubernetes' own types.
//!
//! The spec's shapes are Kubernetes' shapes, so the way between them is their JSON. What Kubernetes does not
//! know would be lost on that way: it is refused instead.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Affinity, EnvFromSource, EnvVar, Toleration, TopologySpreadConstraint},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use serde::{Serialize, de::DeserializeOwned};

use super::ValidateError;
use crate::{
    controller::{diff, labels},
    crd::{PodSettings, ServiceSpec},
};

/// What a component's pods carry, and where they run.
#[derive(Clone, Debug, Default)]
pub struct ValidPod {
    /// Labels beside the operator's own.
    pub labels: BTreeMap<String, String>,
    /// Annotations beside the operator's own.
    pub annotations: BTreeMap<String, String>,
    /// Labels that a node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that do not keep the pods away.
    pub tolerations: Vec<Toleration>,
    /// Rules about nodes and about pods beside them.
    pub affinity: Option<Affinity>,
    /// How evenly the pods are spread.
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Which pods make room for which.
    pub priority_class_name: Option<String>,
}

/// A service's further environment.
#[derive(Clone, Debug, Default)]
pub struct ValidEnvironment {
    /// Single variables.
    pub variables: Vec<EnvVar>,
    /// All keys of Secrets and ConfigMaps.
    pub from: Vec<EnvFromSource>,
}

/// What a component's pods carry, and where they run. `path`: the field that says so. Constraints that do not
/// say which pods they count mean the component's own.
pub(super) fn pod(
    said: &PodSettings,
    path: &str,
    shop: &str,
    component: &str,
) -> Result<ValidPod, ValidateError> {
    let mut topology_spread_constraints: Vec<TopologySpreadConstraint> =
        kubernetes(&said.topology_spread_constraints, || format!("{path}.topologySpreadConstraints"))?;
    for constraint in &mut topology_spread_constraints {
        constraint.label_selector.get_or_insert_with(|| LabelSelector {
            match_labels: Some(labels::selector(shop, component)),
            ..LabelSelector::default()
        });
    }
    Ok(ValidPod {
        labels: said.labels.clone(),
        annotations: said.annotations.clone(),
        node_selector: said.node_selector.clone(),
        tolerations: kubernetes(&said.tolerations, || format!("{path}.tolerations"))?,
        affinity: kubernetes(&said.affinity, || format!("{path}.affinity"))?,
        topology_spread_constraints,
        priority_class_name: said.priority_class_name.clone(),
    })
}

/// A service's further environment. `path`: the service in the spec.
pub(super) fn environment(said: &ServiceSpec, path: &str) -> Result<ValidEnvironment, ValidateError> {
    Ok(ValidEnvironment {
        variables: kubernetes(&said.env, || format!("{path}.env"))?,
        from: kubernetes(&said.env_from, || format!("{path}.envFrom"))?,
    })
}

/// The same as Kubernetes' own type, where nothing is lost on the way.
fn kubernetes<S, K>(said: &S, field: impl Fn() -> String) -> Result<K, ValidateError>
where
    S: Serialize,
    K: Serialize + DeserializeOwned,
{
    let not_known = |what: String| ValidateError::NotKubernetes { field: field(), what };
    let said = serde_json::to_value(said).map_err(|error| not_known(error.to_string()))?;
    let known: K = serde_json::from_value(said.clone()).map_err(|error| not_known(error.to_string()))?;
    let kept = serde_json::to_value(&known).map_err(|error| not_known(error.to_string()))?;
    match diff::difference(&said, &kept) {
        None => Ok(known),
        Some(path) => Err(not_known(format!("Kubernetes knows no field {path}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(yaml: &str) -> Result<ValidPod, ValidateError> {
        pod(&serde_norway::from_str(yaml).unwrap(), "spec.services.crm.pod", "shop", "crm")
    }

    #[test]
    fn what_stands_in_the_words_of_a_pod_comes_through_whole() {
        let pod = settings(
            "nodeSelector: { disk: ssd }
tolerations: [{ key: spot, operator: Exists, effect: NoExecute, tolerationSeconds: 60 }]
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - { weight: 1, podAffinityTerm: { topologyKey: zone, labelSelector: { matchLabels: { a: b } } } }
topologySpreadConstraints:
  - { maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, minDomains: 2, matchLabelKeys: [pod-template-hash] }
  - { maxSkew: 2, topologyKey: host, whenUnsatisfiable: ScheduleAnyway, labelSelector: { matchLabels: { a: b } } }
priorityClassName: high
",
        )
        .unwrap();
        let toleration = &pod.tolerations[0];
        assert_eq!((toleration.key.as_deref(), toleration.toleration_seconds), (Some("spot"), Some(60)));
        let preferred = pod
            .affinity
            .unwrap()
            .pod_anti_affinity
            .unwrap()
            .preferred_during_scheduling_ignored_during_execution;
        assert_eq!(preferred.unwrap()[0].pod_affinity_term.topology_key, "zone");
        let selected = |index: usize| {
            let constraint = &pod.topology_spread_constraints[index];
            constraint.label_selector.as_ref().unwrap().match_labels.clone().unwrap()
        };
        assert_eq!(selected(0), labels::selector("shop", "crm"), "by default the component's own pods");
        assert_eq!(selected(1), [("a".to_owned(), "b".to_owned())].into());
        assert_eq!(pod.priority_class_name.as_deref(), Some("high"));
    }

    #[test]
    fn what_kubernetes_does_not_know_is_refused_with_its_place() {
        for (yaml, expected) in [
            (
                "affinity: { podAffinity: { requiredDuringScheduling: [{}] } }",
                "spec.services.crm.pod.affinity: Kubernetes knows no field podAffinity.requiredDuringScheduling",
            ),
            ("affinity: { podAffinity: 1 }", "spec.services.crm.pod.affinity: invalid type: integer"),
            (
                "topologySpreadConstraints: [{ maxSkew: 1, topologyKey: z, whenUnsatisfiable: DoNotSchedule, \
                 labelSelector: { matchlabels: { a: b } } }]",
                "spec.services.crm.pod.topologySpreadConstraints: Kubernetes knows no field 0.labelSelector.matchlabels",
            ),
        ] {
            let error = settings(yaml).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
            assert_eq!(error.reason(), "InvalidField");
        }
    }
}
