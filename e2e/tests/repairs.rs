//! Drift on the real cluster: what is deleted or edited is repaired in time, what is others' stays theirs. The operator is
//! a process of this machine here; the cluster's own is put aside, so these run alone.

use anyhow::{Context, Result, bail, ensure};
use e2e::cluster::{Operator, READY_WITHIN, SERVICES, SHOP, SOON, Shop, condition, with_own_operators};
use e2e::deadline::eventually;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Long enough for a reconcile and for its echo.
const QUIET: Duration = Duration::from_secs(5);
/// A Deployment that the operator makes.
const CRM: &str = "shop-crm";

#[tokio::test]
#[ignore = "full: takes the cluster's operator away; a hundred trials"]
async fn a_deleted_or_edited_child_is_repaired_in_less_than_two_seconds() -> Result<()> {
    const TRIALS: usize = 100;
    with_own_operators("drift", async |shop| {
        let operator = Operator::start(shop, "only", None).await?;
        operator.leads(SOON).await?;
        shop.apply_without_services().await?;
        shop.ready(READY_WITHIN).await?;
        let mut times = Vec::new();
        for trial in 0..TRIALS {
            let service = SERVICES[trial % SERVICES.len()];
            times.push(drift(shop, service, trial % 4).await.with_context(|| format!("trial {trial}"))?);
        }
        times.sort();
        let at = |percent: usize| times[(TRIALS * percent).div_ceil(100) - 1].as_secs_f64();
        let line = format!(
            "{TRIALS} repairs: min {:.2} s, median {:.2} s, p99 {:.2} s, max {:.2} s",
            times[0].as_secs_f64(),
            at(50),
            at(99),
            at(100)
        );
        println!("{line}");
        ensure!(at(99) < 2.0, "{line}");
        Ok(())
    })
    .await
}

/// One thing goes wrong; how long until it is right again.
async fn drift(shop: &Shop, service: &str, kind: usize) -> Result<Duration> {
    let name = format!("{SHOP}-{service}");
    let deployments: Api<Deployment> = shop.objects();
    let patch =
        async |patch: Value| deployments.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
    let begin;
    match kind {
        0 => {
            let accounts: Api<ServiceAccount> = shop.objects();
            let old = accounts.get(&name).await?.uid();
            accounts.delete(&name, &DeleteParams::default()).await?;
            begin = Instant::now();
            soon(async || Ok(accounts.get_opt(&name).await?.is_some_and(|it| it.uid() != old))).await?;
        }
        1 => {
            patch(json!({"spec": {"replicas": 1}})).await?;
            begin = Instant::now();
            let replicas =
                async || anyhow::Ok(deployments.get(&name).await?.spec.and_then(|spec| spec.replicas));
            soon(async || Ok(replicas().await? == Some(0))).await?;
        }
        2 => {
            patch(json!({"metadata": {"labels": {"app.kubernetes.io/part-of": null}}})).await?;
            begin = Instant::now();
            let label = "app.kubernetes.io/part-of";
            soon(async || Ok(deployments.get(&name).await?.labels().contains_key(label))).await?;
        }
        _ => {
            let old = deployments.get(&name).await?.uid();
            deployments.delete(&name, &DeleteParams::background()).await?;
            begin = Instant::now();
            soon(async || Ok(deployments.get_opt(&name).await?.is_some_and(|it| it.uid() != old))).await?;
        }
    }
    Ok(begin.elapsed())
}

/// Looks more often than `eventually`, since it is about time.
async fn soon(mut right: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !right().await? {
        if begin.elapsed() > SOON {
            bail!("not repaired within {SOON:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// What others say about a child stays: an autoscaler's and a user's fields are theirs.
#[tokio::test]
#[ignore = "full: takes the cluster's operator away"]
async fn what_other_managers_add_stays_and_what_is_not_ours_is_not_taken_over() -> Result<()> {
    with_own_operators("others", async |shop| {
        let operator = Operator::start(shop, "only", None).await?;
        operator.leads(SOON).await?;
        let foreign: Service = serde_json::from_value(json!({
            "metadata": {"name": "shop-order"},
            "spec": {"ports": [{"port": 1}], "selector": {"app": "else"}},
        }))?;
        let services: Api<Service> = shop.objects();
        let foreign = services.create(&PostParams::default(), &foreign).await?;
        shop.apply_without_services().await?;
        eventually("the name conflict is reported", SOON, async || {
            let status = shop.get().await?.data["status"].clone();
            let degraded = condition(&status, "Degraded").context("no condition yet")?;
            ensure!(degraded["status"] == "True" && degraded["reason"] == "NameConflict", "{degraded}");
            Ok(())
        })
        .await?;
        ensure!(services.get("shop-order").await?.spec == foreign.spec, "somebody else's Service was changed");
        services.delete("shop-order", &DeleteParams::default()).await?;
        shop.ready(READY_WITHIN).await?;

        let deployments: Api<Deployment> = shop.objects();
        let theirs = json!({
            "metadata": {"annotations": {"example.com/note": "mine"}},
            "spec": {"minReadySeconds": 1, "template": {"metadata": {"annotations": {"example.com/restart": "1"}}}},
        });
        deployments.patch(CRM, &PatchParams::default(), &Patch::Merge(theirs)).await?;
        let left_over: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "shop-notes"}}))?;
        shop.objects::<ConfigMap>().create(&PostParams::default(), &left_over).await?;
        // A change of ours beside theirs.
        shop.patch(json!({"spec": {"services": {"crm": {"image": "example.com/crm:2"}}}})).await?;
        eventually("the change is applied", SOON, async || {
            let spec = shop.deployment("crm").await?.spec.unwrap_or_default();
            let pod = spec.template.spec.context("no pod")?;
            ensure!(pod.containers[0].image.as_deref() == Some("example.com/crm:2"), "{pod:?}");
            Ok(())
        })
        .await?;
        shop.quiet(QUIET, SOON).await?;
        let crm = shop.deployment("crm").await?;
        ensure!(crm.annotations().get("example.com/note").is_some_and(|it| it == "mine"), "{:?}", crm.metadata);
        let spec = crm.spec.unwrap_or_default();
        ensure!(spec.min_ready_seconds == Some(1), "a field that the operator does not set was removed");
        let annotations = spec.template.metadata.and_then(|metadata| metadata.annotations).unwrap_or_default();
        ensure!(annotations.contains_key("example.com/restart"), "{annotations:?}");
        shop.objects::<ConfigMap>().get("shop-notes").await.context("somebody else's ConfigMap")?;
        Ok(())
    })
    .await
}
