//! The operator's life: who leads when a leader is killed, stopped or cut off, and how it does with a thousand
//! shops. Operators are processes of this machine here; the cluster's own is put aside, so these run alone.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Children, Operator, Proxy, READY_WITHIN, SOON, Shop, with_own_operators};
use e2e::deadline::eventually;
use futures_util::future::try_join_all;
use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
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
