#![doc = include_str!("../README.md")]
//!
//! ## Where to look
//!
//! The main path: [`EventStore::connect`] → [`EventStore::append`] → [`EventStore::subscribe`].
//! Declaring events: [`EntityType`], [`events!`]. Reading: [`EventStore::load`], [`EventStore::replay`],
//! [`EventStore::tail`], [`EventStore::project`]. People's tools: [`EventStore::dead_letters`], [`doctor`].
//!
//! This library never uses a client's clock for ids, never trims while it appends, and knows nothing
//! of the program that uses it.

mod append;
mod batch;
mod body;
mod cache;
mod config;
mod connection;
mod dead;
mod deadline;
pub mod doctor;
mod durability;
mod entity;
mod entry;
mod error;
mod event;
mod functions;
mod groups;
mod id;
pub mod inspect;
mod kind;
mod lanes;
mod layout;
mod limit;
mod metrics;
mod name;
mod order;
mod page;
mod position;
mod projection;
mod reads;
mod record;
mod replay;
mod retention;
mod settings;
mod state;
mod store;
mod subscription;
mod table;
mod tail;
#[cfg(feature = "testing")]
pub mod testing;
mod transfer;
mod typed;
mod verify;
mod words;
mod writer;

pub use batch::Appended;
pub use body::Body;
pub use config::Config;
pub use dead::{DeadLetter, DeadLetters, GivenBack, Select};
pub use durability::Durability;
pub use entity::Entity;
pub use error::{
    AppendError, AppendErrorKind, ConnectError, ConnectErrorKind, DecodeError, DecodeErrorKind,
    ProjectionError, ReadError, ReadErrorKind, ReplayError, ReplayErrorKind,
};
pub use event::{Event, Expected, NewEvent};
pub use id::{Id, ParseIdError};
pub use kind::{Kind, StreamName};
pub use layout::Layout;
pub use metrics::Metrics;
pub use name::{InvalidName, NameOf};
pub use position::{Position, PositionError, PositionErrorKind, PositionState, StreamPosition};
pub use projection::{Projection, ProjectionObservation, ProjectionState, Projector, Removal, View, Write};
pub use replay::{Replay, Replayed};
pub use retention::{
    HeldBy, Holder, Preview, Retention, StreamPreview, TrimError, TrimErrorKind, Trimmed, Unread,
};
pub use settings::{KindSettings, Settings, SettingsError};
pub use store::EventStore;
pub use subscription::{
    Accepted, Consumer, GroupState, Handler, Observation, Outcome, Standstill, Start, Subscription,
    SubscriptionError, SubscriptionErrorKind, UnreadStream,
};
pub use tail::Tail;
pub use tokio_util::sync::CancellationToken;
pub use transfer::{
    Export, ExportError, Exported, Import, ImportError, ImportErrorKind, ImportPreview, Imported,
};
pub use typed::{EntityType, Loaded, Typed, TypedEvent, TypedHandler, Upcaster};
pub use uuid::Uuid;
pub use verify::{Difference, Rebuilt, Verified, VerifyError, VerifyErrorKind, What};
