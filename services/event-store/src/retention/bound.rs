//! How far a stream may be trimmed: a decision without I/O.

use crate::Id;

/// What to do with a stream that nobody reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unread {
    /// Keep all of it: its readers may come later.
    #[default]
    Keep,
    /// Trim it too. Choose it for a log that is history only, together with
    /// [`super::Retention::before`].
    Trim,
}

/// Who needs a stream's entries, and from which on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The first id that it may still need.
    pub needs_from: Id,
    /// Who it is, and why.
    pub by: HeldBy,
}

/// Why entries are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeldBy {
    /// A group has not been given them yet.
    Undelivered {
        /// The group.
        group: String,
    },
    /// A consumer of a group has not finished them.
    Pending {
        /// The group.
        group: String,
    },
    /// A group has put one aside: replaying it needs the entry.
    DeadLetter {
        /// The group.
        group: String,
    },
    /// The server has lost the group, which will go on at its cursor.
    LostGroup {
        /// The group.
        group: String,
    },
    /// A projection has not applied them yet.
    Projection {
        /// Its name.
        name: String,
        /// Its version.
        version: u32,
    },
    /// A reader with a registered position has not processed them yet (see
    /// [`EventStore::position`](crate::EventStore::position)).
    Position {
        /// The position's name.
        name: String,
        /// Milliseconds since it last moved on this stream, by the server's clock.
        idle_ms: u64,
    },
    /// Nobody reads the stream, and that is no reason to trim it ([`Unread::Keep`]).
    Unread,
    /// The trim was asked to end here ([`super::Retention::before`]).
    Asked,
    /// The last entry of a stream stays always: it says how far the stream has come.
    LastEntry,
}

impl HeldBy {
    pub(super) fn undelivered(group: &str) -> Self {
        Self::Undelivered { group: group.to_owned() }
    }
}

/// The first id that stays, and everything that holds back, the most demanding first.
pub(super) fn bound(
    mut holders: Vec<Holder>,
    before: Option<Id>,
    unread: Unread,
    last: Option<Id>,
) -> (Id, Vec<Holder>) {
    if holders.is_empty() && unread == Unread::Keep {
        holders.push(Holder { needs_from: Id::ZERO, by: HeldBy::Unread });
    }
    if let Some(before) = before {
        holders.push(Holder { needs_from: before, by: HeldBy::Asked });
    }
    holders.push(Holder { needs_from: last.unwrap_or(Id::ZERO), by: HeldBy::LastEntry });
    holders.sort_by_key(|h| h.needs_from);
    (holders.first().map_or(Id::ZERO, |h| h.needs_from), holders)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(ms: u64, group: &str) -> Holder {
        Holder { needs_from: Id::new(ms, 0), by: HeldBy::undelivered(group) }
    }

    #[test]
    fn the_slowest_reader_decides_and_the_last_entry_stays() {
        let last = Some(Id::new(9, 0));
        let readers = vec![holder(7, "quick"), holder(4, "slow")];
        let cases = [
            (readers.clone(), None, Unread::Trim, 4, HeldBy::undelivered("slow")),
            (readers, Some(Id::new(3, 0)), Unread::Keep, 3, HeldBy::Asked),
            (vec![holder(10, "done")], None, Unread::Keep, 9, HeldBy::LastEntry),
            (vec![], None, Unread::Trim, 9, HeldBy::LastEntry),
        ];
        for (holders, before, unread, ms, by) in cases {
            let (from, holders) = bound(holders, before, unread, last);
            assert_eq!((from, &holders[0].by), (Id::new(ms, 0), &by));
        }
    }

    #[test]
    fn what_nobody_reads_is_kept_unless_it_is_asked_for() {
        let last = Some(Id::new(9, 0));
        assert_eq!(bound(vec![], Some(Id::MAX), Unread::Keep, last).0, Id::ZERO);
        assert_eq!(bound(vec![], None, Unread::Trim, None).0, Id::ZERO, "an empty stream");
    }
}
