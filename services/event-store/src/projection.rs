//! Projections kept in Redis: every replica follows the log and applies batches by compare-and-set
//! of the projection's position, so any number of replicas is right, whoever is first wins, and a
//! new replica starts where the position stands. Never reads what it wrote to decide what to write.

use crate::error::{AppendError, AppendErrorKind, ProjectionError, ReadError};
use crate::{Event, EventStore, Id, StreamName, Tail};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Events applied in one step.
const STEP: usize = 100;

/// Which projection: its name, its version and what it reads.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Projection {
    name: String,
    version: u32,
    streams: Vec<StreamName>,
}

impl Projection {
    /// A projection. A new version starts from the beginning of the log under keys of its own:
    /// choose one when what is written changes.
    #[must_use]
    pub fn new(name: impl Into<String>, version: u32) -> Self {
        Self { name: name.into(), version, streams: Vec::new() }
    }

    /// The streams it reads.
    #[must_use]
    pub fn streams(mut self, streams: impl IntoIterator<Item = StreamName>) -> Self {
        self.streams = streams.into_iter().collect();
        self
    }
}

/// A write to a projection's own keys. Keys are local names: `orders` becomes `read-model:v1:orders`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Write {
    /// Sets a field of a hash.
    HashSet {
        /// Local name.
        key: String,
        /// Field.
        field: String,
        /// Value.
        value: String,
    },
    /// Removes a field of a hash.
    HashDelete {
        /// Local name.
        key: String,
        /// Field.
        field: String,
    },
    /// Adds a member to a sorted set, or changes its score.
    SortedAdd {
        /// Local name.
        key: String,
        /// Member.
        member: String,
        /// Score; members of one score sort by their bytes.
        score: f64,
    },
    /// Removes a member of a sorted set.
    SortedRemove {
        /// Local name.
        key: String,
        /// Member.
        member: String,
    },
    /// Adds a member to a set.
    SetAdd {
        /// Local name.
        key: String,
        /// Member.
        member: String,
    },
    /// Removes a member of a set.
    SetRemove {
        /// Local name.
        key: String,
        /// Member.
        member: String,
    },
}

impl Write {
    fn parts(&self) -> (&'static str, &str, Vec<String>) {
        match self {
            Self::HashSet { key, field, value } => ("HSET", key, vec![field.clone(), value.clone()]),
            Self::HashDelete { key, field } => ("HDEL", key, vec![field.clone()]),
            Self::SortedAdd { key, member, score } => ("ZADD", key, vec![score.to_string(), member.clone()]),
            Self::SortedRemove { key, member } => ("ZREM", key, vec![member.clone()]),
            Self::SetAdd { key, member } => ("SADD", key, vec![member.clone()]),
            Self::SetRemove { key, member } => ("SREM", key, vec![member.clone()]),
        }
    }
}

/// Keeps a projection up to date.
pub struct Projector {
    store: EventStore,
    projection: Projection,
    position: watch::Sender<Id>,
}

impl EventStore {
    /// A projector of this projection.
    #[must_use]
    pub fn project(&self, projection: Projection) -> Projector {
        Projector { store: self.clone(), projection, position: watch::Sender::new(Id::ZERO) }
    }
}

impl Projector {
    /// A reader of what the projection holds.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            store: self.store.clone(),
            projection: self.projection.clone(),
            position: self.position.subscribe(),
        }
    }

    /// Applies events until cancelled. `apply` must be a function of the event alone.
    pub async fn run(&self, apply: impl Fn(&Event) -> Vec<Write> + Send + Sync, cancel: CancellationToken) {
        let mut pause = Duration::from_millis(20);
        loop {
            let result = tokio::select! {
                () = cancel.cancelled() => return,
                result = self.follow(&apply) => result,
            };
            if let Err(e) = result {
                warn!(projection = self.projection.name, error = %e, "cannot follow the log, trying again");
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(1)),
            }
        }
    }

    async fn follow(&self, apply: &(impl Fn(&Event) -> Vec<Write> + Send + Sync)) -> Result<(), ReadError> {
        let position = self.load().await?;
        info!(projection = self.projection.name, version = self.projection.version, %position, "following the log");
        let mut tail = self.store.tail(self.projection.streams.clone(), position);
        loop {
            let mut from = *self.position.borrow();
            let events = tail.next().await?;
            let end = tail.position();
            for (i, step) in events.chunks(STEP).enumerate() {
                let last = (i + 1) * STEP >= events.len();
                let to = if last { end } else { step.last().map_or(end, |e| e.id) };
                let writes: Vec<Write> = step.iter().flat_map(apply).collect();
                let reached = self.apply(from, to, &writes).await.map_err(|e| ReadError(e.to_string()))?;
                self.position.send_replace(reached);
                if reached != to {
                    // Another replica was first: go on from where it has come to.
                    self.seek(&mut tail, reached);
                    break;
                }
                from = to;
            }
        }
    }

    fn seek(&self, tail: &mut Tail, position: Id) {
        tracing::trace!(projection = self.projection.name, %position, "another replica was first");
        tail.seek(position);
    }

    async fn load(&self) -> Result<Id, ReadError> {
        let text: Option<String> =
            redis::cmd("GET").arg(self.key("position")).query_async(&mut self.store.connection()).await?;
        let position = parse_position(text.as_deref())?;
        self.position.send_replace(position);
        Ok(position)
    }

    /// Answers where the projection stands afterwards: `to`, or where another replica has brought it.
    async fn apply(&self, from: Id, to: Id, writes: &[Write]) -> Result<Id, AppendError> {
        let mut keys = vec![self.key("position")];
        let mut index: HashMap<&str, usize> = HashMap::new();
        let mut operations = Vec::with_capacity(writes.len());
        for write in writes {
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
        let refused = |message: String| AppendError::new(AppendErrorKind::Refused, message);
        match words.first().map(String::as_str) {
            Some("ok" | "behind") => {
                words.get(1).and_then(|w| w.parse().ok()).ok_or_else(|| refused(format!("{words:?}")))
            }
            Some("wrongtype") => {
                Err(refused(format!("key {:?} of the projection holds another type", words.get(1))))
            }
            _ => Err(refused(format!("the server answered {words:?}"))),
        }
    }

    fn key(&self, local: &str) -> String {
        self.store.layout().projection(&self.projection.name, self.projection.version, local)
    }
}

fn parse_position(text: Option<&str>) -> Result<Id, ReadError> {
    text.map_or(Ok(Id::ZERO), |t| t.parse().map_err(|e| ReadError(format!("position of a projection: {e}"))))
}

/// Reads what a projection holds. Cheap to clone.
#[derive(Clone)]
pub struct View {
    store: EventStore,
    projection: Projection,
    position: watch::Receiver<Id>,
}

impl View {
    /// Everything up to here is applied, as far as this replica knows.
    #[must_use]
    pub fn position(&self) -> Id {
        *self.position.borrow()
    }

    /// Waits until everything up to `id` is applied.
    pub async fn wait_until(&self, id: Id, deadline: Duration) -> Result<(), ProjectionError> {
        let mut position = self.position.clone();
        let reached = position.wait_for(|p| *p >= id);
        match tokio::time::timeout(deadline, reached).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(ProjectionError::Behind { position: self.position(), wanted: id }),
        }
    }

    fn key(&self, local: &str) -> String {
        self.store.layout().projection(&self.projection.name, self.projection.version, local)
    }

    /// Some fields of a hash, in the order asked for.
    pub async fn hash_get<F: AsRef<str>>(
        &self,
        key: &str,
        fields: &[F],
    ) -> Result<Vec<Option<String>>, ReadError> {
        if fields.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = redis::cmd("HMGET");
        command.arg(self.key(key));
        for field in fields {
            command.arg(field.as_ref());
        }
        Ok(command.query_async(&mut self.store.connection()).await?)
    }

    /// All values of a hash, in no order.
    pub async fn hash_values(&self, key: &str) -> Result<Vec<String>, ReadError> {
        Ok(redis::cmd("HVALS").arg(self.key(key)).query_async(&mut self.store.connection()).await?)
    }

    /// All fields and values of a hash, in no order.
    pub async fn hash_all(&self, key: &str) -> Result<Vec<(String, String)>, ReadError> {
        Ok(redis::cmd("HGETALL").arg(self.key(key)).query_async(&mut self.store.connection()).await?)
    }

    /// Members of a sorted set, ascending by score then bytes, from `offset`, at most `count`.
    pub async fn sorted_range(
        &self,
        key: &str,
        offset: usize,
        count: usize,
    ) -> Result<Vec<String>, ReadError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let end = offset.saturating_add(count - 1);
        Ok(redis::cmd("ZRANGE")
            .arg(self.key(key))
            .arg(offset)
            .arg(i64::try_from(end).unwrap_or(-1))
            .query_async(&mut self.store.connection())
            .await?)
    }
}
