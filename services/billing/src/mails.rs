//! The mails about money: please pay, and thank you for paying.

use chassis::events;
use chassis::kinds::{BILLING, ORDER};
use domain::{Mail, mail};
use event_store::{Event, Handler, Outcome, Subscription};

/// The subscription of one consumer.
#[must_use]
pub fn subscription(consumer: &str) -> Subscription {
    events::subscription("billing", consumer).streams([ORDER.stream("updated"), BILLING.stream("created")])
}

/// Handles events of orders and billings.
#[derive(Debug)]
pub struct Mails;

impl Handler for Mails {
    async fn handle(&self, event: &Event) -> Outcome {
        events::asking_for(due(event))
    }
}

fn due(event: &Event) -> Result<Option<Mail>, Outcome> {
    Ok(match (event.entity_type.as_str(), event.action()) {
        ("order", "updated") => mail::transfer(event.event_id, &events::decode(event)?),
        ("billing", "created") => Some(mail::receipt(event.event_id, &events::decode(event)?)),
        _ => None,
    })
}
