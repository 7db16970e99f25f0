//! Following the log without a group: live views, waits, projections. Never acknowledges and never
//! remembers anything on the server; several tails do not know of each other.

use crate::entry::{self, RawEntry};
use crate::error::ReadError;
use crate::{Event, EventStore, Id, StreamName, order};
use redis::Value;
use redis::aio::MultiplexedConnection;
use std::time::Duration;
use tracing::warn;

/// Entries a stream may answer in one read.
pub(crate) const BATCH: usize = 500;
const BLOCK: Duration = Duration::from_secs(2);
/// A blocking read that is silent for so long has lost its server.
pub(crate) const SILENCE: Duration = Duration::from_secs(10);

/// A reader that follows some streams in id order.
#[derive(Debug)]
pub struct Tail {
    store: EventStore,
    streams: Vec<StreamName>,
    keys: Vec<String>,
    /// How far each stream was read. Not one for all: an entry of another program may have an id ahead
    /// of the store's clock, and events below it are still to come in the other streams.
    cursors: Vec<Id>,
    /// Every event up to here was handed out.
    position: Id,
    connection: Option<MultiplexedConnection>,
}

impl EventStore {
    /// Follows these streams from after an id: [`Id::ZERO`] for the whole log, the
    /// [head](Self::head) for what is new from now on. In the tagged layout the streams must be of
    /// one family.
    #[must_use]
    pub fn tail(&self, streams: Vec<StreamName>, after: Id) -> Tail {
        let keys = streams.iter().map(|s| self.layout().stream(s)).collect();
        let cursors = vec![after; streams.len()];
        Tail { store: self.clone(), streams, keys, cursors, position: after, connection: None }
    }
}

impl Tail {
    /// The next events in id order; waits until there is one. An entry that is no event of the
    /// store is passed over with a warning.
    ///
    /// After an error call it again: nothing is lost, the reader goes on where it was. Dropping the
    /// returned future is safe too.
    pub async fn next(&mut self) -> Result<Vec<Event>, ReadError> {
        loop {
            let events = self.next_now().await?;
            if !events.is_empty() {
                return Ok(events);
            }
            // A read that has blocked answers the entries of one stream only, though the same call may
            // have written between them in another: it wakes up, and its answer is read anew.
            self.ask(Some(BLOCK), 1).await?;
        }
    }

    /// Like [`next`](Self::next), but answers nothing at the end of the log instead of waiting.
    pub(crate) async fn next_now(&mut self) -> Result<Vec<Event>, ReadError> {
        let reply = self.ask(None, BATCH).await?;
        let merged = order::merge(self.numbered(entry::parse_streams(reply)), BATCH);
        for (stream, raw) in &merged {
            self.cursors[*stream] = raw.id;
        }
        let events: Vec<Event> =
            merged.into_iter().filter_map(|(stream, raw)| decode(&self.streams[stream], raw)).collect();
        if let Some(last) = events.last() {
            self.position = last.id;
        }
        Ok(events)
    }

    /// Every event up to this id was handed out.
    #[must_use]
    pub fn position(&self) -> Id {
        self.position
    }

    /// Goes on after this id instead.
    pub(crate) fn seek(&mut self, position: Id) {
        self.position = position;
        self.cursors.fill(position);
    }

    /// Entries after the cursors, at most so many of each stream. Without `block` all streams are read at
    /// one moment.
    async fn ask(&mut self, block: Option<Duration>, count: usize) -> Result<Value, ReadError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.store.blocking(&self.keys).await?,
        };
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(count);
        if let Some(block) = block {
            command.arg("BLOCK").arg(block.as_millis().to_string());
        }
        command.arg("STREAMS").arg(&self.keys);
        for cursor in &self.cursors {
            command.arg(cursor.to_string());
        }
        let reply: Value = tokio::time::timeout(SILENCE, command.query_async(&mut connection))
            .await
            .map_err(|_| ReadError::unavailable("the server fell silent during a blocking read"))??;
        self.connection = Some(connection);
        Ok(reply)
    }

    fn numbered(&self, streams: Vec<(String, Vec<RawEntry>)>) -> Vec<(usize, Vec<RawEntry>)> {
        let number = |key: &String| self.keys.iter().position(|k| k == key);
        streams.into_iter().filter_map(|(key, entries)| Some((number(&key)?, entries))).collect()
    }
}

fn decode(stream: &StreamName, raw: RawEntry) -> Option<Event> {
    raw.into_event(stream)
        .inspect_err(|e| warn!(%stream, error = %e, "passed over an entry that is no event"))
        .ok()
}
