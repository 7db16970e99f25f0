//! Rollouts: what they say about themselves while they last, and what they cost those who use the shop.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{READY_WITHIN, SOON, Sampler, Shop, condition, with_shared_shop, with_shop};
use e2e::deadline::eventually;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[tokio::test]
async fn a_bad_image_is_named_by_the_status_and_its_fix_is_not_held_up() -> Result<()> {
    with_shared_shop(async |shop| {
        let sampler = Sampler::start(shop);
        let before = pods(shop).await?;
        let crm = |image: Value| json!({"spec": {"services": {"crm": {"image": image}}}});
        shop.patch(crm(json!("localhost/nowhere/crm:1"))).await?;
        let outcome = eventually("the status names the image", SOON, async || {
            let status = shop.get().await?.data["status"].clone();
            let degraded = condition(&status, "Degraded").context("no condition")?;
            ensure!(degraded["status"] == "True" && degraded["reason"] == "ImageNotPulled", "{degraded}");
            let message = degraded["message"].as_str().unwrap_or_default();
            ensure!(
                message.contains("crm: image") && message.contains("localhost/nowhere/crm:1"),
                "{message}"
            );
            ensure!(condition(&status, "Available").is_some_and(|it| it["status"] == "True"), "{status}");
            Ok(())
        })
        .await;
        shop.patch(crm(Value::Null)).await?;
        shop.ready(READY_WITHIN).await?;
        outcome?;
        ensure!(pods(shop).await? == before, "what did not change was rolled, or the old pods did not stay");
        println!("{} versions of the status, all of them right", sampler.judge()?);
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "full: a whole shop is rolled under traffic"]
async fn a_version_upgrade_under_traffic_loses_no_request_and_no_event() -> Result<()> {
    with_shop("upgrade", async |shop| {
        shop.patch(json!({"spec": {"gateway": {"service": {"type": "NodePort"}}}})).await?;
        shop.ready(READY_WITHIN).await?;
        let next = shop.another_version().await?;
        let traffic = shop.traffic(&shop.node_url().await?).await?;
        let sampler = Sampler::start(shop);
        let before = pods(shop).await?;

        shop.patch(json!({"spec": {"version": next}})).await?;
        let mut order = Vec::new();
        eventually("every service runs the new version", READY_WITHIN, async || {
            for (service, pods) in pods(shop).await? {
                let rolled = !order.contains(&service) && before.get(&service) != Some(&pods);
                if rolled {
                    order.push(service);
                }
            }
            let shop = shop.get().await?;
            let version = shop.data["status"]["version"].as_str().unwrap_or_default().to_owned();
            ensure!(version == next, "{version}, rolled so far: {order:?}");
            Ok(())
        })
        .await?;
        let took = shop.ready(READY_WITHIN).await?;
        let counts = traffic.end().await?;
        println!(
            "{} writes and {} reads answered, {} lost; {} versions of the status; gateway last: {:?}",
            counts.created.len(),
            counts.reads,
            counts.lost.len(),
            sampler.judge()?,
            took
        );
        ensure!(counts.lost.is_empty(), "{:#?}", counts.lost);
        ensure!(counts.created.len() > 50 && counts.reads > 50, "too little traffic to say anything");
        ensure!(order.last().is_some_and(|last| last == "gateway"), "the gateway rolls last: {order:?}");
        ensure!(!order.contains(&"redis".to_owned()), "Redis did not change, and was rolled: {order:?}");

        shop.welcomed_once(&counts.created, SOON).await
    })
    .await
}

#[tokio::test]
#[ignore = "full: services are rolled one by one"]
async fn a_change_rolls_just_what_uses_it() -> Result<()> {
    with_shop("uses", async |shop| {
        let before = pods(shop).await?;
        let limit = json!({"resources": {"limits": {"memory": "200Mi"}}});
        shop.patch(json!({"spec": {"services": {"billing": limit}}})).await?;
        shop.ready(READY_WITHIN).await?;
        ensure!(rolled(&before, &pods(shop).await?) == ["billing"], "more than billing was rolled");

        let before = pods(shop).await?;
        let secret = |url: &str| {
            serde_json::from_value(json!({"metadata": {"name": "smtp"}, "stringData": {"url": url}}))
        };
        let secrets = shop.objects::<k8s_openapi::api::core::v1::Secret>();
        secrets.create(&kube::api::PostParams::default(), &secret("smtp://one.test:25")?).await?;
        shop.patch(json!({"spec": {"mail": {"smtpSecret": {"name": "smtp"}}}})).await?;
        shop.ready(READY_WITHIN).await?;
        ensure!(rolled(&before, &pods(shop).await?) == ["notification"], "more than notification was rolled");

        let before = pods(shop).await?;
        let patch = kube::api::Patch::Merge(json!({"stringData": {"url": "smtp://two.test:25"}}));
        secrets.patch("smtp", &kube::api::PatchParams::default(), &patch).await?;
        // Secrets are not watched: they are looked at every half minute.
        eventually("notification is rolled", Duration::from_mins(2), async || {
            ensure!(rolled(&before, &pods(shop).await?) == ["notification"], "not yet");
            Ok(())
        })
        .await?;
        shop.ready(READY_WITHIN).await?;
        ensure!(rolled(&before, &pods(shop).await?) == ["notification"], "more than notification was rolled");
        Ok(())
    })
    .await
}

/// The pods of each component that are there to stay.
async fn pods(shop: &Shop) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for pod in shop.pods("app.kubernetes.io/part-of=ordershop").await? {
        let labels = pod.metadata.labels.unwrap_or_default();
        let component = labels.get("app.kubernetes.io/component").context("a pod of no component")?.clone();
        if pod.metadata.deletion_timestamp.is_none() {
            all.entry(component).or_default().insert(pod.metadata.uid.unwrap_or_default());
        }
    }
    Ok(all)
}

fn rolled(
    before: &BTreeMap<String, BTreeSet<String>>,
    after: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<String> {
    before.keys().filter(|component| before.get(*component) != after.get(*component)).cloned().collect()
}
