//! Which versions of projections there are, and removing one that nobody reads or writes any more.
//! Never removes the version that is read.

use super::{Projection, REMOVING, parse_position};
use crate::error::{ProjectionError, ReadError};
use crate::{EventStore, Id, StreamName};
use std::collections::HashMap;

/// Keys removed in one step.
const STEP: usize = 100;

/// A version of a projection that the store knows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProjectionState {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// What it reads.
    pub streams: Vec<StreamName>,
    /// Everything up to here is applied; `None` while it is being removed.
    pub position: Option<Id>,
    /// Is it the version that is read?
    pub active: bool,
    /// Does a program keep it up to date (a sign of life in the last 30 seconds)?
    pub built: bool,
}

impl EventStore {
    /// All versions of all projections, by name and version. They hold back a trim.
    pub async fn projections(&self) -> Result<Vec<ProjectionState>, ReadError> {
        let layout = self.layout();
        let registered: HashMap<String, String> =
            redis::cmd("HGETALL").arg(layout.projections()).query_async(&mut self.reads()).await?;
        let mut states = Vec::with_capacity(registered.len());
        for (field, streams) in &registered {
            let (name, version, streams) = parse(field, streams).ok_or_else(|| {
                ReadError::malformed(format!("projection {field:?} is registered unreadably"))
            })?;
            let key = |local: &str| layout.projection(&name, version, local);
            let found: (Option<u32>, Option<String>, Option<String>) = redis::cmd("MGET")
                .arg(layout.active(&name))
                .arg(key("position"))
                .arg(key("alive"))
                .query_async(&mut self.reads())
                .await?;
            let (active, position, alive) = found;
            let position = match position.as_deref() {
                Some(REMOVING) => None,
                text => Some(parse_position(text)?),
            };
            let state = ProjectionState {
                active: active == Some(version),
                built: alive.is_some(),
                name,
                version,
                streams,
                position,
            };
            states.push(state);
        }
        states.sort_by(|a, b| (&a.name, a.version).cmp(&(&b.name, b.version)));
        Ok(states)
    }

    /// Removes what a version of a projection holds; nothing happens before [`Removal::run`]. Any name will do, so that
    /// what an earlier version of the library accepted can be removed: only what was written under it is.
    pub fn remove_projection(&self, name: impl Into<String>, version: u32) -> Removal {
        Removal { store: self.clone(), projection: Projection::new(name, version) }
    }
}

fn parse(field: &str, streams: &str) -> Option<(String, u32, Vec<StreamName>)> {
    let (name, version) = field.rsplit_once(":v")?;
    let streams: Vec<String> = serde_json::from_str(streams).ok()?;
    let streams = streams.iter().map(|s| StreamName::parse(s)).collect::<Option<_>>()?;
    Some((name.to_owned(), version.parse().ok()?, streams))
}

/// The removal of one version; see [`EventStore::remove_projection`].
#[derive(Debug)]
#[must_use = "nothing is removed until it runs"]
pub struct Removal {
    store: EventStore,
    projection: Projection,
}

impl Removal {
    /// How many keys would go.
    pub async fn preview(&self) -> Result<u64, ReadError> {
        Ok(redis::cmd("SCARD").arg(self.key("keys")).query_async(&mut self.store.reads()).await?)
    }

    /// Removes them, a hundred keys at a step, and answers how many there were. Refused for the
    /// active version and for one that a program keeps up to date. Killed in its middle, it is
    /// finished by running it again; until then no program can build this version.
    pub async fn run(self) -> Result<u64, ProjectionError> {
        let version = self.projection.version;
        let mut removed = 0;
        loop {
            let page: Vec<String> = redis::cmd("SRANDMEMBER")
                .arg(self.key("keys"))
                .arg(STEP)
                .query_async(&mut self.store.reads())
                .await
                .map_err(ReadError::from)?;
            let own = [self.store.layout().active(&self.projection.name)];
            let own = own.into_iter().chain(["alive", "position", "keys"].map(|key| self.key(key)));
            let keys: Vec<String> = own.chain(page).collect();
            let words = self
                .store
                .call_until_answered("unproject", &keys, &[version.to_string()])
                .await
                .map_err(ReadError::from)?;
            match words.first().map(String::as_str) {
                Some("more") => removed += u64::try_from(keys.len() - 4).unwrap_or(0),
                Some("done") => break,
                Some("active") => return Err(ProjectionError::Active { version }),
                Some("alive") => return Err(ProjectionError::Built { version }),
                _ => return Err(ProjectionError::Unavailable(format!("the server answered {words:?}"))),
            }
        }
        redis::cmd("HDEL")
            .arg(self.store.layout().projections())
            .arg(format!("{}:v{version}", self.projection.name))
            .exec_async(&mut self.store.connection())
            .await
            .map_err(ReadError::from)?;
        Ok(removed)
    }

    fn key(&self, local: &str) -> String {
        self.projection.key(self.store.layout(), local)
    }
}
