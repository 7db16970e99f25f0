//! Typed events: what a program knows of the log, declared once. A kind of entity names its state's
//! type and how older schemas of it become the newest ([`EntityType`]); an enum names the events
//! that the program handles or writes ([`events!`](crate::events)), and a handler gets them
//! ([`TypedHandler`]). Reading never guesses: an event
//! of a newer schema or of an unknown action is an error that says so, and stays in the log.

mod events;
mod handler;

pub use events::TypedEvent;
pub use handler::{Typed, TypedHandler};

use crate::error::{DecodeError, DecodeErrorKind, ReadError, ReadErrorKind};
use crate::{Entity, Event, EventStore, Expected, Kind, NewEvent};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One step in the life of a schema: turns the fields of version n into those of version n + 1.
///
/// A pure function of what it is given. What it cannot make sense of it leaves as it is: then the
/// state's type refuses it.
pub type Upcaster = fn(&mut Map<String, Value>);

/// A kind of entity and the type of its state.
///
/// ```
/// use event_store::{EntityType, Kind, Upcaster};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Account {
///     id: String,
///     cents: i64,
///     currency: String,
/// }
///
/// impl EntityType for Account {
///     type State = Self;
///     const KIND: Kind = Kind::new("account");
///     // Schema 1 counted in euros, schema 2 in cents, schema 3 knows other currencies.
///     const UPCASTERS: &'static [Upcaster] = &[
///         |account| {
///             let euros = account.remove("euros").and_then(|e| e.as_i64());
///             account.extend(euros.map(|e| ("cents".to_owned(), (100 * e).into())));
///         },
///         |account| {
///             account.insert("currency".to_owned(), "EUR".into());
///         },
///     ];
///
///     fn id(account: &Self) -> &str {
///         &account.id
///     }
/// }
///
/// assert_eq!(Account::schema(), 3);
/// ```
pub trait EntityType {
    /// The state that its events and its cache carry. `Self`, unless the type is another crate's.
    type State: Serialize + DeserializeOwned;

    /// The kind, which names streams and keys.
    const KIND: Kind;

    /// The steps from schema 1 to the newest, oldest first. The newest schema is one more than there
    /// are steps, so the two cannot disagree. Add a step when an older state no longer deserializes,
    /// or would mean something else; a new field with a default needs none. Never change or remove
    /// one: the log still holds what it was written for.
    const UPCASTERS: &'static [Upcaster] = &[];

    /// The entity's id.
    fn id(state: &Self::State) -> &str;

    /// Further ordering keys of its events; see [`NewEvent::ordered_with`]. Default: none.
    fn ordered_with(_state: &Self::State) -> Vec<String> {
        Vec::new()
    }

    /// The schema that this program writes, and the newest that it reads.
    #[must_use]
    fn schema() -> u32 {
        u32::try_from(Self::UPCASTERS.len()).map_or(u32::MAX, |steps| steps.saturating_add(1))
    }

    /// An event that leaves the entity in this state.
    fn put(action: &'static str, state: &Self::State) -> NewEvent {
        let event = NewEvent::put(Self::KIND, action, Self::id(state), state).schema(Self::schema());
        Self::ordered_with(state).into_iter().fold(event, NewEvent::ordered_with)
    }

    /// The event of the entity's deletion, with its last state.
    fn remove(action: &'static str, last: &Self::State) -> NewEvent {
        let event = NewEvent::remove(Self::KIND, action, Self::id(last), last).schema(Self::schema());
        Self::ordered_with(last).into_iter().fold(event, NewEvent::ordered_with)
    }
}

impl Event {
    /// The state that it carries, brought to the newest schema.
    pub fn state<T: EntityType>(&self) -> Result<T::State, DecodeError> {
        newest::<T>(self.schema, || self.entity.decode(), || self.entity.value()).map_err(|(kind, why)| {
            DecodeError::of(kind, self.id, format!("{} {}: {why}", self.stream, self.entity_id))
        })
    }
}

/// The state in the newest schema, or why there is none: as it is decoded where no step is left to go, else by way of
/// its tree.
fn newest<'a, T: EntityType>(
    schema: u32,
    decoded: impl FnOnce() -> serde_json::Result<T::State>,
    tree: impl FnOnce() -> &'a Value,
) -> Result<T::State, (DecodeErrorKind, String)> {
    let malformed = |why: String| (DecodeErrorKind::Malformed, why);
    let known = T::schema();
    if schema > known {
        let kind = DecodeErrorKind::NewerSchema { schema, known };
        return Err((kind, format!("its schema is {schema}, this program knows {known}")));
    }
    let done = schema.checked_sub(1).and_then(|n| usize::try_from(n).ok());
    let done = done.ok_or_else(|| malformed("schemas count from 1".to_owned()))?;
    let steps = T::UPCASTERS.get(done..).unwrap_or_default();
    if steps.is_empty() {
        return decoded().map_err(|e| malformed(e.to_string()));
    }
    let Value::Object(fields) = tree() else { return Err(malformed("it is no object".to_owned())) };
    let mut fields = fields.clone();
    for step in steps {
        step(&mut fields);
    }
    T::State::deserialize(Value::Object(fields))
        .map_err(|e| malformed(format!("brought from schema {schema} to {known}: {e}")))
}

/// An entity's state as the cache holds it, with the version to expect when it is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loaded<S> {
    /// The state.
    pub state: S,
    /// The entity's version.
    pub version: u64,
}

impl<S> Loaded<S> {
    /// Accepts a change only while the entity is still what was loaded.
    #[must_use]
    pub fn expected(&self) -> Expected {
        Expected::Exactly(self.version)
    }
}

impl Entity {
    /// The state, brought to the newest schema. An error when a newer program wrote it.
    pub fn state<T: EntityType>(&self) -> Result<T::State, ReadError> {
        newest::<T>(self.schema, || T::State::deserialize(&self.body), || &self.body).map_err(
            |(kind, why)| {
                let kind = match kind {
                    DecodeErrorKind::NewerSchema { schema, known } => {
                        ReadErrorKind::NewerSchema { schema, known }
                    }
                    _ => ReadErrorKind::Malformed,
                };
                ReadError::of(kind, format!("{} {}: {why}", T::KIND.name(), self.id))
            },
        )
    }
}

impl EventStore {
    /// A live entity, or `None`. Never behind the log. Refused when a newer program wrote it, so that
    /// an older one does not decide on what it does not understand.
    pub async fn load<T: EntityType>(&self, id: &str) -> Result<Option<Loaded<T::State>>, ReadError> {
        let Some(entity) = self.entity(T::KIND, id).await? else { return Ok(None) };
        Ok(Some(Loaded { state: entity.state::<T>()?, version: entity.version }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Account {
        cents: i64,
        currency: String,
    }

    impl EntityType for Account {
        type State = Self;
        const KIND: Kind = Kind::new("account");
        const UPCASTERS: &'static [Upcaster] = &[
            |account| {
                if let Some(euros) = account.remove("euros").and_then(|e| e.as_i64()) {
                    account.insert("cents".to_owned(), (100 * euros).into());
                }
            },
            |account| {
                account.insert("currency".to_owned(), "EUR".into());
            },
        ];

        fn id(_: &Self) -> &'static str {
            "a"
        }

        fn ordered_with(account: &Self) -> Vec<String> {
            vec![format!("currency/{}", account.currency)]
        }
    }

    fn of_tree(schema: u32, state: &Value) -> Result<Account, (DecodeErrorKind, String)> {
        newest::<Account>(schema, || Account::deserialize(state), || state)
    }

    #[test]
    fn every_older_schema_becomes_the_newest_by_its_remaining_steps() {
        let newest_state = Account { cents: 700, currency: "EUR".into() };
        for (schema, state) in [
            (1, json!({ "euros": 7 })),
            (2, json!({ "cents": 700 })),
            (3, json!({ "cents": 700, "currency": "EUR" })),
        ] {
            assert_eq!(of_tree(schema, &state).unwrap(), newest_state, "schema {schema}");
        }
    }

    #[test]
    fn a_newer_schema_is_refused_even_when_it_would_deserialize() {
        let state = json!({ "cents": 700, "currency": "EUR" });
        let (kind, why) = of_tree(4, &state).unwrap_err();
        assert_eq!(kind, DecodeErrorKind::NewerSchema { schema: 4, known: 3 });
        assert!(why.contains("schema is 4") && why.contains("knows 3"), "{why}");
    }

    #[test]
    fn every_event_of_a_kind_carries_its_schema_and_its_ordering_keys() {
        let state = Account { cents: 1, currency: "EUR".into() };
        for event in [Account::put("opened", &state), Account::remove("closed", &state)] {
            assert_eq!(
                (event.schema, event.keys, event.entity_id.as_str()),
                (3, vec!["currency/EUR".into()], "a")
            );
        }
    }

    #[test]
    fn foreign_content_is_malformed_never_a_panic() {
        for (schema, state) in
            [(0, json!({})), (1, json!([1])), (1, json!({ "euros": "x" })), (3, json!(null))]
        {
            let (kind, _) = of_tree(schema, &state).unwrap_err();
            assert_eq!(kind, DecodeErrorKind::Malformed, "schema {schema} {state}");
        }
    }
}
