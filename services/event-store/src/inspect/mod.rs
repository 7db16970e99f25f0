//! Looking at a store: its streams, groups, consumers and pending entries, typed, for consoles and
//! the command-line program. Reads only, and needs no rights to write.
//!
//! What the server does not know is unknown (`None`), never 0.

mod find;
mod history;
mod log;
mod parse;
mod server;

pub use find::Discovery;
pub use log::{Filter, LogEntry};
pub use server::ServerInfo;

use crate::error::ReadError;
use crate::groups::{self, absent_as_nothing, unreadable};
use crate::{EventStore, Id, NameOf, StreamName, table};
use redis::Value;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A stream of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StreamInfo {
    /// Its name.
    pub stream: StreamName,
    /// Its key on the server.
    pub key: String,
    /// Entries in it.
    pub length: u64,
    /// The first entry there is.
    pub first: Option<Id>,
    /// The last one.
    pub last: Option<Id>,
    /// The last id that was issued to it, also where that entry is gone; [`Id::ZERO`] for a stream that does not exist.
    pub issued: Id,
    /// Groups that read it.
    pub groups: u64,
    /// Its memory on the server, estimated from some of its entries; asked for only on request.
    pub bytes: Option<u64>,
}

/// How a group stands on one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GroupInfo {
    /// The stream.
    pub stream: StreamName,
    /// Consumers in the group.
    pub consumers: u64,
    /// Entries delivered and not finished.
    pub pending: u64,
    /// Entries not yet delivered to any consumer; `None` when the server cannot tell.
    pub lag: Option<u64>,
    /// The last entry that was delivered.
    pub last_delivered: Id,
    /// Where the group goes on should the server lose it: everything up to here is finished.
    pub cursor: Option<Id>,
    /// For so long (ms) nothing of the stream was finished although entries are pending; `None` where none are, or where
    /// no consumer has looked yet.
    pub quiet_ms: Option<u64>,
    /// For so long (ms) no consumer of the group has read the stream; `None` while one does, and where no consumer has
    /// stored that it reads the stream (those of older versions do not).
    pub unread_ms: Option<u64>,
}

/// A group with all streams that it reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Group {
    /// Its name.
    pub group: String,
    /// Its dead letters.
    pub parked: u64,
    /// Its streams, by name.
    pub streams: Vec<GroupInfo>,
}

/// A consumer of a group on one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConsumerInfo {
    /// Its name.
    pub consumer: String,
    /// Entries delivered to it and not finished.
    pub pending: u64,
    /// Milliseconds since it last asked for anything.
    pub idle_ms: u64,
    /// Milliseconds since it last got an entry; `None` on servers before Redis 7.2.
    pub inactive_ms: Option<u64>,
}

/// An entry that was delivered and is not finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PendingEntry {
    /// The entry.
    pub id: Id,
    /// Who has it.
    pub consumer: String,
    /// Milliseconds since it was delivered last, or kept alive.
    pub idle_ms: u64,
    /// How often it was delivered.
    pub deliveries: u64,
}

/// What a group keeps of a stream: the cursor, the mark of progress, and the list of streams that are read.
type Kept = (Option<String>, Option<String>, Option<String>);

/// Looks at a store. Cheap to make.
#[derive(Clone, Debug)]
pub struct Inspector {
    store: EventStore,
}

impl EventStore {
    /// A look at the store as it is.
    #[must_use]
    pub fn inspect(&self) -> Inspector {
        Inspector { store: self.clone() }
    }

    /// All streams of the store, by name. Walks over all keys of the server (a second or two for some
    /// million): who asks often should name the streams instead.
    pub async fn streams(&self) -> Result<Vec<StreamName>, ReadError> {
        Ok(self.inspect().discover().await?.streams)
    }
}

impl Inspector {
    /// These streams; one that does not exist is empty. `bytes` asks for their memory as well.
    pub async fn streams(&self, streams: &[StreamName], bytes: bool) -> Result<Vec<StreamInfo>, ReadError> {
        let mut infos = Vec::with_capacity(streams.len());
        for stream in streams {
            let key = self.store.layout().stream(stream);
            let info = absent_as_nothing(
                redis::cmd("XINFO").arg("STREAM").arg(&key).query_async(&mut self.store.reads()).await,
            )?;
            let bytes = if bytes {
                redis::cmd("MEMORY").arg("USAGE").arg(&key).query_async(&mut self.store.reads()).await?
            } else {
                None
            };
            infos.push(parse::stream(stream, key, &info, bytes));
        }
        Ok(infos)
    }

    /// The groups that read these streams, by name. It needs the right to read what every one of them keeps; who
    /// has that for one group only asks [`Inspector::parked`].
    pub async fn groups(&self, streams: &[StreamName]) -> Result<Vec<Group>, ReadError> {
        let now = self.store.server_ms().await?;
        let mut found: BTreeMap<String, Vec<GroupInfo>> = BTreeMap::new();
        for stream in streams {
            for group in groups::of(&self.store, stream).await? {
                let cursors = self.store.layout().cursors(stream.family(), &group.name);
                let (cursor, mark, list): Kept = redis::cmd("HMGET")
                    .arg(cursors)
                    .arg(stream.to_string())
                    .arg(format!("~{stream}"))
                    .arg("@")
                    .query_async(&mut self.store.reads())
                    .await?;
                let mut info = parse::group(stream, &group, cursor.and_then(|c| c.parse().ok()));
                info.quiet_ms = mark.filter(|_| info.pending > 0).and_then(|mark| parse::quiet(&mark, now));
                info.unread_ms = list.and_then(|list| parse::unread(&list, stream, now));
                found.entry(group.name).or_default().push(info);
            }
        }
        let mut groups = Vec::with_capacity(found.len());
        for (group, mut streams) in found {
            streams.sort_by(|a, b| a.stream.cmp(&b.stream));
            let read: Vec<_> = streams.iter().map(|info| info.stream.clone()).collect();
            groups.push(Group { parked: self.parked(&group, &read).await?, group, streams });
        }
        Ok(groups)
    }

    /// How many dead letters a group has that reads these streams.
    pub async fn parked(&self, group: &str, streams: &[StreamName]) -> Result<u64, ReadError> {
        // A group of another program: one of the store has a name that there can be.
        if NameOf::Group.check(group).is_err() {
            return Ok(0);
        }
        // In the tagged layout every family has its own dead letters; in the plain one they stand together.
        let families: BTreeSet<&str> = if self.store.layout().is_plain() {
            [""].into()
        } else {
            streams.iter().map(StreamName::family).collect()
        };
        let mut parked = 0;
        for family in families {
            parked += self.store.dead_letters(group, family).count().await?;
        }
        Ok(parked)
    }

    /// The consumers of a group on one stream, by name; nothing where the group does not read it.
    pub async fn consumers(&self, stream: &StreamName, group: &str) -> Result<Vec<ConsumerInfo>, ReadError> {
        let rows: Value = absent_as_nothing(
            redis::cmd("XINFO")
                .arg("CONSUMERS")
                .arg(self.store.layout().stream(stream))
                .arg(group)
                .query_async(&mut self.store.reads())
                .await,
        )?;
        let consumers: Option<Vec<_>> = table::rows(&rows).iter().map(parse::consumer).collect();
        let mut consumers = consumers.ok_or_else(|| unreadable("consumer"))?;
        consumers.sort_by(|a, b| a.consumer.cmp(&b.consumer));
        Ok(consumers)
    }

    /// A page of a group's pending entries on one stream, in the order of their ids: at most `limit`
    /// after that id, those of one consumer where it is named.
    pub async fn pending(
        &self,
        stream: &StreamName,
        group: &str,
        consumer: Option<&str>,
        after: Id,
        limit: usize,
    ) -> Result<Vec<PendingEntry>, ReadError> {
        let mut command = redis::cmd("XPENDING");
        command.arg(self.store.layout().stream(stream)).arg(group);
        command.arg(format!("({after}")).arg("+").arg(limit.max(1)).arg(consumer);
        let rows: Value = absent_as_nothing(command.query_async(&mut self.store.reads()).await)?;
        parse::pending(&rows).ok_or_else(|| unreadable("pending entry"))
    }
}
