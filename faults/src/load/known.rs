//! What the clients know of the shop, from its answers alone: which entities there are to ask about.

use crate::history::{Call, Method};

/// Ids by kind. A deleted entity stays for a while, so that commands meet it too.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) customers: Vec<String>,
    pub(super) products: Vec<String>,
    pub(super) shelves: Vec<Shelf>,
    pub(super) orders: Vec<String>,
    pub(super) billings: Vec<String>,
}

/// An inventory and its product, which a change of it must name.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    pub(super) id: String,
    pub(super) product: String,
}

/// So many orders and billings are remembered.
const MEMORY: usize = 200;

impl Known {
    pub(super) fn learn(&mut self, call: &Call) {
        let done = call.status().is_some_and(|status| (200..300).contains(&status));
        if !done {
            return;
        }
        let parts = call.request.parts();
        match (call.request.method, parts.as_slice()) {
            (Method::Post, [what]) => self.created(what, call),
            (Method::Delete, ["inventory", id]) => self.shelves.retain(|shelf| shelf.id != *id),
            _ => {}
        }
    }

    fn created(&mut self, what: &str, call: &Call) {
        let ids: Vec<String> = serde_json::from_value(call.body().clone()).unwrap_or_default();
        if what == "inventory" {
            let body = call.request.body.clone().unwrap_or_default();
            let one = std::slice::from_ref(&body);
            let items = body.as_array().map_or(one, Vec::as_slice);
            self.shelves.extend(ids.into_iter().zip(items).map(|(id, item)| Shelf {
                id,
                product: item["product_id"].as_str().unwrap_or_default().to_owned(),
            }));
            return;
        }
        let list = match what {
            "customer" | "customers" => &mut self.customers,
            "product" | "products" => &mut self.products,
            "order" | "orders" => &mut self.orders,
            _ => &mut self.billings,
        };
        list.extend(ids);
        let old = list.len().saturating_sub(MEMORY);
        list.drain(..old);
    }
}
