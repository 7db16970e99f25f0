//! A little life for an empty shop, through the gateway as any client would bring it.

use super::probe::Http;
use anyhow::{Context, Result};
use serde_json::{Value, json};

const CUSTOMERS: [&str; 5] =
    ["Ada Lovelace", "Grace Hopper", "Alan Turing", "Edsger Dijkstra", "Barbara Liskov"];
const PRODUCTS: [(&str, f64); 6] = [
    ("Teapot", 24.5),
    ("Cup", 6.9),
    ("Oolong, 100 g", 12.0),
    ("Sencha, 100 g", 9.8),
    ("Kettle", 49.0),
    ("Honey", 7.25),
];
const STOCK: u32 = 100;

/// What was made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seeded {
    pub(super) customers: usize,
    pub(super) products: usize,
    pub(super) orders: usize,
}

/// Fills the shop if it has no customer yet; `None` when it has.
pub(super) fn fill(gateway: &Http) -> Result<Option<Seeded>> {
    let known: Vec<Value> = serde_json::from_str(&gateway.get("/customers")?).context("GET /customers")?;
    if !known.is_empty() {
        return Ok(None);
    }
    let customers = gateway.create("/customers", &customers())?;
    let products = gateway.create("/products", &products())?;
    let stock = products.iter().map(|id| json!({"product_id": id, "amount": STOCK}));
    gateway.create("/inventory", &stock.collect())?;
    let orders = gateway.create("/orders", &orders(&customers, &products))?;
    if let Some(first) = orders.first() {
        gateway.create("/billings", &json!([{"order_id": first}]))?;
    }
    Ok(Some(Seeded { customers: customers.len(), products: products.len(), orders: orders.len() }))
}

fn customers() -> Value {
    let email = |name: &str| format!("{}@example.com", name.to_lowercase().replace(' ', "."));
    CUSTOMERS.iter().map(|name| json!({"name": name, "email": email(name)})).collect()
}

fn products() -> Value {
    PRODUCTS.iter().map(|(name, price)| json!({"name": name, "price": price})).collect()
}

/// Two orders a customer, of one to three products.
fn orders(customers: &[String], products: &[String]) -> Value {
    (0..customers.len() * 2)
        .map(|i| {
            let wanted: Vec<_> = products.iter().cycle().skip(i).take(1 + i % 3).collect();
            json!({"customer_id": customers[i % customers.len()], "product_ids": wanted})
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_customer_orders_and_the_stock_suffices() {
        let customers: Vec<_> = (0..5).map(|i| format!("c{i}")).collect();
        let products: Vec<_> = (0..6).map(|i| format!("p{i}")).collect();
        let orders = orders(&customers, &products);
        let orders = orders.as_array().unwrap();
        for customer in &customers {
            assert!(orders.iter().any(|o| o["customer_id"] == *customer), "{customer}");
        }
        let taken: usize = orders.iter().map(|o| o["product_ids"].as_array().unwrap().len()).sum();
        assert!(taken < STOCK as usize);
    }
}
