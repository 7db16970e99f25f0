//! What the log says of every ordering key: folded once, kept small.

use super::{BEGINNING, Difference, VerifyError, VerifyErrorKind};
use crate::cache::CacheWords;
use crate::{Event, EventStore, Id, Kind, StreamName};
use std::collections::{BTreeSet, HashMap, HashSet};

/// What the log says of one ordering key. Streams are numbers in [`Log::streams`].
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) key: String,
    /// The entity's kind and id, when it is one of the kinds asked for.
    pub(super) entity: Option<(Kind, String)>,
    pub(super) version: u64,
    pub(super) removed: bool,
    pub(super) last: Option<(usize, Id)>,
    pub(super) chain: Vec<(usize, Id)>,
}

/// The fold of the log so far.
pub(super) struct Log<'a> {
    pub(super) store: &'a EventStore,
    pub(super) kinds: &'a [Kind],
    pub(super) streams: Vec<StreamName>,
    pub(super) upto: Id,
    /// By the record's key in Redis.
    pub(super) known: HashMap<String, Known>,
    /// Entities that the log does not know but the cache does.
    pub(super) strangers: HashMap<String, (Kind, String)>,
    /// What was mended.
    pub(super) mended: Vec<Difference>,
    /// In how many entities.
    pub(super) rebuilt: u64,
    /// Kinds in the log that are none of `kinds`.
    pub(super) unknown_kinds: BTreeSet<String>,
}

impl<'a> Log<'a> {
    pub(super) fn new(store: &'a EventStore, kinds: &'a [Kind], streams: Vec<StreamName>) -> Self {
        let (known, strangers) = (HashMap::new(), HashMap::new());
        let unknown_kinds = BTreeSet::new();
        let (mended, rebuilt) = (Vec::new(), 0);
        Self { store, kinds, streams, upto: BEGINNING, known, strangers, mended, rebuilt, unknown_kinds }
    }

    pub(super) fn note(&mut self, event: &Event, changed: &mut HashSet<String>) {
        let Some(stream) = self.streams.iter().position(|s| *s == event.stream) else { return };
        let kind = self.kinds.iter().find(|k| k.name() == event.entity_type);
        if kind.is_none() && !self.unknown_kinds.contains(&event.entity_type) {
            self.unknown_kinds.insert(event.entity_type.clone());
        }
        let known = self.known_at(event.stream.family(), event.after.own(), changed);
        known.version = event.version;
        known.removed = event.removed;
        known.last = Some((stream, event.id));
        if known.entity.is_none() {
            known.entity = kind.map(|k| (*k, event.entity_id.clone()));
        }
        move_on(known, stream, event.id);
        for key in event.after.keys().skip(1) {
            let known = self.known_at(event.stream.family(), key, changed);
            move_on(known, stream, event.id);
        }
    }

    fn known_at(&mut self, family: &str, key: &str, changed: &mut HashSet<String>) -> &mut Known {
        let record = self.store.layout().record(family, key);
        if !changed.contains(&record) {
            changed.insert(record.clone());
        }
        self.known.entry(record).or_insert_with(|| Known { key: key.to_owned(), ..Known::default() })
    }

    /// The ordering key of a record.
    pub(super) fn key_of(&self, record: &str) -> String {
        let known = self.known.get(record).map(|known| known.key.clone());
        let stranger = || self.strangers.get(record).map(|(kind, id)| kind.ordering_key(id));
        known.or_else(stranger).unwrap_or_else(|| record.to_owned())
    }

    /// The cache of an entity as the log gives it; nothing when it is no entity of the kinds.
    pub(super) async fn cache_words(&self, record: &str) -> Result<Option<CacheWords>, VerifyError> {
        if let Some((kind, id)) = self.strangers.get(record) {
            return self.words(*kind, id, true, "{}").map(Some);
        }
        let Some(known) = self.known.get(record) else { return Ok(None) };
        let (Some((kind, id)), Some((stream, at))) = (&known.entity, known.last) else { return Ok(None) };
        let raw = self.store.entry(&self.streams[stream], at).await?;
        let body = raw.map(|raw| raw.lossy("entity")).unwrap_or_default();
        self.words(*kind, id, known.removed, &body).map(Some)
    }

    pub(super) fn words(
        &self,
        kind: Kind,
        id: &str,
        removed: bool,
        body: &str,
    ) -> Result<CacheWords, VerifyError> {
        CacheWords::new(self.store.layout(), kind, id, removed, body).map_err(|message| {
            VerifyError::new(VerifyErrorKind::Kinds, format!("{}: {message}", kind.ordering_key(id)))
        })
    }
}

fn move_on(known: &mut Known, stream: usize, id: Id) {
    match known.chain.iter_mut().find(|(s, _)| *s == stream) {
        Some(last) => last.1 = id,
        None => known.chain.push((stream, id)),
    }
}
