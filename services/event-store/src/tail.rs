//! Following the log without a group: live views, waits, projections. Never acknowledges and never
//! remembers anything on the server; several tails do not know of each other.

use crate::entry::{self, RawEntry};
use crate::error::{ReadError, ReadErrorKind};
use crate::page::PageSize;
use crate::{Event, EventStore, Id, StreamName, order, replay};
use redis::Value;
use redis::aio::MultiplexedConnection;
use std::time::Duration;
use tracing::warn;

/// Entries a stream may answer in one read, and about how many bytes of all streams together.
const BATCH: usize = 500;
const BYTES: usize = 4 << 20;
/// Entries of the first read: one read of a tail is often all that its caller wants.
const FIRST: usize = 16;
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
    /// Per stream: everything up to here was read, or was known not to be there.
    covered: Vec<Id>,
    /// Every event up to here was handed out.
    position: Id,
    size: PageSize,
    connection: Option<MultiplexedConnection>,
}

/// Were events trimmed after `covered` and before the first one that was read? `first` is the stream's mark, `last` the
/// field beside it.
fn misses(covered: Id, read: Option<Id>, first: Id, last: Option<&String>) -> bool {
    let last = last.and_then(|text| {
        let (mark, last) = text.split_once(' ')?;
        (mark.parse::<Id>().ok()? == first).then(|| last.parse::<Id>().ok())?
    });
    // Not known after a trim by an older version: then what lies before the mark may be gone.
    let last =
        last.unwrap_or_else(|| if replay::misses(covered, first) { first.previous() } else { covered });
    // What was read and trimmed right after it was read is not missing.
    covered < last && read.is_none_or(|read| last < read)
}

/// What one look at the streams brought.
struct Page {
    /// The last id that the store had issued before.
    issued: Id,
    /// By the number of their stream.
    entries: Vec<(usize, Vec<RawEntry>)>,
}

impl EventStore {
    /// Follows these streams from after an id: [`Id::ZERO`] for the whole log, the
    /// [head](Self::head) for what is new from now on. In the tagged layout the streams must be of
    /// one family.
    ///
    /// A tail is not known to the server: a trim keeps nothing for it, unless a [position](Self::position) is registered
    /// for its reader. A tail whose next events were trimmed says so ([`ReadErrorKind::Trimmed`]) and never passes over
    /// them.
    #[must_use]
    pub fn tail(&self, streams: Vec<StreamName>, after: Id) -> Tail {
        self.tail_from(streams.into_iter().map(|stream| (stream, after)))
    }

    /// Follows each stream from after an id of its own, as [`tail`](Self::tail) does from one id.
    #[must_use]
    pub fn tail_from(&self, streams: impl IntoIterator<Item = (StreamName, Id)>) -> Tail {
        let (streams, cursors): (Vec<StreamName>, Vec<Id>) = streams.into_iter().unzip();
        let keys = streams.iter().map(|s| self.layout().stream(s)).collect();
        let (covered, position) = (cursors.clone(), cursors.iter().min().copied().unwrap_or(Id::ZERO));
        let size = PageSize::new(BATCH, BYTES / streams.len().max(1)).beginning_with(FIRST);
        Tail { store: self.clone(), streams, keys, cursors, covered, position, size, connection: None }
    }
}

impl Tail {
    /// The next events in id order; waits until there is one. An entry that is no event of the
    /// store is passed over with a warning.
    ///
    /// After an error call it again: nothing is lost, the reader goes on where it was. Dropping the
    /// returned future is safe too.
    ///
    /// # Errors
    /// Where events that this reader has not seen were trimmed, at every call: begin another tail.
    pub async fn next(&mut self) -> Result<Vec<Event>, ReadError> {
        loop {
            let events = self.next_now().await?;
            if !events.is_empty() {
                return Ok(events);
            }
            // A read that has blocked answers the entries of one stream only, though the same call may
            // have written between them in another: it wakes up, and its answer is read anew.
            self.wait().await?;
        }
    }

    /// Like [`next`](Self::next), but answers nothing at the end of the log instead of waiting.
    pub(crate) async fn next_now(&mut self) -> Result<Vec<Event>, ReadError> {
        let count = self.size.count();
        let page = self.page(count).await?;
        let entries = page.entries.iter().map(|(_, entries)| entries.len()).sum();
        self.size.saw(entries, page.entries.iter().map(|(_, entries)| entry::size_of(entries)).sum());
        let mut left: Vec<usize> = vec![0; self.streams.len()];
        let mut full = vec![false; self.streams.len()];
        for (stream, entries) in &page.entries {
            (left[*stream], full[*stream]) = (entries.len(), entries.len() >= count);
        }
        let merged = order::merge(page.entries, count);
        for (stream, raw) in &merged {
            self.cursors[*stream] = raw.id;
            left[*stream] -= 1;
        }
        for (stream, covered) in self.covered.iter_mut().enumerate() {
            *covered = self.cursors[stream].max(*covered);
            if left[stream] == 0 && !full[stream] {
                // It was read to its end after this id had been issued.
                *covered = page.issued.max(*covered);
            }
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
        self.covered.fill(position);
    }

    /// Entries after the cursors, all streams at one moment, and the proof that none of them was trimmed before.
    async fn page(&mut self, count: usize) -> Result<Page, ReadError> {
        let layout = self.store.layout();
        let family = self.streams.first().map_or("", |stream| stream.family());
        let mut pipe = redis::pipe();
        pipe.cmd("GET").arg(layout.clock(family)).add_command(self.read(None, count));
        for stream in &self.streams {
            let marks = layout.trimmed(stream.family());
            pipe.cmd("HMGET").arg(marks).arg(stream.to_string()).arg(replay::last_field(stream));
        }
        let answers: Vec<Value> = self.answer(async |c| pipe.query_async(c).await).await?;
        let mut answers = answers.into_iter();
        let issued =
            entry::words(answers.next().unwrap_or(Value::Nil)).first().and_then(|id| id.parse().ok());
        let entries = self.numbered(entry::parse_streams(answers.next().unwrap_or(Value::Nil)));
        for (number, (stream, covered)) in self.streams.iter().zip(&self.covered).enumerate() {
            let marks = entry::words(answers.next().unwrap_or(Value::Nil));
            let Some(first) = marks.first().and_then(|id| id.parse().ok()) else { continue };
            let read = entries.iter().find(|(of, _)| *of == number).and_then(|(_, read)| read.first());
            if misses(*covered, read.map(|entry| entry.id), first, marks.get(1)) {
                let message = format!(
                    "events of {stream} before {first} were trimmed, and {covered} is the last that was read"
                );
                return Err(ReadError::of(ReadErrorKind::Trimmed { first }, message));
            }
        }
        Ok(Page { issued: issued.unwrap_or(Id::ZERO), entries })
    }

    /// Waits inside the server until there is an entry after the cursors.
    async fn wait(&mut self) -> Result<(), ReadError> {
        let command = self.read(Some(BLOCK), 1);
        self.answer(async |c| command.query_async::<Value>(c).await).await.map(drop)
    }

    /// The answer to what is asked on the tail's own connection. One that brought an error, or none, is not used again.
    async fn answer<T>(
        &mut self,
        ask: impl AsyncFnOnce(&mut MultiplexedConnection) -> redis::RedisResult<T>,
    ) -> Result<T, ReadError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.store.blocking(&self.keys).await?,
        };
        let answer = tokio::time::timeout(SILENCE, ask(&mut connection))
            .await
            .map_err(|_| ReadError::unavailable("the server fell silent during a blocking read"))??;
        self.connection = Some(connection);
        Ok(answer)
    }

    fn read(&self, block: Option<Duration>, count: usize) -> redis::Cmd {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(count);
        if let Some(block) = block {
            command.arg("BLOCK").arg(block.as_millis().to_string());
        }
        command.arg("STREAMS").arg(&self.keys);
        for cursor in &self.cursors {
            command.arg(cursor.to_string());
        }
        command
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_went_before_it_was_read_is_missing() {
        let id = |ms| Id::new(ms, 0);
        let field = |mark: u64, last: u64| format!("{} {}", id(mark), id(last));
        let last = field(8, 6);
        assert!(misses(id(5), None, id(8), Some(&last)));
        assert!(!misses(id(6), None, id(8), Some(&last)), "the last one that went was read");
        assert!(!misses(id(5), Some(id(6)), id(8), Some(&last)), "it went right after it was read");
        assert!(misses(id(5), Some(id(9)), id(8), Some(&last)));
        // A trim by a version that does not know the field, alone or after one that does.
        assert!(misses(id(6), None, id(8), None));
        assert!(misses(id(6), None, id(9), Some(&last)));
        assert!(!misses(id(9), None, id(8), None));
    }
}
