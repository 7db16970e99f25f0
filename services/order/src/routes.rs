//! The commands about orders. Customers and products are read from the store's entities, which
//! are never behind the log.

use crate::outcomes::{Outcome, Outcomes, Waiting};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{post, put};
use axum::{Json, Router};
use chassis::classic::{self, CausedBy, EntityId};
use chassis::kinds::ORDER;
use chassis::{Context, Problem, RawJson, events};
use domain::{Content, Customer, FieldError, Invalid, Order, OrderDraft, Product, Short, Undecided};
use event_store::{Entity, EntityType, EventStore, Expected};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use tokio::time::Instant;

#[derive(Clone)]
struct Orders {
    store: EventStore,
    outcomes: Outcomes,
    wait: Duration,
}

/// The commands. A caller waits for the outcome of its order for at most `wait`.
pub fn routes(store: EventStore, outcomes: Outcomes, wait: Duration) -> Router {
    Router::new()
        .route("/order", post(create))
        .route("/orders", post(create))
        .route("/order/{id}", put(replace).delete(remove))
        .with_state(Orders { store, outcomes, wait })
}

async fn create(
    State(orders): State<Orders>,
    context: Context,
    RawJson(body): RawJson,
) -> Result<Response, Problem> {
    let drafts = domain::parse_list::<OrderDraft>(&body)?;
    let contents = orders.contents(drafts, body.is_array()).await?;
    let ids = classic::new_ids(contents.len());
    let placed = Order::place_list(ids.clone(), contents);
    let waiting: Vec<Waiting> =
        placed.iter().map(|order| orders.outcomes.of(&order.id, order.revision)).collect();
    let event = |order| events::Orders::put("created", order).expect(Expected::None).caused_by(&context);
    classic::append_all(&orders.store, placed.iter().map(event).collect()).await?;

    let deadline = Instant::now() + orders.wait;
    let mut status = StatusCode::OK;
    for waiting in waiting {
        match waiting.until(deadline).await {
            // Whoever deleted it meanwhile knows; the order was placed.
            Some(Outcome::Confirmed | Outcome::Deleted) => {}
            Some(Outcome::Rejected(short)) => return Err(out_of_stock(&short).with("orders", &ids)),
            None => status = StatusCode::ACCEPTED,
        }
    }
    Ok((status, Json(ids)).into_response())
}

async fn replace(
    State(orders): State<Orders>,
    EntityId(id): EntityId,
    context: Context,
    RawJson(body): RawJson,
) -> Result<Response, Problem> {
    let draft = domain::parse_one::<OrderDraft>(&body)?;
    if orders.store.entity(ORDER, &id).await?.is_none() {
        return Err(classic::unknown(ORDER, &id));
    }
    let wanted = orders.contents(vec![draft], false).await?.pop().ok_or_else(Problem::internal)?;
    let deadline = Instant::now() + orders.wait;
    let waiting = orders.change(&id, &wanted, &context, deadline).await?;
    match waiting.until(deadline).await {
        Some(Outcome::Confirmed) => Ok(Json(true).into_response()),
        Some(Outcome::Rejected(short)) => Err(out_of_stock(&short)),
        Some(Outcome::Deleted) => Err(classic::unknown(ORDER, &id)),
        None => Ok((StatusCode::ACCEPTED, Json(true)).into_response()),
    }
}

async fn remove(
    State(orders): State<Orders>,
    EntityId(id): EntityId,
    context: Context,
) -> Result<Json<bool>, Problem> {
    let remove = |entity: &Entity| {
        let last = classic::decoded::<events::Orders>(entity)?.delete();
        Ok(events::Orders::remove("deleted", &last).caused_by(&context))
    };
    classic::modify(&orders.store, ORDER, &id, remove).await?;
    Ok(Json(true))
}

impl Orders {
    /// The drafts with snapshots of what they name, or everything that they name in vain.
    async fn contents(&self, drafts: Vec<OrderDraft>, listed: bool) -> Result<Vec<Content>, Problem> {
        let customers: BTreeSet<&String> = drafts.iter().map(|draft| &draft.customer_id).collect();
        let products: BTreeSet<&String> = drafts.iter().flat_map(|draft| &draft.product_ids).collect();
        let customers: HashMap<String, Customer> = self.named::<events::Customers>(customers).await?;
        let products: HashMap<String, Product> = self.named::<events::Products>(products).await?;
        let mut contents = Vec::with_capacity(drafts.len());
        let mut errors = Vec::new();
        for (index, draft) in drafts.into_iter().enumerate() {
            match Content::of(draft, &customers, &products) {
                Ok(content) => contents.push(content),
                Err(unknown) => errors.push(FieldError {
                    item: listed.then_some(index),
                    field: Some(unknown.field.to_owned()),
                    problem: format!("names no {}: {}", unknown.entity, unknown.id),
                    expected: format!("a {} that exists", unknown.entity),
                }),
            }
        }
        if errors.is_empty() { Ok(contents) } else { Err(Invalid::unprocessable(errors).into()) }
    }

    async fn named<T: EntityType>(
        &self,
        ids: BTreeSet<&String>,
    ) -> Result<HashMap<String, T::State>, Problem> {
        let ids: Vec<&String> = ids.into_iter().collect();
        let found = self.store.entities(T::KIND, &ids).await?;
        found.iter().flatten().map(|entity| Ok((entity.id.clone(), classic::decoded::<T>(entity)?))).collect()
    }

    /// Appends the change as soon as the order's last one is decided: an order has one open
    /// question at a time.
    async fn change(
        &self,
        id: &str,
        wanted: &Content,
        context: &Context,
        deadline: Instant,
    ) -> Result<Waiting, Problem> {
        loop {
            let entity = self.store.entity(ORDER, id).await?.ok_or_else(|| classic::unknown(ORDER, id))?;
            let order: Order = classic::decoded::<events::Orders>(&entity)?;
            match order.change(wanted.clone()) {
                Ok(changed) => {
                    let waiting = self.outcomes.of(id, changed.revision);
                    let event =
                        events::Orders::put("updated", &changed).expect(Expected::Exactly(entity.version));
                    match self.store.append(vec![event.caused_by(context)]).await {
                        Ok(_) => return Ok(waiting),
                        Err(error) if error.is_conflict() && Instant::now() < deadline => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(error @ Undecided) => {
                    if !self.settled(&order, entity.version, deadline).await? {
                        let problem = Problem::conflict(error.to_string());
                        return Err(problem.kind("undecided", "Not decided yet").retry_after(1));
                    }
                }
            }
        }
    }

    /// Waits until a pending order is worth another look; `false` when that takes too long.
    async fn settled(&self, order: &Order, version: u64, deadline: Instant) -> Result<bool, Problem> {
        let waiting = self.outcomes.of(&order.id, order.revision);
        // It may have been decided after it was read and before anybody waited.
        let now = self.store.entity(ORDER, &order.id).await?;
        let same = now.is_some_and(|entity| entity.version == version);
        Ok(!same || waiting.until(deadline).await.is_some())
    }
}

fn out_of_stock(short: &[Short]) -> Problem {
    let products = if short.len() == 1 { "product is" } else { "products are" };
    Problem::conflict(format!("{} {products} short; nothing was taken", short.len()))
        .kind("out-of-stock", "Out of stock")
        .with("short", &short)
}
