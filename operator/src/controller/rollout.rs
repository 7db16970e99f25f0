//! How far a workload is, pure: read from its status, which is only believed when it is about the newest spec.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};

/// How far a workload is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// The replicas its spec asks for.
    pub desired: i32,
    /// The replicas that are ready.
    pub ready: i32,
    /// The replicas that there are.
    pub replicas: i32,
    /// The replicas that are of the newest template.
    pub updated: i32,
    /// The replicas that have been ready for long enough to count.
    pub available: i32,
    /// Whether pods of the newest template are still replacing others, or being made.
    pub rolling: bool,
    /// Why it does not get on, when Kubernetes says that it does not.
    pub failure: Option<String>,
}

impl Rollout {
    /// Whether all pods are of the newest template and available.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.rolling && self.available >= self.desired && self.failure.is_none()
    }

    /// How far, for people. The old pods of a rollout stay until a new one is available, so what is available
    /// beyond them is new.
    #[must_use]
    pub fn progress(&self) -> String {
        let old = self.replicas - self.updated;
        if self.rolling && old > 0 {
            format!("rolling out, {} of {} new pods available", (self.available - old).max(0), self.desired)
        } else {
            format!("{} of {} ready", self.ready, self.desired)
        }
    }
}

impl From<&Deployment> for Rollout {
    fn from(deployment: &Deployment) -> Self {
        let desired = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let Some(status) = &deployment.status else {
            return Self { desired, rolling: true, ..Self::default() };
        };
        let observed = status.observed_generation >= deployment.metadata.generation;
        let condition = |type_: &str, status_: &str| {
            let conditions = status.conditions.as_deref().unwrap_or_default();
            conditions.iter().find(|condition| condition.type_ == type_ && condition.status == status_)
        };
        let failed = [condition("ReplicaFailure", "True"), condition("Progressing", "False")];
        let under_way = condition("Progressing", "True")
            .is_some_and(|condition| condition.reason.as_deref() != Some("NewReplicaSetAvailable"));
        let replicas = status.replicas.unwrap_or(0);
        let updated = status.updated_replicas.unwrap_or(0);
        Self {
            desired,
            ready: status.ready_replicas.unwrap_or(0),
            replicas,
            updated,
            available: status.available_replicas.unwrap_or(0),
            rolling: !observed || updated < desired || replicas > updated || under_way,
            failure: failed.into_iter().flatten().next().filter(|_| observed).map(|condition| {
                let said = condition.message.as_ref().or(condition.reason.as_ref());
                said.map_or_else(|| condition.type_.clone(), Clone::clone)
            }),
        }
    }
}

impl From<&StatefulSet> for Rollout {
    fn from(set: &StatefulSet) -> Self {
        let desired = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let Some(status) = &set.status else {
            return Self { desired, rolling: true, ..Self::default() };
        };
        let observed = status.observed_generation >= set.metadata.generation;
        let newest = status.update_revision.is_none() || status.current_revision == status.update_revision;
        Self {
            desired,
            ready: status.ready_replicas.unwrap_or(0),
            replicas: status.replicas,
            updated: status.updated_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            rolling: !observed || !newest || status.replicas < desired,
            failure: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn deployment(generation: i64, status: &Value) -> Rollout {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"generation": generation},
            "spec": {"replicas": 2, "selector": {}, "template": {}},
            "status": status,
        }))
        .unwrap();
        Rollout::from(&deployment)
    }

    fn all_there() -> Value {
        json!({"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2,
        "availableReplicas": 2, "conditions": [
            {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
        ]})
    }

    #[test]
    fn a_rollout_is_complete_when_all_pods_are_new_and_available() {
        assert!(deployment(3, &all_there()).is_complete());
    }

    #[test]
    fn a_status_about_an_older_spec_is_not_believed() {
        assert!(!deployment(4, &all_there()).is_complete());
        assert!(!deployment(1, &json!({})).is_complete());
    }

    #[test]
    fn old_pods_that_are_still_there_keep_it_rolling() {
        let mut status = all_there();
        status["replicas"] = json!(3);
        status["updatedReplicas"] = json!(1);
        let rollout = deployment(3, &status);
        assert!(rollout.rolling);
        assert_eq!(rollout.progress(), "rolling out, 0 of 2 new pods available");
    }

    #[test]
    fn a_pod_that_fails_later_makes_it_incomplete_but_not_rolling() {
        let mut status = all_there();
        status["availableReplicas"] = json!(1);
        let rollout = deployment(3, &status);
        assert!(!rollout.is_complete() && !rollout.rolling);
    }

    #[test]
    fn what_kubernetes_says_about_a_stuck_rollout_is_passed_on() {
        let mut status = all_there();
        status["conditions"] = json!([
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"},
        ]);
        assert_eq!(deployment(3, &status).failure.as_deref(), Some("timed out"));
        assert_eq!(deployment(4, &status).failure, None, "the newest spec has not been tried yet");
    }

    #[test]
    fn redis_is_complete_when_its_pod_is_of_the_newest_revision_and_available() {
        let set = |current: &str| -> Rollout {
            let set: StatefulSet = serde_json::from_value(json!({
                "metadata": {"generation": 1},
                "spec": {"replicas": 1, "selector": {}, "template": {}, "serviceName": "shop-redis"},
                "status": {"observedGeneration": 1, "replicas": 1, "readyReplicas": 1, "availableReplicas": 1,
                    "currentRevision": current, "updateRevision": "b"},
            }))
            .unwrap();
            Rollout::from(&set)
        };
        assert!(set("b").is_complete());
        assert!(!set("a").is_complete());
    }
}
