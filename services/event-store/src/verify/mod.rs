//! Comparing the entities' caches with the log, and building them anew from it. The log is what is
//! true; a difference is reported only when it stays after everything appended meanwhile is known.
//! Never stops a writer, never writes to the log.

mod cached;
mod hot;
mod known;
mod strays;

use crate::cache::CacheWords;
use crate::error::{AppendError, AppendErrorKind, ReadError, ReadErrorKind, ReplayError};
use crate::record::Record;
use crate::replay::EVENTS;
use crate::words::Words;
use crate::{EventStore, Id, Kind, StreamName};
use known::{Known, Log};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Entities compared in one round trip.
const CHUNK: usize = 100;
/// How often an entity that is being appended to is looked at again.
const ROUNDS: usize = 5;

/// A verification or a rebuild that did not come to its end; begin it anew.
#[derive(Debug, thiserror::Error)]
#[error("verify: {message}")]
pub struct VerifyError {
    kind: VerifyErrorKind,
    message: String,
}

/// Why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerifyErrorKind {
    /// The log holds a state that does not fit the kind (a list that is no array), or two kinds
    /// have one name: name the kinds as the programs do that append.
    Kinds,
    /// A trim ran meanwhile.
    Trimmed,
    /// A key of the cache holds another type: remove it, it is not the store's.
    Refused,
    /// The server could not be reached; trying again may help.
    Unavailable,
}

impl VerifyError {
    fn new(kind: VerifyErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What happened, to match on.
    #[must_use]
    pub fn kind(&self) -> VerifyErrorKind {
        self.kind
    }
}

impl From<ReadError> for VerifyError {
    fn from(e: ReadError) -> Self {
        let passing = e.kind() == ReadErrorKind::Unavailable;
        Self::new(
            if passing { VerifyErrorKind::Unavailable } else { VerifyErrorKind::Refused },
            e.to_string(),
        )
    }
}

impl From<AppendError> for VerifyError {
    fn from(e: AppendError) -> Self {
        let passing = e.kind() == AppendErrorKind::Unavailable;
        Self::new(
            if passing { VerifyErrorKind::Unavailable } else { VerifyErrorKind::Refused },
            e.to_string(),
        )
    }
}

impl From<ReplayError> for VerifyError {
    fn from(e: ReplayError) -> Self {
        let kind = match e.kind() {
            crate::ReplayErrorKind::Trimmed { .. } => VerifyErrorKind::Trimmed,
            crate::ReplayErrorKind::Unavailable => VerifyErrorKind::Unavailable,
            crate::ReplayErrorKind::Refused => VerifyErrorKind::Refused,
        };
        Self::new(kind, e.to_string())
    }
}

/// Something in the cache of an entity that the log says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Difference {
    /// The entity, as `kind/id`; for an ordering key that is no entity, the key.
    pub key: String,
    /// What differs.
    pub what: What,
}

/// What differs between the log and the cache.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum What {
    /// The version; an entity unknown to the one or the other has version 0.
    Version {
        /// In the log.
        log: u64,
        /// In the cache.
        cache: u64,
    },
    /// Whether it is deleted, or which event was its last.
    Last,
    /// Which events stood before, for the order of handling.
    Order,
    /// Whether it stands in the set of ids; true: it does, and should not.
    Listed(bool),
    /// A field of its hash.
    Field(String),
    /// The list of this field.
    List(String),
    /// The index of this field.
    Index(String),
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// Events read, with the snapshots of trimmed ones.
    pub events: u64,
    /// Entities and ordering keys compared.
    pub entities: u64,
    /// What differs, by entity; none is what one wants.
    pub differences: Vec<Difference>,
    /// Entities that were appended to so often that no moment of rest was found.
    pub unsettled: u64,
    /// Kinds in the log that were neither named nor ever settled: of their entities only versions and order were compared,
    /// since nothing says how their caches are kept.
    pub unknown_kinds: BTreeSet<String>,
}

/// What a rebuild did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rebuilt {
    /// Entities written anew.
    pub rebuilt: u64,
    /// What differed before.
    pub differences: Vec<Difference>,
    /// What a last look found.
    pub after: Verified,
}

/// What is wrong with one record and its entity, and what is needed to write it anew.
#[derive(Debug, Default)]
struct Finding {
    /// The record as it was seen.
    seen: String,
    what: Vec<What>,
    /// Members of indexes (key, member) that belong to no value of the entity.
    strays: Vec<(String, Vec<u8>)>,
}

/// By the record's key in Redis.
type Findings = BTreeMap<String, Finding>;

impl EventStore {
    /// Compares the caches of all entities of these kinds (ids, hashes, lists, indexes, versions,
    /// deletions, order) with the log, which stands in `streams`: name all streams of the kinds'
    /// families. Lists and indexes are those that the store keeps of a kind ([`EventStore::settings`]); with no kinds, all that
    /// it knows are compared. Writers go on. Memory: about 200 bytes for each entity.
    pub async fn verify(&self, kinds: &[Kind], streams: &[StreamName]) -> Result<Verified, VerifyError> {
        let mut verified = Verified::default();
        let kinds = &self.as_kept(kinds, streams).await?;
        for streams in self.parts(streams) {
            let mut log = Log::new(self, kinds, streams);
            let findings = log.look(&mut verified, Vec::new(), false).await?;
            verified.differences.extend(log.differences(&findings));
            verified.entities += log.known.len() as u64;
            verified.unknown_kinds.append(&mut log.unknown_kinds);
        }
        Ok(verified)
    }

    /// Builds the caches anew where they differ from the log. Writers go on: what one appends
    /// meanwhile is never overwritten. Killed in its middle, run it again.
    pub async fn rebuild(&self, kinds: &[Kind], streams: &[StreamName]) -> Result<Rebuilt, VerifyError> {
        let mut rebuilt = Rebuilt::default();
        let kinds = &self.as_kept(kinds, streams).await?;
        for streams in self.parts(streams) {
            let mut log = Log::new(self, kinds, streams);
            let (mut verified, mut again) = (Verified::default(), Vec::new());
            for _ in 0..ROUNDS {
                let findings = log.look(&mut verified, again, true).await?;
                again = findings.keys().cloned().collect();
                verified.differences = log.differences(&findings);
                if findings.is_empty() {
                    break;
                }
                for (record, finding) in findings {
                    log.rebuild(&record, finding).await?;
                }
            }
            rebuilt.rebuilt += log.rebuilt;
            rebuilt.differences.append(&mut log.mended);
            rebuilt.after.events += verified.events;
            rebuilt.after.entities += log.known.len() as u64;
            rebuilt.after.unsettled += verified.unsettled;
            rebuilt.after.differences.extend(verified.differences);
            rebuilt.after.unknown_kinds.append(&mut log.unknown_kinds);
        }
        Ok(rebuilt)
    }
}

impl Log<'_> {
    /// Folds the log and compares; what differs although nothing was appended to it since. What is
    /// appended to all the time is looked at by itself, and mended at once when asked to.
    /// The first look is at everything, later ones at `again` and at what was appended to since.
    async fn look(
        &mut self,
        verified: &mut Verified,
        again: Vec<String>,
        mend: bool,
    ) -> Result<Findings, VerifyError> {
        let mut found = Findings::new();
        let mut suspects = self.fold(verified).await?;
        suspects.extend(again);
        verified.unsettled = 0;
        for _ in 0..ROUNDS {
            let mut different = self.compare(&suspects).await?;
            suspects = self.fold(verified).await?;
            different.retain(|record, _| !suspects.contains(record));
            found.extend(different);
            if suspects.is_empty() {
                break;
            }
        }
        for record in suspects {
            match self.settle(&record, mend).await? {
                Some(finding) if !finding.what.is_empty() => drop(found.insert(record, finding)),
                Some(_) => {}
                None => verified.unsettled += 1,
            }
        }
        for (record, stray) in self.strays(verified).await? {
            let finding = found.entry(record).or_default();
            finding.seen = stray.seen;
            finding.what.extend(stray.what);
            finding.strays.extend(stray.strays);
        }
        Ok(found)
    }

    /// Reads on from where the last fold ended; the records of whatever had an event.
    async fn fold(&mut self, verified: &mut Verified) -> Result<HashSet<String>, VerifyError> {
        let replay = self.store.replay_of(self.streams.clone()).after(self.upto).from_snapshots();
        let mut pages = replay.open(EVENTS).await?;
        let mut changed = HashSet::new();
        while let Some(page) = pages.next().await? {
            verified.events += page.len() as u64;
            for event in &page {
                self.note(event, &mut changed);
            }
        }
        self.upto = self.upto.max(pages.upto);
        Ok(changed)
    }

    fn differences(&self, findings: &Findings) -> Vec<Difference> {
        let of = |(record, finding): (&String, &Finding)| {
            let key = self.key_of(record);
            finding.what.iter().map(|what| Difference { key: key.clone(), what: what.clone() }).collect()
        };
        findings.iter().flat_map(|(r, f)| -> Vec<Difference> { of((r, f)) }).collect()
    }

    /// Writes one entity anew; one that somebody appended to meanwhile, from its new last event.
    async fn rebuild(&mut self, record: &str, finding: Finding) -> Result<(), VerifyError> {
        let text = self.known.get(record).map(|known| self.record(known).text(&known.key));
        let text = text.unwrap_or_default();
        let cache = self.cache_words(record).await?;
        if self.write(record, &finding.seen, &text, cache.as_ref(), &finding.strays).await? {
            self.has_mended(record, finding.what);
        } else {
            self.settle(record, true).await?;
        }
        Ok(())
    }

    fn has_mended(&mut self, record: &str, what: Vec<What>) {
        let key = self.key_of(record);
        self.rebuilt += 1;
        self.mended.extend(what.into_iter().map(|what| Difference { key: key.clone(), what }));
    }

    /// Writes a record and its cache, if the record is still as it was seen.
    async fn write(
        &self,
        record: &str,
        seen: &str,
        text: &str,
        cache: Option<&CacheWords>,
        strays: &[(String, Vec<u8>)],
    ) -> Result<bool, VerifyError> {
        let Some(cache) = cache else { return self.write_record(record, seen, text).await };
        let mut keys = Words::from_iter([record]);
        keys.extend(&cache.keys);
        keys.extend(&strays.iter().map(|(key, _)| key).collect());
        let mut args = Words::from_iter([seen, text]);
        args.push_number(strays.len() as u64);
        args.extend(&strays.iter().map(|(_, member)| member).collect());
        args.extend(&cache.args);
        let words = self.store.call_until_answered("rebuild", keys, args).await?;
        match words.first().map(String::as_str) {
            Some("ok") => Ok(true),
            Some("changed") => Ok(false),
            _ => Err(VerifyError::new(VerifyErrorKind::Refused, format!("{record}: {}", words.join(" ")))),
        }
    }

    /// The record of a key that is no entity of the kinds: there is no cache beside it.
    async fn write_record(&self, record: &str, seen: &str, text: &str) -> Result<bool, VerifyError> {
        let words = self.store.call_until_answered("rerecord", &[record][..], &[seen, text][..]).await?;
        Ok(words.first().is_some_and(|w| w == "ok"))
    }

    /// The record that the log gives.
    fn record(&self, known: &Known) -> Record {
        Record {
            version: known.version,
            removed: known.removed,
            last: known.last.map(|(stream, id)| (self.streams[stream].clone(), id)),
            chain: known.chain.iter().map(|(s, id)| (self.streams[*s].to_string(), *id)).collect(),
        }
    }
}

/// Where a fold stands: nowhere yet.
const BEGINNING: Id = Id::ZERO;
