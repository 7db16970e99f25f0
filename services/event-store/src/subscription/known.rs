//! Positions of the group that this consumer knows to be reached, because it finished those events
//! itself or was told. Positions only grow, so what was once true stays true, and nobody needs to ask
//! the server again. Bounded: what is forgotten is asked for. Pure.

use super::item::{Item, Position};
use super::mark::ByMark;
use crate::Id;
use std::collections::HashMap;

const GENERATION: usize = 32_768;

type Positions = HashMap<Position, Id, ByMark>;

#[derive(Debug, Default)]
pub(super) struct Known {
    young: Positions,
    old: Positions,
}

impl Known {
    /// This position is at least there.
    pub(super) fn learn(&mut self, position: Position, id: Id) {
        if let Some(known) = self.young.get_mut(&position) {
            *known = id.max(*known);
            return;
        }
        if self.young.len() >= GENERATION {
            std::mem::swap(&mut self.old, &mut self.young);
            self.young.clear();
        }
        self.young.insert(position, id);
    }

    /// The event is finished.
    pub(super) fn finished(&mut self, item: &Item) {
        for position in item.positions() {
            self.learn(position, item.event.id);
        }
    }

    /// Is everything before the event known to be finished?
    pub(super) fn covers(&self, item: &Item) -> bool {
        let reached = |map: &Positions, at: &Position, id: Id| map.get(at).is_some_and(|known| *known >= id);
        item.waits_for().all(|(at, id)| reached(&self.young, &at, id) || reached(&self.old, &at, id))
    }

    /// What is known may not be so any more: another server may answer from now on.
    pub(super) fn forget(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use crate::entry::RawEntry;
    use crate::subscription::mark::Mark;

    /// An event of `b` that comes after one of `a`.
    fn after(key: &str, ms: u64) -> Item {
        let after = format!("\n{key}\tcreated={ms}-0");
        let fields = [
            ("event_id", "6d3ff6f4-8a0d-4ae6-9ff8-cf1d46c0e4a1"),
            ("entity", "{\"id\":\"b\"}"),
            ("version", "1"),
            ("after", &after),
        ];
        let fields =
            fields.into_iter().map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).collect();
        let created = Kind::new("order").stream("created");
        let event = RawEntry { id: Id::MAX, fields }.into_event(&created).unwrap();
        Item::new(event, 0, &[created])
    }

    #[test]
    fn a_position_covers_what_is_at_or_before_it_and_never_goes_back() {
        let (mut known, a) = (Known::default(), (Mark::of("order/a"), 0));
        assert!(!known.covers(&after("order/a", 1)));
        known.learn(a, Id::new(5, 0));
        known.learn(a, Id::new(3, 0));
        assert!(known.covers(&after("order/a", 5)) && !known.covers(&after("order/a", 6)));
        assert!(!known.covers(&after("order/c", 5)), "another key");
        known.forget();
        assert!(!known.covers(&after("order/a", 1)));
    }

    #[test]
    fn its_memory_is_bounded_and_the_youngest_stay() {
        let mut known = Known::default();
        for n in 0..3 * GENERATION {
            known.learn((Mark::of(&format!("order/{n}")), 0), Id::new(1, 0));
        }
        assert!(known.young.len() + known.old.len() <= 2 * GENERATION);
        assert!(known.covers(&after(&format!("order/{}", 3 * GENERATION - 1), 1)));
        assert!(!known.covers(&after("order/0", 1)));
    }
}
