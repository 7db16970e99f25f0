//! Reads a consumer's share of its group on a connection of its own. After any error the own
//! pending list is read again from its beginning, so an answer lost on the wire loses no entry.
//! Never acknowledges.

use super::Subscription;
use crate::EventStore;
use crate::entry::{self, RawEntry};
use crate::error::ReadError;
use crate::tail::SILENCE;
use redis::Value;
use redis::aio::MultiplexedConnection;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{info, warn};

/// Entries a stream may answer in one read.
pub(super) const BATCH: usize = 100;
const BLOCK: Duration = Duration::from_secs(2);

/// What a read brought.
pub(super) enum Read {
    /// New entries per stream that was read (by number), in id order; all streams that were read are named.
    New(Vec<(usize, Vec<RawEntry>)>),
    /// Entries that this consumer already has pending.
    Pending(Vec<(usize, Vec<RawEntry>)>),
    /// The server could not be read; the reader has paused and will begin anew.
    Failed(String),
}

/// Lets another task end the blocking read that is under way.
#[derive(Clone, Default)]
pub(super) struct Waker {
    client_id: Arc<AtomicI64>,
}

impl Waker {
    /// Ends the read under way, if there is one. What it was about to answer is not lost: the
    /// server either answers entries or none.
    ///
    /// `keys` are those read: the command must reach the server that serves the read.
    pub(super) async fn wake(&self, store: &EventStore, keys: &[String]) {
        let id = self.client_id.load(Ordering::Relaxed);
        if let Some(key) = keys.first().filter(|_| id != 0) {
            // Nobody to wake is as good.
            let _ = store.connection().at(key, redis::cmd("CLIENT").arg("UNBLOCK").arg(id)).await;
        }
    }
}

pub(super) struct Reader {
    pub(super) store: EventStore,
    pub(super) subscription: Arc<Subscription>,
    pub(super) keys: Vec<String>,
    pub(super) cursors: String,
    pub(super) waker: Waker,
}

impl Reader {
    /// Serves requests (the numbers of the streams to read) until the channel closes.
    pub(super) async fn run(self, mut requests: mpsc::Receiver<Vec<usize>>, answers: mpsc::Sender<Read>) {
        let mut connection: Option<MultiplexedConnection> = None;
        let mut pause = Duration::from_millis(20);
        while let Some(streams) = requests.recv().await {
            let read = match connection.take() {
                Some(mut open) => self.read_new(&mut open, &streams).await.map(|r| (open, Read::New(r))),
                None => self.begin().await.map(|(open, pending)| (open, Read::Pending(pending))),
            };
            let answer = match read {
                Ok((open, read)) => {
                    connection = Some(open);
                    pause = Duration::from_millis(20);
                    read
                }
                Err(e) => {
                    self.waker.client_id.store(0, Ordering::Relaxed);
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = answers.closed() => return,
                    }
                    pause = (pause * 2).min(Duration::from_secs(1));
                    Read::Failed(e.0)
                }
            };
            if answers.send(answer).await.is_err() {
                return;
            }
        }
    }

    /// Connects, makes sure that the group is there, and reads the own pending list.
    async fn begin(&self) -> Result<(MultiplexedConnection, Vec<(usize, Vec<RawEntry>)>), ReadError> {
        let mut connection = self.store.blocking(&self.keys).await?;
        let id: i64 = bounded(redis::cmd("CLIENT").arg("ID").query_async(&mut connection)).await?;
        // Who is registered holds back a trim, also while the server has lost the group.
        redis::cmd("SADD")
            .arg(self.store.layout().groups())
            .arg(&self.subscription.group)
            .exec_async(&mut self.store.connection())
            .await?;
        for (key, stream) in self.keys.iter().zip(&self.subscription.streams) {
            self.ensure_group(&mut connection, key, &stream.to_string()).await?;
        }
        let mut pending = Vec::new();
        for number in 0..self.keys.len() {
            pending.push((number, self.read_pending(&mut connection, number).await?));
        }
        self.waker.client_id.store(id, Ordering::Relaxed);
        Ok((connection, pending))
    }

    /// A group that is lost goes on at its durable cursor, a new one begins with the log.
    async fn ensure_group(
        &self,
        c: &mut MultiplexedConnection,
        key: &str,
        stream: &str,
    ) -> Result<(), ReadError> {
        let group = &self.subscription.group;
        let cursor: Option<String> =
            bounded(redis::cmd("HGET").arg(&self.cursors).arg(stream).query_async(c)).await?;
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(key).arg(group).arg(cursor.as_deref().unwrap_or("0")).arg("MKSTREAM");
        match bounded(create.query_async::<()>(c)).await {
            Ok(()) => {
                if let Some(cursor) = cursor {
                    warn!(group, stream, cursor, "the group was lost and goes on at its cursor");
                } else {
                    info!(group, stream, "made the group");
                }
                Ok(())
            }
            Err(e) if e.0.contains("BUSYGROUP") => Ok(()),
            Err(e) => Err(e),
        }
    }

    async fn read_pending(
        &self,
        c: &mut MultiplexedConnection,
        number: usize,
    ) -> Result<Vec<RawEntry>, ReadError> {
        let mut pending: Vec<RawEntry> = Vec::new();
        loop {
            let from = pending.last().map_or_else(|| "0".to_owned(), |e| e.id.to_string());
            let mut command = self.command(None);
            command.arg("STREAMS").arg(&self.keys[number]).arg(from);
            let page = entry::parse_streams(bounded(command.query_async(c)).await?);
            match page.into_iter().next() {
                Some((_, entries)) if !entries.is_empty() => pending.extend(entries),
                _ => return Ok(pending),
            }
        }
    }

    async fn read_new(
        &self,
        connection: &mut MultiplexedConnection,
        streams: &[usize],
    ) -> Result<Vec<(usize, Vec<RawEntry>)>, ReadError> {
        let mut command = self.command(Some(BLOCK));
        command.arg("STREAMS");
        for number in streams {
            command.arg(&self.keys[*number]);
        }
        for _ in streams {
            command.arg(">");
        }
        let reply: Value = bounded(command.query_async(connection)).await?;
        let mut found = entry::parse_streams(reply);
        let of = |number: &usize| {
            let key = &self.keys[*number];
            let at = found.iter().position(|(k, _)| k == key);
            (*number, at.map(|i| std::mem::take(&mut found[i].1)).unwrap_or_default())
        };
        Ok(streams.iter().map(of).collect())
    }

    fn command(&self, block: Option<Duration>) -> redis::Cmd {
        let mut command = redis::cmd("XREADGROUP");
        command
            .arg("GROUP")
            .arg(&self.subscription.group)
            .arg(&self.subscription.consumer)
            .arg("COUNT")
            .arg(BATCH);
        if let Some(block) = block {
            command.arg("BLOCK").arg(block.as_millis().to_string());
        }
        command
    }
}

/// The connection has no response timeout; a server that is silent for so long is lost.
async fn bounded<T>(answer: impl Future<Output = redis::RedisResult<T>>) -> Result<T, ReadError> {
    match tokio::time::timeout(SILENCE, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ReadError("the server fell silent".to_owned())),
    }
}
