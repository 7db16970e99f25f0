//! What the status says about Redis, pure.

use super::{Found, Running};
use crate::controller::{
    children::{Applied, Children, named},
    labels,
    outcome::Outcome,
    rollout::Rollout,
    validate::{Owner, ValidShop},
    volume::{self, Volume},
};

/// How far the Redis is that the operator makes.
pub(super) fn rollout(owner: &Owner, children: &Children<Applied>) -> Option<Rollout> {
    named(&children.stateful_sets, &labels::object_name(&owner.name, labels::REDIS)).map(Rollout::from)
}

/// What is said about Redis' volume: a claim that grows, or cannot.
pub(super) fn volume(shop: &ValidShop, outcome: &Outcome) -> Volume {
    let claim = outcome.children.volume_claims.first();
    Volume {
        has: claim.and_then(volume::capacity).map(|size| size.0.clone()),
        wanted: shop.redis.storage_size.as_str().to_owned(),
        refused: outcome.volume_refused.clone(),
    }
}

/// Whether the Redis that the operator made answers.
pub(super) fn ready(redis: Option<&Rollout>, volume: Option<String>) -> Found {
    match redis {
        None => Found::new(false, "NotCreated", "redis: not created yet"),
        Some(redis) if redis.is_complete() => match volume {
            Some(note) => Found::new(true, "VolumeNotGrown", note),
            None => Found::new(true, "Ready", ""),
        },
        Some(redis) if redis.rolling => {
            Found::new(false, "Starting", format!("redis: starting, {}", redis.progress()))
        }
        Some(redis) => Found::new(false, "NotReady", format!("redis: {}", redis.progress())),
    }
}

/// The operator never talks to a Redis: whether somebody else's answers is known by the services, which are ready
/// only while it does.
pub(super) fn external(services: &[Running]) -> Found {
    let users = || services.iter().filter(|running| running.service.uses_redis());
    if users().any(|running| running.rollout.as_ref().is_some_and(|rollout| rollout.available > 0)) {
        Found::new(true, "Ready", "")
    } else if users().all(|running| running.desired == 0) {
        Found::new(
            false,
            "ExternalUnknown",
            "redis: external, and no service runs that could tell whether it answers",
        )
    } else {
        Found::new(false, "ExternalNotReached", "redis: external, no service reaches it yet")
    }
}
