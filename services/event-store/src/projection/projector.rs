//! The writing side: builds a version from the log, follows the log, and makes the version the
//! active one when it has caught up.

use super::observe::{Interrupted, State, Status};
use super::{Projection, ProjectionObservation, View, Write, parse_position};
use crate::error::{ProjectionError, ReadError};
use crate::replay::EVENTS;
use crate::{Event, EventStore, Id};
use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Events applied in one step.
const STEP: usize = 100;
/// For so long a version counts as kept up to date after its last sign of life.
const ALIVE: Duration = Duration::from_secs(30);
/// Between two looks whether the version may become the active one.
const LOOK: Duration = Duration::from_millis(10);
/// The first pause before the log is followed again, and the longest one.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_CAP: Duration = Duration::from_secs(1);

/// Keeps a projection up to date.
#[derive(Debug)]
pub struct Projector {
    store: EventStore,
    projection: Projection,
    status: watch::Sender<Status>,
}

impl EventStore {
    /// A projector of this projection.
    ///
    /// ```
    /// # use event_store::{Config, EventStore, Kind, NewEvent};
    /// use event_store::{CancellationToken, Projection, Write};
    /// # use serde_json::json;
    /// # use std::time::Duration;
    /// const ACCOUNT: Kind = Kind::new("account");
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let redis = event_store::testing::Redis::start();
    /// # let store = EventStore::connect(Config::new(redis.url())).await?;
    /// let projector = store.project(Projection::new("owners", 1).streams([ACCOUNT.stream("opened")]));
    /// let (view, cancel) = (projector.view(), CancellationToken::new());
    /// let until = cancel.clone();
    /// let running = tokio::spawn(async move {
    ///     let owner = |event: &event_store::Event| {
    ///         let value = event.entity["owner"].to_string();
    ///         vec![Write::HashSet { key: "owners".into(), field: event.entity_id.clone(), value }]
    ///     };
    ///     projector.run(owner, until).await
    /// });
    ///
    /// let opened = NewEvent::put(ACCOUNT, "opened", "a1", &json!({ "id": "a1", "owner": "Ada" }));
    /// store.append(vec![opened]).await?;
    /// view.wait_until(store.head().await?, Duration::from_secs(10)).await?;
    /// assert_eq!(view.hash_get("owners", &["a1"]).await?, [Some(r#""Ada""#.to_owned())]);
    /// # cancel.cancel();
    /// # running.await??;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn project(&self, projection: Projection) -> Projector {
        Projector { store: self.clone(), projection, status: watch::Sender::new(Status::default()) }
    }
}

impl Projector {
    /// A reader of what the projection holds.
    #[must_use]
    pub fn view(&self) -> View {
        View::new(self.store.clone(), self.projection.clone(), self.status.subscribe())
    }

    /// What the projector has done and whether it goes on.
    #[must_use]
    pub fn observe(&self) -> ProjectionObservation {
        ProjectionObservation::new(self.status.subscribe())
    }

    /// Applies events until cancelled. `apply` must be a function of the event alone. A server that is away is waited for;
    /// what a person must correct is tried again, see [`ProjectionObservation::fault`].
    ///
    /// # Errors
    /// Only for a projection that cannot be one ([`ProjectionError::Invalid`]), at once.
    pub async fn run(
        self,
        apply: impl Fn(&Event) -> Vec<Write> + Send + Sync,
        cancel: CancellationToken,
    ) -> Result<(), ProjectionError> {
        if let Err(fault) = self.validate() {
            self.status.send_modify(|s| s.state = State::Halted(fault.clone()));
            return Err(fault);
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = self.stay_alive() => {}
            // Boxed: it is large, and stands in the future of the caller.
            () = Box::pin(self.keep_following(&apply)) => {}
        }
        Ok(())
    }

    /// Checks what can be known without the server.
    ///
    /// # Errors
    /// [`ProjectionError::Invalid`] for a projection that cannot be one.
    pub fn validate(&self) -> Result<(), ProjectionError> {
        self.projection.check(self.store.layout())
    }

    async fn keep_following(&self, apply: &(impl Fn(&Event) -> Vec<Write> + Send + Sync)) {
        let mut pause = PAUSE;
        loop {
            let Err(why) = self.follow(apply).await;
            let state = why.state();
            let before = self.replace_state(state.clone());
            if before != state {
                self.warn(&why);
            }
            if before == State::Reads {
                pause = PAUSE;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_CAP);
        }
    }

    fn warn(&self, why: &Interrupted) {
        let (projection, version) = (&self.projection.name, self.projection.version);
        match why {
            Interrupted::Away(error) => {
                warn!(projection, version, error, "cannot follow the log, trying again");
            }
            Interrupted::Halted(fault) => {
                warn!(projection, version, error = %fault, "does not follow the log until this is corrected, trying again");
            }
        }
    }

    /// The log is read and applied; says so where it was not before.
    fn reads(&self) {
        let before = self.replace_state(State::Reads);
        let (projection, version, position) =
            (&self.projection.name, self.projection.version, self.position());
        match before {
            State::Reads => {}
            State::Begins => info!(projection, version, %position, "follows the log"),
            State::Waits | State::Halted(_) => info!(projection, version, %position, "follows the log again"),
        }
    }

    /// What the state was before.
    fn replace_state(&self, state: State) -> State {
        let mut before = state.clone();
        self.status.send_if_modified(|s| {
            let changed = s.state != state;
            before = std::mem::replace(&mut s.state, state);
            changed
        });
        before
    }

    /// Says every now and then that a program keeps this version up to date.
    async fn stay_alive(&self) {
        loop {
            let said = redis::cmd("SET")
                .arg(self.key("alive"))
                .arg("1")
                .arg("PX")
                .arg(ALIVE.as_millis().to_string())
                .exec_async(&mut self.store.connection())
                .await;
            tokio::time::sleep(if said.is_ok() { ALIVE / 3 } else { ALIVE / 30 }).await;
        }
    }

    async fn follow(
        &self,
        apply: &(impl Fn(&Event) -> Vec<Write> + Send + Sync),
    ) -> Result<Infallible, Interrupted> {
        self.register().await?;
        let position = self.load().await?;
        let (name, version) = (&self.projection.name, self.projection.version);
        let mut replay = self.store.replay_of(self.projection.streams.clone()).after(position);
        if self.projection.from_snapshots {
            replay = replay.from_snapshots();
        }
        let mut pages = replay.open(EVENTS).await?;
        // Caught up means: everything that was in the log at this moment is applied.
        let head = pages.upto;
        let mut snapshots = 0_u64;
        while let Some(events) = pages.next().await? {
            snapshots += events.iter().map(|e| u64::from(e.snapshot)).sum::<u64>();
            self.apply_all(&events, None, apply).await?;
            self.reads();
        }
        if snapshots > 0 {
            info!(projection = name, version, snapshots, "began with snapshots, a trim took their events");
        }
        let mut tail = self.store.tail(self.projection.streams.clone(), head.max(self.position()));
        let mut active = false;
        loop {
            if !active && self.position() >= head && self.activate().await? {
                active = true;
                self.reads();
                if self.status.send_if_modified(|s| !std::mem::replace(&mut s.caught_up, true)) {
                    info!(projection = name, version, "caught up");
                }
            }
            let events = if active { tail.next().await? } else { tail.next_now().await? };
            if events.is_empty() && !active {
                tokio::time::sleep(LOOK).await;
            }
            self.apply_all(&events, Some(tail.position()), apply).await?;
            self.reads();
            if self.position() > tail.position() {
                // Another replica was first: go on from where it has come to.
                tail.seek(self.position());
            }
        }
    }

    /// Applies these events and says that all up to `end` (or the last of them) is done. What
    /// another replica has applied meanwhile is left out.
    async fn apply_all(
        &self,
        events: &[Event],
        end: Option<Id>,
        apply: &(impl Fn(&Event) -> Vec<Write> + Send + Sync),
    ) -> Result<(), Interrupted> {
        let Some(end) = end.or_else(|| events.last().map(|e| e.id)) else { return Ok(()) };
        let mut rest = events;
        while self.position() < end {
            let from = self.position();
            rest = &rest[rest.partition_point(|e| e.id <= from)..];
            let (step, later) = rest.split_at(rest.len().min(STEP));
            let to = if later.is_empty() { end } else { step.last().map_or(end, |e| e.id) };
            let writes: Vec<Write> = step.iter().flat_map(apply).collect();
            let reached = self.apply(from, to, &writes).await?;
            if reached < from {
                return Err(Interrupted::refused(format!("the position went back from {from} to {reached}")));
            }
            self.status.send_modify(|s| s.position = reached);
        }
        Ok(())
    }

    fn position(&self) -> Id {
        self.status.borrow().position
    }

    /// Who is registered holds back a trim.
    async fn register(&self) -> Result<(), ReadError> {
        let streams: Vec<String> = self.projection.streams.iter().map(ToString::to_string).collect();
        Ok(redis::cmd("HSET")
            .arg(self.store.layout().projections())
            .arg(format!("{}:v{}", self.projection.name, self.projection.version))
            .arg(serde_json::json!(streams).to_string())
            .exec_async(&mut self.store.connection())
            .await?)
    }

    async fn load(&self) -> Result<Id, ReadError> {
        let text: Option<String> =
            redis::cmd("GET").arg(self.key("position")).query_async(&mut self.store.connection()).await?;
        let position = parse_position(text.as_deref())?;
        self.status.send_modify(|s| s.position = position);
        Ok(position)
    }

    /// Answers where the projection stands afterwards: `to`, or where another replica has brought it.
    async fn apply(&self, from: Id, to: Id, writes: &[Write]) -> Result<Id, Interrupted> {
        let mut keys = vec![self.key("position"), self.key("keys")];
        let mut index: HashMap<&str, usize> = HashMap::new();
        let mut operations = Vec::with_capacity(writes.len());
        for write in writes {
            write.check().map_err(Interrupted::refused)?;
            let (operation, key, arguments) = write.parts();
            let number = *index.entry(key).or_insert_with(|| {
                keys.push(self.key(key));
                keys.len()
            });
            let mut parts = vec![serde_json::json!(operation), serde_json::json!(number)];
            parts.extend(arguments.into_iter().map(serde_json::Value::String));
            operations.push(serde_json::Value::Array(parts));
        }
        let args = [from.to_string(), to.to_string(), serde_json::Value::Array(operations).to_string()];
        let words = self.store.call_until_answered("project", &keys, &args).await?;
        let unknown = || Interrupted::refused(format!("the server answered {words:?}"));
        match words.first().map(String::as_str) {
            Some("ok" | "behind") => words.get(1).and_then(|w| w.parse().ok()).ok_or_else(unknown),
            Some("wrongtype") => {
                let key = words.get(1).map(String::as_str).unwrap_or_default();
                Err(Interrupted::refused(format!(
                    "key {key:?} holds another type than what is to be written"
                )))
            }
            _ => Err(unknown()),
        }
    }

    /// Makes this version the active one when its readers would see no less than those of the
    /// version before. Answers whether it, or a later one, is active.
    async fn activate(&self) -> Result<bool, ReadError> {
        let (layout, projection) = (self.store.layout(), &self.projection);
        let mut connection = self.store.connection();
        let pointer = layout.active(&projection.name);
        let active: Option<u32> = redis::cmd("GET").arg(&pointer).query_async(&mut connection).await?;
        let before = active.unwrap_or(projection.version);
        let theirs = layout.projection(&projection.name, before, "position");
        let position: Option<String> = redis::cmd("GET").arg(&theirs).query_async(&mut connection).await?;
        // Read after their position: whatever they have applied of this version's streams is up to here.
        let head = self.store.head_of(&projection.streams).await?;
        let args = [
            projection.version.to_string(),
            active.map(|v| v.to_string()).unwrap_or_default(),
            position.unwrap_or_default(),
            head.to_string(),
        ];
        let words = self
            .store
            .call_until_answered("activate", &[pointer, self.key("position"), theirs], &args)
            .await?;
        Ok(words.first().is_some_and(|w| w == "ok"))
    }

    fn key(&self, local: &str) -> String {
        self.projection.key(self.store.layout(), local)
    }
}
