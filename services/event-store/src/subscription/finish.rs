//! Finishing an event: its outputs, its position and its acknowledgement in one step. Asks until it
//! is answered, since an answer lost on the wire says nothing about what was done.

use super::Subscription;
use crate::append::Batch;
use crate::error::{AppendError, AppendErrorKind};
use crate::{Event, EventStore, NewEvent};
use std::time::Duration;
use uuid::Uuid;

/// How an event ended at this consumer.
#[derive(Debug)]
pub(super) enum Settled {
    /// Finished, here or earlier.
    Finished,
    /// Now a dead letter.
    Parked,
    /// Pending for another consumer, or for none: not ours any more.
    Fenced,
    /// An output conflicts with its expected version: the handler must see the new state.
    Conflict,
    /// To be tried again.
    Failed(String),
    /// To be parked.
    Hopeless(String),
}

/// Everything that finishing needs to know about the group.
#[derive(Clone)]
pub(super) struct Group {
    pub(super) store: EventStore,
    pub(super) subscription: std::sync::Arc<Subscription>,
    pub(super) positions: String,
    pub(super) dead: String,
    pub(super) parked: String,
}

impl Group {
    /// Finishes `event` with these outputs.
    pub(super) async fn finish(&self, event: &Event, outputs: Vec<NewEvent>) -> Settled {
        let outputs: Vec<NewEvent> = outputs
            .into_iter()
            .enumerate()
            .map(|(i, o)| derived(o, i, event, &self.subscription.group))
            .collect();
        loop {
            match self.try_finish(event, &outputs).await {
                Ok(settled) => return settled,
                Err(e) => match e.kind() {
                    AppendErrorKind::Conflict { .. } => return Settled::Conflict,
                    AppendErrorKind::Unavailable => {
                        tracing::debug!(error = %e, id = %event.id, "finishing again");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    AppendErrorKind::Refused => return Settled::Failed(e.to_string()),
                    AppendErrorKind::Invalid | AppendErrorKind::DuplicateId => {
                        return Settled::Hopeless(format!("the handler's outputs: {e}"));
                    }
                },
            }
        }
    }

    async fn try_finish(&self, event: &Event, outputs: &[NewEvent]) -> Result<Settled, AppendError> {
        let layout = self.store.layout();
        let mut keys = vec![layout.stream(&event.stream), self.positions.clone()];
        let mut spec = String::new();
        let mut batch = None;
        let in_one_step = layout.is_plain() || outputs.iter().all(|o| o.kind.family == event.stream.family());
        if in_one_step && !outputs.is_empty() {
            let mut built = Batch::new(layout, self.store.config().dedup_window, outputs, keys)?;
            keys = std::mem::take(&mut built.keys);
            spec = std::mem::take(&mut built.spec);
            batch = Some(built);
        } else {
            // Slots differ: derived ids make the append idempotent, then the entry is finished.
            for family in outputs.chunk_by(|a, b| a.kind.family == b.kind.family) {
                self.store.append(family.to_vec()).await?;
            }
        }
        let args = [
            self.subscription.group.clone(),
            self.subscription.consumer.clone(),
            event.id.to_string(),
            event.stream.to_string(),
            ordering_keys(event),
            spec,
        ];
        let words = self.store.call_until_answered("finish", &keys, &args).await?;
        match (words.first().map(String::as_str), batch) {
            (Some("ok" | "already"), _) => Ok(Settled::Finished),
            (Some("fenced"), _) => Ok(Settled::Fenced),
            (_, Some(batch)) => batch.answer(&words).map(|_| Settled::Finished),
            (_, None) => {
                Err(AppendError::new(AppendErrorKind::Refused, format!("the server answered {words:?}")))
            }
        }
    }

    /// Makes an entry a dead letter. `keys` are the ordering keys that it holds up from now on.
    pub(super) async fn park(&self, what: Letter<'_>) -> Settled {
        let keys = [what.stream_key, self.dead.clone(), self.parked.clone()];
        let args = [
            self.subscription.group.clone(),
            self.subscription.consumer.clone(),
            what.id.to_string(),
            what.stream,
            what.keys,
            what.reason.to_owned(),
            what.attempts.to_string(),
            what.failing_for.as_millis().to_string(),
        ];
        match self.store.call_until_answered("park", &keys, &args).await {
            Ok(words) if words.first().is_some_and(|w| w == "ok") => Settled::Parked,
            // The answer to the first call may have been lost: then the entry is no longer pending.
            Ok(_) => Settled::Fenced,
            Err(e) => Settled::Failed(e.to_string()),
        }
    }
}

/// What is parked.
pub(super) struct Letter<'a> {
    pub(super) id: crate::Id,
    pub(super) stream: String,
    pub(super) stream_key: String,
    pub(super) keys: String,
    pub(super) reason: &'a str,
    pub(super) attempts: u32,
    pub(super) failing_for: Duration,
}

/// The ordering keys of an event as JSON.
pub(super) fn ordering_keys(event: &Event) -> String {
    serde_json::json!(event.after.keys().collect::<Vec<_>>()).to_string()
}

/// An output with what it takes from the event that caused it. Its id is a function of that event,
/// so that the same output is the same event whoever appends it, however often.
fn derived(mut output: NewEvent, index: usize, source: &Event, group: &str) -> NewEvent {
    let name = format!("{group}/{index}");
    output.event_id.get_or_insert_with(|| Uuid::new_v5(&source.event_id, name.as_bytes()));
    output.causation_id.get_or_insert_with(|| source.event_id.to_string());
    output
        .correlation_id
        .get_or_insert_with(|| source.correlation_id.clone().unwrap_or_else(|| source.event_id.to_string()));
    if output.traceparent.is_none() {
        output.traceparent.clone_from(&source.traceparent);
    }
    output
}
