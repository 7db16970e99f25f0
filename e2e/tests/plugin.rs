//! `kubectl ordershop` as a person on call uses it, on a real shop.

use anyhow::{Context, Result, ensure};
use e2e::classic::Customer;
use e2e::cluster::{Plugin, READY_WITHIN, SHOP, SOON, Shop, with_shared_shop};
use e2e::deadline::eventually;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use tokio::process::Command;

#[tokio::test]
async fn status_is_one_screen_of_services_conditions_redis_and_groups() -> Result<()> {
    with_shared_shop(async |shop| {
        let plugin = Plugin::install(shop).await?;
        // On a busy machine Redis may not answer in time, which the screen says.
        eventually("a whole screen", SOON, async || {
            let screen = plugin.run(&["status"]).await?.ok()?;
            for expected in
                [": Ready\n", "CONDITION", "RedisReady", "read-model", "1/1", "append-only file", "LAG"]
            {
                ensure!(screen.contains(expected), "no {expected:?} in\n{screen}");
            }
            Ok(())
        })
        .await?;
        let status = plugin.run(&["status", "--output", "json"]).await?.json()?;
        ensure!(
            status["ready"] == true && status["services"].as_array().is_some_and(|all| all.len() == 9),
            "{status}"
        );
        ensure!(status["redis"]["servers"][0]["memory_bytes"].as_u64() > Some(100_000), "{status}");
        let groups = status["redis"]["groups"].as_array().context("no groups")?;
        ensure!(groups.iter().any(|group| group["group"] == "crm" && group["parked"].is_u64()), "{status}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn bad_input_and_missing_rights_are_told_apart_and_said_in_words() -> Result<()> {
    with_shared_shop(async |shop| {
        let plugin = Plugin::install(shop).await?;
        let nobody = shop.nobody().await?;
        for (args, code, said) in [
            (&["restart", "shop"][..], 2, "no service of a shop: gateway, customer"),
            (&["--context", "nowhere", "status"], 2, "nowhere"),
            (&["--shop", "nothing", "status"], 4, "there is no OrderShop nothing in namespace"),
            (&["replay", "nobodys", "--all", "--yes"], 4, "no stream is read by a group \"nobodys\""),
            (&["replay", "notification", "--letter", "1-1", "--yes"], 4, "no such dead letter"),
        ] {
            let ended = plugin.run(args).await?;
            ensure!(ended.code == code && ended.err.contains(said), "{args:?}: {ended:?}");
        }
        for args in [&["status"][..], &["restart", "crm"], &["report"]] {
            let ended = plugin.run_by(Some(nobody.path()), args).await?;
            ensure!(
                ended.code == 6 && ended.err.contains("cannot list resource \"ordershops\""),
                "{args:?}: {ended:?}"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_dead_letter_is_seen_and_given_back_to_its_group() -> Result<()> {
    with_shared_shop(async |shop| {
        let plugin = Plugin::install(shop).await?;
        let entry = shop.redis_as("admin", &["XADD", "events:mail_requested", "*", "hello", "world"]).await?;
        let entry = entry.trim();
        let letter = eventually("notification parks what is no event", SOON, async || {
            letter_of(&plugin, entry).await?.context("not parked yet")
        })
        .await?;
        let events = plugin.run(&["events", "--stream", "mail_requested", "--number", "1"]).await?.ok()?;
        ensure!(events.contains(entry) && events.contains("is no event"), "{events}");

        let replay = ["replay", "notification", "--letter", &letter];
        let asked = plugin.run(&[&replay[..], &["--dry-run"]].concat()).await?.ok()?;
        ensure!(asked == "1 would be given back to notification\n", "{asked}");
        let done = plugin.run(&[&replay[..], &["--yes"]].concat()).await?.ok()?;
        ensure!(done.starts_with("1 of 1 given back"), "{done}");
        eventually("it is handled again, and parked anew", SOON, async || {
            let now = letter_of(&plugin, entry).await?.context("in hand")?;
            ensure!(now != letter, "the same letter");
            Ok(())
        })
        .await
    })
    .await
}

/// The dead letter that an entry has become.
async fn letter_of(plugin: &Plugin, entry: &str) -> Result<Option<String>> {
    let letters = plugin.run(&["dead", "--output", "json"]).await?.json()?;
    let letters = letters.as_array().context("no list")?;
    let found = letters.iter().find(|letter| letter["group"] == "notification" && letter["id"] == entry);
    Ok(found.and_then(|letter| letter["letter"].as_str()).map(str::to_owned))
}

#[tokio::test]
async fn restart_gives_one_service_new_pods_and_the_operator_leaves_it_at_that() -> Result<()> {
    with_shared_shop(async |shop| {
        let plugin = Plugin::install(shop).await?;
        let before = pods(shop).await?;
        plugin.run(&["restart", "billing"]).await?.ok()?;
        let wish = restarted_at(shop).await?.context("no annotation")?;
        // Whatever makes it look again: it must not take the annotation for drift.
        shop.patch(json!({"metadata": {"annotations": {"e2e": wish}}})).await?;
        eventually("billing has another pod, and the others have not", SOON, async || {
            let now = pods(shop).await?;
            let changed: Vec<_> = before.keys().filter(|name| now.get(*name) != before.get(*name)).collect();
            ensure!(changed == ["billing"], "{changed:?}");
            ensure!(now["billing"].len() == 1, "the old one is still there");
            Ok(())
        })
        .await?;
        shop.ready(SOON).await?;
        ensure!(restarted_at(shop).await? == Some(wish), "the annotation is gone");
        Ok(())
    })
    .await
}

async fn restarted_at(shop: &Shop) -> Result<Option<String>> {
    let template = shop.deployment("billing").await?.spec.context("no spec")?.template;
    let annotations = template.metadata.and_then(|metadata| metadata.annotations).unwrap_or_default();
    Ok(annotations.get("kubectl.kubernetes.io/restartedAt").cloned())
}

/// The id of each component's pod; of two there is one too many for the moment.
async fn pods(shop: &Shop) -> Result<BTreeMap<String, Vec<String>>> {
    let mut ids: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in shop.pods(&format!("app.kubernetes.io/instance={SHOP}")).await? {
        let component = pod.labels().get("app.kubernetes.io/component").cloned().unwrap_or_default();
        ids.entry(component).or_default().extend(pod.uid());
    }
    for ids in ids.values_mut() {
        ids.sort();
    }
    Ok(ids)
}

#[tokio::test]
async fn a_report_holds_what_explains_a_shop_and_no_value_of_any_secret() -> Result<()> {
    with_shared_shop(async |shop| {
        let plugin = Plugin::install(shop).await?;
        let secrets = shop.objects::<Secret>();
        let marker: Secret = serde_json::from_value(json!({
            "metadata": {"generateName": "marker-", "labels": {"app.kubernetes.io/instance": SHOP}},
            "stringData": {"url": "smtp://mailer:Tr0ub4dor@mail.example:587", "text": "correct horse battery"},
        }))?;
        let marker = secrets.create(&PostParams::default(), &marker).await?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("shop.tar.gz");
        let path = file.to_str().context("no path")?;
        // On a busy machine Redis may not answer in time, which the report says.
        let report = eventually("a whole report", SOON, async || {
            if file.exists() {
                std::fs::remove_file(&file)?;
            }
            let report = plugin.run(&["report", "--lines", "5", "--file", path, "--output", "json"]).await?;
            ensure!(report.code == 0 && report.json()?["problems"] == json!([]), "{report:?}");
            Ok(())
        })
        .await;
        let values = secrets.list(&ListParams::default()).await?;
        secrets.delete(&marker.name_any(), &DeleteParams::default()).await?;
        report?;

        let unpacked = Command::new("tar").args(["-xzf", path, "-C"]).arg(folder.path()).status().await?;
        ensure!(unpacked.success(), "{unpacked}");
        let files = texts(folder.path())?;
        for expected in [
            "shop.yaml",
            "status.txt",
            "status.json",
            "secrets.json",
            "events.txt",
            "version.json",
            "children/deployment-shop-crm.yaml",
            "children/statefulset-shop-redis.yaml",
            "pods/shop-redis-0.yaml",
            "logs/shop-redis-0-redis.log",
            "store/groups.json",
            "store/doctor.json",
        ] {
            ensure!(files.keys().any(|name| name.ends_with(expected)), "no {expected} in {:?}", files.keys());
        }
        for (name, text) in files.iter().filter(|(name, _)| name.contains("/logs/")) {
            ensure!(text.lines().count() <= 5, "{name} has {} lines", text.lines().count());
        }
        let mut looked_for = vec!["Tr0ub4dor".to_owned()];
        for value in values.iter().flat_map(|secret| secret.data.iter().flatten()).map(|(_, value)| value) {
            // In an object it is base64 in quotes.
            looked_for.extend(serde_json::to_value(value)?.as_str().map(str::to_owned));
            looked_for.push(String::from_utf8_lossy(&value.0).trim().to_owned());
        }
        looked_for.retain(|value| value.len() >= 6);
        ensure!(looked_for.len() >= 4, "no Secret was looked for");
        for (name, text) in &files {
            // The value itself is not printed here either.
            let found = looked_for.iter().position(|value| text.contains(value.as_str()));
            ensure!(found.is_none(), "{name} holds the value {found:?} of a Secret");
        }
        let again = plugin.run(&["report", "--file", path]).await?;
        ensure!(again.code == 2 && again.err.contains("is there already"), "{again:?}");
        Ok(())
    })
    .await
}

/// All files below a folder but the archive.
fn texts(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(texts(&path)?);
        } else if path.extension().is_none_or(|extension| extension != "gz") {
            found.insert(path.display().to_string(), std::fs::read_to_string(&path)?);
        }
    }
    Ok(found)
}

#[tokio::test]
async fn hibernate_asks_the_operator_and_off_wakes_the_shop_up_again() -> Result<()> {
    with_shared_shop(async |shop| {
        let plugin = Plugin::install(shop).await?;
        let customer = shop.answers(SOON).await?.new_customer("Asleep").await?;
        plugin.run(&["hibernate"]).await?.ok()?;
        ensure!(hibernated(shop).await? == json!(true));
        let status = plugin.run(&["status"]).await?;
        ensure!(status.out.contains(", hibernated"), "{status:?}");
        let redis: Api<StatefulSet> = shop.objects();
        eventually("Redis is asked to stop", SOON, async || {
            let set = redis.get(&format!("{SHOP}-redis")).await?;
            ensure!(set.spec.and_then(|spec| spec.replicas) == Some(0));
            Ok(())
        })
        .await?;
        let pods = shop.pods("app.kubernetes.io/name=ordershop,app.kubernetes.io/component!=redis").await?;
        let at_work: Vec<_> = pods.iter().filter(|pod| !has_ended(pod)).map(Pod::name_any).collect();
        ensure!(at_work.is_empty(), "Redis does not wait for {at_work:?}");
        eventually("the shop sleeps", SOON, async || {
            let there = shop.pods(&format!("app.kubernetes.io/instance={SHOP}")).await?;
            ensure!(there.is_empty(), "{} pods", there.len());
            Ok(())
        })
        .await?;
        plugin.run(&["hibernate", "--off"]).await?.ok()?;
        ensure!(hibernated(shop).await? == json!(false));
        shop.ready(READY_WITHIN).await?;
        let customers: Vec<Customer> = shop.answers(SOON).await?.get("/customers").await?;
        ensure!(customers.iter().any(|it| it.id == customer), "the data is gone");
        Ok(())
    })
    .await
}

/// Its programs have ended, though the pod may still be listed.
fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

async fn hibernated(shop: &Shop) -> Result<Value> {
    Ok(shop.get().await?.data["spec"]["hibernated"].clone())
}
