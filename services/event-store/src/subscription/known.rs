//! Positions of the group that this consumer knows to be reached, because it finished those events
//! itself or was told. Positions only grow, so what was once true stays true, and nobody needs to ask
//! the server again. Bounded: what is forgotten is asked for. Pure.

use super::item::{Before, Item};
use crate::Id;
use std::collections::HashMap;

const GENERATION: usize = 32_768;

#[derive(Debug, Default)]
pub(super) struct Known {
    young: HashMap<String, Id>,
    old: HashMap<String, Id>,
}

impl Known {
    /// This position is at least there.
    pub(super) fn learn(&mut self, field: &str, id: Id) {
        if let Some(known) = self.young.get_mut(field) {
            *known = id.max(*known);
            return;
        }
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(field.to_owned(), id);
    }

    /// The event is finished.
    pub(super) fn finished(&mut self, item: &Item) {
        for field in &item.fields {
            self.learn(field, item.event.id);
        }
    }

    /// Is everything before the event known to be finished?
    pub(super) fn covers(&self, before: &[Before]) -> bool {
        let reached = |map: &HashMap<String, Id>, b: &Before| map.get(&b.field).is_some_and(|id| *id >= b.id);
        before.iter().all(|b| reached(&self.young, b) || reached(&self.old, b))
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

    fn before(field: &str, ms: u64) -> Vec<Before> {
        vec![Before { field: field.to_owned(), stream: 0, id: Id::new(ms, 0) }]
    }

    #[test]
    fn a_position_covers_what_is_at_or_before_it_and_never_goes_back() {
        let mut known = Known::default();
        assert!(known.covers(&[]) && !known.covers(&before("a", 1)));
        known.learn("a", Id::new(5, 0));
        known.learn("a", Id::new(3, 0));
        assert!(known.covers(&before("a", 5)) && !known.covers(&before("a", 6)));
        known.forget();
        assert!(!known.covers(&before("a", 1)));
    }

    #[test]
    fn its_memory_is_bounded_and_the_youngest_stay() {
        let mut known = Known::default();
        for n in 0..3 * GENERATION {
            known.learn(&n.to_string(), Id::new(1, 0));
        }
        assert!(known.young.len() + known.old.len() <= 2 * GENERATION);
        assert!(known.covers(&before(&(3 * GENERATION - 1).to_string(), 1)));
        assert!(!known.covers(&before("0", 1)));
    }
}
