//! Reading a file back into a store: first all of it against its checksum and against what the
//! store holds, then page by page, each in one step. Killed in its middle, run it again.

use super::lines::{Header, Item, Reader};
use crate::cache::CacheWords;
use crate::entry::{self, RawEntry};
use crate::error::{AppendError, AppendErrorKind, ReadError, ReadErrorKind};
use crate::record::Record;
use crate::{Event, EventStore, Id, Kind, StreamName, record};
use redis::Value;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// Entries in a step at most, and about how many bytes of them.
const PAGE: usize = 100;
const PAGE_BYTES: usize = 4 << 20;
/// What a function can add in one command.
const FIELDS: usize = 3000;

/// An import that did not come to its end.
#[derive(Debug, thiserror::Error)]
#[error("import: {message}")]
pub struct ImportError {
    kind: ImportErrorKind,
    message: String,
}

/// Why an import ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportErrorKind {
    /// The file could not be read.
    File,
    /// It is no export, or of a format that this program does not know; nothing was written.
    Format,
    /// It ends before its last line; nothing was written.
    Cut,
    /// It is not what was exported; nothing was written.
    Altered,
    /// An entity's kind was not named, or its state does not fit it; nothing was written.
    Kinds,
    /// The store has other events: its history is not the file's. Nothing was written, except when
    /// somebody appended during the import. Import into an empty store.
    Conflict,
    /// A key holds what the store never wrote.
    Refused,
    /// The server could not be reached; run it again.
    Unavailable,
}

impl ImportError {
    pub(super) fn new(kind: ImportErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What happened, to match on.
    #[must_use]
    pub fn kind(&self) -> ImportErrorKind {
        self.kind
    }
}

impl From<ReadError> for ImportError {
    fn from(e: ReadError) -> Self {
        let passing = e.kind() == ReadErrorKind::Unavailable;
        Self::new(
            if passing { ImportErrorKind::Unavailable } else { ImportErrorKind::Refused },
            e.to_string(),
        )
    }
}

impl From<AppendError> for ImportError {
    fn from(e: AppendError) -> Self {
        let passing = e.kind() == AppendErrorKind::Unavailable;
        Self::new(
            if passing { ImportErrorKind::Unavailable } else { ImportErrorKind::Refused },
            e.to_string(),
        )
    }
}

/// An import; see [`EventStore::import`].
#[derive(Debug)]
#[must_use = "nothing is written until it runs"]
pub struct Import {
    store: EventStore,
    path: PathBuf,
    kinds: Vec<Kind>,
}

/// What an import would do; nothing has happened yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportPreview {
    /// Entries that would be written.
    pub new: u64,
    /// Entries that are there already.
    pub known: u64,
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// Entries that were written.
    pub new: u64,
    /// Entries that were there already.
    pub known: u64,
}

impl EventStore {
    /// The file of an export into this store, with all ids, versions and caches. `kinds` are those
    /// of the entities in it, as the programs name them that append; a kind that the store knows already is kept as it is, and
    /// with no kinds all are those that it knows.
    pub fn import(&self, path: impl AsRef<Path>, kinds: &[Kind]) -> Import {
        Import { store: self.clone(), path: path.as_ref().to_owned(), kinds: kinds.to_vec() }
    }
}

impl Import {
    /// Reads the file to its end and compares it with the store; writes nothing.
    pub async fn preview(mut self) -> Result<ImportPreview, ImportError> {
        self.use_kept_kinds().await?;
        self.compare().await
    }

    /// Lists and indexes as the store keeps them, where it knows a kind.
    async fn use_kept_kinds(&mut self) -> Result<(), ImportError> {
        let header = self.pages()?.reader.header;
        self.kinds = self.store.as_kept(&self.kinds, &streams_of(&header)).await?;
        Ok(())
    }

    async fn compare(&self) -> Result<ImportPreview, ImportError> {
        let mut preview = ImportPreview::default();
        let mut pages = self.pages()?;
        let clocks = self.clocks(&pages.reader.header).await?;
        while let Some(page) = pages.next()? {
            for part in self.parts(page) {
                let new = self.new_of(&part, &clocks, &pages.reader.header).await?.len() as u64;
                preview.new += new;
                preview.known += part.len() as u64 - new;
            }
        }
        Ok(preview)
    }

    /// Previews, and then writes what is not there yet. No program may append to these families
    /// meanwhile; one that does ends the import.
    pub async fn run(mut self) -> Result<Imported, ImportError> {
        self.use_kept_kinds().await?;
        self.compare().await?;
        for kind in &self.kinds {
            self.store.agreed(kind.family, std::iter::once(*kind)).await?;
        }
        let mut imported = Imported::default();
        let mut pages = self.pages()?;
        let clocks = self.clocks(&pages.reader.header).await?;
        let mut lasts = BTreeMap::new();
        while let Some(page) = pages.next()? {
            lasts.extend(page.iter().map(|item| (item.stream.family().to_owned(), item.raw.id)));
            for part in self.parts(page) {
                let items = self.new_of(&part, &clocks, &pages.reader.header).await?;
                let new = self.write(&items).await?;
                imported.new += new;
                imported.known += part.len() as u64 - new;
            }
        }
        self.end(&pages.reader.header, &lasts).await?;
        Ok(imported)
    }

    fn pages(&self) -> Result<Pages, ImportError> {
        let file = File::open(&self.path)
            .map_err(|e| ImportError::new(ImportErrorKind::File, format!("{}: {e}", self.path.display())))?;
        Ok(Pages { reader: Reader::open(BufReader::new(file))?, ended: false })
    }

    /// What can be written in one step: all of it in the plain layout, else family by family.
    fn parts(&self, page: Vec<Item>) -> Vec<Vec<Item>> {
        if self.store.layout().is_plain() {
            return vec![page];
        }
        let mut families: BTreeMap<String, Vec<Item>> = BTreeMap::new();
        for item in page {
            families.entry(item.stream.family().to_owned()).or_default().push(item);
        }
        families.into_values().collect()
    }

    /// By family: the last id that the store has issued.
    async fn clocks(&self, header: &Header) -> Result<HashMap<String, Id>, ImportError> {
        let mut clocks = HashMap::new();
        for family in header.streams.iter().filter_map(|s| Some(s.rsplit_once('_')?.0)) {
            let clock: Option<String> = redis::cmd("GET")
                .arg(self.store.layout().clock(family))
                .query_async(&mut self.store.reads())
                .await
                .map_err(ReadError::from)?;
            let clock = clock.and_then(|clock| clock.parse().ok()).unwrap_or(Id::ZERO);
            clocks.insert(family.to_owned(), clock);
        }
        Ok(clocks)
    }

    fn kind(&self, event: &Event) -> Result<Kind, ImportError> {
        let family = event.stream.family();
        let of = |k: &&Kind| k.name() == event.entity_type && k.family == family;
        self.kinds.iter().find(of).copied().ok_or_else(|| {
            let message = format!("{} {}: name the kind {:?}", event.stream, event.id, event.entity_type);
            ImportError::new(ImportErrorKind::Kinds, message)
        })
    }

    /// Those that the store has not; an error when it has other events in their place.
    async fn new_of<'a>(
        &self,
        items: &'a [Item],
        clocks: &HashMap<String, Id>,
        header: &Header,
    ) -> Result<Vec<&'a Item>, ImportError> {
        let layout = self.store.layout();
        let mut pipe = redis::pipe();
        let mut events = Vec::with_capacity(items.len());
        for item in items {
            if item.raw.fields.len() > FIELDS {
                let message = format!("{} {} has too many fields", item.stream, item.raw.id);
                return Err(ImportError::new(ImportErrorKind::Refused, message));
            }
            let id = item.raw.id.to_string();
            pipe.cmd("XRANGE").arg(layout.stream(&item.stream)).arg(&id).arg(&id);
            pipe.cmd("XRANGE").arg(layout.kept(&item.stream)).arg(&id).arg(&id);
            let event = item.raw.decode(&item.stream).ok();
            let key = event.as_ref().map_or("", |event| event.after.own());
            pipe.cmd("GET").arg(layout.record(item.stream.family(), key));
            if let Some(event) = &event {
                self.cache(item, event)?;
            }
            events.push(event);
        }
        let answers: Vec<(Value, Value, Option<String>)> =
            triples(pipe.query_async(&mut self.store.reads()).await.map_err(ReadError::from)?)?;
        let marks = self.store.trim_marks(&streams_of(header)).await?;
        let mut new = Vec::new();
        for ((item, event), (log, kept, record)) in items.iter().zip(&events).zip(answers) {
            let found: Option<RawEntry> =
                entry::parse_entries(log).pop().or_else(|| entry::parse_entries(kept).pop());
            let mark = marks.get(&item.stream.to_string()).and_then(|m| m.parse().ok());
            let other = |why: &str| {
                let message = format!(
                    "{} {}: {why}; import into an empty store, or into one that this file was exported from",
                    item.stream, item.raw.id
                );
                Err(ImportError::new(ImportErrorKind::Conflict, message))
            };
            match found {
                Some(found) if found.fields == item.raw.fields => {}
                Some(_) => return other("the store has another entry with this id"),
                None if mark.is_some_and(|mark: Id| item.raw.id < mark) && !item.snapshot => {}
                None => {
                    let clock = clocks.get(item.stream.family()).copied().unwrap_or(Id::ZERO);
                    let version = event.as_ref().zip(record).and_then(|(event, text)| {
                        Some((event, Record::parse(event.after.own(), &text)?.version))
                    });
                    if item.raw.id < clock {
                        return other("the store has gone on beyond it without it");
                    }
                    if version.is_some_and(|(event, version)| event.version <= version) {
                        return other("the store has other events of this entity");
                    }
                    new.push(item);
                }
            }
        }
        Ok(new)
    }

    fn cache(&self, item: &Item, event: &Event) -> Result<CacheWords, ImportError> {
        let kind = self.kind(event)?;
        let body = item.raw.lossy("entity");
        CacheWords::new(self.store.layout(), kind, &event.entity_id, event.removed, &body).map_err(
            |message| {
                let message = format!("{} {}: {message}", item.stream, event.id);
                ImportError::new(ImportErrorKind::Kinds, message)
            },
        )
    }

    /// Writes a page; answers how many of it were new.
    async fn write(&self, items: &[&Item]) -> Result<u64, ImportError> {
        let Some(first) = items.first() else { return Ok(0) };
        let layout = self.store.layout();
        let mut keys = vec![layout.clock(first.stream.family()).into_bytes()];
        let mut args = vec![items.len().to_string().into_bytes()];
        for item in items {
            let (family, id) = (item.stream.family(), item.raw.id.to_string());
            let key = if item.snapshot { layout.kept(&item.stream) } else { layout.stream(&item.stream) };
            keys.push(key.into_bytes());
            let event = item.raw.decode(&item.stream).ok();
            let (mut links, mut version) = (vec![String::new()], 0);
            if let Some(event) = &event {
                version = event.version;
                links.clear();
                for key in event.after.keys() {
                    keys.push(layout.record(family, key).into_bytes());
                    links.push(record::link_on(key, &item.stream).concat());
                }
            }
            let texts = [
                id,
                u8::from(event.is_some()).to_string(),
                version.to_string(),
                links.remove(0),
                links.len().to_string(),
            ];
            args.extend(texts.into_iter().chain(links).map(String::into_bytes));
            args.push((2 * item.raw.fields.len()).to_string().into_bytes());
            args.extend(item.raw.fields.iter().flat_map(|(n, v)| [n.clone(), v.clone()]));
            if let Some(event) = &event {
                let cache = self.cache(item, event)?;
                keys.extend(cache.keys.iter().map(<[u8]>::to_vec));
                args.extend(cache.args.iter().map(<[u8]>::to_vec));
            }
        }
        let words = self.store.call_until_answered("import", &keys[..], &args[..]).await?;
        let at = words.get(1).and_then(|w| w.parse::<usize>().ok());
        match words.first().map(String::as_str) {
            Some("ok") => Ok(at.unwrap_or(0) as u64),
            Some("conflict") => {
                let item = at.and_then(|i| items.get(i.checked_sub(1)?));
                let place = item.map(|i| format!("{} {}: ", i.stream, i.raw.id)).unwrap_or_default();
                let message = format!("{place}the store went on meanwhile: end its programs");
                Err(ImportError::new(ImportErrorKind::Conflict, message))
            }
            _ => Err(ImportError::new(ImportErrorKind::Refused, words.join(" "))),
        }
    }

    /// The clock and the marks of trims, where the file ends.
    async fn end(&self, header: &Header, lasts: &BTreeMap<String, Id>) -> Result<(), ImportError> {
        let layout = self.store.layout();
        for (family, end) in header.ends(lasts) {
            let family = family.as_str();
            let mut args = vec![end.to_string()];
            for (stream, mark) in &header.trimmed {
                if stream.rsplit_once('_').is_some_and(|(of, _)| of == family) {
                    args.extend([stream.clone(), mark.clone()]);
                }
            }
            let keys = [layout.clock(family), layout.trimmed(family)];
            self.store.call_until_answered("import_end", &keys[..], &args[..]).await?;
        }
        Ok(())
    }
}

fn streams_of(header: &Header) -> Vec<StreamName> {
    header.streams.iter().filter_map(|s| StreamName::parse(s)).collect()
}

/// The answers of three commands for each entry.
fn triples(answers: Vec<Value>) -> Result<Vec<(Value, Value, Option<String>)>, ReadError> {
    let mut answers = answers.into_iter();
    let mut triples = Vec::new();
    while let (Some(log), Some(kept), Some(record)) = (answers.next(), answers.next(), answers.next()) {
        let record = redis::from_redis_value(record).map_err(|e| ReadError::malformed(e.to_string()))?;
        triples.push((log, kept, record));
    }
    Ok(triples)
}

struct Pages {
    reader: Reader<BufReader<File>>,
    ended: bool,
}

impl Pages {
    fn next(&mut self) -> Result<Option<Vec<Item>>, ImportError> {
        let (mut page, mut bytes) = (Vec::new(), 0);
        while !self.ended && page.len() < PAGE && bytes < PAGE_BYTES {
            match self.reader.next()? {
                Some(item) => {
                    bytes += item.raw.fields.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>();
                    page.push(item);
                }
                None => self.ended = true,
            }
        }
        Ok((!page.is_empty()).then_some(page))
    }
}
