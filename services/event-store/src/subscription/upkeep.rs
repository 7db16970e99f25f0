//! A consumer's housekeeping, about once a second: claims what dead consumers left, keeps its own
//! entries alive, moves the durable cursor, looks how the group stands.

use super::{GroupState, Subscription};
use crate::entry::{self, RawEntry};
use crate::error::ReadError;
use crate::{EventStore, functions};
use redis::Value;
use std::collections::HashMap;
use std::sync::Arc;

const CLAIM_BATCH: usize = 100;
/// An idle consumer without pending entries is removed after so many claim times.
const FORGET_AFTER_CLAIM_TIMES: u128 = 20;

/// What the housekeeping needs for one round.
pub(super) struct Round {
    pub(super) store: EventStore,
    pub(super) subscription: Arc<Subscription>,
    pub(super) keys: Vec<String>,
    pub(super) cursors: String,
    /// Ids in hand, per stream.
    pub(super) held: Vec<Vec<String>>,
}

/// What a round brought.
#[derive(Default)]
pub(super) struct Found {
    pub(super) claimed: Vec<(usize, Vec<RawEntry>)>,
    pub(super) states: Vec<GroupState>,
    pub(super) error: Option<String>,
}

impl Round {
    pub(super) async fn run(self) -> Found {
        let mut found = Found::default();
        for number in 0..self.keys.len() {
            if let Err(e) = self.stream(number, &mut found).await {
                found.error = Some(e.0);
                break;
            }
        }
        found
    }

    async fn stream(&self, number: usize, found: &mut Found) -> Result<(), ReadError> {
        let s = &self.subscription;
        let key = &self.keys[number];
        let connection = &mut self.store.connection();
        let idle = s.claim_after.as_millis();
        let args = [
            s.group.clone(),
            s.consumer.clone(),
            s.streams[number].to_string(),
            (idle * FORGET_AFTER_CLAIM_TIMES).to_string(),
            serde_json::json!(self.held[number]).to_string(),
        ];
        functions::call(connection, "upkeep", &[key.clone(), self.cursors.clone()], &args).await?;
        let claim: Value = redis::cmd("XAUTOCLAIM")
            .arg(key)
            .arg(&s.group)
            .arg(&s.consumer)
            .arg(idle.to_string())
            .arg("0")
            .arg("COUNT")
            .arg(CLAIM_BATCH)
            .query_async(connection)
            .await?;
        if let Value::Array(parts) = claim {
            let entries = parts.into_iter().nth(1).map(entry::parse_entries).unwrap_or_default();
            if !entries.is_empty() {
                found.claimed.push((number, entries));
            }
        }
        let groups: Vec<HashMap<String, Value>> =
            redis::cmd("XINFO").arg("GROUPS").arg(key).query_async(connection).await?;
        let number_of = |group: &HashMap<String, Value>, name: &str| match group.get(name) {
            Some(Value::Int(n)) => u64::try_from(*n).ok(),
            _ => None,
        };
        let ours = |group: &&HashMap<String, Value>| {
            group.get("name").is_some_and(|n| entry::text(n.clone()).as_deref() == Some(s.group.as_str()))
        };
        if let Some(group) = groups.iter().find(ours) {
            found.states.push(GroupState {
                stream: s.streams[number].clone(),
                lag: number_of(group, "lag"),
                pending: number_of(group, "pending").unwrap_or(0),
            });
        }
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
