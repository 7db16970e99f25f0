//! What other services' events do to orders: a decision of inventory confirms or rejects, a
//! payment marks as billed. The decisions stand in `domain`; here is reading and appending only.

use chassis::events::{self, Billings, Orders, Reservations};
use chassis::kinds::{BILLING, ORDER};
use domain::{Billing, Order, Reservation, Verdict};
use event_store::{
    EntityType, Event, EventStore, Expected, NewEvent, Outcome, ReadError, ReadErrorKind, Subscription,
    TypedEvent, TypedHandler,
};

event_store::events! {
    /// What may change an order.
    #[derive(Debug)]
    pub enum News {
        /// The stock is there.
        Reserved(Reservations) = put "reserved",
        /// It is not.
        Rejected(Reservations) = put "rejected",
        /// Somebody paid.
        Billed(Billings) = put "created",
        /// A payment changed, perhaps to another order.
        Rebilled(Billings) = put "updated",
        /// A payment is gone.
        Unbilled(Billings) = remove "deleted",
    }
}

/// The subscription of one consumer.
#[must_use]
pub fn subscription(consumer: &str) -> Subscription {
    events::subscription("order", consumer).streams(News::streams())
}

/// Handles events of reservations and billings.
pub struct Decide {
    store: EventStore,
}

/// Why there is no next state: of no interest, or to be told to the store.
enum Not {
    Wanted(&'static str),
    Handled(Outcome),
}

impl From<ReadError> for Not {
    fn from(error: ReadError) -> Self {
        Self::Handled(Outcome::Retry(error.to_string()))
    }
}

impl Decide {
    /// A handler that reads from this store.
    #[must_use]
    pub fn new(store: EventStore) -> Self {
        Self { store }
    }

    async fn order(&self, id: &str) -> Result<Option<(Order, u64)>, Not> {
        let Some(entity) = self.store.entity(ORDER, id).await? else { return Ok(None) };
        let order = entity.state::<Orders>().map_err(|error| match error.kind() {
            // A newer replica has written it, and will take this over.
            ReadErrorKind::NewerSchema { .. } => Not::from(error),
            // What cannot be read now will not be readable later: no retry.
            _ => Not::Handled(Outcome::Park(error.to_string())),
        })?;
        Ok(Some((order, entity.version)))
    }

    async fn decided(&self, decision: Reservation, verdict: Verdict) -> Result<Vec<NewEvent>, Not> {
        if decision.released {
            return Err(Not::Wanted("the order is deleted"));
        }
        let (order, version) =
            self.order(&decision.order_id).await?.ok_or(Not::Wanted("the order is deleted"))?;
        let next = order.decide(verdict, &decision).ok_or(Not::Wanted("the order does not wait for this"))?;
        Ok(vec![updated(&next, version)])
    }

    /// Orders are billed while there is a billing of theirs, however many there were.
    async fn billed(&self, billing: Billing) -> Result<Vec<NewEvent>, Not> {
        let mut outputs = Vec::new();
        for id in [Some(&billing.order_id), billing.moved_from.as_ref()].into_iter().flatten() {
            // The order first: a billing that comes after it was read changes its version.
            let Some((order, version)) = self.order(id).await? else { continue };
            let billings = self.store.ids_where(BILLING, "order_id", id).await?;
            outputs.extend(order.bill(!billings.is_empty()).map(|next| updated(&next, version)));
        }
        if outputs.is_empty() { Err(Not::Wanted("the order stands so, or is deleted")) } else { Ok(outputs) }
    }
}

fn updated(order: &Order, version: u64) -> NewEvent {
    Orders::put("updated", order).expect(Expected::Exactly(version))
}

impl TypedHandler for Decide {
    type Event = News;

    async fn handle(&self, news: News, _: &Event) -> Outcome {
        let next = match news {
            News::Reserved(decision) => self.decided(decision, Verdict::Reserved).await,
            News::Rejected(decision) => self.decided(decision, Verdict::Rejected).await,
            News::Billed(billing) | News::Rebilled(billing) | News::Unbilled(billing) => {
                self.billed(billing).await
            }
        };
        match next {
            Ok(outputs) => Outcome::Done(outputs),
            Err(Not::Wanted(reason)) => Outcome::Skip(reason.to_owned()),
            Err(Not::Handled(outcome)) => outcome,
        }
    }
}
