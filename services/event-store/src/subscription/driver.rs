//! The loop of a consumer: reads, asks what may be handled, hands out, settles what handlers say.
//! Never blocks on a handler, and never on the server: whatever takes time is a task, and one that
//! ends is a [`Step`].

use super::finish::{self, Finish, Group};
use super::hand;
use super::inbox::{Inbox, Look, MOST};
use super::item::{Item, Place};
use super::known::Known;
use super::park::Why;
use super::patience::Patience;
use super::reader::{self, Ask, Read, Reader, Waker};
use super::ready;
use super::session::Session;
use super::settle::Step;
use super::states::States;
use super::streams::OtherStreams;
use super::{Handler, Observation, Subscription};
use crate::page::PageSize;
use crate::{EventStore, Id};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

/// Entries held per stream: several reads, so that handlers never wait for the next one.
const ROOM: usize = reader::BATCH * 12;
/// Events looked at in one go.
const LOOK: usize = 256;
/// Calls under way at a time that finish events: while the server works on one, the next is on its way.
const FINISHING: usize = 2;
/// Events that one task asks about in turn.
const TURN: usize = 128;
pub(super) const WAKE_AGAIN: Duration = Duration::from_millis(10);
const UPKEEP: Duration = Duration::from_secs(1);
pub(super) async fn run(
    store: EventStore,
    subscription: Arc<Subscription>,
    observation: Observation,
    handler: Arc<impl Handler>,
    cancel: CancellationToken,
) {
    let layout = store.layout();
    let family = subscription.streams.first().map_or("", |s| s.family()).to_owned();
    let keys: Vec<String> = subscription.streams.iter().map(|s| layout.stream(s)).collect();
    let group = Group {
        store: store.clone(),
        subscription: subscription.clone(),
        keys: keys.clone(),
        positions: layout.positions(&family, &subscription.group),
        dead: layout.dead(&family, &subscription.group),
        letters: layout.letters(&family, &subscription.group),
        cursors: layout.cursors(&family, &subscription.group),
        others: Arc::default(),
        stream_names: Arc::from(""),
    };
    let parts = std::thread::available_parallelism().map_or(1, usize::from);
    let driver = Driver {
        cursors: layout.cursors(&family, &subscription.group),
        clock: layout.clock(&family),
        patience: Patience::new(subscription.claim_after, Instant::now()),
        inbox: Inbox::new(keys.len(), ROOM, subscription.read_ahead_bytes),
        known: Known::default(),
        others: OtherStreams::unknown(&subscription.streams),
        closed_until: None,
        began: Instant::now(),
        sizes: vec![subscription.page_size(); keys.len()],
        again: vec![Id::ZERO; keys.len()],
        seen: vec![None; keys.len()],
        tasks: JoinSet::new(),
        waiting: Vec::new(),
        states: States { store: store.clone(), streams: subscription.streams.clone().into() },
        session: Arc::new(Session::new(
            layout.session(&family, &subscription.group, &subscription.consumer),
            subscription.claim_after,
        )),
        hands: subscription.concurrency,
        parts: parts.min(subscription.concurrency),
        shared: true,
        store,
        subscription,
        observation,
        handler,
        group,
        keys,
        asking: false,
        finishing: 0,
        keeping_house: false,
        claiming: false,
        more_to_claim: false,
        reading: VecDeque::new(),
        waking: None,
        waker: Waker::default(),
        anew: false,
        cannot_read: false,
        halted: false,
        is_name_taken: false,
        hold_off: None,
        beginning: false,
        starved: false,
        full: false,
        busy_since: None,
    };
    driver.run(cancel).await;
}

/// A read that was asked for.
pub(super) struct Reading {
    streams: Vec<usize>,
    /// The entries that each may bring.
    count: usize,
    at_once: bool,
}

#[allow(clippy::struct_excessive_bools, reason = "each says of one kind of task whether it is under way")]
pub(super) struct Driver<H> {
    pub(super) store: EventStore,
    pub(super) subscription: Arc<Subscription>,
    pub(super) observation: Observation,
    pub(super) handler: Arc<H>,
    pub(super) group: Group,
    pub(super) keys: Vec<String>,
    pub(super) cursors: String,
    pub(super) clock: String,
    pub(super) patience: Patience,
    pub(super) inbox: Inbox,
    pub(super) known: Known,
    /// What other consumers of the group read.
    pub(super) others: OtherStreams,
    /// Nothing is handed out before then: this consumer's streams have joined the group.
    pub(super) closed_until: Option<Instant>,
    pub(super) began: Instant,
    /// Per stream: the entries to ask for at a time.
    pub(super) sizes: Vec<PageSize>,
    /// Per stream: up to here what is finished may be delivered again.
    pub(super) again: Vec<Id>,
    /// Per stream: the highest id that was delivered.
    pub(super) seen: Vec<Option<Id>>,
    states: States,
    pub(super) tasks: JoinSet<Step>,
    /// Handled, to be finished with the next call.
    pub(super) waiting: Vec<Finish>,
    /// Free ones.
    pub(super) hands: usize,
    /// Tasks that handle at once where one is too slow.
    pub(super) parts: usize,
    /// One was, when last it was seen.
    pub(super) shared: bool,
    pub(super) asking: bool,
    /// Calls that finish events.
    pub(super) finishing: usize,
    pub(super) keeping_house: bool,
    pub(super) claiming: bool,
    pub(super) more_to_claim: bool,
    /// The reads that are under way, the first one first.
    pub(super) reading: VecDeque<Reading>,
    /// Ends the read under way, because another stream has room.
    pub(super) waking: Option<AbortOnDropHandle<()>>,
    pub(super) waker: Waker,
    /// The next read begins with the pending list.
    pub(super) anew: bool,
    /// The last read failed, which was said.
    pub(super) cannot_read: bool,
    /// The log went back in time: nothing is handed out until a person accepts that.
    pub(super) halted: bool,
    /// Another process has the consumer's name: nothing is read or handed out while that one lives.
    pub(super) is_name_taken: bool,
    pub(super) session: Arc<Session>,
    /// No questions to the server before then: the last one failed.
    pub(super) hold_off: Option<Instant>,
    /// The pending list is being read: what is claimed meanwhile may be missing in it.
    pub(super) beginning: bool,
    /// Handlers are free, and nothing that is held can be handed out or asked about.
    pub(super) starved: bool,
    /// And no more is taken in, which was said.
    pub(super) full: bool,
    /// Every handler has been at work since then; `None` while one is free.
    pub(super) busy_since: Option<Instant>,
}

impl<H: Handler> Driver<H> {
    async fn run(mut self, cancel: CancellationToken) {
        let (ask, requests) = mpsc::channel(reader::AHEAD);
        let (answers, mut reads) = mpsc::channel(1);
        let reader = Arc::new(Reader {
            store: self.store.clone(),
            subscription: self.subscription.clone(),
            keys: self.keys.clone(),
            cursors: self.cursors.clone(),
            clock: self.clock.clone(),
            waker: self.waker.clone(),
            session: self.session.clone(),
        });
        let reader = AbortOnDropHandle::new(tokio::spawn(reader.run(requests, answers)));
        let interval = UPKEEP.min(Patience::interval(self.subscription.claim_after));
        let mut tick = tokio::time::interval(interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // First what the server can work on meanwhile.
            self.finish_what_waits();
            let wake = self.dispatch(Instant::now());
            self.read_on(&ask);
            let has_room = || (0..self.keys.len()).all(|s| self.inbox.room_of(s) >= ROOM / 2);
            if self.more_to_claim && !self.claiming && (self.starved || has_room()) {
                self.keep_house();
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                _ = tick.tick() => self.keep_house(),
                Some(read) = reads.recv() => {
                    self.reading.pop_front();
                    self.waking = None;
                    self.beginning &= matches!(read, Read::New { .. });
                    self.take_in(read);
                }
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    self.step(ended);
                    // All that has ended is looked at before what to do next is.
                    while let Some(ended) = self.tasks.try_join_next() {
                        self.step(ended);
                    }
                }
                () = sleep_until(wake), if wake.is_some() => {}
            }
        }
        drop(ask);
        self.shut_down(reader, reads, tick).await;
    }

    fn read_on(&mut self, ask: &mpsc::Sender<Ask>) {
        if self.is_name_taken {
            return;
        }
        let coming =
            |s| self.reading.iter().filter(|read| read.streams.contains(&s)).map(|read| read.count).sum();
        let coming: Vec<usize> = (0..self.keys.len()).map(coming).collect();
        let streams = self.inbox.readable(&coming, self.starved);
        let at_once = streams.iter().any(|s| self.inbox.may_hold_more(*s));
        if let Some(first) = self.reading.front() {
            let others = (0..self.keys.len()).filter(|s| !first.streams.contains(s));
            let has_room = |s: usize| {
                self.inbox.room_of(s) >= ROOM / 2
                    || (coming[s] > 0 && self.inbox.may_hold_more(s))
                    || (self.starved && streams.contains(&s))
            };
            if self.waking.is_none() && !first.at_once && others.into_iter().any(has_room) {
                // The read may wait for a stream that gets nothing while this one has plenty.
                self.waking = Some(self.wake_reader());
            }
            // Only a backlog is read ahead: any other read would wait, for streams that had room long ago.
            if self.reading.len() >= reader::AHEAD || !at_once || self.anew {
                return;
            }
        }
        if !streams.is_empty() || self.anew {
            let anew = self.anew.then(|| self.seen.clone());
            let begins = anew.is_some();
            let count = PageSize::common(streams.iter().map(|s| self.sizes[*s]));
            let request = Ask { streams: streams.clone(), count, at_once, anew };
            if ask.try_send(request).is_ok() {
                self.beginning |= begins;
                self.inbox.reads_only(&streams, self.subscription.concurrency == 1);
                self.reading.push_back(Reading { streams, count, at_once });
                self.anew = false;
            }
        }
    }

    fn take_in(&mut self, read: Read) {
        match read {
            // Delivered under a name that is another process' now: pending, and that one's to handle.
            Read::New { .. } | Read::Pending { .. } | Read::Failed(_) if self.is_name_taken => {}
            Read::NameTaken => self.give_name_up(),
            Read::New { batches, asked } => {
                let trusted = asked + self.subscription.claim_after;
                for batch in batches {
                    let stream = batch.stream;
                    self.sizes[stream].saw(batch.entries.len(), batch.bytes);
                    let last = batch.entries.last().map(|(id, _)| *id);
                    self.inbox.set_bound(stream, last.filter(|_| batch.more));
                    self.seen[stream] = self.seen[stream].max(last);
                    let again = self.again[stream];
                    self.inbox.insert(stream, batch.entries, |id| (id > again).then_some(trusted));
                }
            }
            Read::Pending { entries, again, streams } => {
                if self.halted {
                    info!(group = self.subscription.group, "the log was accepted, going on");
                }
                if std::mem::take(&mut self.cannot_read) {
                    info!(group = self.subscription.group, "reads again");
                }
                self.halted = false;
                self.observation.set_fault(None);
                self.observation.set_ready(true);
                self.again = again;
                self.known.forget();
                self.others.forget();
                self.learn_streams(&streams);
                let pending: HashSet<Place> =
                    entries.iter().flat_map(|(s, entries)| entries.iter().map(|(id, _)| (*id, *s))).collect();
                for (stream, entries) in entries {
                    self.inbox.insert(stream, entries, |_| None);
                }
                self.inbox.begin_anew(&pending);
                self.keep_house();
            }
            Read::Halted(fault) => self.halt(fault),
            Read::Failed(e) => {
                if !std::mem::replace(&mut self.cannot_read, true) {
                    warn!(group = self.subscription.group, error = e, "cannot read, trying again");
                }
                self.observation.set_ready(false);
                self.observation.set_unknown();
            }
        }
    }

    pub(super) fn halt(&mut self, fault: super::SubscriptionError) {
        if !self.halted {
            error!(error = %fault, "nothing is handled until a person accepts the log as it is");
        }
        self.halted = true;
        self.anew = true;
        self.seen.fill(None);
        self.observation.set_ready(false);
        self.observation.set_fault(Some(fault));
    }

    /// Hands out what may be handled now, as far as there are free hands. Answers when there is more
    /// to do though nothing happens.
    fn dispatch(&mut self, now: Instant) -> Option<Instant> {
        self.starved = false;
        self.note_busy(now);
        if self.halted || self.is_name_taken || self.hands == 0 {
            return None;
        }
        if self.is_closed(now) {
            return self.closed_until;
        }
        let ordered = self.subscription.concurrency == 1;
        if ordered && self.asking {
            return None;
        }
        let may_ask = !self.asking && self.hold_off.is_none_or(|t| t <= now);
        let ask = if may_ask { LOOK.min(4 * self.hands) } else { 0 };
        let ask_again = if may_ask { LOOK } else { 0 };
        let look = Look { go: LOOK.min(TURN * self.parts()), ask, ask_again, ordered };
        let known = |item: &Item| self.known.covers(item) && self.others.are_not_before(item, now);
        let plan = self.inbox.plan(now, look, known);
        // What is handled and not finished yet has nobody to wait for: it is no reason to read on.
        self.starved = may_ask && plan.go.is_empty() && plan.ask.is_empty() && self.waiting.len() < LOOK;
        self.say_when_full();
        for (place, reason) in plan.foreign {
            self.start_park(place, None, Why::Own(reason));
        }
        let mut asked = plan.ask;
        asked.extend(plan.ask_again);
        if !asked.is_empty() {
            self.asking = true;
            asked.sort_by_key(|(place, _)| *place);
            for (place, _) in &asked {
                self.inbox.take(*place);
            }
            let group = self.group.clone();
            self.tasks.spawn(async move {
                let answers = ready::ask(&group, &asked).await.map_err(|e| e.to_string());
                Step::Answered(asked, answers)
            });
        }
        self.hand_out(plan.go);
        plan.wake.into_iter().chain(self.hold_off.filter(|t| *t > now)).min()
    }

    /// Says once that nothing more is taken in though nothing can be done with what is held.
    fn say_when_full(&mut self) {
        let full = self.inbox.is_full().filter(|_| self.starved);
        if let Some(stream) = full.filter(|_| !self.full) {
            let (group, stream) = (&self.subscription.group, &self.subscription.streams[stream]);
            warn!(group, %stream, entries = MOST, "everything held waits for a retry, a running handler or another consumer; reading no further");
        }
        self.full = full.is_some();
    }

    /// Among how many tasks what is handed out is shared: each costs more than many a handler takes.
    fn parts(&self) -> usize {
        if self.shared { self.parts } else { 1 }
    }

    pub(super) fn hand_out(&mut self, events: Vec<(Place, Arc<Item>)>) {
        let turn = events.len().div_ceil(self.parts()).clamp(TURN / 4, TURN);
        let share = self.subscription.concurrency.div_ceil(self.parts());
        let mut events = events.into_iter().peekable();
        while self.hands > 0 && events.peek().is_some() {
            let jobs: Vec<_> = events.by_ref().take(turn).collect();
            for (place, _) in &jobs {
                self.inbox.take(*place);
            }
            let hands = share.min(self.hands).min(jobs.len());
            self.hands -= hands;
            let (handler, states) = (self.handler.clone(), self.states.clone());
            self.tasks.spawn(async move {
                Step::Handled(hand::several(handler, &states, jobs, hands).await, hands)
            });
        }
        // No hand was left for these.
        for (place, _) in events {
            self.inbox.put_back(place);
        }
    }

    pub(super) fn finish_what_waits(&mut self) {
        // Where the order counts what is finished is always a beginning of the log: no call overtakes one that is sent again.
        let at_once = if self.subscription.concurrency == 1 { 1 } else { FINISHING };
        if self.finishing >= at_once || self.waiting.is_empty() {
            return;
        }
        self.finishing += 1;
        let (group, events) = (self.group.clone(), finish::next_call(&mut self.waiting));
        self.tasks.spawn(async move { Step::Finished(group.finish(events).await) });
    }
}

async fn sleep_until(then: Option<Instant>) {
    if let Some(then) = then {
        tokio::time::sleep_until(then.into()).await;
    }
}
