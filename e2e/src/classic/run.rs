//! The original client's ten steps, each of which reads right after its write and never waits.

use super::client::{Client, Customer, Inventory, Order, Product, Report};
use super::mails::Mail;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::HashMap;
use uuid::Uuid;

/// How many customers, products and orders the run makes.
const AMOUNT: usize = 10;
/// The stock of each product.
const STOCK: u64 = 100;

/// What a run found and what it must have caused.
#[derive(Debug)]
pub struct Run {
    /// The shop at the end.
    pub report: Report,
    /// The mails that must follow, in no order.
    pub mails: Vec<Mail>,
}

/// Runs the ten steps against an empty shop.
pub async fn run(url: &str) -> Result<Run> {
    let client = Client::new(url)?;
    let customers = create_customers(&client).await.context("step 1, customers")?;
    let products = create_products(&client).await.context("step 2, products")?;
    create_inventory(&client).await.context("step 3, inventory")?;
    let orders = create_orders(&client, &customers, &products).await.context("step 4, orders")?;
    change_second_order(&client, &products).await.context("step 5, change of the second order")?;
    delete_third_order(&client).await.context("step 6, deletion of the third order")?;
    let deleted = delete_third_customer(&client).await.context("step 7, deletion of the third customer")?;
    let billed = bill_first_order(&client).await.context("step 8, billing of the first order")?;
    count_unbilled(&client).await.context("step 9, unbilled orders")?;
    let report = report(&client).await.context("step 10, report")?;
    Ok(Run { report, mails: expected_mails(&customers, &products, &orders, &deleted, &billed)? })
}

async fn create_customers(client: &Client) -> Result<Vec<Customer>> {
    let new: Vec<Value> = (0..AMOUNT)
        .map(|_| any_name())
        .map(|name| json!({"email": format!("{}@server.com", name.to_lowercase()), "name": name}))
        .collect();
    created(client, "/customers", &new.into()).await
}

async fn create_products(client: &Client) -> Result<Vec<Product>> {
    let new: Vec<Value> =
        (0..AMOUNT).map(|_| json!({"name": any_name(), "price": 10 + any_below(991)})).collect();
    created(client, "/products", &new.into()).await
}

async fn create_inventory(client: &Client) -> Result<()> {
    let products: Vec<Product> = client.get("/products").await?;
    let new: Vec<Value> =
        products.iter().map(|product| json!({"product_id": product.id, "amount": STOCK})).collect();
    let listed: Vec<Inventory> = created(client, "/inventory", &new.into()).await?;
    ensure!(listed.iter().all(|inventory| inventory.amount == STOCK), "{listed:?}");
    Ok(())
}

/// Creates all in one request and lists them.
async fn created<T: serde::de::DeserializeOwned>(client: &Client, path: &str, new: &Value) -> Result<Vec<T>> {
    let ids = client.create(path, new).await?;
    let listed: Vec<T> = client.get(path).await?;
    ensure!(ids.len() == AMOUNT && listed.len() == AMOUNT, "{} created, {} listed", ids.len(), listed.len());
    Ok(listed)
}

async fn create_orders(client: &Client, customers: &[Customer], products: &[Product]) -> Result<Vec<Order>> {
    for _ in 0..AMOUNT {
        let wanted: Vec<_> = (0..=any_below(10)).map(|_| any(products).id.clone()).collect();
        client.new_order(&any(customers).id, &wanted).await?;
    }
    let listed: Vec<Order> = client.get("/orders").await?;
    ensure!(listed.len() == AMOUNT, "{} listed", listed.len());
    Ok(listed)
}

async fn change_second_order(client: &Client, products: &[Product]) -> Result<()> {
    let mut order = nth_order(client, 1).await?;
    let first = order.product_ids.first_mut().context("an order without products")?;
    let other = products.iter().find(|product| product.id != *first).context("one product only")?;
    first.clone_from(&other.id);
    let path = format!("/order/{}", order.id);
    client.update(&path, &serde_json::to_value(&order)?).await?;
    let read: Option<Order> = client.get(&path).await?;
    let read = read.context("the order is gone")?;
    ensure!(read.product_ids == order.product_ids, "read back: {:?}", read.product_ids);
    Ok(())
}

async fn delete_third_order(client: &Client) -> Result<()> {
    let order = nth_order(client, 2).await?;
    delete(client, &format!("/order/{}", order.id)).await
}

async fn delete_third_customer(client: &Client) -> Result<Customer> {
    let mut customers: Vec<Customer> = client.get("/customers").await?;
    ensure!(customers.len() == AMOUNT, "{} customers", customers.len());
    let third = customers.remove(2);
    delete(client, &format!("/customer/{}", third.id)).await?;
    Ok(third)
}

async fn delete(client: &Client, path: &str) -> Result<()> {
    client.delete(path).await?;
    let read: Value = client.get(path).await?;
    ensure!(read.is_null(), "GET {path} after its deletion: {read}");
    Ok(())
}

async fn bill_first_order(client: &Client) -> Result<Order> {
    let order = nth_order(client, 0).await?;
    let ids = client.create("/billing", &json!({"order_id": order.id})).await?;
    ensure!(ids.len() == 1, "{ids:?}");
    Ok(order)
}

async fn count_unbilled(client: &Client) -> Result<()> {
    let unbilled: Vec<Order> = client.get("/orders/unbilled").await?;
    ensure!(unbilled.len() == AMOUNT - 2, "{} unbilled", unbilled.len());
    Ok(())
}

async fn report(client: &Client) -> Result<Report> {
    let report: Report = client.get("/report").await?;
    let counts = (report.products.len(), report.inventory.len(), report.customers.len());
    ensure!(counts == (AMOUNT, AMOUNT, AMOUNT - 1), "products, inventory, customers: {counts:?}");
    let counts = (report.orders.len(), report.billings.len());
    ensure!(counts == (AMOUNT - 1, 1), "orders, billings: {counts:?}");
    stock_adds_up(&report)?;
    Ok(report)
}

/// What is on hand and what the orders hold are together what was put in.
fn stock_adds_up(report: &Report) -> Result<()> {
    let mut total: HashMap<&str, u64> = HashMap::new();
    for inventory in &report.inventory {
        *total.entry(&inventory.product_id).or_default() += inventory.amount;
    }
    for product in report.orders.iter().flat_map(|order| &order.product_ids) {
        *total.entry(product).or_default() += 1;
    }
    let wrong: Vec<_> = total.iter().filter(|(_, amount)| **amount != STOCK).collect();
    ensure!(wrong.is_empty(), "stock on hand plus orders is not {STOCK}: {wrong:?}");
    Ok(())
}

/// The client takes its orders from the listing, by their place in it.
async fn nth_order(client: &Client, n: usize) -> Result<Order> {
    let orders: Vec<Order> = client.get("/orders").await?;
    orders.into_iter().nth(n).with_context(|| format!("no order at place {n}"))
}

fn expected_mails(
    customers: &[Customer],
    products: &[Product],
    orders: &[Order],
    deleted: &Customer,
    billed: &Order,
) -> Result<Vec<Mail>> {
    let buyer = |order: &Order| {
        customers.iter().find(|customer| customer.id == order.customer_id).context("an order of nobody")
    };
    let bought = |order: &Order| -> Vec<&Product> {
        order.product_ids.iter().filter_map(|id| products.iter().find(|product| product.id == *id)).collect()
    };
    let sum = |order: &Order| bought(order).iter().map(|product| product.price).sum::<f64>();

    let mut mails: Vec<Mail> = customers.iter().map(Mail::welcome).collect();
    mails.push(Mail::goodbye(deleted));
    for order in orders {
        let names: Vec<_> = bought(order).iter().map(|product| product.name.clone()).collect();
        mails.push(Mail::thank_you(buyer(order)?, &names));
        mails.push(Mail::transfer(buyer(order)?, sum(order)));
    }
    mails.push(Mail::receipt(buyer(billed)?, sum(billed)));
    Ok(mails)
}

fn any_below(bound: usize) -> usize {
    let random = Uuid::new_v4().as_u128() % (bound as u128);
    usize::try_from(random).unwrap_or_default()
}

fn any<T>(list: &[T]) -> &T {
    &list[any_below(list.len())]
}

/// Ten letters, the first a capital.
fn any_name() -> String {
    let letter = |base: u8| char::from(base + u8::try_from(any_below(26)).unwrap_or_default());
    std::iter::once(letter(b'A')).chain((1..10).map(|_| letter(b'a'))).collect()
}
