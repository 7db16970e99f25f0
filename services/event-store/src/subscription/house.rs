//! A consumer's housekeeping: signs of life, and then taking over what nobody gives any for. Two kinds of
//! tasks, so that a claim that takes its time delays no sign of life.

use super::claim::{self, Claim, Claimed};
use super::driver::Driver;
use super::patience::Patience;
use super::settle::Step;
use super::standstill::{self, Progress};
use super::streams::{StreamList, UnreadStream, counts_as_read};
use super::upkeep::{Found, Name, Round, ServerTime, Share};
use super::{Handler, Standstill, Subscription};
use std::time::Instant;
use tracing::{debug, error, info, warn};

impl<H: Handler> Driver<H> {
    fn can_read(&self) -> bool {
        !self.halted && self.observation.ready()
    }

    pub(super) fn keep_house(&mut self) {
        let can_read = self.can_read();
        // A consumer that reads nothing keeps what its handlers have begun; one whose name is taken asks on, to see when
        // the other process is gone.
        if self.keeping_house || !(can_read || self.is_name_taken || self.inbox.has_begun()) {
            return;
        }
        // A claim that finds more says so again: what failed is tried with the next sign of life, not at once.
        (self.keeping_house, self.more_to_claim) = (true, false);
        let keeps_all = can_read && !self.is_overloaded(Instant::now());
        let held = |stream| if keeps_all { self.inbox.held_of(stream) } else { self.inbox.begun_of(stream) };
        let share = |stream| Share { held: held(stream), seen: self.seen[stream] };
        let round = Round {
            store: self.store.clone(),
            subscription: self.subscription.clone(),
            keys: self.keys.clone(),
            cursors: self.cursors.clone(),
            session: self.session.clone(),
            shares: (0..self.keys.len()).map(share).collect(),
            looks_for_unread: self.began.elapsed() >= counts_as_read(self.subscription.claim_after),
        };
        self.tasks.spawn(async move { Step::Looked(Box::new(round.run().await)) });
    }

    pub(super) fn look_after(&mut self, found: Found) {
        self.keeping_house = false;
        match found.name {
            Some(Name::Taken) => return self.give_name_up(),
            Some(Name::Own) if self.is_name_taken => self.take_name_back(),
            _ => {}
        }
        if let Some(fault) = found.halted {
            return self.halt(fault);
        }
        if let Some(list) = &found.streams {
            self.learn_streams(list);
        }
        if let Some(unread) = found.unread {
            self.report_unread(&unread);
        }
        if let Some(e) = found.error {
            // What is pending may have changed meanwhile: the pending list tells.
            debug!(group = self.subscription.group, error = e, "upkeep failed, trying again");
            self.anew = true;
            self.observation.set_unknown();
        } else {
            self.observation.set_states(found.states);
            self.look_for_standstill(&found.progress);
        }
        for (stream, ids, until) in found.kept {
            self.inbox.trust(stream, &ids, until);
        }
        for place in found.lost {
            self.inbox.lost(place);
        }
        if let Some((asked, seen)) = found.kept_at {
            self.patience.kept(asked);
            // An overloaded consumer would claim what it has just ceased to keep.
            if !self.is_overloaded(Instant::now()) {
                self.claim(seen);
            }
        }
    }

    /// Another process has this consumer's name: what is pending for the name is that one's to handle.
    pub(super) fn give_name_up(&mut self) {
        if !self.is_name_taken {
            let Subscription { group, consumer, .. } = &*self.subscription;
            error!(
                group,
                consumer,
                "another process uses this consumer's name; this one handles no events until that one ends: give each process a name of its own"
            );
        }
        self.is_name_taken = true;
        self.observation.set_unknown();
        self.observation.set_name_taken(true);
        // Connected, and its group is there.
        self.observation.set_ready(!self.halted);
    }

    fn take_name_back(&mut self) {
        let Subscription { group, consumer, .. } = &*self.subscription;
        info!(
            group,
            consumer, "the other process that used this consumer's name has ended; this one continues"
        );
        self.is_name_taken = false;
        self.observation.set_name_taken(false);
        // What is pending for the name may have changed meanwhile.
        self.anew = true;
    }

    /// Notes since when every handler is at work.
    pub(super) fn note_busy(&mut self, now: Instant) {
        self.busy_since = if self.hands == 0 { self.busy_since.or(Some(now)) } else { None };
    }

    /// No handler has been free for the claim time, so that nothing else which is held has begun. The consumer lives, but
    /// those entries wait as they would for a dead one: it neither keeps them alive nor claims more, and other consumers
    /// take them over. If there are none, the entries stay pending here and are handled when handlers end.
    pub(super) fn is_overloaded(&self, now: Instant) -> bool {
        self.busy_since.is_some_and(|since| now.duration_since(since) >= self.subscription.claim_after)
    }

    fn look_for_standstill(&mut self, progress: &[Progress]) {
        let found = standstill::of(progress, self.subscription.claim_after);
        let now = found.map(|(place, consumer, lasts)| Standstill {
            lasts,
            stream: self.subscription.streams[place.1].clone(),
            id: place.0,
            consumer,
            retry: self.inbox.last_failure(place),
        });
        let group = &self.subscription.group;
        match (self.observation.set_standstill(now.clone()), now) {
            (None, Some(standstill)) => warn!(group, %standstill, "the group stands still"),
            (Some(_), None) => info!(group, "the group goes on"),
            _ => {}
        }
    }

    /// Takes over which streams the group reads.
    pub(super) fn learn_streams(&mut self, list: &StreamList) {
        let own = &self.subscription.streams;
        self.others.learn(list, own, self.store.layout());
        (self.group.others, self.group.stream_names) = (self.others.streams(), self.others.names());
        let closed_for = list.closed_for(own);
        self.closed_until = (!closed_for.is_zero()).then(|| Instant::now() + closed_for);
    }

    /// A stream of this consumer has joined a group with other consumers, which may not know of it yet.
    pub(super) fn is_closed(&self, now: Instant) -> bool {
        self.closed_until.is_some_and(|then| then > now)
    }

    /// Logs each stream once.
    fn report_unread(&self, unread: &[UnreadStream]) {
        let group = &self.subscription.group;
        let before = self.observation.set_unread(unread.to_vec());
        let has = |list: &[UnreadStream], one: &UnreadStream| list.iter().any(|it| it.stream == one.stream);
        for one in unread.iter().filter(|one| !has(&before, one)) {
            warn!(group, stream = %one.stream, "{one}");
        }
        for one in before.iter().filter(|one| !has(unread, one)) {
            info!(group, stream = %one.stream, "no unread entries of the group wait in this stream any more");
        }
    }

    /// `seen` is when the server saw the own signs of life, by its clock.
    fn claim(&mut self, seen: ServerTime) {
        if self.claiming || self.beginning || self.anew || !self.can_read() {
            return;
        }
        (self.claiming, self.more_to_claim) = (true, false);
        let within = Patience::margin(self.subscription.claim_after).as_millis();
        let claim = Claim {
            store: self.store.clone(),
            subscription: self.subscription.clone(),
            keys: self.keys.clone(),
            cursors: self.cursors.clone(),
            rooms: (0..self.keys.len()).map(|stream| self.inbox.claimable(stream, claim::BATCH)).collect(),
            sizes: self.sizes.clone(),
            least_idle: self.patience.least_idle(Instant::now()),
            until: ServerTime(seen.0.saturating_add(u64::try_from(within).unwrap_or(u64::MAX))),
        };
        self.tasks.spawn(async move { Step::Claimed(claim.run().await) });
    }

    pub(super) fn take_over(&mut self, claimed: Claimed) {
        self.claiming = false;
        self.more_to_claim = claimed.more;
        if let Some(e) = claimed.error {
            // What was claimed may be lost with the answer: the pending list tells.
            debug!(group = self.subscription.group, error = e, "cannot claim, trying again");
            self.anew = true;
        }
        // One that was sent before the pending list was asked for: that list may have been read without it.
        self.anew |= self.beginning && !claimed.entries.is_empty();
        for (stream, entries) in claimed.entries {
            let claimed = self.inbox.insert(stream, entries, |_| None);
            if claimed > 0 {
                info!(group = self.subscription.group, stream = %self.subscription.streams[stream], entries = claimed, "claimed what another consumer left");
                self.observation.count_claimed(stream, claimed);
            }
        }
    }
}
