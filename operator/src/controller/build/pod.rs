//! What all pods of a shop have in common: they run under Pod Security `restricted`, on a read-only root, and
//! know nothing of Kubernetes.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Capabilities, Container, EnvVar, EnvVarSource, LocalObjectReference, PodSecurityContext, PodSpec,
        PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, SecretKeySelector, SecurityContext,
        TopologySpreadConstraint,
    },
    apimachinery::pkg::{
        api::resource::Quantity as ApiQuantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
    },
};

use crate::{
    controller::{
        labels,
        validate::{ValidPod, ValidShop},
    },
    crd::{Quantity, Resources, SecretKey},
};

/// Longer than a service takes to finish what is in flight, which is bounded by 10 s.
const TERMINATION_GRACE_SECONDS: i64 = 20;

/// Who the processes of a pod are.
#[derive(Clone, Copy)]
pub(super) struct User {
    /// User and group.
    pub(super) id: i64,
    /// Whether the pod's volumes belong to that group.
    pub(super) owns_volumes: bool,
}

/// The pod template of a component with one container. `said`: what the spec says
/// about its pods. `config_hash`: of what the container reads at its start.
pub(super) fn template(
    shop: &ValidShop,
    component: &str,
    user: User,
    said: &ValidPod,
    config_hash: Option<String>,
    container: Container,
) -> PodTemplateSpec {
    let mut pod_labels = said.labels.clone();
    pod_labels.extend(labels::labels(&shop.owner.name, component));
    let mut annotations = said.annotations.clone();
    annotations.extend(config_hash.map(|hash| (labels::CONFIG_HASH.to_owned(), hash)));
    let pull_secrets: Vec<_> =
        shop.pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect();
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(labels::object_name(&shop.owner.name, component)),
            automount_service_account_token: Some(false),
            // The environment of every Service in the namespace would be noise, and could be taken for
            // configuration.
            enable_service_links: Some(false),
            image_pull_secrets: some(pull_secrets),
            node_selector: (!said.node_selector.is_empty()).then(|| said.node_selector.clone()),
            tolerations: some(said.tolerations.clone()),
            affinity: said.affinity.clone(),
            topology_spread_constraints: Some(match &said.topology_spread_constraints[..] {
                [] => vec![over_nodes(shop, component)],
                said => said.to_vec(),
            }),
            priority_class_name: said.priority_class_name.clone(),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(user.id),
                run_as_group: Some(user.id),
                fs_group: user.owns_volumes.then_some(user.id),
                fs_group_change_policy: user.owns_volumes.then(|| "OnRootMismatch".to_owned()),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    localhost_profile: None,
                }),
                ..PodSecurityContext::default()
            }),
            termination_grace_period_seconds: Some(TERMINATION_GRACE_SECONDS),
            containers: vec![Container {
                // The end of the log of a process that fails stands in its pod's status then.
                termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
                image_pull_policy: Some(shop.pull_policy.as_str().to_owned()),
                security_context: Some(SecurityContext {
                    allow_privilege_escalation: Some(false),
                    capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
                    read_only_root_filesystem: Some(true),
                    ..SecurityContext::default()
                }),
                ..container
            }],
            ..PodSpec::default()
        }),
    }
}

/// A list that is left out when it is empty, as the API server does.
pub(super) fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// Of several pods each on another node, as far as that is possible; the pods of a rollout are counted by
/// themselves.
fn over_nodes(shop: &ValidShop, component: &str) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(LabelSelector {
            match_labels: Some(labels::selector(&shop.owner.name, component)),
            ..LabelSelector::default()
        }),
        match_label_keys: Some(vec!["pod-template-hash".to_owned()]),
        ..TopologySpreadConstraint::default()
    }
}

/// CPU and memory as a container has them.
pub(super) fn resources(resources: &Resources) -> ResourceRequirements {
    let amounts = |amounts: &BTreeMap<String, Quantity>| {
        (!amounts.is_empty()).then(|| {
            amounts
                .iter()
                .map(|(name, amount)| (name.clone(), ApiQuantity(amount.as_str().to_owned())))
                .collect()
        })
    };
    ResourceRequirements {
        requests: amounts(&resources.requests),
        limits: amounts(&resources.limits),
        claims: None,
    }
}

/// An environment variable with a value.
pub(super) fn variable(name: impl Into<String>, value: impl Into<String>) -> EnvVar {
    EnvVar { name: name.into(), value: Some(value.into()), value_from: None }
}

/// An environment variable whose value is a key of a Secret.
pub(super) fn secret_variable(name: &str, at: &SecretKey) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: at.name.clone(),
                key: at.key.clone(),
                optional: None,
            }),
            ..EnvVarSource::default()
        }),
    }
}

/// How often a probe runs, and what makes it fail.
#[derive(Clone, Copy)]
pub(super) struct Rhythm {
    pub(super) period: i32,
    pub(super) timeout: i32,
    pub(super) failures: i32,
}

/// The three probes of a container. The first asks every second whether the process answers at all, so that a
/// start is seen at once; the others begin when it has.
pub(super) struct Probes {
    pub(super) startup: Probe,
    pub(super) readiness: Probe,
    pub(super) liveness: Probe,
}

impl Probes {
    /// `alive` and `ready` ask; the rhythms say how often after the start.
    pub(super) fn new(alive: &Probe, ready: &Probe, readiness: Rhythm, liveness: Rhythm) -> Self {
        let at = |probe: &Probe, rhythm: Rhythm| Probe {
            period_seconds: Some(rhythm.period),
            timeout_seconds: Some(rhythm.timeout),
            failure_threshold: Some(rhythm.failures),
            ..probe.clone()
        };
        Self {
            startup: at(alive, Rhythm { period: 1, timeout: liveness.timeout, failures: 60 }),
            readiness: at(ready, readiness),
            liveness: at(alive, liveness),
        }
    }
}
