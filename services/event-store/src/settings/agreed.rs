//! What a program knows of the settings: read once, and again when the server says that they have changed.

use super::decide::{Decision, Registered, decide, indexes_that_differ};
use super::{KIND, index, kinds_of};
use crate::append::Waiting;
use crate::doctor::Access;
use crate::error::{AppendError, AppendErrorKind, ReadError, ReadErrorKind};
use crate::{EventStore, Kind};
use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

/// The settings of the kinds that share a settings' hash: all of a store, or in the tagged layout those of a family.
#[derive(Clone, Debug)]
pub(crate) struct Agreed {
    /// Counts the changes; a batch names the one by which it was laid out.
    pub(crate) revision: String,
    kinds: HashMap<String, Registered>,
}

impl Default for Agreed {
    fn default() -> Self {
        Self { revision: "0".to_owned(), kinds: HashMap::new() }
    }
}

impl Agreed {
    /// The kind with the lists and indexes that the store keeps.
    pub(crate) fn kind(&self, declared: Kind) -> Kind {
        self.kinds.get(declared.name).map_or(declared, |registered| registered.kind)
    }

    /// How it is kept; `None` when no program has used it.
    pub(crate) fn registered(&self, name: &str) -> Option<&Registered> {
        self.kinds.get(name)
    }
}

fn refused(e: &ReadError) -> AppendError {
    let passing = e.kind() == ReadErrorKind::Unavailable;
    let kind = if passing { AppendErrorKind::Unavailable } else { AppendErrorKind::Refused };
    AppendError::new(kind, e.to_string())
}

/// What a program knows of the settings.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// What was read last, by the key of the settings.
    read: RwLock<HashMap<String, Arc<Agreed>>>,
    /// Kinds, as the program declares them, that were once settled so. What becomes of them later is taken over.
    accepted: RwLock<HashSet<Kind>>,
    /// The kinds whose indexes are being built: the key of the settings, and the kind's name.
    building: Mutex<HashSet<(String, &'static str)>>,
}

impl Known {
    /// Answers whether nobody was at it.
    pub(super) fn begins_to_build(&self, key: &str, kind: Kind) -> bool {
        self.building.lock().unwrap_or_else(PoisonError::into_inner).insert((key.to_owned(), kind.name))
    }

    pub(super) fn builds_no_longer(&self, key: &str, kind: Kind) {
        self.building.lock().unwrap_or_else(PoisonError::into_inner).remove(&(key.to_owned(), kind.name));
    }

    fn read(&self, key: &str) -> Option<Arc<Agreed>> {
        self.read.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn forget(&self) {
        self.read.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn keep(&self, key: &str, agreed: Arc<Agreed>, accepted: &[Kind]) {
        self.accepted.write().unwrap_or_else(PoisonError::into_inner).extend(accepted.iter().copied());
        self.read.write().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), agreed);
    }

    /// Can the program use a kind that it declares so as it is kept?
    fn suits(&self, agreed: &Agreed, declared: Kind) -> bool {
        agreed.registered(declared.name).is_some_and(|registered| {
            registered.suits(declared)
                || self.accepted.read().unwrap_or_else(PoisonError::into_inner).contains(&declared)
        })
    }
}

impl EventStore {
    /// The settings of a family, in which each of these kinds is settled.
    pub(crate) async fn agreed(
        &self,
        family: &str,
        kinds: impl Iterator<Item = Kind> + Clone,
    ) -> Result<Arc<Agreed>, AppendError> {
        if let Some(agreed) = self.known().read(&self.layout().settings(family))
            && kinds.clone().all(|kind| self.known().suits(&agreed, kind))
        {
            return Ok(agreed);
        }
        // Boxed: it happens rarely, and every append's future would have its size.
        Box::pin(self.settle_until_answered(family, kinds)).await
    }

    async fn settle_until_answered(
        &self,
        family: &str,
        kinds: impl Iterator<Item = Kind> + Clone,
    ) -> Result<Arc<Agreed>, AppendError> {
        // Boxed, and of no named type: callers' futures hold this one, often several functions deep.
        let settled: Pin<Box<dyn Future<Output = Result<Arc<Agreed>, AppendError>> + Send + '_>> =
            Box::pin(self.settle_until_done(family, kinds.collect()));
        settled.await
    }

    async fn settle_until_done(&self, family: &str, kinds: Vec<Kind>) -> Result<Arc<Agreed>, AppendError> {
        let deadline = Instant::now() + self.config().append_deadline;
        let mut waiting = Waiting::default();
        loop {
            match self.settle(family, &kinds).await {
                Err(e) if e.kind() == AppendErrorKind::Unavailable => {
                    let pause = waiting.next_pause();
                    if Instant::now() + pause >= deadline {
                        return Err(e);
                    }
                    tokio::time::sleep(pause).await;
                }
                Ok(None) => {}
                Ok(Some(agreed)) => return Ok(agreed),
                Err(e) => return Err(e),
            }
        }
    }

    /// The settings by which ids can be looked up by this field of the kind.
    pub(crate) async fn agreed_on_index(&self, kind: Kind, field: &str) -> Result<Arc<Agreed>, ReadError> {
        let only_looks = self.config().access == Access::ReadOnly;
        let key = self.layout().settings(kind.family);
        let settled = if only_looks {
            Ok(None)
        } else {
            self.agreed(kind.family, std::iter::once(kind)).await.map(Some)
        };
        let agreed = match settled {
            Ok(Some(agreed)) => agreed,
            Err(e) if e.kind() == AppendErrorKind::Unavailable => return Err(e.into()),
            // Who may not settle a kind looks it up as others keep it.
            Ok(None) | Err(_) => Arc::new(self.read_agreed(&key).await?.0),
        };
        let building = |agreed: &Agreed| {
            agreed.registered(kind.name).is_some_and(|r| r.building.iter().any(|name| name == field))
        };
        let kept = |agreed: &Agreed| agreed.kind(kind).indexes.contains(&field);
        if !kept(&agreed) && !kept(&self.read_agreed(&key).await?.0) {
            return Err(ReadError::invalid(format!("{} has no index on {field}", kind.name())));
        }
        if building(&agreed) && building(&self.read_agreed(&key).await?.0) {
            // The next question looks whether it is still being built, and sees to it.
            self.forget_settings();
            let message = format!("the index of {} on {field} is being built: ask again", kind.name());
            return Err(ReadError::unavailable(message));
        }
        Ok(agreed)
    }

    /// Reads the settings, and settles the kinds that are not; `None` when it did, so that they are to be read again.
    async fn settle(&self, family: &str, kinds: &[Kind]) -> Result<Option<Arc<Agreed>>, AppendError> {
        let key = &self.layout().settings(family);
        let (agreed, texts) = self.read_agreed(key).await.map_err(|e| refused(&e))?;
        let mut settled = true;
        if agreed.kinds.is_empty() && !self.layout().is_plain() {
            self.take_window_over(family).await?;
        }
        for kind in kinds.iter().copied().filter(|kind| !self.known().suits(&agreed, *kind)) {
            match decide(agreed.kinds.get(kind.name), kind) {
                Decision::Keep => {}
                Decision::Refuse(why) => return Err(AppendError::new(AppendErrorKind::Refused, why)),
                Decision::Write { empty, filled } => {
                    let seen = texts.get(kind.name).map_or("", String::as_str);
                    self.write_kind(key, kind, seen, &empty, &filled).await?;
                    settled = false;
                }
            }
        }
        if !settled {
            return Ok(None);
        }
        for registered in agreed.kinds.values().filter(|registered| !registered.building.is_empty()) {
            index::build(self, key, registered);
        }
        let agreed = Arc::new(agreed);
        self.known().keep(key, agreed.clone(), kinds);
        Ok(Some(agreed))
    }

    /// The settings, and each kind's text.
    pub(super) async fn read_agreed(
        &self,
        key: &str,
    ) -> Result<(Agreed, HashMap<String, String>), ReadError> {
        let fields = self.all_fields(key).await?;
        let (mut kinds, mut texts) = (HashMap::new(), HashMap::new());
        for (name, text) in kinds_of(&fields) {
            kinds.insert(name.to_owned(), Registered::parse(name, text)?);
            texts.insert(name.to_owned(), text.to_owned());
        }
        let revision = fields.get("revision").cloned().unwrap_or_else(|| "0".to_owned());
        Ok((Agreed { revision, kinds }, texts))
    }

    /// A family that is used for the first time gets the store's window, and again if that was changed in this moment. One
    /// whose own window a person has changed in this moment keeps it.
    async fn take_window_over(&self, family: &str) -> Result<(), AppendError> {
        let layout = self.layout();
        let keys = [layout.settings(family), layout.clock(family)];
        let mut taken: Option<String> = None;
        loop {
            let window: Option<String> = redis::cmd("HGET")
                .arg(layout.store_settings())
                .arg("dedup_window_ms")
                .query_async(&mut self.reads())
                .await
                .map_err(|e| refused(&e.into()))?;
            let Some(window) = window.filter(|window| taken.as_ref() != Some(window)) else { return Ok(()) };
            let args = [window.clone(), taken.unwrap_or_default()];
            self.call_until_answered("set_window", &keys[..], &args[..]).await?;
            taken = Some(window);
        }
    }

    /// Writes a kind's settings if they still are as they were seen; whether they were.
    pub(super) async fn write_kind(
        &self,
        key: &str,
        kind: Kind,
        seen: &str,
        empty: &Registered,
        filled: &Registered,
    ) -> Result<bool, AppendError> {
        let mut keys = vec![key.to_owned(), self.layout().ids(kind)];
        if !seen.is_empty() {
            let before = Registered::parse(kind.name, seen).map_err(|e| refused(&e))?.kind.indexes;
            let changed = indexes_that_differ(before, filled.kind.indexes);
            keys.extend(changed.iter().map(|field| self.layout().index(kind, field)));
        }
        let args = [format!("{KIND}{}", kind.name), seen.to_owned(), empty.text(), filled.text()];
        let words = self.call_until_answered("set_kind", &keys[..], &args[..]).await?;
        Ok(words.first().is_some_and(|word| word == "ok"))
    }

    /// The settings have changed: they are read again before the next append.
    pub(crate) fn forget_settings(&self) {
        self.known().forget();
    }
}
