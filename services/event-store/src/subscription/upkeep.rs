//! A consumer's signs of life, about once a second: keeps its own entries alive, moves the durable
//! cursor, looks how the group stands and which streams it reads. Never claims anything, which may take long.

use super::register;
use super::session::Session;
use super::standstill::Progress;
use super::streams::{StreamList, UnreadStream};
use super::{GroupState, Subscription, SubscriptionError};
use crate::entry;
use crate::error::ReadError;
use crate::{EventStore, Id, functions};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An idle consumer without pending entries is removed after so many claim times.
const FORGET_AFTER_CLAIM_TIMES: u128 = 20;

/// Ids kept alive, or handed back, with one call at most.
const PART: usize = 1_000;

/// An id as an argument that may be missing.
pub(super) fn optional(id: Option<Id>) -> String {
    id.map(|id| id.to_string()).unwrap_or_default()
}

/// What the housekeeping needs to know of one stream.
#[derive(Clone, Debug)]
pub(super) struct Share {
    /// The ids held, ascending.
    pub(super) held: Vec<Id>,
    /// The highest id that this consumer was given.
    pub(super) seen: Option<Id>,
}

/// Milliseconds by the server's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerTime(pub(super) u64);

/// What the housekeeping needs for one round.
pub(super) struct Round {
    pub(super) store: EventStore,
    pub(super) subscription: Arc<Subscription>,
    pub(super) keys: Vec<String>,
    pub(super) cursors: String,
    pub(super) session: Arc<Session>,
    /// Per stream of the subscription.
    pub(super) shares: Vec<Share>,
    /// Looks for streams of the group that nobody reads.
    pub(super) looks_for_unread: bool,
}

/// Whose a consumer's name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// This process'.
    Own,
    /// That of another process.
    Taken,
}

/// What a round brought.
#[derive(Default)]
pub(super) struct Found {
    /// When the signs of life were asked for, and when the server saw the last of them; `None` when it
    /// has not seen all.
    pub(super) kept_at: Option<(Instant, ServerTime)>,
    pub(super) states: Vec<GroupState>,
    /// How the group goes on, per stream.
    pub(super) progress: Vec<Progress>,
    /// What was kept alive, per stream, and until when nobody can claim it.
    pub(super) kept: Vec<(usize, Vec<Id>, Instant)>,
    /// What was held and is not this consumer's any more.
    pub(super) lost: Vec<(Id, usize)>,
    /// The streams that the group reads; `None` when the server did not say.
    pub(super) streams: Option<StreamList>,
    /// Those that nobody reads; `None` when nobody looked for them.
    pub(super) unread: Option<Vec<UnreadStream>>,
    pub(super) halted: Option<SubscriptionError>,
    /// Whose the consumer's name is; `None` when the server has not said it.
    pub(super) name: Option<Name>,
    pub(super) error: Option<String>,
}

impl Round {
    pub(super) async fn run(self) -> Found {
        let mut found = Found::default();
        match register::register(&self.store, &self.subscription, &self.cursors).await {
            Ok(list) => found.streams = Some(list),
            Err(e) => found.error = Some(e.to_string()),
        }
        let (asked, mut seen) = (Instant::now(), None);
        // A stream that fails must not keep the others from their turn.
        for number in 0..self.keys.len() {
            match self.keep(number, &mut found).await {
                Ok(time) => seen = Some(time),
                Err(e) => found.error = Some(e.to_string()),
            }
        }
        if found.error.is_none() && found.halted.is_none() && found.name != Some(Name::Taken) {
            found.kept_at = seen.map(|time| (asked, time));
        }
        if let Some(list) = found.streams.as_ref().filter(|_| self.looks_for_unread) {
            found.unread = Some(register::unread(&self.store, &self.subscription, list).await);
        }
        found
    }

    /// Keeps what is held of a stream alive, a part with each call, so that no call takes long. The last one says how
    /// the group stands.
    async fn keep(&self, number: usize, found: &mut Found) -> Result<ServerTime, ReadError> {
        let held = &self.shares[number].held;
        let whole = held.len() - held.len() % PART;
        for part in held[..whole].chunks(PART) {
            self.part(number, part, found).await?;
        }
        let (time, looked) = self.part(number, &held[whole..], found).await?;
        if let Some((state, progress)) = looked {
            found.states.push(state);
            found.progress.push(progress);
        }
        Ok(time)
    }

    async fn part(
        &self,
        number: usize,
        held: &[Id],
        found: &mut Found,
    ) -> Result<(ServerTime, Option<(GroupState, Progress)>), ReadError> {
        let s = &self.subscription;
        let (stream, asked) = (&s.streams[number], Instant::now());
        let forget = s.claim_after.as_millis() * FORGET_AFTER_CLAIM_TIMES;
        let mut args = vec![
            s.group.clone(),
            s.consumer.clone(),
            stream.to_string(),
            forget.to_string(),
            optional(self.shares[number].seen),
            self.session.id.clone(),
            self.session.alive_ms(),
        ];
        args.extend(held.iter().map(ToString::to_string));
        let keys = [self.keys[number].clone(), self.cursors.clone(), self.session.key.clone()];
        let words =
            entry::words(functions::call(&mut self.store.connection(), "upkeep", &keys, &args).await?);
        found.name.get_or_insert(Name::Own);
        match words.first().map(String::as_str) {
            Some("ok") => {}
            Some("taken") => {
                found.name = Some(Name::Taken);
                return Ok((ServerTime(0), None));
            }
            Some("back") => {
                found.halted = Some(SubscriptionError::went_back(&s.group, stream, &words[1..]));
                return Ok((ServerTime(0), None));
            }
            _ => return Err(ReadError::malformed(format!("{stream}: the server answered {words:?}"))),
        }
        let number_at = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        let oldest = words.get(3).and_then(|id| id.parse::<Id>().ok());
        let now = number_at(4).unwrap_or(0);
        let state = GroupState {
            stream: stream.clone(),
            pending: number_at(1).unwrap_or(0),
            lag: number_at(2),
            oldest_pending: oldest.map(|id| Duration::from_millis(now.saturating_sub(id.ms))),
        };
        let holder = words.get(6).cloned().unwrap_or_default();
        let progress = Progress {
            quiet: Duration::from_millis(now.saturating_sub(number_at(5).unwrap_or(now))),
            lowest: oldest.map(|id| ((id, number), holder)),
        };
        let lost = words.iter().skip(7).filter_map(|id| id.parse().ok());
        found.lost.extend(lost.map(|id: Id| (id, number)));
        found.kept.push((number, held.to_vec(), asked + s.claim_after));
        Ok((ServerTime(now), Some((state, progress))))
    }
}

/// Hands back what is still pending for this consumer and leaves the group.
pub(super) async fn leave(
    store: &EventStore,
    subscription: &Subscription,
    session: &Session,
    keys: &[String],
    cursors: &str,
) {
    for (key, stream) in keys.iter().zip(&subscription.streams) {
        let mut from = "-".to_owned();
        loop {
            let args = [
                subscription.group.clone(),
                subscription.consumer.clone(),
                from,
                PART.to_string(),
                session.id.clone(),
                stream.to_string(),
            ];
            let keys = [key.clone(), session.key.clone(), cursors.to_owned()];
            let answer = functions::call(&mut store.connection(), "leave", &keys, &args).await;
            let words = match answer {
                Ok(answer) => entry::words(answer),
                Err(e) => {
                    tracing::warn!(error = %e, "cannot leave the group; its entries will be claimed later");
                    return;
                }
            };
            match words.as_slice() {
                [_, count, last] if *count == PART.to_string() => from = format!("({last}"),
                _ => break,
            }
        }
    }
}
