//! What autoscaling means, pure: what a service's pods are counted by, and when the operator leaves their number to
//! whoever counts.

use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::labels;
use crate::{crd::AutoscalingSpec, service::Service};

/// How the number of a service's pods follows its load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Autoscaling {
    /// The fewest pods.
    pub min: i32,
    /// The most pods.
    pub max: i32,
    /// What they are counted by.
    pub by: Load,
}

/// What pods are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// The part of the requested CPU that they use, in percent.
    Cpu(i32),
    /// The events that wait in a stream, for each pod.
    Lag(i32),
}

const DEFAULT_CPU: i32 = 80;
const DEFAULT_LAG: i32 = 100;

/// The autoscaling cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AutoscalingError {
    /// The bounds exclude each other, or every number.
    #[error("minReplicas {0} and maxReplicas {1}: at least 1, and the first not greater than the second")]
    Bounds(i32, i32),
    /// This service has no group whose lag could be looked at.
    #[error("lagPerReplica is for services that handle events: this one is scaled by targetCpu")]
    NoGroup,
    /// Where the Redis is and who may ask it stands in a URL that KEDA does not read.
    #[error("lagPerReplica needs the operator's own Redis: redis.external has none that KEDA could ask")]
    ExternalRedis,
    /// This service is scaled by the lag of its group.
    #[error("targetCpu is for services that answer requests: this one is scaled by lagPerReplica")]
    HasGroup,
}

/// What the spec means for this service. `external`: whether somebody else runs Redis.
pub fn of(service: Service, said: &AutoscalingSpec, external: bool) -> Result<Autoscaling, AutoscalingError> {
    let (min, max) = (said.min_replicas, said.max_replicas);
    if min < 1 || min > max {
        return Err(AutoscalingError::Bounds(min, max));
    }
    let by = match (service.consumes().is_empty(), said.target_cpu, said.lag_per_replica) {
        (true, _, Some(_)) => return Err(AutoscalingError::NoGroup),
        (false, Some(_), _) => return Err(AutoscalingError::HasGroup),
        (true, cpu, None) => Load::Cpu(cpu.unwrap_or(DEFAULT_CPU)),
        (false, None, _) if external => return Err(AutoscalingError::ExternalRedis),
        (false, None, lag) => Load::Lag(lag.unwrap_or(DEFAULT_LAG)),
    };
    Ok(Autoscaling { min, max, by })
}

/// Leaves the number of pods to the autoscaler as soon as it has said one: from then on `wanted` says nothing about
/// it. Until then the operator goes on saying what is there, since a field that its only owner no longer states falls
/// back to one pod. A service without pods, which no autoscaler touches, gets the number that `wanted` begins with.
pub fn leave_replicas(wanted: &mut Deployment, live: Option<&Deployment>) {
    let (Some(spec), Some(live)) = (&mut wanted.spec, live) else { return };
    let there = live.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    if there > 0 {
        spec.replicas = (!another_says_replicas(&live.metadata)).then_some(there);
    }
}

/// Whether another manager owns the number of pods: an autoscaler, or a person who scaled by hand.
fn another_says_replicas(metadata: &ObjectMeta) -> bool {
    metadata.managed_fields.iter().flatten().any(|entry| {
        let says = |fields: &serde_json::Value| fields.pointer("/f:spec/f:replicas").is_some();
        entry.manager.as_deref() != Some(labels::FIELD_MANAGER)
            && entry.fields_v1.as_ref().is_some_and(|fields| says(&fields.0))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(min: i32, max: i32, cpu: Option<i32>, lag: Option<i32>) -> AutoscalingSpec {
        AutoscalingSpec { min_replicas: min, max_replicas: max, target_cpu: cpu, lag_per_replica: lag }
    }

    #[test]
    fn requests_are_scaled_by_cpu_and_events_by_lag() {
        let (min, max) = (1, 5);
        for (service, spec, expected) in [
            (Service::Gateway, said(min, max, None, None), Ok(Load::Cpu(80))),
            (Service::ReadModel, said(min, max, Some(60), None), Ok(Load::Cpu(60))),
            (Service::Gateway, said(min, max, None, Some(9)), Err(AutoscalingError::NoGroup)),
            (Service::Crm, said(min, max, None, None), Ok(Load::Lag(100))),
            (Service::Order, said(min, max, None, Some(9)), Ok(Load::Lag(9))),
            (Service::Crm, said(min, max, Some(60), None), Err(AutoscalingError::HasGroup)),
            (Service::Crm, said(6, 5, None, None), Err(AutoscalingError::Bounds(6, 5))),
            (Service::Crm, said(0, 5, None, None), Err(AutoscalingError::Bounds(0, 5))),
        ] {
            let expected = expected.map(|by| Autoscaling { min, max, by });
            assert_eq!(of(service, &spec, false), expected, "{} {spec:?}", service.name());
        }
        let spec = said(min, max, None, None);
        assert_eq!(of(Service::Crm, &spec, true), Err(AutoscalingError::ExternalRedis));
        assert!(of(Service::Gateway, &spec, true).is_ok());
    }

    fn deployment(replicas: i32, owners: &[(&str, &str)]) -> Deployment {
        let managed: Vec<_> = owners
            .iter()
            .map(|(manager, field)| {
                json!({"manager": manager, "operation": "Update", "fieldsType": "FieldsV1",
                    "fieldsV1": {"f:spec": {*field: {}}}})
            })
            .collect();
        serde_json::from_value(json!({
            "metadata": {"managedFields": managed},
            "spec": {"replicas": replicas, "selector": {}, "template": {}},
        }))
        .unwrap()
    }

    #[test]
    fn the_number_of_pods_is_left_to_whoever_said_one() {
        let ours = ("ordershop-operator", "f:replicas");
        let autoscaler = ("kube-controller-manager", "f:replicas");
        let begins_with = 2;
        for (case, live, expected) in [
            ("a new service begins with the fewest", None, Some(begins_with)),
            ("nobody else said anything: what is there stays", Some(deployment(7, &[ours])), Some(7)),
            ("the autoscaler did", Some(deployment(7, &[autoscaler])), None),
            ("it did, and the operator said the same before", Some(deployment(7, &[ours, autoscaler])), None),
            (
                "another manager of other fields is no autoscaler",
                Some(deployment(7, &[ours, ("kubectl", "f:template")])),
                Some(7),
            ),
            (
                "no autoscaler wakes a service without pods",
                Some(deployment(0, &[autoscaler])),
                Some(begins_with),
            ),
        ] {
            let mut wanted = deployment(begins_with, &[]);
            leave_replicas(&mut wanted, live.as_ref());
            assert_eq!(wanted.spec.unwrap().replicas, expected, "{case}");
        }
    }
}
