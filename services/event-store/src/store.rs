//! The store itself: a handle that is cheap to clone.

use crate::config::Config;
use crate::connection::Connection;
use crate::doctor::{self, Access};
use crate::error::{AppendErrorKind, ConnectError, ConnectErrorKind, ReadError};
use crate::lanes::Lanes;
use crate::reads::Reads;
use crate::settings::{self, Known};
use crate::{Id, Layout, functions};
use redis::aio::MultiplexedConnection;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The event store. Clones share one connection for commands; every blocking reader opens its own.
///
/// A store outlives the runtime that it was opened on: one in a `static` serves the runtimes of several tests, also when
/// an append is under way on one that ends. What follows then opens another connection; a call that finds the old one
/// broken reports that as any other break of it.
#[derive(Clone)]
pub struct EventStore {
    inner: Arc<Inner>,
}

struct Inner {
    connection: Connection,
    config: Config,
    lanes: Lanes,
    known: Known,
}

impl fmt::Debug for EventStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStore").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl EventStore {
    /// Opens the store, checks that the server is fit for it and loads its functions.
    pub async fn connect(config: Config) -> Result<Self, ConnectError> {
        let unavailable =
            |e: redis::RedisError| ConnectError::new(ConnectErrorKind::Unavailable, e.to_string());
        doctor::at_connect(&config).await?;
        let mut connection = Connection::open(&config).await?;
        if config.access == Access::Full {
            functions::load(&mut connection).await.map_err(unavailable)?;
            settings::at_connect(&mut connection, &config).await?;
        } else {
            settings::at_look(&mut connection, &config).await?;
        }
        let lanes = Lanes::new(connection.clone(), config.clone());
        lanes.check(config.durability).await.map_err(|e| {
            let unsuitable = e.kind() == AppendErrorKind::Unsupported;
            let kind = if unsuitable { ConnectErrorKind::Unsuitable } else { ConnectErrorKind::Unavailable };
            ConnectError::new(kind, e.to_string())
        })?;
        let store = Self { inner: Arc::new(Inner { connection, config, lanes, known: Known::default() }) };
        if store.config().access == Access::Full {
            store.agree_on_kinds().await?;
        }
        Ok(store)
    }

    pub(crate) fn known(&self) -> &Known {
        &self.inner.known
    }

    /// Does the server answer now, and has it loaded its data? Asked once: for probes, which must not wait
    /// until it answers again.
    pub async fn ping(&self) -> Result<(), ReadError> {
        Ok(redis::cmd("PING").exec_async(&mut self.connection()).await?)
    }

    /// The id of the last event issued; [`Id::ZERO`] for an empty store. In the tagged layout every
    /// family has a head of its own and this is refused.
    pub async fn head(&self) -> Result<Id, ReadError> {
        if !self.layout().is_plain() {
            return Err(ReadError::invalid("in the tagged layout there is no head of the whole store"));
        }
        let head: Option<String> =
            redis::cmd("GET").arg(self.layout().clock("")).query_async(&mut self.reads()).await?;
        head.map_or(Ok(Id::ZERO), |text| {
            text.parse().map_err(|e| ReadError::malformed(format!("clock: {e}")))
        })
    }

    /// The server's time: milliseconds since the Unix epoch.
    pub(crate) async fn server_ms(&self) -> Result<u64, ReadError> {
        let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(&mut self.reads()).await?;
        Ok(seconds * 1_000 + micros / 1_000)
    }

    /// How its keys are named.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.inner.config.layout
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    pub(crate) fn connection(&self) -> Connection {
        self.inner.connection.clone()
    }

    /// The shared connection for the queries of a read, which are repeated until [`Config::read_deadline`].
    pub(crate) fn reads(&self) -> Reads {
        self.reads_within(Duration::MAX)
    }

    /// As [`Self::reads`], for a caller with a deadline of its own.
    pub(crate) fn reads_within(&self, time: Duration) -> Reads {
        Reads::new(self.connection(), self.inner.config.read_deadline.min(time))
    }

    pub(crate) fn lanes(&self) -> &Lanes {
        &self.inner.lanes
    }

    /// A connection of its own for blocking reads of these keys, which share a slot.
    pub(crate) async fn blocking(&self, keys: &[String]) -> redis::RedisResult<MultiplexedConnection> {
        self.inner.connection.blocking(keys.first().map_or("", String::as_str)).await
    }
}
