//! Faults that only a cluster has: of pods, of the operator, of a node, of a rollout. Pure; does nothing.

use super::{Fault, SERVICES, Schedule, any, dealt};
use crate::rng::Rng;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A fault of a shop on a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum OnCluster {
    /// A pod is deleted; its controller makes another one.
    PodDeleted {
        /// The service, or `redis`.
        component: String,
        /// Without its time to end. (Never Redis: its next pod would begin on the volume of the last one.)
        at_once: bool,
    },
    /// A service is rolled, and in the middle of that the operator is killed.
    OperatorKilled {
        /// The service.
        service: String,
    },
    /// A service gets an image that does not exist, and its own one back.
    BrokenImage {
        /// The service.
        service: String,
        /// For how long after its pod could not start.
        ms: u64,
    },
    /// crm is scaled by the scale subresource, and back.
    Scaled {
        /// How many pods.
        to: u32,
    },
    /// A node's kubelet is stopped: its pods run on, and nobody hears of them.
    KubeletStopped {
        /// For how long.
        seconds: u64,
    },
}

/// How many kinds there are; the kubelet's is the last.
const KINDS: usize = 7;

/// The schedule of a seed on a cluster; `kubelet` when there is a way to stop one.
#[must_use]
pub fn on_cluster(seed: u64, length: Duration, every: Duration, kubelet: bool) -> Schedule {
    let kinds = if kubelet { KINDS } else { KINDS - 1 };
    dealt(seed, length, every, kinds, |kind, rng| Fault::OnCluster(fault(kind, rng)))
}

fn fault(kind: usize, rng: &mut Rng) -> OnCluster {
    match kind {
        0 | 1 => OnCluster::PodDeleted { component: any(rng, &SERVICES), at_once: rng.chance(50) },
        2 => OnCluster::PodDeleted { component: "redis".to_owned(), at_once: false },
        3 => OnCluster::OperatorKilled { service: any(rng, &SERVICES) },
        4 => OnCluster::BrokenImage { service: any(rng, &SERVICES), ms: rng.between(1000, 5000) },
        5 => OnCluster::Scaled { to: 4 },
        _ => OnCluster::KubeletStopped { seconds: 60 },
    }
}

impl OnCluster {
    /// Its name in tables.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::PodDeleted { component, at_once: false } => format!("pod deleted: {component}"),
            Self::PodDeleted { component, at_once: true } => format!("pod deleted at once: {component}"),
            Self::OperatorKilled { .. } => "operator killed in the middle of a rollout".to_owned(),
            Self::BrokenImage { service, .. } => format!("broken image and back: {service}"),
            Self::Scaled { to } => format!("crm 1 → {to} → 1 by the scale subresource"),
            Self::KubeletStopped { seconds } => format!("kubelet stopped for {seconds} s"),
        }
    }

    /// Can it cut off the acknowledgement of a mail that was sent?
    #[must_use]
    pub fn ends_mailer(&self) -> bool {
        matches!(self, Self::PodDeleted { component, .. } if component == "notification")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_few_seeds_see_every_kind_and_no_kubelet_where_none_can_be_stopped() {
        let names = |kubelet| -> BTreeSet<String> {
            let of = |seed| on_cluster(seed, Duration::from_mins(3), Duration::from_secs(20), kubelet).steps;
            (0..4).flat_map(of).map(|(_, fault)| fault.name()).collect()
        };
        let has = |names: &BTreeSet<String>, text: &str| names.iter().any(|name| name.contains(text));
        for text in ["pod deleted", ": redis", "operator", "broken image", "scale", "kubelet"] {
            assert!(has(&names(true), text), "{text}");
        }
        assert!(!has(&names(false), "kubelet"));
    }

    #[test]
    fn a_fault_reads_as_it_is_written() {
        let fault = Fault::OnCluster(OnCluster::PodDeleted { component: "crm".into(), at_once: true });
        let text = serde_json::to_string(&fault).unwrap();
        assert_eq!(text, r#"{"kind":"on-cluster","what":"pod-deleted","component":"crm","at_once":true}"#);
        assert_eq!(serde_json::from_str::<Fault>(&text).unwrap(), fault);
    }
}
