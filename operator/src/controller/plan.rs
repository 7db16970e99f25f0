//! What to do with each object, pure: keep it, make it, repair it, or let it wait for its turn.
//!
//! Redis is ready before the services roll, and the gateway rolls last. Waiting protects what runs: it never
//! keeps a shop that ran once from getting a lost workload back, and never keeps a gateway that is already
//! broken from its fix.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::apps::v1::{Deployment, StatefulSet},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use serde::Serialize;

use super::{diff, labels, rollout::Rollout, validate::Owner};

/// What to do with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// It is as it should be.
    Keep,
    /// It is not there.
    Create,
    /// This field is not as it should be.
    Repair(String),
    /// It would be made or rolled, but not yet: for this reason.
    Hold(String),
}

impl Plan {
    /// The same for an object that does nothing before its turn.
    #[must_use]
    pub fn behind(self, gate: &Gate) -> Self {
        match gate {
            Gate::Shut(reason) if self != Self::Keep => Self::Hold(reason.clone()),
            _ => self,
        }
    }
}

/// Whether a workload's turn has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// It has.
    #[default]
    Open,
    /// Not yet: for this reason.
    Shut(String),
}

/// Whose an object is that has the name of one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// This shop controls it.
    Ours,
    /// Nobody controls it, and it has this shop's labels: left over from a shop of the same name.
    Adoptable,
    /// Somebody else's.
    Foreign,
}

/// Whose this object is.
#[must_use]
pub fn ownership(object: &ObjectMeta, owner: &Owner) -> Ownership {
    let owners: &[OwnerReference] = object.owner_references.as_deref().unwrap_or_default();
    match owners.iter().find(|reference| reference.controller == Some(true)) {
        Some(controller) if controller.uid == owner.uid => Ownership::Ours,
        // The claim of a volume that goes with its StatefulSet.
        Some(controller) if controller.kind != "StatefulSet" => Ownership::Foreign,
        _ => match &object.labels {
            Some(found) if labels::are_managed_for(found, &owner.name) => Ownership::Adoptable,
            _ => Ownership::Foreign,
        },
    }
}

/// What to do with an object that waits for nothing.
pub fn plan<K: Serialize>(wanted: &K, live: Option<&K>) -> Result<Plan, serde_json::Error> {
    let Some(live) = live else { return Ok(Plan::Create) };
    let difference = diff::difference(&serde_json::to_value(wanted)?, &serde_json::to_value(live)?);
    Ok(difference.map_or(Plan::Keep, Plan::Repair))
}

/// What to do with a Deployment. `redis`: whether Redis is ready, which is all that one waits for that had no pods.
/// `ran_once`: whether the whole shop was ever ready.
pub fn plan_deployment(
    wanted: &Deployment,
    live: Option<&Deployment>,
    gate: &Gate,
    redis: &Gate,
    ran_once: bool,
) -> Result<Plan, serde_json::Error> {
    let plan = plan(wanted, live)?;
    let wakes = live.is_some_and(|live| replicas(live) == 0) && replicas(wanted) > 0;
    let gate = if wakes { redis } else { gate };
    let waits = match live {
        None => !ran_once,
        Some(live) => wakes || rolls(wanted, live)?,
    };
    Ok(if waits { plan.behind(gate) } else { plan })
}

fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// What to do with Redis. It is stopped when nobody uses it any more.
pub fn plan_redis(
    wanted: &StatefulSet,
    live: Option<&StatefulSet>,
    gate: &Gate,
) -> Result<Plan, serde_json::Error> {
    let plan = plan(wanted, live)?;
    Ok(if live.is_some() { plan.behind(gate) } else { plan })
}

/// Redis' turn to be stopped: when no service is left. `left`: the names of those that are, in any order and as often
/// as they are found.
#[must_use]
pub fn sleep_gate<'a>(left: impl IntoIterator<Item = &'a str>) -> Gate {
    let left: Vec<_> = left.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    if left.is_empty() { Gate::Open } else { Gate::Shut(format!("waits for {} to stop", left.join(", "))) }
}

/// Whether applying it replaces pods.
fn rolls(wanted: &Deployment, live: &Deployment) -> Result<bool, serde_json::Error> {
    let hash = |deployment: &Deployment| {
        let annotations = deployment.metadata.annotations.as_ref();
        annotations.and_then(|annotations| annotations.get(labels::TEMPLATE_HASH)).cloned()
    };
    let template =
        |deployment: &Deployment| serde_json::to_value(deployment.spec.as_ref().map(|spec| &spec.template));
    Ok(hash(wanted) != hash(live) || diff::difference(&template(wanted)?, &template(live)?).is_some())
}

/// The turn of the services: when Redis is ready.
#[must_use]
pub fn services_gate(redis: Option<&Rollout>) -> Gate {
    match redis {
        Some(redis) if redis.is_complete() => Gate::Open,
        _ => Gate::Shut("waits for Redis".to_owned()),
    }
}

/// The turn of the gateway: when the others had theirs and are done, each given by its name; or when its own
/// last rollout hangs, which the newest spec may fix.
#[must_use]
pub fn gateway_gate<'a>(
    gateway: Option<&Rollout>,
    services: &Gate,
    others: impl IntoIterator<Item = (&'a str, Option<Rollout>)>,
) -> Gate {
    if gateway.is_some_and(|gateway| gateway.rolling) {
        return Gate::Open;
    }
    if *services != Gate::Open {
        return services.clone();
    }
    let missing: Vec<_> = others
        .into_iter()
        .filter(|(_, rollout)| !rollout.as_ref().is_some_and(Rollout::is_complete))
        .map(|(name, _)| name)
        .collect();
    if missing.is_empty() { Gate::Open } else { Gate::Shut(format!("waits for {}", missing.join(", "))) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(image: &str, replicas: i32) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "shop-order", "annotations": {labels::TEMPLATE_HASH: image}},
            "spec": {"replicas": replicas, "selector": {}, "template": {
                "spec": {"containers": [{"name": "order", "image": image}]},
            }},
        }))
        .unwrap()
    }

    fn complete() -> Rollout {
        Rollout { desired: 1, ready: 1, replicas: 1, updated: 1, available: 1, rolling: false, failure: None }
    }

    #[test]
    fn waiting_for_a_turn_is_decided_by_what_runs() {
        let shut = || Gate::Shut("waits".to_owned());
        let hold = || Plan::Hold("waits".to_owned());
        let wanted = deployment("new", 1);
        for (case, live, gate, ran_once, expected) in [
            ("a first creation waits", None, shut(), false, hold()),
            ("its turn has come", None, Gate::Open, false, Plan::Create),
            ("a lost workload comes back at once", None, shut(), true, Plan::Create),
            ("a roll waits", Some(deployment("old", 1)), shut(), true, hold()),
            (
                "a scaling does not wait",
                Some(deployment("new", 2)),
                shut(),
                true,
                Plan::Repair("spec.replicas".into()),
            ),
            ("nothing to do is no wait", Some(deployment("new", 1)), shut(), true, Plan::Keep),
        ] {
            assert_eq!(
                plan_deployment(&wanted, live.as_ref(), &gate, &gate, ran_once).unwrap(),
                expected,
                "{case}"
            );
        }
    }

    #[test]
    fn the_services_wait_for_redis() {
        assert_eq!(services_gate(Some(&complete())), Gate::Open);
        assert!(matches!(services_gate(None), Gate::Shut(_)));
        assert!(matches!(services_gate(Some(&Rollout { available: 0, ..complete() })), Gate::Shut(_)));
    }

    #[test]
    fn a_stopped_gateway_starts_with_redis_and_does_not_wait_for_a_broken_service() {
        let (wanted, stopped) = (deployment("new", 1), deployment("old", 0));
        let others = Gate::Shut("waits for crm".to_owned());
        let plan = |redis: &Gate| plan_deployment(&wanted, Some(&stopped), &others, redis, true).unwrap();
        assert!(matches!(plan(&Gate::Open), Plan::Repair(_)));
        assert!(matches!(plan(&Gate::Shut("waits for Redis".to_owned())), Plan::Hold(_)));
    }

    #[test]
    fn redis_is_stopped_after_the_last_service() {
        let running = sleep_gate(["order", "crm", "order"]);
        assert_eq!(running, Gate::Shut("waits for crm, order to stop".to_owned()));
        assert_eq!(sleep_gate([]), Gate::Open);

        let set = |replicas: i32| -> StatefulSet {
            serde_json::from_value(json!({"metadata": {}, "spec": {
                "replicas": replicas, "selector": {}, "template": {}, "serviceName": "x",
            }}))
            .unwrap()
        };
        let plan = |live: Option<&StatefulSet>, gate: &Gate| plan_redis(&set(0), live, gate).unwrap();
        assert!(matches!(plan(Some(&set(1)), &running), Plan::Hold(_)));
        assert!(matches!(plan(Some(&set(1)), &Gate::Open), Plan::Repair(_)));
        assert_eq!(plan(None, &running), Plan::Create);
    }

    #[test]
    fn the_gateway_waits_for_the_others_by_name() {
        let others = [("order", Some(Rollout { rolling: true, ..complete() })), ("crm", Some(complete()))];
        let gate = |gateway: Option<&Rollout>| gateway_gate(gateway, &Gate::Open, others.clone());
        assert_eq!(gate(Some(&complete())), Gate::Shut("waits for order".to_owned()));
        let stuck = Rollout { rolling: true, ..complete() };
        assert_eq!(gate(Some(&stuck)), Gate::Open, "a stuck gateway can be fixed");
        assert_eq!(gateway_gate(None, &Gate::Open, [("crm", Some(complete()))]), Gate::Open);
        assert_eq!(gateway_gate(None, &Gate::Open, [("crm", None)]), Gate::Shut("waits for crm".to_owned()));
        let redis = Gate::Shut("waits for Redis".to_owned());
        assert_eq!(gateway_gate(None, &redis, [("crm", Some(complete()))]), redis);
    }

    #[test]
    fn an_object_is_ours_by_its_controller_and_adopted_by_its_labels() {
        let owner = Owner { name: "shop".into(), namespace: "ns".into(), uid: "u1".into() };
        let object = |uid: Option<&str>, ours: bool| -> ObjectMeta {
            serde_json::from_value(json!({
                "labels": if ours { labels::labels("shop", "crm") } else { [("app".into(), "x".into())].into() },
                "ownerReferences": uid.map(|uid| vec![json!({
                    "apiVersion": "v1", "kind": "K", "name": "n", "uid": uid, "controller": true,
                })]).unwrap_or_default(),
            }))
            .unwrap()
        };
        assert_eq!(ownership(&object(Some("u1"), false), &owner), Ownership::Ours);
        assert_eq!(ownership(&object(Some("u2"), true), &owner), Ownership::Foreign);
        assert_eq!(ownership(&object(None, true), &owner), Ownership::Adoptable);
        assert_eq!(ownership(&object(None, false), &owner), Ownership::Foreign);
    }
}
