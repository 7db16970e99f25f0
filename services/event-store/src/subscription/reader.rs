//! Reads a consumer's share of its group on a connection of its own. After any error the own
//! pending list is read again from its beginning, so an answer lost on the wire loses no entry.
//! Decodes what it reads, so that the driver need not. Never acknowledges.

use super::item::{self, Entries};
use super::{Subscription, SubscriptionError, upkeep};
use crate::entry::{self, RawEntry};
use crate::error::ReadError;
use crate::tail::SILENCE;
use crate::{EventStore, Id, functions};
use redis::Value;
use redis::aio::MultiplexedConnection;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::{info, warn};

/// Entries a stream may answer in one read.
pub(super) const BATCH: usize = 200;
const BLOCK: Duration = Duration::from_secs(2);
/// Requests that may be under way: while one is decoded, the server works on the next.
pub(super) const AHEAD: usize = 2;
/// After an error; doubled with each further one, up to the cap.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_CAP: Duration = Duration::from_secs(1);

/// What the driver wants to have read.
pub(super) struct Ask {
    /// The numbers of the streams.
    pub(super) streams: Vec<usize>,
    /// The highest id that this consumer was given, per stream of the subscription.
    pub(super) seen: Vec<Option<Id>>,
    /// Begin anew, as after an error.
    pub(super) anew: bool,
}

/// New entries of one stream.
pub(super) struct New {
    pub(super) stream: usize,
    pub(super) entries: Entries,
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
    },
    /// The log went back in time.
    Halted(SubscriptionError),
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
}

/// What came off the wire, undecoded.
enum Fetched {
    New { batches: Vec<Raw>, asked: Instant },
    Pending { entries: Vec<(usize, Vec<RawEntry>)>, again: Vec<Id> },
    Halted(SubscriptionError),
    Failed(String),
}

/// New entries of one stream, undecoded.
struct Raw {
    stream: usize,
    entries: Vec<RawEntry>,
    more: bool,
}

/// The connection, and what is known of it.
struct Wire {
    connection: Option<MultiplexedConnection>,
    /// What may be there already is read without waiting, so that nobody waits for the end of a wait.
    at_once: bool,
    /// After the next error.
    pause: Duration,
}

impl Reader {
    /// Serves requests in their order until the channel closes. What was fetched is decoded while the server works on the
    /// next request, if there is one already.
    pub(super) async fn run(self, mut requests: mpsc::Receiver<Ask>, answers: mpsc::Sender<Read>) {
        let mut wire = Wire { connection: None, at_once: false, pause: PAUSE };
        let mut fetched: Option<Fetched> = None;
        loop {
            let ask = match &fetched {
                Some(_) => requests.try_recv().ok(),
                None => match requests.recv().await {
                    Some(ask) => Some(ask),
                    None => return,
                },
            };
            let mut fetching = ask.map(|ask| Box::pin(self.fetch(&mut wire, ask)));
            let mut next = None;
            if let Some(last) = fetched.take() {
                if let Some(fetching) = &mut fetching {
                    // On its way before the last one is decoded.
                    next = poll_fn(|cx| {
                        Poll::Ready(match fetching.as_mut().poll(cx) {
                            Poll::Ready(fetched) => Some(fetched),
                            Poll::Pending => None,
                        })
                    })
                    .await;
                }
                if answers.send(self.decoded(last)).await.is_err() {
                    return;
                }
            }
            fetched = match (next, fetching) {
                (None, Some(fetching)) => tokio::select! {
                    fetched = fetching => Some(fetched),
                    () = answers.closed() => return,
                },
                (next, _) => next,
            };
        }
    }

    async fn fetch(&self, wire: &mut Wire, ask: Ask) -> Fetched {
        let fetched = match wire.connection.take().filter(|_| !ask.anew) {
            Some(mut open) => {
                let fetched = self.fetch_new(&mut open, &ask.streams, wire.at_once).await;
                fetched.map(|fetched| (Some(open), fetched))
            }
            None => self.begin(&ask.seen).await,
        };
        let (open, fetched) = fetched.unwrap_or_else(|e| (None, Fetched::Failed(e.to_string())));
        if open.is_some() {
            wire.at_once = match &fetched {
                Fetched::New { batches, .. } => batches.iter().any(|b| b.more),
                _ => true,
            };
            wire.pause = PAUSE;
        } else {
            self.waker.client_id.store(0, Ordering::Relaxed);
            tokio::time::sleep(wire.pause).await;
            wire.pause = (wire.pause * 2).min(PAUSE_CAP);
        }
        wire.connection = open;
        fetched
    }

    fn decoded(&self, fetched: Fetched) -> Read {
        let streams = &self.subscription.streams;
        match fetched {
            Fetched::New { batches, asked } => {
                let decoded = |Raw { stream, entries, more }| New {
                    stream,
                    entries: item::decoded(entries, stream, streams),
                    more,
                };
                Read::New { batches: batches.into_iter().map(decoded).collect(), asked }
            }
            Fetched::Pending { entries, again } => {
                let decoded = |(number, entries)| (number, item::decoded(entries, number, streams));
                Read::Pending { entries: entries.into_iter().map(decoded).collect(), again }
            }
            Fetched::Halted(fault) => Read::Halted(fault),
            Fetched::Failed(error) => Read::Failed(error),
        }
    }

    /// Connects, makes sure that the group is there, and reads the own pending list.
    async fn begin(
        &self,
        seen: &[Option<Id>],
    ) -> Result<(Option<MultiplexedConnection>, Fetched), ReadError> {
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
                Ok(id) => again.push(id),
                Err(halted) => return Ok((None, Fetched::Halted(halted))),
            }
        }
        let mut entries = Vec::new();
        for number in 0..self.keys.len() {
            entries.push((number, self.read_pending(&mut connection, number).await?));
        }
        self.waker.client_id.store(id, Ordering::Relaxed);
        Ok((Some(connection), Fetched::Pending { entries, again }))
    }

    /// A group that is lost goes on at its durable cursor, a new one begins where it is asked to.
    /// Answers up to which id what is finished may come again.
    async fn join(
        &self,
        number: usize,
        seen: Option<Id>,
    ) -> Result<Result<Id, SubscriptionError>, ReadError> {
        let (group, stream) = (&self.subscription.group, &self.subscription.streams[number]);
        let keys = [self.keys[number].clone(), self.cursors.clone(), self.clock.clone()];
        let start = self.subscription.start.word();
        let args = [group.clone(), stream.to_string(), upkeep::optional(seen), start];
        let words = functions::call(&mut self.store.connection(), "join", &keys, &args).await?;
        let words = entry::words(words);
        match words.first().map(String::as_str) {
            Some("back") => return Ok(Err(SubscriptionError::went_back(group, stream, &words[1..]))),
            Some("recovered") => warn!(group, %stream, "the group was lost and goes on at its cursor"),
            Some("made") => info!(group, %stream, "made the group"),
            Some("there") => {}
            _ => return Err(ReadError::malformed(format!("the server answered {words:?}"))),
        }
        Ok(Ok(words.get(1).and_then(|id| id.parse().ok()).unwrap_or(Id::ZERO)))
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

    /// A read that waited is served by one stream alone, whatever was appended to the others in the
    /// same step; so where the order across streams counts, they are read once more.
    async fn fetch_new(
        &self,
        connection: &mut MultiplexedConnection,
        streams: &[usize],
        at_once: bool,
    ) -> Result<Fetched, ReadError> {
        let asked = Instant::now();
        let block = BLOCK.min(self.subscription.claim_after / 2);
        let ordered = self.subscription.concurrency == 1 && streams.len() > 1;
        let mut read = self.read(connection, streams, (!at_once).then_some(block)).await?;
        let full = |read: &[Vec<RawEntry>]| read.iter().map(|e| e.len() >= BATCH).collect::<Vec<_>>();
        let mut more = full(&read);
        if ordered && !at_once && read.iter().any(|entries| !entries.is_empty()) {
            let rest = self.read(connection, streams, None).await?;
            more = full(&rest);
            read.iter_mut().zip(rest).for_each(|(entries, rest)| entries.extend(rest));
        }
        let batches = streams.iter().zip(read).zip(more);
        let batches = batches.map(|((stream, entries), more)| Raw { stream: *stream, entries, more });
        Ok(Fetched::New { batches: batches.collect(), asked })
    }

    async fn read(
        &self,
        connection: &mut MultiplexedConnection,
        streams: &[usize],
        block: Option<Duration>,
    ) -> Result<Vec<Vec<RawEntry>>, ReadError> {
        let mut command = self.command(block);
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
            let at = found.iter().position(|(key, _)| *key == self.keys[*number]);
            at.map(|i| std::mem::take(&mut found[i].1)).unwrap_or_default()
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
        Err(_) => Err(ReadError::unavailable("the server fell silent")),
    }
}
