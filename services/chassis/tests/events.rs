//! A service that handles events, on a real Redis: its readiness, its metrics, its end.
#![allow(clippy::unwrap_used)]

use chassis::config::{CommonArgs, RedisArgs};
use chassis::events::Customers;
use chassis::testing::Redis;
use chassis::{App, BoxError, Running, Service, kinds};
use event_store::{
    CancellationToken, Config, EntityType, Event, EventStore, Kind, NewEvent, Outcome, Subscription, Typed,
    TypedHandler, Upcaster,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};

const BOUND: Duration = Duration::from_secs(20);

/// Handles each event when it is let.
#[derive(Clone)]
struct Gated {
    entered: Arc<Semaphore>,
    leave: Arc<Semaphore>,
}

event_store::events! {
    #[derive(Debug)]
    enum News {
        Came(Customers) = put "created",
    }
}

impl TypedHandler for Gated {
    type Event = News;

    async fn handle(&self, _: News, _: &Event) -> Outcome {
        self.entered.add_permits(1);
        match self.leave.acquire().await {
            Ok(permit) => permit.forget(),
            Err(error) => return Outcome::Park(error.to_string()),
        }
        Outcome::Done(Vec::new())
    }
}

fn customer(id: &str) -> Value {
    json!({ "id": id, "name": "Ann", "email": "ann@example.com" })
}

async fn text(running: &Running, path: &str) -> (u16, String) {
    let answer = reqwest::get(format!("http://{}{path}", running.admin())).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Asks until an answer of the admin port contains this.
async fn until(running: &Running, path: &str, wanted: &str) {
    let deadline = Instant::now() + BOUND;
    loop {
        let (_, text) = text(running, path).await;
        if text.contains(wanted) {
            return;
        }
        assert!(Instant::now() < deadline, "no {wanted} in {text}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_subscription_shows_in_readiness_and_metrics_and_ends_after_the_event_in_flight() {
    let redis = Redis::start();
    let store = EventStore::connect(Config::new(redis.url())).await.unwrap();
    let handler = Gated { entered: Arc::new(Semaphore::new(0)), leave: Arc::new(Semaphore::new(1)) };
    let (gates, args) = (handler.clone(), RedisArgs { redis_url: redis.url() });
    let setup = async move |app: App| -> Result<(), BoxError> {
        let store = app.connect(&args, []).await;
        let streams = [kinds::CUSTOMER.stream("created")];
        app.subscribe(&store, Subscription::new("sample", app.consumer()).streams(streams), handler);
        Ok(())
    };
    let common = CommonArgs {
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        consumer: Some("pod".to_owned()),
        log: "info".to_owned(),
        shutdown_seconds: 20,
    };
    let running = Service::new("sample", common).start(setup).await.unwrap();
    until(&running, "/readyz", r#""ready":true,"checks":[{"name":"redis""#).await;
    assert!(text(&running, "/readyz").await.1.contains("subscription"));

    let created = |id: &str| NewEvent::put(kinds::CUSTOMER, "created", id, &customer(id));
    store.append(vec![created("c1")]).await.unwrap();
    gates.entered.acquire().await.unwrap().forget();
    until(&running, "/metrics", "ordershop_events_handled_total{group=\"sample\"} 1\n").await;
    until(&running, "/metrics", "ordershop_group_lag{group=\"sample\",stream=\"customer_created\"} 0\n")
        .await;

    store.append(vec![created("c2")]).await.unwrap();
    gates.entered.acquire().await.unwrap().forget();
    until(&running, "/metrics", "ordershop_group_pending{group=\"sample\",stream=\"customer_created\"} 1\n")
        .await;
    let stopping = tokio::spawn(running.stop());
    gates.leave.add_permits(1);
    tokio::time::timeout(BOUND, stopping).await.unwrap().unwrap();
    let left = std::process::Command::new("redis-cli")
        .args(["-p", &redis.port().to_string(), "xpending", "events:customer_created", "sample"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout).lines().next(), Some("0"));
}

/// Customers as the next version of the shop knows them.
struct Renamed;

impl EntityType for Renamed {
    type State = Value;
    const KIND: Kind = kinds::CUSTOMER;
    const UPCASTERS: &'static [Upcaster] = &[|customer| drop(customer.remove("name"))];

    fn id(customer: &Value) -> &str {
        customer["id"].as_str().unwrap_or_default()
    }
}

event_store::events! {
    #[derive(Debug)]
    enum NextNews {
        Came(Renamed) = put "created",
    }
}

/// Tells what it has handled.
struct Next(mpsc::UnboundedSender<String>);

impl TypedHandler for Next {
    type Event = NextNews;

    async fn handle(&self, NextNews::Came(customer): NextNews, _: &Event) -> Outcome {
        self.0.send(Renamed::id(&customer).to_owned()).unwrap();
        Outcome::Done(Vec::new())
    }
}

#[tokio::test]
async fn what_a_newer_replica_has_written_waits_for_one_and_is_not_parked() {
    let redis = Redis::start();
    let store = EventStore::connect(Config::new(redis.url())).await.unwrap();
    let old = Gated { entered: Arc::new(Semaphore::new(0)), leave: Arc::new(Semaphore::new(10)) };
    let (entered, args) = (old.entered.clone(), RedisArgs { redis_url: redis.url() });
    let subscription =
        |consumer: &str| Subscription::new("sample", consumer).streams([kinds::CUSTOMER.stream("created")]);
    let setup = async move |app: App| -> Result<(), BoxError> {
        let store = app.connect(&args, []).await;
        app.subscribe(&store, subscription(app.consumer()), old);
        Ok(())
    };
    let common = CommonArgs {
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        consumer: Some("old".to_owned()),
        log: "info".to_owned(),
        shutdown_seconds: 20,
    };
    let running = Service::new("sample", common).start(setup).await.unwrap();
    store.append(vec![Renamed::put("created", &json!({ "id": "c1" }))]).await.unwrap();
    store.append(vec![NewEvent::put(kinds::CUSTOMER, "created", "c2", &customer("c2"))]).await.unwrap();
    // The old one handles what it knows, behind what it does not.
    entered.acquire().await.unwrap().forget();
    assert_eq!(store.dead_letters("sample", "customer").count().await.unwrap(), 0);

    let (handled, mut told) = mpsc::unbounded_channel();
    let cancel = CancellationToken::new();
    let next = store.subscribe(subscription("next"));
    let next = tokio::spawn(next.run(Typed(Next(handled)), cancel.clone()));
    running.stop().await;
    assert_eq!(tokio::time::timeout(BOUND, told.recv()).await.unwrap().unwrap(), "c1");
    cancel.cancel();
    next.await.unwrap().unwrap();
    assert_eq!(store.dead_letters("sample", "customer").count().await.unwrap(), 0);
}

#[tokio::test]
async fn a_service_whose_redis_goes_is_not_ready_and_ready_again_when_it_is_back() {
    let redis = Redis::start();
    let port = redis.port();
    let args = RedisArgs { redis_url: redis.url() };
    let setup = async move |app: App| -> Result<(), BoxError> {
        app.connect(&args, []).await;
        Ok(())
    };
    let common = CommonArgs {
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        consumer: None,
        log: "info".to_owned(),
        shutdown_seconds: 20,
    };
    let running = Service::new("sample", common).start(setup).await.unwrap();
    until(&running, "/readyz", r#""ready":true,"checks":[{"name":"redis""#).await;
    drop(redis);
    until(&running, "/readyz", r#"{"name":"redis","ready":false"#).await;
    assert_eq!(text(&running, "/livez").await.0, 200);
    let _redis = Redis::start_on(port);
    until(&running, "/readyz", r#""ready":true,"checks":[{"name":"redis""#).await;
    running.stop().await;
}
