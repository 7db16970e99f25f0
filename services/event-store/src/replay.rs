//! Folding the log: every event of some streams in id order, up to the moment of the call.

use crate::error::ReadError;
use crate::{Event, EventStore, Id, StreamName};

impl EventStore {
    /// Calls `fold` for every event of these streams in id order and ends at the end of the log.
    /// Events appended meanwhile may or may not be seen. Answers the last id that was read.
    pub async fn replay(
        &self,
        streams: &[StreamName],
        mut fold: impl FnMut(Event) + Send,
    ) -> Result<Id, ReadError> {
        let mut tail = self.tail(streams.to_vec(), Id::ZERO);
        loop {
            let before = tail.position();
            tail.next_now().await?.into_iter().for_each(&mut fold);
            if tail.position() == before {
                return Ok(before);
            }
        }
    }
}
