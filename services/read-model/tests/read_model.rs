//! The read model's program on a real Redis.
#![allow(clippy::unwrap_used)]

use chassis::kinds::{BILLING, CUSTOMER, INVENTORY, MAIL, ORDER, PRODUCT};
use chassis::testing::{Program, Redis, free_port};
use event_store::{Config, EventStore, Kind, NewEvent};
use serde_json::{Value, json};
use std::time::Duration;

struct Shop {
    redis: Redis,
    store: EventStore,
}

impl Shop {
    async fn start() -> Self {
        let redis = Redis::start();
        let store = EventStore::connect(Config::new(redis.url())).await.unwrap();
        Self { redis, store }
    }

    fn read_model(&self, name: &str) -> ReadModel {
        let port = free_port();
        let (listen, url) = (format!("127.0.0.1:{port}"), self.redis.url());
        let arguments = ["--listen", &listen, "--redis-url", &url, "--consumer", name];
        let mut program = Program::start(env!("CARGO_BIN_EXE_ordershop-read-model"), &arguments);
        program.until_ready();
        ReadModel { program, port }
    }

    async fn put(&self, kind: Kind, action: &'static str, id: &str, entity: Value) {
        self.store.append(vec![NewEvent::put(kind, action, id, &entity)]).await.unwrap();
    }

    async fn create(&self, kind: Kind, id: &str, mut entity: Value) {
        entity["id"] = id.into();
        self.put(kind, "created", id, entity).await;
    }

    async fn delete(&self, kind: Kind, id: &str) {
        self.store.append(vec![NewEvent::remove(kind, "deleted", id, &json!({ "id": id }))]).await.unwrap();
    }
}

struct ReadModel {
    program: Program,
    port: u16,
}

impl ReadModel {
    async fn answer(&self, path: &str) -> reqwest::Response {
        reqwest::get(format!("http://127.0.0.1:{}{path}", self.port)).await.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.answer(path).await;
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.headers()["content-type"], "application/json");
        answer.json().await.unwrap()
    }

    async fn ids(&self, path: &str) -> Vec<String> {
        let list = self.get(path).await;
        list.as_array().unwrap().iter().map(|entity| entity["id"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn an_empty_shop_lists_nothing_and_knows_nobody() {
    let shop = Shop::start().await;
    let model = shop.read_model("a");
    for path in ["/customers", "/products", "/inventory", "/orders", "/billings", "/orders/unbilled"] {
        assert_eq!(model.get(path).await, json!([]), "{path}");
    }
    for path in ["/customer/x", "/product/x", "/inventory/x", "/order/x", "/billing/x"] {
        assert_eq!(model.get(path).await, Value::Null, "{path}");
    }
    let empty = json!({"products": [], "inventory": [], "customers": [], "orders": [], "billings": []});
    assert_eq!(model.get("/report").await, empty);
}

#[tokio::test]
async fn a_read_sees_every_write_answered_before_it_through_any_replica() {
    let shop = Shop::start().await;
    let models = [shop.read_model("a"), shop.read_model("b")];
    for number in 0..100 {
        let id = format!("c{number}");
        shop.create(CUSTOMER, &id, json!({"name": id, "email": "a@b.c"})).await;
        let model = &models[number % 2];
        assert_eq!(model.get(&format!("/customer/{id}")).await["name"], id);
        assert_eq!(model.ids("/customers").await.len(), number + 1);
        let other = &models[(number + 1) % 2];
        assert_eq!(other.get(&format!("/customer/{id}")).await["name"], id);
    }
}

#[tokio::test]
async fn lists_keep_the_order_of_creation_whatever_changes_later() {
    let shop = Shop::start().await;
    let model = shop.read_model("a");
    let ids: Vec<String> = (0..20).map(|number| format!("p{}", (number * 7) % 20)).collect();
    let batch = ids.iter().map(|id| NewEvent::put(PRODUCT, "created", id, &json!({"id": id, "price": 1.5})));
    shop.store.append(batch.collect()).await.unwrap();
    shop.put(PRODUCT, "updated", &ids[3], json!({"id": ids[3], "price": 2})).await;
    assert_eq!(model.ids("/products").await, ids);
    shop.delete(PRODUCT, &ids[5]).await;
    let left: Vec<String> = ids.iter().filter(|id| **id != ids[5]).cloned().collect();
    assert_eq!(model.ids("/products").await, left);
    assert_eq!(model.get(&format!("/product/{}", ids[5])).await, Value::Null);
    let product = model.get(&format!("/product/{}", ids[3])).await;
    assert!(product["price"].is_number() && product["price"] == 2);
}

#[tokio::test]
async fn unbilled_are_the_orders_that_no_billing_names() {
    let shop = Shop::start().await;
    let model = shop.read_model("a");
    for id in ["o1", "o2", "o3"] {
        shop.create(ORDER, id, json!({"status": "confirmed", "product_ids": [], "customer_id": "c"})).await;
    }
    assert_eq!(model.ids("/orders/unbilled").await, ["o1", "o2", "o3"]);
    shop.create(BILLING, "b1", json!({"order_id": "o1", "done": 1.5})).await;
    shop.create(BILLING, "b2", json!({"order_id": "o1", "done": 1.5})).await;
    assert_eq!(model.ids("/orders/unbilled").await, ["o2", "o3"]);
    shop.delete(BILLING, "b1").await;
    assert_eq!(model.ids("/orders/unbilled").await, ["o2", "o3"], "still billed by the other");
    shop.put(BILLING, "updated", "b2", json!({"id": "b2", "order_id": "o2", "done": 2})).await;
    assert_eq!(model.ids("/orders/unbilled").await, ["o1", "o3"]);
    shop.delete(ORDER, "o2").await;
    assert_eq!(
        model.ids("/orders/unbilled").await,
        ["o1", "o3"],
        "a billing of a deleted order harms nothing"
    );
}

#[tokio::test]
async fn a_rejected_order_is_not_shown_and_comes_back_to_its_place_when_placed_again() {
    let shop = Shop::start().await;
    let model = shop.read_model("a");
    let order = |id: &str, status: &str| json!({"id": id, "status": status, "product_ids": ["p"]});
    for id in ["o1", "o2", "o3"] {
        shop.create(ORDER, id, order(id, "pending")).await;
    }
    shop.put(ORDER, "updated", "o2", order("o2", "rejected")).await;
    for path in ["/orders", "/orders/unbilled"] {
        assert_eq!(model.ids(path).await, ["o1", "o3"], "{path}");
    }
    assert_eq!(model.get("/order/o2").await, Value::Null);
    shop.put(ORDER, "updated", "o2", order("o2", "confirmed")).await;
    assert_eq!(model.ids("/orders").await, ["o1", "o2", "o3"]);
}

#[tokio::test]
async fn the_report_is_every_list() {
    let shop = Shop::start().await;
    let model = shop.read_model("a");
    shop.create(CUSTOMER, "c", json!({"name": "N", "email": "a@b.c"})).await;
    shop.create(PRODUCT, "p", json!({"name": "P", "price": 1.25})).await;
    shop.create(INVENTORY, "i", json!({"product_id": "p", "amount": 7})).await;
    shop.create(ORDER, "o", json!({"status": "confirmed", "product_ids": ["p", "p"], "customer_id": "c"}))
        .await;
    shop.create(BILLING, "b", json!({"order_id": "o", "done": 1.5})).await;
    shop.put(MAIL, "requested", "m", json!({"id": "m"})).await;
    let report = model.get("/report").await;
    for section in ["products", "inventory", "customers", "orders", "billings"] {
        assert_eq!(report[section], model.get(&format!("/{section}")).await, "{section}");
        assert_eq!(report[section].as_array().unwrap().len(), 1, "{section}");
    }
    assert_eq!(report["orders"][0]["product_ids"], json!(["p", "p"]));
    assert_eq!(report["inventory"][0]["amount"], 7);
}

#[tokio::test]
async fn a_new_replica_starts_from_what_is_kept_and_does_not_need_the_log() {
    let shop = Shop::start().await;
    let first = shop.read_model("a");
    shop.create(CUSTOMER, "c1", json!({"name": "N", "email": "a@b.c"})).await;
    assert_eq!(first.ids("/customers").await, ["c1"]);
    drop(first);
    let client = std::process::Command::new("redis-cli")
        .args(["-p", &shop.redis.port().to_string(), "xtrim", "events:customer_created", "maxlen", "0"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&client.stdout).trim(), "1");
    let second = shop.read_model("b");
    assert_eq!(second.ids("/customers").await, ["c1"]);
}

#[tokio::test]
async fn a_read_that_cannot_see_the_writes_before_it_says_so_instead_of_lying() {
    let shop = Shop::start().await;
    let mut model = shop.read_model("a");
    shop.create(CUSTOMER, "c1", json!({"name": "N", "email": "a@b.c"})).await;
    // The read model does not read this stream, so it never comes to the head of the log.
    shop.create(Kind::new("stranger"), "s", json!({})).await;
    let answer = model.answer("/customers").await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert_eq!(model.ids("/customers?consistency=eventual").await, ["c1"]);
    assert_eq!(model.answer("/customers?consistency=none").await.status(), 400);
    model.program.terminate();
    assert_eq!(model.program.ended().code(), Some(0));
}

#[tokio::test]
async fn a_crash_of_redis_is_an_outage_and_not_the_end() {
    let mut shop = Shop::start().await;
    let model = shop.read_model("a");
    shop.create(CUSTOMER, "c1", json!({"name": "N", "email": "a@b.c"})).await;
    shop.redis.crash_and_restart();
    shop.create(CUSTOMER, "c2", json!({"name": "N", "email": "a@b.c"})).await;
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while model.answer("/customers").await.status() != 200 {
        assert!(std::time::Instant::now() < deadline, "{}", model.program.log());
    }
    assert_eq!(model.ids("/customers").await, ["c1", "c2"]);
}
