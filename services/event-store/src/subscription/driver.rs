//! The loop of a consumer: reads, asks what may be handled, spawns handlers, settles what they
//! say. Never blocks on a handler.

use super::finish::{Group, Letter, Settled, ordering_keys};
use super::inbox::{Content, Inbox, Place};
use super::reader::{self, Read, Reader, Waker};
use super::upkeep::{self, Found, Round};
use super::{Handler, Observation, Outcome, Subscription, backoff};
use crate::entry::{self, RawEntry};
use crate::{Event, EventStore, functions};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

/// Entries held per stream: several reads, so that handlers never wait for the next one.
const ROOM: usize = reader::BATCH * 3;
const UPKEEP: Duration = Duration::from_secs(1);
/// Between questions whether an event that another consumer holds is finished.
const WAIT_BASE: Duration = Duration::from_millis(2);
const WAIT_CAP: Duration = Duration::from_millis(50);
const CONFLICT_BASE: Duration = Duration::from_millis(1);
const CONFLICT_CAP: Duration = Duration::from_millis(200);

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
        positions: layout.positions(&family, &subscription.group),
        dead: layout.dead(&family, &subscription.group),
        parked: layout.parked(&family, &subscription.group),
    };
    let driver = Driver {
        cursors: layout.cursors(&family, &subscription.group),
        inbox: Inbox::new(keys.len(), ROOM),
        tasks: JoinSet::new(),
        upkeep: JoinSet::new(),
        store,
        subscription,
        observation,
        handler,
        group,
        keys,
        hold_off: None,
    };
    driver.run(cancel).await;
}

struct Driver<H> {
    store: EventStore,
    subscription: Arc<Subscription>,
    observation: Observation,
    handler: Arc<H>,
    group: Group,
    keys: Vec<String>,
    cursors: String,
    inbox: Inbox,
    tasks: JoinSet<(Place, Settled)>,
    upkeep: JoinSet<Found>,
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
        let mut reading = false;
        let mut tick = tokio::time::interval(UPKEEP.min(self.subscription.claim_after / 2));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let now = Instant::now();
            self.dispatch(now).await;
            if !reading {
                let streams = self.inbox.readable();
                reading = !streams.is_empty() && ask.try_send(streams).is_ok();
            }
            let wakeup = self.next_wakeup(now);
            tokio::select! {
                () = cancel.cancelled() => break,
                Some(read) = reads.recv() => { reading = false; self.take_in(read); }
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => self.settle(ended),
                Some(found) = self.upkeep.join_next(), if !self.upkeep.is_empty() => self.look_after(found),
                _ = tick.tick() => self.start_upkeep(),
                () = tokio::time::sleep_until(wakeup.into()) => {}
            }
        }
        drop(ask);
        self.shut_down(&waker, reader, reads).await;
    }

    fn next_wakeup(&self, now: Instant) -> Instant {
        self.hold_off.or_else(|| self.inbox.next_wakeup(now)).unwrap_or(now + Duration::from_hours(1))
    }

    fn take_in(&mut self, read: Read) {
        match read {
            Read::New(batches) => {
                for (stream, entries) in batches {
                    let full = entries.len() >= reader::BATCH;
                    self.inbox.set_bound(stream, entries.last().filter(|_| full).map(|e| e.id));
                    self.insert(stream, &entries);
                }
            }
            Read::Pending(batches) => {
                self.observation.set_ready(true);
                for (stream, entries) in batches {
                    self.insert(stream, &entries);
                }
            }
            Read::Failed(e) => {
                if self.observation.ready() {
                    warn!(group = self.subscription.group, error = e, "cannot read, trying again");
                }
                self.observation.set_ready(false);
            }
        }
    }

    fn insert(&mut self, stream: usize, entries: &[RawEntry]) {
        let name = &self.subscription.streams[stream];
        for raw in entries {
            self.inbox.insert(stream, raw, || raw.decode(name));
        }
    }

    /// Hands out what may be handled now, as far as there are free hands.
    async fn dispatch(&mut self, now: Instant) {
        if self.hold_off.is_some_and(|t| t > now) {
            return;
        }
        self.hold_off = None;
        let free = self.subscription.concurrency.saturating_sub(self.tasks.len());
        if free == 0 {
            return;
        }
        let mut events = Vec::new();
        for (place, content) in self.inbox.candidates(now, free) {
            match content {
                Content::Event(event) => events.push((place, event)),
                Content::Foreign(reason) => self.start_park(place, None, reason),
            }
        }
        if events.is_empty() {
            return;
        }
        match self.ask_ready(&events).await {
            Ok(answers) => {
                for ((place, event), answer) in events.into_iter().zip(answers) {
                    self.hand_out(place, event, &answer, now);
                }
            }
            Err(e) => {
                debug!(error = %e, "cannot ask what may be handled");
                self.hold_off = Some(now + Duration::from_millis(100));
            }
        }
    }

    fn hand_out(&mut self, place: Place, event: Arc<Event>, answer: &str, now: Instant) {
        match answer {
            "go" => self.start_handler(place, event),
            "already" => {
                let group = self.group.clone();
                self.inbox.take(place);
                self.tasks.spawn(async move { (place, group.finish(&event, Vec::new()).await) });
            }
            "behind" => self.start_park(place, Some(&event), "behind a dead letter of its entity".to_owned()),
            _ => {
                let waits = self.inbox.waited(place);
                let pause = backoff::pause(WAIT_BASE, WAIT_CAP, waits, backoff::jitter(place.0, waits));
                self.inbox.wait_until(place, now + pause);
            }
        }
    }

    async fn ask_ready(&self, events: &[(Place, Arc<Event>)]) -> Result<Vec<String>, redis::RedisError> {
        let streams: Vec<String> = self.subscription.streams.iter().map(ToString::to_string).collect();
        let question: Vec<_> = events
            .iter()
            .map(|(_, event)| {
                let before: Vec<[String; 3]> = event
                    .after
                    .iter()
                    .flat_map(|(key, last)| last.iter().map(move |(stream, id)| (key, stream, id)))
                    .filter(|(_, stream, _)| streams.contains(stream))
                    .map(|(key, stream, id)| [key.clone(), stream.clone(), id.to_string()])
                    .collect();
                serde_json::json!({
                    "id": event.id.to_string(),
                    "stream": event.stream.to_string(),
                    "keys": event.after.keys().collect::<Vec<_>>(),
                    "before": before,
                })
            })
            .collect();
        let keys = [self.group.positions.clone(), self.group.parked.clone()];
        let args = [serde_json::Value::Array(question).to_string()];
        functions::call(&mut self.store.connection(), "ready", &keys, &args).await.map(entry::words)
    }

    fn start_handler(&mut self, place: Place, event: Arc<Event>) {
        self.inbox.take(place);
        let (handler, group) = (self.handler.clone(), self.group.clone());
        let (attempts, since) = self.inbox.failures(place);
        self.tasks.spawn(async move {
            // A handler of its own task: a panic in it is an attempt that failed, not the end of the consumer.
            let asked = event.clone();
            let asked = tokio::spawn(async move { handler.handle(&asked).await });
            let settled = match AbortOnDropHandle::new(asked).await {
                Ok(Outcome::Done(outputs)) => group.finish(&event, outputs).await,
                Ok(Outcome::Skip(reason)) => {
                    debug!(id = %event.id, stream = %event.stream, reason, "skipped");
                    group.finish(&event, Vec::new()).await
                }
                Ok(Outcome::Retry(reason)) => Settled::Failed(reason),
                Ok(Outcome::Park(reason)) => Settled::Hopeless(reason),
                Err(e) => Settled::Failed(format!("the handler panicked: {e}")),
            };
            match settled {
                Settled::Hopeless(reason) => {
                    let letter = letter(&group, &event, &reason, attempts + 1, since);
                    (place, group.park(letter).await)
                }
                settled => (place, settled),
            }
        });
    }

    fn start_park(&mut self, place: Place, event: Option<&Arc<Event>>, reason: String) {
        self.inbox.take(place);
        let group = self.group.clone();
        let event = event.cloned();
        let (stream, stream_key) =
            (self.subscription.streams[place.1].to_string(), self.keys[place.1].clone());
        self.tasks.spawn(async move {
            let keys = event.as_deref().map_or_else(|| "[]".to_owned(), ordering_keys);
            let letter = Letter {
                id: place.0,
                stream,
                stream_key,
                keys,
                reason: &reason,
                attempts: 0,
                failing_for: Duration::ZERO,
            };
            (place, group.park(letter).await)
        });
    }

    fn settle(&mut self, ended: Result<(Place, Settled), tokio::task::JoinError>) {
        let Ok((place, settled)) = ended else { return };
        let now = Instant::now();
        match settled {
            Settled::Finished => {
                self.inbox.remove(place);
                self.observation.count_handled();
            }
            Settled::Parked => {
                warn!(group = self.subscription.group, stream = %self.subscription.streams[place.1], id = %place.0, "parked");
                self.inbox.remove(place);
                self.observation.count_parked();
            }
            Settled::Fenced => {
                info!(group = self.subscription.group, id = %place.0, "another consumer has taken this entry over");
                self.inbox.remove(place);
            }
            Settled::Conflict => {
                let waits = self.inbox.waited(place);
                let pause =
                    backoff::pause(CONFLICT_BASE, CONFLICT_CAP, waits, backoff::jitter(place.0, waits));
                self.inbox.wait_until(place, now + pause);
            }
            Settled::Failed(reason) | Settled::Hopeless(reason) => {
                let attempt = self.inbox.failed(place, now);
                let (base, cap) = (self.subscription.retry_base, self.subscription.retry_cap);
                let pause =
                    backoff::pause(base, cap, attempt.saturating_sub(1), backoff::jitter(place.0, attempt));
                warn!(group = self.subscription.group, id = %place.0, attempt, pause_ms = u64::try_from(pause.as_millis()).unwrap_or(0), reason, "to be tried again");
                self.inbox.wait_until(place, now + pause);
                self.observation.count_retried();
            }
        }
    }

    fn start_upkeep(&mut self) {
        if self.upkeep.is_empty() && self.observation.ready() {
            let round = Round {
                store: self.store.clone(),
                subscription: self.subscription.clone(),
                keys: self.keys.clone(),
                cursors: self.cursors.clone(),
                held: (0..self.keys.len()).map(|s| self.inbox.held_of(s)).collect(),
            };
            self.upkeep.spawn(round.run());
        }
    }

    fn look_after(&mut self, found: Result<Found, tokio::task::JoinError>) {
        let Ok(found) = found else { return };
        if let Some(e) = found.error {
            debug!(group = self.subscription.group, error = e, "upkeep failed, trying again");
        } else {
            self.observation.set_states(found.states);
        }
        for (stream, entries) in found.claimed {
            info!(group = self.subscription.group, stream = %self.subscription.streams[stream], entries = entries.len(), "claimed what another consumer left");
            self.observation.count_claimed(entries.len());
            self.insert(stream, &entries);
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
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, self.tasks.join_next()).await {
            self.settle(ended);
        }
        self.tasks.shutdown().await;
        self.upkeep.shutdown().await;
        let leave = upkeep::leave(&self.store, &self.subscription, &self.keys);
        if tokio::time::timeout(Duration::from_secs(2), leave).await.is_err() {
            warn!(
                group = self.subscription.group,
                "the server does not answer; what is in hand will be claimed later"
            );
        }
    }
}

fn letter<'a>(
    group: &Group,
    event: &Event,
    reason: &'a str,
    attempts: u32,
    since: Option<Instant>,
) -> Letter<'a> {
    Letter {
        id: event.id,
        stream: event.stream.to_string(),
        stream_key: group.store.layout().stream(&event.stream),
        keys: ordering_keys(event),
        reason,
        attempts,
        failing_for: since.map_or(Duration::ZERO, |t| t.elapsed()),
    }
}
