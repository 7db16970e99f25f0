//! Drafts: what a request says about an entity, checked field by field. They become entities with
//! an id that is given from outside.

use crate::entity::{Customer, Inventory, Product};
use crate::parse::Fields;

/// Longest name.
const MAX_NAME: usize = 256;
/// Longest address (RFC 5321's 64 + 1 + 255).
const MAX_EMAIL: usize = 320;
/// Longest id.
const MAX_ID: usize = 128;
/// Most products of one order.
const MAX_PRODUCTS: usize = 1_000;
/// Largest amount: the largest integer that every JSON reader keeps exactly.
const MAX_AMOUNT: u64 = (1 << 53) - 1;
/// Largest price in euros: a thousand of them still have exact cents.
const MAX_PRICE: f64 = 1e9;
/// Latest moment, in Unix seconds: the year 9999.
const MAX_TIME: f64 = 253_402_300_799.0;

/// Whether a text can be the id of an entity: short, and without what could reach another key.
#[must_use]
pub fn is_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_ID
        && !text.chars().any(|c| c.is_control() || c.is_whitespace() || matches!(c, '{' | '}' | '/'))
}

/// Something that a request body can be read as.
pub trait Draft: Sized {
    /// Reads every field, so that every mistake is collected; `None` if there was one.
    fn read(fields: &mut Fields<'_>) -> Option<Self>;
}

/// A customer without its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomerDraft {
    /// Its name.
    pub name: String,
    /// Its address.
    pub email: String,
}

impl Draft for CustomerDraft {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (name, email) = (fields.text("name", MAX_NAME), fields.text("email", MAX_EMAIL));
        Some(Self { name: name?, email: email? })
    }
}

impl CustomerDraft {
    /// The customer.
    #[must_use]
    pub fn into_entity(self, id: String) -> Customer {
        Customer { id, name: self.name, email: self.email }
    }
}

/// A product without its id.
#[derive(Clone, Debug, PartialEq)]
pub struct ProductDraft {
    /// Its name.
    pub name: String,
    /// Its price in euros.
    pub price: f64,
}

impl Draft for ProductDraft {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (name, price) = (fields.text("name", MAX_NAME), fields.number("price", MAX_PRICE));
        Some(Self { name: name?, price: price? })
    }
}

impl ProductDraft {
    /// The product.
    #[must_use]
    pub fn into_entity(self, id: String) -> Product {
        Product { id, name: self.name, price: self.price }
    }
}

/// Stock without its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InventoryDraft {
    /// The product.
    pub product_id: String,
    /// Pieces on hand.
    pub amount: u64,
}

impl Draft for InventoryDraft {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (product_id, amount) = (fields.id("product_id"), fields.count("amount", MAX_AMOUNT));
        Some(Self { product_id: product_id?, amount: amount? })
    }
}

impl InventoryDraft {
    /// The stock.
    #[must_use]
    pub fn into_entity(self, id: String) -> Inventory {
        Inventory { id, product_id: self.product_id, amount: self.amount }
    }
}

/// What somebody orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderDraft {
    /// The products, one entry per piece.
    pub product_ids: Vec<String>,
    /// Who orders.
    pub customer_id: String,
}

impl Draft for OrderDraft {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (product_ids, customer_id) = (fields.ids("product_ids", MAX_PRODUCTS), fields.id("customer_id"));
        Some(Self { product_ids: product_ids?, customer_id: customer_id? })
    }
}

/// A payment of an order, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillingDraft {
    /// The order.
    pub order_id: String,
}

impl Draft for BillingDraft {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { order_id: fields.id("order_id")? })
    }
}

/// A changed payment.
#[derive(Clone, Debug, PartialEq)]
pub struct BillingUpdate {
    /// The order.
    pub order_id: String,
    /// When it was paid, in Unix seconds. Nobody but the shop sets it at first, so it may be left
    /// out here too: then it stays.
    pub done: Option<f64>,
}

impl Draft for BillingUpdate {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (order_id, done) = (fields.id("order_id"), fields.optional_number("done", MAX_TIME));
        Some(Self { order_id: order_id?, done: done? })
    }
}
