//! An enum of the events that a program knows, each a variant with its entity's state.

use crate::error::{DecodeError, DecodeErrorKind};
use crate::{Event, Kind, NewEvent, StreamName};

/// Events that a program knows. Made by [`events!`](crate::events).
pub trait TypedEvent: Sized + Send {
    /// The streams of all of them, each once: what a subscription, a tail or a projection reads.
    fn streams() -> Vec<StreamName>;

    /// The event as one of them, or `None` when it is none of them.
    fn read(event: &Event) -> Option<Result<Self, DecodeError>>;

    /// The event to be appended.
    fn write(&self) -> NewEvent;
}

/// Declares an enum of events and implements [`TypedEvent`] for it.
///
/// A variant names its [`EntityType`](crate::EntityType), whose state it carries, and the action that is the second half
/// of its stream's name: `put` for an event that leaves the entity in that state, `remove` for its
/// deletion. Variants may be of several kinds: declare one enum of what a consumer handles, and
/// another of what a program writes.
///
/// ```
/// use event_store::{EntityType, Kind, NewEvent, TypedEvent, events};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// # pub struct Account { id: String, cents: i64 }
/// # impl EntityType for Account {
/// #     type State = Self;
/// #     const KIND: Kind = Kind::new("account");
/// #     fn id(account: &Self) -> &str { &account.id }
/// # }
///
/// events! {
///     /// What happens to accounts.
///     #[derive(Debug, PartialEq)]
///     pub enum AccountEvent {
///         /// There is a new account.
///         Opened(Account) = put "opened",
///         /// Somebody paid in.
///         Deposited(Account) = put "deposited",
///         /// It is gone; this is how it was last.
///         Closed(Account) = remove "closed",
///     }
/// }
///
/// let names: Vec<_> = AccountEvent::streams().iter().map(ToString::to_string).collect();
/// assert_eq!(names, ["account_closed", "account_deposited", "account_opened"]);
/// let event = AccountEvent::Opened(Account { id: "a".into(), cents: 0 });
/// let to_append: NewEvent = event.write();
/// ```
///
/// An action is 1 to 64 letters, digits and `-`. Another one does not compile, nor does a step that is neither `put` nor
/// `remove`:
///
/// ```compile_fail,E0080
/// # use event_store::{EntityType, Kind, events};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # pub struct Account { id: String }
/// # impl EntityType for Account {
/// #     type State = Self;
/// #     const KIND: Kind = Kind::new("account");
/// #     fn id(account: &Self) -> &str { &account.id }
/// # }
/// events! { pub enum AccountEvent { PaidIn(Account) = put "paid_in" } }
/// ```
///
/// ```compile_fail
/// # use event_store::{EntityType, Kind, events};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # pub struct Account { id: String }
/// # impl EntityType for Account {
/// #     type State = Self;
/// #     const KIND: Kind = Kind::new("account");
/// #     fn id(account: &Self) -> &str { &account.id }
/// # }
/// events! { pub enum AccountEvent { PaidIn(Account) = add "paid-in" } }
/// ```
#[macro_export]
macro_rules! events {
    (@write put $entity:ty, $action:literal, $state:ident) => {
        <$entity as $crate::EntityType>::put($action, $state)
    };
    (@write remove $entity:ty, $action:literal, $state:ident) => {
        <$entity as $crate::EntityType>::remove($action, $state)
    };
    (@write $step:ident $entity:ty, $action:literal, $state:ident) => {
        ::std::compile_error!(::std::concat!(
            "`", ::std::stringify!($step), " ", $action,
            "`: write `put` for an event that leaves the entity in a state, `remove` for its deletion"
        ))
    };
    (
        $(#[$enum_meta:meta])*
        $visibility:vis enum $name:ident {
            $(
                $(#[$variant_meta:meta])*
                $variant:ident($entity:ty) = $step:ident $action:literal
            ),+ $(,)?
        }
    ) => {
        $(#[$enum_meta])*
        $visibility enum $name {
            $( $(#[$variant_meta])* $variant(<$entity as $crate::EntityType>::State), )+
        }

        // Names that cannot be used are found when the program is compiled.
        $( const _: $crate::StreamName = <$entity as $crate::EntityType>::KIND.stream($action); )+

        impl $crate::TypedEvent for $name {
            fn streams() -> ::std::vec::Vec<$crate::StreamName> {
                let mut all = ::std::vec![
                    $( <$entity as $crate::EntityType>::KIND.stream($action), )+
                ];
                all.sort();
                all.dedup();
                all
            }

            fn read(
                event: &$crate::Event,
            ) -> ::std::option::Option<::std::result::Result<Self, $crate::DecodeError>> {
                $(
                    if event.is(<$entity as $crate::EntityType>::KIND, $action) {
                        return ::std::option::Option::Some(event.state::<$entity>().map(Self::$variant));
                    }
                )+
                ::std::option::Option::None
            }

            fn write(&self) -> $crate::NewEvent {
                match self {
                    $( Self::$variant(state) => $crate::events!(@write $step $entity, $action, state), )+
                }
            }
        }
    };
    ($($other:tt)*) => {
        ::std::compile_error!(
            "events! declares an enum: `enum Name { Variant(Entity) = put \"action\", .. }`, each variant with an EntityType, \
            `put` or `remove`, and the action as a literal"
        );
    };
}

impl Event {
    /// Is it this action of this kind of entity?
    #[must_use]
    pub fn is(&self, kind: Kind, action: &str) -> bool {
        self.entity_type == kind.name() && self.stream.family() == kind.family && self.action() == action
    }

    /// The event as one of those that the program knows. One that it does not know
    /// ([`DecodeErrorKind::Unknown`]) and one that a newer program wrote
    /// ([`DecodeErrorKind::NewerSchema`]) are errors; the event itself stays whole in the caller's hands.
    pub fn typed<E: TypedEvent>(&self) -> Result<E, DecodeError> {
        E::read(self).unwrap_or_else(|| {
            let why = format!("{} of {} {} is not known here", self.stream, self.entity_type, self.entity_id);
            Err(DecodeError::of(DecodeErrorKind::Unknown, self.id, why))
        })
    }
}
