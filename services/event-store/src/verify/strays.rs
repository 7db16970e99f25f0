//! What the cache holds of entities that the log says are not there: ids in the set, members of
//! indexes. Found by scanning those sets, page by page.

use super::known::Log;
use super::{Finding, Findings, Verified, VerifyError, What};
use crate::Kind;
use crate::error::ReadError;
use redis::cmd;
use std::collections::HashMap;

/// An index's member that looks wrong: of which field, and the member.
type Suspect = (Kind, String, &'static str, Vec<u8>);

impl Log<'_> {
    /// Strays, after everything that was appended meanwhile is known.
    pub(super) async fn strays(&mut self, verified: &mut Verified) -> Result<Findings, VerifyError> {
        let families: Vec<String> = self.streams.iter().map(|s| s.family().to_owned()).collect();
        let kinds: Vec<Kind> = self.kinds.to_vec();
        let (mut ids, mut members): (Vec<(Kind, String)>, Vec<Suspect>) = (Vec::new(), Vec::new());
        for kind in kinds.into_iter().filter(|k| families.iter().any(|f| f == k.family)) {
            self.scan_ids(kind, &mut ids).await?;
            for field in kind.indexes {
                self.scan_index(kind, field, &mut members).await?;
            }
        }
        self.fold(verified).await?;
        let mut findings = Findings::new();
        for (kind, id) in ids {
            let record = self.store.layout().record(kind.family, &kind.ordering_key(&id));
            if self.known.contains_key(&record) {
                continue;
            }
            let seen: Option<String> = cmd("GET")
                .arg(&record)
                .query_async(&mut self.store.reads())
                .await
                .map_err(ReadError::from)?;
            let what = vec![What::Listed(true)];
            findings
                .insert(record.clone(), Finding { seen: seen.unwrap_or_default(), what, strays: Vec::new() });
            self.strangers.insert(record, (kind, id));
        }
        for (kind, id, field, member) in members {
            self.judge(kind, id, field, member, &mut findings).await?;
        }
        Ok(findings)
    }

    /// Is the member still there, and still none of the entity's?
    async fn judge(
        &mut self,
        kind: Kind,
        id: String,
        field: &str,
        member: Vec<u8>,
        findings: &mut Findings,
    ) -> Result<(), VerifyError> {
        let index = self.store.layout().index(kind, field);
        let record = self.store.layout().record(kind.family, &kind.ordering_key(&id));
        let mut pipe = redis::pipe();
        pipe.cmd("ZSCORE").arg(&index).arg(&member).cmd("GET").arg(&record);
        let (score, seen): (Option<f64>, Option<String>) =
            pipe.query_async(&mut self.store.reads()).await.map_err(ReadError::from)?;
        if score.is_none() {
            return Ok(());
        }
        if self.known.contains_key(&record) {
            if let Some(words) = self.cache_words(&record).await? {
                let parts = words.parts();
                let right = parts.indexes.iter().find(|i| i.field == field).and_then(|i| i.member(parts.id));
                if !parts.removed && right.as_ref() == Some(&member) {
                    return Ok(());
                }
            }
        } else {
            self.strangers.insert(record.clone(), (kind, id));
        }
        let finding = findings.entry(record).or_default();
        finding.seen = seen.unwrap_or_default();
        finding.what.push(What::Index(field.to_owned()));
        finding.strays.push((index, member));
        Ok(())
    }

    async fn scan_ids(&self, kind: Kind, found: &mut Vec<(Kind, String)>) -> Result<(), ReadError> {
        let mut cursor = 0_u64;
        loop {
            let (next, page): (u64, Vec<String>) = cmd("SSCAN")
                .arg(self.store.layout().ids(kind))
                .arg(cursor)
                .arg("COUNT")
                .arg(500)
                .query_async(&mut self.store.reads())
                .await?;
            let stranger = |id: &String| {
                let record = self.store.layout().record(kind.family, &kind.ordering_key(id));
                !self.known.contains_key(&record)
            };
            found.extend(page.into_iter().filter(stranger).map(|id| (kind, id)));
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    /// Members of unknown or deleted entities, and every member of an entity that has two.
    async fn scan_index(
        &self,
        kind: Kind,
        field: &'static str,
        found: &mut Vec<Suspect>,
    ) -> Result<(), ReadError> {
        let (mut cursor, mut of) = (0_u64, HashMap::<String, Vec<u8>>::new());
        loop {
            let (next, page): (u64, Vec<(Vec<u8>, f64)>) = cmd("ZSCAN")
                .arg(self.store.layout().index(kind, field))
                .arg(cursor)
                .arg("COUNT")
                .arg(500)
                .query_async(&mut self.store.reads())
                .await?;
            for (member, _) in page {
                let at = member.iter().rposition(|b| *b == 0).map_or(0, |at| at + 1);
                let id = String::from_utf8_lossy(&member[at..]).into_owned();
                let record = self.store.layout().record(kind.family, &kind.ordering_key(&id));
                let gone = self.known.get(&record).is_none_or(|known| known.removed);
                match of.get(&id) {
                    _ if gone => found.push((kind, id, field, member)),
                    Some(other) if *other != member => {
                        found.push((kind, id.clone(), field, other.clone()));
                        found.push((kind, id, field, member));
                    }
                    Some(_) => {}
                    None => drop(of.insert(id, member)),
                }
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }
}
