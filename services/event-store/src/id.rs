//! Ids of entries: `<ms>-<seq>`, issued by the store from the server's clock. They order events
//! across all streams of a store, and every Redis tool still reads them as times.

use std::fmt;
use std::str::FromStr;

/// The id of an event in the log: milliseconds since the Unix epoch by Redis' clock, and a
/// sequence within the millisecond: microseconds, below 1,000 in what the store issues, whatever
/// the clock does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// Milliseconds since the Unix epoch.
    pub ms: u64,
    /// Sequence within the millisecond.
    pub seq: u64,
}

impl Id {
    /// Before every event: reading from here reads the whole log.
    pub const ZERO: Id = Id { ms: 0, seq: 0 };
    /// After every event.
    pub const MAX: Id = Id { ms: u64::MAX, seq: u64::MAX };

    /// An id of its parts.
    #[must_use]
    pub const fn new(ms: u64, seq: u64) -> Self {
        Self { ms, seq }
    }

    /// The smallest id above this one.
    #[must_use]
    pub const fn next(self) -> Self {
        match (self.ms, self.seq) {
            (u64::MAX, u64::MAX) => self,
            (ms, u64::MAX) => Self { ms: ms + 1, seq: 0 },
            (ms, seq) => Self { ms, seq: seq + 1 },
        }
    }

    /// The largest id below this one, or zero.
    #[must_use]
    pub const fn previous(self) -> Self {
        match (self.ms, self.seq) {
            (0, 0) => self,
            (ms, 0) => Self { ms: ms - 1, seq: u64::MAX },
            (ms, seq) => Self { ms, seq: seq - 1 },
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// As its text.
impl serde::Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A text that is no id of an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no entry id: expected <milliseconds>-<sequence>, as in 1548699678802-91")]
pub struct ParseIdError(String);

impl FromStr for Id {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (ms, seq) = text.split_once('-')?;
            Some(Self { ms: ms.parse().ok()?, seq: seq.parse().ok()? })
        };
        parse().ok_or_else(|| ParseIdError(text.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_order_by_time_then_sequence() {
        let mut ids = [Id::new(2, 0), Id::new(1, 10), Id::new(1, 9)];
        ids.sort();
        assert_eq!(ids, [Id::new(1, 9), Id::new(1, 10), Id::new(2, 0)]);
    }

    #[test]
    fn an_id_survives_its_text() {
        let id = Id::new(1_548_699_678_802, 91);
        assert_eq!(id.to_string(), "1548699678802-91");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("1548699678802".parse::<Id>().is_err());
        assert!("a-b".parse::<Id>().is_err());
    }

    #[test]
    fn the_previous_id_is_below_and_nothing_lies_between() {
        assert_eq!(Id::new(5, 3).previous(), Id::new(5, 2));
        assert_eq!(Id::new(5, 0).previous(), Id::new(4, u64::MAX));
        assert_eq!(Id::ZERO.previous(), Id::ZERO);
    }
}
