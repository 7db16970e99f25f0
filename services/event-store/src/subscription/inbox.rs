//! What a consumer holds; `plan` decides which of it may be handed out next. Pure.
//!
//! Of the three rules two are the plan's: *order across streams* and *order per key*. Here is the third, *room*. A
//! stream is read while fewer than its share of entries is held, and fewer bytes of states than there is room for. A consumer whose free handlers find nothing to do reads
//! on beyond that, one batch after the other, up to [`MOST`]; and what others left is claimed a batch at a time however
//! much is held.
//!
//! Where there is no room for a state, the entry is held without it: its id, keys and predecessors are known, so it
//! stands in the order as any other, and the plan does not know the difference. Its state is read again by the task that
//! handles it, and is dropped with that task. So a bound in bytes delays entries and keeps none from being held.
//!
//! # Why a group makes progress
//!
//! Let `e` be the lowest entry of the group that is not finished and does not wait, on its own keys, for a running
//! handler, a retry or a dead letter. Every earlier event of its keys is finished, so whoever holds `e` may hand it out.
//!
//! - A living consumer holds `e`: nothing of its keys is before it in that consumer's inbox, and nothing that the consumer
//!   may still read or claim is lower. So the plan offers it as soon as a handler is free. If none is free for
//!   `claim_after`, the consumer gives no heartbeats for entries that no handler has begun, and claims nothing: other
//!   consumers then take `e` over as from a dead one.
//! - A consumer that died or left held `e`: it has been idle for `claim_after`, or was handed back. Every living
//!   consumer claims from the lowest idle id on, a batch with each sign of life also when its share is used up, so what
//!   waits for an earlier entry never uses up the room for taking that entry over.
//! - Nobody was given `e` yet: some consumer has room for its stream, or all hold their share of entries or bytes. Those whose handlers find
//!   nothing to do read on. If none is idle, each handles entries, and has room again when they are finished.
//!
//! Either way `e` is finished after a bounded time, and the next lowest entry takes its place.
//!
//! That would be slow where consumers hold events of the same keys in turn and nothing but the lowest one went on. So
//! entries that wait for another consumer are asked about again apart from those that were not asked about yet, and the
//! more of them there are, the longer are the pauses between the questions: they never use up a consumer's questions.

mod lines;
mod plan;

pub(super) use plan::Look;

use super::item::{Content, Entries, Place};
use super::mark::{ByMark, Mark};
use crate::Id;
use lines::Lines;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Instant;

/// So many entries of one stream are held at most. What is beyond waits on the server until some of them are finished.
pub(super) const MOST: usize = 100_000;

#[derive(Debug)]
struct Slot {
    content: Content,
    in_hand: bool,
    /// In hand, but not for the handler: nobody knows when it will be settled.
    aside: bool,
    /// Until then nobody can have claimed it, and it was delivered for the first time: the server
    /// need not be asked whether it may be handled.
    trusted_until: Option<Instant>,
    not_before: Option<Instant>,
    attempts: u32,
    /// How often it was asked about and waited for another consumer, since the last time when it did not.
    waits: u32,
    /// How often the server refused to finish it.
    refusals: u32,
    first_failure: Option<Instant>,
    /// The reason of the last attempt that failed.
    last_failure: Option<String>,
    /// The number of its keys of which an earlier entry is held.
    behind: usize,
}

impl Slot {
    /// Nothing that is held is in its way.
    fn is_candidate(&self) -> bool {
        !self.in_hand && self.behind == 0
    }

    fn marks(&self) -> &[Mark] {
        match &self.content {
            Content::Event(item) => &item.marks,
            Content::Foreign(_) => &[],
        }
    }
}

/// The entries a consumer has been given and not finished.
#[derive(Debug)]
pub(super) struct Inbox {
    slots: BTreeMap<Place, Slot>,
    /// Per stream: it may hold more beyond this id.
    bounds: Vec<Option<Id>>,
    held: Vec<usize>,
    room: usize,
    /// The bytes of the states that are held, and how many may be.
    bytes: usize,
    most_bytes: usize,
    /// The entries of each key, in their order.
    lines: Lines,
    /// The places of all candidates: entries that are not in hand and of whose keys no earlier entry is held.
    candidates: BTreeSet<Place>,
    /// Entries that waited for another consumer when they were last asked about.
    waiting: usize,
    /// Used while a plan is made that keeps the order across keys: what is held up by an entry that is tried again or
    /// set aside. Kept for its memory.
    held_up: HashSet<Mark, ByMark>,
}

impl Inbox {
    /// `room` is the share of a stream in entries; `most_bytes` bounds the states of all streams together.
    pub(super) fn new(streams: usize, room: usize, most_bytes: usize) -> Self {
        Self {
            slots: BTreeMap::new(),
            bounds: vec![None; streams],
            held: vec![0; streams],
            room,
            bytes: 0,
            most_bytes,
            lines: Lines::default(),
            candidates: BTreeSet::new(),
            waiting: 0,
            held_up: HashSet::default(),
        }
    }

    /// Takes entries in, and answers how many are new; one that is held already stays as it is.
    pub(super) fn insert(
        &mut self,
        stream: usize,
        entries: Entries,
        trusted: impl Fn(Id) -> Option<Instant>,
    ) -> usize {
        let before = self.held[stream];
        for (id, content) in entries {
            let place = (id, stream);
            if self.slots.contains_key(&place) {
                continue;
            }
            let content = self.fitted(content);
            self.held[stream] += 1;
            let mut slot = Slot {
                content,
                in_hand: false,
                aside: false,
                trusted_until: trusted(id),
                not_before: None,
                attempts: 0,
                waits: 0,
                refusals: 0,
                first_failure: None,
                last_failure: None,
                behind: 0,
            };
            let mut behind = 0;
            for mark in slot.marks() {
                match self.lines.join(*mark, place) {
                    lines::Joined::First => {}
                    lines::Joined::Behind => behind += 1,
                    lines::Joined::Before(other) => self.now_behind(other),
                }
            }
            slot.behind = behind;
            if slot.is_candidate() {
                self.candidates.insert(place);
            }
            self.slots.insert(place, slot);
        }
        self.held[stream] - before
    }

    /// Leaves the state out where there is no room for it. One always fits.
    fn fitted(&mut self, content: Content) -> Content {
        match content {
            Content::Event(item) if self.bytes > 0 && self.bytes + item.bytes() > self.most_bytes => {
                Content::Event(item.without_state())
            }
            content => {
                self.bytes += content.bytes();
                content
            }
        }
    }

    /// An earlier entry of one of its keys was taken in.
    fn now_behind(&mut self, place: Place) {
        if let Some(slot) = self.slots.get_mut(&place) {
            slot.behind += 1;
            self.candidates.remove(&place);
        }
    }

    /// Changes an entry; whether it is a candidate follows.
    fn change(&mut self, place: Place, change: impl FnOnce(&mut Slot)) -> Option<&Slot> {
        let slot = self.slots.get_mut(&place)?;
        let was = slot.is_candidate();
        change(slot);
        match (was, slot.is_candidate()) {
            (false, true) => _ = self.candidates.insert(place),
            (true, false) => _ = self.candidates.remove(&place),
            _ => {}
        }
        Some(slot)
    }

    /// The consumer's pending list was read: what else is held and not in hand is not its own any
    /// more. And nothing is handed out before every stream with room has been read once.
    pub(super) fn begin_anew(&mut self, pending: &HashSet<Place>) {
        let gone: Vec<Place> = self
            .slots
            .iter()
            .filter(|(place, slot)| !slot.in_hand && !pending.contains(place))
            .map(|(place, _)| *place)
            .collect();
        for place in gone {
            self.remove(place);
        }
        for slot in self.slots.values_mut() {
            slot.trusted_until = None;
        }
        let mut last = vec![Id::ZERO; self.bounds.len()];
        for (id, stream) in self.slots.keys() {
            last[*stream] = *id;
        }
        for (stream, last) in last.into_iter().enumerate() {
            // What has no room for more is not read now, and may hold more beyond what is held.
            self.bounds[stream] = Some(if self.room_of(stream) > 0 { Id::ZERO } else { last });
        }
    }

    /// After a read of a stream: its last id when the batch was full, `None` when it was read to its end.
    pub(super) fn set_bound(&mut self, stream: usize, bound: Option<Id>) {
        self.bounds[stream] = bound;
    }

    /// Nothing beyond this id is handed out: a stream may hold more from there on. Where several events are handled at
    /// once, one that is not read any further (see [`MOST`]) does not stop the others.
    fn lowest_bound(&self, ordered: bool) -> Option<Id> {
        let bounds = self.bounds.iter().zip(&self.held);
        bounds.filter(|(_, held)| ordered || **held < MOST).filter_map(|(bound, _)| *bound).min()
    }

    /// These streams are read and the others are not: of those that have used up their share more may come that nobody
    /// has seen, and what is beyond must not overtake it. A stream of which as much is held as can be is left out: where
    /// several events are handled at once it would stop all others.
    pub(super) fn reads_only(&mut self, streams: &[usize], ordered: bool) {
        for stream in (0..self.bounds.len()).filter(|stream| !streams.contains(stream)) {
            if self.bounds[stream].is_none() && (ordered || self.held[stream] < MOST) {
                self.bounds[stream] = self.slots.keys().rev().find(|(_, s)| *s == stream).map(|(id, _)| *id);
            }
        }
    }

    /// May the stream hold more than was read of it?
    pub(super) fn may_hold_more(&self, stream: usize) -> bool {
        self.bounds[stream].is_some()
    }

    /// The streams to read now, where so many entries of each are on their way. A consumer that is `starved`, whose free
    /// handlers find nothing to do, reads on beyond the share of a stream, where what comes could be handed out.
    pub(super) fn readable(&self, coming: &[usize], starved: bool) -> Vec<usize> {
        let lowest = self.lowest_bound(false);
        let may_read = |stream: &usize| {
            let (held, coming, bound) = (self.held[*stream], coming[*stream], self.bounds[*stream]);
            let could_help = bound.is_none() || bound == lowest;
            (held + coming < self.room && self.bytes < self.most_bytes)
                || (starved && could_help && coming == 0 && held < MOST)
        };
        (0..self.held.len()).filter(may_read).collect()
    }

    /// How many more of a stream there is room for.
    pub(super) fn room_of(&self, stream: usize) -> usize {
        if self.bytes < self.most_bytes { self.room.saturating_sub(self.held[stream]) } else { 0 }
    }

    /// How many entries of a stream to claim at most: a batch at least, however much is held. What others left is bounded
    /// by what they held.
    pub(super) fn claimable(&self, stream: usize, batch: usize) -> usize {
        self.room_of(stream).max(batch)
    }

    /// A stream of which so much is held, all of it waiting, that nothing more is taken in.
    pub(super) fn is_full(&self) -> Option<usize> {
        (0..self.held.len()).find(|stream| self.held[*stream] >= MOST)
    }

    /// The entry is being handled.
    pub(super) fn take(&mut self, place: Place) {
        self.change(place, |slot| slot.in_hand = true);
    }

    /// The entry is no longer for the handler; when it will be settled the server decides.
    pub(super) fn set_aside(&mut self, place: Place) {
        self.change(place, |slot| (slot.in_hand, slot.aside) = (true, true));
    }

    /// The entry was not handled after all.
    pub(super) fn put_back(&mut self, place: Place) {
        self.change(place, |slot| (slot.in_hand, slot.aside) = (false, false));
    }

    /// The entry is finished, parked, or another consumer's now.
    pub(super) fn remove(&mut self, place: Place) {
        let Some(slot) = self.slots.remove(&place) else { return };
        self.held[place.1] -= 1;
        self.waiting -= usize::from(slot.waits > 0);
        self.bytes -= slot.content.bytes();
        self.candidates.remove(&place);
        for mark in slot.marks() {
            if let Some(next) = self.lines.leave(*mark, place) {
                self.change(next, |slot| slot.behind -= 1);
            }
        }
    }

    /// The server says that this entry is not this consumer's. One in hand stays until it is settled, and is asked about
    /// before it is handled again.
    pub(super) fn lost(&mut self, place: Place) {
        match self.slots.get_mut(&place) {
            Some(slot) if slot.in_hand => slot.trusted_until = None,
            _ => self.remove(place),
        }
    }

    /// Nobody can have claimed these before then; only those that needed no question are trusted.
    pub(super) fn trust(&mut self, stream: usize, ids: &[Id], until: Instant) {
        for id in ids {
            if let Some(trusted) = self.slots.get_mut(&(*id, stream)).and_then(|s| s.trusted_until.as_mut()) {
                *trusted = until.max(*trusted);
            }
        }
    }

    /// The entry failed: how often it has now, and since when. It waits for [`Self::wait_until`].
    pub(super) fn failed(&mut self, place: Place, now: Instant, reason: &str) -> u32 {
        let failed = self.change(place, |slot| {
            (slot.in_hand, slot.aside) = (false, false);
            slot.last_failure = Some(reason.to_owned());
            slot.first_failure.get_or_insert(now);
            slot.attempts += 1;
        });
        failed.map_or(0, |slot| slot.attempts)
    }

    /// Attempts that failed and the time of the first one.
    pub(super) fn failures(&self, place: Place) -> (u32, Option<Instant>) {
        self.slots.get(&place).map_or((0, None), |s| (s.attempts, s.first_failure))
    }

    /// Why the last attempt failed.
    pub(super) fn last_failure(&self, place: Place) -> Option<String> {
        self.slots.get(&place)?.last_failure.clone()
    }

    /// How many entries wait for earlier events that other consumers hold.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The entry waits for an earlier event that another consumer holds: how often it has been asked.
    pub(super) fn waited(&mut self, place: Place) -> u32 {
        let waited = self.change(place, |slot| {
            (slot.in_hand, slot.aside) = (false, false);
            slot.waits += 1;
        });
        let waits = waited.map_or(0, |slot| slot.waits);
        self.waiting += usize::from(waits == 1);
        waits
    }

    /// The entry waits for no other consumer any more.
    pub(super) fn waits_no_longer(&mut self, place: Place) {
        let Some(slot) = self.slots.get_mut(&place) else { return };
        self.waiting -= usize::from(std::mem::take(&mut slot.waits) > 0);
    }

    /// The server refused to finish the entry, which is set aside: how often it has.
    pub(super) fn refused(&mut self, place: Place) -> u32 {
        let refused = self.change(place, |slot| {
            (slot.in_hand, slot.aside) = (true, true);
            slot.refusals += 1;
        });
        refused.map_or(0, |slot| slot.refusals)
    }

    /// The entry is no candidate before then.
    pub(super) fn wait_until(&mut self, place: Place, then: Instant) {
        self.change(place, |slot| {
            (slot.in_hand, slot.aside) = (false, false);
            slot.not_before = Some(then);
        });
    }

    pub(super) fn has_begun(&self) -> bool {
        self.slots.values().any(|slot| slot.in_hand)
    }

    /// Ids of one stream that are in hand, ascending.
    pub(super) fn begun_of(&self, stream: usize) -> Vec<Id> {
        let begun = |(place, slot): &(&Place, &Slot)| place.1 == stream && slot.in_hand;
        self.slots.iter().filter(begun).map(|((id, _), _)| *id).collect()
    }

    /// Ids held of one stream, ascending.
    pub(super) fn held_of(&self, stream: usize) -> Vec<Id> {
        self.slots.keys().filter(|(_, s)| *s == stream).map(|(id, _)| *id).collect()
    }
}
