//! The operator and a whole shop on a real cluster. Each test has a shop and a namespace of its own.

use anyhow::{Context, Result, ensure};
use e2e::classic::{self, Client, Customer, Mail, Order, Product};
use e2e::cluster::{READY_WITHIN, SERVICES, SHOP, SOON, Shop, client, with_shared_shop, with_shop};
use e2e::deadline::eventually;
use e2e::redis::Cli;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const ALL_PODS: &str = "app.kubernetes.io/part-of=ordershop";
/// Long enough for a reconcile and for its echo.
const QUIET: Duration = Duration::from_secs(5);

#[tokio::test]
async fn two_lines_become_nine_services_and_redis_under_restricted_pod_security() -> Result<()> {
    with_shop("sample", async |shop| {
        for service in SERVICES {
            let status = shop.deployment(service).await?.status.unwrap_or_default();
            ensure!(status.ready_replicas == Some(1), "{service}: {status:?}");
        }
        let redis = shop.objects::<StatefulSet>().get(&format!("{SHOP}-redis")).await?;
        ensure!(redis.status.is_some_and(|status| status.ready_replicas == Some(1)), "Redis is not ready");
        ensure!(shop.pods(ALL_PODS).await?.len() == SERVICES.len() + 1);

        let status = shop.get().await?.data["status"].clone();
        let listed = status["services"].as_array().context("the status lists no services")?;
        let names: Vec<_> = listed.iter().filter_map(|service| service["name"].as_str()).collect();
        ensure!(SERVICES.iter().all(|service| names.contains(service)), "{names:?}");
        ensure!(status["url"].as_str().is_some_and(|url| url.starts_with("http")), "no URL in {status}");

        restricted_is_enforced(shop).await?;
        shop.answers(SOON).await?;
        Ok(())
    })
    .await
}

/// The namespace's promise is worth something only if it refuses a pod that breaks it.
async fn restricted_is_enforced(shop: &Shop) -> Result<()> {
    let privileged: Pod = serde_json::from_value(json!({
        "metadata": {"name": "privileged"},
        "spec": {"containers": [{"name": "x", "image": "x", "securityContext": {"privileged": true}}]},
    }))?;
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let Err(error) = shop.objects::<Pod>().create(&dry_run, &privileged).await else {
        anyhow::bail!("Pod Security `restricted` is not enforced here");
    };
    ensure!(error.to_string().contains("PodSecurity"), "{error}");
    Ok(())
}

/// As the nodes hold them: packed, as a registry sends them. A node names its fifty largest images; one that is
/// too large is among these.
#[tokio::test]
async fn each_image_of_the_services_and_of_the_operator_is_smaller_than_15_megabytes() -> Result<()> {
    const LIMIT: i64 = 15_000_000;
    with_shared_shop(async |_| {
        let mut sizes = BTreeMap::new();
        for node in Api::<Node>::all(client().await?).list(&ListParams::default()).await? {
            for image in node.status.and_then(|status| status.images).unwrap_or_default() {
                for name in image.names.unwrap_or_default() {
                    let ours = name.split_once("/ordershop-").and_then(|(_, rest)| rest.split_once(':'));
                    if let Some((program, _)) = ours.filter(|(program, _)| *program != "redis") {
                        sizes.insert(program.to_owned(), image.size_bytes.unwrap_or_default());
                    }
                }
            }
        }
        let all = SERVICES.into_iter().chain(["operator"]);
        let missing: Vec<_> = all.filter(|program| !sizes.contains_key(*program)).collect();
        ensure!(missing.is_empty(), "no node has told the size of {missing:?}: {sizes:?}");
        ensure!(sizes.values().all(|size| (1..LIMIT).contains(size)), "too large: {sizes:?}");
        println!("{sizes:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_original_clients_run_passes_and_sends_its_32_mails() -> Result<()> {
    with_shop("classic", async |shop| {
        shop.answers(SOON).await?;
        let outcome = classic::run(&shop.url().await?).await?;
        ensure!(outcome.mails.len() == 32);
        eventually("the mails of the run", SOON, async || {
            classic::compare(&outcome.mails, &shop.sent_mails().await?)
        })
        .await
    })
    .await
}

#[tokio::test]
async fn crm_away_and_back_with_three_pods_sends_every_mail_once_and_in_order() -> Result<()> {
    with_shop("crm", async |shop| {
        let client = shop.answers(SOON).await?;
        let crm = |replicas: u32| json!({"spec": {"services": {"crm": {"replicas": replicas}}}});
        shop.patch(crm(0)).await?;
        shop.has_replicas("crm", 0, SOON).await?;

        let expected = trade(&client, 5, 3).await?;
        shop.patch(crm(3)).await?;
        shop.has_replicas("crm", 3, SOON).await?;

        eventually("all mails", SOON, async || {
            classic::compare(&expected, &of_crm(shop.sent_mails().await?))
        })
        .await?;
        nothing_is_pending(shop, "crm", &["customer_created", "order_updated"]).await?;
        nothing_is_pending(shop, "notification", &["mail_requested"]).await?;
        let sent = of_crm(shop.sent_mails().await?);
        classic::compare(&expected, &sent).context("after everything was handled")?;
        classic::check_order_per_customer(&expected, &sent)
    })
    .await
}

/// Customers who order in turn, each time one product more, so that every thank-you is unlike the others.
/// The mails that crm owes them, in the order of each customer's events.
async fn trade(client: &Client, customers: usize, orders: usize) -> Result<Vec<Mail>> {
    let cup = Product { id: client.new_product("Cup", 7, 1000).await?, name: "Cup".to_owned(), price: 7.0 };
    let mut buyers = Vec::new();
    for n in 0..customers {
        let name = format!("Customer{n}");
        let id = client.new_customer(&name).await?;
        buyers.push(Customer { email: format!("{}@server.com", name.to_lowercase()), id, name });
    }
    let mut mails: Vec<Mail> = buyers.iter().map(Mail::welcome).collect();
    for n in 1..=orders {
        for buyer in &buyers {
            client.new_order(&buyer.id, &vec![cup.id.clone(); n]).await?;
            mails.push(Mail::thank_you(buyer, &vec![cup.name.clone(); n]));
        }
    }
    Ok(mails)
}

/// The mails that crm asks for, and not those of billing.
fn of_crm(mut mails: Vec<classic::ReceivedMail>) -> Vec<classic::ReceivedMail> {
    mails.retain(|mail| ["welcome", "goodbye", "thank_you"].contains(&mail.kind.as_str()));
    mails
}

/// Waits until a group has read and acknowledged everything in these streams.
async fn nothing_is_pending(shop: &Shop, group: &str, streams: &[&str]) -> Result<()> {
    for stream in streams {
        eventually(&format!("{group} has handled all of {stream}"), SOON, async || {
            let groups = shop.json(&["XINFO", "GROUPS", &format!("events:{stream}")]).await?;
            let groups = groups.as_array().context("XINFO GROUPS answered no list")?;
            let found = groups.iter().find(|g| g["name"] == group).context("no such group")?;
            ensure!(found["pending"] == 0 && found["lag"] == 0, "{found}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn kubectl_scale_changes_crm_and_nothing_else() -> Result<()> {
    with_shop("scale", async |shop| {
        let before = shop.replicas().await?;
        shop.scale(3).await?;
        shop.has_replicas("crm", 3, SOON).await?;

        let mut after = shop.replicas().await?;
        ensure!(after.insert("crm", before["crm"]) == Some(3), "{after:?}");
        ensure!(after == before, "{before:?} became {after:?}");

        let selector = shop.scale_selector().await?;
        let pods = shop.pods(&selector).await?;
        let component = |pod: &Pod| pod.labels().get("app.kubernetes.io/component").cloned();
        ensure!(pods.len() == 3, "{selector} finds {} pods", pods.len());
        ensure!(pods.iter().all(|pod| component(pod).as_deref() == Some("crm")), "{selector} finds others");

        shop.ready(SOON).await?;
        shop.scale(1).await?;
        shop.has_replicas("crm", 1, SOON).await
    })
    .await
}

#[tokio::test]
async fn redis_pod_deleted_in_the_middle_keeps_its_data_and_the_flow_goes_on() -> Result<()> {
    with_shop("redis", async |shop| {
        let client = shop.answers(SOON).await?;
        let expected = trade(&client, 2, 2).await?;
        let orders: Vec<Order> = client.get("/orders").await?;

        let pods: Api<Pod> = shop.objects();
        let name = format!("{SHOP}-redis-0");
        let old = pods.get(&name).await?.uid();
        pods.delete(&name, &DeleteParams::default()).await?;
        // The shop's status may still be that of before.
        eventually("another pod of Redis, which is ready", SOON, async || {
            let new = pods.get(&name).await?;
            ensure!(new.uid() != old, "still the old one");
            let conditions = new.status.and_then(|status| status.conditions).unwrap_or_default();
            let is_ready = conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
            ensure!(is_ready, "not ready yet");
            Ok(())
        })
        .await?;
        shop.ready(READY_WITHIN).await?;
        let persistence = shop.redis_as("admin", &["INFO", "persistence"]).await?;
        ensure!(!persistence.contains("aof_rewrites:0"), "its file is as the crash left it: {persistence}");

        eventually("the data is there", SOON, async || {
            let now: Vec<Order> = client.get("/orders").await?;
            ensure!(now == orders, "{} orders instead of {}", now.len(), orders.len());
            Ok(())
        })
        .await?;
        let late = eventually("a new customer", SOON, async || client.new_customer("Late").await).await?;
        let late = Customer { id: late, name: "Late".to_owned(), email: "late@server.com".to_owned() };
        let expected = [expected, vec![Mail::welcome(&late)]].concat();
        eventually("all mails, each once", SOON, async || {
            classic::compare(&expected, &of_crm(shop.sent_mails().await?))
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_deleted_and_an_edited_child_are_repaired_and_then_nothing_is_written() -> Result<()> {
    with_shop("repair", async |shop| {
        let deployments: Api<Deployment> = shop.objects();
        let image = |deployment: &Deployment| -> Option<String> {
            let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
            pod.containers.first()?.image.clone()
        };
        let deleted = format!("{SHOP}-customer");
        let edited = format!("{SHOP}-product");
        let (uid, original) =
            (deployments.get(&deleted).await?.uid(), image(&deployments.get(&edited).await?));

        deployments.delete(&deleted, &DeleteParams::default()).await?;
        let edit = json!({"spec": {"replicas": 4, "template": {"spec": {"containers":
            [{"name": container(&deployments.get(&edited).await?)?, "image": "example.com/other:1"}]}}}});
        deployments.patch(&edited, &PatchParams::default(), &Patch::Strategic(edit)).await?;

        eventually("the deleted Deployment is made again", SOON, async || {
            let again = deployments.get(&deleted).await?;
            ensure!(again.uid() != uid, "not deleted yet");
            Ok(())
        })
        .await?;
        eventually("the edited Deployment is as it was", SOON, async || {
            let now = deployments.get(&edited).await?;
            ensure!(image(&now) == original, "{:?}", image(&now));
            ensure!(now.spec.and_then(|spec| spec.replicas) == Some(1), "replicas");
            Ok(())
        })
        .await?;
        shop.ready(READY_WITHIN).await?;

        let mut look = 0;
        // On a busy machine a pod may be unready for a moment, which the status says.
        eventually("a look at the shop finds nothing to do", READY_WITHIN, async || {
            look += 1;
            let quiet = shop.quiet(QUIET, SOON).await?;
            // The annotation makes the operator look at the shop once more.
            let annotation = json!({"metadata": {"annotations": {"e2e": format!("look {look}")}}});
            let before = quiet.with_shop(&shop.patch(annotation).await?);
            let after = shop.quiet(QUIET, SOON).await?;
            let written = before.first_difference(&after);
            ensure!(written.is_none(), "{written:?} was written without need");
            ensure!(
                after.count("Deployment") == SERVICES.len() && after.count("StatefulSet") == 1,
                "{after:?}"
            );
            Ok(())
        })
        .await
    })
    .await
}

fn container(deployment: &Deployment) -> Result<Value> {
    let spec = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let container = spec.and_then(|spec| spec.containers.first()).context("no container")?;
    Ok(json!(container.name))
}
