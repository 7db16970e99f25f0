//! Doing one fault to a shop on a cluster, and undoing it. Each waits until it is sure that the fault was there.

use super::nodes::{Engine, stop_kubelet};
use crate::cluster::{OPERATOR_NAMESPACE, READY_WITHIN, SOON, Shop, client};
use crate::deadline::eventually;
use anyhow::{Context, Result, bail, ensure};
use faults::history::Poison;
use faults::schedule::{Fault, OnCluster};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use std::time::Duration;

const OPERATOR: &str = "app.kubernetes.io/name=ordershop-operator";
const NOWHERE: &str = "localhost/ordershop/nothing:broken";

pub(super) async fn one(shop: &Shop, engine: Option<&Engine>, fault: &Fault) -> Result<Vec<Poison>> {
    let Fault::OnCluster(fault) = fault else { bail!("this fault needs nine processes") };
    match fault {
        OnCluster::PodDeleted { component, at_once } => delete_pod(shop, component, *at_once).await?,
        OnCluster::OperatorKilled { service } => kill_operator(shop, service).await?,
        OnCluster::BrokenImage { service, ms } => {
            break_image(shop, service, Duration::from_millis(*ms)).await?;
        }
        OnCluster::Scaled { to } => scale(shop, *to).await?,
        OnCluster::KubeletStopped { seconds } => {
            stop_kubelet(shop, engine, Duration::from_secs(*seconds)).await?;
        }
    }
    Ok(Vec::new())
}

async fn delete_pod(shop: &Shop, component: &str, at_once: bool) -> Result<()> {
    let pods = shop.pods(&Shop::selector(component)).await?;
    let pod = pods.first().with_context(|| format!("{component} has no pod"))?;
    let how = if at_once { DeleteParams::default().grace_period(0) } else { DeleteParams::default() };
    shop.objects::<Pod>().delete(&pod.name_any(), &how).await?;
    Ok(())
}

/// What the spec says about one service.
fn of_service(service: &str, says: &Value) -> Value {
    let field = if service == "read-model" { "readModel" } else { service };
    json!({"spec": {"services": {field: says}}})
}

/// The operator's next pod, or its other one, must bring the rollout to its end.
async fn kill_operator(shop: &Shop, service: &str) -> Result<()> {
    let operators: Api<Pod> = Api::namespaced(client().await?, OPERATOR_NAMESPACE);
    let running = operators.list(&ListParams::default().labels(OPERATOR)).await?;
    ensure!(!running.items.is_empty(), "no pod of an operator in {OPERATOR_NAMESPACE}");
    let before = shop.deployment(service).await?.metadata.generation;
    let asked = shop.get().await?.metadata.generation.unwrap_or(0);
    // As much memory as never before: a template that no pod has.
    let memory = format!("{}Ki", 24 * 1024 + asked);
    shop.patch(of_service(service, &json!({"resources": {"requests": {"cpu": "20m", "memory": memory}}})))
        .await?;
    eventually("the rollout begins", SOON, async || {
        ensure!(shop.deployment(service).await?.metadata.generation != before, "not yet");
        Ok(())
    })
    .await?;
    for pod in running {
        operators.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;
    }
    shop.ready(READY_WITHIN).await.map(drop)
}

async fn break_image(shop: &Shop, service: &str, time: Duration) -> Result<()> {
    shop.patch(of_service(service, &json!({"image": NOWHERE}))).await?;
    let broken = eventually("a pod without its image", SOON, async || {
        let pods = shop.pods(&Shop::selector(service)).await?;
        ensure!(pods.iter().any(lacks_image), "none of {}", pods.len());
        Ok(())
    })
    .await;
    if broken.is_ok() {
        tokio::time::sleep(time).await;
    }
    shop.patch(of_service(service, &json!({"image": null}))).await?;
    broken?;
    shop.ready(READY_WITHIN).await.map(drop)
}

fn lacks_image(pod: &Pod) -> bool {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut reasons =
        containers.filter_map(|container| container.state.as_ref()?.waiting.as_ref()?.reason.clone());
    reasons.any(|reason| reason.contains("Image"))
}

async fn scale(shop: &Shop, to: u32) -> Result<()> {
    shop.scale(to).await?;
    let there = shop.has_replicas("crm", i32::try_from(to)?, READY_WITHIN).await;
    shop.scale(1).await?;
    there?;
    shop.has_replicas("crm", 1, SOON).await
}
