//! The store itself: a handle that is cheap to clone.

use crate::config::Config;
use crate::connection::{Connection, info_field as field};
use crate::error::{ConnectError, ConnectErrorKind, ReadError};
use crate::{Id, Layout, functions};
use redis::aio::MultiplexedConnection;
use std::sync::Arc;
use tracing::warn;

/// The event store. Clones share one connection for commands; every blocking reader opens its own.
#[derive(Clone)]
pub struct EventStore {
    inner: Arc<Inner>,
}

struct Inner {
    connection: Connection,
    config: Config,
}

impl EventStore {
    /// Opens the store, checks that the server is fit for it and loads its functions.
    pub async fn connect(config: Config) -> Result<Self, ConnectError> {
        let unavailable =
            |e: redis::RedisError| ConnectError::new(ConnectErrorKind::Unavailable, e.to_string());
        let mut connection = Connection::open(&config).await?;
        for (_, info) in connection.everywhere(&redis::cmd("INFO")).await.map_err(unavailable)? {
            let info: String = info.and_then(|i| Ok(redis::from_redis_value(i)?)).map_err(unavailable)?;
            check_server(&info)?;
        }
        functions::load(&mut connection).await.map_err(unavailable)?;
        Ok(Self { inner: Arc::new(Inner { connection, config }) })
    }

    /// Does the server answer, and has it loaded its data?
    pub async fn ping(&self) -> Result<(), ReadError> {
        Ok(redis::cmd("PING").exec_async(&mut self.connection()).await?)
    }

    /// The id of the last event issued; [`Id::ZERO`] for an empty store. In the tagged layout every
    /// family has a head of its own and this is refused.
    pub async fn head(&self) -> Result<Id, ReadError> {
        if !self.layout().is_plain() {
            return Err(ReadError("in the tagged layout there is no head of the whole store".to_owned()));
        }
        let head: Option<String> =
            redis::cmd("GET").arg(self.layout().clock("")).query_async(&mut self.connection()).await?;
        head.map_or(Ok(Id::ZERO), |text| text.parse().map_err(|e| ReadError(format!("clock: {e}"))))
    }

    pub(crate) fn layout(&self) -> Layout {
        self.inner.config.layout
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    pub(crate) fn connection(&self) -> Connection {
        self.inner.connection.clone()
    }

    /// A connection of its own for blocking reads of these keys, which share a slot.
    pub(crate) async fn blocking(&self, keys: &[String]) -> redis::RedisResult<MultiplexedConnection> {
        self.inner.connection.blocking(keys.first().map_or("", String::as_str)).await
    }
}

/// A server that may evict keys would lose events without a word.
fn check_server(info: &str) -> Result<(), ConnectError> {
    let unsuitable = |message: String| Err(ConnectError::new(ConnectErrorKind::Unsuitable, message));
    let version = field(info, "redis_version").unwrap_or_default();
    let major: u32 = version.split('.').next().and_then(|v| v.parse().ok()).unwrap_or(0);
    if major < 7 {
        return unsuitable(format!("the server is Redis {version:?}: use Redis 7.0 or newer, or Valkey"));
    }
    let policy = field(info, "maxmemory_policy").unwrap_or("noeviction");
    if policy != "noeviction" {
        return unsuitable(format!(
            "maxmemory-policy is {policy}, so the server may drop events: set it to noeviction (CONFIG SET maxmemory-policy noeviction)"
        ));
    }
    if field(info, "aof_enabled") != Some("1") {
        warn!("the server writes no append-only file: events are lost when it ends; set appendonly yes");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIT: &str = "redis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n";

    #[test]
    fn a_server_that_evicts_or_is_too_old_is_refused_with_what_to_change() {
        assert!(check_server(FIT).is_ok());
        let evicts = check_server(&FIT.replace("noeviction", "allkeys-lru")).unwrap_err();
        assert_eq!(evicts.kind(), ConnectErrorKind::Unsuitable);
        assert!(evicts.to_string().contains("noeviction"), "{evicts}");
        let old = check_server(&FIT.replace("7.0.15", "6.2.1")).unwrap_err();
        assert!(old.to_string().contains("7.0 or newer"), "{old}");
    }
}
