//! Finishing events: the outputs, the position and the acknowledgement of each in one step, several
//! events with one call. Asks until it is answered, since an answer lost on the wire says nothing
//! about what was done.

use super::Subscription;
use super::item::{Item, Place};
use super::streams::Other;
use crate::batch::{Answer, Batch, event_ids};
use crate::error::{AppendError, AppendErrorKind};
use crate::words::Words;
use crate::{Event, EventStore, NewEvent, entry};
use redis::{ToRedisArgs, Value};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Events finished with one call at most.
const EVENTS: usize = 256;
/// Bounds of the outputs of one call, so that it holds the server up for about a millisecond; those of one event may be more.
const WITH_OUTPUTS: usize = 32;
const OUTPUTS: usize = 128;
const OUTPUT_BYTES: usize = 256 * 1024;

/// How an event ended at this consumer.
#[derive(Debug)]
pub(super) enum Settled {
    /// Finished, here or earlier.
    Finished,
    /// Now a dead letter.
    Parked,
    /// Pending for another consumer, or for none: not ours any more.
    Fenced,
    /// An output conflicts with its expected version, for this reason: the handler must see the new state.
    Conflict(String),
    /// The outputs have ids of the handler's own, and all of these are known: are they those of other events?
    Known,
    /// The handler failed: to be asked again.
    Failed(String),
    /// The server refused for a reason of its own: to be finished again, without asking the handler.
    Refused(String),
    /// To be parked.
    Hopeless(String),
    /// Not parked: the letter that was in its way has gone back. To be asked about again.
    Free,
}

/// An event that was handled and is to be finished.
#[derive(Debug)]
pub(super) struct Finish {
    pub(super) place: Place,
    pub(super) item: Arc<Item>,
    pub(super) outputs: Vec<NewEvent>,
    /// The handler gave one of them an id.
    pub(super) own_ids: bool,
}

impl Finish {
    /// What has no outputs, or none that are still to be appended.
    pub(super) fn without_outputs(place: Place, item: Arc<Item>) -> Self {
        Self { place, item, outputs: Vec::new(), own_ids: false }
    }
}

/// Everything that finishing needs to know about the group.
#[derive(Clone)]
pub(super) struct Group {
    pub(super) store: EventStore,
    pub(super) subscription: Arc<Subscription>,
    /// The streams' keys, in the order of the subscription.
    pub(super) keys: Vec<String>,
    pub(super) positions: String,
    pub(super) dead: String,
    pub(super) letters: String,
    pub(super) cursors: String,
    /// The streams that other consumers of the group read and this one does not.
    pub(super) others: Arc<[Other]>,
    /// The names of all streams of the group, each between spaces.
    pub(super) stream_names: Arc<str>,
}

/// Takes as many of what waits as one call may hold, in the order of ids.
pub(super) fn next_call(waiting: &mut Vec<Finish>) -> Vec<Finish> {
    waiting.sort_by_key(|f| f.place);
    let (mut with_outputs, mut outputs, mut bytes) = (0, 0, 0);
    let count = waiting
        .iter()
        .take(EVENTS)
        .take_while(|f| {
            with_outputs += usize::from(!f.outputs.is_empty());
            outputs += f.outputs.len();
            bytes += f.outputs.iter().map(NewEvent::size).sum::<usize>();
            let fits = with_outputs <= WITH_OUTPUTS && outputs <= OUTPUTS && bytes <= OUTPUT_BYTES;
            // What is too much together goes by itself.
            fits || f.outputs.is_empty() || with_outputs == 1
        })
        .count();
    waiting.drain(..count).collect()
}

impl Group {
    /// Finishes these events (in the order of their ids); an answer for each.
    pub(super) async fn finish(&self, events: Vec<Finish>) -> Vec<(Finish, Settled)> {
        match self.call(&events).await {
            Ok(settled) => {
                let (mut finished, mut again) = (Vec::with_capacity(events.len()), Vec::new());
                for (event, settled) in events.into_iter().zip(settled) {
                    match settled {
                        Some(settled) => finished.push((event, settled)),
                        None => again.push(event),
                    }
                }
                if !again.is_empty() {
                    self.store.forget_settings();
                    finished.extend(Box::pin(self.finish(again)).await);
                }
                finished
            }
            // Whatever it is that the server refuses, it may be one of them only.
            Err(_) if events.len() > 1 => {
                let mut settled = Vec::with_capacity(events.len());
                for event in events {
                    settled.extend(Box::pin(self.finish(vec![event])).await);
                }
                settled
            }
            Err(e) => events.into_iter().map(|event| (event, Settled::Refused(e.to_string()))).collect(),
        }
    }

    /// `None` for an event whose outputs were laid out by settings that have changed meanwhile.
    async fn call(&self, events: &[Finish]) -> Result<Vec<Option<Settled>>, AppendError> {
        let config = self.store.config();
        let family = self.subscription.streams.first().map_or("", |s| s.family());
        let mut keys = Words::from_iter([
            &self.positions,
            &config.layout.clock(family),
            &config.layout.settings(family),
        ]);
        self.keys.iter().for_each(|key| keys.push(key));
        let (mut others, mut records) = (Words::default(), 0);
        let mut args = Words::default();
        // What cannot be appended as it is takes no part in the call.
        let mut parts = Vec::with_capacity(events.len());
        for Finish { place: (id, stream), item, outputs, own_ids } in events {
            let batch = match outputs.as_slice() {
                [] => None,
                outputs => match self.store.lay_out(outputs, event_ids(outputs)).await {
                    Ok(batch) => Some(batch),
                    Err(e) => {
                        parts.push(Err(settled(&e)));
                        continue;
                    }
                },
            };
            let outputs = u8::from(batch.is_some()) + u8::from(batch.is_some() && *own_ids);
            args.push_display(format_args!("{} {outputs} {}", stream + 4, item.marks.len()));
            args.push_id(*id);
            item.fields().for_each(|field| args.push_parts(field));
            if let Some(batch) = &batch {
                records += batch.records.len() as u64;
                keys.extend(&batch.records);
                others.extend(&batch.keys);
                args.extend(&batch.args);
            }
            parts.push(Ok(batch));
        }
        let mut answers = Answers::Each(Vec::new().into_iter());
        if parts.iter().any(Result::is_ok) {
            keys.extend(&others);
            let mut all = Words::from_iter([&self.subscription.group, &self.subscription.consumer]);
            all.push_number(crate::settings::milliseconds(config.dedup_window));
            all.push_number(self.keys.len() as u64);
            all.push_number(records);
            all.extend(&args);
            answers = match self.until_answered("finish", &keys, &all).await? {
                Value::Array(list) => Answers::Each(list.into_iter()),
                Value::BulkString(word) if word == b"ok" => Answers::AllFinished,
                other => return Err(crate::batch::unexpected(&entry::words(other))),
            };
        }
        let of = |part: Result<Option<Batch>, Settled>| match part {
            Ok(batch) => answers.next(batch.as_ref()),
            Err(settled) => Some(settled),
        };
        Ok(parts.into_iter().map(of).collect())
    }

    /// The outputs with ids and causes, and whether they can be appended in the step that finishes
    /// their event: on Redis Cluster those of another slot cannot.
    pub(super) fn derived(&self, event: &Event, outputs: Vec<NewEvent>) -> (Vec<NewEvent>, bool) {
        let outputs: Vec<NewEvent> = outputs
            .into_iter()
            .enumerate()
            .map(|(i, o)| derived(o, i, event, &self.subscription.group))
            .collect();
        let in_one_step =
            self.store.layout().is_plain() || outputs.iter().all(|o| o.kind.family == event.stream.family());
        (outputs, in_one_step)
    }

    /// Appends outputs of other slots, before their event is finished without any: their derived ids
    /// make that one append, however often it is done.
    pub(super) async fn append_ahead(&self, outputs: Vec<NewEvent>, own_ids: bool) -> Result<(), Settled> {
        for family in outputs.chunk_by(|a, b| a.kind.family == b.kind.family) {
            loop {
                match self.store.append_outputs(family, own_ids).await {
                    Ok(()) => break,
                    Err(e) if is_unknown(&e) => pause(&e).await,
                    Err(e) => return Err(settled(&e)),
                }
            }
        }
        Ok(())
    }

    /// Whether these events, whose ids are known, are those that have the ids.
    pub(super) async fn are_there(&self, outputs: &[NewEvent]) -> Result<(), Settled> {
        loop {
            match self.store.are_appended(outputs).await {
                Ok(()) => return Ok(()),
                Err(e) if is_unknown(&e) => pause(&e).await,
                Err(e) => return Err(settled(&e)),
            }
        }
    }

    pub(super) async fn until_answered(
        &self,
        function: &str,
        keys: impl ToRedisArgs + Copy,
        args: impl ToRedisArgs + Copy,
    ) -> Result<Value, AppendError> {
        loop {
            match self.store.call_value(function, keys, args).await {
                Err(e) if e.kind() == AppendErrorKind::Unavailable => pause(&e).await,
                answer => return answer,
            }
        }
    }
}

/// Is it to be asked again? (No answer, or fewer copies than were asked for.)
fn is_unknown(e: &AppendError) -> bool {
    matches!(e.kind(), AppendErrorKind::Unavailable | AppendErrorKind::Unknown { .. })
}

async fn pause(e: &AppendError) {
    tracing::debug!(error = %e, "no answer, asking again");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// What the server said of the events of a call.
enum Answers {
    AllFinished,
    Each(std::vec::IntoIter<Value>),
}

impl Answers {
    fn next(&mut self, batch: Option<&Batch>) -> Option<Settled> {
        match self {
            Self::AllFinished => Some(Settled::Finished),
            Self::Each(answers) => verdict(batch, answers.next().unwrap_or_default()),
        }
    }
}

fn verdict(batch: Option<&Batch>, answer: Value) -> Option<Settled> {
    let words = entry::words(answer);
    Some(match (words.first().map(String::as_str), batch) {
        (Some("ok" | "already"), _) => Settled::Finished,
        (Some("fenced"), _) => Settled::Fenced,
        (Some("error"), _) => Settled::Refused(words.get(1).cloned().unwrap_or_default()),
        (_, Some(batch)) => {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            match batch.answer(&words) {
                Ok(answer) => match answer? {
                    Answer::Appended(_) => Settled::Finished,
                    Answer::Known(_) => Settled::Known,
                },
                Err(e) => settled(&e),
            }
        }
        (_, None) => Settled::Refused(format!("the server answered {words:?}")),
    })
}

fn settled(e: &AppendError) -> Settled {
    match e.kind() {
        AppendErrorKind::Conflict { .. } => Settled::Conflict(format!("the handler's outputs: {e}")),
        AppendErrorKind::Invalid | AppendErrorKind::DuplicateId | AppendErrorKind::TooLarge { .. } => {
            Settled::Hopeless(format!("the handler's outputs: {e}"))
        }
        _ => Settled::Refused(e.to_string()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::RawEntry;
    use crate::{Id, Kind};
    use serde_json::json;

    fn finish(ms: u64, outputs: usize, bytes: usize) -> Finish {
        let stream = Kind::new("order").stream("updated");
        let fields = [
            ("event_id", "6d3ff6f4-8a0d-4ae6-9ff8-cf1d46c0e4a1"),
            ("entity", "{\"id\":\"7\"}"),
            ("version", "1"),
        ];
        let fields = fields.map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).to_vec();
        let event = RawEntry { id: Id::new(ms, 0), fields }.into_event(&stream).unwrap();
        let item = Arc::new(Item::new(event, 0, &[stream]));
        let output = NewEvent::put(Kind::new("mail"), "sent", "1", &json!({ "text": "x".repeat(bytes) }));
        Finish { place: (Id::new(ms, 0), 0), item, outputs: vec![output; outputs], own_ids: false }
    }

    fn calls(mut waiting: Vec<Finish>) -> Vec<usize> {
        std::iter::from_fn(|| Some(next_call(&mut waiting).len()).filter(|count| *count > 0)).collect()
    }

    #[test]
    fn a_call_is_bounded_by_events_by_outputs_and_by_their_bytes() {
        assert_eq!(calls((0..600).map(|n| finish(n, 0, 0)).collect()), [256, 256, 88]);
        assert_eq!(calls((0..70).map(|n| finish(n, 1, 10)).collect()), [32, 32, 6]);
        assert_eq!(calls((0..4).map(|n| finish(n, 60, 10)).collect()), [2, 2]);
        assert_eq!(calls((0..4).map(|n| finish(n, 1, 200_000)).collect()), [1, 1, 1, 1]);
        // The outputs of one event are one step, however many they are.
        assert_eq!(calls(vec![finish(1, 1_000, 10), finish(2, 0, 0), finish(3, 1, 10)]), [2, 1]);
    }
}
