//! Settings that all programs of a store must have in common: the layout, how long event ids are remembered, and which
//! fields of a kind are kept as lists and indexes. They are kept on the server. The first program settles them; one that
//! states another value is refused when it connects, or when it first uses the kind; a person changes them while programs
//! run, which take the change over with their next append: it names the revision of the settings by which it was laid out,
//! and is laid out again when that is no longer the newest.

mod agreed;
mod change;
mod decide;
mod index;

pub(crate) use agreed::{Agreed, Known};
pub use change::SettingsError;

use crate::error::{AppendErrorKind, ConnectError, ConnectErrorKind, ReadError};
use crate::{Config, EventStore, Kind, Layout, StreamName, functions};
use decide::Registered;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// What the store has settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// How its keys are named; `None` before the first program has connected.
    pub layout: Option<Layout>,
    /// How long event ids are remembered ([`Config::dedup_window`]); `None` before the first program has connected.
    pub dedup_window: Option<Duration>,
    /// The kinds of entities that programs have used, by name.
    pub kinds: BTreeMap<String, KindSettings>,
}

/// How the entities of a kind are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KindSettings {
    /// The kind with the lists and indexes that are settled, whatever the programs name.
    pub kind: Kind,
    /// Indexes that do not hold every entity yet.
    pub building: Vec<String>,
}

/// The window as the functions take it.
pub(crate) fn milliseconds(window: Option<Duration>) -> u64 {
    let window = window.unwrap_or(Config::DEDUP_WINDOW);
    u64::try_from(window.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 42)
}

/// Settles what is not settled yet, and refuses a program that states something else.
pub(crate) async fn at_connect(
    connection: &mut crate::connection::Connection,
    config: &Config,
) -> Result<(), ConnectError> {
    let key = config.layout.store_settings().to_owned();
    let unavailable = |e: redis::RedisError| {
        if e.code() == Some("NOPERM") {
            let message = format!("the user needs rights to read and write the key {key}: {e}");
            return ConnectError::new(ConnectErrorKind::Unsuitable, message);
        }
        ConnectError::new(ConnectErrorKind::Unavailable, e.to_string())
    };
    let (layout, stated) = (config.layout.name(), milliseconds(config.dedup_window));
    if config.layout == Layout::Tagged {
        // A store of before there were settings.
        let plain = Layout::Plain;
        let mut exists = redis::cmd("EXISTS");
        exists.arg(plain.clock(""));
        if exists.query_async::<bool>(connection).await.map_err(unavailable)? {
            return Err(disagrees("layout", plain.name(), layout));
        }
    }
    let args = [layout.to_owned(), stated.to_string()];
    let settled =
        functions::call(connection, "agree", std::slice::from_ref(&key), &args).await.map_err(unavailable)?;
    let settled = crate::entry::words(settled);
    if settled.first().is_some_and(|settled| settled != layout) {
        return Err(disagrees("layout", &settled[0], layout));
    }
    let window = settled.get(1).and_then(|ms| ms.parse().ok()).unwrap_or(stated);
    if config.dedup_window.is_some() && window != stated {
        let say = |ms: u64| format!("{:?}", Duration::from_millis(ms));
        return Err(disagrees("dedup_window", &say(window), &say(stated)));
    }
    Ok(())
}

/// For a program that only looks: it settles nothing, and where it may not read what is settled, it compares nothing.
pub(crate) async fn at_look(
    connection: &mut crate::connection::Connection,
    config: &Config,
) -> Result<(), ConnectError> {
    match settled_layout(connection).await? {
        Some(settled) if settled != config.layout.name() => {
            Err(disagrees("layout", &settled, config.layout.name()))
        }
        _ => Ok(()),
    }
}

async fn settled_layout(
    connection: &mut crate::connection::Connection,
) -> Result<Option<String>, ConnectError> {
    let mut get = redis::cmd("HGET");
    get.arg(Layout::Plain.store_settings()).arg("layout");
    match get.query_async(connection).await {
        Err(e) if e.code() == Some("NOPERM") => Ok(None),
        Err(e) => Err(ConnectError::new(ConnectErrorKind::Unavailable, e.to_string())),
        Ok(settled) => Ok(settled),
    }
}

fn disagrees(what: &str, settled: &str, stated: &str) -> ConnectError {
    let otherwise = match what {
        "dedup_window" => ", or the store with `eventstore settings dedup-window`",
        _ => "",
    };
    let message = format!(
        "the store's {what} is {settled}, this program says {stated}: all programs of a store must agree; change the \
         program{otherwise}"
    );
    ConnectError::new(ConnectErrorKind::Settings, message)
}

impl EventStore {
    /// The layout that the programs of the store at this place have settled, whatever the configuration says of it; `None`
    /// before the first of them has connected, and for a user who may not look at the settings.
    ///
    /// # Errors
    /// When no server answers.
    pub async fn settled_layout(config: &Config) -> Result<Option<Layout>, ConnectError> {
        let mut connection = crate::connection::Connection::open(config).await?;
        Ok(settled_layout(&mut connection).await?.and_then(|name| Layout::named(&name)))
    }

    /// What all programs of this store have in common. In the tagged layout the kinds are those of these streams' families.
    ///
    /// # Errors
    /// When the server does not answer, or a key of the settings holds what the store never wrote.
    pub async fn settings(&self, streams: &[StreamName]) -> Result<Settings, ReadError> {
        let layout = self.layout();
        let store = self.all_fields(layout.store_settings()).await?;
        let mut settings = Settings {
            layout: store.get("layout").and_then(|name| Layout::named(name)),
            dedup_window: store
                .get("dedup_window_ms")
                .and_then(|ms| ms.parse().ok())
                .map(Duration::from_millis),
            kinds: BTreeMap::new(),
        };
        for family in self.families(streams) {
            for (name, text) in kinds_of(&self.all_fields(&layout.settings(&family)).await?) {
                let Registered { kind, building } = Registered::parse(name, text)?;
                settings.kinds.insert(name.to_owned(), KindSettings { kind, building });
            }
        }
        Ok(settings)
    }

    /// Settles the kinds that the program states.
    pub(crate) async fn agree_on_kinds(&self) -> Result<(), ConnectError> {
        for kind in &self.config().kinds {
            self.agreed(kind.family, std::iter::once(*kind)).await.map_err(|e| {
                let passing = e.kind() == AppendErrorKind::Unavailable;
                let kind = if passing { ConnectErrorKind::Unavailable } else { ConnectErrorKind::Settings };
                ConnectError::new(kind, e.to_string())
            })?;
        }
        Ok(())
    }

    /// These kinds as the store keeps them, all that it knows of these streams when none is named, and the rest as it is
    /// declared.
    pub(crate) async fn as_kept(
        &self,
        kinds: &[Kind],
        streams: &[StreamName],
    ) -> Result<Vec<Kind>, ReadError> {
        let settled = self.settings(streams).await?.kinds;
        if kinds.is_empty() {
            let of = |kind: &Kind| streams.iter().any(|stream| stream.family() == kind.family);
            return Ok(settled.values().map(|settled| settled.kind).filter(of).collect());
        }
        let kept = |kind: &Kind| settled.get(kind.name).map_or(*kind, |settled| settled.kind);
        Ok(kinds.iter().map(kept).collect())
    }

    /// The families of these streams whose settings are apart: in the plain layout all have the same.
    fn families(&self, streams: &[StreamName]) -> BTreeSet<String> {
        if self.layout().is_plain() {
            return BTreeSet::from([String::new()]);
        }
        streams.iter().map(|stream| stream.family().to_owned()).collect()
    }

    async fn all_fields(&self, key: &str) -> Result<HashMap<String, String>, ReadError> {
        Ok(redis::cmd("HGETALL").arg(key).query_async(&mut self.reads()).await?)
    }
}

/// The kinds among the fields of a settings' hash: name and text.
fn kinds_of(fields: &HashMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    fields.iter().filter_map(|(field, text)| Some((field.strip_prefix(KIND)?, text.as_str())))
}

/// Before a kind's name, a field of a settings' hash.
const KIND: &str = "kind:";
