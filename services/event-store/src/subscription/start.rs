//! Where a group begins. Decides about a group that has never read anything, and about nothing else.

use crate::Id;

/// Where a group begins that is read for the first time: chosen with [`super::Subscription::start`].
///
/// The first consumer of a group decides, for all its streams at one moment, and it is written down:
/// a group that has begun goes on where it is, also after the server lost it, whatever its consumers
/// ask for later. A stream that joins a subscription afterwards is read from the same moment on.
///
/// What lies before is finished as far as this group is concerned: an entity's first event at or after
/// the beginning is handled though its earlier ones never are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// With the first event that the log still has. Choose it where every event must have its effect:
    /// for what is derived from the log, and for a process that must not miss a step.
    #[default]
    Beginning,
    /// With what is appended from now on. Choose it where the past is settled: for mails, alarms and
    /// other words to the world outside, which nobody wants about last year's events.
    Now,
    /// With what was appended after this id. Choose it for a group that takes over where another one
    /// stands (its cursor, see [`crate::inspect::GroupInfo`]), also in a store that was imported; and,
    /// since ids are milliseconds of the server's clock, for a moment: `Id::new(milliseconds, 0)`. An id
    /// that is still to come is the same as [`Start::Now`].
    After(Id),
}

impl Start {
    /// As the function takes it.
    pub(super) fn word(self) -> String {
        match self {
            Self::Beginning => Id::ZERO.to_string(),
            Self::Now => "$".to_owned(),
            Self::After(id) => id.to_string(),
        }
    }
}
