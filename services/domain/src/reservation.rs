//! What an order holds of the stock. How it comes to hold it is decided in [`crate::stock`].

use serde::{Deserialize, Serialize};

/// What one order holds; its id is the order's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The order's id.
    pub id: String,
    /// The order's id.
    pub order_id: String,
    /// The order's revision that was decided last.
    pub revision: u32,
    /// What is held now: at most one line per inventory.
    #[cfg_attr(feature = "schema-next", serde(rename = "held"))]
    pub lines: Vec<Line>,
    /// What was missing, when the last decision was a rejection.
    #[serde(default)]
    pub short: Vec<Short>,
    /// The order is deleted: everything was given back, and nothing will be reserved again.
    #[serde(default)]
    pub released: bool,
}

/// Pieces that were taken from one inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Where they were taken.
    pub inventory_id: String,
    /// The product.
    pub product_id: String,
    /// How many.
    pub amount: u64,
}

/// A product of which there is too little. Counted over all orders that were decided together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Short {
    /// The product.
    pub product_id: String,
    /// Pieces wanted.
    pub wanted: u64,
    /// Pieces that could be had, those already held included.
    pub available: u64,
}
