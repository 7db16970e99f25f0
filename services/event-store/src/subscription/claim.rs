//! Takes over what dead consumers left and what living ones handed back. Apart from the signs of
//! life, which must never wait for a claim.

use super::Subscription;
use super::item::{self, Entries};
use super::upkeep::ServerTime;
use crate::error::ReadError;
use crate::page::PageSize;
use crate::{EventStore, entry, functions};
use redis::Value;
use std::sync::Arc;
use std::time::Duration;

/// Entries claimed with one call at most.
pub(super) const BATCH: usize = 100;

/// What a claim needs for one round.
pub(super) struct Claim {
    pub(super) store: EventStore,
    pub(super) subscription: Arc<Subscription>,
    pub(super) keys: Vec<String>,
    pub(super) cursors: String,
    /// Per stream of the subscription: how many more entries there is room for.
    pub(super) rooms: Vec<usize>,
    /// Per stream: the entries to ask for at a time.
    pub(super) sizes: Vec<PageSize>,
    /// How long an entry must have been idle; where a consumer that holds entries has a longer claim time, so long.
    pub(super) least_idle: Duration,
    /// After this time by the server's clock nothing is claimed.
    pub(super) until: ServerTime,
}

/// What a claim brought.
#[derive(Default)]
pub(super) struct Claimed {
    pub(super) entries: Vec<(usize, Entries)>,
    /// There may be more to claim than there was room for.
    pub(super) more: bool,
    pub(super) error: Option<String>,
}

impl Claim {
    pub(super) async fn run(self) -> Claimed {
        let mut claimed = Claimed::default();
        let mut left = self.subscription.read_ahead_bytes;
        // A stream that fails must not keep the others from their turn.
        for number in 0..self.keys.len() {
            if let Err(e) = self.stream(number, &mut left, &mut claimed).await {
                claimed.error = Some(e.to_string());
            }
        }
        claimed
    }

    /// As far as there is room: what one cannot handle soon is better claimed by another.
    /// States beyond the bytes that are `left` are left out.
    async fn stream(&self, number: usize, left: &mut usize, claimed: &mut Claimed) -> Result<(), ReadError> {
        let s = &self.subscription;
        let mut room = self.rooms[number];
        let mut size = self.sizes[number];
        let mut from = "0-0".to_owned();
        while room > 0 {
            let args = [
                s.group.clone(),
                s.consumer.clone(),
                self.least_idle.as_millis().to_string(),
                from,
                room.max(10).min(size.count()).to_string(),
                self.until.0.to_string(),
                s.streams[number].to_string(),
            ];
            let keys = [self.keys[number].clone(), self.cursors.clone()];
            let answer = functions::call(&mut self.store.connection(), "claim", &keys, &args).await?;
            let Value::Array(parts) = answer else { break };
            let mut parts = parts.into_iter();
            from = parts.next().and_then(entry::text).unwrap_or_default();
            if from == "late" {
                return Ok(());
            }
            let entries = parts.next().map(entry::parse_entries).unwrap_or_default();
            room = room.saturating_sub(entries.len());
            size.saw(entries.len(), entry::size_of(&entries));
            if !entries.is_empty() {
                claimed.entries.push((number, item::decoded_within(left, entries, number, &s.streams)));
            }
            if from.is_empty() || from == "0-0" {
                return Ok(());
            }
        }
        claimed.more = true;
        Ok(())
    }
}
