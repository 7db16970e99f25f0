//! Whether a shop's status is right at every moment: all its versions are read while something goes on, and each
//! is judged by itself and beside the one before it.

use super::SERVICES;
use super::shop::Shop;
use super::status::condition;
use anyhow::{Context, Result, bail, ensure};
use futures_util::TryStreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DynamicObject, ListParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde_json::Value;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// How long the status may lag behind the Deployments before it is wrong.
const LAG: Duration = Duration::from_secs(5);
const CONDITIONS: [&str; 6] = ["Ready", "Available", "Progressing", "Degraded", "RedisReady", "Paused"];

/// Reads every version of a shop from now on. Ends with its drop.
pub struct Sampler {
    seen: Arc<Mutex<Vec<Value>>>,
    wrong: Arc<Mutex<Option<String>>>,
    tasks: Vec<AbortHandle>,
}

impl Sampler {
    /// Begins.
    #[must_use]
    pub fn start(shop: &Shop) -> Self {
        let (seen, wrong) = (Arc::default(), Arc::default());
        let versions = tokio::spawn(collect(shop.order_shops(), Arc::clone(&seen)));
        let truth = tokio::spawn(compare(shop.order_shops(), shop.objects(), Arc::clone(&wrong)));
        Self { seen, wrong, tasks: vec![versions.abort_handle(), truth.abort_handle()] }
    }

    /// Judges what was seen; how many versions that were.
    pub fn judge(self) -> Result<usize> {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        judge(&seen)?;
        if let Some(wrong) = self.wrong.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bail!("{wrong}");
        }
        Ok(seen.len())
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

async fn collect(shops: Api<DynamicObject>, seen: Arc<Mutex<Vec<Value>>>) {
    let mut versions = pin!(watcher(shops, watcher::Config::default()).default_backoff().applied_objects());
    loop {
        // A watch that was interrupted is begun again by the next call.
        if let Ok(Some(version)) = versions.try_next().await {
            let generation = version.metadata.generation;
            let mut version = version.data;
            version["generation"] = generation.into();
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(version);
        }
    }
}

/// Looks at the Deployments themselves beside what the status says about them.
async fn compare(shops: Api<DynamicObject>, deployments: Api<Deployment>, wrong: Arc<Mutex<Option<String>>>) {
    let mut since: Option<Instant> = None;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let params = ListParams::default().labels("app.kubernetes.io/part-of=ordershop");
        let (Ok(below), Ok(shops)) = (
            deployments.list(&params).await.map(|list| list.items.into_iter().find(is_below)),
            shops.list(&ListParams::default()).await,
        ) else {
            continue;
        };
        let ready = |shop: &DynamicObject| {
            let condition = condition(&shop.data["status"], "Ready");
            condition.is_some_and(|it| {
                it["status"] == "True" && it["observedGeneration"] == shop.metadata.generation.unwrap_or(0)
            })
        };
        let Some(below) = below.filter(|_| shops.iter().any(ready)) else {
            since = None;
            continue;
        };
        if since.get_or_insert_with(Instant::now).elapsed() > LAG {
            let text = format!("Ready is True although {} is not: {:?}", below.name_any(), below.status);
            wrong.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
        }
    }
}

fn is_below(deployment: &Deployment) -> bool {
    let desired = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    status.available_replicas.unwrap_or(0) < desired || status.updated_replicas.unwrap_or(0) < desired
}

fn judge(versions: &[Value]) -> Result<()> {
    for version in versions.iter().filter(|version| version["status"].is_object()) {
        alone(version).with_context(|| version["status"].to_string())?;
    }
    for pair in versions.windows(2).filter(|pair| pair.iter().all(|version| version["status"].is_object())) {
        let (before, after) = (&pair[0]["status"], &pair[1]["status"]);
        beside(before, after).with_context(|| format!("{before} became {after}"))?;
    }
    Ok(())
}

fn alone(version: &Value) -> Result<()> {
    let status = &version["status"];
    let observed = status["observedGeneration"].as_i64().context("no observedGeneration")?;
    ensure!(observed <= version["generation"].as_i64().context("no generation")?, "about the future");
    let holds = |kind: &str| condition(status, kind).is_some_and(|condition| condition["status"] == "True");
    for kind in CONDITIONS {
        let found = condition(status, kind).with_context(|| format!("no condition {kind}"))?;
        ensure!(found["observedGeneration"] == observed, "{kind} is about another generation");
        ensure!(found["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{kind} has no reason");
    }
    let ready = condition(status, "Ready").context("no Ready")?;
    if ready["status"] != "True" {
        ensure!(ready["message"].as_str().is_some_and(|it| !it.is_empty()), "not Ready, and nobody says why");
        return Ok(());
    }
    ensure!(holds("Available") && holds("RedisReady"), "Ready, but not available");
    ensure!(!holds("Progressing") && !holds("Degraded"), "Ready, but not done");
    let services = status["services"].as_array().context("no services")?;
    ensure!(services.len() == SERVICES.len(), "{} services", services.len());
    for service in services {
        ensure!(service["ready"].as_i64() >= service["desired"].as_i64(), "Ready, but {service} is not");
        ensure!(service["image"].as_str().is_some_and(|image| !image.is_empty()), "{service} has no image");
    }
    Ok(())
}

fn beside(before: &Value, after: &Value) -> Result<()> {
    let generation = |status: &Value| status["observedGeneration"].as_i64();
    ensure!(generation(before) <= generation(after), "the generation went back");
    for kind in CONDITIONS {
        let (Some(before), Some(after)) = (condition(before, kind), condition(after, kind)) else { continue };
        let time = |condition: &Value| condition["lastTransitionTime"].as_str().map(str::to_owned);
        if before["status"] == after["status"] {
            ensure!(time(before) == time(after), "{kind} has a new time without a transition");
        } else {
            ensure!(time(before) <= time(after), "{kind} went back in time");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A version of a shop that is ready at this time, after `edit`.
    fn version(time: &str, edit: impl FnOnce(&mut Value)) -> Value {
        let conditions = CONDITIONS.map(|kind| {
            let holds = ["Ready", "Available", "RedisReady"].contains(&kind);
            json!({"type": kind, "status": if holds { "True" } else { "False" }, "reason": "R", "message": "m",
                "observedGeneration": 2, "lastTransitionTime": time})
        });
        let services = SERVICES.map(|name| json!({"name": name, "desired": 1, "ready": 1, "image": "i"}));
        let mut version = json!({"generation": 2,
            "status": {"observedGeneration": 2, "conditions": conditions, "services": services}});
        edit(&mut version);
        version
    }

    #[test]
    fn a_status_that_contradicts_itself_is_found() {
        judge(&[json!({"generation": 1}), version("1", |_| ())]).unwrap();
        let wrong: [fn(&mut Value); 6] = [
            |it| it["status"]["services"][3]["ready"] = json!(0),
            |it| it["status"]["conditions"][2]["status"] = json!("True"),
            |it| it["status"]["conditions"][4]["observedGeneration"] = json!(1),
            |it| it["status"]["observedGeneration"] = json!(3),
            |it| it["status"]["conditions"][0]["reason"] = json!(""),
            |it| drop(it["status"]["conditions"].as_array_mut().map(Vec::pop)),
        ];
        for edit in wrong {
            let version = version("1", edit);
            assert!(judge(std::slice::from_ref(&version)).is_err(), "{version}");
        }
    }

    #[test]
    fn a_transition_has_a_new_time_and_nothing_else_has() {
        let paused = |it: &mut Value| it["status"]["conditions"][5]["status"] = json!("True");
        assert!(judge(&[version("1", |_| ()), version("2", |_| ())]).is_err());
        judge(&[version("1", |_| ()), version("1", paused)]).unwrap();
        assert!(judge(&[version("2", |_| ()), version("1", paused)]).is_err());
    }
}
