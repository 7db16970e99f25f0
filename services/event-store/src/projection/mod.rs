//! Projections kept in Redis: every replica follows the log and applies batches by compare-and-set
//! of the projection's position, so any number of replicas is right, whoever is first wins, and a
//! new replica starts where the position stands. Never reads what it wrote to decide what to write.
//!
//! ```text
//! view:active        which version is read
//! view:v1:position   how far version 1 has come          view:v2:position …
//! view:v1:keys       the keys it has written             a new version is built from the log beside
//! view:v1:alive      a program keeps it up to date       the old one and made the active one when
//! view:v1:…          what it holds                       it has caught up
//! ```

mod projector;
mod versions;
mod view;

pub use projector::Projector;
pub use versions::{ProjectionState, Removal};
pub use view::View;

use crate::error::ReadError;
use crate::{Id, Layout, StreamName};

/// Local names that the projection itself uses.
const OWN: [&str; 3] = ["position", "keys", "alive"];
/// What stands in the position's place while a version is being removed.
const REMOVING: &str = "removing";

/// Which projection: its name, its version and what it reads.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Projection {
    name: String,
    version: u32,
    streams: Vec<StreamName>,
    also: Vec<u32>,
    from_snapshots: bool,
}

impl Projection {
    /// A projection. A new version starts from the beginning of the log under keys of its own:
    /// choose one, a higher one, when what is written changes.
    #[must_use]
    pub fn new(name: impl Into<String>, version: u32) -> Self {
        Self { name: name.into(), version, streams: Vec::new(), also: Vec::new(), from_snapshots: false }
    }

    /// The streams it reads.
    #[must_use]
    pub fn streams(mut self, streams: impl IntoIterator<Item = StreamName>) -> Self {
        self.streams = streams.into_iter().collect();
        self
    }

    /// Other versions that this program's readers understand: its [`View`] reads the active one of
    /// them until its own has caught up. Choose it when the new version only writes other values
    /// under the same keys; without it a view reads its own version and nothing else.
    #[must_use]
    pub fn reads_also(mut self, versions: impl IntoIterator<Item = u32>) -> Self {
        self.also = versions.into_iter().collect();
        self
    }

    /// Where a trim took the beginning of the log, begin with the last event of each entity that it
    /// took (their [`crate::Event::snapshot`] is set). Choose it when what is written for an entity
    /// follows from its last event alone; without it such a projection is refused.
    #[must_use]
    pub fn from_snapshots(mut self) -> Self {
        self.from_snapshots = true;
        self
    }

    /// Does a view of it follow the active version?
    fn follows(&self) -> bool {
        !self.also.is_empty()
    }

    /// Which version is read when this one is active.
    fn choose(&self, active: Option<u32>) -> u32 {
        active.filter(|v| self.also.contains(v)).unwrap_or(self.version)
    }

    fn key(&self, layout: Layout, local: &str) -> String {
        layout.projection(&self.name, self.version, local)
    }
}

fn parse_position(text: Option<&str>) -> Result<Id, ReadError> {
    if text == Some(REMOVING) {
        return Err(ReadError::invalid("this version of the projection is being removed"));
    }
    text.map_or(Ok(Id::ZERO), |t| {
        t.parse().map_err(|e| ReadError::malformed(format!("position of a projection: {e}")))
    })
}

/// A write to a projection's own keys. Keys are local names: `orders` becomes `read-model:v1:orders`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Write {
    /// Sets a field of a hash.
    HashSet {
        /// Local name.
        key: String,
        /// Field.
        field: String,
        /// Value.
        value: String,
    },
    /// Removes a field of a hash.
    HashDelete {
        /// Local name.
        key: String,
        /// Field.
        field: String,
    },
    /// Adds a member to a sorted set, or changes its score.
    SortedAdd {
        /// Local name.
        key: String,
        /// Member.
        member: String,
        /// Score; members of one score sort by their bytes.
        score: f64,
    },
    /// Removes a member of a sorted set.
    SortedRemove {
        /// Local name.
        key: String,
        /// Member.
        member: String,
    },
    /// Adds a member to a set.
    SetAdd {
        /// Local name.
        key: String,
        /// Member.
        member: String,
    },
    /// Removes a member of a set.
    SetRemove {
        /// Local name.
        key: String,
        /// Member.
        member: String,
    },
}

impl Write {
    fn parts(&self) -> (&'static str, &str, Vec<String>) {
        match self {
            Self::HashSet { key, field, value } => ("HSET", key, vec![field.clone(), value.clone()]),
            Self::HashDelete { key, field } => ("HDEL", key, vec![field.clone()]),
            Self::SortedAdd { key, member, score } => ("ZADD", key, vec![score.to_string(), member.clone()]),
            Self::SortedRemove { key, member } => ("ZREM", key, vec![member.clone()]),
            Self::SetAdd { key, member } => ("SADD", key, vec![member.clone()]),
            Self::SetRemove { key, member } => ("SREM", key, vec![member.clone()]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_reads_the_active_version_of_those_it_understands_and_its_own_otherwise() {
        let alone = Projection::new("view", 2);
        let both = Projection::new("view", 2).reads_also([1]);
        for (active, alone_reads, both_reads) in
            [(None, 2, 2), (Some(1), 2, 1), (Some(2), 2, 2), (Some(3), 2, 2)]
        {
            assert_eq!((alone.choose(active), both.choose(active)), (alone_reads, both_reads), "{active:?}");
        }
    }

    #[test]
    fn a_version_that_is_being_removed_is_no_beginning() {
        assert_eq!(parse_position(None).unwrap(), Id::ZERO);
        assert!(parse_position(Some(REMOVING)).unwrap_err().to_string().contains("removed"));
    }
}
