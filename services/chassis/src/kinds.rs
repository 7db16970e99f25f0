//! The shop's kinds of entities as the event store knows them, and all their streams. The one
//! place where a stream's name is made; says nothing about what the events carry.

use event_store::{Kind, StreamName};

/// Customers.
pub const CUSTOMER: Kind = Kind::new("customer");
/// Products.
pub const PRODUCT: Kind = Kind::new("product");
/// Stock of a product; a product may have several.
pub const INVENTORY: Kind = Kind::new("inventory").indexes(&["product_id"]);
/// What an order holds of the stock; its id is the order's.
pub const RESERVATION: Kind = Kind::within("inventory", "reservation");
/// Orders.
pub const ORDER: Kind = Kind::new("order").lists(&["product_ids"]).indexes(&["customer_id"]);
/// Payments of orders.
pub const BILLING: Kind = Kind::new("billing").indexes(&["order_id"]);
/// Mails to customers.
pub const MAIL: Kind = Kind::new("mail");

/// Every stream of the shop.
#[must_use]
pub fn all_streams() -> Vec<StreamName> {
    let changes = ["created", "updated", "deleted"];
    let entities = [CUSTOMER, PRODUCT, INVENTORY, ORDER, BILLING];
    let mut streams: Vec<StreamName> =
        entities.iter().flat_map(|kind| changes.map(|action| kind.stream(action))).collect();
    streams.extend(["reserved", "rejected"].map(|action| RESERVATION.stream(action)));
    streams.extend(["requested", "sent", "failed"].map(|action| MAIL.stream(action)));
    streams
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn all_streams_are_the_twenty_of_the_shop_each_once() {
        let names: BTreeSet<String> = all_streams().iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), all_streams().len());
        assert_eq!(names.len(), 20);
        for name in ["order_created", "inventory_reserved", "inventory_rejected", "mail_failed"] {
            assert!(names.contains(name), "{name}");
        }
    }
}
