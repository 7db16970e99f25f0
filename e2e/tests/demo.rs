//! `cargo xtask demo`, driven from outside as a user and a client of the original drive it.

use anyhow::{Context, Result, ensure};
use e2e::classic::{self, Client, Customer, Order};
use e2e::deadline::eventually;
use e2e::demo::{Demo, kill, processes};
use e2e::readme;
use e2e::redis::Cli;
use serde_json::{Value, json};
use std::time::Duration;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);
const MAILS_OF_A_RUN: usize = 32;

#[tokio::test]
async fn the_original_clients_run_passes_on_three_empty_shops_and_sends_32_mails_each() -> Result<()> {
    for _ in 0..3 {
        let demo = Demo::empty().await?;
        let outcome = classic::run(&demo.url()).await?;
        ensure!(outcome.mails.len() == MAILS_OF_A_RUN, "{} mails expected", outcome.mails.len());
        eventually("the mails of the run", SOON, async || {
            classic::compare(&outcome.mails, &demo.sent_mails().await?)
        })
        .await?;
        let status = demo.end("TERM").await?;
        ensure!(status.success(), "{status}");
    }
    Ok(())
}

#[tokio::test]
async fn the_commands_of_the_article_work_on_a_running_shop() -> Result<()> {
    let demo = Demo::seeded().await?;
    let client = Client::new(&demo.url())?;
    let customers: Vec<Customer> = client.get("/customers").await?;
    let orders: Vec<Order> = client.get("/orders").await?;
    let (customer, order) = (customers.first().context("no customer")?, orders.first().context("no order")?);

    let stream = demo.json(&["XINFO", "STREAM", "events:order_created"]).await?;
    ensure!(stream["length"] == orders.len(), "{stream}");
    let first = &stream["first-entry"];
    let (ms, sequence) =
        first[0].as_str().and_then(|id| id.split_once('-')).context("the first entry has no id")?;
    ensure!(ms.parse::<u64>().is_ok_and(|ms| ms > 1_700_000_000_000), "the id is no time: {first}");
    ensure!(sequence.parse::<u64>().is_ok(), "{first}");

    let created = demo.entities("events:order_created").await?;
    ensure!(created.iter().any(|entity| entity["id"] == order.id.as_str()), "{created:?}");

    ensure!(demo.json(&["TYPE", "customer_ids"]).await? == "set");
    let ids = demo.json(&["SMEMBERS", "customer_ids"]).await?;
    let ids = ids.as_array().context("SMEMBERS answered no list")?;
    ensure!(ids.len() == customers.len() && ids.contains(&json!(customer.id)), "{ids:?}");

    let values = demo.json(&["HVALS", &format!("customer_entity:{}", customer.id)]).await?;
    let expected = [&customer.id, &customer.name, &customer.email];
    for value in expected {
        ensure!(values.as_array().is_some_and(|all| all.contains(&json!(value))), "no {value} in {values}");
    }

    let list = format!("order_product_ids:{}", order.id);
    ensure!(
        demo.json(&["HGET", &format!("order_entity:{}", order.id), "product_ids"]).await? == list.as_str()
    );
    let products = demo.json(&["LRANGE", &list, "0", "-1"]).await?;
    ensure!(products == json!(order.product_ids), "{products} instead of {:?}", order.product_ids);

    demo.end("TERM").await.map(drop)
}

#[tokio::test]
async fn every_process_that_dies_is_started_again_and_the_data_is_still_there() -> Result<()> {
    let demo = Demo::empty().await?;
    let client = Client::new(&demo.url())?;
    client.new_customer("Before").await?;
    let before = demo.processes()?;
    for name in processes() {
        kill(before[name], "KILL").await?;
    }
    for name in processes() {
        demo.says(&format!("{name} was ended by signal 9"), SOON).await?;
        demo.says(&format!("ok {name} started again"), SOON).await?;
    }
    eventually("the shop answers again", SOON, async || {
        let customers: Vec<Customer> = client.get("/customers").await?;
        ensure!(customers.len() == 1, "{customers:?}");
        Ok(())
    })
    .await?;
    eventually("the shop takes customers again", SOON, async || client.new_customer("After").await.map(drop))
        .await?;
    eventually("welcomes are sent again", SOON, async || {
        let mails = demo.sent_mails().await?;
        ensure!(mails.iter().any(|mail| mail.to == "after@server.com"), "{mails:?}");
        Ok(())
    })
    .await?;
    let after = demo.processes()?;
    ensure!(before.iter().all(|(name, id)| after[name] != *id), "{before:?} {after:?}");
    demo.end("INT").await.map(drop)
}

#[tokio::test]
async fn nothing_is_left_after_kill_9_and_the_same_data_opens_again() -> Result<()> {
    let folder = TempDir::new()?;
    let mut demo = Demo::start(folder.path(), &["--no-seed"])?;
    demo.open().await?;
    let (port, redis_port) = (demo.port, demo.redis_port);
    Client::new(&demo.url())?.new_customer("Ada").await?;
    demo.end("KILL").await?;

    let mut demo = Demo::start_on(folder.path(), port, redis_port, &[])?;
    demo.open().await?;
    demo.says("it has customers already: left as it is", SOON).await?;
    let customers: Vec<Customer> = Client::new(&demo.url())?.get("/customers").await?;
    ensure!(customers.len() == 1 && customers[0].name == "Ada", "{customers:?}");
    demo.end("TERM").await.map(drop)
}

#[tokio::test]
async fn a_second_demo_says_what_is_in_its_way() -> Result<()> {
    let demo = Demo::empty().await?;
    let folder = TempDir::new()?;
    let same_port = Demo::start_on(folder.path(), demo.port, demo.redis_port, &[])?;
    let (status, text) = same_port.ended(SOON).await?;
    ensure!(!status.success() && text.contains(&format!("port {} is taken", demo.port)), "{text}");

    let same_folder = Demo::start(demo.data(), &[])?;
    let (status, text) = same_folder.ended(SOON).await?;
    ensure!(!status.success() && text.contains("another demo uses"), "{text}");
    demo.end("TERM").await.map(drop)
}

#[tokio::test]
async fn the_commands_of_the_readme_work() -> Result<()> {
    let demo = Demo::seeded().await?;
    let (url, redis) = (format!("localhost:{}", demo.port), format!("redis-cli -e -p {}", demo.redis_port));
    readme::run("demo", &[("localhost:5000", &url), ("redis-cli -p 6390", &redis)]).await?;
    demo.end("TERM").await.map(drop)
}

#[tokio::test]
async fn an_order_beyond_the_stock_is_refused_and_takes_nothing() -> Result<()> {
    let demo = Demo::empty().await?;
    let client = Client::new(&demo.url())?;
    let customer = client.new_customer("Ada").await?;
    let product = client.new_product("Cup", 7, 3).await?;
    let order = json!({"customer_id": customer, "product_ids": vec![&product; 2]});

    let (status, answer) =
        client.request(reqwest::Method::POST, "/orders", Some(&json!([order, order]))).await?;
    ensure!(status == 409, "two orders of two out of three: {status} {answer}");
    let inventory: Vec<Value> = client.get("/inventory").await?;
    ensure!(inventory.len() == 1 && inventory[0]["amount"] == 3, "{inventory:?}");
    let orders: Vec<Value> = client.get("/orders").await?;
    ensure!(orders.is_empty(), "{orders:?}");
    demo.end("TERM").await.map(drop)
}
