//! Changes that a person makes, while programs run.

use super::decide::Registered;
use super::milliseconds;
use crate::error::{AppendError, AppendErrorKind, ReadError, ReadErrorKind};
use crate::{EventStore, Kind, StreamName};
use std::time::Duration;

/// A change that did not happen, or not whole: make it again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// It cannot be: no kind of this name was ever used, or a field has no name that can be one.
    #[error("{0}")]
    Invalid(String),
    /// An earlier change takes effect then (milliseconds since 1970, by the log's time): make this one later.
    #[error("an earlier, shorter window takes effect at {since} ms: change it again after that")]
    Pending {
        /// When it takes effect.
        since: u64,
    },
    /// The server refused, or a key holds what the store never wrote.
    #[error("{0}")]
    Refused(String),
    /// The server could not be reached.
    #[error("{0}")]
    Unavailable(String),
}

impl From<AppendError> for SettingsError {
    fn from(e: AppendError) -> Self {
        match e.kind() {
            AppendErrorKind::Unavailable => Self::Unavailable(e.to_string()),
            _ => Self::Refused(e.to_string()),
        }
    }
}

impl From<ReadError> for SettingsError {
    fn from(e: ReadError) -> Self {
        match e.kind() {
            ReadErrorKind::Unavailable => Self::Unavailable(e.to_string()),
            _ => Self::Refused(e.to_string()),
        }
    }
}

impl EventStore {
    /// Changes how long event ids are remembered, while programs run. A longer window holds at once; a shorter one after at
    /// most two of the old: ids that are known by then have their time. Programs that state another window
    /// ([`crate::Config::dedup_window`]) go on, and are refused when they start again.
    ///
    /// `streams` are those of the store: in the tagged layout each of their families has its own clock.
    ///
    /// Answers since when it holds everywhere, in milliseconds of the log's time.
    ///
    /// # Errors
    /// [`SettingsError::Pending`] while an earlier change has not taken effect.
    pub async fn set_dedup_window(
        &self,
        window: Duration,
        streams: &[StreamName],
    ) -> Result<u64, SettingsError> {
        if window.is_zero() {
            return Err(SettingsError::Invalid("a window of no time remembers nothing".to_owned()));
        }
        let layout = self.layout();
        let ms = milliseconds(Some(window)).to_string();
        if !layout.is_plain() {
            // A family that is used for the first time from now on begins with the new one.
            let keys = [layout.store_settings().to_owned()];
            self.call_until_answered("settle_window", &keys[..], &[ms.clone()][..]).await?;
        }
        let mut latest = 0;
        for family in self.families(streams) {
            let keys = [layout.settings(&family), layout.clock(&family)];
            let words = self.call_until_answered("set_window", &keys[..], &[ms.clone()][..]).await?;
            let since = words.get(1).and_then(|ms| ms.parse().ok()).unwrap_or(0);
            match words.first().map(String::as_str) {
                Some("ok") => latest = latest.max(since),
                Some("pending") => return Err(SettingsError::Pending { since }),
                _ => return Err(SettingsError::Refused(format!("the server answered {words:?}"))),
            }
        }
        Ok(latest)
    }

    /// Changes which fields of a kind are kept as lists, and drops indexes, while programs run: they keep what is appended
    /// from then on so. What was appended before is as it was until [`EventStore::rebuild`] has written it anew: run that
    /// next. Programs that declare other lists go on, and are refused when they start again.
    ///
    /// # Errors
    /// [`SettingsError::Invalid`] for a kind that no program has used.
    pub async fn set_kind(&self, kind: Kind) -> Result<(), SettingsError> {
        let key = self.layout().settings(kind.family);
        loop {
            let (agreed, texts) = self.read_agreed(&key).await?;
            let Some(registered) = agreed.registered(kind.name) else {
                return Err(SettingsError::Invalid(format!("no program has used a kind {}", kind.name)));
            };
            let new: Vec<String> = kind
                .indexes
                .iter()
                .filter(|index| {
                    !registered.kind.indexes.contains(index)
                        || registered.building.iter().any(|building| building == *index)
                })
                .map(ToString::to_string)
                .collect();
            let changed = registered.kind.lists(kind.lists).indexes(kind.indexes);
            let empty = Registered { kind: changed, building: Vec::new() };
            let filled = Registered { kind: changed, building: new };
            let seen = texts.get(kind.name).map_or("", String::as_str);
            if self.write_kind(&key, changed, seen, &empty, &filled).await? {
                self.forget_settings();
                return Ok(self.build_indexes(&key, changed).await?);
            }
        }
    }
}
