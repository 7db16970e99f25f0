//! Executing a preview, a page in one step: killed anywhere, the log and what was kept beside it
//! are whole, and a new preview finds the rest.

use super::{Preview, TrimError, TrimErrorKind};
use crate::entry::{self, RawEntry};
use crate::error::ReadError;
use crate::page::PageSize;
use crate::{EventStore, Id, StreamName};
use redis::Value;

/// Entries removed in one step, and about how many bytes of them.
const PAGE: usize = 200;
const PAGE_BYTES: usize = 4 << 20;

/// What a trim has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trimmed {
    /// Entries that went.
    pub removed: u64,
    /// Of them, last events of entities, which were kept as snapshots.
    pub kept: u64,
    /// Snapshots that went because newer events of their entities had come since.
    pub swept: u64,
}

impl Preview {
    /// Removes what the preview says, never more: who has fallen back since then ends it.
    pub async fn execute(self) -> Result<Trimmed, TrimError> {
        let mut trimmed = Trimmed::default();
        for stream in &self.streams {
            trim(&self.store, &stream.stream, stream.keeps_from, &mut trimmed).await?;
            sweep(&self.store, &stream.stream, &mut trimmed).await?;
        }
        Ok(trimmed)
    }
}

async fn page(
    store: &EventStore,
    key: &str,
    from: Id,
    below: Id,
    size: &mut PageSize,
) -> Result<Vec<RawEntry>, ReadError> {
    let reply: Value = redis::cmd("XRANGE")
        .arg(key)
        .arg(from.to_string())
        .arg(format!("({below}"))
        .arg("COUNT")
        .arg(size.count())
        .query_async(&mut store.reads())
        .await?;
    let entries = entry::parse_entries(reply);
    size.saw(entries.len(), entry::size_of(&entries));
    Ok(entries)
}

/// Adds each event's record to the keys, and its id and version to the args. What is no event has
/// neither: it is nobody's last.
fn add_events(
    store: &EventStore,
    stream: &StreamName,
    entries: &[RawEntry],
    keys: &mut Vec<String>,
    args: &mut Vec<String>,
) {
    for event in entries.iter().filter_map(|raw| raw.decode(stream).ok()) {
        keys.push(store.layout().record(stream.family(), event.after.own()));
        args.push(event.id.to_string());
        args.push(event.version.to_string());
    }
}

async fn trim(
    store: &EventStore,
    stream: &StreamName,
    keeps_from: Id,
    trimmed: &mut Trimmed,
) -> Result<(), TrimError> {
    let layout = store.layout();
    let key = layout.stream(stream);
    if keeps_from == Id::ZERO {
        return Ok(());
    }
    let mut size = PageSize::new(PAGE, PAGE_BYTES);
    loop {
        let count = size.count();
        let entries = page(store, &key, Id::ZERO, keeps_from, &mut size).await?;
        let Some(last) = entries.last().map(|e| e.id) else { return Ok(()) };
        let stays = if entries.len() < count { keeps_from } else { last.next() };
        let family = stream.family();
        let (marks, positions) = (layout.trimmed(family), layout.registered_positions(family));
        let mut keys = vec![key.clone(), layout.kept(stream), marks, positions];
        let mut args = vec![stream.to_string(), stays.to_string(), last.to_string()];
        add_events(store, stream, &entries, &mut keys, &mut args);
        let words = store.call_until_answered("trim", &keys[..], &args[..]).await?;
        let word = |i: usize| words.get(i).map(String::as_str).unwrap_or_default();
        let number = |i: usize| word(i).parse::<u64>().unwrap_or(0);
        match word(0) {
            "ok" => {
                trimmed.removed += number(1);
                trimmed.kept += number(2);
            }
            "held" => {
                let group = word(1).to_owned();
                let message = format!("group {group} needs entries of {stream} up to {last} again");
                return Err(TrimError::new(TrimErrorKind::Held { group }, message));
            }
            "position" => {
                let name = word(1).to_owned();
                let message =
                    format!("position {name} needs entries of {stream} up to {last}: preview again");
                return Err(TrimError::new(TrimErrorKind::HeldByPosition { name }, message));
            }
            "damaged" => {
                let id = word(1).parse().unwrap_or(Id::ZERO);
                let message =
                    format!("the cache of the entity of {stream} {id} is behind the log: rebuild it first");
                return Err(TrimError::new(TrimErrorKind::Damaged { id }, message));
            }
            _ => {
                let message = format!("{stream}: {}", words.join(" "));
                return Err(TrimError::new(TrimErrorKind::Refused, message));
            }
        }
    }
}

/// Removes snapshots that have been replaced by newer events.
async fn sweep(store: &EventStore, stream: &StreamName, trimmed: &mut Trimmed) -> Result<(), TrimError> {
    let layout = store.layout();
    let (mut from, mut size) = (Id::ZERO, PageSize::new(PAGE, PAGE_BYTES));
    loop {
        let entries = page(store, &layout.kept(stream), from, Id::MAX, &mut size).await?;
        let Some(last) = entries.last().map(|e| e.id) else { return Ok(()) };
        let mut keys = vec![layout.kept(stream), layout.trimmed(stream.family())];
        let mut args = vec![stream.to_string()];
        add_events(store, stream, &entries, &mut keys, &mut args);
        let words = store.call_until_answered("sweep", &keys[..], &args[..]).await?;
        trimmed.swept += words.get(1).and_then(|w| w.parse::<u64>().ok()).unwrap_or(0);
        from = last.next();
    }
}
