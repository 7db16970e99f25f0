//! Names: the kinds of entities and the streams of their events. Never a key: keys are made
//! from names by [`crate::Layout`] alone.

use std::borrow::Cow;
use std::fmt;

/// A kind of entity: how its cache is named, which of its JSON fields are lists kept in a
/// Redis list of their own, and by which fields its ids can be looked up.
///
/// ```
/// use event_store::Kind;
/// const ORDER: Kind = Kind::new("order").lists(&["product_ids"]).indexes(&["customer_id"]);
/// assert_eq!(ORDER.stream("created").to_string(), "order_created");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    pub(crate) family: &'static str,
    pub(crate) name: &'static str,
    pub(crate) lists: &'static [&'static str],
    pub(crate) indexes: &'static [&'static str],
}

impl Kind {
    /// A kind whose streams carry its own name: `order` → `order_created`.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { family: name, name, lists: &[], indexes: &[] }
    }

    /// A kind whose events stand in the streams of another family (a reservation in
    /// `inventory_reserved`). On Redis Cluster all kinds of a family share a slot, so events of
    /// several of them can be appended in one step.
    #[must_use]
    pub const fn within(family: &'static str, name: &'static str) -> Self {
        Self { family, name, lists: &[], indexes: &[] }
    }

    /// JSON fields (arrays of texts) that the cache keeps as Redis lists. The store keeps which they are: a program that
    /// declares others is refused until [`crate::EventStore::set_kind`] has changed them.
    #[must_use]
    pub const fn lists(mut self, fields: &'static [&'static str]) -> Self {
        self.lists = fields;
        self
    }

    /// JSON fields by whose value [`crate::EventStore::ids_where`] finds entities. The store keeps all that any program has
    /// declared: a program may add one, which is built, and one that declares fewer keeps the others all the same.
    #[must_use]
    pub const fn indexes(mut self, fields: &'static [&'static str]) -> Self {
        self.indexes = fields;
        self
    }

    /// The kind's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The family in whose streams its events stand.
    #[must_use]
    pub const fn family(&self) -> &'static str {
        self.family
    }

    /// The fields that are kept as lists.
    #[must_use]
    pub const fn list_fields(&self) -> &'static [&'static str] {
        self.lists
    }

    /// The fields by whose value ids are found.
    #[must_use]
    pub const fn index_fields(&self) -> &'static [&'static str] {
        self.indexes
    }

    /// The stream of one action of this kind's family.
    #[must_use]
    pub const fn stream(&self, action: &'static str) -> StreamName {
        StreamName { family: Cow::Borrowed(self.family), action: Cow::Borrowed(action) }
    }

    /// The ordering key of one entity of this kind: events that share a key are handled one at a
    /// time and in order. See [`crate::NewEvent::ordered_with`].
    #[must_use]
    pub fn ordering_key(&self, id: &str) -> String {
        ordering_key(self.name, id)
    }
}

/// The ordering key of an entity whose kind is known by its name only.
pub(crate) fn ordering_key(kind: &str, id: &str) -> String {
    [kind, "/", id].concat()
}

/// A stream of the log, named by entity family and action: `order_created`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName {
    pub(crate) family: Cow<'static, str>,
    pub(crate) action: Cow<'static, str>,
}

impl StreamName {
    /// The name in a text such as `order_created`: the action is what follows the last underscore.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (family, action) = Self::parts(text)?;
        Some(Self { family: family.to_owned().into(), action: action.to_owned().into() })
    }

    /// Family and action of the stream that a text names.
    pub(crate) fn parts(text: &str) -> Option<(&str, &str)> {
        text.rsplit_once('_').and_then(|(family, action)| Self::checked(family, action))
    }

    /// Family and action, when there can be such a stream.
    pub(crate) fn checked<'a>(family: &'a str, action: &'a str) -> Option<(&'a str, &'a str)> {
        (is_valid_kind(family) && is_valid_action(action)).then_some((family, action))
    }

    /// The family before the underscore: `order` of `order_created`.
    #[must_use]
    pub fn family(&self) -> &str {
        &self.family
    }

    /// The action: `created` of `order_created`.
    #[must_use]
    pub fn action(&self) -> &str {
        &self.action
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.family, self.action)
    }
}

/// As its text.
impl serde::Serialize for StreamName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Names go into keys, so only letters, digits, `-` and `_`, and no `_` at either end.
pub(crate) fn is_valid_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && !name.starts_with('_')
        && !name.ends_with('_')
}

/// A kind's name ends at the first underscore of a key, so it holds none: otherwise the ids of `a_by`
/// and the index `ids` of `a` would be the same key.
pub(crate) fn is_valid_kind(name: &str) -> bool {
    is_valid_name(name) && !name.contains('_')
}

/// A list's key would be that of the entity itself.
pub(crate) fn is_valid_list(field: &str) -> bool {
    is_valid_name(field) && field != "entity"
}

/// An action follows the last underscore of a stream's name, so it holds none: otherwise `a_b` of
/// one kind and `b` of another would be the same stream.
pub(crate) fn is_valid_action(action: &str) -> bool {
    is_valid_name(action) && !action.contains('_')
}

/// Ids go into keys too: no control characters, no braces (they would choose a slot), bounded.
pub(crate) fn is_valid_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= 256 && !id.chars().any(|c| c.is_control() || c == '{' || c == '}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_that_could_reach_another_key_are_refused() {
        for bad in ["", "a b", "a:b", "{x}", "_a", "a_", "ä"] {
            assert!(!is_valid_name(bad), "{bad}");
        }
        assert!(is_valid_name("order") && is_valid_name("read-model"));
        assert!(is_valid_kind("read-model") && !is_valid_kind("read_model"));
        assert!(is_valid_list("product_ids") && !is_valid_list("entity"));
        assert!(is_valid_action("paid-in") && !is_valid_action("paid_in"));
        for bad in ["", "a{b", "a}b", "a\nb", "\0"] {
            assert!(!is_valid_id(bad), "{bad:?}");
        }
        assert!(is_valid_id("6d3ff6f4-8a0d-4ae6-9ff8-cf1d46c0e4a1"));
    }
}
