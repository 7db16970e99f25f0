//! Writing a store as a file: the log as it was when the export began, in id order, with the
//! snapshots that a trim left. Holds a few pages at a time and stops nobody.

use super::lines::{FORMAT, Header, Item, Sum, VERSION};
use crate::entry::RawEntry;
use crate::error::{ReadError, ReplayError};
use crate::replay::Pages;
use crate::{EventStore, Layout, StreamName};
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
        let header = self.header().await.map_err(ReplayError::from)?;
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

    async fn header(&self) -> Result<Header, ReadError> {
        let layout = self.store.layout();
        let mut clocks = BTreeMap::new();
        for stream in &self.streams {
            let clock: Option<String> = redis::cmd("GET")
                .arg(layout.clock(stream.family()))
                .query_async(&mut self.store.reads())
                .await?;
            clocks.extend(clock.map(|clock| (stream.family().to_owned(), clock)));
        }
        let streams: Vec<String> = self.streams.iter().map(ToString::to_string).collect();
        let mut trimmed: BTreeMap<String, String> =
            self.store.trim_marks(&self.streams).await?.into_iter().collect();
        trimmed.retain(|stream, _| streams.contains(stream));
        let layout = if layout == Layout::Plain { "plain" } else { "tagged" }.to_owned();
        Ok(Header { format: FORMAT.to_owned(), version: VERSION, layout, streams, clocks, trimmed })
    }
}
