//! Many commands at once, for a backlog. No client knows what they make, so nobody changes or deletes it.

use super::{Load, PATIENCE, command};
use crate::history::{Call, Method, Request};
use crate::rng::Rng;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

const CUSTOMERS_AT_A_TIME: u64 = 500;
/// Orders that are given together are decided together.
const ORDERS_AT_A_TIME: usize = 50;
/// A customer's mails are sent one after the other, those of several at once.
const CUSTOMERS_WHO_ORDER: u64 = 50;
/// More than any backlog wants.
const PIECES: u64 = 10_000_000;

impl Load {
    /// Makes so many customers.
    pub async fn many_customers(&self, count: u64) -> Result<()> {
        let mut rng = Rng::new(self.seed, self.recorder.now());
        for from in (0..count).step_by(usize::try_from(CUSTOMERS_AT_A_TIME)?) {
            let items = (from..count.min(from + CUSTOMERS_AT_A_TIME)).map(|_| command::customer(&mut rng));
            self.create("/customers", items.collect()).await?;
        }
        Ok(())
    }

    /// Orders of some customers for a product of which there is plenty: what [`Self::many_orders`] gives.
    pub async fn possible_orders(&self) -> Result<Vec<Value>> {
        let mut rng = Rng::new(self.seed, self.recorder.now());
        let customers = (0..CUSTOMERS_WHO_ORDER).map(|_| command::customer(&mut rng)).collect();
        let customers = self.create("/customers", customers).await?;
        let product = self.create("/product", command::product(&mut rng)).await?.remove(0);
        self.create("/inventory", json!({"product_id": product, "amount": PIECES})).await?;
        let order = |customer| json!({"product_ids": [product], "customer_id": customer});
        Ok(customers.into_iter().map(order).collect())
    }

    /// Gives so many orders, these in turn, in lists, all at once: an answer may wait for a decision.
    pub async fn many_orders(&self, orders: &[Value], count: u64) -> Result<()> {
        let orders: Vec<Value> = orders.iter().cycle().take(usize::try_from(count)?).cloned().collect();
        let lists = orders.chunks(ORDERS_AT_A_TIME).map(|list| {
            let (load, list) = (self.clone(), Value::from(list));
            tokio::spawn(async move { load.create("/orders", list).await })
        });
        for list in lists.collect::<Vec<_>>() {
            list.await.context("a list of orders")??;
        }
        Ok(())
    }

    async fn create(&self, path: &str, body: Value) -> Result<Vec<String>> {
        let id = format!("s{}-backlog-{}", self.seed, self.commands.fetch_add(1, Ordering::Relaxed));
        let call = self.call(id, Request::command(Method::Post, path, Some(body)), PATIENCE).await;
        ensure!(is_done(&call), "POST {path} was answered {:?}", call.answer);
        Ok(serde_json::from_value(call.body().clone())?)
    }
}

fn is_done(call: &Call) -> bool {
    matches!(call.status(), Some(200 | 202))
}
