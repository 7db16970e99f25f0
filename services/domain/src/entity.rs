//! The entities that have no life of their own: they are made, replaced as a whole and deleted.

use serde::{Deserialize, Serialize};

/// Somebody who orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Customer {
    /// Its id.
    pub id: String,
    /// Name, as in "Dear NAME!".
    pub name: String,
    /// Where mails go.
    pub email: String,
}

/// Something that can be ordered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Product {
    /// Its id.
    pub id: String,
    /// Name, as it stands in mails.
    pub name: String,
    /// Price in euros, never negative.
    pub price: f64,
}

/// Stock of a product. A product may have several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Its id.
    pub id: String,
    /// The product.
    pub product_id: String,
    /// Pieces on hand: what live orders hold is already taken off.
    pub amount: u64,
}
