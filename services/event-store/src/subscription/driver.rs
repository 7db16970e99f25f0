//! The loop of a consumer: reads, asks what may be handled, hands out, settles what handlers say.
//! Never blocks on a handler, and never on the server: whatever takes time is a task, and one that
//! ends is a [`Step`].

use super::finish::{self, Finish, Group, Letter, Settled};
use super::hand::{self, Handled};
use super::inbox::{Inbox, Look};
use super::item::{Item, Place};
use super::known::Known;
use super::reader::{self, Ask, Read, Reader, Waker};
use super::ready::{self, Asked};
use super::upkeep::{self, Found, Round, Share};
use super::{Handler, Observation, Outcome, Subscription, backoff};
use crate::{EventStore, Id};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

/// Entries held per stream: several reads, so that handlers never wait for the next one.
const ROOM: usize = reader::BATCH * 4;
/// Events looked at in one go.
const LOOK: usize = 256;
/// Events that one task asks about in turn.
const TURN: usize = 64;
const UPKEEP: Duration = Duration::from_secs(1);
/// Between questions whether an event that another consumer holds is finished.
const WAIT_BASE: Duration = Duration::from_millis(2);
const WAIT_CAP: Duration = Duration::from_millis(50);
const CONFLICT_BASE: Duration = Duration::from_millis(1);
const CONFLICT_CAP: Duration = Duration::from_millis(200);
/// After a question that the server did not answer.
const HOLD_OFF: Duration = Duration::from_millis(100);

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
    };
    let parts = std::thread::available_parallelism().map_or(1, usize::from);
    let driver = Driver {
        cursors: layout.cursors(&family, &subscription.group),
        inbox: Inbox::new(keys.len(), ROOM),
        known: Known::default(),
        again: vec![Id::ZERO; keys.len()],
        seen: vec![None; keys.len()],
        tasks: JoinSet::new(),
        waiting: Vec::new(),
        hands: subscription.concurrency,
        parts: parts.min(subscription.concurrency),
        store,
        subscription,
        observation,
        handler,
        group,
        keys,
        asking: false,
        finishing: false,
        keeping_house: false,
        more_to_claim: false,
        reading: false,
        anew: false,
        halted: false,
        hold_off: None,
    };
    driver.run(cancel).await;
}

/// Something that took time has ended.
enum Step {
    /// Handlers, by a task that occupied so many hands.
    Handled(Vec<Handled>, usize),
    Answered(Asked, Result<Vec<String>, String>),
    /// Outputs of other slots are appended, or not.
    AppendedAhead(Finish, Result<(), Settled>),
    Finished(Vec<(Finish, Settled)>),
    Parked(Place, Settled),
    Looked(Box<Found>),
}

#[allow(clippy::struct_excessive_bools, reason = "each says of one kind of task whether it is under way")]
struct Driver<H> {
    store: EventStore,
    subscription: Arc<Subscription>,
    observation: Observation,
    handler: Arc<H>,
    group: Group,
    keys: Vec<String>,
    cursors: String,
    inbox: Inbox,
    known: Known,
    /// Per stream: up to here what is finished may be delivered again.
    again: Vec<Id>,
    /// Per stream: the highest id that was delivered.
    seen: Vec<Option<Id>>,
    tasks: JoinSet<Step>,
    /// Handled, to be finished with the next call.
    waiting: Vec<Finish>,
    /// Free ones.
    hands: usize,
    /// Tasks that handle at once.
    parts: usize,
    asking: bool,
    finishing: bool,
    keeping_house: bool,
    more_to_claim: bool,
    reading: bool,
    /// The next read begins with the pending list.
    anew: bool,
    /// The log went back in time: nothing is handed out until a person accepts that.
    halted: bool,
    /// No questions to the server before then: the last one failed.
    hold_off: Option<Instant>,
}

impl<H: Handler> Driver<H> {
    async fn run(mut self, cancel: CancellationToken) {
        let waker = Waker::default();
        let (ask, requests) = mpsc::channel(1);
        let (answers, mut reads) = mpsc::channel(1);
        let reader = Reader {
            store: self.store.clone(),
            subscription: self.subscription.clone(),
            keys: self.keys.clone(),
            cursors: self.cursors.clone(),
            waker: waker.clone(),
        };
        let reader = tokio::spawn(reader.run(requests, answers));
        let mut tick = tokio::time::interval(UPKEEP.min(self.subscription.claim_after / 3));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let wake = self.dispatch(Instant::now());
            self.finish_what_waits();
            self.read_on(&ask);
            if self.more_to_claim && (0..self.keys.len()).all(|s| self.inbox.room_of(s) >= ROOM / 2) {
                self.keep_house();
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                _ = tick.tick() => self.keep_house(),
                Some(read) = reads.recv() => { self.reading = false; self.take_in(read); }
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => self.step(ended),
                () = sleep_until(wake), if wake.is_some() => {}
            }
        }
        drop(ask);
        self.shut_down(&waker, reader, reads).await;
    }

    fn read_on(&mut self, ask: &mpsc::Sender<Ask>) {
        if self.reading {
            return;
        }
        let streams = self.inbox.readable();
        if !streams.is_empty() || self.anew {
            let request = Ask { streams, seen: self.seen.clone(), anew: self.anew };
            self.reading = ask.try_send(request).is_ok();
            self.anew &= !self.reading;
        }
    }

    fn take_in(&mut self, read: Read) {
        match read {
            Read::New { batches, asked } => {
                let trusted = asked + self.subscription.claim_after;
                for batch in batches {
                    let stream = batch.stream;
                    let last = batch.entries.last().map(|(id, _)| *id);
                    self.inbox.set_bound(stream, last.filter(|_| batch.more));
                    self.seen[stream] = self.seen[stream].max(last);
                    let again = self.again[stream];
                    self.inbox.insert(stream, batch.entries, |id| (id > again).then_some(trusted));
                }
            }
            Read::Pending { entries, again } => {
                if self.halted {
                    info!(group = self.subscription.group, "the log was accepted, going on");
                }
                self.halted = false;
                self.observation.set_fault(None);
                self.observation.set_ready(true);
                self.again = again;
                self.known.forget();
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
                if self.observation.ready() {
                    warn!(group = self.subscription.group, error = e, "cannot read, trying again");
                }
                self.observation.set_ready(false);
            }
        }
    }

    fn halt(&mut self, fault: super::SubscriptionError) {
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
        if self.halted || self.hands == 0 {
            return None;
        }
        let ordered = self.subscription.concurrency == 1;
        if ordered && self.asking {
            return None;
        }
        let may_ask = !self.asking && self.hold_off.is_none_or(|t| t <= now);
        let ask = if may_ask { LOOK.min(4 * self.hands) } else { 0 };
        let plan = self.inbox.plan(now, Look { go: LOOK, ask, ordered }, &self.known);
        for (place, reason) in plan.foreign {
            self.start_park(place, None, reason);
        }
        if !plan.ask.is_empty() {
            self.asking = true;
            for (place, _) in &plan.ask {
                self.inbox.take(*place);
            }
            let group = self.group.clone();
            self.tasks.spawn(async move {
                let answers = ready::ask(&group, &plan.ask).await.map_err(|e| e.to_string());
                Step::Answered(plan.ask, answers)
            });
        }
        self.hand_out(plan.go);
        plan.wake.into_iter().chain(self.hold_off.filter(|t| *t > now)).min()
    }

    fn hand_out(&mut self, events: Vec<(Place, Arc<Item>)>) {
        let turn = events.len().div_ceil(self.parts).clamp(TURN / 4, TURN);
        let share = self.subscription.concurrency.div_ceil(self.parts);
        let mut events = events.into_iter().peekable();
        while self.hands > 0 && events.peek().is_some() {
            let jobs: Vec<_> = events.by_ref().take(turn).collect();
            for (place, _) in &jobs {
                self.inbox.take(*place);
            }
            let hands = share.min(self.hands).min(jobs.len());
            self.hands -= hands;
            let handler = self.handler.clone();
            self.tasks.spawn(async move { Step::Handled(hand::several(handler, jobs, hands).await, hands) });
        }
        // No hand was left for these.
        for (place, _) in events {
            self.inbox.put_back(place);
        }
    }

    fn step(&mut self, ended: Result<Step, tokio::task::JoinError>) {
        let step = match ended {
            Ok(step) => step,
            Err(e) => {
                // Handlers' panics are caught; what is lost here is claimed back after a while.
                error!(group = self.subscription.group, error = %e, "a task of the consumer failed");
                return;
            }
        };
        match step {
            Step::Handled(handled, hands) => {
                self.hands += hands;
                for one in handled {
                    self.handled(one);
                }
            }
            Step::Answered(asked, answers) => self.answered(asked, answers),
            Step::AppendedAhead(finish, appended) => {
                self.hands += 1;
                match appended {
                    Ok(()) => self.waiting.push(finish),
                    Err(settled) => self.settle(&finish.item, finish.place, settled),
                }
            }
            Step::Finished(finished) => {
                self.finishing = false;
                for (finish, settled) in finished {
                    self.hands += usize::from(!finish.outputs.is_empty());
                    self.settle(&finish.item, finish.place, settled);
                }
            }
            Step::Parked(place, settled) => self.settle_letter(place, settled),
            Step::Looked(found) => self.look_after(*found),
        }
    }

    fn handled(&mut self, handled: Handled) {
        let (job, outcome) = match handled {
            Handled::Unbegun(place) => return self.inbox.put_back(place),
            Handled::Waiting(job, running) => {
                self.hands -= 1;
                self.tasks.spawn(async move { Step::Handled(hand::carry_on(job, running).await, 1) });
                return;
            }
            Handled::Ended(job, outcome) => (job, outcome),
        };
        let hand::Job { place, item, began } = job;
        self.observation.took(place.1, began.elapsed());
        match outcome {
            Outcome::Done(outputs) => {
                let (outputs, in_one_step) = self.group.derived(&item.event, outputs);
                self.hands -= usize::from(!outputs.is_empty());
                if in_one_step {
                    self.waiting.push(Finish { place, item, outputs });
                } else {
                    let group = self.group.clone();
                    self.tasks.spawn(async move {
                        let appended = group.append_ahead(outputs).await;
                        Step::AppendedAhead(Finish { place, item, outputs: Vec::new() }, appended)
                    });
                }
            }
            Outcome::Skip(reason) => {
                debug!(id = %place.0, stream = %item.event.stream, reason, "skipped");
                self.waiting.push(Finish { place, item, outputs: Vec::new() });
            }
            Outcome::Retry(reason) => self.settle(&item, place, Settled::Failed(reason)),
            Outcome::Park(reason) => self.settle(&item, place, Settled::Hopeless(reason)),
        }
    }

    fn answered(&mut self, asked: Asked, answers: Result<Vec<String>, String>) {
        self.asking = false;
        let answers = match answers {
            Ok(answers) => answers,
            Err(e) => {
                debug!(group = self.subscription.group, error = e, "cannot ask what may be handled");
                self.hold_off = Some(Instant::now() + HOLD_OFF);
                for (place, _) in asked {
                    self.inbox.put_back(place);
                }
                return;
            }
        };
        let mut go = Vec::new();
        for ((place, item), answer) in asked.into_iter().zip(answers) {
            match answer.as_str() {
                "go" => {
                    item.before.iter().for_each(|b| self.known.learn(&b.field, b.id));
                    go.push((place, item));
                }
                "gap" => {
                    info!(group = self.subscription.group, id = %place.0, stream = %item.event.stream, "an earlier event was trimmed or taken out of the group by hand; going on without it");
                    go.push((place, item));
                }
                "already" => self.waiting.push(Finish { place, item, outputs: Vec::new() }),
                "behind" => {
                    self.start_park(place, Some(item), "behind a dead letter of its entity".to_owned());
                }
                "parked" => self.start_park(place, Some(item), String::new()),
                "fenced" => self.settle(&item, place, Settled::Fenced),
                _ => {
                    let waits = self.inbox.waited(place);
                    let pause = backoff::pause(WAIT_BASE, WAIT_CAP, waits, backoff::jitter(place.0, waits));
                    self.inbox.wait_until(place, Instant::now() + pause);
                }
            }
        }
        if self.halted {
            for (place, _) in go {
                self.inbox.put_back(place);
            }
        } else {
            self.hand_out(go);
        }
    }

    fn finish_what_waits(&mut self) {
        if self.finishing || self.waiting.is_empty() {
            return;
        }
        self.finishing = true;
        let (group, events) = (self.group.clone(), finish::next_call(&mut self.waiting));
        self.tasks.spawn(async move { Step::Finished(group.finish(events).await) });
    }

    fn start_park(&mut self, place: Place, item: Option<Arc<Item>>, reason: String) {
        self.inbox.take(place);
        let (failed, since) = self.inbox.failures(place);
        // What queues behind another was never tried itself.
        let letter = Letter {
            place,
            item,
            reason,
            attempts: failed,
            failing_for: since.map_or(Duration::ZERO, |t| t.elapsed()),
        };
        let group = self.group.clone();
        self.tasks.spawn(async move { Step::Parked(place, group.park(letter).await) });
    }

    fn settle(&mut self, item: &Arc<Item>, place: Place, settled: Settled) {
        let now = Instant::now();
        match settled {
            Settled::Finished => {
                self.known.finished(item);
                self.inbox.remove(place);
                self.observation.count_handled(place.1);
            }
            Settled::Conflict => {
                let waits = self.inbox.waited(place);
                let pause =
                    backoff::pause(CONFLICT_BASE, CONFLICT_CAP, waits, backoff::jitter(place.0, waits));
                self.inbox.wait_until(place, now + pause);
                self.observation.count_conflicted(place.1);
            }
            Settled::Hopeless(reason) => {
                self.inbox.failed(place, now);
                self.start_park(place, Some(item.clone()), reason);
            }
            Settled::Failed(reason) => {
                let attempt = self.inbox.failed(place, now);
                if self.subscription.park_after.is_some_and(|most| attempt >= most) {
                    return self.start_park(place, Some(item.clone()), reason);
                }
                self.try_again(place, attempt, &reason);
            }
            other => self.settle_letter(place, other),
        }
    }

    fn try_again(&mut self, place: Place, attempt: u32, reason: &str) {
        let (base, cap) = (self.subscription.retry_base, self.subscription.retry_cap);
        let pause = backoff::pause(base, cap, attempt.saturating_sub(1), backoff::jitter(place.0, attempt));
        warn!(group = self.subscription.group, id = %place.0, attempt, pause_ms = u64::try_from(pause.as_millis()).unwrap_or(0), reason, "to be tried again");
        self.inbox.wait_until(place, Instant::now() + pause);
        self.observation.count_retried(place.1);
    }

    /// How an entry ended that was not handled by this consumer.
    fn settle_letter(&mut self, place: Place, settled: Settled) {
        let stream = &self.subscription.streams[place.1];
        match settled {
            Settled::Parked => {
                warn!(group = self.subscription.group, %stream, id = %place.0, "parked");
                self.inbox.remove(place);
                self.observation.count_parked(place.1);
            }
            Settled::Fenced => {
                info!(group = self.subscription.group, %stream, id = %place.0, "another consumer has taken this entry over");
                self.inbox.remove(place);
            }
            Settled::Failed(reason) => {
                let attempt = self.inbox.failed(place, Instant::now());
                self.try_again(place, attempt, &reason);
            }
            _ => self.inbox.remove(place),
        }
    }

    fn keep_house(&mut self) {
        if self.keeping_house || self.halted || !self.observation.ready() {
            return;
        }
        self.keeping_house = true;
        let share = |stream| Share {
            held: self.inbox.held_of(stream),
            seen: self.seen[stream],
            room: self.inbox.room_of(stream),
        };
        let round = Round {
            store: self.store.clone(),
            subscription: self.subscription.clone(),
            keys: self.keys.clone(),
            cursors: self.cursors.clone(),
            shares: (0..self.keys.len()).map(share).collect(),
        };
        self.tasks.spawn(async move { Step::Looked(Box::new(round.run().await)) });
    }

    fn look_after(&mut self, found: Found) {
        self.keeping_house = false;
        self.more_to_claim = found.more;
        if let Some(fault) = found.halted {
            return self.halt(fault);
        }
        if let Some(e) = found.error {
            // What was claimed may be lost with the answer: the pending list tells.
            debug!(group = self.subscription.group, error = e, "upkeep failed, trying again");
            self.anew = true;
        } else {
            self.observation.set_states(found.states);
        }
        for (stream, ids, until) in found.kept {
            self.inbox.trust(stream, &ids, until);
        }
        for place in found.lost {
            self.inbox.lost(place);
        }
        for (stream, entries) in found.claimed {
            let claimed = self.inbox.insert(stream, entries, |_| None);
            if claimed > 0 {
                info!(group = self.subscription.group, stream = %self.subscription.streams[stream], entries = claimed, "claimed what another consumer left");
                self.observation.count_claimed(stream, claimed);
            }
        }
    }

    /// Stops reading, lets handlers end within the bound, hands the rest back.
    async fn shut_down(
        mut self,
        waker: &Waker,
        mut reader: tokio::task::JoinHandle<()>,
        mut reads: mpsc::Receiver<Read>,
    ) {
        self.observation.set_ready(false);
        // Nothing is handed out from here on.
        self.halted = true;
        let deadline = tokio::time::Instant::now() + self.subscription.shutdown;
        let stop = async {
            let mut nudge = tokio::time::interval(Duration::from_millis(20));
            loop {
                tokio::select! {
                    _ = &mut reader => break,
                    // What the last read brought stays pending for this consumer and is handed back below.
                    Some(_) = reads.recv() => {}
                    _ = nudge.tick() => waker.wake(&self.store, &self.keys).await,
                }
            }
        };
        if tokio::time::timeout_at(deadline, stop).await.is_err() {
            reader.abort();
        }
        loop {
            self.finish_what_waits();
            match tokio::time::timeout_at(deadline, self.tasks.join_next()).await {
                Ok(Some(ended)) => self.step(ended),
                Ok(None) | Err(_) => break,
            }
        }
        self.tasks.shutdown().await;
        let leave = upkeep::leave(&self.store, &self.subscription, &self.keys);
        if tokio::time::timeout(Duration::from_secs(2), leave).await.is_err() {
            warn!(
                group = self.subscription.group,
                "the server does not answer; what is in hand will be claimed later"
            );
        }
    }
}

async fn sleep_until(then: Option<Instant>) {
    if let Some(then) = then {
        tokio::time::sleep_until(then.into()).await;
    }
}
