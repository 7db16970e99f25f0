//! Names: the kinds of entities and the streams of their events. Never a key: keys are made
//! from names by [`crate::Layout`] alone.

use crate::name::{self, InvalidName, NameOf, is_valid_action, is_valid_kind};
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
///
/// Names become parts of keys, so not every text can be one ([`NameOf`] says which). In a constant a bad one does not
/// compile:
///
/// ```compile_fail,E0080
/// use event_store::Kind;
/// const ORDER: Kind = Kind::new("customers_order"); // letters, digits and -
/// ```
///
/// ```compile_fail,E0080
/// use event_store::Kind;
/// const ORDER: Kind = Kind::new("order").lists(&["product_ids", "entity"]);
/// ```
///
/// Names that are known at run time only, such as those of tenants, go through [`Kind::try_new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    // All of them are valid: there is no other way to make a kind.
    pub(crate) family: &'static str,
    pub(crate) name: &'static str,
    pub(crate) lists: &'static [&'static str],
    pub(crate) indexes: &'static [&'static str],
}

impl Kind {
    /// A kind whose streams carry its own name: `order` → `order_created`. 1 to 64 letters, digits and `-`.
    ///
    /// # Panics
    /// Where the name is none. In a constant that is an error of the compiler; a name that comes from outside the
    /// program's source goes through [`Kind::try_new`].
    #[must_use]
    #[track_caller]
    pub const fn new(name: &'static str) -> Self {
        Self::within(name, name)
    }

    /// A kind whose events stand in the streams of another family (a reservation in
    /// `inventory_reserved`). On Redis Cluster all kinds of a family share a slot, so events of
    /// several of them can be appended in one step.
    ///
    /// # Panics
    /// Where one of the names is none, as [`Kind::new`] does; see [`Kind::try_within`].
    #[must_use]
    #[track_caller]
    pub const fn within(family: &'static str, name: &'static str) -> Self {
        assert!(
            name::is_valid_kind(family) && name::is_valid_kind(name),
            "the name of a kind and of its family is 1 to 64 letters, digits and -"
        );
        Self { family, name, lists: &[], indexes: &[] }
    }

    /// As [`Kind::new`], for a name that is known at run time only. It is kept for as long as the program runs, once,
    /// however often its kind is made.
    ///
    /// ```
    /// use event_store::Kind;
    /// let tenant = "acme";
    /// let orders = Kind::try_new(&format!("{tenant}-order"))?;
    /// assert_eq!(orders.try_stream("created")?.to_string(), "acme-order_created");
    /// assert!(Kind::try_new("acme:order").is_err());
    /// # Ok::<(), event_store::InvalidName>(())
    /// ```
    pub fn try_new(name: &str) -> Result<Self, InvalidName> {
        Self::try_within(name, name)
    }

    /// As [`Kind::within`], for names that are known at run time only; see [`Kind::try_new`].
    pub fn try_within(family: &str, name: &str) -> Result<Self, InvalidName> {
        NameOf::Kind.check(family)?;
        NameOf::Kind.check(name)?;
        Ok(Self::within(name::kept(family), name::kept(name)))
    }

    /// JSON fields (arrays of texts) that the cache keeps as Redis lists. The store keeps which they are: a program that
    /// declares others is refused until [`crate::EventStore::set_kind`] has changed them.
    ///
    /// # Panics
    /// Where one of them cannot be a list ([`NameOf::List`]), as [`Kind::new`] does; see [`Kind::try_lists`].
    #[must_use]
    #[track_caller]
    pub const fn lists(mut self, fields: &'static [&'static str]) -> Self {
        let mut rest = fields;
        while let [field, tail @ ..] = rest {
            assert!(
                name::is_valid_list(field),
                "a list of a kind is 1 to 64 letters, digits, - and _, without _ at either end, and not \"entity\""
            );
            rest = tail;
        }
        self.lists = fields;
        self
    }

    /// As [`Kind::lists`], for fields that are known at run time only; see [`Kind::try_new`].
    pub fn try_lists<F: AsRef<str>>(self, fields: &[F]) -> Result<Self, InvalidName> {
        fields.iter().try_for_each(|field| NameOf::List.check(field.as_ref()))?;
        Ok(self.lists(name::kept_list(fields)))
    }

    /// JSON fields by whose value [`crate::EventStore::ids_where`] finds entities. The store keeps all that any program has
    /// declared: a program may add one, which is built, and one that declares fewer keeps the others all the same.
    ///
    /// # Panics
    /// Where one of them cannot be an index ([`NameOf::Index`]), as [`Kind::new`] does; see [`Kind::try_indexes`].
    #[must_use]
    #[track_caller]
    pub const fn indexes(mut self, fields: &'static [&'static str]) -> Self {
        let mut rest = fields;
        while let [field, tail @ ..] = rest {
            assert!(
                name::is_valid_name(field),
                "an index of a kind is 1 to 64 letters, digits, - and _, without _ at either end"
            );
            rest = tail;
        }
        self.indexes = fields;
        self
    }

    /// As [`Kind::indexes`], for fields that are known at run time only; see [`Kind::try_new`].
    pub fn try_indexes<F: AsRef<str>>(self, fields: &[F]) -> Result<Self, InvalidName> {
        fields.iter().try_for_each(|field| NameOf::Index.check(field.as_ref()))?;
        Ok(self.indexes(name::kept_list(fields)))
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

    /// The stream of one action of this kind's family. An action is 1 to 64 letters, digits and `-`.
    ///
    /// ```compile_fail,E0080
    /// use event_store::{Kind, StreamName};
    /// const ACCOUNT: Kind = Kind::new("account");
    /// const PAID_IN: StreamName = ACCOUNT.stream("paid_in"); // paid-in
    /// ```
    ///
    /// # Panics
    /// Where the action is none, as [`Kind::new`] does; see [`Kind::try_stream`].
    #[must_use]
    #[track_caller]
    pub const fn stream(&self, action: &'static str) -> StreamName {
        assert!(name::is_valid_action(action), "an action is 1 to 64 letters, digits and -");
        self.stream_of(action)
    }

    /// As [`Kind::stream`], for an action that is known at run time only.
    pub fn try_stream(&self, action: &str) -> Result<StreamName, InvalidName> {
        NameOf::Action.check(action)?;
        Ok(StreamName { family: Cow::Borrowed(self.family), action: Cow::Owned(action.to_owned()) })
    }

    /// As [`Kind::stream`], for an action that was checked, or whose stream is only shown.
    pub(crate) const fn stream_of(&self, action: &'static str) -> StreamName {
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
    /// The name in a text such as `order_created`: the action is what follows the last underscore. `None` where a stream
    /// cannot be called so.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NameOf;

    #[test]
    fn a_kind_made_at_run_time_equals_the_constant_one() {
        const ORDER: Kind =
            Kind::within("inventory", "order").lists(&["product_ids"]).indexes(&["customer_id"]);
        let made = Kind::try_within("inventory", "order").unwrap();
        let made = made.try_lists(&["product_ids"]).unwrap().try_indexes(&["customer_id"]).unwrap();
        assert_eq!(made, ORDER);
        assert_eq!(made.try_stream("paid-in"), Ok(ORDER.stream("paid-in")));
        assert_eq!(Kind::try_new("order"), Ok(Kind::new("order")));
    }

    #[test]
    fn what_cannot_be_a_name_is_an_error_at_run_time() {
        let order = Kind::new("order");
        let refused = [
            (Kind::try_new("an_order").unwrap_err(), NameOf::Kind),
            (Kind::try_within("a:b", "order").unwrap_err(), NameOf::Kind),
            (Kind::try_within("order", "").unwrap_err(), NameOf::Kind),
            (order.try_lists(&["entity"]).unwrap_err(), NameOf::List),
            (order.try_indexes(&["a b"]).unwrap_err(), NameOf::Index),
            (order.try_stream("paid_in").unwrap_err(), NameOf::Action),
        ];
        for (error, of) in refused {
            assert_eq!(error.of(), of, "{error}");
        }
    }

    #[test]
    fn what_a_program_writes_in_its_source_and_cannot_be_a_name_panics() {
        let bad: [fn(); 5] = [
            || _ = Kind::new("an_order"),
            || _ = Kind::within("{a}", "order"),
            || _ = Kind::new("order").lists(&["a", "entity"]),
            || _ = Kind::new("order").indexes(&["a", "b c"]),
            || _ = Kind::new("order").stream("paid_in"),
        ];
        for (number, bad) in bad.into_iter().enumerate() {
            assert!(std::panic::catch_unwind(bad).is_err(), "{number}");
        }
    }
}
