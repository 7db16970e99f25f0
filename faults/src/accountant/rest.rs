//! At rest: nothing waits in any group, and nothing is parked but what was poisoned.

use super::Line;
use crate::books::Books;
use crate::history::History;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn lines(history: &History, books: &Books) -> [Line; 3] {
    let mut idle = Line::new("at rest, every group's lag is 0 and nothing is pending");
    for group in &books.groups {
        idle.check(group.lag == Some(0) && group.pending == 0, || {
            format!(
                "group {} on {}: lag {:?}, {} pending",
                group.group, group.stream, group.lag, group.pending
            )
        });
    }
    let poison: BTreeSet<(&str, &str)> = history
        .faults
        .iter()
        .flat_map(|done| &done.poison)
        .map(|poison| (poison.stream.as_str(), poison.id.as_str()))
        .collect();
    let mut foreign = Line::new("nothing foreign stands in a stream but what another program wrote");
    for entry in &books.foreign {
        foreign.check(poison.contains(&(entry.stream.as_str(), entry.id.as_str())), || {
            format!("{} {} is no event", entry.stream, entry.id)
        });
    }
    let mut parked =
        Line::new("everything poisoned is parked once by each group that reads it, and nothing else is");
    let mut letters: BTreeMap<(&str, &str, &str), u32> = BTreeMap::new();
    for letter in &books.dead {
        *letters.entry((&letter.group, &letter.stream, &letter.id)).or_default() += 1;
        parked.check(poison.contains(&(letter.stream.as_str(), letter.id.as_str())), || {
            format!("{} has parked {} {}: {}", letter.group, letter.stream, letter.id, letter.reason)
        });
    }
    for (stream, id) in &poison {
        for group in books.groups.iter().filter(|group| group.stream == *stream) {
            let count = letters.get(&(group.group.as_str(), *stream, *id)).copied().unwrap_or(0);
            parked.check(count == 1, || format!("{} has parked {stream} {id} {count} times", group.group));
        }
    }
    [idle, foreign, parked]
}
