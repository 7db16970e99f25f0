//! A shop for one test: starts services, sends commands, looks into the store.

use chassis::kinds::{INVENTORY, MAIL, ORDER, RESERVATION};
use chassis::testing::Redis;
use chassis::{Running, Service};
use clap::Parser;
use domain::{Inventory, Mail, Order, Reservation};
use event_store::{Config, Event, EventStore, Kind};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const BOUND: Duration = Duration::from_secs(30);
/// A busy machine decides late; a test about orders that are not decided in time says how long its callers wait.
pub(crate) const DECIDED_MS: u32 = 60_000;

/// An answer: its status and its JSON.
pub(crate) type Answer = (u16, Value);

pub(crate) struct Shop {
    pub(crate) store: EventStore,
    pub(crate) redis: Redis,
    client: reqwest::Client,
    customer: String,
    product: String,
    order: String,
    billing: String,
    inventory: String,
    running: Vec<Running>,
    started: AtomicU32,
}

impl Shop {
    /// A shop with one inventory service.
    pub(crate) async fn open() -> Self {
        let mut shop = Self::without_inventory(DECIDED_MS).await;
        let (running, url) = shop.start_inventory().await;
        shop.inventory = url;
        shop.running.push(running);
        shop
    }

    /// A shop in which nobody decides about stock. Callers wait for `wait_ms`.
    pub(crate) async fn without_inventory(wait_ms: u32) -> Self {
        let redis = Redis::start();
        let store = EventStore::connect(Config::new(redis.url())).await.unwrap();
        let mut shop = Self {
            store,
            redis,
            client: reqwest::Client::new(),
            customer: String::new(),
            product: String::new(),
            order: String::new(),
            billing: String::new(),
            inventory: String::new(),
            running: Vec::new(),
            started: AtomicU32::new(0),
        };
        let args = ordershop_customer::Args::parse_from(shop.args(true));
        let customer = start(args.service(), |app| ordershop_customer::setup(app, args)).await;
        let args = ordershop_product::Args::parse_from(shop.args(true));
        let product = start(args.service(), |app| ordershop_product::setup(app, args)).await;
        let args = ordershop_billing::Args::parse_from(shop.args(true));
        let billing = start(args.service(), |app| ordershop_billing::setup(app, args)).await;
        let (order, url) = shop.start_order(wait_ms).await;
        shop.order = url;
        (shop.customer, shop.product, shop.billing) = (api(&customer), api(&product), api(&billing));
        shop.running.extend([customer, product, billing, order]);
        shop
    }

    /// Another inventory service, which the test may stop; with its URL.
    pub(crate) async fn start_inventory(&self) -> (Running, String) {
        let args = ordershop_inventory::Args::parse_from(self.args(true));
        let running = start(args.service(), |app| ordershop_inventory::setup(app, args)).await;
        let url = api(&running);
        (running, url)
    }

    /// An inventory service that ends as a killed process does: where it is, in the middle of its
    /// work, without a word to anybody.
    pub(crate) async fn start_mortal_inventory(&self) -> Mortal {
        let args = ordershop_inventory::Args::parse_from(self.args(true));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let started = args.service().start(|app| ordershop_inventory::setup(app, args));
        let running = runtime.spawn(started).await.unwrap().unwrap();
        until_ready(&running).await;
        Mortal { runtime, running }
    }

    /// Another order service; with its URL.
    pub(crate) async fn start_order(&self, wait_ms: u32) -> (Running, String) {
        let mut words = self.args(true);
        words.push(format!("--decision-wait-ms={wait_ms}"));
        let args = ordershop_order::Args::parse_from(words);
        let running = start(args.service(), |app| ordershop_order::setup(app, args)).await;
        let url = api(&running);
        (running, url)
    }

    /// A crm service, which the test may stop.
    pub(crate) async fn start_crm(&self) -> Running {
        let args = ordershop_crm::Args::parse_from(self.args(false));
        start(args.service(), |app| ordershop_crm::setup(app, args)).await
    }

    /// From now on commands about orders go elsewhere.
    pub(crate) fn send_orders_to(&mut self, running: Running, url: String) {
        self.order = url;
        self.running.push(running);
    }

    /// Keeps a service until the shop closes.
    pub(crate) fn keep(&mut self, running: Running) {
        self.running.push(running);
    }

    fn args(&self, http: bool) -> Vec<String> {
        let consumer = format!("consumer-{}", self.started.fetch_add(1, Ordering::Relaxed));
        let mut words = vec!["test".to_owned(), "--admin-listen=127.0.0.1:0".to_owned()];
        words.extend([format!("--redis-url={}", self.redis.url()), format!("--consumer={consumer}")]);
        words.extend(http.then(|| "--listen=127.0.0.1:0".to_owned()));
        words
    }

    pub(crate) async fn close(self) {
        let mut stopping = tokio::task::JoinSet::new();
        for running in self.running {
            stopping.spawn(running.stop());
        }
        stopping.join_all().await;
    }

    // Commands.

    pub(crate) async fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        let base = match path.split('/').nth(1).unwrap_or_default() {
            "customer" | "customers" => &self.customer,
            "product" | "products" => &self.product,
            "inventory" => &self.inventory,
            "order" | "orders" => &self.order,
            "billing" | "billings" => &self.billing,
            other => panic!("nobody answers /{other}"),
        };
        let request = self.client.request(method.parse().unwrap(), format!("{base}{path}"));
        // No content type, as the original's client may do.
        let answer = request.body(body.to_owned()).send().await.unwrap();
        let status = answer.status().as_u16();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        assert_eq!(kind == "application/problem+json", status >= 400, "{method} {path}: {status} {kind}");
        (status, answer.json().await.unwrap())
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, &body.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.send("PUT", path, &body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, "").await
    }

    async fn new_id(&self, path: &str, body: Value) -> String {
        let (status, ids) = self.post(path, body).await;
        assert_eq!(status, 200, "{ids}");
        ids[0].as_str().unwrap().to_owned()
    }

    pub(crate) async fn customer(&self, name: &str) -> String {
        self.new_id("/customer", json!({ "name": name, "email": format!("{name}@example.com") })).await
    }

    /// A product that costs `price`, without stock.
    pub(crate) async fn product(&self, name: &str, price: f64) -> String {
        self.new_id("/product", json!({ "name": name, "price": price })).await
    }

    pub(crate) async fn stock(&self, product: &str, amount: u64) -> String {
        self.new_id("/inventory", json!({ "product_id": product, "amount": amount })).await
    }

    pub(crate) async fn order(&self, customer: &str, products: &[&str]) -> Answer {
        self.post("/order", json!({ "product_ids": products, "customer_id": customer })).await
    }

    pub(crate) async fn confirmed(&self, customer: &str, products: &[&str]) -> String {
        let (status, ids) = self.order(customer, products).await;
        assert_eq!(status, 200, "{ids}");
        ids[0].as_str().unwrap().to_owned()
    }

    // What the store says.

    pub(crate) async fn read<T: DeserializeOwned>(&self, kind: Kind, id: &str) -> Option<T> {
        self.store.entity(kind, id).await.unwrap().map(|entity| entity.decode().unwrap())
    }

    pub(crate) async fn all<T: DeserializeOwned>(&self, kind: Kind) -> Vec<T> {
        let ids = self.store.ids(kind).await.unwrap();
        let entities = self.store.entities(kind, &ids).await.unwrap();
        entities.into_iter().flatten().map(|entity| entity.decode().unwrap()).collect()
    }

    pub(crate) async fn order_state(&self, id: &str) -> Option<Order> {
        self.read(ORDER, id).await
    }

    pub(crate) async fn amount(&self, inventory: &str) -> u64 {
        self.read::<Inventory>(INVENTORY, inventory).await.unwrap().amount
    }

    /// Per product, pieces on hand and pieces held.
    pub(crate) async fn pieces(&self) -> BTreeMap<String, (u64, u64)> {
        let mut pieces: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for stock in self.all::<Inventory>(INVENTORY).await {
            pieces.entry(stock.product_id).or_default().0 += stock.amount;
        }
        for line in self.all::<Reservation>(RESERVATION).await.into_iter().flat_map(|held| held.lines) {
            pieces.entry(line.product_id).or_default().1 += line.amount;
        }
        pieces
    }

    /// Live inventories as the streams alone tell them.
    pub(crate) async fn rebuilt_amounts(&self) -> BTreeMap<String, u64> {
        let mut amounts = BTreeMap::new();
        let streams = ["created", "updated", "deleted"].map(|action| INVENTORY.stream(action));
        let fold = |event: Event| {
            if event.action() == "deleted" {
                amounts.remove(&event.entity_id);
            } else {
                let stock: Inventory = event.decode().unwrap();
                amounts.insert(stock.id, stock.amount);
            }
        };
        self.store.replay(&streams, fold).await.unwrap();
        amounts
    }

    /// Live inventories as the cache tells them.
    pub(crate) async fn cached_amounts(&self) -> BTreeMap<String, u64> {
        let all = self.all::<Inventory>(INVENTORY).await;
        all.into_iter().map(|stock| (stock.id, stock.amount)).collect()
    }

    /// How many events are in the log of a kind's action.
    pub(crate) async fn events(&self, kind: Kind, action: &'static str) -> usize {
        let mut count = 0;
        self.store.replay(&[kind.stream(action)], |_| count += 1).await.unwrap();
        count
    }

    /// The requested mails in the order of the log.
    pub(crate) async fn mails(&self) -> Vec<Mail> {
        let mut mails = Vec::new();
        self.store
            .replay(&[MAIL.stream("requested")], |event| mails.push(event.decode().unwrap()))
            .await
            .unwrap();
        mails
    }
}

/// A service on a runtime of its own.
pub(crate) struct Mortal {
    runtime: tokio::runtime::Runtime,
    running: Running,
}

impl Mortal {
    pub(crate) fn kill(self) {
        self.runtime.shutdown_background();
        drop(self.running);
    }
}

fn api(running: &Running) -> String {
    format!("http://{}", running.api().unwrap())
}

async fn start<F, Fut>(service: Service, setup: F) -> Running
where
    F: FnOnce(chassis::App) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), chassis::BoxError>> + Send + 'static,
{
    let running = service.start(setup).await.unwrap();
    until_ready(&running).await;
    running
}

async fn until_ready(running: &Running) {
    let url = format!("http://{}/readyz", running.admin());
    until("ready", async || reqwest::get(&url).await.is_ok_and(|answer| answer.status() == 200)).await;
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + BOUND;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {BOUND:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
