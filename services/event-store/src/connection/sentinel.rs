//! A master that sentinels watch: they say where it is, and after a failover they say something else.
//! Never trusts a server that does not call itself a master, and never reads from a replica.

use super::address::Addresses;
use super::{CONNECT_TIMEOUT, connection_info, for_blocking, gone, invalid, open_with, ordinary};
use crate::config::{Config, Watched};
use crate::error::ConnectError;
use crate::table;
use redis::aio::MultiplexedConnection;
use redis::cluster::NodeAddress;
use redis::{ConnectionInfo, RedisResult, Value};
use std::time::Duration;

/// A sentinel answers at once or is asked later.
const ANSWER: Duration = Duration::from_secs(1);

/// How the master is found.
#[derive(Clone, Debug)]
pub(crate) struct Sentinels {
    name: String,
    /// Where the sentinels are.
    nodes: Vec<ConnectionInfo>,
    /// How a server is reached that a sentinel names.
    masters: Addresses,
    response_timeout: Duration,
}

impl Sentinels {
    pub(crate) fn new(config: &Config, watched: &Watched) -> Result<Self, ConnectError> {
        let nodes = config.urls.iter().map(|url| connection_info(url)).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = nodes.first() else { return Err(invalid("no sentinel is named")) };
        let mut master = first.clone();
        if let Some((user, password)) = &watched.login {
            let login = master.redis_settings().clone().set_username(user).set_password(password);
            master = master.set_redis_settings(login);
        }
        // Sentinels have no databases.
        let nodes = nodes.into_iter().map(|node| {
            let settings = node.redis_settings().clone().set_db(0);
            node.set_redis_settings(settings)
        });
        Ok(Self {
            name: watched.name.clone(),
            nodes: nodes.collect(),
            masters: Addresses::new(master, config)?,
            response_timeout: config.response_timeout,
        })
    }

    /// The sentinels, as `host:port` and how they are reached.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (String, &ConnectionInfo)> {
        self.nodes.iter().map(|node| (node.addr().to_string(), node))
    }

    /// Where this sentinel says that the master is; nothing when it watches none of this name.
    pub(crate) async fn told_by(&self, sentinel: &ConnectionInfo) -> RedisResult<Option<NodeAddress>> {
        let mut open = ordinary(sentinel, ANSWER).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name);
        let told: Option<(String, u16)> = command.query_async(&mut open).await?;
        Ok(told.map(|(host, port)| NodeAddress::new(host, port)))
    }

    /// Could this sentinel and the others decide a failover? Else its refusal.
    pub(crate) async fn quorum(&self, sentinel: &ConnectionInfo) -> RedisResult<()> {
        let mut open = ordinary(sentinel, ANSWER).await?;
        redis::cmd("SENTINEL").arg("CKQUORUM").arg(&self.name).exec_async(&mut open).await
    }

    /// The master, by the first sentinel whose word proves true.
    pub(super) async fn master(&self) -> RedisResult<(ConnectionInfo, MultiplexedConnection)> {
        let mut failures = Vec::new();
        for (name, sentinel) in self.nodes() {
            let address = match self.told_by(sentinel).await {
                Ok(Some(address)) => address,
                Ok(None) => {
                    failures.push(format!("sentinel {name} watches no master {:?}", self.name));
                    continue;
                }
                Err(e) => {
                    failures.push(format!("sentinel {name}: {e}"));
                    continue;
                }
            };
            let info = self.masters.reach(address);
            match self.open(&info).await {
                Ok(open) => return Ok((info, open)),
                Err(e) => failures.push(format!("{}, named by sentinel {name}: {e}", info.addr())),
            }
        }
        Err(gone(failures.join("; ")))
    }

    async fn open(&self, info: &ConnectionInfo) -> RedisResult<MultiplexedConnection> {
        proven(ordinary(info, self.response_timeout).await?).await
    }

    /// A connection of its own for blocking reads, to the server that was the master.
    pub(super) async fn blocking(&self, info: &ConnectionInfo) -> RedisResult<MultiplexedConnection> {
        proven(open_with(info, &for_blocking()).await?).await
    }

    pub(super) fn db(&self) -> i64 {
        self.masters.model().redis_settings().db()
    }
}

/// The same connection, when its server calls itself a master in time.
async fn proven(mut open: MultiplexedConnection) -> RedisResult<MultiplexedConnection> {
    match tokio::time::timeout(CONNECT_TIMEOUT, must_be_master(&mut open)).await {
        Ok(answer) => answer.map(|()| open),
        Err(_) => Err(gone("it does not answer")),
    }
}

/// Asked of everyone who greets, also of a user who may ask nothing else about the server.
async fn must_be_master(open: &mut MultiplexedConnection) -> RedisResult<()> {
    let greeting: Value = redis::cmd("HELLO").query_async(open).await?;
    match table::row(&greeting).text("role").as_deref() {
        Some("master") | None => Ok(()),
        Some(role) => Err(gone(format!("it is a {role}"))),
    }
}
