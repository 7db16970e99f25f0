//! Reads the state of an event again, for which there was no room when the event was read.

use super::item::{Content, Item, Place};
use crate::{EventStore, StreamName};
use std::sync::Arc;
use std::time::Duration;

/// After the server did not answer within the read deadline, or refused.
const PAUSE: Duration = Duration::from_millis(200);

/// Reads states where they are.
pub(super) trait ReadState: Sync {
    /// The event with its state; one that has it is answered as it is.
    fn state_of(&self, place: Place, item: &Arc<Item>) -> impl Future<Output = State> + Send;
}

/// The states in the log.
#[derive(Clone)]
pub(super) struct States {
    pub(super) store: EventStore,
    pub(super) streams: Arc<[StreamName]>,
}

/// What came of reading a state.
pub(super) enum State {
    /// The event with its state.
    Read(Arc<Item>),
    /// The entry was taken out of the log.
    Gone,
    /// The server did not say it.
    Unknown,
}

impl ReadState for States {
    async fn state_of(&self, place: Place, item: &Arc<Item>) -> State {
        if !item.is_without_state {
            return State::Read(item.clone());
        }
        let (id, number) = place;
        match self.store.entry(&self.streams[number], id).await {
            Ok(Some(raw)) => match Content::of(raw, number, &self.streams) {
                Content::Event(item) => State::Read(item),
                Content::Foreign(_) => State::Gone,
            },
            Ok(None) => State::Gone,
            Err(e) => {
                tracing::debug!(error = %e, stream = %self.streams[number], %id, "cannot read a state again, trying again");
                tokio::time::sleep(PAUSE).await;
                State::Unknown
            }
        }
    }
}
