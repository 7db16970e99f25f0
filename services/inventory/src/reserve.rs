//! Reserving: reads what a decision needs, lets `domain` decide, and turns the plan into events
//! that are accepted only while everything is still as it was read. Decides nothing itself.

use chassis::events::{self, Inventories, Orders, Reservations};
use chassis::kinds::{INVENTORY, RESERVATION};
use domain::stock::{self, Demand, Plan, Versioned};
use domain::{Inventory, Reservation, Verdict};
use event_store::{
    Entity, EntityType, Event, EventStore, Expected, NewEvent, Outcome, ReadError, Subscription, TypedEvent,
    TypedHandler,
};
use futures_util::future::try_join_all;
use std::collections::BTreeSet;

/// Orders of one product compete for its inventories: of several decided at once, all but one are
/// decided again. One at a time keeps the slowest caller of a product that everybody wants at a
/// third of the wait that four at once gave, and costs nothing where nobody competes.
const CONCURRENCY: usize = 1;

event_store::events! {
    /// What may change what an order holds.
    #[derive(Debug)]
    pub enum Request {
        /// There is a new order.
        Placed(Orders) = put "created",
        /// An order changed, perhaps in what it wants.
        Changed(Orders) = put "updated",
        /// An order is gone.
        Deleted(Orders) = remove "deleted",
    }
}

/// The subscription of one consumer.
#[must_use]
pub fn subscription(consumer: &str) -> Subscription {
    events::subscription("inventory", consumer).streams(Request::streams()).concurrency(CONCURRENCY)
}

/// Handles events of orders.
pub struct Reserve {
    store: EventStore,
}

impl Reserve {
    /// A handler that reads from this store.
    #[must_use]
    pub fn new(store: EventStore) -> Self {
        Self { store }
    }

    async fn plan(&self, demand: &Demand) -> Result<Option<Plan>, ReadError> {
        let orders: Vec<&str> = demand.orders().iter().map(|wanted| wanted.order_id.as_str()).collect();
        let of_products =
            demand.products().into_iter().map(|id| self.store.ids_where(INVENTORY, "product_id", id));
        let (reservations, on_shelf) = futures_util::future::try_join(
            self.store.entities(RESERVATION, &orders),
            try_join_all(of_products),
        )
        .await?;
        let reservations: Vec<Versioned<Reservation>> = versioned::<Reservations>(reservations)?;
        let held = reservations.iter().flat_map(|held| &held.value.lines).map(|line| &line.inventory_id);
        let ids: BTreeSet<String> = on_shelf.into_iter().flatten().chain(held.cloned()).collect();
        let ids: Vec<String> = ids.into_iter().collect();
        let inventories: Vec<Versioned<Inventory>> =
            versioned::<Inventories>(self.store.entities(INVENTORY, &ids).await?)?;
        Ok(stock::decide(demand, inventories, &reservations))
    }
}

fn versioned<T: EntityType>(entities: Vec<Option<Entity>>) -> Result<Vec<Versioned<T::State>>, ReadError> {
    let one = |entity: Entity| Ok(Versioned { value: entity.state::<T>()?, version: entity.version });
    entities.into_iter().flatten().map(one).collect()
}

impl TypedHandler for Reserve {
    type Event = Request;

    async fn handle(&self, request: Request, _: &Event) -> Outcome {
        let (Request::Placed(order) | Request::Changed(order) | Request::Deleted(order)) = request;
        let demand = match Demand::of(&order) {
            Ok(demand) => demand,
            Err(reason) => return Outcome::Skip(reason.to_owned()),
        };
        match self.plan(&demand).await {
            Ok(Some(plan)) => Outcome::Done(outputs(&plan)),
            Ok(None) => Outcome::Skip("it is decided already".to_owned()),
            Err(error) => Outcome::Retry(error.to_string()),
        }
    }
}

/// The plan's events: all of them, under the versions it was made on, or none.
fn outputs(plan: &Plan) -> Vec<NewEvent> {
    let inventories = plan
        .inventories
        .iter()
        .map(|stock| Inventories::put("updated", &stock.value).expect(Expected::Exactly(stock.version)));
    let reservations = plan.reservations.iter().map(|(reservation, verdict, version)| {
        let action = match verdict {
            Verdict::Reserved => "reserved",
            Verdict::Rejected => "rejected",
        };
        Reservations::put(action, reservation).expect(version.map_or(Expected::None, Expected::Exactly))
    });
    inventories.chain(reservations).collect()
}
