//! The commands about billings. Their orders are read from the store's entities, which are never
//! behind the log.

use axum::extract::State;
use axum::routing::{post, put};
use axum::{Json, Router};
use chassis::classic::{self, CausedBy, EntityId};
use chassis::events::{Billings, Orders};
use chassis::kinds::{BILLING, ORDER};
use chassis::{Context, Problem, RawJson};
use domain::{Billing, BillingDraft, BillingError, BillingUpdate, FieldError, Invalid, Order};
use event_store::{Entity, EntityType, EventStore, Expected};
use std::time::{SystemTime, UNIX_EPOCH};

/// The commands.
pub fn routes(store: EventStore) -> Router {
    Router::new()
        .route("/billing", post(create))
        .route("/billings", post(create))
        .route("/billing/{id}", put(replace).delete(remove))
        .with_state(store)
}

async fn create(
    State(store): State<EventStore>,
    context: Context,
    RawJson(body): RawJson,
) -> Result<Json<Vec<String>>, Problem> {
    let drafts = domain::parse_list::<BillingDraft>(&body)?;
    let order_ids: Vec<&str> = drafts.iter().map(|draft| draft.order_id.as_str()).collect();
    let orders = store.entities(ORDER, &order_ids).await?;
    let ids = classic::new_ids(drafts.len());
    let (done, mut billings, mut errors) = (now(), Vec::new(), Vec::new());
    for (index, (id, order)) in ids.iter().zip(&orders).enumerate() {
        let item = body.is_array().then_some(index);
        match bill(order.as_ref(), item, |order| Billing::of(id.clone(), order, done)) {
            Ok(billing) => billings.push(billing),
            Err(Refusal::Field(error)) => errors.push(error),
            Err(Refusal::Request(problem)) => return Err(problem),
        }
    }
    if !errors.is_empty() {
        return Err(Invalid::unprocessable(errors).into());
    }
    let event = |billing| Billings::put("created", billing).expect(Expected::None).caused_by(&context);
    classic::append_all(&store, billings.iter().map(event).collect()).await?;
    Ok(Json(ids))
}

/// Why an order is not billed: told together with the mistakes of other items, or at once.
enum Refusal {
    Field(FieldError),
    Request(Problem),
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Field(error) => Invalid::unprocessable(vec![error]).into(),
            Refusal::Request(problem) => problem,
        }
    }
}

fn bill(
    order: Option<&Entity>,
    item: Option<usize>,
    bill: impl FnOnce(&Order) -> Result<Billing, BillingError>,
) -> Result<Billing, Refusal> {
    let wrong = |problem: &str| {
        Refusal::Field(FieldError {
            item,
            field: Some("order_id".to_owned()),
            problem: problem.to_owned(),
            expected: "the id of an order".to_owned(),
        })
    };
    let order = order.ok_or_else(|| wrong("names no order"))?;
    let order: Order = classic::decoded::<Orders>(order).map_err(Refusal::Request)?;
    bill(&order).map_err(|error| match error {
        BillingError::Rejected => wrong("names an order that was rejected"),
        BillingError::Undecided => Refusal::Request(undecided(error)),
    })
}

async fn replace(
    State(store): State<EventStore>,
    EntityId(id): EntityId,
    context: Context,
    RawJson(body): RawJson,
) -> Result<Json<bool>, Problem> {
    let update = domain::parse_one::<BillingUpdate>(&body)?;
    let order = store.entity(ORDER, &update.order_id).await?;
    let change = |entity: &Entity| {
        let billing = classic::decoded::<Billings>(entity)?;
        let changed = bill(order.as_ref(), None, |order| billing.update(&update, order))?;
        Ok(Billings::put("updated", &changed).caused_by(&context))
    };
    classic::modify(&store, BILLING, &id, change).await?;
    Ok(Json(true))
}

async fn remove(
    State(store): State<EventStore>,
    EntityId(id): EntityId,
    context: Context,
) -> Result<Json<bool>, Problem> {
    let remove = |entity: &Entity| {
        Ok(Billings::remove("deleted", &classic::decoded::<Billings>(entity)?).caused_by(&context))
    };
    classic::modify(&store, BILLING, &id, remove).await?;
    Ok(Json(true))
}

fn undecided(error: BillingError) -> Problem {
    Problem::conflict(error.to_string()).kind("undecided", "Not decided yet").retry_after(1)
}

/// Unix seconds with their fraction.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
