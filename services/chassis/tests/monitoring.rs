//! What the chart's alerts and its dashboard ask for is what services show.
#![allow(clippy::unwrap_used)]

use axum::Router;
use axum::routing::get;
use chassis::config::{CommonArgs, HttpArgs, RedisArgs};
use chassis::events::Customers;
use chassis::testing::Redis;
use chassis::{App, BoxError, Running, Service, kinds};
use event_store::{Event, Outcome, Subscription, TypedHandler};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const BOUND: Duration = Duration::from_secs(20);

event_store::events! {
    #[derive(Debug)]
    enum News {
        Came(Customers) = put "created",
    }
}

struct Nothing;

impl TypedHandler for Nothing {
    type Event = News;

    async fn handle(&self, _: News, _: &Event) -> Outcome {
        Outcome::Done(Vec::new())
    }
}

/// A service that has all that a service can have.
async fn whole(redis_url: String) -> Running {
    let setup = async move |app: App| -> Result<(), BoxError> {
        let store = app.connect(&RedisArgs { redis_url }, []).await;
        let streams = [kinds::CUSTOMER.stream("created")];
        app.subscribe(&store, Subscription::new("sample", app.consumer()).streams(streams), Nothing);
        app.serve(Router::new().route("/", get(async || "hello")));
        Ok(())
    };
    let common = CommonArgs {
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        consumer: Some("pod".to_owned()),
        log: "info".to_owned(),
        shutdown_seconds: 5,
    };
    let http = HttpArgs { listen: "127.0.0.1:0".parse().unwrap() };
    Service::new("sample", common).with_http(http).start(setup).await.unwrap()
}

async fn metrics(running: &Running) -> String {
    reqwest::get(format!("http://{}/metrics", running.admin())).await.unwrap().text().await.unwrap()
}

/// Waits until the metrics are as wanted.
async fn until(running: &Running, wanted: impl Fn(&str) -> Result<(), String>) {
    let deadline = Instant::now() + BOUND;
    while let Err(why) = wanted(&metrics(running).await) {
        assert!(Instant::now() < deadline, "{why}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// All names of metrics of services in a text, whatever it is.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("ordershop_"));
    ours.filter(|word| !word.starts_with("ordershop_operator_")).map(str::to_owned).collect()
}

fn redis_cli(redis: &Redis, args: &[&str]) {
    let port = redis.port().to_string();
    assert!(Command::new("redis-cli").args(["-p", &port]).args(args).status().unwrap().success());
}

#[tokio::test]
async fn every_metric_that_the_alerts_and_the_dashboard_ask_services_for_is_there() {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/ordershop-operator/files");
    let read = |file: &str| std::fs::read_to_string(files.join(file)).unwrap();
    let asked: BTreeSet<String> =
        ["alerts.yaml", "dashboard.json"].iter().flat_map(|file| names(&read(file))).collect();
    assert!(asked.len() > 8, "{asked:?}");

    let redis = Redis::start();
    redis_cli(&redis, &["config", "set", "maxmemory", "1gb"]);
    let running = whole(redis.url()).await;
    reqwest::get(format!("http://{}/", running.api().unwrap())).await.unwrap();
    until(&running, |text| {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let shown: BTreeSet<String> =
            samples.flat_map(|line| names(line.split(['{', ' ']).next().unwrap())).collect();
        let missing: Vec<_> = asked.difference(&shown).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} are not in {text}")) }
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn a_redis_that_is_gone_shows_and_its_memory_is_not_made_up() {
    let redis = Redis::start();
    let running = whole(redis.url()).await;
    let has = |text: &str, wanted: &str| {
        if text.contains(wanted) { Ok(()) } else { Err(format!("no {wanted:?} in {text}")) }
    };
    until(&running, |text| {
        has(text, "\nordershop_redis_up 1\n")?;
        has(text, "\nordershop_group_dead_letters{group=\"sample\"} 0\n")?;
        has(text, "\nordershop_redis_memory_bytes ")
    })
    .await;
    assert!(!metrics(&running).await.contains("ordershop_redis_memory_limit_bytes"), "there is no limit");
    drop(redis);
    until(&running, |text| has(text, "\nordershop_redis_up 0\n")).await;
    assert!(!metrics(&running).await.contains("ordershop_redis_memory_bytes"), "nobody knows it now");
    running.stop().await;
}
