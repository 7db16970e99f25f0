//! Reading caches and comparing them with what the log says.

use super::known::{Known, Log};
use super::{CHUNK, Finding, Findings, VerifyError, What};
use crate::cache::CacheWords;
use crate::error::ReadError;
use crate::record::Record;
use crate::replay::misses;
use crate::{Id, StreamName};
use redis::{Pipeline, Value};
use std::collections::{HashMap, HashSet};

impl Log<'_> {
    /// What differs, of these records.
    pub(super) async fn compare(&self, records: &HashSet<String>) -> Result<Findings, VerifyError> {
        let marks = self.store.trim_marks(&self.streams).await?;
        let mut findings = Findings::new();
        let all: Vec<(&String, &Known)> =
            records.iter().filter_map(|r| Some((r, self.known.get(r)?))).collect();
        for known in all.chunks(CHUNK) {
            let words = self.expected(known).await?;
            let mut pipe = redis::pipe();
            for ((record, _), words) in known.iter().zip(&words) {
                pipe.cmd("GET").arg(record);
                if let Some(words) = words {
                    ask(&mut pipe, words);
                }
            }
            let answers: Vec<Value> =
                pipe.query_async(&mut self.store.reads()).await.map_err(ReadError::from)?;
            let mut answers = answers.into_iter();
            for ((record, known), words) in known.iter().zip(&words) {
                let seen: Option<String> = next(&mut answers)?;
                let mut what = self.compare_record(known, seen.as_deref(), &marks);
                if let Some(words) = words {
                    compare_cache(words, &mut answers, &mut what)?;
                }
                if !what.is_empty() {
                    let seen = seen.unwrap_or_default();
                    findings.insert((*record).clone(), Finding { seen, what, strays: Vec::new() });
                }
            }
        }
        Ok(findings)
    }

    /// The caches that the entities must have, from their last events.
    async fn expected(&self, known: &[(&String, &Known)]) -> Result<Vec<Option<CacheWords>>, VerifyError> {
        let places: Vec<(&StreamName, Id)> = known
            .iter()
            .filter(|(_, k)| k.entity.is_some())
            .filter_map(|(_, k)| k.last.map(|(s, id)| (&self.streams[s], id)))
            .collect();
        let mut entries = self.store.entries_at(&mut self.store.reads(), &places).await?.into_iter();
        let mut words = Vec::with_capacity(known.len());
        for (_, known) in known {
            words.push(match (&known.entity, known.last) {
                (Some((kind, id)), Some(_)) => {
                    let body = entries.next().flatten().map(|raw| raw.lossy("entity")).unwrap_or_default();
                    Some(self.words(*kind, id, known.removed, &body)?)
                }
                _ => None,
            });
        }
        Ok(words)
    }

    fn compare_record(
        &self,
        known: &Known,
        seen: Option<&str>,
        marks: &HashMap<String, String>,
    ) -> Vec<What> {
        let expected = self.record(known);
        let found = seen.and_then(|text| Record::parse(&known.key, text)).unwrap_or_default();
        let mut what = Vec::new();
        if found.version != expected.version {
            what.push(What::Version { log: expected.version, cache: found.version });
        } else if (found.removed, &found.last) != (expected.removed, &expected.last) {
            what.push(What::Last);
        }
        // A record may remember events that were trimmed, and events of streams that were not named.
        let gone = |stream: &str, id: Id| {
            let mark = marks.get(stream).and_then(|m| m.parse().ok()).unwrap_or(Id::ZERO);
            misses(id.previous(), mark) || !self.streams.iter().any(|s| s.to_string() == stream)
        };
        let more = found
            .chain
            .iter()
            .any(|(stream, id)| expected.chain.get(stream) != Some(id) && !gone(stream, *id));
        if more || expected.chain.keys().any(|stream| !found.chain.contains_key(stream)) {
            what.push(What::Order);
        }
        what
    }
}

pub(super) fn ask(pipe: &mut Pipeline, words: &CacheWords) {
    let parts = words.parts();
    pipe.cmd("SISMEMBER").arg(parts.ids).arg(parts.id);
    pipe.cmd("HGETALL").arg(parts.hash);
    for list in &parts.lists {
        pipe.cmd("LRANGE").arg(list.key).arg(0).arg(-1);
    }
    for index in &parts.indexes {
        if let Some(member) = index.member(parts.id) {
            pipe.cmd("ZSCORE").arg(index.key).arg(member);
        }
    }
}

pub(super) fn compare_cache(
    words: &CacheWords,
    answers: &mut impl Iterator<Item = Value>,
    what: &mut Vec<What>,
) -> Result<(), ReadError> {
    let parts = words.parts();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let listed: bool = next(answers)?;
    if listed == parts.removed {
        what.push(What::Listed(listed));
    }
    let mut hash: HashMap<Vec<u8>, Vec<u8>> = next(answers)?;
    if !parts.removed {
        for (name, value) in &parts.fields {
            if hash.remove(*name).as_deref() != Some(*value) {
                what.push(What::Field(text(name)));
            }
        }
    }
    let mut more: Vec<What> = hash.keys().map(|name| What::Field(text(name))).collect();
    more.sort();
    what.extend(more);
    for list in &parts.lists {
        let found: Vec<Vec<u8>> = next(answers)?;
        let same = if parts.removed { found.is_empty() } else { found == list.items };
        if !same {
            what.push(What::List(list.field.to_owned()));
        }
    }
    for index in parts.indexes.iter().filter(|i| i.value.is_some()) {
        let score: Option<f64> = next(answers)?;
        if score.is_some() == parts.removed {
            what.push(What::Index(index.field.to_owned()));
        }
    }
    Ok(())
}

/// The next answer of a pipeline.
pub(super) fn next<T: redis::FromRedisValue>(
    answers: &mut impl Iterator<Item = Value>,
) -> Result<T, ReadError> {
    let value = answers.next().ok_or_else(|| ReadError::malformed("the server answered too little"))?;
    redis::from_redis_value(value).map_err(|e| ReadError::malformed(e.to_string()))
}
