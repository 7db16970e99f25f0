//! The connection to the one server that takes writes. What stood on a connection that broke is for the
//! caller to ask again; the next command opens a new one. While none can be opened, whatever the reason, a
//! command fails soon with an error that passes: a server that starts, a password that is being changed, and
//! something else that answers in its place are over at some time, and nobody restarts the program for it.

use super::sentinel::Sentinels;
use super::{for_blocking, gone, is_broken, open_with, ordinary, unavailable};
use crate::error::ConnectError;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, ConnectionInfo, Pipeline, RedisError, RedisResult, Value};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Who asks again within this time after no connection could be opened hears the same.
const PAUSE: Duration = Duration::from_millis(100);

/// A command that its caller gives up after this time without an answer has found a server that is silent.
pub(super) const SILENT: Duration = Duration::from_secs(1);

/// Where the master is.
pub(super) enum Whereabouts {
    /// Always there.
    Fixed {
        /// How it is reached.
        info: ConnectionInfo,
        /// After so long without an answer a command has failed.
        response_timeout: Duration,
    },
    /// Where sentinels say.
    Watched(Sentinels),
}

impl Whereabouts {
    async fn open(&self) -> RedisResult<(ConnectionInfo, MultiplexedConnection)> {
        match self {
            Self::Fixed { info, response_timeout } => {
                let open = ordinary(info, *response_timeout).await;
                open.map(|open| (info.clone(), open)).map_err(|e| gone(format!("{}: {e}", info.addr())))
            }
            Self::Watched(sentinels) => sentinels.master().await,
        }
    }

    async fn blocking(&self, info: &ConnectionInfo) -> RedisResult<MultiplexedConnection> {
        match self {
            Self::Fixed { .. } => open_with(info, &for_blocking()).await,
            Self::Watched(sentinels) => sentinels.blocking(info).await,
        }
    }
}

/// The connection to the master as it is now. Cheap to share; all who use it change over together.
pub(crate) struct Master {
    whereabouts: Whereabouts,
    /// Held while one is opened, so that one is opened.
    opening: tokio::sync::Mutex<Option<(Instant, RedisError)>>,
    current: Mutex<Option<Current>>,
}

#[derive(Clone)]
struct Current {
    info: ConnectionInfo,
    open: MultiplexedConnection,
    number: u64,
}

impl Master {
    pub(super) async fn open(whereabouts: Whereabouts) -> Result<Self, ConnectError> {
        let master = Self { whereabouts, opening: tokio::sync::Mutex::default(), current: Mutex::default() };
        master.current().await.map_err(unavailable)?;
        Ok(master)
    }

    fn slot(&self) -> MutexGuard<'_, Option<Current>> {
        // Nobody panics while holding it.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn current(&self) -> RedisResult<Current> {
        if let Some(current) = self.slot().clone() {
            return Ok(current);
        }
        let mut failed = self.opening.lock().await;
        if let Some(current) = self.slot().clone() {
            return Ok(current);
        }
        if let Some((when, e)) = failed.as_ref().filter(|(when, _)| when.elapsed() < PAUSE) {
            tracing::trace!(ago = ?when.elapsed(), "it was tried just now");
            return Err(e.clone());
        }
        match self.whereabouts.open().await {
            Ok((info, open)) => {
                static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
                tracing::info!(master = %info.addr(), "connected");
                let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let current = Current { info, open, number };
                *failed = None;
                *self.slot() = Some(current.clone());
                Ok(current)
            }
            Err(e) => {
                *failed = Some((Instant::now(), e.clone()));
                Err(e)
            }
        }
    }

    /// Gives this one up, unless that was done already.
    fn lost(&self, number: u64) {
        let mut slot = self.slot();
        if slot.as_ref().is_some_and(|current| current.number == number) {
            *slot = None;
        }
    }

    /// Asks the master. A connection that broke, or whose server takes no writes any more, is given up.
    pub(super) async fn command(&self, command: &Cmd) -> RedisResult<Value> {
        let mut current = self.current().await?;
        let unanswered = Unanswered::new(self, current.number);
        let answer = current.open.req_packed_command(command).await;
        unanswered.answered();
        if match &answer {
            Ok(value) => refuses(value),
            Err(e) => is_lost(e),
        } {
            self.lost(current.number);
        }
        answer
    }

    /// As [`Self::command`], for several at once.
    pub(super) async fn pipeline(
        &self,
        pipeline: &Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        let mut current = self.current().await?;
        let unanswered = Unanswered::new(self, current.number);
        let answers = current.open.req_packed_commands(pipeline, offset, count).await;
        unanswered.answered();
        if match &answers {
            Ok(values) => values.iter().any(refuses),
            Err(e) => is_lost(e),
        } {
            self.lost(current.number);
        }
        answers
    }

    pub(super) fn db(&self) -> i64 {
        match &self.whereabouts {
            Whereabouts::Fixed { info, .. } => info.redis_settings().db(),
            Whereabouts::Watched(sentinels) => sentinels.db(),
        }
    }

    /// The master's address.
    pub(super) async fn name(&self) -> RedisResult<String> {
        Ok(self.current().await?.info.addr().to_string())
    }

    /// A connection of its own for blocking reads.
    pub(super) async fn blocking(&self) -> RedisResult<MultiplexedConnection> {
        let current = self.current().await?;
        let opened = self.whereabouts.blocking(&current.info).await;
        opened.map_err(|e| {
            // One that takes no more clients may still serve those that it has.
            if is_lost(&e) {
                self.lost(current.number);
            }
            gone(e.to_string())
        })
    }
}

/// A command on its way. A caller whose deadline is shorter than the response timeout drops it, so the timeout never
/// ends it: without this, such callers would ask a server that is silent for ever.
struct Unanswered<'a> {
    master: &'a Master,
    number: u64,
    since: Instant,
    answered: bool,
}

impl<'a> Unanswered<'a> {
    fn new(master: &'a Master, number: u64) -> Self {
        Self { master, number, since: Instant::now(), answered: false }
    }

    fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if !self.answered && self.since.elapsed() >= SILENT {
            self.master.lost(self.number);
        }
    }
}

/// An answer that says that its server is no master any more.
fn refuses(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(e) if is_lost(&e.clone().into()))
}

/// Is the connection broken, or its server no master any more?
fn is_lost(e: &RedisError) -> bool {
    is_broken(e)
        || e.is_unrecoverable_error()
        || matches!(e.code(), Some("READONLY" | "MASTERDOWN" | "UNBLOCKED"))
}
