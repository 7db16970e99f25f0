//! A consumer's housekeeping, about once a second: keeps its own entries alive, moves the durable
//! cursor, looks how the group stands, claims what dead consumers left.

use super::item::{Content, Entries};
use super::{GroupState, Subscription, SubscriptionError};
use crate::entry;
use crate::error::ReadError;
use crate::{EventStore, Id, functions};
use redis::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CLAIM_BATCH: usize = 100;
/// An idle consumer without pending entries is removed after so many claim times.
const FORGET_AFTER_CLAIM_TIMES: u128 = 20;

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
    /// How many more entries there is room for.
    pub(super) room: usize,
}

/// What the housekeeping needs for one round.
pub(super) struct Round {
    pub(super) store: EventStore,
    pub(super) subscription: Arc<Subscription>,
    pub(super) keys: Vec<String>,
    pub(super) cursors: String,
    /// Per stream of the subscription.
    pub(super) shares: Vec<Share>,
}

/// What a round brought.
#[derive(Default)]
pub(super) struct Found {
    pub(super) claimed: Vec<(usize, Entries)>,
    /// There may be more to claim than there was room for.
    pub(super) more: bool,
    pub(super) states: Vec<GroupState>,
    /// What was kept alive, per stream, and until when nobody can claim it.
    pub(super) kept: Vec<(usize, Vec<Id>, Instant)>,
    /// What was held and is not this consumer's any more.
    pub(super) lost: Vec<(Id, usize)>,
    pub(super) halted: Option<SubscriptionError>,
    pub(super) error: Option<String>,
}

impl Round {
    pub(super) async fn run(self) -> Found {
        let mut found = Found::default();
        // First all that is alive, then what the dead left: a slow claim costs nobody an entry. A
        // stream that fails must not keep the others from their turn.
        for number in 0..self.keys.len() {
            if let Err(e) = self.keep(number, &mut found).await {
                found.error = Some(e.to_string());
            }
        }
        for number in 0..self.keys.len() {
            if found.halted.is_none()
                && let Err(e) = self.claim(number, &mut found).await
            {
                found.error = Some(e.to_string());
            }
        }
        found
    }

    async fn keep(&self, number: usize, found: &mut Found) -> Result<(), ReadError> {
        let (s, share) = (&self.subscription, &self.shares[number]);
        let (stream, asked) = (&s.streams[number], Instant::now());
        let forget = s.claim_after.as_millis() * FORGET_AFTER_CLAIM_TIMES;
        let mut args = vec![
            s.group.clone(),
            s.consumer.clone(),
            stream.to_string(),
            forget.to_string(),
            optional(share.seen),
        ];
        args.extend(share.held.iter().map(ToString::to_string));
        let keys = [self.keys[number].clone(), self.cursors.clone()];
        let words =
            entry::words(functions::call(&mut self.store.connection(), "upkeep", &keys, &args).await?);
        match words.first().map(String::as_str) {
            Some("ok") => {}
            Some("back") => {
                found.halted = Some(SubscriptionError::went_back(&s.group, stream, &words[1..]));
                return Ok(());
            }
            _ => return Err(ReadError::malformed(format!("{stream}: the server answered {words:?}"))),
        }
        let number_at = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        let oldest = words.get(3).and_then(|id| id.parse::<Id>().ok());
        found.states.push(GroupState {
            stream: stream.clone(),
            pending: number_at(1).unwrap_or(0),
            lag: number_at(2),
            oldest_pending: oldest
                .zip(number_at(4))
                .map(|(id, now)| Duration::from_millis(now.saturating_sub(id.ms))),
        });
        let lost: Vec<Id> = words.iter().skip(5).filter_map(|id| id.parse().ok()).collect();
        found.lost.extend(lost.into_iter().map(|id| (id, number)));
        found.kept.push((number, share.held.clone(), asked + s.claim_after));
        Ok(())
    }

    /// Claims what has been idle too long, as far as there is room: what one cannot handle soon is
    /// better claimed by another.
    async fn claim(&self, number: usize, found: &mut Found) -> Result<(), ReadError> {
        let s = &self.subscription;
        let mut room = self.shares[number].room;
        let mut from = "0-0".to_owned();
        while room > 0 {
            let claim: Value = redis::cmd("XAUTOCLAIM")
                .arg(&self.keys[number])
                .arg(&s.group)
                .arg(&s.consumer)
                .arg(s.claim_after.as_millis().to_string())
                .arg(&from)
                .arg("COUNT")
                .arg(room.clamp(10, CLAIM_BATCH))
                .query_async(&mut self.store.connection())
                .await?;
            let Value::Array(parts) = claim else { break };
            let mut parts = parts.into_iter();
            from = parts.next().and_then(entry::text).unwrap_or_default();
            let entries = parts.next().map(entry::parse_entries).unwrap_or_default();
            room = room.saturating_sub(entries.len());
            if !entries.is_empty() {
                let decoded = entries.iter().map(|raw| (raw.id, Content::of(raw, number, &s.streams)));
                found.claimed.push((number, decoded.collect()));
            }
            if from.is_empty() || from == "0-0" {
                return Ok(());
            }
        }
        found.more = true;
        Ok(())
    }
}

/// Hands back what is still pending for this consumer and leaves the group.
pub(super) async fn leave(store: &EventStore, subscription: &Subscription, keys: &[String]) {
    let args = [subscription.group.clone(), subscription.consumer.clone()];
    for key in keys {
        if let Err(e) =
            functions::call(&mut store.connection(), "leave", std::slice::from_ref(key), &args).await
        {
            tracing::warn!(error = %e, "cannot leave the group; its entries will be claimed later");
            return;
        }
    }
}
