//! What must happen to each event, and what has happened to it.

use super::case::{Behaviour, Planned};
use event_store::Id;
use std::collections::HashMap;

/// What a group owes an event now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    /// It must be finished.
    Finish,
    /// It is to be a dead letter: it is poison, or an earlier event of its keys is one and none that waits.
    Letter,
    /// It, or an earlier event of its keys, waits for a handler that hangs or for a retry.
    Wait,
}

/// The consumers of a case, each start of one with a number of its own.
pub(super) type Incarnation = usize;

#[derive(Debug, Default)]
struct State {
    attempts: u32,
    done: bool,
    /// Whose handlers are at work on it.
    running: Vec<Incarnation>,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    events: Vec<Planned>,
    states: Vec<State>,
    /// How many of them were, or are about to be, appended.
    next: usize,
    /// The ids of those that were appended.
    ids: Vec<Id>,
    /// The events of each key that were appended, in their order; and how many of them were done without a gap.
    chains: HashMap<usize, (Vec<usize>, usize)>,
    /// Nothing hangs or is stuck any more.
    pub(super) released: bool,
    /// Poison is none any more.
    pub(super) cured: bool,
    /// What was promised and did not hold.
    pub(super) violations: Vec<String>,
}

impl Model {
    pub(super) fn new(events: Vec<Planned>) -> Self {
        let states = events.iter().map(|_| State::default()).collect();
        Self { events, states, ..Self::default() }
    }

    /// The next event is about to be appended.
    pub(super) fn next(&mut self) -> Option<(usize, Planned)> {
        let number = self.next;
        let event = self.events.get(number)?.clone();
        self.next += 1;
        for key in event.keys() {
            self.chains.entry(key).or_default().0.push(number);
        }
        Some((number, event))
    }

    pub(super) fn appended(&mut self, ids: impl IntoIterator<Item = Id>) {
        self.ids.extend(ids);
    }

    pub(super) fn event(&self, number: usize) -> &Planned {
        &self.events[number]
    }

    pub(super) fn ids(&self) -> &[Id] {
        &self.ids
    }

    /// An event that follows this one by a key and was begun: this one is finished.
    pub(super) fn begun_after(&self, number: usize) -> Option<usize> {
        let next = |key: usize| {
            let chain = &self.chains.get(&key)?.0;
            chain.get(chain.binary_search(&number).ok()? + 1).copied()
        };
        self.events[number].keys().filter_map(next).find(|next| self.states[*next].attempts > 0)
    }

    /// A handler begins. Answers how often it has been asked about this event.
    pub(super) fn begin(&mut self, number: usize, incarnation: Incarnation) -> u32 {
        for key in self.events[number].keys() {
            let Some((chain, done)) = self.chains.get_mut(&key) else { continue };
            while chain.get(*done).is_some_and(|number| self.states[*number].done) {
                *done += 1;
            }
            if let Some(earlier) = chain.get(*done).filter(|earlier| **earlier < number) {
                let text = format!(
                    "event {number} was begun by {incarnation} before {earlier} of key {key} was done"
                );
                self.violations.push(text);
            }
        }
        let state = &mut self.states[number];
        state.running.push(incarnation);
        state.attempts += 1;
        state.attempts
    }

    /// Who else is at work on it.
    pub(super) fn others(&self, number: usize, incarnation: Incarnation) -> Vec<Incarnation> {
        self.states[number].running.iter().copied().filter(|other| *other != incarnation).collect()
    }

    /// A handler has ended, or was dropped.
    pub(super) fn end(&mut self, number: usize, incarnation: Incarnation, done: bool) {
        let state = &mut self.states[number];
        state.done |= done;
        if let Some(at) = state.running.iter().position(|running| *running == incarnation) {
            state.running.swap_remove(at);
        }
    }

    pub(super) fn is_done(&self, number: usize) -> bool {
        self.states[number].done
    }

    /// What is owed to each event that was appended. What the handlers of these consumers have begun may hang.
    pub(super) fn duties(&self, hang: &[Incarnation]) -> Vec<Duty> {
        let mut marks: HashMap<usize, Duty> = HashMap::new();
        let duty = |number: usize| {
            let (event, state) = (&self.events[number], &self.states[number]);
            let before: Vec<Duty> = event.keys().filter_map(|key| marks.get(&key).copied()).collect();
            let waits = match event.behaviour {
                Behaviour::Stuck | Behaviour::Hangs => !self.released,
                _ => false,
            };
            let duty = if state.running.iter().any(|incarnation| hang.contains(incarnation))
                || (waits && !state.done)
            {
                Duty::Wait
            } else if state.done {
                Duty::Finish
            } else if before.contains(&Duty::Wait) {
                Duty::Wait
            } else if before.contains(&Duty::Letter) || (event.behaviour == Behaviour::Poison && !self.cured)
            {
                Duty::Letter
            } else {
                Duty::Finish
            };
            if duty != Duty::Finish {
                // What waits is no letter, and what is behind both may be either.
                for key in event.keys() {
                    let mark = marks.entry(key).or_insert(duty);
                    *mark = if duty == Duty::Wait { duty } else { *mark };
                }
            }
            duty
        };
        (0..self.ids.len()).map(duty).collect()
    }

    /// For each event that was appended: how many are not done in the longest row of events that follow each other by their
    /// keys and end with it.
    pub(super) fn ranks(&self) -> Vec<u32> {
        let mut last: HashMap<usize, u32> = HashMap::new();
        let rank = |number: usize| {
            let before = self.events[number].keys().filter_map(|key| last.get(&key)).max().copied();
            let rank = before.unwrap_or(0) + u32::from(!self.states[number].done);
            for key in self.events[number].keys() {
                last.insert(key, rank);
            }
            rank
        };
        (0..self.ids.len()).map(rank).collect()
    }

    /// The outputs that there must be, as numbers of their events, by entity and in their order.
    pub(super) fn outputs(&self) -> HashMap<String, Vec<u64>> {
        let mut outputs: HashMap<String, Vec<u64>> = HashMap::new();
        for (number, event) in self.events[..self.ids.len()].iter().enumerate() {
            if event.behaviour == Behaviour::Output {
                outputs.entry(entity(event.entity)).or_default().push(number as u64);
            }
        }
        outputs
    }
}

pub(super) fn entity(number: usize) -> String {
    format!("e{number}")
}
