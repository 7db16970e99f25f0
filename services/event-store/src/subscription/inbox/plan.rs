//! Which of what a consumer holds may be handed out next. Pure.
//!
//! *Order across streams*: nothing beyond the last id of a stream that may hold more. *Order per key*: nothing while an
//! earlier event that shares an ordering key is held.

use super::{Inbox, Slot};
use crate::Id;
use crate::subscription::item::{Content, Item, Place};
use std::sync::Arc;
use std::time::Instant;

/// What to look for.
#[derive(Clone, Copy, Debug)]
pub(in crate::subscription) struct Look {
    /// So many that need no question.
    pub(in crate::subscription) go: usize,
    /// So many that need one, and for which none was asked yet.
    pub(in crate::subscription) ask: usize,
    /// So many that waited for another consumer when they were last asked about.
    pub(in crate::subscription) ask_again: usize,
    /// Nothing is handed out while one before it needs a question, or waits for one that is in hand. What is tried again
    /// or set aside holds up its own keys alone.
    pub(in crate::subscription) ordered: bool,
}

/// What may happen next.
#[derive(Debug, Default)]
pub(in crate::subscription) struct Plan {
    /// May be handled, as far as anybody needs to be asked.
    pub(in crate::subscription) go: Vec<(Place, Arc<Item>)>,
    /// May be handled when the server says so.
    pub(in crate::subscription) ask: Vec<(Place, Arc<Item>)>,
    /// Likewise; they waited for another consumer when they were last asked about. They never use up the questions about
    /// others: it is these that another consumer may wait for.
    pub(in crate::subscription) ask_again: Vec<(Place, Arc<Item>)>,
    /// To be parked.
    pub(in crate::subscription) foreign: Vec<(Place, String)>,
    /// When there is more to do, unless something happens before.
    pub(in crate::subscription) wake: Option<Instant>,
}

impl Inbox {
    /// The entries for which something can be done now, in id order. `known` are the events of which everything before is
    /// known to be finished.
    pub(in crate::subscription) fn plan(
        &mut self,
        now: Instant,
        look: Look,
        known: impl Fn(&Item) -> bool,
    ) -> Plan {
        let bound = self.lowest_bound(look.ordered).unwrap_or(Id::MAX);
        let mut plan = Plan::default();
        if look.ordered {
            self.plan_in_order(now, look, &known, bound, &mut plan);
            return plan;
        }
        for place in &self.candidates {
            if place.0 > bound || plan.go.len() >= look.go {
                break;
            }
            let Some(slot) = self.slots.get(place) else { continue };
            // What waits has its time as a reason to wake up.
            if let Some(then) = slot.not_before.filter(|t| *t > now) {
                plan.wake = Some(plan.wake.map_or(then, |wake| wake.min(then)));
                continue;
            }
            match &slot.content {
                Content::Foreign(reason) => plan.foreign.push((*place, reason.clone())),
                Content::Event(item) if slot.needs_no_question(item, now, &known) => {
                    plan.go.push((*place, item.clone()));
                }
                Content::Event(item) if slot.waits > 0 => {
                    if plan.ask_again.len() < look.ask_again {
                        plan.ask_again.push((*place, item.clone()));
                    }
                }
                // The answer may come before all that stands ahead is handed out.
                Content::Event(item) if plan.ask.len() < look.ask => plan.ask.push((*place, item.clone())),
                Content::Event(_) => {}
            }
        }
        plan
    }

    /// The same where the order across keys counts: all that is held is looked at, in the order of ids.
    fn plan_in_order(
        &mut self,
        now: Instant,
        look: Look,
        known: &impl Fn(&Item) -> bool,
        bound: Id,
        plan: &mut Plan,
    ) {
        self.held_up.clear();
        for (place, slot) in &self.slots {
            if place.0 > bound || plan.go.len() >= look.go {
                break;
            }
            let free = slot.is_candidate();
            let mut later = slot.aside || (!slot.in_hand && slot.not_before.is_some_and(|t| t > now));
            later |= slot.marks().iter().any(|mark| self.held_up.contains(mark));
            // It may still wait for another consumer, and then holds up its own keys alone.
            later |= free && slot.waits > 0;
            if later {
                self.held_up.extend(slot.marks());
            }
            if let Some(then) = slot.not_before.filter(|t| free && *t > now) {
                plan.wake = Some(plan.wake.map_or(then, |wake| wake.min(then)));
                continue;
            }
            match &slot.content {
                // An earlier event of its key is in hand, or will be before it.
                _ if !free && !slot.in_hand && !later => break,
                _ if !free => {}
                Content::Foreign(reason) => plan.foreign.push((*place, reason.clone())),
                Content::Event(item) if slot.needs_no_question(item, now, known) && plan.ask.is_empty() => {
                    plan.go.push((*place, item.clone()));
                }
                Content::Event(item) if slot.waits > 0 => {
                    if plan.ask_again.len() < look.ask_again {
                        plan.ask_again.push((*place, item.clone()));
                    }
                }
                Content::Event(item) if plan.ask.len() < look.ask && plan.go.is_empty() => {
                    plan.ask.push((*place, item.clone()));
                }
                Content::Event(_) => break,
            }
        }
    }
}

impl Slot {
    fn needs_no_question(&self, item: &Item, now: Instant, known: &impl Fn(&Item) -> bool) -> bool {
        self.trusted_until.is_some_and(|t| t > now) && known(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::RawEntry;
    use crate::subscription::known::Known;
    use crate::{Event, Kind};
    use std::collections::HashSet;
    use std::time::Duration;

    fn event(ms: u64, key: &str) -> Event {
        let fields = [
            ("event_id", "6d3ff6f4-8a0d-4ae6-9ff8-cf1d46c0e4a1".to_owned()),
            ("entity", "{}".to_owned()),
            ("entity_type", "order".to_owned()),
            ("entity_id", key.to_owned()),
            ("version", "1".to_owned()),
        ];
        let fields = fields.into_iter().map(|(n, v)| (n.as_bytes().to_vec(), v.into_bytes())).collect();
        RawEntry { id: Id::new(ms, 0), fields }.decode(&Kind::new("order").stream("updated")).unwrap()
    }

    fn nothing_known(item: &Item) -> bool {
        Known::default().covers(item)
    }

    fn put(inbox: &mut Inbox, stream: usize, ms: u64, key: &str) {
        let item = Item::new(event(ms, key), 0, &[Kind::new("order").stream("updated")]);
        let entries = vec![(Id::new(ms, 0), Content::Event(Arc::new(item)))];
        inbox.insert(stream, entries, |_| None);
    }

    fn plan(inbox: &mut Inbox, now: Instant) -> Plan {
        inbox.plan(now, Look { go: 10, ask: 10, ask_again: 10, ordered: false }, nothing_known)
    }

    fn ids(inbox: &mut Inbox, now: Instant) -> Vec<u64> {
        plan(inbox, now).ask.iter().map(|(place, _)| place.0.ms).collect()
    }

    #[test]
    fn events_of_one_key_come_one_at_a_time_and_in_order() {
        let (mut inbox, now) = (Inbox::new(1, 10, usize::MAX), Instant::now());
        for (ms, key) in [(1, "a"), (2, "a"), (3, "b")] {
            put(&mut inbox, 0, ms, key);
        }
        assert_eq!(ids(&mut inbox, now), [1, 3]);
        inbox.take((Id::new(1, 0), 0));
        assert_eq!(ids(&mut inbox, now), [3]);
        inbox.remove((Id::new(1, 0), 0));
        assert_eq!(ids(&mut inbox, now), [2, 3]);
    }

    #[test]
    fn a_retry_holds_up_its_own_key_alone() {
        let (mut inbox, now) = (Inbox::new(1, 10, usize::MAX), Instant::now());
        for (ms, key) in [(1, "a"), (2, "a"), (3, "b")] {
            put(&mut inbox, 0, ms, key);
        }
        let place = (Id::new(1, 0), 0);
        assert_eq!(inbox.failed(place, now, "not today"), 1);
        inbox.wait_until(place, now + Duration::from_secs(1));
        assert_eq!(ids(&mut inbox, now), [3]);
        let then = now + Duration::from_secs(1);
        assert_eq!(plan(&mut inbox, now).wake, Some(then));
        assert_eq!(ids(&mut inbox, then), [1, 3]);
        assert_eq!(plan(&mut inbox, then).wake, None, "its time has come: nothing to wake up for");
    }

    #[test]
    fn nothing_is_handed_out_beyond_a_stream_that_may_hold_more() {
        let (mut inbox, now) = (Inbox::new(2, 10, usize::MAX), Instant::now());
        put(&mut inbox, 0, 1, "a");
        put(&mut inbox, 1, 5, "b");
        inbox.set_bound(0, Some(Id::new(1, 0)));
        assert_eq!(ids(&mut inbox, now), [1]);
        inbox.set_bound(0, None);
        assert_eq!(ids(&mut inbox, now), [1, 5]);
    }

    #[test]
    fn a_full_share_of_one_stream_never_stops_the_reading_of_another() {
        let mut inbox = Inbox::new(2, 2, usize::MAX);
        put(&mut inbox, 0, 1, "a");
        put(&mut inbox, 0, 2, "a");
        assert_eq!(inbox.readable(&[0, 1], false), [1]);
        assert!(inbox.readable(&[0, 2], false).is_empty(), "what is on its way has its room");
    }

    #[test]
    fn what_may_have_come_to_a_stream_that_is_not_read_is_not_overtaken() {
        let (mut inbox, now) = (Inbox::new(2, 2, usize::MAX), Instant::now());
        for (stream, ms, key) in [(0, 1, "x"), (0, 2, "x"), (1, 5, "a")] {
            put(&mut inbox, stream, ms, key);
        }
        inbox.wait_until((Id::new(1, 0), 0), now + Duration::from_secs(1));
        assert_eq!(ids(&mut inbox, now), [5], "both streams were read to their ends");
        inbox.reads_only(&[1], true);
        assert!(ids(&mut inbox, now).is_empty(), "the first has used up its share: more of it may come");
        assert_eq!(inbox.readable(&[0, 0], false), [1]);
        assert_eq!(inbox.readable(&[0, 0], true), [0, 1], "a starved consumer reads it on");
        inbox.set_bound(0, None);
        assert_eq!(ids(&mut inbox, now), [5]);
    }

    #[test]
    fn a_starved_consumer_reads_on_only_where_it_helps_and_claims_however_much_it_holds() {
        let mut inbox = Inbox::new(2, 2, usize::MAX);
        for (stream, ms) in [(0, 1), (0, 2), (1, 8), (1, 9)] {
            put(&mut inbox, stream, ms, "x");
        }
        inbox.set_bound(0, Some(Id::new(2, 0)));
        inbox.set_bound(1, Some(Id::new(9, 0)));
        assert!(inbox.readable(&[0, 0], false).is_empty());
        assert_eq!(
            inbox.readable(&[0, 0], true),
            [0],
            "what comes of the other lies beyond this one's bound"
        );
        assert_eq!(inbox.claimable(0, 100), 100);
    }

    #[test]
    fn a_state_that_does_not_fit_is_left_out_and_its_entry_keeps_its_place() {
        // Each state is two bytes.
        let (mut inbox, now) = (Inbox::new(1, 10, 5), Instant::now());
        for (ms, key) in [(1, "a"), (2, "b"), (3, "a"), (4, "c")] {
            put(&mut inbox, 0, ms, key);
        }
        let go = |inbox: &mut Inbox| -> Vec<(u64, bool)> {
            let plan = plan(inbox, now);
            plan.ask.iter().map(|(place, item)| (place.0.ms, item.is_without_state)).collect()
        };
        assert_eq!(go(&mut inbox), [(1, false), (2, false), (4, true)]);
        assert_eq!(inbox.readable(&[0], false), [0], "there is a byte left");
        inbox.remove((Id::new(1, 0), 0));
        assert_eq!(go(&mut inbox), [(2, false), (3, true), (4, true)]);
        put(&mut inbox, 0, 5, "d");
        put(&mut inbox, 0, 6, "e");
        assert_eq!(go(&mut inbox), [(2, false), (3, true), (4, true), (5, false), (6, true)]);

        let mut inbox = Inbox::new(1, 10, 1);
        put(&mut inbox, 0, 1, "a");
        assert_eq!(go(&mut inbox), [(1, false)], "one always fits");
        inbox.set_bound(0, Some(Id::new(1, 0)));
        assert!(inbox.readable(&[0], false).is_empty(), "what is held is enough");
        assert_eq!(inbox.readable(&[0], true), [0], "unless nothing can be done with it");
        assert_eq!(inbox.claimable(0, 100), 100);
    }

    #[test]
    fn an_entry_that_is_read_twice_is_held_once() {
        let mut inbox = Inbox::new(1, 10, usize::MAX);
        put(&mut inbox, 0, 1, "a");
        inbox.take((Id::new(1, 0), 0));
        put(&mut inbox, 0, 1, "a");
        assert!(ids(&mut inbox, Instant::now()).is_empty());
        assert_eq!(inbox.held_of(0).len(), 1);
    }

    #[test]
    fn a_foreign_entry_stops_nobody() {
        let (mut inbox, now) = (Inbox::new(1, 10, usize::MAX), Instant::now());
        inbox.insert(0, vec![(Id::new(1, 0), Content::Foreign("odd".to_owned()))], |_| None);
        put(&mut inbox, 0, 2, "a");
        assert_eq!(ids(&mut inbox, now), [2]);
        assert_eq!(plan(&mut inbox, now).foreign, [((Id::new(1, 0), 0), "odd".to_owned())]);
    }

    fn trusted(inbox: &mut Inbox, ms: u64, key: &str, until: Instant) {
        let item = Item::new(event(ms, key), 0, &[]);
        inbox.insert(0, vec![(Id::new(ms, 0), Content::Event(Arc::new(item)))], |_| Some(until));
    }

    #[test]
    fn what_nobody_can_have_claimed_and_waits_for_nobody_needs_no_question_until_its_time_is_over() {
        let (mut inbox, now) = (Inbox::new(1, 10, usize::MAX), Instant::now());
        let until = now + Duration::from_secs(1);
        trusted(&mut inbox, 1, "a", until);
        assert_eq!(plan(&mut inbox, now).go.len(), 1);
        assert_eq!((plan(&mut inbox, until).go.len(), plan(&mut inbox, until).ask.len()), (0, 1));
        inbox.trust(0, &[Id::new(1, 0)], until + Duration::from_secs(1));
        assert_eq!(plan(&mut inbox, until).go.len(), 1);
        inbox.begin_anew(&HashSet::from([(Id::new(1, 0), 0)]));
        inbox.set_bound(0, None);
        assert_eq!(plan(&mut inbox, now).ask.len(), 1, "another server may know another owner");
    }

    #[test]
    fn an_entry_in_hand_that_another_consumer_took_over_is_asked_about_before_it_is_handled_again() {
        let (mut inbox, now) = (Inbox::new(1, 10, usize::MAX), Instant::now());
        let (place, until) = ((Id::new(1, 0), 0), now + Duration::from_secs(1));
        trusted(&mut inbox, 1, "a", until);
        inbox.take(place);
        inbox.lost(place);
        // A later heartbeat is for what is in hand, too.
        inbox.trust(0, &[place.0], until + Duration::from_secs(1));
        inbox.failed(place, now, "tried again");
        let plan = plan(&mut inbox, now);
        assert_eq!((plan.go.len(), plan.ask.len()), (0, 1));
    }

    #[test]
    fn entries_that_wait_for_another_consumer_leave_the_questions_to_others() {
        let now = Instant::now();
        for ordered in [false, true] {
            let mut inbox = Inbox::new(1, 10, usize::MAX);
            for ms in 1..=8 {
                put(&mut inbox, 0, ms, &ms.to_string());
            }
            for ms in 1..=4 {
                let place = (Id::new(ms, 0), 0);
                inbox.take(place);
                assert_eq!(inbox.waited(place), 1);
            }
            assert_eq!(inbox.waiting(), 4);
            let look = Look { go: 10, ask: 2, ask_again: 3, ordered };
            let plan = inbox.plan(now, look, nothing_known);
            let ids =
                |asked: &[(Place, Arc<Item>)]| asked.iter().map(|(place, _)| place.0.ms).collect::<Vec<_>>();
            assert_eq!(
                (ids(&plan.ask_again), ids(&plan.ask)),
                (vec![1, 2, 3], vec![5, 6]),
                "ordered: {ordered}"
            );
            inbox.remove((Id::new(1, 0), 0));
            assert_eq!(inbox.waiting(), 3);
        }
    }

    #[test]
    fn where_the_order_counts_nothing_overtakes_one_that_needs_a_question() {
        let (mut inbox, now) = (Inbox::new(1, 10, usize::MAX), Instant::now());
        put(&mut inbox, 0, 1, "a");
        trusted(&mut inbox, 2, "b", now + Duration::from_secs(1));
        let mut look =
            |ask, ordered| inbox.plan(now, Look { go: 10, ask, ask_again: ask, ordered }, nothing_known);
        assert_eq!((look(10, false).go.len(), look(10, false).ask.len()), (1, 1));
        assert_eq!((look(10, true).go.len(), look(10, true).ask.len()), (0, 2));
        assert_eq!((look(0, true).go.len(), look(0, true).ask.len()), (0, 0));
        inbox.remove((Id::new(1, 0), 0));
        put(&mut inbox, 0, 3, "c");
        let plan = inbox.plan(now, Look { go: 10, ask: 10, ask_again: 10, ordered: true }, nothing_known);
        assert_eq!((plan.go.len(), plan.ask.len()), (1, 0), "nor does the answer to a later one");
    }

    #[test]
    fn where_the_order_counts_what_waits_for_an_event_in_hand_is_overtaken_by_none() {
        let (mut inbox, now) = (Inbox::new(1, 10, usize::MAX), Instant::now());
        let until = now + Duration::from_secs(1);
        for (ms, key) in [(1, "a"), (2, "b"), (3, "a"), (4, "c")] {
            trusted(&mut inbox, ms, key, until);
        }
        let go = |inbox: &mut Inbox, ordered| -> Vec<u64> {
            let plan = inbox.plan(now, Look { go: 10, ask: 10, ask_again: 10, ordered }, nothing_known);
            plan.go.iter().map(|(place, _)| place.0.ms).collect()
        };
        assert_eq!(go(&mut inbox, true), [1, 2]);
        assert_eq!(go(&mut inbox, false), [1, 2, 4]);
        inbox.take((Id::new(1, 0), 0));
        assert_eq!(go(&mut inbox, true), [2]);
        inbox.remove((Id::new(1, 0), 0));
        assert_eq!(go(&mut inbox, true), [2, 3, 4]);
    }

    #[test]
    fn what_is_tried_again_or_set_aside_holds_up_its_own_keys_alone_also_where_the_order_counts() {
        let now = Instant::now();
        let until = now + Duration::from_secs(1);
        let (one, look) = ((Id::new(1, 0), 0), Look { go: 10, ask: 10, ask_again: 10, ordered: true });
        let settled: [fn(&mut Inbox, Place, Instant); 3] = [
            |inbox, place, then| inbox.wait_until(place, then),
            |inbox, place, _| inbox.set_aside(place),
            |inbox, place, _| assert_eq!(inbox.refused(place), 1),
        ];
        for settle in settled {
            let mut inbox = Inbox::new(1, 10, usize::MAX);
            for (ms, key) in [(1, "a"), (2, "a"), (3, "b"), (4, "a"), (5, "b")] {
                trusted(&mut inbox, ms, key, until);
            }
            inbox.take(one);
            settle(&mut inbox, one, until);
            let plan = inbox.plan(now, look, nothing_known);
            assert_eq!(plan.go.iter().map(|(place, _)| place.0.ms).collect::<Vec<_>>(), [3]);
        }
    }

    #[test]
    fn after_an_error_only_what_is_pending_or_in_hand_stays_and_every_stream_is_read_first() {
        let (mut inbox, now) = (Inbox::new(1, 10, usize::MAX), Instant::now());
        for (ms, key) in [(1, "a"), (2, "b"), (3, "c")] {
            put(&mut inbox, 0, ms, key);
        }
        inbox.take((Id::new(1, 0), 0));
        inbox.begin_anew(&HashSet::from([(Id::new(3, 0), 0)]));
        assert_eq!(inbox.held_of(0), [Id::new(1, 0), Id::new(3, 0)]);
        assert!(ids(&mut inbox, now).is_empty());
        inbox.set_bound(0, None);
        assert_eq!(ids(&mut inbox, now), [3]);
    }
}
