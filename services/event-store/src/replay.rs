//! Folding the log: every event of some streams in id order, up to the moment of the call. While a
//! page is folded the next one is decoded and the one after it is on its way. Never writes, never
//! holds more than a few pages of each stream, and never passes over what a trim took: it begins
//! with the snapshots when asked to, and refuses otherwise.

mod source;

use crate::entry::{self, RawEntry};
use crate::error::{ReadError, ReplayError, ReplayErrorKind};
use crate::{Event, EventStore, Id, StreamName};
use redis::Value;
use source::Source;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tracing::warn;

/// What a replay has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replayed {
    /// The end of the log when the replay began; everything up to here was folded.
    pub upto: Id,
    /// How many events were folded, with the snapshots.
    pub events: u64,
    /// How many of them were snapshots: the last event of an entity whose events a trim took.
    pub snapshots: u64,
}

/// A fold over the log; see [`EventStore::replay_of`].
#[derive(Clone, Debug)]
#[must_use = "nothing is read until it runs"]
pub struct Replay {
    store: EventStore,
    streams: Vec<StreamName>,
    after: Id,
    from_snapshots: bool,
}

impl EventStore {
    /// Calls `fold` for every event of these streams in id order, from the beginning of the log to
    /// where it ends at the moment of the call; [`replay_of`](Self::replay_of) with its defaults.
    ///
    /// ```
    /// # use event_store::{Config, EventStore, Kind, NewEvent};
    /// # use serde_json::json;
    /// const ACCOUNT: Kind = Kind::new("account");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let redis = event_store::testing::Redis::start();
    /// # let store = EventStore::connect(Config::new(redis.url())).await?;
    /// # for cents in [1, 2, 3] {
    /// #     let state = json!({ "id": "ada", "cents": cents });
    /// #     store.append(vec![NewEvent::put(ACCOUNT, "deposited", "ada", &state)]).await?;
    /// # }
    /// let mut versions = Vec::new();
    /// store.replay(&[ACCOUNT.stream("deposited")], |event| versions.push(event.version)).await?;
    /// assert_eq!(versions, [1, 2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn replay(
        &self,
        streams: &[StreamName],
        fold: impl FnMut(Event) + Send,
    ) -> Result<Replayed, ReplayError> {
        self.replay_of(streams.iter().cloned()).run(fold).await
    }

    /// A fold over these streams in id order. In the tagged layout they must be of one family.
    pub fn replay_of(&self, streams: impl IntoIterator<Item = StreamName>) -> Replay {
        Replay {
            store: self.clone(),
            streams: streams.into_iter().collect(),
            after: Id::ZERO,
            from_snapshots: false,
        }
    }

    /// The id of the last event in these streams; [`Id::ZERO`] when there is none. Who has read up
    /// to here has read everything that was answered before the call.
    pub async fn head_of(&self, streams: &[StreamName]) -> Result<Id, ReadError> {
        if streams.is_empty() {
            return Ok(Id::ZERO);
        }
        let mut pipe = redis::pipe();
        for stream in streams {
            pipe.cmd("XREVRANGE").arg(self.layout().stream(stream)).arg(&["+", "-", "COUNT", "1"]);
        }
        let last: Vec<Value> = pipe.query_async(&mut self.reads()).await?;
        let mut head = Id::ZERO;
        for (stream, reply) in streams.iter().zip(last) {
            head = head.max(self.last_event(stream, entry::parse_entries(reply)).await?);
        }
        Ok(head)
    }

    /// The last event among these last entries of a stream, or before them. What another program has
    /// written there is no event: its id may be ahead of the log's, and no reader's position ever
    /// stands on it.
    async fn last_event(&self, stream: &StreamName, mut last: Vec<RawEntry>) -> Result<Id, ReadError> {
        loop {
            if let Some(event) = last.iter().find(|raw| raw.decode(stream).is_ok()) {
                return Ok(event.id);
            }
            let Some(first) = last.last() else { return Ok(Id::ZERO) };
            let before = format!("({}", first.id);
            let reply: Value = redis::cmd("XREVRANGE")
                .arg(self.layout().stream(stream))
                .arg(&[before.as_str(), "-", "COUNT", "100"])
                .query_async(&mut self.reads())
                .await?;
            last = entry::parse_entries(reply);
        }
    }
}

impl Replay {
    /// Begins after this id; default: the whole log.
    pub fn after(mut self, id: Id) -> Self {
        self.after = id;
        self
    }

    /// Begins with the snapshots where a trim took the events themselves: of each entity whose
    /// events are gone its last one comes, with [`Event::snapshot`] set. Choose it when the fold
    /// needs an entity's last state only; without it a trimmed log is refused.
    pub fn from_snapshots(mut self) -> Self {
        self.from_snapshots = true;
        self
    }

    /// Calls `fold` for every event in id order. An entry that is no event of the store is passed
    /// over with a warning. After an error begin anew: `fold` has seen a part.
    pub async fn run(self, mut fold: impl FnMut(Event) + Send) -> Result<Replayed, ReplayError> {
        let mut pages = self.open(event).await?;
        let mut replayed = Replayed { upto: pages.upto, events: 0, snapshots: 0 };
        while let Some(page) = pages.next().await? {
            for event in page {
                replayed.events += 1;
                replayed.snapshots += u64::from(event.snapshot);
                fold(event);
            }
        }
        Ok(replayed)
    }

    /// Opens the fold; `decode` runs beside the reader.
    pub(crate) async fn open<T: Send + 'static>(self, decode: Decode<T>) -> Result<Pages<T>, ReplayError> {
        let layout = self.store.layout();
        let upto = self.store.head_of(&self.streams).await?;
        let marks = self.store.trim_marks(&self.streams).await?;
        let keys: Vec<String> = self.streams.iter().map(|s| layout.stream(s)).collect();
        let connection = self.store.blocking(&keys).await.map_err(ReadError::from)?;
        let mut sources = Vec::with_capacity(self.streams.len());
        for stream in &self.streams {
            let mark = marks.get(&stream.to_string()).and_then(|m| m.parse().ok()).unwrap_or(Id::ZERO);
            let lost = misses(self.after, mark);
            if lost && !self.from_snapshots {
                return Err(ReplayError::trimmed(stream, mark));
            }
            let mut source = Source {
                key: layout.stream(stream),
                marks: layout.trimmed(stream.family()),
                mark_field: stream.to_string(),
                mark: marks.get(&stream.to_string()).cloned(),
                stream: Arc::new(stream.clone()),
                kept: false,
                after: self.after,
                upto,
            };
            sources.push(source.clone().spawn(connection.clone(), decode));
            if lost {
                source.key = layout.kept(stream);
                source.mark_field = swept_field(stream);
                source.mark = marks.get(&source.mark_field).cloned();
                source.kept = true;
                sources.push(source.spawn(connection.clone(), decode));
            }
        }
        Ok(Pages { upto, sources })
    }
}

/// Are events after `after` and before the mark, so gone from the log?
pub(crate) fn misses(after: Id, mark: Id) -> bool {
    after < mark.previous()
}

/// The field beside a stream's mark with that mark and the last id that was trimmed. Where the mark in it is another one,
/// the stream was trimmed by something that does not know the field.
pub(crate) fn last_field(stream: &StreamName) -> String {
    format!("{stream} last")
}

/// The field beside a stream's mark that changes when snapshots are removed.
pub(crate) fn swept_field(stream: &StreamName) -> String {
    format!("{stream} swept")
}

impl EventStore {
    /// What must be folded together: in the plain layout all streams, else family by family.
    pub(crate) fn parts(&self, streams: &[StreamName]) -> Vec<Vec<StreamName>> {
        if self.layout().is_plain() {
            return vec![streams.to_vec()];
        }
        let mut families: BTreeMap<&str, Vec<StreamName>> = BTreeMap::new();
        for stream in streams {
            families.entry(stream.family()).or_default().push(stream.clone());
        }
        families.into_values().collect()
    }

    /// Per stream the first id that was not trimmed, and what changes when snapshots are removed.
    pub(crate) async fn trim_marks(
        &self,
        streams: &[StreamName],
    ) -> Result<HashMap<String, String>, ReadError> {
        let mut families: Vec<String> = streams.iter().map(|s| self.layout().trimmed(s.family())).collect();
        families.sort();
        families.dedup();
        let mut marks = HashMap::new();
        for key in families {
            let found: HashMap<String, String> =
                redis::cmd("HGETALL").arg(key).query_async(&mut self.reads()).await?;
            marks.extend(found);
        }
        Ok(marks)
    }
}

/// What becomes of an entry: its stream, is it a snapshot, and the entry.
pub(crate) type Decode<T> = fn(&StreamName, bool, RawEntry) -> Option<T>;

fn event(stream: &StreamName, snapshot: bool, raw: RawEntry) -> Option<Event> {
    match raw.into_event(stream) {
        Ok(event) => Some(Event { snapshot, ..event }),
        Err(e) => {
            warn!(%stream, error = %e, "passed over an entry that is no event");
            None
        }
    }
}

/// Every event as it is; for folds within the library.
pub(crate) const EVENTS: Decode<Event> = event;

/// The merged pages of several streams.
pub(crate) struct Pages<T> {
    pub(crate) upto: Id,
    sources: Vec<source::Open<T>>,
}

impl<T> Pages<T> {
    /// The next run of entries in id order; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<T>>, ReplayError> {
        loop {
            for source in &mut self.sources {
                source.fill().await?;
            }
            // What is complete: up to the lowest last id of those that may hold more.
            let bound = self.sources.iter().filter_map(source::Open::last).min().unwrap_or(Id::MAX);
            let mut parts: Vec<Vec<(Id, Option<T>)>> =
                self.sources.iter_mut().map(|s| s.take(bound)).filter(|part| !part.is_empty()).collect();
            let merged = match parts.len() {
                0 => return Ok(None),
                1 => parts.swap_remove(0),
                _ => {
                    let mut all: Vec<_> = parts.into_iter().flatten().collect();
                    all.sort_by_key(|(id, _)| *id);
                    all
                }
            };
            let page: Vec<T> = merged.into_iter().filter_map(|(_, decoded)| decoded).collect();
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
    }
}

impl ReplayError {
    fn trimmed(stream: &StreamName, first: Id) -> Self {
        let message = format!(
            "events of {stream} before {first} were trimmed: begin from the snapshots, or after {first}"
        );
        Self::new(ReplayErrorKind::Trimmed { first }, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_misses_what_was_trimmed_after_its_position_only() {
        let mark = Id::new(5, 3);
        assert!(misses(Id::ZERO, mark) && misses(Id::new(5, 1), mark));
        assert!(!misses(Id::new(5, 2), mark), "the next id is the first that is kept");
        assert!(!misses(Id::new(6, 0), mark) && !misses(Id::ZERO, Id::ZERO));
    }
}
