//! Every key of the store is made here and nowhere else, in one of two layouts.

use crate::{Kind, StreamName};

/// How keys are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// Names as people write them: `events:order_created`, `order_ids`. For a standalone server
    /// and Sentinel.
    #[default]
    Plain,
    /// Everything of one family in one slot: `events:{order}_created`, `{order}_ids`. Choose it for
    /// Redis Cluster; ordering and atomicity then hold within a family.
    Tagged,
}

impl Layout {
    /// Its name, as the store's settings keep it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tagged => "tagged",
        }
    }

    /// The layout of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Plain, Self::Tagged].into_iter().find(|layout| layout.name() == name)
    }

    /// `order` or `{order}`.
    fn tag(self, family: &str) -> String {
        match self {
            Self::Plain => family.to_owned(),
            Self::Tagged => format!("{{{family}}}"),
        }
    }

    /// `order`, `{order}`, or for a kind within another family `{inventory}reservation`.
    fn kind(self, kind: Kind) -> String {
        match self {
            Self::Tagged if kind.family != kind.name => format!("{{{}}}{}", kind.family, kind.name),
            _ => self.tag(kind.name),
        }
    }

    /// Prefix of the store's own keys that belong to a family.
    fn own(self, family: &str) -> String {
        match self {
            Self::Plain => "eventstore:".to_owned(),
            Self::Tagged => format!("eventstore:{{{family}}}:"),
        }
    }

    pub(crate) fn stream(self, stream: &StreamName) -> String {
        format!("events:{}_{}", self.tag(&stream.family), stream.action)
    }

    pub(crate) fn ids(self, kind: Kind) -> String {
        format!("{}_ids", self.kind(kind))
    }

    pub(crate) fn entity(self, kind: Kind, id: &str) -> String {
        format!("{}_entity:{id}", self.kind(kind))
    }

    pub(crate) fn list(self, kind: Kind, field: &str, id: &str) -> String {
        format!("{}_{field}:{id}", self.kind(kind))
    }

    pub(crate) fn index(self, kind: Kind, field: &str) -> String {
        format!("{}_by_{field}", self.kind(kind))
    }

    /// The last id issued: one clock for the store, or one a family where slots differ.
    pub(crate) fn clock(self, family: &str) -> String {
        format!("{}clock", self.own(family))
    }

    /// What is remembered of an ordering key (see [`crate::record`]): the entity's version, whether it was
    /// removed, where its last event stands, and the last event of each stream. Outlives a deletion.
    pub(crate) fn record(self, family: &str, key: &str) -> String {
        format!("{}key:{key}", self.own(family))
    }

    /// A bucket of event ids that were used within the last two dedup windows.
    pub(crate) fn seen(self, family: &str, bucket: u64) -> String {
        format!("{}seen:{bucket}", self.own(family))
    }

    /// What programs must have in common about a family: see [`crate::settings`].
    pub(crate) fn settings(self, family: &str) -> String {
        format!("{}settings", self.own(family))
    }

    /// What they must have in common about the whole store. In the plain layout there is one such key for everything.
    #[expect(clippy::unused_self, reason = "every key is made by a layout")]
    pub(crate) fn store_settings(self) -> &'static str {
        "eventstore:settings"
    }

    fn group(self, family: &str, group: &str, what: &str) -> String {
        format!("{}group:{group}:{what}", self.own(family))
    }

    /// How far a group has come on each ordering key and stream.
    pub(crate) fn positions(self, family: &str, group: &str) -> String {
        self.group(family, group, "positions")
    }

    /// Where a lost group is recreated, per stream, and which streams the group's consumers read.
    pub(crate) fn cursors(self, family: &str, group: &str) -> String {
        self.group(family, group, "cursors")
    }

    /// A group's dead letters.
    pub(crate) fn dead(self, family: &str, group: &str) -> String {
        self.group(family, group, "dead")
    }

    /// Which entries of a group are dead letters: `<stream> <id>` → the letter.
    pub(crate) fn letters(self, family: &str, group: &str) -> String {
        self.group(family, group, "letters")
    }

    /// Which process a consumer's name belongs to, while that one lives.
    pub(crate) fn session(self, family: &str, group: &str, consumer: &str) -> String {
        self.group(family, group, &format!("session:{consumer}"))
    }

    /// A projection's own keys; the same slot for all of one projection.
    pub(crate) fn projection(self, name: &str, version: u32, key: &str) -> String {
        format!("{}:v{version}:{key}", self.tag(name))
    }

    /// Which version of a projection is read; in the slot of its keys.
    pub(crate) fn active(self, name: &str) -> String {
        format!("{}:active", self.tag(name))
    }

    /// All projections of the store with what they read: they hold back a trim.
    #[expect(clippy::unused_self, reason = "every key is made by a layout")]
    pub(crate) fn projections(self) -> &'static str {
        "eventstore:projections"
    }

    /// All groups that ever read: they hold back a trim, also while the server has lost them.
    #[expect(clippy::unused_self, reason = "every key is made by a layout")]
    pub(crate) fn groups(self) -> &'static str {
        "eventstore:groups"
    }

    /// Positions that readers have registered: `<name> <stream>` → `<id> <ms>`. They hold back a trim.
    pub(crate) fn registered_positions(self, family: &str) -> String {
        format!("{}positions", self.own(family))
    }

    /// The families of streams on which a position was ever registered; in the tagged layout only, where each family
    /// has a key of its own.
    #[expect(clippy::unused_self, reason = "every key is made by a layout")]
    pub(crate) fn position_families(self) -> &'static str {
        "eventstore:position-families"
    }

    /// The last events of entities that a trim took from a stream.
    pub(crate) fn kept(self, stream: &StreamName) -> String {
        format!("{}kept:{stream}", self.own(&stream.family))
    }

    /// Per stream: everything below this id was trimmed; and the last id that went, at [`last_field`](crate::replay::last_field).
    pub(crate) fn trimmed(self, family: &str) -> String {
        format!("{}trimmed", self.own(family))
    }

    /// Which family a projection's or group's key stands for does not matter in the plain layout.
    pub(crate) fn is_plain(self) -> bool {
        self == Self::Plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NameOf;
    use crate::name::{is_valid_action, is_valid_kind, is_valid_list};
    use proptest::prelude::*;

    const ORDER: Kind = Kind::new("order").lists(&["product_ids"]);
    const RESERVATION: Kind = Kind::within("inventory", "reservation");

    #[test]
    fn the_plain_layout_has_the_names_of_the_article() {
        let l = Layout::Plain;
        assert_eq!(l.stream(&ORDER.stream("created")), "events:order_created");
        assert_eq!(l.ids(ORDER), "order_ids");
        assert_eq!(l.entity(ORDER, "7"), "order_entity:7");
        assert_eq!(l.list(ORDER, "product_ids", "7"), "order_product_ids:7");
        assert_eq!(l.stream(&RESERVATION.stream("reserved")), "events:inventory_reserved");
        assert_eq!(l.ids(RESERVATION), "reservation_ids");
    }

    #[test]
    fn in_the_tagged_layout_all_keys_of_a_family_share_a_slot() {
        let l = Layout::Tagged;
        assert_eq!(l.stream(&ORDER.stream("created")), "events:{order}_created");
        assert_eq!(l.ids(ORDER), "{order}_ids");
        for key in [
            l.stream(&RESERVATION.stream("reserved")),
            l.ids(RESERVATION),
            l.entity(RESERVATION, "1"),
            l.clock("inventory"),
            l.record("inventory", "order/1"),
            l.seen("inventory", 7),
            l.settings("inventory"),
            l.positions("inventory", "g"),
            l.registered_positions("inventory"),
        ] {
            assert!(key.contains("{inventory}"), "{key}");
        }
    }

    /// A thing that has a key of its own.
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    enum Thing {
        Stream(String, String),
        Ids(String),
        Entity(String, String),
        List(String, String, String),
        Index(String, String),
        Record(String),
        Seen(u64),
        Clock,
        RegisteredPositions,
        Group(String, &'static str),
        Session(String, String),
        Projection(String, u32, String),
    }

    impl Thing {
        fn key(&self, layout: Layout) -> String {
            // Leaked: a kind's name lives for ever.
            let kind = |name: &String| Kind::new(name.clone().leak());
            match self {
                Self::Stream(k, action) => layout.stream(&kind(k).stream(action.clone().leak())),
                Self::Ids(k) => layout.ids(kind(k)),
                Self::Entity(k, id) => layout.entity(kind(k), id),
                Self::List(k, field, id) => layout.list(kind(k), field, id),
                Self::Index(k, field) => layout.index(kind(k), field),
                Self::Record(key) => layout.record("a", key),
                Self::Seen(bucket) => layout.seen("a", *bucket),
                Self::Clock => layout.clock("a"),
                Self::RegisteredPositions => layout.registered_positions("a"),
                Self::Group(group, what) => layout.group("a", group, what),
                Self::Session(group, consumer) => layout.session("a", group, consumer),
                Self::Projection(name, version, local) => layout.projection(name, *version, local),
            }
        }
    }

    /// Names of few letters, so that the parts of two things often run into one another.
    fn name() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec!["a", "by", "ids", "entity", "events", "eventstore", "key", "-"]);
        prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("_"))
    }

    fn id() -> impl Strategy<Value = String> {
        let odd = prop::sample::select(vec![
            "a", ":", "*", "?", "[a]", "'", "\"", "/", " ", "=", "@", "_ids", "\u{202e}", "\u{5d0}", "\\",
        ]);
        prop::collection::vec(odd, 1..5).prop_map(|parts| parts.concat())
    }

    fn thing() -> impl Strategy<Value = Thing> {
        let kind = || name().prop_map(|n| n.replace('_', "-")).prop_filter("a kind", |n| is_valid_kind(n));
        let action =
            || name().prop_map(|n| n.replace('_', "-")).prop_filter("an action", |n| is_valid_action(n));
        let field = || name().prop_filter("a field", |n| is_valid_list(n));
        let valid = |n: &String| NameOf::Projection.check(n).is_ok();
        let projection = prop_oneof![kind(), name(), id()].prop_filter("a projection", valid);
        let what = prop::sample::select(vec!["positions", "cursors", "dead", "letters"]);
        prop_oneof![
            (kind(), action()).prop_map(|(k, a)| Thing::Stream(k, a)),
            kind().prop_map(Thing::Ids),
            (kind(), id()).prop_map(|(k, i)| Thing::Entity(k, i)),
            (kind(), field(), id()).prop_map(|(k, f, i)| Thing::List(k, f, i)),
            (kind(), field()).prop_map(|(k, f)| Thing::Index(k, f)),
            id().prop_map(Thing::Record),
            (0..4096_u64).prop_map(Thing::Seen),
            Just(Thing::Clock),
            Just(Thing::RegisteredPositions),
            (name(), what).prop_map(|(g, w)| Thing::Group(g, w)),
            (name(), id()).prop_map(|(g, c)| Thing::Session(g, c)),
            (projection, 1..3_u32, id()).prop_map(|(n, v, l)| Thing::Projection(n, v, l)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn two_things_never_share_a_key(a in thing(), b in thing(), tagged: bool) {
            let layout = if tagged { Layout::Tagged } else { Layout::Plain };
            prop_assert_eq!(a == b, a.key(layout) == b.key(layout), "{:?} and {:?}", a, b);
        }

        #[test]
        fn what_a_name_or_id_may_not_hold_is_refused_whatever_stands_around_it(
            before in id(), bad in prop::sample::select(vec!["\n", "\0", "{", "}", "\r", "\t"]), after in id(),
        ) {
            let text = format!("{before}{bad}{after}");
            prop_assert!(NameOf::EntityId.check(&text).is_err() && !is_valid_kind(&text) && !is_valid_action(&text));
        }
    }
}
