//! Connections, to a standalone server, to the master that sentinels name, or to a Redis Cluster: a
//! shared one for commands, and one of its own for each blocking reader. The other modules do not know
//! which of these they talk to; what they must do for all is to name a key of the slot that a command is
//! about.

mod address;
mod cluster;
mod master;
pub(crate) mod sentinel;

use crate::config::Config;
use crate::error::{ConnectError, ConnectErrorKind};
use cluster::Cluster;
use master::{Master, Whereabouts};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, IntoConnectionInfo, Pipeline, RedisError,
    RedisFuture, RedisResult, Value,
};
use std::sync::Arc;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The shared connection: reconnects by itself, fails fast while the server is away. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connection {
    link: Link,
    by_script: bool,
}

#[derive(Clone)]
enum Link {
    /// One server, or the master that sentinels name.
    Master(Arc<Master>),
    /// The masters of a cluster. The cluster's client sends a command again on its own.
    Cluster(Arc<Cluster>),
}

impl Connection {
    /// Connects to what the first node that answers says it is.
    pub(crate) async fn open(config: &Config) -> Result<Self, ConnectError> {
        if let Some(watched) = &config.watched {
            return Self::to_master(Whereabouts::Watched(sentinel::Sentinels::new(config, watched)?)).await;
        }
        let infos = config.urls.iter().map(|url| connection_info(url)).collect::<Result<Vec<_>, _>>()?;
        let (answering, is_cluster) = first_that_answers(&infos).await?;
        if !is_cluster && infos.len() > 1 {
            return Err(ConnectError::new(
                ConnectErrorKind::Unsuitable,
                "several nodes are named, but the first that answers belongs to no Redis Cluster: name one server",
            ));
        }
        if is_cluster {
            let cluster = Cluster::open(infos, config).await?;
            return Ok(Self { link: Link::Cluster(Arc::new(cluster)), by_script: false });
        }
        let response_timeout = config.response_timeout;
        Self::to_master(Whereabouts::Fixed { info: answering, response_timeout }).await
    }

    async fn to_master(whereabouts: Whereabouts) -> Result<Self, ConnectError> {
        let master = Master::open(whereabouts).await?;
        Ok(Self { link: Link::Master(Arc::new(master)), by_script: false })
    }

    /// From now on functions are called as scripts, for a user who may not load functions.
    pub(crate) fn set_by_script(&mut self) {
        self.by_script = true;
    }

    /// Are functions called as scripts?
    pub(crate) fn is_by_script(&self) -> bool {
        self.by_script
    }

    /// Sends a command that names no key to the server that holds this key.
    pub(crate) async fn at(&mut self, key: &str, command: &Cmd) -> RedisResult<Value> {
        let answer = match &mut self.link {
            Link::Master(master) => master.command(command).await?,
            Link::Cluster(cluster) => cluster.at(key, command).await?,
        };
        answer.extract_error()
    }

    /// Sends a command to every server that takes writes; answers by the server's name.
    pub(crate) async fn everywhere(
        &mut self,
        command: &Cmd,
    ) -> RedisResult<Vec<(String, RedisResult<Value>)>> {
        match &mut self.link {
            Link::Master(master) => named(master.name().await?, master.command(command).await),
            Link::Cluster(cluster) => cluster.everywhere(command).await,
        }
    }

    /// A connection for blocking reads of this key and those in its slot. It has no response timeout
    /// of its own: a read that is given up while the server still serves it would hand events to a
    /// reader that has gone. After any error a new one must be opened: in a cluster the slot may
    /// have moved.
    pub(crate) async fn blocking(&self, key: &str) -> RedisResult<MultiplexedConnection> {
        match &self.link {
            Link::Master(master) => master.blocking().await,
            Link::Cluster(cluster) => open_with(&cluster.master_of(key).await?, &for_blocking()).await,
        }
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match &mut self.link {
            Link::Master(master) => Box::pin(master.command(command)),
            Link::Cluster(cluster) => Box::pin(cluster.command(command)),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match &mut self.link {
            Link::Master(master) => Box::pin(master.pipeline(pipeline, offset, count)),
            Link::Cluster(cluster) => Box::pin(cluster.pipeline(pipeline, offset, count)),
        }
    }

    fn get_db(&self) -> i64 {
        match &self.link {
            Link::Master(master) => master.db(),
            // A cluster has this one only.
            Link::Cluster(_) => 0,
        }
    }
}

/// The answer of the one server there is; an error of the line is none.
fn named(name: String, answer: RedisResult<Value>) -> RedisResult<Vec<(String, RedisResult<Value>)>> {
    match answer {
        Ok(value) => Ok(vec![(name, value.extract_error())]),
        Err(e) if e.is_unrecoverable_error() || is_passing(&e) => Err(e),
        Err(e) => Ok(vec![(name, Err(e))]),
    }
}

fn invalid(e: impl std::fmt::Display) -> ConnectError {
    ConnectError::new(ConnectErrorKind::InvalidUrl, e.to_string())
}

fn unavailable(e: impl std::fmt::Display) -> ConnectError {
    ConnectError::new(ConnectErrorKind::Unavailable, e.to_string())
}

/// An error that passes: whoever asks again may find a server that serves.
fn gone(why: impl Into<String>) -> RedisError {
    std::io::Error::new(std::io::ErrorKind::NotConnected, why.into()).into()
}

/// Sockets send small commands at once: with Nagle's algorithm a command waits for the
/// acknowledgement of the one before it.
fn nodelay() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

fn connection_info(url: &str) -> Result<ConnectionInfo, ConnectError> {
    Ok(url.into_connection_info().map_err(invalid)?.set_tcp_settings(nodelay()))
}

/// A connection of its own to every server that takes writes, by `host:port`: for looking at the
/// servers one by one, also at one that is unfit for the store.
pub(crate) async fn servers(config: &Config) -> Result<Vec<(String, MultiplexedConnection)>, ConnectError> {
    if let Some(watched) = &config.watched {
        let (info, open) = sentinel::Sentinels::new(config, watched)?.master().await.map_err(unavailable)?;
        return Ok(vec![(info.addr().to_string(), open)]);
    }
    let infos = config.urls.iter().map(|url| connection_info(url)).collect::<Result<Vec<_>, _>>()?;
    let (answering, is_cluster) = first_that_answers(&infos).await?;
    let masters = if is_cluster {
        let mut open = ordinary(&answering, config.response_timeout).await.map_err(unavailable)?;
        cluster::Nodes::new(answering, config)?.masters(&mut open).await.map_err(unavailable)?
    } else {
        vec![answering]
    };
    if masters.is_empty() {
        return Err(unavailable("no node of the cluster serves a slot"));
    }
    let mut servers = Vec::with_capacity(masters.len());
    for info in masters {
        let open = ordinary(&info, config.response_timeout).await.map_err(unavailable)?;
        servers.push((info.addr().to_string(), open));
    }
    Ok(servers)
}

async fn ordinary(info: &ConnectionInfo, response_timeout: Duration) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(response_timeout));
    open_with(info, &config).await
}

async fn open_with(
    info: &ConnectionInfo,
    config: &AsyncConnectionConfig,
) -> RedisResult<MultiplexedConnection> {
    Client::open(info.clone())?.get_multiplexed_async_connection_with_config(config).await
}

fn for_blocking() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_TIMEOUT)).set_response_timeout(None)
}

/// The first server that answers, and whether it is a node of a cluster.
async fn first_that_answers(infos: &[ConnectionInfo]) -> Result<(ConnectionInfo, bool), ConnectError> {
    let mut failures = Vec::new();
    for info in infos {
        let answer: RedisResult<String> = match ordinary(info, CONNECT_TIMEOUT).await {
            Ok(mut open) => redis::cmd("INFO").arg("cluster").query_async(&mut open).await,
            Err(e) => Err(e),
        };
        match answer {
            Ok(text) => return Ok((info.clone(), info_field(&text, "cluster_enabled") == Some("1"))),
            // Who may not ask is told so by the checks of the server.
            Err(e) if e.code() == Some("NOPERM") => return Ok((info.clone(), false)),
            Err(e) => failures.push(format!("{}: {e}", info.addr())),
        }
    }
    Err(unavailable(failures.join("; ")))
}

/// A line of what INFO answers.
pub(crate) fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Was there no connection, or did it break?
fn is_broken(e: &RedisError) -> bool {
    e.is_io_error()
        || e.is_timeout()
        || e.is_connection_dropped()
        || e.is_connection_refusal()
        || e.kind() == ErrorKind::ClusterConnectionNotFound
}

/// May the same command succeed later? (The server is away, starting, full, read-only, has lost its
/// functions, or hands a slot over.) Whoever is told "later" asks the server again, not the handler: a
/// full server must not make a handler repeat what it did outside.
pub(crate) fn is_passing(e: &RedisError) -> bool {
    is_broken(e)
        || matches!(
            e.code(),
            Some(
                "LOADING"
                    | "MASTERDOWN"
                    | "READONLY"
                    | "OOM"
                    | "MISCONF"
                    | "NOREPLICAS"
                    | "TRYAGAIN"
                    | "CLUSTERDOWN"
                    | "MOVED"
                    | "ASK"
                    | "BUSY"
                    | "UNBLOCKED"
            )
        )
}
