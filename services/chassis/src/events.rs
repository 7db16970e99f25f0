//! What the events of each kind carry, and with which others they are ordered: all of an order, a
//! billing or a mail with those of its customer, so that whoever mails a customer does it in the
//! order in which things happened. Said here only, because one event without the key would break
//! the order of all. And what every handler of events does alike.

use crate::kinds::{BILLING, CUSTOMER, INVENTORY, MAIL, ORDER, PRODUCT, RESERVATION};
use domain::{Billing, Customer, Inventory, Mail, Order, Product, Reservation};
use event_store::{
    DecodeError, DecodeErrorKind, EntityType, Event, Kind, Outcome, Subscription, TypedHandler,
};
use std::time::Duration;

/// Customers and their events.
#[derive(Debug)]
pub struct Customers;

impl EntityType for Customers {
    type State = Customer;
    const KIND: Kind = CUSTOMER;

    fn id(customer: &Customer) -> &str {
        &customer.id
    }
}

/// Products and their events.
#[derive(Debug)]
pub struct Products;

impl EntityType for Products {
    type State = Product;
    const KIND: Kind = PRODUCT;

    fn id(product: &Product) -> &str {
        &product.id
    }
}

/// Orders and their events.
#[derive(Debug)]
pub struct Orders;

impl EntityType for Orders {
    type State = Order;
    const KIND: Kind = ORDER;

    fn id(order: &Order) -> &str {
        &order.id
    }

    fn ordered_with(order: &Order) -> Vec<String> {
        vec![CUSTOMER.ordering_key(&order.customer_id)]
    }
}

/// The stock and its events.
#[derive(Debug)]
pub struct Inventories;

impl EntityType for Inventories {
    type State = Inventory;
    const KIND: Kind = INVENTORY;

    fn id(inventory: &Inventory) -> &str {
        &inventory.id
    }
}

/// What orders hold of the stock, and the decisions about it.
#[derive(Debug)]
pub struct Reservations;

impl EntityType for Reservations {
    type State = Reservation;
    const KIND: Kind = RESERVATION;
    /// Schema 2 names the lines after what they are.
    #[cfg(feature = "schema-next")]
    const UPCASTERS: &'static [event_store::Upcaster] = &[|reservation| {
        if let Some(lines) = reservation.remove("lines") {
            reservation.insert("held".to_owned(), lines);
        }
    }];

    fn id(reservation: &Reservation) -> &str {
        &reservation.id
    }
}

/// Payments and their events.
#[derive(Debug)]
pub struct Billings;

impl EntityType for Billings {
    type State = Billing;
    const KIND: Kind = BILLING;

    fn id(billing: &Billing) -> &str {
        &billing.id
    }

    fn ordered_with(billing: &Billing) -> Vec<String> {
        vec![CUSTOMER.ordering_key(&billing.customer.id)]
    }
}

/// Mails: requested, sent or failed.
#[derive(Debug)]
pub struct Mails;

impl EntityType for Mails {
    type State = Mail;
    const KIND: Kind = MAIL;

    fn id(mail: &Mail) -> &str {
        &mail.id
    }

    fn ordered_with(mail: &Mail) -> Vec<String> {
        vec![CUSTOMER.ordering_key(&mail.customer_id)]
    }
}

/// A service's subscription: its group is its name. Handlers here take milliseconds, so a consumer
/// that shows no sign of life for seconds is gone, and callers are waiting for what it held.
#[must_use]
pub fn subscription(service: &str, consumer: &str) -> Subscription {
    Subscription::new(service, consumer)
        .claim_after(Duration::from_secs(5))
        .retry(Duration::from_millis(50), Duration::from_secs(5))
}

/// A handler in a service.
///
/// Its group's replicas are of two versions while it is upgraded: what a newer one has written waits in an older
/// one, with its entity, and is taken over when that ends; parked, it would wait for a person. Where traces are
/// sent, what it asks for continues from its own span.
pub(crate) struct Handled<H>(pub(crate) H);

impl<H: TypedHandler> TypedHandler for Handled<H> {
    type Event = H::Event;

    async fn handle(&self, event: H::Event, entry: &Event) -> Outcome {
        let outcome = self.0.handle(event, entry).await;
        match (outcome, telemetry::traceparent()) {
            (Outcome::Done(outputs), Some(here)) => {
                Outcome::Done(outputs.into_iter().map(|output| output.traceparent(&here)).collect())
            }
            (outcome, _) => outcome,
        }
    }

    fn unreadable(&self, entry: &Event, error: &DecodeError) -> Outcome {
        match error.kind() {
            DecodeErrorKind::NewerSchema { .. } => Outcome::Retry(error.to_string()),
            _ => self.0.unreadable(entry, error),
        }
    }
}

/// What a handler makes of an event when all that it may do is to ask for one mail.
#[must_use]
pub fn asking_for(due: Option<Mail>) -> Outcome {
    match due {
        Some(mail) => Outcome::Done(vec![Mails::put("requested", &mail)]),
        None => Outcome::Skip("no mail is due".to_owned()),
    }
}
