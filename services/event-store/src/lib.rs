//! An event store on Redis Streams.
//!
//! Events are appended to one stream per entity type and action, in one atomic step with the
//! entity's cache; ids come from the server's clock and order events across all streams.
//! Durable subscriptions hand each entity's events out in version order at any number of
//! replicas, and what a handler returns is appended in the same step that finishes its event.
//!
//! The main path: [`EventStore::connect`] → [`EventStore::append`] → [`EventStore::subscribe`].
//!
//! This library never deletes from the log, never uses a client's clock for ids, and knows
//! nothing of the program that uses it.

mod append;
mod config;
mod connection;
mod dead;
pub mod doctor;
mod entity;
mod entry;
mod error;
mod event;
mod functions;
mod id;
pub mod inspect;
mod kind;
mod layout;
mod order;
mod projection;
mod replay;
mod store;
mod subscription;
mod tail;
#[cfg(feature = "testing")]
pub mod testing;
mod typed;

pub use append::Appended;
pub use config::Config;
pub use dead::{DeadLetter, DeadLetters};
pub use entity::Entity;
pub use error::{
    AppendError, AppendErrorKind, ConnectError, ConnectErrorKind, DecodeError, DecodeErrorKind,
    ProjectionError, ReadError, ReplayError, ReplayErrorKind,
};
pub use event::{Event, Expected, NewEvent};
pub use id::{Id, ParseIdError};
pub use kind::{Kind, StreamName};
pub use layout::Layout;
pub use projection::{Projection, ProjectionState, Projector, Removal, View, Write};
pub use replay::{Replay, Replayed};
pub use store::EventStore;
pub use subscription::{Consumer, GroupState, Handler, Observation, Outcome, Subscription};
pub use tail::Tail;
pub use tokio_util::sync::CancellationToken;
pub use typed::{EntityType, Loaded, Typed, TypedEvent, TypedHandler, Upcaster};
pub use uuid::Uuid;
