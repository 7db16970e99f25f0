//! The status of a shop that is put to sleep, pure: nothing is wrong with it, and nothing answers.

use super::{Found, Running, join};
use crate::controller::rollout::Rollout;

/// What is still there while the shop is being stopped.
pub(super) fn stopping(redis: Option<&Rollout>, services: &[Running]) -> Vec<String> {
    let services = services.iter().map(|running| (running.service.name(), running.rollout.as_ref()));
    services
        .chain([("redis", redis)])
        .filter_map(|(name, rollout)| Some((name, rollout?)))
        .filter(|(_, rollout)| rollout.replicas > 0)
        .map(|(name, rollout)| format!("{name}: {} to stop", rollout.replicas))
        .collect()
}

/// The condition of its own name.
pub(super) fn hibernated(wanted: bool, stopping: &[String]) -> Found {
    match (wanted, stopping.is_empty()) {
        (false, _) => Found::new(false, "NotHibernated", ""),
        (true, false) => Found::new(false, "Stopping", join(stopping.iter().cloned())),
        (true, true) => {
            Found::new(true, "Hibernated", "spec.hibernated: everything is stopped, the data is kept")
        }
    }
}

/// What the conditions say that would hold of a shop that is awake.
pub(super) fn asleep() -> Found {
    Found::new(false, "Hibernated", "spec.hibernated: the services and Redis are stopped, the data is kept")
}

/// The shop is on its way to sleep until everything is stopped.
pub(super) fn progressing(stopping: Vec<String>, waiting: Vec<String>) -> Found {
    let all: Vec<_> = stopping.into_iter().chain(waiting).collect();
    if all.is_empty() {
        Found::new(false, "Complete", "")
    } else {
        Found::new(true, "Hibernating", join(all))
    }
}
