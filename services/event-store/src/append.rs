//! Appending: a batch of events goes to the writer, and an answer that was lost on the wire is asked for
//! again. Never writes anything by another way than the append function, and never uses a clock of its own.

use crate::batch::{self, Answer, Appended, Batch, duplicate, event_ids};
use crate::deadline::{LastError, answered_by};
use crate::error::{AppendError, AppendErrorKind, ReadError, ReadErrorKind};
use crate::event::{CacheStep, NewEvent};
use crate::record::Record;
use crate::writer::Job;
use crate::{Durability, EventStore, connection, entry, functions};
use redis::{ToRedisArgs, Value};
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tracing::Instrument;
use uuid::Uuid;

/// Writers that a batch is handed to when they end with their runtimes, one after the other.
const WRITERS: usize = 3;

/// The pauses between questions: from 10 ms, doubled, at most half a second.
#[derive(Debug)]
pub(crate) struct Waiting(Duration);

impl Default for Waiting {
    fn default() -> Self {
        Self(Duration::from_millis(10))
    }
}

impl Waiting {
    pub(crate) fn next_pause(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(Duration::from_millis(500));
        pause
    }
}

impl EventStore {
    /// Appends a batch: all of it or nothing, in one step on the server. It holds as many events and bytes as
    /// [`crate::Config::batch_limit`] permits.
    ///
    /// An answer lost on the wire is asked for again until [`crate::Config::append_deadline`]; the
    /// event ids make that one append. By then it answers, whatever the server does. Dropping the future leaves open
    /// whether it is appended.
    ///
    /// ```
    /// use event_store::{AppendErrorKind, Config, EventStore, Expected, Kind, NewEvent};
    /// use serde_json::json;
    ///
    /// const ACCOUNT: Kind = Kind::new("account");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let redis = event_store::testing::Redis::start();
    /// # let store = EventStore::connect(Config::new(redis.url())).await?;
    ///
    /// let opened = NewEvent::put(ACCOUNT, "opened", "ada", &json!({ "id": "ada", "cents": 0 }));
    /// let appended = store.append(vec![opened.expect(Expected::None)]).await?;
    /// assert_eq!(appended[0].version, 1);
    ///
    /// let late = NewEvent::put(ACCOUNT, "opened", "ada", &json!({ "id": "ada", "cents": 7 }));
    /// let error = store.append(vec![late.expect(Expected::None)]).await.unwrap_err();
    /// let AppendErrorKind::Conflict { actual, .. } = error.kind() else { panic!("{error}") };
    /// assert_eq!(actual, Some(1));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn append(&self, events: Vec<NewEvent>) -> Result<Vec<Appended>, AppendError> {
        self.append_with(events, self.config().durability).await
    }

    /// Appends a batch and waits for other copies of it than [`crate::Config::durability`] says.
    pub async fn append_with(
        &self,
        events: Vec<NewEvent>,
        durability: Durability,
    ) -> Result<Vec<Appended>, AppendError> {
        let stream = |event: &NewEvent| tracing::field::display(event.stream());
        let span = tracing::debug_span!("append", events = events.len(), stream = events.first().map(stream));
        // Boxed, and of no named type: callers' futures hold this one, often several functions deep.
        let append: Pin<Box<dyn Future<Output = Result<Vec<Appended>, AppendError>> + Send + '_>> =
            Box::pin(self.append_all(events, durability).instrument(span));
        append.await
    }

    async fn append_all(
        &self,
        events: Vec<NewEvent>,
        durability: Durability,
    ) -> Result<Vec<Appended>, AppendError> {
        let deadline = self.deadline(durability);
        let (answer, confirmed) = self.submit(&events, durability, deadline).await?;
        let appended = match answer {
            Answer::Appended(appended) => {
                self.count_appended(&events);
                appended
            }
            Answer::Known(event_ids) => {
                answered_by(deadline, LastError::default(), self.remember(&events, &event_ids)).await?
            }
        };
        if confirmed < durability.wanted() {
            return Err(AppendError::unknown(appended, durability.wanted(), confirmed));
        }
        Ok(appended)
    }

    /// Appends what a handler returned. An id that is known already is that of an earlier attempt at
    /// the same event, which may have seen another state: the first append stands. Only where the handler chose it
    /// (`own_ids`) it may be that of another event, which is an error.
    pub(crate) async fn append_outputs(
        &self,
        outputs: &[NewEvent],
        own_ids: bool,
    ) -> Result<(), AppendError> {
        let durability = self.config().durability;
        let (answer, confirmed) = self.submit(outputs, durability, self.deadline(durability)).await?;
        match answer {
            Answer::Appended(_) => self.count_appended(outputs),
            Answer::Known(event_ids) if own_ids => drop(self.remember(outputs, &event_ids).await?),
            Answer::Known(_) => {}
        }
        if confirmed < durability.wanted() {
            return Err(AppendError::unknown(Vec::new(), durability.wanted(), confirmed));
        }
        Ok(())
    }

    /// Whether events with ids that are known are those that were appended with them; an error when another was.
    pub(crate) async fn are_appended(&self, events: &[NewEvent]) -> Result<(), AppendError> {
        let ids: Vec<Uuid> = events.iter().filter_map(|event| event.event_id).collect();
        self.remember(events, &ids).await.map(drop)
    }

    pub(crate) fn count_appended(&self, events: &[NewEvent]) {
        for event in events {
            self.config().metrics.appended(&event.stream(), 1);
        }
    }

    /// When an append that begins now is answered at the latest. Waiting for copies comes on top: it begins when the
    /// server has answered.
    fn deadline(&self, durability: Durability) -> Instant {
        Instant::now() + self.config().append_deadline + durability.timeout()
    }

    /// The answer, and how many copies have confirmed it.
    async fn submit(
        &self,
        events: &[NewEvent],
        durability: Durability,
        deadline: Instant,
    ) -> Result<(Answer, u32), AppendError> {
        let ids = event_ids(events);
        let last_error = LastError::default();
        // The settings, its turn in the line, a connection of its own and the answer: whichever the server does not give.
        answered_by(deadline, last_error.clone(), async {
            let mut ended = 0;
            while ended < WRITERS {
                let batch = self.lay_out(events, ids.clone()).await?;
                let (answer, answered) = oneshot::channel();
                let lane = self.lanes().lane(durability).await?;
                let last_error = last_error.clone();
                let sent = lane.send(Job { batch, durability, deadline, last_error, answer }).await;
                let told = if sent.is_ok() { answered.await.ok() } else { None };
                let Some(told) = told else {
                    // The runtime that the writer was started on has ended, maybe after the batch was sent. Another writer
                    // is asked: the event ids make it one append.
                    ended += 1;
                    continue;
                };
                let told = told?;
                match told.answer {
                    Some(answer) => return Ok((answer, told.confirmed)),
                    None => self.forget_settings(),
                }
            }
            let message =
                "the runtime that it was sent on has ended: append again with the same event ids on another one";
            Err(AppendError::new(AppendErrorKind::Unavailable, message))
        })
        .await
    }

    /// Checks events and lays them out by the settings that the store has.
    pub(crate) async fn lay_out(&self, events: &[NewEvent], ids: Vec<Uuid>) -> Result<Batch, AppendError> {
        let limit = self.config().batch_limit;
        let family = batch::check(self.layout(), limit, events)?;
        let settings = self.agreed(family, events.iter().map(|event| event.kind)).await?;
        Batch::new(self.layout(), limit, events, ids, &settings)
    }

    /// What was answered when these events were appended before; an error when an id was used for another
    /// event. The log knows it: nothing is kept in memory for this rare question.
    async fn remember(&self, events: &[NewEvent], ids: &[Uuid]) -> Result<Vec<Appended>, AppendError> {
        let mut appended = Vec::with_capacity(ids.len());
        for (index, (event, event_id)) in events.iter().zip(ids).enumerate() {
            let found = self.find(event, *event_id).await;
            let found = found.map_err(|e| {
                let passing = e.kind() == ReadErrorKind::Unavailable;
                let kind = if passing { AppendErrorKind::Unavailable } else { AppendErrorKind::Refused };
                AppendError::new(kind, e.to_string())
            })?;
            appended.push(found.ok_or_else(|| duplicate(index))?);
        }
        Ok(appended)
    }

    /// Walks back through the entity's events in the event's stream, from its last one there.
    async fn find(&self, event: &NewEvent, event_id: Uuid) -> Result<Option<Appended>, ReadError> {
        let (kind, id) = (event.kind, event.entity_id.as_str());
        let (key, stream) = (kind.ordering_key(id), event.stream());
        let text: Option<String> = redis::cmd("GET")
            .arg(self.layout().record(kind.family, &key))
            .query_async(&mut self.reads())
            .await?;
        let record = text.and_then(|text| Record::parse(&key, &text)).unwrap_or_default();
        let mut at = record.chain.get(&stream.to_string()).copied();
        while let Some(id) = at {
            let Some(raw) = self.entry(&stream, id).await? else { break };
            let Ok(found) = raw.decode(&stream) else { break };
            if found.event_id == event_id {
                let same = found.entity_type == kind.name
                    && found.entity_id == event.entity_id
                    && found.removed == (event.cache == CacheStep::Remove)
                    && event.entity.as_ref().is_ok_and(|body| raw.lossy("entity") == *body);
                return Ok(same.then_some(Appended { id, version: found.version, event_id }));
            }
            at = found.after.chain(&key).and_then(|chain| chain.get(&stream.to_string()).copied());
        }
        Ok(None)
    }

    /// As [`Self::call_value`], for functions that answer texts.
    pub(crate) async fn call_until_answered(
        &self,
        function: &str,
        keys: impl ToRedisArgs,
        args: impl ToRedisArgs,
    ) -> Result<Vec<String>, AppendError> {
        self.call_value(function, keys, args).await.map(entry::words)
    }

    /// Calls a function again after lost answers. For functions that are idempotent only.
    pub(crate) async fn call_value(
        &self,
        function: &str,
        keys: impl ToRedisArgs,
        args: impl ToRedisArgs,
    ) -> Result<Value, AppendError> {
        let mut connection = self.connection();
        let command = functions::command(&connection, function, keys, args);
        let deadline = Instant::now() + self.config().append_deadline;
        let (mut waiting, last_error) = (Waiting::default(), LastError::default());
        answered_by(deadline, last_error.clone(), async {
            loop {
                let answer: Result<Value, _> = functions::send(&mut connection, &command).await;
                let pause = waiting.next_pause();
                match answer {
                    Ok(value) => return Ok(value),
                    Err(e) if connection::is_passing(&e) && Instant::now() + pause < deadline => {
                        tracing::debug!(error = %e, function, "no answer, asking again");
                        last_error.set(&e);
                        tokio::time::sleep(pause).await;
                    }
                    Err(e) if connection::is_passing(&e) => {
                        return Err(AppendError::new(AppendErrorKind::Unavailable, e.to_string()));
                    }
                    Err(e) => return Err(AppendError::new(AppendErrorKind::Refused, e.to_string())),
                }
            }
        })
        .await
    }
}
