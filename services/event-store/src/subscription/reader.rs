//! Reads a consumer's share of its group on a connection of its own. After any error the own
//! pending list is read again from its beginning, so an answer lost on the wire loses no entry.
//! Decodes what it reads, so that the driver need not. Never acknowledges.

use super::item::{self, Entries};
use super::register;
use super::session::Session;
use super::streams::StreamList;
use super::{Subscription, SubscriptionError, upkeep};
use crate::entry::{self, RawEntry};
use crate::error::ReadError;
use crate::tail::SILENCE;
use crate::{EventStore, Id, functions};
use redis::Value;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::unconstrained;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

/// Entries a stream may answer in one read.
pub(super) const BATCH: usize = 100;
const BLOCK: Duration = Duration::from_secs(2);
/// Reads that the driver may ask for ahead of their answers in a backlog: the server works on one, one is on the wire, one is decoded.
pub(super) const AHEAD: usize = 3;
/// After an error; doubled with each further one, up to the cap.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_CAP: Duration = Duration::from_secs(1);

/// The highest id that this consumer was given, per stream of the subscription.
pub(super) type Seen = Vec<Option<Id>>;

/// What the driver wants to have read.
pub(super) struct Ask {
    /// The numbers of the streams.
    pub(super) streams: Vec<usize>,
    /// The entries that each of them may answer.
    pub(super) count: usize,
    /// One of them may hold more: nobody waits for what is yet to come.
    pub(super) at_once: bool,
    /// Begin anew, as after an error, and go by these.
    pub(super) anew: Option<Seen>,
}

/// New entries of one stream.
pub(super) struct New {
    pub(super) stream: usize,
    pub(super) entries: Entries,
    /// The bytes that these came in.
    pub(super) bytes: usize,
    /// It may hold more beyond the last one.
    pub(super) more: bool,
}

/// What a read brought.
pub(super) enum Read {
    /// New entries in id order; every stream that was read is named.
    New {
        batches: Vec<New>,
        /// When the read was sent: no entry was delivered before.
        asked: Instant,
    },
    /// Entries that this consumer already has pending, per stream (by number).
    Pending {
        entries: Vec<(usize, Entries)>,
        /// Per stream: up to here the group may deliver again what is finished.
        again: Vec<Id>,
        /// The streams that the group reads.
        streams: StreamList,
    },
    /// The log went back in time.
    Halted(SubscriptionError),
    /// Another process has the consumer's name.
    NameTaken,
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
    pub(super) clock: String,
    pub(super) waker: Waker,
    pub(super) session: Arc<Session>,
}

/// What a stream of the group is joined with.
enum Joined {
    /// Up to here what is finished may come again.
    Since(Id),
    Halted(SubscriptionError),
    NameTaken,
}

/// A read that is under way.
type UnderWay = AbortOnDropHandle<Result<Read, ReadError>>;

impl Reader {
    /// Serves requests in their order until the channel closes. In a backlog several reads are under way: the server works
    /// on the next ones while this one is parsed and decoded.
    pub(super) async fn run(self: Arc<Self>, mut requests: mpsc::Receiver<Ask>, answers: mpsc::Sender<Read>) {
        let mut connection: Option<MultiplexedConnection> = None;
        let mut under_way: VecDeque<UnderWay> = VecDeque::new();
        // What is to begin anew does so when nothing is under way.
        let mut anew: Option<Ask> = None;
        let mut seen: Seen = vec![None; self.keys.len()];
        let (mut pause, mut open) = (PAUSE, true);
        loop {
            let read = if under_way.is_empty()
                && let Some(ask) = anew.take()
            {
                // Not those of the request: it may be older than the last read.
                seen = ask.anew.unwrap_or(seen);
                let begun = tokio::select! {
                    begun = self.begin(&seen) => begun,
                    () = answers.closed() => return,
                };
                begun.map(|(begun, read)| {
                    connection = begun;
                    read
                })
            } else {
                tokio::select! {
                    biased;
                    ask = requests.recv(), if open && anew.is_none() => {
                        match (ask, &connection) {
                            (Some(ask), Some(connection)) if ask.anew.is_none() => {
                                under_way.push_back(self.start_read(connection, ask).await);
                            }
                            (Some(ask), _) => anew = Some(ask),
                            (None, _) => open = false,
                        }
                        continue;
                    }
                    read = first(&mut under_way), if !under_way.is_empty() => read,
                    else => return,
                }
            };
            let read = read.unwrap_or_else(|e| {
                connection = None;
                Read::Failed(e.to_string())
            });
            if let Read::New { batches, .. } = &read {
                for batch in batches {
                    let last = batch.entries.last().map(|(id, _)| *id);
                    seen[batch.stream] = seen[batch.stream].max(last);
                }
            }
            let mut reads = vec![read];
            if connection.is_some() {
                pause = PAUSE;
            } else {
                // What is behind a read that failed must not overtake what that one may have been given.
                reads.extend(
                    under_way.drain(..).map(|_| Read::Failed("the read before it failed".to_owned())),
                );
                self.waker.client_id.store(0, Ordering::Relaxed);
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = answers.closed() => return,
                }
                pause = (pause * 2).min(PAUSE_CAP);
            }
            for read in reads {
                if answers.send(read).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Connects, makes sure that the group is there, and reads the own pending list.
    async fn begin(&self, seen: &[Option<Id>]) -> Result<(Option<MultiplexedConnection>, Read), ReadError> {
        let mut connection = self.store.blocking(&self.keys).await?;
        let id: i64 = bounded(redis::cmd("CLIENT").arg("ID").query_async(&mut connection)).await?;
        // Who is registered holds back a trim, also while the server has lost the group.
        redis::cmd("SADD")
            .arg(self.store.layout().groups())
            .arg(&self.subscription.group)
            .exec_async(&mut self.store.connection())
            .await?;
        let mut again = Vec::new();
        for (number, seen) in seen.iter().enumerate() {
            match self.join(number, *seen).await? {
                Joined::Since(id) => again.push(id),
                Joined::Halted(halted) => return Ok((None, Read::Halted(halted))),
                Joined::NameTaken => return Ok((None, Read::NameTaken)),
            }
        }
        let (mut entries, mut left) = (Vec::new(), self.subscription.read_ahead_bytes);
        for number in 0..self.keys.len() {
            entries.push((number, self.read_pending(&mut connection, number, &mut left).await?));
        }
        // Last, so that a consumer that cannot read a stream holds nobody up, and before its first entry is handed out.
        let streams = register::register(&self.store, &self.subscription, &self.cursors).await?;
        self.waker.client_id.store(id, Ordering::Relaxed);
        Ok((Some(connection), Read::Pending { entries, again, streams }))
    }

    /// A group that is lost goes on at its durable cursor, a new one begins where it is asked to.
    async fn join(&self, number: usize, seen: Option<Id>) -> Result<Joined, ReadError> {
        let (group, stream) = (&self.subscription.group, &self.subscription.streams[number]);
        let session = &self.session;
        let keys = [self.keys[number].clone(), self.cursors.clone(), self.clock.clone(), session.key.clone()];
        let args = [
            group.clone(),
            stream.to_string(),
            upkeep::optional(seen),
            self.subscription.start.word(),
            session.id.clone(),
            session.alive_ms(),
            u8::from(session.is_new()).to_string(),
            self.subscription.consumer.clone(),
        ];
        let words = functions::call(&mut self.store.connection(), "join", &keys, &args).await?;
        let words = entry::words(words);
        if words.first().is_some_and(|word| word == "taken") {
            return Ok(Joined::NameTaken);
        }
        session.taken();
        match words.first().map(String::as_str) {
            Some("back") => {
                return Ok(Joined::Halted(SubscriptionError::went_back(group, stream, &words[1..])));
            }
            Some("recovered") => warn!(group, %stream, "the group was lost and goes on at its cursor"),
            Some("made") => info!(group, %stream, "made the group"),
            Some("there") => {}
            _ => return Err(ReadError::malformed(format!("the server answered {words:?}"))),
        }
        Ok(Joined::Since(words.get(1).and_then(|id| id.parse().ok()).unwrap_or(Id::ZERO)))
    }

    /// The own pending entries; states beyond the bytes that are `left` are left out.
    async fn read_pending(
        &self,
        c: &mut MultiplexedConnection,
        number: usize,
        left: &mut usize,
    ) -> Result<Entries, ReadError> {
        let mut pending = Entries::new();
        let mut size = self.subscription.page_size();
        loop {
            let from = pending.last().map_or_else(|| "0".to_owned(), |(id, _)| id.to_string());
            let mut command = self.command(size.count(), None);
            command.arg("STREAMS").arg(&self.keys[number]).arg(from);
            let page = entry::parse_streams(bounded(answer(&command, c)).await?);
            match page.into_iter().next() {
                Some((_, raw)) if !raw.is_empty() => {
                    size.saw(raw.len(), entry::size_of(&raw));
                    pending.extend(item::decoded_within(left, raw, number, &self.subscription.streams));
                }
                _ => return Ok(pending),
            }
        }
    }

    /// Sends a read now, in the reader's own task: the server answers the reads of a connection in the order in which
    /// they were sent, but tasks run in any order.
    async fn start_read(self: &Arc<Self>, connection: &MultiplexedConnection, ask: Ask) -> UnderWay {
        let (Ask { streams, count, at_once, .. }, asked) = (ask, Instant::now());
        let block = BLOCK.min(self.subscription.claim_after / 2);
        let first = send(connection, self.read_command(&streams, count, (!at_once).then_some(block))).await;
        // A read that waited is served by one stream alone, whatever was appended to the others in the same step; so
        // where the order across streams counts, they are read once more, before any later read.
        let second = if self.subscription.concurrency == 1 && streams.len() > 1 && !at_once {
            Some(send(connection, self.read_command(&streams, count, None)).await)
        } else {
            None
        };
        let reader = self.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut read = reader.entries(&streams, bounded(first).await?);
            let mut more: Vec<bool> = read.iter().map(|entries| entries.len() >= count).collect();
            if let Some(second) = second {
                let rest = reader.entries(&streams, bounded(second).await?);
                more = rest.iter().map(|entries| entries.len() >= count).collect();
                read.iter_mut().zip(rest).for_each(|(entries, rest)| entries.extend(rest));
            }
            let batches = streams.into_iter().zip(read).zip(more).map(|((stream, raw), more)| New {
                stream,
                bytes: entry::size_of(&raw),
                entries: item::decoded(raw, stream, &reader.subscription.streams),
                more,
            });
            Ok(Read::New { batches: batches.collect(), asked })
        }))
    }

    fn read_command(&self, streams: &[usize], count: usize, block: Option<Duration>) -> redis::Cmd {
        let mut command = self.command(count, block);
        command.arg("STREAMS");
        for number in streams {
            command.arg(&self.keys[*number]);
        }
        for _ in streams {
            command.arg(">");
        }
        command
    }

    /// The entries of an answer, in the order of the streams that were asked for.
    fn entries(&self, streams: &[usize], answer: Value) -> Vec<Vec<RawEntry>> {
        let mut found = entry::parse_streams(answer);
        let of = |number: &usize| {
            let at = found.iter().position(|(key, _)| *key == self.keys[*number]);
            at.map(|i| std::mem::take(&mut found[i].1)).unwrap_or_default()
        };
        streams.iter().map(of).collect()
    }

    fn command(&self, count: usize, block: Option<Duration>) -> redis::Cmd {
        let mut command = redis::cmd("XREADGROUP");
        command
            .arg("GROUP")
            .arg(&self.subscription.group)
            .arg(&self.subscription.consumer)
            .arg("COUNT")
            .arg(count);
        if let Some(block) = block {
            command.arg("BLOCK").arg(block.as_millis().to_string());
        }
        command
    }
}

/// What the first of them brings; it is no longer under way then.
async fn first(under_way: &mut VecDeque<UnderWay>) -> Result<Read, ReadError> {
    let Some(read) = under_way.front_mut() else { return std::future::pending().await };
    let read = read.await;
    under_way.pop_front();
    read.unwrap_or_else(|e| Err(ReadError::malformed(format!("the read ended: {e}"))))
}

/// The answer to a command that was sent.
type Answer = Pin<Box<dyn Future<Output = redis::RedisResult<Value>> + Send>>;

/// Sends a command: when this is done it has its place behind all that were sent before.
async fn send(connection: &MultiplexedConnection, command: redis::Cmd) -> Answer {
    let mut connection = connection.clone();
    let mut answer: Answer = Box::pin(async move { answer(&command, &mut connection).await });
    // The first poll queues the command. Without tokio's budget, which could put that off.
    match unconstrained(poll_fn(|context| Poll::Ready(answer.as_mut().poll(context)))).await {
        Poll::Ready(answered) => Box::pin(std::future::ready(answered)),
        Poll::Pending => answer,
    }
}

/// The answer to a read. Looks for an error where one can be: `Cmd::query_async` would look at each value of all entries,
/// which costs as much as a tenth of all that consuming costs here.
async fn answer(command: &redis::Cmd, connection: &mut MultiplexedConnection) -> redis::RedisResult<Value> {
    match connection.req_packed_command(command).await? {
        Value::ServerError(error) => Err(error.into()),
        answer => Ok(answer),
    }
}

/// The connection has no response timeout; a server that is silent for so long is lost.
async fn bounded<T>(answer: impl Future<Output = redis::RedisResult<T>>) -> Result<T, ReadError> {
    match tokio::time::timeout(SILENCE, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ReadError::unavailable("the server fell silent")),
    }
}
