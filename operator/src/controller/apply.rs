//! Step 4: brings the API server to what was built, with as few writes as possible.
//!
//! Fixed order, workloads last. One object that is refused does not keep the others from being applied. An
//! object that somebody else controls is never taken over; it never waits and never retries by itself.

use std::fmt::Debug;

use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};
use tracing::info;

use super::{
    children::{Applied, Children, Live, Prepared, named},
    labels,
    plan::{self, Ownership, Plan},
    rollout::Rollout,
    validate::Owner,
};
use crate::{
    metrics::{ApplyResult, Metrics},
    service::Service,
};

/// What is there after applying.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The objects as the API server has them now; one that waits or was refused may be missing or old.
    pub children: Children<Applied>,
    /// What was not applied yet.
    pub held: Vec<Held>,
    /// What was refused.
    pub failures: Vec<ApplyError>,
}

/// An object that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub name: String,
    /// What for.
    pub reason: String,
}

/// An object could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server refused it.
    #[error("{kind} {name}: {source}")]
    Refused {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// What the API server said.
        source: kube::Error,
    },
    /// Somebody else's object has the name.
    #[error("{kind} {name} belongs to somebody else: delete or rename it, or rename the shop")]
    Foreign {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// It cannot be compared.
    #[error("an object cannot be written as JSON: {0}")]
    Serialize(#[from] serde_json::Error),
}

impl ApplyError {
    /// The variant, for conditions, events and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "ApplyRefused",
            Self::Foreign { .. } => "NameConflict",
            Self::Serialize(_) => "ApplySerialize",
        }
    }
}

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

impl Applier<'_> {
    /// Applies everything whose turn has come, and deletes what the shop no longer has.
    pub async fn apply(&self, prepared: Children<Prepared>, live: Children<Live>) -> Outcome {
        let Children { service_accounts, config_maps, services, stateful_sets, deployments, state: _ } =
            prepared;
        let mut outcome = Outcome::default();
        outcome.children.service_accounts =
            self.all(service_accounts, live.service_accounts, &mut outcome).await;
        outcome.children.config_maps = self.all(config_maps, live.config_maps, &mut outcome).await;
        outcome.children.services = self.all(services, live.services, &mut outcome).await;
        outcome.children.stateful_sets = self.all(stateful_sets, live.stateful_sets, &mut outcome).await;
        outcome.children.deployments = self.deployments(deployments, live.deployments, &mut outcome).await;
        outcome
    }

    /// All objects of a kind that waits for nothing.
    async fn all<K: Child>(&self, wanted: Vec<K>, live: Vec<K>, outcome: &mut Outcome) -> Vec<K> {
        let mut applied = Vec::with_capacity(wanted.len());
        for object in &wanted {
            let found = named(&live, &object.name_any());
            let plan = plan::plan(object, found);
            applied.extend(self.carry_out(plan, object, found, outcome).await);
        }
        self.sweep(&wanted, &live, outcome).await;
        applied
    }

    /// The services when Redis is ready, the gateway when the others are.
    async fn deployments(
        &self,
        wanted: Vec<Deployment>,
        live: Vec<Deployment>,
        outcome: &mut Outcome,
    ) -> Vec<Deployment> {
        let shop = &self.owner.name;
        let redis = named(&outcome.children.stateful_sets, &labels::object_name(shop, labels::REDIS));
        let services_gate = plan::services_gate(redis.map(Rollout::from).as_ref());
        let gateway_name = labels::object_name(shop, Service::Gateway.name());
        let mut applied = Vec::with_capacity(wanted.len());
        for object in wanted.iter().filter(|object| object.name_any() != gateway_name) {
            let found = named(&live, &object.name_any());
            let plan = plan::plan_deployment(object, found, &services_gate, self.ran_once);
            applied.extend(self.carry_out(plan, object, found, outcome).await);
        }
        if let Some(gateway) = named(&wanted, &gateway_name) {
            let found = named(&live, &gateway_name);
            let others =
                Service::ALL.into_iter().filter(|service| *service != Service::Gateway).map(|service| {
                    let object = named(&applied, &labels::object_name(shop, service.name()));
                    (service.name(), object.map(Rollout::from))
                });
            let gate = plan::gateway_gate(found.map(Rollout::from).as_ref(), &services_gate, others);
            let plan = plan::plan_deployment(gateway, found, &gate, self.ran_once);
            applied.extend(self.carry_out(plan, gateway, found, outcome).await);
        }
        self.sweep(&wanted, &live, outcome).await;
        applied
    }

    /// Does what was planned; gives the object as it is afterwards.
    async fn carry_out<K: Child>(
        &self,
        plan: Result<Plan, serde_json::Error>,
        wanted: &K,
        live: Option<&K>,
        outcome: &mut Outcome,
    ) -> Option<K> {
        let name = wanted.name_any();
        let done = match plan {
            Err(error) => Err(error.into()),
            Ok(Plan::Keep) => {
                self.metrics.applied(&K::kind(&()), ApplyResult::Unchanged);
                return live.cloned();
            }
            Ok(Plan::Hold(reason)) => {
                outcome.held.push(Held { name, reason });
                return live.cloned();
            }
            Ok(Plan::Create | Plan::Repair(_)) if self.paused => {
                outcome.held.push(Held { name, reason: "paused".to_owned() });
                return live.cloned();
            }
            Ok(Plan::Create) => self.create(wanted).await,
            Ok(Plan::Repair(path)) => {
                info!(kind = %K::kind(&()), name, path, "differs from what is wanted");
                self.patch(wanted, live).await
            }
        };
        match done {
            Ok(object) => Some(object),
            Err(error) => {
                self.metrics.applied(&K::kind(&()), ApplyResult::Failed);
                outcome.failures.push(error);
                live.cloned()
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
        let object = self.api::<K>().patch(&name, &params, &Patch::Apply(wanted)).await;
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
                outcome.held.push(Held { name, reason: "paused".to_owned() });
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

fn refused<K: Child>(object: &K, source: kube::Error) -> ApplyError {
    ApplyError::Refused { kind: K::kind(&()).into_owned(), name: object.name_any(), source }
}
