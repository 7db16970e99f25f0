//! Retention: what may be removed from the beginning of the log, previewed, and removing it.
//!
//! A trim goes up to the first entry that somebody still needs: a group (delivered to it, pending,
//! or a dead letter of it), a group that the server has lost but whose cursor is remembered, a
//! projection, a registered position. Of each entity whose last event goes, that event is kept beside the stream, so the
//! state of every entity stays and can be built again. Never part of an append, never without a
//! preview, never by length.

mod bound;
mod run;

pub use bound::{HeldBy, Holder, Unread};
pub use run::Trimmed;

use crate::entry::{self, RawEntry};
use crate::error::{AppendError, AppendErrorKind, ReadError, ReadErrorKind};
use crate::{EventStore, Id, StreamName, groups, position};
use redis::Value;

/// A trim that did not happen, or only in part: what it did is whole, run it again.
#[derive(Debug, thiserror::Error)]
#[error("trim: {message}")]
pub struct TrimError {
    kind: TrimErrorKind,
    message: String,
}

/// Why a trim ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrimErrorKind {
    /// Since the preview this group needs entries that would have gone: preview again.
    Held {
        /// The group.
        group: String,
    },
    /// Since the preview this position was registered, or moved back, where it needs entries that would have gone:
    /// preview again.
    HeldByPosition {
        /// The position's name.
        name: String,
    },
    /// An entity's cache is behind the log, so that its last event cannot be told: rebuild first.
    Damaged {
        /// The entry.
        id: Id,
    },
    /// A key holds what the store never wrote; nothing was removed from its stream.
    Refused,
    /// The server could not be reached; trying again may help.
    Unavailable,
}

impl TrimError {
    fn new(kind: TrimErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What happened, to match on.
    #[must_use]
    pub fn kind(&self) -> &TrimErrorKind {
        &self.kind
    }
}

impl From<ReadError> for TrimError {
    fn from(e: ReadError) -> Self {
        let passing = e.kind() == ReadErrorKind::Unavailable;
        Self::new(if passing { TrimErrorKind::Unavailable } else { TrimErrorKind::Refused }, e.to_string())
    }
}

impl From<AppendError> for TrimError {
    fn from(e: AppendError) -> Self {
        let passing = e.kind() == AppendErrorKind::Unavailable;
        Self::new(if passing { TrimErrorKind::Unavailable } else { TrimErrorKind::Refused }, e.to_string())
    }
}

/// What to trim; see [`EventStore::retention`].
#[derive(Debug)]
#[must_use = "nothing happens before the preview"]
pub struct Retention {
    store: EventStore,
    streams: Vec<StreamName>,
    before: Option<Id>,
    unread: Unread,
}

/// What a trim would do; nothing has happened yet.
#[derive(Debug)]
#[must_use = "nothing is removed until it is executed"]
pub struct Preview {
    store: EventStore,
    /// Per stream, in the order asked for.
    pub streams: Vec<StreamPreview>,
}

/// What a trim would do to a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamPreview {
    /// The stream.
    pub stream: StreamName,
    /// Its first entry; `None` when it is empty.
    pub first: Option<Id>,
    /// The first id that would stay.
    pub keeps_from: Id,
    /// How many entries would go.
    pub removes: u64,
    /// Who needs what, the most demanding first: the first of them decides.
    pub holders: Vec<Holder>,
}

impl EventStore {
    /// Removing the beginning of these streams. In the tagged layout they may be of any families.
    pub fn retention(&self, streams: impl IntoIterator<Item = StreamName>) -> Retention {
        Retention {
            store: self.clone(),
            streams: streams.into_iter().collect(),
            before: None,
            unread: Unread::Keep,
        }
    }
}

impl Retention {
    /// Removes nothing at or after this id, even if nobody needs it. Its milliseconds are a time, so
    /// this is how to keep, say, the last thirty days.
    pub fn before(mut self, id: Id) -> Self {
        self.before = Some(id);
        self
    }

    /// What to do with streams that no group, projection or registered position reads; default
    /// [`Unread::Keep`].
    pub fn unread(mut self, unread: Unread) -> Self {
        self.unread = unread;
        self
    }

    /// Looks what would go, and who holds back the rest.
    pub async fn preview(self) -> Result<Preview, TrimError> {
        let groups: Vec<String> = redis::cmd("SMEMBERS")
            .arg(self.store.layout().groups())
            .query_async(&mut self.store.reads())
            .await
            .map_err(ReadError::from)?;
        let projections = self.store.projections().await?;
        let families = self.streams.iter().map(StreamName::family);
        let positions = position::stored(&self.store, families).await?;
        let now = self.store.server_ms().await?;
        let mut streams = Vec::with_capacity(self.streams.len());
        for stream in &self.streams {
            let mut holders = self.readers(stream, &groups).await?;
            for p in projections.iter().filter(|p| p.streams.contains(stream)) {
                // One that is being removed needs nothing any more.
                if let Some(position) = p.position {
                    let by = HeldBy::Projection { name: p.name.clone(), version: p.version };
                    holders.push(Holder { needs_from: position.next(), by });
                }
            }
            for p in positions.iter().filter(|p| p.stream == *stream) {
                let by = HeldBy::Position { name: p.name.clone(), idle_ms: now.saturating_sub(p.moved_ms) };
                holders.push(Holder { needs_from: p.position.next(), by });
            }
            streams.push(self.stream(stream, holders).await?);
        }
        Ok(Preview { store: self.store, streams })
    }

    async fn stream(&self, stream: &StreamName, holders: Vec<Holder>) -> Result<StreamPreview, TrimError> {
        let key = self.store.layout().stream(stream);
        let mut pipe = redis::pipe();
        pipe.cmd("XRANGE").arg(&key).arg(&["-", "+", "COUNT", "1"]);
        pipe.cmd("XREVRANGE").arg(&key).arg(&["+", "-", "COUNT", "1"]);
        let (first, last): (Value, Value) =
            pipe.query_async(&mut self.store.reads()).await.map_err(ReadError::from)?;
        let id = |reply: Value| entry::parse_entries(reply).pop().map(|e| e.id);
        let (first, last) = (id(first), id(last));
        let (keeps_from, holders) = bound::bound(holders, self.before, self.unread, last);
        let removes = match first {
            Some(first) if first < keeps_from => self.count(&key, first, keeps_from).await?,
            _ => 0,
        };
        Ok(StreamPreview { stream: stream.clone(), first, keeps_from, removes, holders })
    }

    async fn count(&self, key: &str, first: Id, below: Id) -> Result<u64, TrimError> {
        const PAGE: usize = 5000;
        let (mut from, mut count) = (first, 0);
        loop {
            let args = [from.to_string(), below.to_string(), PAGE.to_string()];
            let words = self.store.call_until_answered("count", &[key.to_owned()][..], &args[..]).await;
            let words = words?;
            let unreadable = || ReadError::malformed(format!("the server answered {words:?}"));
            let found: usize = words.first().and_then(|w| w.parse().ok()).ok_or_else(unreadable)?;
            count += found as u64;
            if found < PAGE {
                return Ok(count);
            }
            let last: Id = words.get(1).and_then(|w| w.parse().ok()).ok_or_else(unreadable)?;
            from = last.next();
        }
    }

    /// What the groups of a stream need, those that the server knows and those that it has lost.
    async fn readers(&self, stream: &StreamName, registered: &[String]) -> Result<Vec<Holder>, ReadError> {
        let (store, layout) = (&self.store, self.store.layout());
        let (key, name) = (layout.stream(stream), stream.to_string());
        let mut holders = Vec::new();
        let mut live = Vec::new();
        for group in groups::of(store, stream).await? {
            let (group, delivered) = (group.name, group.last_delivered);
            holders.push(Holder { needs_from: delivered.next(), by: HeldBy::undelivered(&group) });
            let pending: (u64, Option<String>, Option<String>, Value) =
                redis::cmd("XPENDING").arg(&key).arg(&group).query_async(&mut store.reads()).await?;
            if let Some(first) = pending.1.and_then(|id| id.parse().ok()) {
                holders.push(Holder { needs_from: first, by: HeldBy::Pending { group: group.clone() } });
            }
            live.push(group);
        }
        for group in registered {
            if !live.contains(group) {
                let cursor: Option<String> = redis::cmd("HGET")
                    .arg(layout.cursors(stream.family(), group))
                    .arg(&name)
                    .query_async(&mut store.reads())
                    .await?;
                if let Some(cursor) = cursor {
                    let cursor: Id =
                        cursor.parse().map_err(|e| ReadError::malformed(format!("cursor: {e}")))?;
                    let by = HeldBy::LostGroup { group: group.clone() };
                    holders.push(Holder { needs_from: cursor.next(), by });
                }
            }
            if let Some(first) = self.first_dead_letter(stream, group).await? {
                holders.push(Holder { needs_from: first, by: HeldBy::DeadLetter { group: group.clone() } });
            }
        }
        Ok(holders)
    }

    /// The oldest entry of this stream that a group has put aside: replaying it needs the entry.
    async fn first_dead_letter(&self, stream: &StreamName, group: &str) -> Result<Option<Id>, ReadError> {
        const PAGE: usize = 500;
        let key = self.store.layout().dead(stream.family(), group);
        let (name, mut after, mut first) = (stream.to_string(), Id::ZERO, None);
        loop {
            let reply: Value = redis::cmd("XRANGE")
                .arg(&key)
                .arg(format!("({after}"))
                .arg(&["+", "COUNT"])
                .arg(PAGE)
                .query_async(&mut self.store.reads())
                .await?;
            let letters: Vec<RawEntry> = entry::parse_entries(reply);
            let Some(last) = letters.last().map(|e| e.id) else { return Ok(first) };
            let ids = letters.iter().filter(|l| l.lossy("stream") == name);
            first = first.into_iter().chain(ids.filter_map(|l| l.lossy("id").parse().ok())).min();
            after = last;
        }
    }
}
