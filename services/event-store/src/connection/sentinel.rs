//! A master that sentinels watch: they say where it is, and after a failover they say something else.
//! What stood on a connection that broke is for the caller to ask again; the next command asks the
//! sentinels first. Never trusts a server that does not call itself a master, and never reads from a
//! replica.

use super::{CONNECT_TIMEOUT, connection_info, for_blocking, invalid, ordinary, unavailable};
use crate::config::{Config, Watched};
use crate::error::ConnectError;
use crate::table;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::NodeAddress;
use redis::{Client, Cmd, ConnectionAddr, ConnectionInfo, Pipeline, RedisError, RedisResult, Value};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Who asks again within this time after nobody knew a master hears the same.
const PAUSE: Duration = Duration::from_millis(100);
/// A sentinel answers at once or is asked later.
const ANSWER: Duration = Duration::from_secs(1);

/// How the master is found.
#[derive(Clone, Debug)]
pub(crate) struct Sentinels {
    name: String,
    /// Where the sentinels are.
    nodes: Vec<ConnectionInfo>,
    /// Everything but the address of the master.
    master: ConnectionInfo,
    addresses: HashMap<NodeAddress, NodeAddress>,
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
        let mut addresses = HashMap::new();
        for (advertised, reachable) in &config.addresses {
            let parse = |text: &str| NodeAddress::try_from(text).map_err(invalid);
            addresses.insert(parse(advertised)?, parse(reachable)?);
        }
        Ok(Self {
            name: watched.name.clone(),
            nodes: nodes.collect(),
            master,
            addresses,
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
            let info = self.reach(address);
            match self.open(&info).await {
                Ok(open) => return Ok((info, open)),
                Err(e) => failures.push(format!("{}, named by sentinel {name}: {e}", info.addr())),
            }
        }
        Err(gone(failures.join("; ")))
    }

    async fn open(&self, info: &ConnectionInfo) -> RedisResult<MultiplexedConnection> {
        let mut open = ordinary(info, self.response_timeout).await?;
        match tokio::time::timeout(CONNECT_TIMEOUT, must_be_master(&mut open)).await {
            Ok(answer) => answer.map(|()| open),
            Err(_) => Err(gone("it does not answer")),
        }
    }

    fn reach(&self, advertised: NodeAddress) -> ConnectionInfo {
        let address = self.addresses.get(&advertised).cloned().unwrap_or(advertised);
        let addr = match self.master.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                host: address.host().to_owned(),
                port: address.port(),
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(address.host().to_owned(), address.port()),
        };
        self.master.clone().set_addr(addr)
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

/// An error that passes: whoever asks again may find the new master.
fn gone(why: impl Into<String>) -> RedisError {
    std::io::Error::new(std::io::ErrorKind::NotConnected, why.into()).into()
}

/// The connection to the master as it is now. Cheap to share; all who use it change over together.
pub(crate) struct Followed {
    sentinels: Sentinels,
    /// Held while the sentinels are asked, so that they are asked once.
    asking: tokio::sync::Mutex<Option<(Instant, RedisError)>>,
    current: Mutex<Option<Current>>,
}

#[derive(Clone)]
struct Current {
    info: ConnectionInfo,
    open: MultiplexedConnection,
    number: u64,
}

impl Followed {
    pub(super) async fn open(sentinels: Sentinels) -> Result<Self, ConnectError> {
        let followed = Self { sentinels, asking: tokio::sync::Mutex::default(), current: Mutex::default() };
        followed.current().await.map_err(unavailable)?;
        Ok(followed)
    }

    fn slot(&self) -> MutexGuard<'_, Option<Current>> {
        // Nobody panics while holding it.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn current(&self) -> RedisResult<Current> {
        if let Some(current) = self.slot().clone() {
            return Ok(current);
        }
        let mut failed = self.asking.lock().await;
        if let Some(current) = self.slot().clone() {
            return Ok(current);
        }
        if let Some((when, e)) = failed.as_ref().filter(|(when, _)| when.elapsed() < PAUSE) {
            tracing::trace!(ago = ?when.elapsed(), "the sentinels were asked just now");
            return Err(e.clone());
        }
        match self.sentinels.master().await {
            Ok((info, open)) => {
                static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
                tracing::info!(master = %info.addr(), "connected to the master that the sentinels name");
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
        let answer = current.open.req_packed_command(command).await;
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
        let answers = current.open.req_packed_commands(pipeline, offset, count).await;
        if match &answers {
            Ok(values) => values.iter().any(refuses),
            Err(e) => is_lost(e),
        } {
            self.lost(current.number);
        }
        answers
    }

    pub(super) fn db(&self) -> i64 {
        self.sentinels.master.redis_settings().db()
    }

    /// The master's address.
    pub(super) async fn name(&self) -> RedisResult<String> {
        Ok(self.current().await?.info.addr().to_string())
    }

    /// A connection of its own for blocking reads.
    pub(super) async fn blocking(&self) -> RedisResult<MultiplexedConnection> {
        let current = self.current().await?;
        let opened = async {
            let client = Client::open(current.info.clone())?;
            let mut open = client.get_multiplexed_async_connection_with_config(&for_blocking()).await?;
            match tokio::time::timeout(CONNECT_TIMEOUT, must_be_master(&mut open)).await {
                Ok(answer) => answer.map(|()| open),
                Err(_) => Err(gone("it does not answer")),
            }
        };
        opened.await.inspect_err(|_| self.lost(current.number))
    }
}

/// An answer that says that its server is no master any more.
fn refuses(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(e) if is_lost(&e.clone().into()))
}

/// Is the connection broken, or its server no master any more?
fn is_lost(e: &RedisError) -> bool {
    e.is_io_error()
        || e.is_timeout()
        || e.is_connection_dropped()
        || e.is_connection_refusal()
        || e.is_unrecoverable_error()
        || matches!(e.code(), Some("READONLY" | "MASTERDOWN" | "UNBLOCKED"))
}
