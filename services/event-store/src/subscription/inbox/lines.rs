//! The entries of each ordering key in their order: which entry is the first of its key, and which is the first after it
//! has gone. Pure.

use crate::subscription::item::Place;
use crate::subscription::mark::{ByMark, Mark};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

/// Of most keys one entry is held at a time.
#[derive(Debug)]
enum Line {
    One(Place),
    /// Two or more, ascending.
    Many(VecDeque<Place>),
}

/// Where an entry stands that joined a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// It is the only one.
    First,
    /// An earlier one is there.
    Behind,
    /// It is the first now, before this one, which was the first.
    Before(Place),
}

/// The lines of all keys.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: HashMap<Mark, Line, ByMark>,
}

impl Lines {
    /// Adds an entry that is not in the line yet.
    pub(super) fn join(&mut self, mark: Mark, place: Place) -> Joined {
        let line = match self.lines.entry(mark) {
            Entry::Vacant(line) => {
                line.insert(Line::One(place));
                return Joined::First;
            }
            Entry::Occupied(line) => line.into_mut(),
        };
        if let Line::One(other) = *line {
            *line = Line::Many(VecDeque::from([other]));
        }
        let Line::Many(places) = line else { return Joined::First };
        // Nearly always the last: entries are read in the order of their ids.
        let at = places.partition_point(|other| *other < place);
        let first = places.front().copied();
        places.insert(at, place);
        match first {
            Some(first) if at == 0 => Joined::Before(first),
            _ => Joined::Behind,
        }
    }

    /// Removes an entry; the one that is the first now, if the removed one was.
    pub(super) fn leave(&mut self, mark: Mark, place: Place) -> Option<Place> {
        let Entry::Occupied(mut line) = self.lines.entry(mark) else { return None };
        match line.get_mut() {
            Line::One(only) => {
                if *only == place {
                    line.remove();
                }
                None
            }
            Line::Many(places) => {
                let at = places.binary_search(&place).ok()?;
                places.remove(at);
                let next = places.front().copied().filter(|_| at == 0);
                if places.len() == 1
                    && let Some(only) = places.pop_front()
                {
                    *line.get_mut() = Line::One(only);
                }
                next
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Id;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn place(ms: u64) -> Place {
        (Id::new(ms, 0), 0)
    }

    proptest! {
        #[test]
        fn a_line_is_a_sorted_list(steps in proptest::collection::vec((any::<bool>(), 0_u64..12), 0..60)) {
            let (mut lines, mut model) = (Lines::default(), BTreeSet::new());
            let mark = Mark::of("order/a");
            for (joins, ms) in steps {
                let first = model.first().copied();
                if joins && model.insert(ms) {
                    let expected = match first {
                        None => Joined::First,
                        Some(first) if ms < first => Joined::Before(place(first)),
                        Some(_) => Joined::Behind,
                    };
                    prop_assert_eq!(lines.join(mark, place(ms)), expected);
                } else if !joins && model.remove(&ms) {
                    let next = model.first().filter(|_| first == Some(ms)).map(|ms| place(*ms));
                    prop_assert_eq!(lines.leave(mark, place(ms)), next);
                }
            }
            prop_assert_eq!(lines.lines.is_empty(), model.is_empty());
        }
    }
}
