//! Which names and ids there can be. Keys are made of them, so one that could reach a key of something else is refused
//! before anything is sent. Checked in constants too, so that a bad name in a program's source does not compile.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// The longest name of a kind, an action, a field, a group or a projection, in bytes.
const NAME: usize = 64;
/// The longest id of an entity or name of a consumer, in bytes.
const ID: usize = 256;
/// The longest ordering key, in bytes: that of an entity is its kind's name, a slash and its id.
const KEY: usize = NAME + 1 + ID;

/// A name or id that cannot be used; its text says what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} cannot be {of}: {}", of.allowed())]
pub struct InvalidName {
    name: String,
    of: NameOf,
}

impl InvalidName {
    /// The name that was refused.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it was to name.
    #[must_use]
    pub fn of(&self) -> NameOf {
        self.of
    }
}

/// What a name is of, and with it which names are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameOf {
    /// A kind of entities, or a family of streams: 1 to 64 letters, digits and `-`.
    Kind,
    /// An action: 1 to 64 letters, digits and `-`.
    Action,
    /// A field that the cache keeps as a list: 1 to 64 letters, digits, `-` and `_`, no `_` at either end, and not
    /// `entity`.
    List,
    /// A field with an index: 1 to 64 letters, digits, `-` and `_`, no `_` at either end.
    Index,
    /// A group: 1 to 64 letters, digits, `-` and `_`, no `_` at either end.
    Group,
    /// A consumer: 1 to 256 bytes without control characters or braces.
    Consumer,
    /// A position that a reader registers: 1 to 64 letters, digits, `-` and `_`, no `_` at either end.
    Position,
    /// A projection: 1 to 64 letters, digits and `-`, and neither `events` nor `eventstore`.
    Projection,
    /// A local key of a projection: any text but an empty one and `position`, `keys` and `alive`, which the projection
    /// itself uses.
    ProjectionKey,
    /// An entity's id: 1 to 256 bytes without control characters or braces.
    EntityId,
    /// An ordering key: 1 to 321 bytes without control characters or braces.
    OrderingKey,
}

impl NameOf {
    /// Can this be such a name? A tool that takes names from people asks before it does anything.
    pub fn check(self, name: &str) -> Result<(), InvalidName> {
        let valid = match self {
            Self::Kind => is_valid_kind(name),
            Self::Action => is_valid_action(name),
            Self::List => is_valid_list(name),
            Self::Index | Self::Group | Self::Position => is_valid_name(name),
            Self::Projection => is_valid_projection(name),
            Self::ProjectionKey => !name.is_empty() && !PROJECTIONS_OWN.contains(&name),
            Self::Consumer | Self::EntityId => is_valid_text(name, ID),
            Self::OrderingKey => is_valid_text(name, KEY),
        };
        if valid { Ok(()) } else { Err(InvalidName { name: name.to_owned(), of: self }) }
    }

    fn allowed(self) -> &'static str {
        match self {
            Self::Kind | Self::Action => "use 1 to 64 letters, digits and -",
            Self::List => {
                "use 1 to 64 letters, digits, - and _, without _ at either end, and another name than \"entity\""
            }
            Self::Index | Self::Group | Self::Position => {
                "use 1 to 64 letters, digits, - and _, without _ at either end"
            }
            Self::Projection => {
                "use 1 to 64 letters, digits and -, and another name than \"events\" and \"eventstore\""
            }
            Self::ProjectionKey => "\"position\", \"keys\" and \"alive\" are used by the projection itself",
            Self::Consumer | Self::EntityId => "use 1 to 256 bytes without control characters and braces",
            Self::OrderingKey => "use 1 to 321 bytes without control characters and braces",
        }
    }
}

impl fmt::Display for NameOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kind => "the name of a kind",
            Self::Action => "an action",
            Self::List => "a list of a kind",
            Self::Index => "an index of a kind",
            Self::Group => "the name of a group",
            Self::Consumer => "the name of a consumer",
            Self::Position => "the name of a position",
            Self::Projection => "the name of a projection",
            Self::ProjectionKey => "a key of a projection",
            Self::EntityId => "the id of an entity",
            Self::OrderingKey => "an ordering key",
        })
    }
}

/// Local keys that a projection itself uses.
const PROJECTIONS_OWN: [&str; 3] = ["position", "keys", "alive"];

/// Names go into keys, so only letters, digits, `-` and `_`, and no `_` at either end.
pub(crate) const fn is_valid_name(name: &str) -> bool {
    consists_of_words(name, true)
}

/// A kind's name ends at the first underscore of a key, so it holds none: otherwise the ids of `a_by`
/// and the index `ids` of `a` would be the same key.
pub(crate) const fn is_valid_kind(name: &str) -> bool {
    consists_of_words(name, false)
}

/// A list's key would be that of the entity itself.
pub(crate) const fn is_valid_list(field: &str) -> bool {
    is_valid_name(field) && !matches!(field.as_bytes(), b"entity")
}

/// An action follows the last underscore of a stream's name, so it holds none: otherwise `a_b` of
/// one kind and `b` of another would be the same stream.
pub(crate) const fn is_valid_action(action: &str) -> bool {
    consists_of_words(action, false)
}

/// A projection's keys begin with its name and a colon. With an underscore it could be that of an entity or a list; the
/// store's own keys and the streams begin with the two names that are taken.
const fn is_valid_projection(name: &str) -> bool {
    consists_of_words(name, false) && !matches!(name.as_bytes(), b"events" | b"eventstore")
}

/// Ids go into keys too: no control characters, no braces (they would choose a slot), bounded.
fn is_valid_text(text: &str, longest: usize) -> bool {
    let fits = |c: char| !c.is_control() && c != '{' && c != '}';
    !text.is_empty() && text.len() <= longest && text.chars().all(fits)
}

const fn consists_of_words(name: &str, underscores: bool) -> bool {
    let mut rest = name.as_bytes();
    if rest.len() > NAME || matches!(rest, [] | [b'_', ..] | [.., b'_']) {
        return false;
    }
    while let [byte, tail @ ..] = rest {
        if !(byte.is_ascii_alphanumeric() || *byte == b'-' || (underscores && *byte == b'_')) {
            return false;
        }
        rest = tail;
    }
    true
}

/// A name that is made at run time, for as long as the program runs. Each distinct one is kept once.
pub(crate) fn kept(name: &str) -> &'static str {
    static KEPT: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(name) = kept.get(name) {
        return name;
    }
    let name: &'static str = name.to_owned().leak();
    kept.insert(name);
    name
}

/// As [`kept`], for a list of names.
pub(crate) fn kept_list<N: AsRef<str>>(names: &[N]) -> &'static [&'static str] {
    static KEPT: Mutex<BTreeSet<&'static [&'static str]>> = Mutex::new(BTreeSet::new());
    let names: Vec<&'static str> = names.iter().map(|name| kept(name.as_ref())).collect();
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(names) = kept.get(names.as_slice()) {
        return names;
    }
    let names: &'static [&'static str] = names.leak();
    kept.insert(names);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_that_could_reach_another_key_are_refused() {
        let long = "x".repeat(65);
        let refuses = |of: NameOf, name: &str| {
            let error = of.check(name).unwrap_err();
            assert_eq!((error.name(), error.of()), (name, of));
            assert!(error.to_string().contains(of.allowed()), "{error}");
        };
        for bad in ["", "a b", "a:b", "{x}", "_a", "a_", "ä", "a\n", long.as_str()] {
            for of in
                [NameOf::Kind, NameOf::Action, NameOf::List, NameOf::Index, NameOf::Group, NameOf::Projection]
            {
                refuses(of, bad);
            }
        }
        for of in [NameOf::Kind, NameOf::Action, NameOf::Projection] {
            refuses(of, "paid_in");
            assert_eq!(of.check("paid-in"), Ok(()));
        }
        for of in [NameOf::List, NameOf::Index, NameOf::Group, NameOf::Position] {
            assert_eq!(of.check("product_ids"), Ok(()));
        }
        refuses(NameOf::List, "entity");
        refuses(NameOf::Projection, "eventstore");
        refuses(NameOf::Projection, "events");
        for own in ["", "position", "keys", "alive"] {
            refuses(NameOf::ProjectionKey, own);
        }
        assert_eq!(NameOf::ProjectionKey.check("orders of {a}:1"), Ok(()));
        let (longest_id, longest_key) = ("x".repeat(256), "x".repeat(64 + 1 + 256));
        for of in [NameOf::EntityId, NameOf::Consumer, NameOf::OrderingKey] {
            for bad in ["", "a{b", "a}b", "a\nb", "\0"] {
                refuses(of, bad);
            }
            for good in ["6d3ff6f4-8a0d-4ae6-9ff8-cf1d46c0e4a1", "a b:c_", &longest_id] {
                assert_eq!(of.check(good), Ok(()));
            }
        }
        refuses(NameOf::EntityId, &format!("{longest_id}x"));
        refuses(NameOf::Consumer, &format!("{longest_id}x"));
        assert_eq!(NameOf::OrderingKey.check(&longest_key), Ok(()));
        refuses(NameOf::OrderingKey, &format!("{longest_key}x"));
    }

    #[test]
    fn a_name_made_at_run_time_is_kept_once() {
        let (first, again) = (kept(&["ten", "ant"].concat()), kept(&["tena", "nt"].concat()));
        assert!(std::ptr::eq(first, again));
        let (first, again) = (kept_list(&["a", first]), kept_list(&["a", again]));
        assert!(std::ptr::eq(first, again));
    }
}
