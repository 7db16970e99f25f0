//! Step 5: what the shop is, computed from what was applied, and written only when it changed.
//!
//! The computation is pure; conditions keep the time of their last transition. Nothing here looks at what was
//! merely prepared.

use std::time::Duration;

use jiff::Timestamp;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    children::{Applied, Children, named},
    labels,
    outcome::Outcome,
    rollout::Rollout,
    trouble,
    validate::{Owner, ValidShop, ValidateError},
};
use crate::{
    crd::{Condition, ConditionStatus, ConditionType, OrderShop, OrderShopStatus, ServiceStatus},
    service::Service,
};

/// The status could not be written.
#[derive(Debug, thiserror::Error)]
#[error("writing the status: {0}")]
pub struct StatusError(#[from] kube::Error);

/// One condition before it has a time.
struct Found {
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Found {
    fn new(holds: bool, reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds, reason, message: message.into() }
    }
}

/// One of the nine services as it runs.
struct Running {
    service: Service,
    image: String,
    rollout: Option<Rollout>,
    desired: i32,
}

impl Running {
    fn is_complete(&self) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| rollout.is_complete() && rollout.desired == self.desired)
    }

    fn is_available(&self) -> bool {
        self.desired == 0 || self.rollout.as_ref().is_some_and(|rollout| rollout.available > 0)
    }

    fn progress(&self) -> String {
        let progress = self.rollout.as_ref().map_or_else(|| "not created yet".to_owned(), Rollout::progress);
        format!("{}: {progress}", self.service.name())
    }
}

/// The status of a shop whose objects were applied. `now`: the time of what changed.
#[must_use]
pub fn status(old: &OrderShopStatus, shop: &ValidShop, outcome: &Outcome, now: &str) -> OrderShopStatus {
    let redis = redis::rollout(&shop.owner, &outcome.children);
    let services = running(shop, &outcome.children);
    let crm = services.iter().find(|running| running.service == Service::Crm);

    let stopping = hibernation::stopping(redis.as_ref(), &services);
    let degraded = degraded(shop, outcome, redis.as_ref(), &services);
    let hibernated = hibernation::hibernated(shop.hibernated, &stopping);
    let (redis_ready, available, progressing) = if shop.hibernated {
        let progressing = hibernation::progressing(stopping, waiting(&shop.owner, outcome));
        (hibernation::asleep(), hibernation::asleep(), progressing)
    } else {
        let redis_ready = match shop.redis_url {
            Some(_) => redis::external(&services),
            None => redis::ready(redis.as_ref(), redis::volume(shop, outcome).note()),
        };
        let available = available(&redis_ready, &services);
        (redis_ready, available, progressing(&shop.owner, outcome, redis.as_ref(), &services))
    };
    let paused = if shop.paused {
        Found::new(true, "Paused", "spec.paused: the operator changes nothing")
    } else {
        Found::new(false, "NotPaused", "")
    };
    let ready = if shop.hibernated && !degraded.holds {
        hibernation::asleep()
    } else {
        ready(&shop.owner, &degraded, &progressing, &redis_ready, outcome, &services)
    };

    let conditions = [
        (ConditionType::Ready, ready),
        (ConditionType::Available, available),
        (ConditionType::Progressing, progressing),
        (ConditionType::Degraded, degraded),
        (ConditionType::RedisReady, redis_ready),
        (ConditionType::Paused, paused),
        (ConditionType::Hibernated, hibernated),
    ];
    let mut status = OrderShopStatus {
        observed_generation: shop.generation,
        conditions: conditions
            .into_iter()
            .map(|(type_, found)| condition(old, type_, found, shop.generation, now))
            .collect(),
        services_ready: Some(format!(
            "{}/{}",
            services.iter().filter(|running| running.is_complete() && !shop.hibernated).count(),
            services.len()
        )),
        url: ingress_url(shop).or_else(|| url(&shop.owner, &outcome.children)),
        version: old.version.clone(),
        crm_replicas: crm.and_then(|crm| crm.rollout.as_ref()).map_or(0, |rollout| rollout.replicas),
        selector: Some(labels::crm_selector(&shop.owner.name)),
        services: services
            .into_iter()
            .map(|running| ServiceStatus {
                name: running.service.name().to_owned(),
                desired: running.desired,
                ready: running.rollout.map_or(0, |rollout| rollout.ready),
                image: running.image,
            })
            .collect(),
    };
    if status.is(ConditionType::Ready) {
        status.version = Some(shop.version.clone());
    }
    status
}

/// The status of a shop that cannot be built: what runs goes on as it is.
#[must_use]
pub fn invalid(
    old: &OrderShopStatus,
    generation: Option<i64>,
    error: &ValidateError,
    now: &str,
) -> OrderShopStatus {
    let mut status = old.clone();
    status.observed_generation = generation;
    for (type_, holds) in [(ConditionType::Ready, false), (ConditionType::Degraded, true)] {
        let found = Found::new(holds, error.reason(), error.to_string());
        let condition = condition(old, type_, found, generation, now);
        status.conditions.retain(|other| other.type_ != type_.as_str());
        status.conditions.push(condition);
    }
    status
}

/// When a shop is looked at again that is not ready, although nothing was seen to change: soon after it came to
/// be so, then ever more seldom. `None`: it is ready.
#[must_use]
pub fn look_again(status: &OrderShopStatus, now: Timestamp) -> Option<Duration> {
    let ready =
        status.condition(ConditionType::Ready).filter(|ready| ready.status != ConditionStatus::True)?;
    let since: Timestamp = ready.last_transition_time.parse().unwrap_or(now);
    let age = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    Some((age / 2).max(trouble::WAITS_FOR_A_NODE))
}

/// Writes the status when it is not what the shop has.
pub async fn write(client: &Client, shop: &OrderShop, status: &OrderShopStatus) -> Result<bool, StatusError> {
    if shop.status.as_ref() == Some(status) {
        return Ok(false);
    }
    let api: Api<OrderShop> = Api::namespaced(client.clone(), &shop.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": OrderShop::api_version(&()),
        "kind": OrderShop::kind(&()),
        "metadata": { "uid": shop.uid() },
        "status": status,
    });
    let params = PatchParams::apply(labels::STATUS_MANAGER).force();
    match api.patch_status(&shop.name_any(), &params, &Patch::Apply(patch)).await {
        Ok(_) => Ok(true),
        // Deleted meanwhile: there is nobody left to tell.
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn condition(
    old: &OrderShopStatus,
    type_: ConditionType,
    found: Found,
    generation: Option<i64>,
    now: &str,
) -> Condition {
    let status = if found.holds { ConditionStatus::True } else { ConditionStatus::False };
    let since = old.condition(type_).filter(|old| old.status == status);
    Condition {
        type_: type_.as_str().to_owned(),
        status,
        observed_generation: generation,
        last_transition_time: since.map_or_else(|| now.to_owned(), |old| old.last_transition_time.clone()),
        reason: found.reason.to_owned(),
        message: found.message,
    }
}

fn running(shop: &ValidShop, children: &Children<Applied>) -> Vec<Running> {
    let of = |service: Service| {
        named(&children.deployments, &labels::object_name(&shop.owner.name, service.name()))
    };
    shop.services
        .iter()
        .map(|valid| {
            let deployment = of(valid.service);
            let pod = deployment.and_then(|deployment| deployment.spec.as_ref()?.template.spec.as_ref());
            let container = pod.and_then(|pod| {
                pod.containers.iter().find(|container| container.name == valid.service.name())
            });
            let rollout = deployment.map(Rollout::from);
            Running {
                service: valid.service,
                image: container.and_then(|container| container.image.clone()).unwrap_or_default(),
                // Where the operator leaves the number to an autoscaler, it is what that one said.
                desired: match (valid.autoscaling, &rollout) {
                    (Some(_), Some(rollout)) => rollout.desired,
                    _ => valid.replicas,
                },
                rollout,
            }
        })
        .collect()
}

fn degraded(shop: &ValidShop, outcome: &Outcome, redis: Option<&Rollout>, services: &[Running]) -> Found {
    let refused = outcome.failures.iter().map(|failure| (failure.reason(), failure.to_string()));
    let problems = shop.problems.iter().map(|problem| (problem.reason(), problem.to_string()));
    let troubles = outcome.troubles.iter().map(|trouble| (trouble.cause.reason(), trouble.message.clone()));
    // What is known from the pods says more than that a deadline has passed.
    let explained = |name: &str| outcome.troubles.iter().any(|trouble| trouble.component == name);
    let stuck = services
        .iter()
        .map(|running| (running.service.name(), running.rollout.as_ref()))
        .chain([(labels::REDIS, redis)])
        .filter(|(name, _)| !explained(name))
        .filter_map(|(name, rollout)| {
            Some(("RolloutFailed", format!("{name}: {}", rollout?.failure.as_ref()?)))
        });
    let all: Vec<_> = refused.chain(problems).chain(troubles).chain(stuck).collect();
    match all.first() {
        None => Found::new(false, "AsExpected", ""),
        Some((reason, _)) => Found::new(true, reason, join(all.iter().map(|(_, message)| message.clone()))),
    }
}

fn available(redis_ready: &Found, services: &[Running]) -> Found {
    let missing: Vec<_> =
        services.iter().filter(|running| !running.is_available()).map(Running::progress).collect();
    match (redis_ready.holds, missing.is_empty()) {
        (true, true) => Found::new(true, "Available", ""),
        (false, _) => Found::new(false, "RedisNotReady", redis_ready.message.clone()),
        (true, false) => Found::new(false, "ServicesUnavailable", join(missing)),
    }
}

fn progressing(owner: &Owner, outcome: &Outcome, redis: Option<&Rollout>, services: &[Running]) -> Found {
    let rolling = |rollout: Option<&Rollout>| rollout.is_some_and(|rollout| rollout.rolling);
    let redis = redis.filter(|redis| redis.rolling).map(|redis| format!("redis: {}", redis.progress()));
    let services = services.iter().filter(|running| rolling(running.rollout.as_ref())).map(Running::progress);
    let held = waiting(owner, outcome);
    let waits = !held.is_empty();
    let all: Vec<_> = redis.into_iter().chain(services).chain(held).collect();
    match (all.is_empty(), waits) {
        (true, _) => Found::new(false, "Complete", ""),
        (false, true) => Found::new(true, "Waiting", join(all)),
        (false, false) => Found::new(true, "RollingOut", join(all)),
    }
}

fn ready(
    owner: &Owner,
    degraded: &Found,
    progressing: &Found,
    redis_ready: &Found,
    outcome: &Outcome,
    services: &[Running],
) -> Found {
    let because = |found: &Found| Found::new(false, found.reason, found.message.clone());
    let incomplete: Vec<_> =
        services.iter().filter(|running| !running.is_complete()).map(Running::progress).collect();
    if degraded.holds {
        because(degraded)
    } else if !redis_ready.holds {
        let message = join([redis_ready.message.clone()].into_iter().chain(waiting(owner, outcome)));
        Found::new(false, "RedisNotReady", message)
    } else if progressing.holds {
        because(progressing)
    } else if !incomplete.is_empty() {
        Found::new(false, "ServicesNotReady", join(incomplete))
    } else {
        // What is said about a Redis that is ready nonetheless: its volume.
        Found::new(true, redis_ready.reason, redis_ready.message.clone())
    }
}

/// What waits, by its component and grouped by what it waits for.
fn waiting(owner: &Owner, outcome: &Outcome) -> Vec<String> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for held in &outcome.held {
        let component = labels::component(&owner.name, &held.name);
        match groups.iter_mut().find(|(reason, _)| *reason == held.reason) {
            // A component has objects of several kinds.
            Some((_, names)) if names.contains(&component) => {}
            Some((_, names)) => names.push(component),
            None => groups.push((&held.reason, vec![component])),
        }
    }
    groups.into_iter().map(|(reason, names)| format!("{}: {reason}", names.join(", "))).collect()
}

/// The host of the Ingress, when it has one that is a host's name.
fn ingress_url(shop: &ValidShop) -> Option<String> {
    let ingress = shop.ingress.as_ref()?;
    let host = ingress.host.as_ref().filter(|host| !host.starts_with('*'))?;
    let scheme = if ingress.tls_secret.is_some() { "https" } else { "http" };
    Some(format!("{scheme}://{host}"))
}

/// The load balancer's address once it has one, the Service's name inside the cluster otherwise.
fn url(owner: &Owner, children: &Children<Applied>) -> Option<String> {
    let name = labels::object_name(&owner.name, Service::Gateway.name());
    let service = named(&children.services, &name)?;
    let ingress =
        service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref()?.first());
    let address = ingress.and_then(|ingress| ingress.hostname.clone().or_else(|| ingress.ip.clone()));
    Some(match address {
        Some(address) if address.contains(':') => format!("http://[{address}]"),
        Some(address) => format!("http://{address}"),
        None => format!("http://{name}.{}.svc", owner.namespace),
    })
}

fn join(messages: impl IntoIterator<Item = String>) -> String {
    messages.into_iter().collect::<Vec<_>>().join("; ")
}

mod hibernation;
mod redis;

#[cfg(test)]
mod tests;
