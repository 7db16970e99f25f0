//! Appends of many tasks share calls of the append function: what waits while a call is under way goes
//! together in the next one, and each batch has its own answer. There is no timer: an append that finds
//! no call under way is sent at once. Never merges batches: one that is refused refuses no other.

use crate::append::Waiting;
use crate::batch::{Answer, Batch};
use crate::config::Config;
use crate::connection::{self, Connection};
use crate::deadline::LastError;
use crate::error::{AppendError, AppendErrorKind};
use crate::words::Words;
use crate::{Durability, entry, functions, settings};
use redis::aio::ConnectionLike;
use redis::{RedisError, Value};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Calls under way at a time: while the server works on one, the next is on its way.
const CALLS: usize = 3;
/// Bounds of one call, so that it holds the server up for about a millisecond at most.
const EVENTS: usize = 128;
const BYTES: usize = 256 * 1024;
/// Batches that may wait for their turn; who comes later waits to be let in.
const WAITING: usize = 1024;

/// A batch and who waits for what becomes of it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) batch: Batch,
    pub(crate) durability: Durability,
    pub(crate) deadline: Instant,
    pub(crate) last_error: LastError,
    pub(crate) answer: oneshot::Sender<Result<Told, AppendError>>,
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) struct Told {
    /// `None` when it is to be laid out again: see [`Batch::answer`].
    pub(crate) answer: Option<Answer>,
    /// How many copies have confirmed it; 0 when nobody asked.
    pub(crate) confirmed: u32,
}

impl Job {
    fn size(&self) -> usize {
        self.batch.records.size() + self.batch.keys.size() + self.batch.args.size()
    }

    /// May both go in one call?
    fn goes_with(&self, other: &Job) -> bool {
        self.batch.clock == other.batch.clock && self.durability == other.durability
    }
}

/// Starts a writer on the current runtime; it ends when the last sender is gone, or with the runtime.
pub(crate) fn start(connection: Connection, config: &Config) -> mpsc::Sender<Job> {
    let (sender, jobs) = mpsc::channel(WAITING);
    tokio::spawn(
        Writer {
            connection,
            dedup_ms: settings::milliseconds(config.dedup_window),
            response_timeout: config.response_timeout,
            jobs,
            next: VecDeque::new(),
        }
        .run(),
    );
    sender
}

struct Writer {
    connection: Connection,
    dedup_ms: u64,
    response_timeout: Duration,
    jobs: mpsc::Receiver<Job>,
    /// Taken in, but of another kind than those that were sent.
    next: VecDeque<Job>,
}

impl Writer {
    async fn run(mut self) {
        let mut calls = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = calls.join_next(), if !calls.is_empty() => {}
                job = next(&mut self.next, &mut self.jobs), if calls.len() < CALLS => {
                    let Some(job) = job else { break };
                    if !calls.is_empty() {
                        // The server is busy: all who were just answered may come along.
                        tokio::task::yield_now().await;
                    }
                    let call = Call {
                        jobs: self.together_with(job),
                        connection: self.connection.clone(),
                        dedup_ms: self.dedup_ms,
                        response_timeout: self.response_timeout,
                    };
                    calls.spawn(call.run());
                }
            }
        }
        while calls.join_next().await.is_some() {}
    }

    /// What waits now and goes with this one, in the order in which it came.
    fn together_with(&mut self, first: Job) -> Vec<Job> {
        let (mut events, mut bytes) = (first.batch.len(), first.size());
        let mut jobs = vec![first];
        while let Some(job) = self.next.pop_front().or_else(|| self.jobs.try_recv().ok()) {
            events += job.batch.len();
            bytes += job.size();
            if events > EVENTS || bytes > BYTES || !job.goes_with(&jobs[0]) {
                self.next.push_front(job);
                break;
            }
            jobs.push(job);
        }
        jobs
    }
}

async fn next(waiting: &mut VecDeque<Job>, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
    match waiting.pop_front() {
        Some(job) => Some(job),
        None => jobs.recv().await,
    }
}

struct Call {
    jobs: Vec<Job>,
    connection: Connection,
    dedup_ms: u64,
    response_timeout: Duration,
}

/// What a call brought.
struct Said {
    answers: Vec<Value>,
    confirmed: u32,
}

impl Call {
    /// Asks until it is answered: the event ids make that one append.
    async fn run(mut self) {
        let mut waiting = Waiting::default();
        loop {
            // Who went away before the batch was sent wanted nothing written.
            self.jobs.retain(|job| !job.answer.is_closed());
            if self.jobs.is_empty() {
                return;
            }
            match self.send().await {
                Ok(said) => return self.tell(&said),
                Err(e) if connection::is_passing(&e) => {
                    tracing::debug!(error = %e, batches = self.jobs.len(), "no answer to an append, asking again");
                    let (now, pause, message) = (Instant::now(), waiting.next_pause(), e.to_string());
                    self.jobs.iter().for_each(|job| job.last_error.set(&message));
                    self.give_up(
                        |job| (job.deadline <= now + pause).then_some(AppendErrorKind::Unavailable),
                        &message,
                    );
                    tokio::time::sleep(pause).await;
                }
                Err(e) => return self.give_up(|_| Some(AppendErrorKind::Refused), &e.to_string()),
            }
        }
    }

    async fn send(&mut self) -> Result<Said, RedisError> {
        let Batch { clock, settings, .. } = &self.jobs[0].batch;
        let (mut keys, mut args) = (Words::from_iter([clock, settings]), Words::default());
        args.push_number(self.jobs.len() as u64);
        args.push_number(self.dedup_ms);
        args.push_number(self.jobs.iter().map(|job| job.batch.records.len() as u64).sum());
        self.jobs.iter().for_each(|job| keys.extend(&job.batch.records));
        for job in &self.jobs {
            keys.extend(&job.batch.keys);
            args.extend(&job.batch.args);
        }
        let append = functions::command(&self.connection, "append", &keys, &args);
        let durability = self.jobs[0].durability;
        let Some(wait) = durability.command() else {
            let answer = functions::send(&mut self.connection, &append).await?;
            return Ok(Said { answers: list(answer), confirmed: 0 });
        };
        // Both on one connection: the server waits for the copies of what came on it before.
        let mut pipeline = redis::pipe();
        pipeline.add_command(append).add_command(wait);
        let bound = durability.timeout() + self.response_timeout;
        let sent = self.connection.req_packed_commands(&pipeline, 0, 2);
        let mut answers = tokio::time::timeout(bound, sent)
            .await
            .map_err(|_| RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)))??;
        let (waited, appended) = (answers.pop().unwrap_or_default(), answers.pop().unwrap_or_default());
        let appended = match appended.extract_error() {
            Err(e) if functions::is_missing(&e) => {
                functions::load_again(&mut self.connection).await?;
                return Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::NotConnected)));
            }
            answer => answer?,
        };
        // A wait that the server refused has confirmed nothing.
        let confirmed = durability.confirmed(&waited).unwrap_or(0);
        Ok(Said { answers: list(appended), confirmed })
    }

    fn tell(self, said: &Said) {
        let mut answers = said.answers.iter();
        for job in self.jobs {
            let line = answers.next().cloned().and_then(entry::text).unwrap_or_default();
            let words: Vec<&str> = line.split(' ').collect();
            let told = job.batch.answer(&words).map(|answer| Told { answer, confirmed: said.confirmed });
            // Who went away meanwhile is not told.
            let _ = job.answer.send(told);
        }
    }

    /// Tells those for whom there is an error, and keeps the others.
    fn give_up(&mut self, kind: impl Fn(&Job) -> Option<AppendErrorKind>, message: &str) {
        for job in std::mem::take(&mut self.jobs) {
            match kind(&job) {
                Some(kind) => {
                    let _ = job.answer.send(Err(AppendError::new(kind, message)));
                }
                None => self.jobs.push(job),
            }
        }
    }
}

fn list(answer: Value) -> Vec<Value> {
    match answer {
        Value::Array(answers) => answers,
        _ => Vec::new(),
    }
}
