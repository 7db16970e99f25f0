//! A group's dead letters: what was parked, why, and giving it back to the group. Handles nothing
//! itself: replayed events go the way of all others, in order, through a running consumer.

use crate::batch::unexpected;
use crate::entry::{self, RawEntry};
use crate::error::{AppendError, AppendErrorKind, ReadError};
use crate::{EventStore, Id, InvalidName, NameOf, StreamName};
use redis::Value;
use std::collections::HashMap;

/// Letters read, or given back, with one call.
const PAGE: usize = 200;

/// An entry that a group has put aside.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its id among the dead letters.
    pub letter: Id,
    /// The stream it was read from.
    pub stream: StreamName,
    /// Its id in that stream.
    pub id: Id,
    /// Why it was parked.
    pub reason: String,
    /// How often it was tried by the consumer that parked it; 0 for what queues behind another dead
    /// letter, and for what is no event.
    pub attempts: u32,
    /// When it first failed, in milliseconds since the Unix epoch by the server's clock.
    pub first_failure: u64,
    /// When it failed last, likewise.
    pub last_failure: u64,
    /// The ordering keys that it holds up.
    pub keys: Vec<String>,
    /// Its fields, byte for byte.
    pub raw: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Which dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Select {
    /// All that there are when it is asked for.
    All,
    /// These, by their ids among the dead letters.
    Letters(Vec<Id>),
    /// Those that hold up this ordering key; an entity's is [`crate::Kind::ordering_key`].
    Key(String),
}

/// What a replay did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GivenBack {
    /// Given back to the group.
    pub moved: u64,
    /// Left where they are, because an earlier event of theirs is a dead letter that was not selected.
    pub behind: u64,
    /// Left where they are, because the log has their entries no more (it was trimmed).
    pub lost: u64,
}

/// The dead letters of one group.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    store: EventStore,
    group: String,
    dead: String,
    letters: String,
    cursors: String,
    /// Whether there can be a group and a family of these names.
    named: Result<(), InvalidName>,
}

impl EventStore {
    /// The dead letters of a group. `family` is that of its first stream; only the tagged layout needs it.
    /// Where there cannot be a group of this name ([`NameOf::Group`]), each call says so.
    ///
    /// ```
    /// # use event_store::{Config, EventStore};
    /// use event_store::{Id, Select};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let redis = event_store::testing::Redis::start();
    /// # let store = EventStore::connect(Config::new(redis.url())).await?;
    /// let dead = store.dead_letters("letters", "account");
    /// for letter in dead.list(Id::ZERO, 100).await? {
    ///     println!("{} {}: {}", letter.letter, letter.stream, letter.reason);
    /// }
    /// println!("a replay of all would give back {:?}", dead.preview(&Select::All).await?);
    /// dead.replay(&Select::All).await?;
    /// assert_eq!(dead.count().await?, 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn dead_letters(&self, group: &str, family: &str) -> DeadLetters {
        let mut named = NameOf::Group.check(group);
        if !self.layout().is_plain() {
            named = named.and_then(|()| NameOf::Kind.check(family));
        }
        DeadLetters {
            named,
            dead: self.layout().dead(family, group),
            letters: self.layout().letters(family, group),
            cursors: self.layout().cursors(family, group),
            group: group.to_owned(),
            store: self.clone(),
        }
    }
}

impl DeadLetters {
    /// How many there are.
    pub async fn count(&self) -> Result<u64, ReadError> {
        self.named.clone()?;
        Ok(redis::cmd("XLEN").arg(&self.dead).query_async(&mut self.store.reads()).await?)
    }

    /// A page of them in the order of their parking: at most `limit` after the letter with this id,
    /// [`Id::ZERO`] for the first page.
    pub async fn list(&self, after: Id, limit: usize) -> Result<Vec<DeadLetter>, ReadError> {
        let from = if after == Id::ZERO { "-".to_owned() } else { format!("({after}") };
        self.range(&from, "+", limit.max(1)).await
    }

    /// One of them, by its id among the dead letters.
    pub async fn get(&self, letter: Id) -> Result<Option<DeadLetter>, ReadError> {
        let id = letter.to_string();
        Ok(self.range(&id, &id, 1).await?.pop())
    }

    /// What [`replay`](Self::replay) would do now. Changes nothing.
    pub async fn preview(&self, select: &Select) -> Result<GivenBack, AppendError> {
        self.unpark(select, true).await
    }

    /// Gives them back to the group, which handles them in the order of their ids, each after the
    /// earlier events of its entity. One that is no dead letter any more is passed over, so a replay
    /// that is asked for twice happens once. The group must be there: a consumer has run once.
    pub async fn replay(&self, select: &Select) -> Result<GivenBack, AppendError> {
        self.unpark(select, false).await
    }

    async fn unpark(&self, select: &Select, count_only: bool) -> Result<GivenBack, AppendError> {
        self.named.clone()?;
        let unreadable = |e: ReadError| AppendError::new(AppendErrorKind::Unavailable, e.to_string());
        let selected = self.selected(select).await.map_err(unreadable)?;
        let mut sum = GivenBack::default();
        // A preview's parts do not see each other's letters go, so it must be one.
        let part = if count_only { selected.len().max(1) } else { PAGE };
        for part in selected.chunks(part) {
            let mut keys = vec![self.dead.clone(), self.letters.clone(), self.cursors.clone()];
            let mut args = vec![self.group.clone(), u8::from(count_only).to_string()];
            let mut index: HashMap<&StreamName, usize> = HashMap::new();
            for (_, stream, letter) in part {
                let key = *index.entry(stream).or_insert_with(|| {
                    keys.push(self.store.layout().stream(stream));
                    keys.len()
                });
                args.extend([letter.to_string(), key.to_string()]);
            }
            let words = self.store.call_until_answered("unpark", &keys, &args).await?;
            let number = |at: usize| words.get(at).and_then(|n| n.parse::<u64>().ok());
            match (words.first().map(String::as_str), number(1), number(2), number(3)) {
                (Some("ok"), Some(moved), Some(behind), Some(lost)) => {
                    sum.moved += moved;
                    sum.behind += behind;
                    sum.lost += lost;
                }
                (Some("nogroup"), ..) => {
                    let message =
                        format!("the group {} is not there: run a consumer of it first", self.group);
                    return Err(AppendError::new(AppendErrorKind::Refused, message));
                }
                _ => return Err(unexpected(&words)),
            }
        }
        Ok(sum)
    }

    /// The letters with their entries' ids and streams, in the order of the entries.
    async fn selected(&self, select: &Select) -> Result<Vec<(Id, StreamName, Id)>, ReadError> {
        let mut found = Vec::new();
        let mut keep = |l: DeadLetter| found.push((l.id, l.stream, l.letter));
        if let Select::Letters(ids) = select {
            for id in ids {
                self.get(*id).await?.into_iter().for_each(&mut keep);
            }
        } else {
            let mut after = Id::ZERO;
            loop {
                let page = self.list(after, PAGE).await?;
                let Some(last) = page.last() else { break };
                after = last.letter;
                let wanted = |l: &DeadLetter| match select {
                    Select::Key(key) => l.keys.contains(key),
                    _ => true,
                };
                page.into_iter().filter(wanted).for_each(&mut keep);
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    async fn range(&self, from: &str, to: &str, limit: usize) -> Result<Vec<DeadLetter>, ReadError> {
        self.named.clone()?;
        let reply: Value = redis::cmd("XRANGE")
            .arg(&self.dead)
            .arg(from)
            .arg(to)
            .arg("COUNT")
            .arg(limit)
            .query_async(&mut self.store.reads())
            .await?;
        entry::parse_entries(reply).iter().map(parse).collect()
    }
}

fn parse(raw: &RawEntry) -> Result<DeadLetter, ReadError> {
    let wrong =
        |field: &str| ReadError::malformed(format!("dead letter {}: field {field} is unreadable", raw.id));
    let number = |field: &str| raw.lossy(field).parse::<u64>().map_err(|_| wrong(field));
    Ok(DeadLetter {
        letter: raw.id,
        stream: StreamName::parse(&raw.lossy("stream")).ok_or_else(|| wrong("stream"))?,
        id: raw.lossy("id").parse().map_err(|_| wrong("id"))?,
        reason: raw.lossy("reason"),
        attempts: u32::try_from(number("attempts")?).unwrap_or(u32::MAX),
        first_failure: number("first_failure")?,
        last_failure: number("last_failure")?,
        keys: raw.lossy("keys").lines().map(str::to_owned).collect(),
        raw: raw
            .fields
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(b"raw.")?.to_vec(), value.clone())))
            .collect(),
    })
}
