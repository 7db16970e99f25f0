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

mod observe;
mod projector;
mod versions;
mod view;

pub use observe::ProjectionObservation;
pub use projector::Projector;
pub use versions::{ProjectionState, Removal};
pub use view::View;

use crate::error::{ProjectionError, ReadError};
use crate::{Id, Layout, NameOf, StreamName};

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
    /// choose one, a higher one, when what is written changes. The name is 1 to 64 letters, digits and `-`
    /// ([`NameOf::Projection`]); with another one [`Projector::run`] ends at once.
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

    /// Can there be such a projection? What can be known without the server.
    fn check(&self, layout: Layout) -> Result<(), ProjectionError> {
        let invalid = |why: &str| Err(ProjectionError::Invalid(why.to_owned()));
        if let Err(e) = NameOf::Projection.check(&self.name) {
            return invalid(&e.to_string());
        }
        let Some(first) = self.streams.first() else { return invalid("it reads at least one stream") };
        if (1..self.streams.len()).any(|i| self.streams[..i].contains(&self.streams[i])) {
            return invalid("it names each stream once");
        }
        if !layout.is_plain() && self.streams.iter().any(|stream| stream.family() != first.family()) {
            return invalid("in the tagged layout it reads the streams of one family");
        }
        Ok(())
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

/// A write to a projection's own keys. Keys are local names: `orders` becomes `read-model:v1:orders`. Which there can be:
/// [`NameOf::ProjectionKey`].
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
    /// Can it be applied? What can be known without the server: it would refuse it after it has applied others.
    fn check(&self) -> Result<(), String> {
        let (_, key, _) = self.parts();
        NameOf::ProjectionKey.check(key).map_err(|e| e.to_string())?;
        match self {
            Self::SortedAdd { key, member, score } if score.is_nan() => {
                Err(format!("the score of {member:?} in {key:?} is no number"))
            }
            _ => Ok(()),
        }
    }

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
    fn what_cannot_be_a_projection_is_refused() {
        let kind = crate::Kind::new;
        let order = || kind("order").stream("created");
        let of = |name: &str, streams: Vec<StreamName>| Projection::new(name, 1).streams(streams);
        let two = || vec![order(), kind("bill").stream("sent")];
        for (projection, plain, tagged) in [
            (of("view", vec![order()]), None, None),
            (of("my_view", vec![order()]), Some("letters, digits and -"), Some("letters, digits and -")),
            (of("view", vec![]), Some("at least one stream"), Some("at least one stream")),
            (of("view", vec![order(), order()]), Some("each stream once"), Some("each stream once")),
            (of("view", two()), None, Some("one family")),
        ] {
            for (layout, says) in [(Layout::Plain, plain), (Layout::Tagged, tagged)] {
                match (projection.check(layout), says) {
                    (Ok(()), None) => {}
                    (Err(ProjectionError::Invalid(why)), Some(says)) => assert!(why.contains(says), "{why}"),
                    (checked, _) => panic!("{projection:?} {layout:?}: {checked:?}"),
                }
            }
        }
    }

    #[test]
    fn a_write_that_the_server_would_refuse_half_way_is_refused_before_it_is_sent() {
        let add = |key: &str, score| Write::SortedAdd { key: key.into(), member: "m".into(), score };
        assert!(add("log", f64::NAN).check().unwrap_err().contains("no number"));
        assert!(add("position", 1.0).check().unwrap_err().contains("used by the projection itself"));
        assert!(add("", 1.0).check().is_err());
        assert_eq!(add("log", f64::INFINITY).check(), Ok(()));
    }

    #[test]
    fn a_version_that_is_being_removed_is_no_beginning() {
        assert_eq!(parse_position(None).unwrap(), Id::ZERO);
        assert!(parse_position(Some(REMOVING)).unwrap_err().to_string().contains("removed"));
    }
}
