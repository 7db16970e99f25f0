//! The mails about money: please pay, and thank you for paying.

use chassis::events::{self, Billings, Orders};
use domain::mail;
use event_store::{Event, Outcome, Subscription, TypedEvent, TypedHandler};

event_store::events! {
    /// What may be a reason to write about money.
    #[derive(Debug)]
    pub enum Money {
        /// Something happened to an order.
        Ordered(Orders) = put "updated",
        /// Somebody paid.
        Paid(Billings) = put "created",
    }
}

/// The subscription of one consumer.
#[must_use]
pub fn subscription(consumer: &str) -> Subscription {
    events::subscription("billing", consumer).streams(Money::streams())
}

/// Handles events of orders and billings.
#[derive(Debug)]
pub struct Mails;

impl TypedHandler for Mails {
    type Event = Money;

    async fn handle(&self, money: Money, entry: &Event) -> Outcome {
        events::asking_for(match money {
            Money::Ordered(order) => mail::transfer(entry.event_id, &order),
            Money::Paid(billing) => Some(mail::receipt(entry.event_id, &billing)),
        })
    }
}
