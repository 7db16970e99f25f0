//! A handler of typed events, and what it makes of those that it cannot read.

use super::TypedEvent;
use crate::error::DecodeError;
use crate::{Event, Handler, Outcome};
use std::future::Future;

/// Handles typed events. Give it to a consumer as [`Typed`].
///
/// ```
/// use event_store::{Event, Outcome, TypedEvent, TypedHandler, events};
/// # use event_store::{EntityType, Kind};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// # pub struct Account { id: String, cents: i64 }
/// # impl EntityType for Account {
/// #     type State = Self;
/// #     const KIND: Kind = Kind::new("account");
/// #     fn id(account: &Self) -> &str { &account.id }
/// # }
/// # events! { pub enum AccountEvent { Deposited(Account) = put "deposited", Taxed(Account) = put "taxed" } }
///
/// struct Tax;
///
/// impl TypedHandler for Tax {
///     type Event = AccountEvent;
///
///     async fn handle(&self, event: AccountEvent, _entry: &Event) -> Outcome {
///         match event {
///             AccountEvent::Deposited(mut account) => {
///                 account.cents -= 1;
///                 Outcome::Done(vec![AccountEvent::Taxed(account).write()])
///             }
///             AccountEvent::Taxed(_) => Outcome::Skip("already taxed".into()),
///         }
///     }
/// }
/// ```
pub trait TypedHandler: Send + Sync + 'static {
    /// What it handles.
    type Event: TypedEvent;

    /// Decides about one event; see [`Handler::handle`]. `entry` is the same event with its id,
    /// version and metadata.
    fn handle(&self, event: Self::Event, entry: &Event) -> impl Future<Output = Outcome> + Send;

    /// Decides about an event that cannot be read as one of [`Self::Event`]. Default: park, so that
    /// it is kept byte for byte, holds up its own entity only, and is replayed after an upgrade.
    /// Answer [`Outcome::Retry`] for a newer schema where a newer consumer of the group will soon take
    /// over what this one holds, or [`Outcome::Skip`] where unknown events do not matter.
    fn unreadable(&self, _entry: &Event, error: &DecodeError) -> Outcome {
        Outcome::Park(error.to_string())
    }
}

/// A typed handler as a [`Handler`]: `consumer.run(Typed(handler), cancel)`.
#[derive(Clone, Copy, Debug)]
pub struct Typed<H>(pub H);

impl<H: TypedHandler> Handler for Typed<H> {
    async fn handle(&self, event: &Event) -> Outcome {
        match event.typed() {
            Ok(known) => self.0.handle(known, event).await,
            Err(error) => self.0.unreadable(event, &error),
        }
    }
}
