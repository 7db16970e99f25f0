//! Writing a store as a file: the log as it was when the export began, in id order, with the
//! snapshots that a trim left. Holds a few pages at a time and stops nobody.

use super::lines::{FORMAT, Header, Item, Sum, VERSION};
use crate::entry::RawEntry;
use crate::error::{ReadError, ReplayError};
use crate::replay::Pages;
use crate::{EventStore, Id, StreamName};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};

/// An export; see [`EventStore::export`].
#[derive(Debug)]
#[must_use = "nothing is written until it runs"]
pub struct Export {
    store: EventStore,
    streams: Vec<StreamName>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// Entries, with the snapshots.
    pub events: u64,
    /// Over all lines but the last, in hexadecimal digits; the last line says the same.
    pub sha256: String,
}

/// An export that did not come to its end; its file has no last line and no import takes it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The file could not be written.
    #[error("export: {0}")]
    File(#[from] io::Error),
    /// The log could not be read, or was trimmed meanwhile: begin anew.
    #[error("export: {0}")]
    Log(#[from] ReplayError),
}

impl EventStore {
    /// These streams as a file. Name all streams of a family, so that no entity lacks events.
    pub fn export(&self, streams: impl IntoIterator<Item = StreamName>) -> Export {
        Export { store: self.clone(), streams: streams.into_iter().collect() }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "it is a Decode, others leave entries out")]
fn raw(stream: &StreamName, snapshot: bool, raw: RawEntry) -> Option<Item> {
    Some(Item { stream: stream.clone(), snapshot, raw })
}

impl Export {
    /// Writes the file. `to` is written line by line: give it a buffer.
    pub async fn write(self, mut to: impl Write + Send) -> Result<Exported, ExportError> {
        let mut sum = Sum::default();
        let mut put = |sum: &mut Sum, line: String| {
            let line = line + "\n";
            sum.add(line.as_bytes());
            to.write_all(line.as_bytes())
        };
        let mut parts: Vec<(Pages<Item>, VecDeque<Item>)> = Vec::new();
        for streams in self.store.parts(&self.streams) {
            let pages = self.store.replay_of(streams).from_snapshots().open(raw).await?;
            parts.push((pages, VecDeque::new()));
        }
        let ends = self.ends(parts.iter().map(|(pages, _)| pages.upto));
        let header = self.header(ends).await.map_err(ReplayError::from)?;
        put(&mut sum, serde_json::to_string(&header).map_err(io::Error::from)?)?;
        loop {
            for (pages, items) in &mut parts {
                if items.is_empty()
                    && let Some(page) = pages.next().await?
                {
                    items.extend(page);
                }
            }
            let first = |part: &&mut (Pages<Item>, VecDeque<Item>)| part.1.front().map(|i| i.raw.id);
            let next = parts.iter_mut().filter(|(_, items)| !items.is_empty()).min_by_key(first);
            let Some(item) = next.and_then(|(_, items)| items.pop_front()) else { break };
            sum.count += 1;
            put(&mut sum, item.line().map_err(io::Error::from)?)?;
        }
        let exported = Exported { events: sum.count, sha256: sum.hex() };
        let trailer = sum.trailer().map_err(io::Error::from)?;
        put(&mut sum, trailer)?;
        to.flush()?;
        Ok(exported)
    }

    /// The end of each family: the last event that the pages of its part have. Not the clock, which is
    /// ahead of them while programs append: a store that had it would refuse what a later export has
    /// between the two.
    fn ends(&self, uptos: impl Iterator<Item = Id>) -> BTreeMap<String, Id> {
        let parts = self.store.parts(&self.streams);
        let of_part = |(streams, upto): (Vec<StreamName>, Id)| {
            streams.into_iter().map(move |stream| (stream.family().to_owned(), upto))
        };
        parts.into_iter().zip(uptos).flat_map(of_part).collect()
    }

    async fn header(&self, ends: BTreeMap<String, Id>) -> Result<Header, ReadError> {
        let streams: Vec<String> = self.streams.iter().map(ToString::to_string).collect();
        let marks = self.store.trim_marks(&self.streams).await?;
        let mark_of = |stream: &StreamName| {
            let mark = marks.get(&stream.to_string())?.parse().ok()?;
            Some((stream.to_string(), mark_within(mark, *ends.get(stream.family())?).to_string()))
        };
        let trimmed = self.streams.iter().filter_map(mark_of).collect();
        let clocks = ends.iter().map(|(family, end)| (family.clone(), end.to_string())).collect();
        let layout = self.store.layout().name().to_owned();
        Ok(Header { format: FORMAT.to_owned(), version: VERSION, layout, streams, clocks, trimmed })
    }
}

/// A trim mark as a file says it that ends at `end`. A trim after the pages were opened moves the mark further, past
/// events that a later export still has.
fn mark_within(mark: Id, end: Id) -> Id {
    mark.min(end.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_lies_within_the_file() {
        let end = Id::new(5, 3);
        assert_eq!(mark_within(Id::new(5, 1), end), Id::new(5, 1));
        assert_eq!(mark_within(Id::new(9, 0), end), Id::new(5, 4), "all of it was trimmed");
    }
}
