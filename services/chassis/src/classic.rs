//! What the classic commands have in common: a body becomes drafts, entities are appended in one
//! step, the answer is a list of ids or `true`. [`routes`] is all of it for a kind of entity that
//! needs no more; services with rules of their own take the parts.
//!
//! Never checks a field (that is `domain`'s) and never reads: queries go to the read model.

use crate::{Context, Problem, RawJson};
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::{post, put};
use axum::{Json, Router};
use domain::{Draft, Invalid, InvalidKind};
use event_store::{Appended, Entity, EntityType, EventStore, Expected, Kind, NewEvent, ReadErrorKind};
use uuid::Uuid;

/// How often a change is tried again when somebody else was first. Each time at least one of those
/// who compete gets through.
const ATTEMPTS: u32 = 32;

/// A kind of entity that is made, replaced and deleted without looking at any other.
pub trait Resource: Send + Sync + 'static {
    /// What a request says of it.
    type Draft: Draft + Send;
    /// It; the name of its kind is also its path: `/customer`.
    type Type: EntityType<State: Send + Sync>;
    /// The path that lists it: `/customers`.
    const LIST_PATH: &'static str;

    /// The draft with its id.
    fn entity(id: String, draft: Self::Draft) -> <Self::Type as EntityType>::State;
}

/// The commands of a resource: POST on both paths, PUT and DELETE on its entity's.
pub fn routes<R: Resource>(store: EventStore) -> Router {
    let path = format!("/{}", R::Type::KIND.name());
    let mut router = Router::new()
        .route(&format!("{path}/{{id}}"), put(replace::<R>).delete(remove::<R>))
        .route(&path, post(create::<R>));
    if R::LIST_PATH != path {
        router = router.route(R::LIST_PATH, post(create::<R>));
    }
    router.with_state(store)
}

async fn create<R: Resource>(
    State(store): State<EventStore>,
    context: Context,
    RawJson(body): RawJson,
) -> Result<Json<Vec<String>>, Problem> {
    let drafts = domain::parse_list::<R::Draft>(&body)?;
    let ids = new_ids(drafts.len());
    let event = |(id, draft): (&String, R::Draft)| {
        R::Type::put("created", &R::entity(id.clone(), draft)).expect(Expected::None).caused_by(&context)
    };
    append_all(&store, ids.iter().zip(drafts).map(event).collect()).await?;
    Ok(Json(ids))
}

async fn replace<R: Resource>(
    State(store): State<EventStore>,
    EntityId(id): EntityId,
    context: Context,
    RawJson(body): RawJson,
) -> Result<Json<bool>, Problem> {
    let entity = R::entity(id.clone(), domain::parse_one::<R::Draft>(&body)?);
    // All fields are replaced, so what they were does not matter: only that it is there.
    let event = R::Type::put("updated", &entity).expect(Expected::Exists);
    match store.append(vec![event.caused_by(&context)]).await {
        Err(error) if error.is_conflict() => Err(unknown(R::Type::KIND, &id)),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(Json(true)),
    }
}

async fn remove<R: Resource>(
    State(store): State<EventStore>,
    EntityId(id): EntityId,
    context: Context,
) -> Result<Json<bool>, Problem> {
    let remove =
        |entity: &Entity| Ok(R::Type::remove("deleted", &decoded::<R::Type>(entity)?).caused_by(&context));
    modify(&store, R::Type::KIND, &id, remove).await?;
    Ok(Json(true))
}

/// Ids for new entities.
#[must_use]
pub fn new_ids(count: usize) -> Vec<String> {
    std::iter::repeat_with(|| Uuid::new_v4().to_string()).take(count).collect()
}

/// Appends all of it in one step, or nothing. Nothing to append is no error.
pub async fn append_all(store: &EventStore, events: Vec<NewEvent>) -> Result<(), Problem> {
    if !events.is_empty() {
        store.append(events).await?;
    }
    Ok(())
}

/// Reads an entity, decides, and appends under the condition that it is still what was read; again
/// when it was not, for a bounded number of times. 404 when there is none.
pub async fn modify(
    store: &EventStore,
    kind: Kind,
    id: &str,
    mut decide: impl FnMut(&Entity) -> Result<NewEvent, Problem> + Send,
) -> Result<Appended, Problem> {
    let mut attempt = 1;
    loop {
        let entity = store.entity(kind, id).await?.ok_or_else(|| unknown(kind, id))?;
        let event = decide(&entity)?.expect(Expected::Exactly(entity.version));
        match store.append(vec![event]).await {
            Ok(appended) => return appended.into_iter().next().ok_or_else(Problem::internal),
            Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// An entity's state. One that a newer version of a service has written waits for that version here,
/// too; one that cannot be read otherwise is our mistake.
pub fn decoded<T: EntityType>(entity: &Entity) -> Result<T::State, Problem> {
    entity.state::<T>().map_err(|error| {
        if matches!(error.kind(), ReadErrorKind::NewerSchema { .. }) {
            return error.into();
        }
        tracing::error!(%error, "an entity is not what this service writes");
        Problem::internal()
    })
}

/// 404: there is no entity of this kind with this id.
pub fn unknown(kind: Kind, id: &str) -> Problem {
    Problem::not_found(format!("there is no {} {id}", kind.name()))
}

/// An event that carries who asked for it.
pub trait CausedBy {
    /// The request's id groups all events of the flow; its trace goes on in them.
    #[must_use]
    fn caused_by(self, context: &Context) -> Self;
}

impl CausedBy for NewEvent {
    fn caused_by(self, context: &Context) -> Self {
        let event = self.correlation_id(&context.request_id);
        match &context.traceparent {
            Some(traceparent) => event.traceparent(traceparent),
            None => event,
        }
    }
}

/// The id in a path `/x/{id}`. 404 when no entity can have it.
#[derive(Clone, Debug)]
pub struct EntityId(pub String);

impl<S: Send + Sync> FromRequestParts<S> for EntityId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(id)) if domain::is_id(&id) => Ok(Self(id)),
            _ => Err(Problem::not_found("there is nothing with this id")),
        }
    }
}

/// A request that is refused, with everything that is wrong with it.
impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        let status = match invalid.kind() {
            InvalidKind::Malformed => StatusCode::BAD_REQUEST,
            InvalidKind::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status).detail(invalid.to_string()).with("errors", &invalid.errors())
    }
}
