//! The operator's life: who leads when a leader is killed, stopped or cut off, and how it does with a thousand
//! shops. Operators are processes of this machine here; the cluster's own is put aside, so these run alone.

use anyhow::{Context, Result, bail, ensure};
use e2e::cluster::{
    Children, Operator, Proxy, READY_WITHIN, SERVICES, SHOP, SOON, Shop, condition, with_own_operators,
};
use e2e::deadline::eventually;
use futures_util::future::try_join_all;
use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Service, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Long enough for a reconcile and for its echo.
const QUIET: Duration = Duration::from_secs(5);
/// A Deployment whose absence asks for an operator.
const CRM: &str = "shop-crm";

/// How long it takes until somebody makes a deleted Deployment again.
async fn repaired_within(shop: &Shop, within: Duration) -> Result<Duration> {
    let deployments: Api<Deployment> = shop.objects();
    let old = deployments.get(CRM).await?.uid();
    let begin = Instant::now();
    deployments.delete(CRM, &DeleteParams::default()).await?;
    eventually("the deleted Deployment is made again", within, async || {
        ensure!(deployments.get(CRM).await?.uid() != old, "not deleted yet");
        Ok(())
    })
    .await?;
    Ok(begin.elapsed())
}

/// Two operators, the first of which leads, and a shop that is as it should be.
async fn two_operators(shop: &Shop) -> Result<(Operator, Operator, Children)> {
    let first = Operator::start(shop, "first", None).await?;
    first.leads(SOON).await?;
    let second = Operator::start(shop, "second", None).await?;
    second.says("the Lease is looked at", SOON).await?;
    shop.apply_without_services().await?;
    shop.ready(READY_WITHIN).await?;
    Ok((first, second, shop.quiet(QUIET, SOON).await?))
}

#[tokio::test]
#[ignore = "full: takes the cluster's operator away"]
async fn a_killed_leader_is_followed_within_fifteen_seconds_and_nothing_is_written_twice() -> Result<()> {
    with_own_operators("takeover", async |shop| {
        let (mut first, second, before) = two_operators(shop).await?;
        first.kill().await?;
        let took = repaired_within(shop, SOON).await?;
        println!("takeover, from SIGKILL to the first repair: {:.1} s", took.as_secs_f64());
        ensure!(took < Duration::from_secs(15), "{took:?}");
        ensure!(second.log()?.contains(r#""message":"leads""#));

        let after = shop.quiet(QUIET, SOON).await?;
        let crm = shop.deployment("crm").await?;
        ensure!(crm.metadata.generation == Some(1), "written twice: {:?}", crm.metadata);
        let touched = before.differences(&after);
        let expected = ["Deployment shop-crm", "OrderShop shop"];
        let needless: Vec<_> = touched.iter().filter(|name| !expected.contains(&name.as_str())).collect();
        ensure!(needless.is_empty(), "written without need: {needless:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "full: takes the cluster's operator away"]
async fn of_five_operators_that_start_at_once_one_leads() -> Result<()> {
    with_own_operators("race", async |shop| {
        let names = [0, 1, 2, 3, 4].map(|n| format!("replica-{n}"));
        let operators = try_join_all(names.iter().map(|name| Operator::start(shop, name, None))).await?;
        let leaders = async || {
            let mut leaders = 0.0;
            for operator in &operators {
                leaders += operator.metric("ordershop_operator_leader", "").await?;
            }
            anyhow::Ok(leaders)
        };
        eventually("somebody leads", SOON, async || {
            ensure!(leaders().await? >= 1.0, "nobody yet");
            Ok(())
        })
        .await?;
        for operator in &operators {
            operator.says("the Lease is looked at", SOON).await?;
        }
        ensure!((leaders().await? - 1.0).abs() < 0.5, "{} leaders", leaders().await?);
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "full: takes the cluster's operator away"]
async fn a_leader_that_stood_still_and_goes_on_writes_nothing() -> Result<()> {
    with_own_operators("frozen", async |shop| {
        let (mut first, mut second, _) = two_operators(shop).await?;
        first.freeze().await?;
        second.leads(SOON).await?;
        // Now nobody is left to repair what is broken but the one that must not.
        second.kill().await?;
        shop.objects::<Deployment>().delete(CRM, &DeleteParams::default()).await?;
        first.thaw().await?;
        let status = first.ended(SOON).await?;
        ensure!(!status.success(), "it ended as if it had been told to");
        ensure!(shop.objects::<Deployment>().get_opt(CRM).await?.is_none(), "it wrote: {}", first.log()?);

        let mut third = Operator::start(shop, "third", None).await?;
        third.leads(SOON).await?;
        eventually("the next one repairs it", SOON, async || shop.deployment("crm").await.map(drop)).await?;
        ensure!(third.stop().await?.success());
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "full: takes the cluster's operator away, and the API server for a minute"]
async fn an_api_server_that_is_gone_for_a_minute_is_all_that_is_lost() -> Result<()> {
    const GONE: Duration = Duration::from_mins(1);
    with_own_operators("gone", async |shop| {
        let proxy = Proxy::open().await?;
        let start = || Operator::start(shop, "only", Some(proxy.kubeconfig()));
        let mut operator = start().await?;
        operator.leads(SOON).await?;
        shop.apply_without_services().await?;
        shop.ready(READY_WITHIN).await?;

        proxy.cut();
        let cut = Instant::now();
        let mut starts = 0;
        // What the kubelet does: starts it again whenever it has ended.
        eventually("a minute has passed", GONE * 2, async || {
            if operator.has_ended()?.is_some() {
                operator = start().await?;
                starts += 1;
            }
            ensure!(cut.elapsed() >= GONE, "{:?}", cut.elapsed());
            Ok(())
        })
        .await?;
        ensure!(
            starts == 1,
            "a leader that cannot renew ends once, then its successor waits: {starts} starts"
        );
        shop.objects::<Deployment>().delete(CRM, &DeleteParams::default()).await?;
        proxy.mend();
        let back = Instant::now();
        eventually("what was deleted meanwhile is there again", SOON, async || {
            ensure!(operator.has_ended()?.is_none(), "it ended: {}", operator.log()?);
            shop.deployment("crm").await.map(drop)
        })
        .await?;
        println!("after a minute without API server: repaired {:.1} s later", back.elapsed().as_secs_f64());
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "full: takes the cluster's operator away; a thousand shops"]
async fn a_thousand_shops_are_looked_at_within_a_minute_of_a_start_and_cost_little_memory() -> Result<()> {
    const SHOPS: usize = 1000;
    const MIB: u64 = 1024 * 1024;
    with_own_operators("thousand", async |shop| {
        let mut idle = Operator::start(shop, "idle", None).await?;
        idle.leads(SOON).await?;
        let empty = idle.memory()?;
        println!("idle, no shop: {empty:?}");
        idle.stop().await?;

        let paused = json!({"paused": true});
        let make = |n: usize| {
            let paused = &paused;
            async move { shop.apply_spec(&format!("shop-{n}"), paused).await }
        };
        stream::iter(0..SHOPS).map(make).buffer_unordered(8).try_collect::<()>().await?;

        for round in ["first start", "restart"] {
            let begin = Instant::now();
            let mut operator = Operator::start(shop, "thousand", None).await?;
            eventually("all shops are reconciled", Duration::from_mins(3), async || {
                let done = operator.metric("ordershop_operator_reconciliations_total", "").await?;
                ensure!(done >= f64::from(u32::try_from(SHOPS)?), "{done} of {SHOPS}");
                Ok(())
            })
            .await?;
            let took = begin.elapsed();
            let memory = operator.memory()?;
            let writes = operator.metric("ordershop_operator_api_requests_total", r#"verb="patch""#).await?;
            println!("{SHOPS} shops, {round}: {:.1} s, {writes} writes, {memory:?}", took.as_secs_f64());
            ensure!(took < Duration::from_mins(1), "{took:?}");
            ensure!(memory.peak < 60 * MIB, "{memory:?}");
            if round == "restart" {
                ensure!(writes == 0.0, "{writes} writes although nothing differs");
                // Idle: whatever is written for ten seconds is the Lease.
                let quiet = operator.metric("ordershop_operator_api_requests_total", "").await?;
                let begin = Instant::now();
                eventually("ten seconds have passed", SOON, async || {
                    ensure!(begin.elapsed() > 2 * QUIET, "not yet");
                    Ok(())
                })
                .await?;
                let later = operator.metric("ordershop_operator_api_requests_total", "").await?;
                let leases = operator
                    .metric("ordershop_operator_api_requests_total", r#"verb="update",resource="leases""#)
                    .await?;
                println!(
                    "idle with {SHOPS} shops: {} requests in 10 s, Lease renewed {leases}×",
                    later - quiet
                );
                ensure!(later - quiet <= 8.0, "{} requests while nothing changes", later - quiet);
            }
            operator.stop().await?;
        }
        let conditions = shop.order_shops().get("shop-999").await?.data["status"]["conditions"].clone();
        ensure!(conditions.as_array().is_some_and(|all| all.len() >= 6), "{conditions}");
        ensure!(empty.resident < 15 * MIB || empty.anonymous < 15 * MIB, "{empty:?}");
        Ok(())
    })
    .await
}

/// A shop of an older schema: stored while the schema let it through.
#[tokio::test]
#[ignore = "full: takes the cluster's operator away and loosens the schema for a moment"]
async fn a_shop_of_a_schema_that_nobody_understands_does_not_stop_the_others() -> Result<()> {
    with_own_operators("broken", async |shop| {
        let operator = Operator::start(shop, "only", None).await?;
        operator.leads(SOON).await?;
        let api: Api<CustomResourceDefinition> = Api::all(e2e::cluster::client().await?);
        let strict = api.get("ordershops.ordershop.dev").await?;
        let stored = stored_by_a_loose_schema(shop, &api, &strict).await;
        let schema = json!({"spec": {"versions": serde_json::to_value(&strict.spec.versions)?}});
        api.patch(&strict.name_any(), &PatchParams::default(), &Patch::Merge(schema)).await?;
        stored?;

        shop.apply_without_services().await?;
        shop.ready(READY_WITHIN).await?;
        eventually("an Event says what is wrong with the broken one", SOON, async || {
            let events = shop.objects::<Event>().list(&ListParams::default()).await?;
            let about = |event: &Event| event.involved_object.name.as_deref() == Some("broken");
            let reasons: Vec<_> = events.iter().filter(|it| about(it)).map(|it| it.reason.clone()).collect();
            ensure!(reasons == [Some("Undecodable".to_owned())], "{reasons:?}");
            Ok(())
        })
        .await?;
        let took = repaired_within(shop, SOON).await?;
        println!("beside a broken shop, a repair takes {:.2} s", took.as_secs_f64());
        Ok(())
    })
    .await
}

async fn stored_by_a_loose_schema(
    shop: &Shop,
    api: &Api<CustomResourceDefinition>,
    strict: &CustomResourceDefinition,
) -> Result<()> {
    let mut versions = serde_json::to_value(&strict.spec.versions)?;
    for version in versions.as_array_mut().context("no versions")? {
        version["schema"] =
            json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        // The scale subresource's path must be in the schema.
        version["subresources"] = json!({"status": {}});
    }
    let loose = json!({"spec": {"versions": versions}});
    api.patch(&strict.name_any(), &PatchParams::default(), &Patch::Merge(loose)).await?;
    eventually("the loose schema is served", SOON, async || {
        shop.apply_spec("broken", &json!({"paused": "perhaps"})).await
    })
    .await
}

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
