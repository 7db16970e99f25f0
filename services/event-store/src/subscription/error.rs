//! Why a consumer does not handle events.

use crate::{Id, StreamName};

/// A consumer that does not handle events, and will not by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("subscription: {message}")]
pub struct SubscriptionError {
    kind: SubscriptionErrorKind,
    message: String,
}

/// Why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscriptionErrorKind {
    /// The subscription cannot be one: no stream, a bad name.
    Invalid,
    /// The group, or a consumer of it, knows of events that the log has lost: a backup was restored,
    /// or a replica was promoted that had not received all. What is appended now may get ids that
    /// pass for handled, so the group halts until a person has looked at what the world outside was
    /// told of the lost events, and calls [`crate::EventStore::accept_log`].
    LogWentBack {
        /// The stream.
        stream: StreamName,
        /// The highest id known.
        known: Id,
        /// The last id of the log.
        last: Id,
    },
}

impl SubscriptionError {
    pub(super) fn invalid(message: &str) -> Self {
        Self { kind: SubscriptionErrorKind::Invalid, message: message.to_owned() }
    }

    /// `ids` are the highest id known and the last of the log, as the server wrote them.
    pub(super) fn went_back(group: &str, stream: &StreamName, ids: &[String]) -> Self {
        let id = |at: usize| ids.get(at).and_then(|id| id.parse().ok()).unwrap_or(Id::ZERO);
        let (known, last) = (id(0), id(1));
        Self {
            kind: SubscriptionErrorKind::LogWentBack { stream: stream.clone(), known, last },
            message: format!(
                "the log went back in time: group {group} knows of {stream} {known}, the log ends at {last}; see what was done for the lost events, then accept the log"
            ),
        }
    }

    /// What happened, to match on.
    #[must_use]
    pub fn kind(&self) -> &SubscriptionErrorKind {
        &self.kind
    }
}
