//! Step 4: brings the API server to what was built, with as few writes as possible.
//!
//! Fixed order, workloads last. One object that is refused does not keep the others from being applied. An
//! object that somebody else controls is never taken over; it never waits and never retries by itself.

use std::fmt::Debug;

use futures_util::future::join_all;
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::PersistentVolumeClaim,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};
use tracing::info;

use super::{
    autoscaling,
    children::{Children, Live, Prepared, named},
    labels,
    outcome::{ApplyError, Held, Outcome},
    plan::{self, Gate, Ownership, Plan},
    rollout::Rollout,
    validate::Owner,
    volume,
};
use crate::{
    metrics::{ApplyResult, Metrics},
    service::Service,
};

/// Applies the objects of one shop.
pub struct Applier<'a> {
    /// The API server.
    pub client: &'a Client,
    /// Where the writes are counted.
    pub metrics: &'a Metrics,
    /// Whose objects they are.
    pub owner: &'a Owner,
    /// Whether nothing is to be changed.
    pub paused: bool,
    /// Whether the whole shop was ever ready.
    pub ran_once: bool,
    /// Whether somebody else runs Redis.
    pub redis_is_external: bool,
    /// Whether Redis may be stopped, if it is to be.
    pub sleep_gate: Gate,
    /// The names of the Deployments whose number of pods follows their load.
    pub autoscaled: &'a [String],
}

/// What all kinds of children have in common.
pub trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned
{
}

impl<K> Child for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
{
}

/// What became of one object.
enum Done<K> {
    /// It was written: as it is now.
    Written(Box<K>),
    /// It is as it should be.
    Kept,
    /// It waits.
    Held(Held),
    /// It was refused.
    Failed(ApplyError),
}

impl Applier<'_> {
    /// Applies everything whose turn has come, and deletes what the shop no longer has.
    pub async fn apply(&self, prepared: Children<Prepared>, live: Children<Live>) -> Outcome {
        prepared.apply(live, self).await
    }

    /// All objects of a kind that waits for nothing.
    pub(super) async fn all<K: Child>(&self, wanted: Vec<K>, live: Vec<K>, outcome: &mut Outcome) -> Vec<K> {
        let applied = self.each(wanted.iter(), &live, plan::plan, outcome).await;
        self.sweep(&wanted, &live, outcome).await;
        applied
    }

    /// The passwords: pods that use them wait until they are there.
    pub(super) async fn passwords<K: Child>(
        &self,
        wanted: Vec<K>,
        live: Vec<K>,
        outcome: &mut Outcome,
    ) -> Vec<K> {
        let troubles = |outcome: &Outcome| outcome.failures.len() + outcome.held.len();
        let before = troubles(outcome);
        let applied = self.all(wanted, live, outcome).await;
        if troubles(outcome) > before {
            outcome.passwords = Gate::Shut("waits for the passwords".to_owned());
        }
        applied
    }

    /// The claims of volumes grow, and are never swept. One whose class cannot make it grow is nothing that waiting
    /// or trying again would mend: it is noted, and the shop runs on.
    pub(super) async fn volume_claims(
        &self,
        wanted: Vec<PersistentVolumeClaim>,
        live: Vec<PersistentVolumeClaim>,
        outcome: &mut Outcome,
    ) -> Vec<PersistentVolumeClaim> {
        let settle = |claim: PersistentVolumeClaim| {
            let there = named(&live, &claim.name_any());
            volume::settled(claim, there)
        };
        let wanted: Vec<_> = wanted.into_iter().map(settle).collect();
        let there = self.each(wanted.iter(), &live, plan::plan, outcome).await;
        let failures = std::mem::take(&mut outcome.failures);
        for failure in failures {
            match failure.growth_refused() {
                Some(why) => outcome.volume_refused = Some(why),
                None => outcome.failures.push(failure),
            }
        }
        there
    }

    /// Redis, which waits for its passwords and is stopped after the services.
    pub(super) async fn redis(
        &self,
        wanted: Vec<StatefulSet>,
        live: Vec<StatefulSet>,
        outcome: &mut Outcome,
    ) -> Vec<StatefulSet> {
        let keep = |set: StatefulSet| {
            let there = named(&live, &set.name_any());
            volume::kept_template(set, there)
        };
        let wanted: Vec<_> = wanted.into_iter().map(keep).collect();
        let passwords = outcome.passwords.clone();
        let plan = |wanted: &StatefulSet, live: Option<&StatefulSet>| {
            Ok(plan::plan_redis(wanted, live, &self.sleep_gate)?.behind(&passwords))
        };
        let applied = self.each(wanted.iter(), &live, plan, outcome).await;
        self.sweep(&wanted, &live, outcome).await;
        applied
    }

    /// All objects of a kind that this cluster may not have.
    pub(super) async fn where_installed<K: Child>(
        &self,
        wanted: Vec<K>,
        live: Vec<K>,
        outcome: &mut Outcome,
    ) -> Vec<K> {
        let before = outcome.failures.len();
        let applied = self.all(wanted, live, outcome).await;
        for failure in &mut outcome.failures[before..] {
            if let ApplyError::Refused { kind, name, source: kube::Error::Api(status) } = failure
                && status.code == 404
            {
                *failure =
                    ApplyError::NotInstalled { kind: std::mem::take(kind), name: std::mem::take(name) };
            }
        }
        applied
    }

    /// The services when Redis is ready, the gateway when the others are.
    pub(super) async fn deployments(
        &self,
        mut wanted: Vec<Deployment>,
        live: Vec<Deployment>,
        outcome: &mut Outcome,
    ) -> Vec<Deployment> {
        for object in wanted.iter_mut().filter(|object| self.autoscaled.contains(&object.name_any())) {
            let name = object.name_any();
            autoscaling::leave_replicas(object, named(&live, &name));
        }
        let shop = &self.owner.name;
        let name_of = |service: Service| labels::object_name(shop, service.name());
        let redis = named(&outcome.children.stateful_sets, &labels::object_name(shop, labels::REDIS));
        let services_gate = match outcome.passwords.clone() {
            shut @ Gate::Shut(_) => shut,
            Gate::Open if self.redis_is_external => Gate::Open,
            Gate::Open => plan::services_gate(redis.map(Rollout::from).as_ref()),
        };
        let plan_behind = |gate: Gate| {
            let redis = services_gate.clone();
            move |wanted: &Deployment, live: Option<&Deployment>| {
                plan::plan_deployment(wanted, live, &gate, &redis, self.ran_once)
            }
        };

        let gateway_name = name_of(Service::Gateway);
        let (gateway, others): (Vec<_>, Vec<_>) =
            wanted.iter().partition(|object| object.name_any() == gateway_name);
        let mut applied = self.each(others, &live, plan_behind(services_gate.clone()), outcome).await;

        let progress = Service::ALL
            .into_iter()
            .filter(|service| *service != Service::Gateway)
            .map(|service| (service.name(), named(&applied, &name_of(service)).map(Rollout::from)));
        let running = named(&live, &gateway_name).map(Rollout::from);
        let gate = plan::gateway_gate(running.as_ref(), &services_gate, progress);
        applied.extend(self.each(gateway, &live, plan_behind(gate), outcome).await);

        self.sweep(&wanted, &live, outcome).await;
        applied
    }

    /// Plans and does it for each of these objects, all at a time: they do not depend on each other. Gives those
    /// that are there afterwards.
    async fn each<'k, K: Child + 'k>(
        &self,
        wanted: impl IntoIterator<Item = &'k K>,
        live: &[K],
        plan: impl Fn(&K, Option<&K>) -> Result<Plan, serde_json::Error>,
        outcome: &mut Outcome,
    ) -> Vec<K> {
        let plan = &plan;
        let work = wanted.into_iter().map(|object| async move {
            let found = named(live, &object.name_any());
            let done = match plan(object, found) {
                Ok(plan) => self.carry_out(plan, object, found).await,
                Err(error) => Done::Failed(error.into()),
            };
            (done, found)
        });
        let mut there = Vec::new();
        for (done, found) in join_all(work).await {
            match done {
                Done::Written(object) => there.push(*object),
                Done::Kept => there.extend(found.cloned()),
                Done::Held(held) => {
                    outcome.held.push(held);
                    there.extend(found.cloned());
                }
                Done::Failed(failure) => {
                    outcome.failures.push(failure);
                    there.extend(found.cloned());
                }
            }
        }
        there
    }

    /// Does what was planned.
    async fn carry_out<K: Child>(&self, plan: Plan, wanted: &K, live: Option<&K>) -> Done<K> {
        let done = match plan {
            Plan::Keep => {
                self.metrics.applied(&K::kind(&()), ApplyResult::Unchanged);
                return Done::Kept;
            }
            Plan::Hold(reason) => return Done::Held(Held { name: wanted.name_any(), reason }),
            Plan::Create | Plan::Repair(_) if self.paused => return Done::Held(paused(wanted)),
            Plan::Create => self.create(wanted).await,
            Plan::Repair(path) => {
                info!(kind = %K::kind(&()), name = wanted.name_any(), path, "differs from what is wanted");
                self.patch(wanted, live).await
            }
        };
        match done {
            Ok(object) => Done::Written(Box::new(object)),
            Err(error) => {
                self.metrics.applied(&K::kind(&()), ApplyResult::Failed);
                Done::Failed(error)
            }
        }
    }

    /// Makes an object that was not listed. One that is there nevertheless has lost its labels, or is foreign.
    async fn create<K: Child>(&self, wanted: &K) -> Result<K, ApplyError> {
        let found = self.api::<K>().get_opt(&wanted.name_any()).await;
        let found = found.map_err(|source| refused(wanted, source))?;
        self.patch(wanted, found.as_ref()).await
    }

    async fn patch<K: Child>(&self, wanted: &K, live: Option<&K>) -> Result<K, ApplyError> {
        let name = wanted.name_any();
        let kind = K::kind(&());
        if live.is_some_and(|live| plan::ownership(live.meta(), self.owner) == Ownership::Foreign) {
            return Err(ApplyError::Foreign { kind: kind.into_owned(), name });
        }
        // Forced: a field that somebody edited by hand is taken back.
        let params = PatchParams::apply(labels::FIELD_MANAGER).force();
        let patch = Patch::Apply(serde_json::to_value(wanted)?);
        let object = self.api::<K>().patch(&name, &params, &patch).await;
        let object = object.map_err(|source| refused(wanted, source))?;
        let result = if live.is_some() { ApplyResult::Repaired } else { ApplyResult::Created };
        self.metrics.applied(&kind, result);
        info!(kind = %kind, name, result = result.as_str(), "applied");
        Ok(object)
    }

    /// Deletes what this shop controls but no longer has.
    async fn sweep<K: Child>(&self, wanted: &[K], live: &[K], outcome: &mut Outcome) {
        let left_over = live.iter().filter(|object| {
            named(wanted, &object.name_any()).is_none()
                && object.meta().deletion_timestamp.is_none()
                && plan::ownership(object.meta(), self.owner) == Ownership::Ours
        });
        for object in left_over {
            let name = object.name_any();
            if self.paused {
                outcome.held.push(paused(object));
                continue;
            }
            let params = DeleteParams {
                preconditions: Some(Preconditions { uid: object.uid(), resource_version: None }),
                ..DeleteParams::background()
            };
            match self.api::<K>().delete(&name, &params).await {
                Ok(_) => {
                    self.metrics.applied(&K::kind(&()), ApplyResult::Deleted);
                    info!(kind = %K::kind(&()), name, "deleted: the shop no longer has it");
                }
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(source) => outcome.failures.push(refused(object, source)),
            }
        }
    }

    fn api<K: Child>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.owner.namespace)
    }
}

fn paused<K: Child>(object: &K) -> Held {
    Held { name: object.name_any(), reason: "paused".to_owned() }
}

fn refused<K: Child>(object: &K, source: kube::Error) -> ApplyError {
    ApplyError::Refused { kind: K::kind(&()).into_owned(), name: object.name_any(), source }
}
