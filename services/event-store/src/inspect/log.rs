//! Reads the log backwards in id order across streams, for people: the last events, or all of one
//! entity. What cannot be decoded is shown as such, not passed over.

use super::Inspector;
use crate::entry::{self, RawEntry};
use crate::error::{DecodeError, ReadError};
use crate::{Event, Id, StreamName};
use redis::Value;
use std::collections::VecDeque;

/// Entries read of a stream at once.
const PAGE: usize = 200;

/// Which events are of interest; everything that is set must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filter {
    entity_type: Option<String>,
    entity_id: Option<String>,
    since: Option<Id>,
}

impl Filter {
    /// Events of entities of this kind.
    #[must_use]
    pub fn entity_type(mut self, entity_type: impl Into<String>) -> Self {
        self.entity_type = Some(entity_type.into());
        self
    }

    /// Events of entities with this id.
    #[must_use]
    pub fn entity_id(mut self, id: impl Into<String>) -> Self {
        self.entity_id = Some(id.into());
        self
    }

    /// Events from this id on.
    #[must_use]
    pub fn since(mut self, since: Id) -> Self {
        self.since = Some(since);
        self
    }

    /// Does this event fit?
    #[must_use]
    pub fn fits(&self, event: &Event) -> bool {
        self.since.is_none_or(|since| event.id >= since)
            && self.entity_type.as_ref().is_none_or(|t| *t == event.entity_type)
            && self.entity_id.as_ref().is_none_or(|id| *id == event.entity_id)
    }

    /// An entry that is no event belongs to no entity.
    fn fits_entry(&self, entry: &LogEntry) -> bool {
        match &entry.content {
            Ok(event) => self.fits(event),
            Err(_) => self.entity_type.is_none() && self.entity_id.is_none(),
        }
    }
}

/// An entry of the log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogEntry {
    /// Its place in the log.
    pub id: Id,
    /// Its stream.
    pub stream: StreamName,
    /// The event; an error for what is none.
    pub content: Result<Event, DecodeError>,
}

/// A stream that is read from its end.
struct Source {
    stream: StreamName,
    key: String,
    page: VecDeque<RawEntry>,
    /// The end of the next page.
    end: String,
    exhausted: bool,
}

impl Source {
    fn new(stream: &StreamName, key: String) -> Self {
        Self { stream: stream.clone(), key, page: VecDeque::new(), end: "+".to_owned(), exhausted: false }
    }
}

impl Inspector {
    /// The last `limit` entries of these streams that fit, in id order. With a filter that few fit
    /// the whole log is read.
    pub async fn recent(
        &self,
        streams: &[StreamName],
        filter: &Filter,
        limit: usize,
    ) -> Result<Vec<LogEntry>, ReadError> {
        let sources = streams.iter().map(|s| Source::new(s, self.store.layout().stream(s))).collect();
        self.last(sources, filter, limit).await
    }

    async fn last(
        &self,
        mut sources: Vec<Source>,
        filter: &Filter,
        limit: usize,
    ) -> Result<Vec<LogEntry>, ReadError> {
        let mut found = VecDeque::new();
        while found.len() < limit {
            for source in sources.iter_mut().filter(|s| s.page.is_empty() && !s.exhausted) {
                self.turn_page(source).await?;
            }
            let Some(entry) = pop_last(&mut sources) else { break };
            if filter.since.is_some_and(|since| entry.id < since) {
                break;
            }
            if filter.fits_entry(&entry) {
                found.push_front(entry);
            }
        }
        Ok(found.into())
    }

    /// The events of an entity, looked for in the whole log of these streams.
    pub(super) async fn scan(
        &self,
        streams: &[StreamName],
        kind: Option<&str>,
        id: &str,
    ) -> Result<Vec<LogEntry>, ReadError> {
        let filter = Filter { entity_type: kind.map(str::to_owned), ..Filter::default() }.entity_id(id);
        let layout = self.store.layout();
        let keys = |s| [Source::new(s, layout.stream(s)), Source::new(s, layout.kept(s))];
        self.last(streams.iter().flat_map(keys).collect(), &filter, usize::MAX).await
    }

    async fn turn_page(&self, source: &mut Source) -> Result<(), ReadError> {
        let reply: Value = redis::cmd("XREVRANGE")
            .arg(&source.key)
            .arg(&source.end)
            .arg("-")
            .arg("COUNT")
            .arg(PAGE)
            .query_async(&mut self.store.reads())
            .await?;
        source.page = entry::parse_entries(reply).into();
        source.exhausted = source.page.len() < PAGE;
        if let Some(last) = source.page.back() {
            source.end = format!("({}", last.id);
        }
        Ok(())
    }
}

/// The entry with the highest id of all sources.
fn pop_last(sources: &mut [Source]) -> Option<LogEntry> {
    let source = sources
        .iter_mut()
        .filter(|s| !s.page.is_empty())
        .max_by_key(|s| s.page.front().map(|entry| entry.id))?;
    let raw = source.page.pop_front()?;
    Some(LogEntry { id: raw.id, stream: source.stream.clone(), content: raw.decode(&source.stream) })
}
