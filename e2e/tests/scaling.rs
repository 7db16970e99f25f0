//! Autoscaling and disruption budgets on a real cluster.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{SHOP, SOON, Shop, condition, with_shared_shop};
use e2e::deadline::eventually;
use e2e::redis::Cli;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;

/// Long enough for a reconcile and for its echo.
const QUIET: Duration = Duration::from_secs(3);

/// What each group reads, as the operator tells it to KEDA.
const GROUPS: [(&str, &[&str]); 5] = [
    ("inventory", &["order_created", "order_updated", "order_deleted"]),
    ("order", &["inventory_reserved", "inventory_rejected", "billing_created", "billing_deleted"]),
    ("billing", &["order_updated", "billing_created"]),
    ("crm", &["customer_created", "customer_deleted", "order_updated"]),
    ("notification", &["mail_requested"]),
];

async fn autoscaling(shop: &Shop, service: &str, autoscaling: Value) -> Result<()> {
    shop.patch(json!({"spec": {"services": {service: {"autoscaling": autoscaling}}}})).await.map(drop)
}

async fn replicas(shop: &Shop, name: &str) -> Result<Option<i32>> {
    Ok(shop.objects::<Deployment>().get(name).await?.spec.and_then(|spec| spec.replicas))
}

#[tokio::test]
async fn an_autoscaler_comes_with_a_budget_and_has_the_last_word_on_replicas_until_it_goes() -> Result<()> {
    with_shared_shop(async |shop| {
        let name = format!("{SHOP}-gateway");
        autoscaling(shop, "gateway", json!({"maxReplicas": 3})).await?;
        let outcome = scaled_by_cpu(shop, &name).await;
        autoscaling(shop, "gateway", Value::Null).await?;
        outcome?;
        eventually("the autoscaler, its budget and its replicas are gone", SOON, async || {
            ensure!(
                shop.objects::<HorizontalPodAutoscaler>().get_opt(&name).await?.is_none(),
                "the autoscaler"
            );
            ensure!(shop.objects::<PodDisruptionBudget>().get_opt(&name).await?.is_none(), "the budget");
            ensure!(replicas(shop, &name).await? == Some(1), "the replicas");
            Ok(())
        })
        .await
    })
    .await
}

async fn scaled_by_cpu(shop: &Shop, name: &str) -> Result<()> {
    eventually("an autoscaler and a budget", SOON, async || {
        let autoscaler = shop.objects::<HorizontalPodAutoscaler>().get(name).await?;
        let spec = autoscaler.spec.context("no spec")?;
        ensure!((spec.min_replicas, spec.max_replicas) == (Some(1), 3), "{spec:?}");
        shop.objects::<PodDisruptionBudget>().get(name).await.map(drop).context("no budget")
    })
    .await?;
    // As the autoscaler does it, which has no measurements here.
    let scale = Patch::Merge(json!({"spec": {"replicas": 2}}));
    shop.objects::<Deployment>().patch_scale(name, &PatchParams::default(), &scale).await?;
    shop.quiet(QUIET, SOON).await?;
    ensure!(replicas(shop, name).await? == Some(2), "the operator took the autoscaler's replicas back");
    Ok(())
}

#[tokio::test]
async fn without_keda_a_shop_that_asks_for_it_says_so_and_is_well_when_it_no_longer_does() -> Result<()> {
    with_shared_shop(async |shop| {
        autoscaling(shop, "crm", json!({"maxReplicas": 3})).await?;
        let told = condition_becomes(shop, "Degraded", |degraded| {
            degraded["reason"] == "KindNotInstalled" && degraded["message"].to_string().contains("KEDA")
        })
        .await;
        autoscaling(shop, "crm", Value::Null).await?;
        told?;
        condition_becomes(shop, "Degraded", |degraded| degraded["status"] == "False").await
    })
    .await
}

async fn condition_becomes(shop: &Shop, kind: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
    eventually(kind, SOON, async || {
        let status = shop.get().await?.data["status"].clone();
        ensure!(condition(&status, kind).is_some_and(&wanted), "{status:#}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_streams_that_lag_is_looked_at_are_those_that_the_groups_read() -> Result<()> {
    with_shared_shop(async |shop| {
        for (group, streams) in GROUPS {
            for stream in streams {
                let groups = shop.run(&["--json", "XINFO", "GROUPS", &format!("events:{stream}")]).await?;
                ensure!(groups.contains(&format!("\"{group}\"")), "{group} does not read {stream}: {groups}");
            }
        }
        Ok(())
    })
    .await
}
