//! Long backlogs, handled while pods come and go. Each pod that comes has a new name, which is its consumer's.

use anyhow::{Context, Result, bail, ensure};
use e2e::classic::Client;
use e2e::cluster::{READY_WITHIN, SOON, Shop, with_shop};
use e2e::deadline::eventually;
use e2e::redis::Cli;
use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const ORDERS: usize = 20_000;
/// A list of orders is decided as a whole.
const ORDERS_AT_A_TIME: usize = 50;
const LISTS_AT_ONCE: usize = 20;
/// A customer's mails are sent one after the other.
const CUSTOMERS: usize = 200;
const PRODUCTS: usize = 20;
/// A group finishes something at least so often, whoever of it is killed: twice its longest claim time, which is 30 s, and
/// ten seconds; and as much again for pods that start on a busy machine.
const STANDS_STILL: Duration = Duration::from_secs(140);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A service with a group, what this reads, and how many of its events one order leads to.
struct Group {
    service: &'static str,
    streams: &'static [&'static str],
    events_per_order: usize,
}

/// In the order in which one waits for the other.
const GROUPS: [Group; 5] = [
    Group { service: "inventory", streams: &["order_created"], events_per_order: 1 },
    Group { service: "order", streams: &["inventory_reserved"], events_per_order: 1 },
    Group { service: "billing", streams: &["order_updated"], events_per_order: 1 },
    Group { service: "crm", streams: &["order_updated"], events_per_order: 1 },
    // Thanks from crm, and from billing how to pay.
    Group { service: "notification", streams: &["mail_requested"], events_per_order: 2 },
];

#[tokio::test]
#[ignore = "full: twenty thousand orders, handled by one service after the other"]
async fn backlogs_of_twenty_thousand_events_are_handled_while_pods_are_killed_and_scaled() -> Result<()> {
    with_shop("backlog", async |shop| {
        let client = shop.answers(SOON).await?;
        let orders = possible_orders(&client).await?;
        // The order service takes the orders, and is away when they are decided.
        for group in GROUPS.iter().filter(|group| group.service != "order") {
            scale(shop, group.service, 0).await?;
        }
        give_orders(&client, &orders).await?;
        scale(shop, "order", 0).await?;

        for group in &GROUPS {
            let backlog = group.unfinished(shop).await?;
            ensure!(backlog >= ORDERS * group.events_per_order, "{}: {backlog} events wait", group.service);
            let begin = Instant::now();
            scale(shop, group.service, 2).await?;
            group.falls_to(shop, backlog * 9 / 10).await?;
            kill_a_pod(shop, group.service).await?;
            group.falls_to(shop, backlog * 6 / 10).await?;
            replicas(shop, group.service, 3).await?;
            group.falls_to(shop, backlog * 3 / 10).await?;
            replicas(shop, group.service, 1).await?;
            group.falls_to(shop, 0).await?;
            println!("{}: {backlog} events in {:?}", group.service, begin.elapsed());
        }
        shop.ready(READY_WITHIN).await?;
        each_once(shop).await
    })
    .await
}

/// Customers and products that can all be had.
async fn possible_orders(client: &Client) -> Result<Vec<Value>> {
    let named = |n: usize| json!({"name": format!("C{n}"), "email": format!("c{n}@example.org")});
    let customers = client.create("/customers", &(0..CUSTOMERS).map(named).collect()).await?;
    let named = |n: usize| json!({"name": format!("P{n}"), "price": 1});
    let products = client.create("/products", &(0..PRODUCTS).map(named).collect()).await?;
    let plenty = products.iter().map(|id| json!({"product_id": id, "amount": ORDERS}));
    client.create("/inventory", &plenty.collect()).await?;
    let order =
        |(n, id): (usize, &String)| json!({"customer_id": id, "product_ids": [products[n % PRODUCTS]]});
    Ok(customers.iter().enumerate().map(order).collect())
}

async fn give_orders(client: &Client, orders: &[Value]) -> Result<()> {
    let all: Vec<Value> = orders.iter().cycle().take(ORDERS).cloned().collect();
    let lists = stream::iter(all.chunks(ORDERS_AT_A_TIME).map(Value::from).collect::<Vec<_>>());
    lists
        .map(|list| async move {
            let (status, body) = client.request(Method::POST, "/orders", Some(&list)).await?;
            // Nobody decides it for now.
            ensure!(status == StatusCode::ACCEPTED, "{status}: {body}");
            Ok(())
        })
        .buffer_unordered(LISTS_AT_ONCE)
        .try_collect::<()>()
        .await
}

/// Asks for so many pods, and does not wait for them.
async fn replicas(shop: &Shop, service: &str, count: u32) -> Result<()> {
    shop.patch(json!({"spec": {"services": {service: {"replicas": count}}}})).await.map(drop)
}

async fn scale(shop: &Shop, service: &str, count: u32) -> Result<()> {
    replicas(shop, service, count).await?;
    shop.has_replicas(service, i32::try_from(count)?, READY_WITHIN).await
}

/// Without time to end: nothing is handed back.
async fn kill_a_pod(shop: &Shop, service: &str) -> Result<()> {
    let pods = shop.pods(&Shop::selector(service)).await?;
    let name = pods.first().with_context(|| format!("no pod of {service}"))?.name_any();
    shop.objects::<Pod>().delete(&name, &DeleteParams::default().grace_period(0)).await?;
    Ok(())
}

impl Group {
    /// Pending, or not read yet.
    async fn unfinished(&self, shop: &Shop) -> Result<usize> {
        let mut sum = 0;
        for stream in self.streams {
            let groups = shop.json(&["XINFO", "GROUPS", &format!("events:{stream}")]).await?;
            let groups = groups.as_array().context("XINFO GROUPS answered no list")?;
            let found = groups.iter().find(|group| group["name"] == self.service).context("no such group")?;
            let count = |field: &str| found[field].as_u64().with_context(|| format!("{field}: {found}"));
            sum += usize::try_from(count("pending")? + count("lag")?)?;
        }
        Ok(sum)
    }

    /// Waits for it, as long as something is finished again and again.
    async fn falls_to(&self, shop: &Shop, few: usize) -> Result<()> {
        let (mut least, mut since) = (usize::MAX, Instant::now());
        loop {
            // A shop that is busy may not answer at once.
            let left = eventually("Redis answers", SOON, async || self.unfinished(shop).await).await?;
            if left <= few {
                return Ok(());
            }
            if left < least {
                (least, since) = (left, Instant::now());
            } else if since.elapsed() > STANDS_STILL {
                bail!("{} has not finished any of {left} events for {STANDS_STILL:?}", self.service);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

async fn each_once(shop: &Shop) -> Result<()> {
    let mails = 2 * ORDERS + CUSTOMERS;
    let wanted = [
        ("order_created", ORDERS),
        ("inventory_reserved", ORDERS),
        ("order_updated", ORDERS),
        ("mail_requested", mails),
        ("mail_sent", mails),
    ];
    for (stream, count) in wanted {
        let found = shop.json(&["XLEN", &format!("events:{stream}")]).await?;
        ensure!(found == count, "{found} entries of {stream}, not {count}");
    }
    for Group { service, .. } in &GROUPS {
        let parked = shop.json(&["XLEN", &format!("eventstore:group:{service}:dead")]).await?;
        ensure!(parked == 0, "{service} has parked {parked} events");
    }
    Ok(())
}
