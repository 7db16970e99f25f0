//! Entities that are appended to so often that the fold is always behind them: their record, which
//! each append moves, says which event was the last, and a cache is compared with that event.

use super::cached::{ask, compare_cache, next};
use super::known::Log;
use super::{Finding, VerifyError};
use crate::cache::CacheWords;
use crate::error::ReadError;
use crate::record::Record;
use redis::Value;

/// How often a moment without an append is waited for.
const TRIES: usize = 20;

impl Log<'_> {
    /// What differs at one moment; `None` when no such moment was found.
    pub(super) async fn settle(&mut self, record: &str, mend: bool) -> Result<Option<Finding>, VerifyError> {
        for _ in 0..TRIES {
            let Some((seen, words)) = self.now(record).await? else { return Ok(None) };
            let mut pipe = redis::pipe();
            pipe.atomic().cmd("GET").arg(record);
            ask(&mut pipe, &words);
            let answers: Vec<Value> =
                pipe.query_async(&mut self.store.reads()).await.map_err(ReadError::from)?;
            let mut answers = answers.into_iter();
            if next::<Option<String>>(&mut answers)?.as_ref() != Some(&seen) {
                continue;
            }
            let mut what = Vec::new();
            compare_cache(&words, &mut answers, &mut what)?;
            if mend && !what.is_empty() {
                if self.write(record, &seen, &seen, Some(&words), &[]).await? {
                    self.has_mended(record, what);
                    return Ok(Some(Finding::default()));
                }
                continue;
            }
            return Ok(Some(Finding { seen, what, strays: Vec::new() }));
        }
        Ok(None)
    }

    /// The record as it is, and the cache that its last event gives.
    async fn now(&self, record: &str) -> Result<Option<(String, CacheWords)>, VerifyError> {
        let Some(known) = self.known.get(record) else { return Ok(None) };
        let Some((kind, id)) = &known.entity else { return Ok(None) };
        let text: Option<String> = redis::cmd("GET")
            .arg(record)
            .query_async(&mut self.store.reads())
            .await
            .map_err(ReadError::from)?;
        let Some(text) = text else { return Ok(None) };
        let Some(found) = Record::parse(&known.key, &text) else { return Ok(None) };
        let Some((stream, at)) = &found.last else { return Ok(None) };
        let Some(raw) = self.store.entry(stream, *at).await? else { return Ok(None) };
        let words = self.words(*kind, id, found.removed, &raw.lossy("entity"))?;
        Ok(Some((text, words)))
    }
}
