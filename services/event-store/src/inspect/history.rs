//! An entity's history, walked back along what each event says stood before it: as many reads as the
//! entity has events, however long the log is.

use super::{Filter, Inspector, LogEntry};
use crate::error::ReadError;
use crate::kind::ordering_key;
use crate::record::{Chain, Record};
use crate::{Id, StreamName};
use std::collections::BTreeSet;

impl Inspector {
    /// All events of an entity in id order, whichever of these streams they stand in; of a deleted one
    /// too. Where the log was trimmed, what is left: at least the last event, which outlives a trim.
    ///
    /// `kind` tells entities of several kinds with the same id apart; without it those kinds are looked
    /// for that are called as a family of streams is. An entity of which the store has no record (it
    /// was deleted by hand, or there never was such an entity) is looked for in the whole log.
    pub async fn history(
        &self,
        streams: &[StreamName],
        kind: Option<&str>,
        id: &str,
    ) -> Result<Vec<LogEntry>, ReadError> {
        let families: BTreeSet<&str> = streams.iter().map(StreamName::family).collect();
        let (mut found, mut records) = (Vec::new(), BTreeSet::new());
        for family in families {
            let key = ordering_key(kind.unwrap_or(family), id);
            let record = self.store.layout().record(family, &key);
            // In the plain layout an entity has one record, whichever the family.
            if !records.insert(record.clone()) {
                continue;
            }
            let filter = Filter::default().entity_type(kind.unwrap_or(family)).entity_id(id);
            found.extend(self.walk(&record, &key, &filter).await?);
        }
        found.retain(|entry: &LogEntry| streams.contains(&entry.stream));
        found.sort_by(|a, b| (a.id, &a.stream).cmp(&(b.id, &b.stream)));
        if found.is_empty() { self.scan(streams, kind, id).await } else { Ok(found) }
    }

    /// From the last event on the key to the first one that is left, the newest first.
    async fn walk(&self, record: &str, key: &str, filter: &Filter) -> Result<Vec<LogEntry>, ReadError> {
        let store = &self.store;
        let text: Option<String> = redis::cmd("GET").arg(record).query_async(&mut store.reads()).await?;
        let record = text.and_then(|text| Record::parse(key, &text)).unwrap_or_default();
        let (mut found, mut before) = (Vec::new(), record.chain);
        while let Some((name, id)) = newest(&before) {
            // What was trimmed of one stream may be there in another: the chain names the last of each.
            before.remove(&name);
            let Some(stream) = StreamName::parse(&name) else { continue };
            let Some(raw) = store.entry(&stream, id).await? else { continue };
            let content = raw.decode(&stream);
            if let Ok(event) = &content {
                if let Some(chain) = event.after.chain(key) {
                    before = chain;
                }
                // Events of others may share the key.
                if !filter.fits(event) {
                    continue;
                }
            }
            found.push(LogEntry { id, stream, content });
        }
        Ok(found)
    }
}

fn newest(chain: &Chain) -> Option<(String, Id)> {
    chain.iter().max_by_key(|(_, id)| **id).map(|(name, id)| (name.clone(), *id))
}
