//! Events of entities that belong to a customer. All of them are ordered with that customer's
//! others, so that whoever mails a customer does it in the order in which things happened. Made
//! here only, because one event without the key would break the order of all. And what every
//! handler of events does alike: how it subscribes, how it reads what an event carries.

use crate::kinds::{BILLING, CUSTOMER, MAIL, ORDER};
use domain::{Billing, Mail, Order};
use event_store::{Event, NewEvent, Outcome, Subscription};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// An event that leaves an order in this state.
pub fn order(action: &'static str, order: &Order) -> NewEvent {
    NewEvent::put(ORDER, action, &order.id, order).ordered_with(CUSTOMER.ordering_key(&order.customer_id))
}

/// The event of an order's end.
pub fn order_deleted(last: &Order) -> NewEvent {
    NewEvent::remove(ORDER, "deleted", &last.id, last).ordered_with(CUSTOMER.ordering_key(&last.customer_id))
}

/// An event that leaves a billing in this state.
pub fn billing(action: &'static str, billing: &Billing) -> NewEvent {
    NewEvent::put(BILLING, action, &billing.id, billing)
        .ordered_with(CUSTOMER.ordering_key(&billing.customer.id))
}

/// The event of a billing's end.
pub fn billing_deleted(last: &Billing) -> NewEvent {
    NewEvent::remove(BILLING, "deleted", &last.id, last)
        .ordered_with(CUSTOMER.ordering_key(&last.customer.id))
}

/// An event that leaves a mail in this state: requested, sent or failed.
pub fn mail(action: &'static str, mail: &Mail) -> NewEvent {
    NewEvent::put(MAIL, action, &mail.id, mail).ordered_with(CUSTOMER.ordering_key(&mail.customer_id))
}

/// A service's subscription: its group is its name. Handlers here take milliseconds, so a consumer
/// that shows no sign of life for seconds is gone, and callers are waiting for what it held.
#[must_use]
pub fn subscription(service: &str, consumer: &str) -> Subscription {
    Subscription::new(service, consumer)
        .claim_after(Duration::from_secs(5))
        .retry(Duration::from_millis(50), Duration::from_secs(5))
}

/// What an event carries; an event that carries something else is parked, for it will never be
/// understood by this version.
pub fn decode<T: DeserializeOwned>(event: &Event) -> Result<T, Outcome> {
    event.decode().map_err(|error| Outcome::Park(error.to_string()))
}

/// What a handler makes of an event when all that it may do is to ask for one mail.
#[must_use]
pub fn asking_for(mail_due: Result<Option<Mail>, Outcome>) -> Outcome {
    match mail_due {
        Ok(Some(due)) => Outcome::Done(vec![mail("requested", &due)]),
        Ok(None) => Outcome::Skip("no mail is due".to_owned()),
        Err(outcome) => outcome,
    }
}
