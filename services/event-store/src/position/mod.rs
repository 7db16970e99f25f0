//! Positions of readers that keep their state outside the server, such as a projection in an SQL database. The reader
//! stores its position together with its state, and only that position counts for it; the one that is registered here
//! follows it, so that a trim keeps what the reader has yet to read.
//!
//! A registered position is at or before the reader's own, whenever a process is killed and however replicas race: it is
//! committed after the reader's transaction, a commit never moves it back, and it is never registered where entries
//! after it were trimmed. Registering and trimming are each one step on the server that holds the stream, so a trim that
//! was previewed before the registration ends, or the registration finds its entries trimmed and says so. A registration
//! that a failover lost is an error of the next commit, never a new registration.
//!
//! Never reads the log for the reader, and never decides where the reader continues.

mod error;
mod list;

pub(crate) use list::stored;

pub use error::{PositionError, PositionErrorKind};
pub use list::{PositionState, StreamPosition};

use crate::batch::unexpected;
use crate::error::ReadError;
use crate::{EventStore, Id, NameOf, StreamName};

/// The position of a reader under a name, on some streams: entries after it are kept by every trim. Nothing is known to
/// the server before [`register`](Self::register). See [`EventStore::position`].
#[derive(Clone, Debug)]
#[must_use = "nothing is registered before `register`"]
pub struct Position {
    store: EventStore,
    name: String,
    streams: Vec<StreamName>,
}

impl EventStore {
    /// The position of a reader that keeps its state outside the server, and its own position with it. Choose it for
    /// what reads by [`tail`](Self::tail) or [`replay_of`](Self::replay_of) and cannot begin again from the snapshots.
    ///
    /// `name` is the reader's: letters, digits, `-` and `_`, at most 64. Replicas that share their state share a name;
    /// readers with states of their own need names of their own. In the tagged layout the streams must be of one family;
    /// a reader of several families has a position of the same name for each.
    ///
    /// A position holds back every trim of its streams until it moves, also when its reader is gone: then
    /// [remove](Self::remove_position) it.
    ///
    /// ```
    /// # use event_store::{Config, EventStore, Id, Kind, NewEvent};
    /// # use serde_json::json;
    /// const ACCOUNT: Kind = Kind::new("account");
    /// # struct Database { position: Id, owners: Vec<String> }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let redis = event_store::testing::Redis::start();
    /// # let store = EventStore::connect(Config::new(redis.url())).await?;
    /// # let mut database = Database { position: Id::ZERO, owners: Vec::new() };
    /// # let opened = NewEvent::put(ACCOUNT, "opened", "a1", &json!({ "id": "a1", "owner": "Ada" }));
    /// # store.append(vec![opened]).await?;
    /// let streams = vec![ACCOUNT.stream("opened")];
    /// let position = store.position("sqlite-owners", streams.clone());
    /// position.register(database.position).await?; // at every start, before reading
    /// let mut tail = store.tail(streams, database.position);
    /// # for _ in 0..1 {
    /// // for each batch of events:
    /// let events = tail.next().await?;
    /// // … one transaction of the database: what the events change, and tail.position() …
    /// # database.owners.extend(events.iter().map(|event| event.entity["owner"].to_string()));
    /// # database.position = tail.position();
    /// position.commit(tail.position()).await?; // only after that transaction
    /// # }
    /// assert_eq!(store.positions().await?[0].streams[0].next, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn position(
        &self,
        name: impl Into<String>,
        streams: impl IntoIterator<Item = StreamName>,
    ) -> Position {
        Position { store: self.clone(), name: name.into(), streams: streams.into_iter().collect() }
    }
}

impl Position {
    /// Registers the position on all its streams: everything up to `after` is processed, what comes after it is kept
    /// from now on. Call it at every start of the reader with the reader's own position, before reading: where the
    /// position is registered already, it moves forward to `after`. [`Id::ZERO`] keeps the whole log. A reader that
    /// begins from the snapshots of a replay registers at [`EventStore::head_of`] its streams before that replay.
    ///
    /// # Errors
    /// [`PositionErrorKind::Trimmed`] where entries after `after` are gone, [`PositionErrorKind::Ahead`] where the
    /// position is registered after it, [`PositionErrorKind::BeyondLog`] where the log has no such id yet. Nothing is
    /// registered then.
    ///
    /// # Cancel safety
    /// Dropped, the position may be registered or not. Repeating it is harmless.
    pub async fn register(&self, after: Id) -> Result<(), PositionError> {
        let family = self.family()?;
        if !self.store.layout().is_plain() {
            // The family first: killed in between, a list looks at a family that has no position.
            redis::cmd("SADD")
                .arg(self.store.layout().position_families())
                .arg(family)
                .exec_async(&mut self.store.connection())
                .await
                .map_err(ReadError::from)?;
        }
        self.call("register", after).await
    }

    /// Moves the position forward to `upto` on each of its streams that is not there yet. Call it after the transaction
    /// in which the reader has stored `upto` itself: killed in between, the reader registers there at its next start.
    /// An `upto` before the position is no error, so replicas may commit late.
    ///
    /// # Errors
    /// [`PositionErrorKind::NotRegistered`] where it is not registered on one of its streams, and
    /// [`PositionErrorKind::BeyondLog`] where the log has no such id yet. Nothing is moved then.
    ///
    /// # Cancel safety
    /// Dropped, the position may have moved or not. Repeating it is harmless.
    pub async fn commit(&self, upto: Id) -> Result<(), PositionError> {
        self.call("commit", upto).await
    }

    /// Moves the position back to `after` on each of its streams that is beyond it. Choose it when the reader's state
    /// was replaced by an older one, such as a backup.
    ///
    /// # Errors
    /// [`PositionErrorKind::Trimmed`] where entries after `after` are gone, and [`PositionErrorKind::NotRegistered`]
    /// where it is not registered on one of its streams. Nothing is moved then.
    ///
    /// # Cancel safety
    /// Dropped, the position may have moved or not. Repeating it is harmless.
    pub async fn rewind(&self, after: Id) -> Result<(), PositionError> {
        self.call("rewind", after).await
    }

    /// The family whose keys hold the position, of a position that can be one.
    fn family(&self) -> Result<&str, PositionError> {
        let invalid = |message: String| PositionError::new(PositionErrorKind::Invalid, message);
        NameOf::Position.check(&self.name).map_err(|e| invalid(e.to_string()))?;
        let Some(family) = self.streams.first().map(StreamName::family) else {
            return Err(invalid(format!("{} names no stream", self.name)));
        };
        for stream in &self.streams {
            if !self.store.layout().is_plain() && stream.family() != family {
                return Err(invalid(format!(
                    "{family} and {} are two families, which share no order of ids in the tagged layout: make a \
                     position {} for the streams of each",
                    stream.family(),
                    self.name
                )));
            }
        }
        Ok(family)
    }

    async fn call(&self, action: &str, id: Id) -> Result<(), PositionError> {
        let (family, layout) = (self.family()?, self.store.layout());
        let mut keys =
            vec![layout.registered_positions(family), layout.trimmed(family), layout.clock(family)];
        keys.extend(self.streams.iter().map(|stream| layout.stream(stream)));
        let mut args = vec![action.to_owned(), self.name.clone(), id.to_string()];
        args.extend(self.streams.iter().map(ToString::to_string));
        let words = self.store.call_until_answered("move_position", &keys[..], &args[..]).await?;
        if words.first().is_some_and(|word| word == "ok") { Ok(()) } else { Err(self.refused(id, &words)) }
    }

    /// Why the server moved nothing.
    fn refused(&self, id: Id, words: &[String]) -> PositionError {
        let name = &self.name;
        let parsed = |at: usize| words.get(at).and_then(|word| word.parse::<Id>().ok());
        let named = || words.get(1).map_or("", String::as_str);
        let (kind, message) = match (words.first().map(String::as_str), stream(named()), parsed(2)) {
            (Some("unregistered"), Ok(stream), _) => (
                PositionErrorKind::NotRegistered { stream: stream.clone() },
                format!("{name} is not registered on {stream}: register it where its reader is"),
            ),
            (Some("trimmed"), Ok(stream), Some(first)) => (
                PositionErrorKind::Trimmed { stream: stream.clone(), first },
                format!(
                    "entries of {stream} after {id} and before {first} were trimmed: begin {name} from a state that \
                     covers them, such as the snapshots of a replay"
                ),
            ),
            (Some("ahead"), Ok(stream), Some(position)) => (
                PositionErrorKind::Ahead { stream: stream.clone(), position },
                format!(
                    "{name} is registered on {stream} at {position}, after {id}: read the reader's own position again, \
                     and rewind {name} where its state is an older one"
                ),
            ),
            (Some("beyond"), ..) if parsed(1).is_some() => {
                let last = parsed(1).unwrap_or_default();
                let message = format!(
                    "the log ends at {last}, before {id}: the id is of another store, or the log lost its end"
                );
                (PositionErrorKind::BeyondLog { last }, message)
            }
            _ => return refusal(words),
        };
        PositionError::new(kind, message)
    }
}

/// A stream that the server has named.
fn stream(text: &str) -> Result<StreamName, PositionError> {
    StreamName::parse(text).ok_or_else(|| {
        PositionError::new(PositionErrorKind::Refused, format!("the server named a stream {text:?}"))
    })
}

/// An answer that says why nothing was done, for keys that hold what the store never wrote.
fn refusal(words: &[String]) -> PositionError {
    let message = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["wrongtype", key] => format!("key {key} holds another type than the store writes"),
        ["unreadable", field] => {
            format!("{field:?} is registered unreadably: remove that field of the positions")
        }
        _ => return unexpected(words).into(),
    };
    PositionError::new(PositionErrorKind::Refused, message)
}
