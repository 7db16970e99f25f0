//! A node that is drained, under traffic.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{READY_WITHIN, SERVICES, SOON, Shop, client, with_shop};
use e2e::deadline::eventually;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{EvictParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::time::Duration;

/// Evictions wait for each other's replacements.
const DRAINED_WITHIN: Duration = Duration::from_mins(6);

#[tokio::test]
#[ignore = "full: needs two workers, and empties one"]
async fn a_worker_drained_under_traffic_loses_no_request_and_no_event() -> Result<()> {
    with_shop("drain", async |shop| {
        let twice = |replicas: u32| json!({"replicas": replicas});
        shop.patch(json!({"spec": {
            "gateway": {"service": {"type": "NodePort"}},
            "services": {
                "gateway": twice(2), "customer": twice(2), "product": twice(2), "inventory": twice(2),
                "order": twice(2), "billing": twice(2), "readModel": twice(2),
            },
        }}))
        .await?;
        shop.ready(READY_WITHIN).await?;

        let client = client().await?;
        let node = worker_without_redis(&client, shop).await?;
        let there = on_node(shop, &node).await?.len();
        ensure!(there >= SERVICES.len() / 2, "only {there} pods on {node}: the pods are not spread");
        let traffic = shop.traffic(&shop.node_url().await?).await?;
        let drained = drain(&client, shop, &node).await;
        let counts = traffic.end().await?;
        schedulable(&client, &node, true).await?;
        drained?;

        println!(
            "{there} pods left {node}: {} writes and {} reads answered, {} lost",
            counts.created.len(),
            counts.reads,
            counts.lost.len()
        );
        ensure!(counts.lost.is_empty(), "{:#?}", counts.lost);
        ensure!(counts.created.len() > 50 && counts.reads > 50, "too little traffic to say anything");
        shop.welcomed_once(&counts.created, SOON).await
    })
    .await
}

/// Redis' volume is bound to its node, as local disks are: that node is left alone.
async fn worker_without_redis(client: &Client, shop: &Shop) -> Result<String> {
    let redis = shop.pods(&Shop::selector("redis")).await?;
    let with_redis = redis.into_iter().find_map(|pod| pod.spec?.node_name).context("Redis runs nowhere")?;
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    let workers: Vec<_> = nodes
        .iter()
        .filter(|node| !node.labels().contains_key("node-role.kubernetes.io/control-plane"))
        .map(ResourceExt::name_any)
        .collect();
    ensure!(
        workers.len() >= 2,
        "a drain needs two workers, there are {workers:?}: `cargo xtask down`, then `cargo xtask up --workers 2`"
    );
    workers.into_iter().find(|name| *name != with_redis).context("Redis runs on all workers")
}

async fn on_node(shop: &Shop, node: &str) -> Result<Vec<Pod>> {
    let mut pods = shop.pods("app.kubernetes.io/part-of=ordershop").await?;
    pods.retain(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref() == Some(node)));
    Ok(pods)
}

/// As `kubectl drain` does it: no new pods, then evictions, which the budgets may put off.
async fn drain(client: &Client, shop: &Shop, node: &str) -> Result<()> {
    schedulable(client, node, false).await?;
    let pods = shop.objects::<Pod>();
    eventually("the node is drained", DRAINED_WITHIN, async || {
        let there = on_node(shop, node).await?;
        for pod in there.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            // Refused while the budget is used up: it is asked again.
            let _ = pods.evict(&pod.name_any(), &EvictParams::default()).await;
        }
        ensure!(there.is_empty(), "{} pods are left", there.len());
        Ok(())
    })
    .await?;
    shop.ready(READY_WITHIN).await.map(drop)
}

async fn schedulable(client: &Client, node: &str, yes: bool) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": {"unschedulable": !yes}}));
    Api::<Node>::all(client.clone()).patch(node, &PatchParams::default(), &patch).await?;
    Ok(())
}
