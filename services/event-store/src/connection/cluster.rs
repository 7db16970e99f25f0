//! What is different on a Redis Cluster: a command goes to the master of its key's slot, checks go
//! to every master, and a blocking reader finds the master of its slot by itself. Never reads from
//! a replica, which may be behind.

use super::address::Addresses;
use super::master::SILENT;
use super::{CONNECT_TIMEOUT, invalid, is_broken, nodelay, unavailable};
use crate::config::Config;
use crate::error::ConnectError;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder, NodeAddress};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{
    MultipleNodeRoutingInfo, Route, RoutingInfo, SingleNodeRoutingInfo, Slot, SlotAddr,
};
use redis::{Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, Pipeline, RedisError, RedisResult, Value};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The cluster's client sends again so often by itself; what takes longer (a failover) is for the
/// caller's deadline.
const RETRIES: u32 = 4;
const RETRY_MS: (u64, u64) = (20, 300);
/// A client is replaced no sooner than this after the one before it.
const PAUSE: Duration = Duration::from_millis(500);

/// The cluster's client as it is now, and how another one is made. A client looks for the slots at the nodes
/// that it knows and at no others: one that could reach none of them for a moment knows none any more, and one
/// whose nodes all got other addresses asks the old ones for ever. So a client that did not reach a node is
/// replaced by one that begins with the nodes of the configuration; it serves until that one is there.
pub(crate) struct Cluster {
    client: ClusterClient,
    current: Mutex<Current>,
    /// When the current one was opened, or another one could not be. Held while one is opened.
    opened: tokio::sync::Mutex<Instant>,
    nodes: Nodes,
}

#[derive(Clone)]
struct Current {
    open: ClusterConnection,
    number: u64,
}

/// How the nodes are reached.
pub(super) struct Nodes(Addresses);

impl Cluster {
    pub(super) async fn open(infos: Vec<ConnectionInfo>, config: &Config) -> Result<Self, ConnectError> {
        let Some(first) = infos.first().cloned() else { return Err(invalid("no node is named")) };
        let nodes = Nodes::new(first, config)?;
        let client = ClusterClientBuilder::new(infos)
            .tcp_settings(nodelay())
            .connection_timeout(CONNECT_TIMEOUT)
            .response_timeout(config.response_timeout)
            .retries(RETRIES)
            .min_retry_wait(RETRY_MS.0)
            .max_retry_wait(RETRY_MS.1)
            .node_address_map(nodes.0.differing().clone())
            .build()
            .map_err(invalid)?;
        let open = client.get_async_connection().await.map_err(unavailable)?;
        let current = Mutex::new(Current { open, number: 0 });
        Ok(Self { client, current, opened: tokio::sync::Mutex::new(Instant::now()), nodes })
    }

    fn slot(&self) -> MutexGuard<'_, Current> {
        // Nobody panics while holding it.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Current {
        self.slot().clone()
    }

    /// Sends a command to the master of its key's slot.
    pub(super) async fn command(self: &Arc<Self>, command: &Cmd) -> RedisResult<Value> {
        let mut current = self.current();
        let unanswered = Unanswered::new(self, current.number);
        let answer = current.open.req_packed_command(command).await;
        unanswered.answered();
        self.seen(current.number, answer)
    }

    /// Sends several commands to the master of their keys' slot.
    pub(super) async fn pipeline(
        self: &Arc<Self>,
        pipeline: &Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        let mut current = self.current();
        let unanswered = Unanswered::new(self, current.number);
        let answers = current.open.req_packed_commands(pipeline, offset, count).await;
        unanswered.answered();
        self.seen(current.number, answers)
    }

    /// Sends a command that names no key to the master of this key's slot.
    pub(super) async fn at(self: &Arc<Self>, key: &str, command: &Cmd) -> RedisResult<Value> {
        let master = SingleNodeRoutingInfo::SpecificNode(Route::with_key(key, SlotAddr::Master));
        self.routed(command, RoutingInfo::SingleNode(master)).await
    }

    /// The answers of all masters, also those that are errors.
    pub(super) async fn everywhere(
        self: &Arc<Self>,
        command: &Cmd,
    ) -> RedisResult<Vec<(String, RedisResult<Value>)>> {
        // Without a policy the client collects every answer; with one it would stop at the first error
        // and leave other masters unasked.
        let masters = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
        let Value::Map(answers) = self.routed(command, masters).await? else {
            return Err((ErrorKind::UnexpectedReturnType, "no answers by master").into());
        };
        answers
            .into_iter()
            .map(|(name, value)| Ok((redis::from_redis_value(name)?, value.extract_error())))
            .collect()
    }

    async fn routed(self: &Arc<Self>, command: &Cmd, routing: RoutingInfo) -> RedisResult<Value> {
        let mut current = self.current();
        let unanswered = Unanswered::new(self, current.number);
        let answer = current.open.route_command(command.clone(), routing).await;
        unanswered.answered();
        self.seen(current.number, answer)
    }

    /// Where the master of the key's slot is now, by its own word.
    pub(super) async fn master_of(self: &Arc<Self>, key: &str) -> RedisResult<ConnectionInfo> {
        let slots = self.at(key, redis::cmd("CLUSTER").arg("SLOTS")).await?;
        let (host, port) = master_of(&slots, Slot::for_key(key)).ok_or_else(|| unknown(key))?;
        self.nodes.reach(host, port).ok_or_else(|| unknown(key))
    }

    /// Whoever did not reach a node with this client sees to it that there is another one soon.
    fn seen<T>(self: &Arc<Self>, number: u64, answer: RedisResult<T>) -> RedisResult<T> {
        if answer.as_ref().is_err_and(is_broken) {
            tokio::spawn(self.clone().replace(number));
        }
        answer
    }

    async fn replace(self: Arc<Self>, number: u64) {
        // Who comes while one is being opened gets that one.
        let Ok(mut opened) = self.opened.try_lock() else { return };
        if self.slot().number != number || opened.elapsed() < PAUSE {
            return;
        }
        match self.client.get_async_connection().await {
            Ok(open) => *self.slot() = Current { open, number: number + 1 },
            Err(e) => tracing::debug!(error = %e, "none of the cluster's nodes in the configuration answers"),
        }
        *opened = Instant::now();
    }
}

/// As the one of the master: a command that is dropped after a silence is a reason for another client.
struct Unanswered<'a> {
    cluster: &'a Arc<Cluster>,
    number: u64,
    since: Instant,
    answered: bool,
}

impl<'a> Unanswered<'a> {
    fn new(cluster: &'a Arc<Cluster>, number: u64) -> Self {
        Self { cluster, number, since: Instant::now(), answered: false }
    }

    fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if self.answered || self.since.elapsed() < SILENT {
            return;
        }
        // A command that is dropped with its runtime needs no client any more.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(self.cluster.clone().replace(self.number));
        }
    }
}

impl Nodes {
    pub(super) fn new(first: ConnectionInfo, config: &Config) -> Result<Self, ConnectError> {
        Addresses::new(first, config).map(Self)
    }

    /// Where the masters of all slots are, by the word of the node asked.
    pub(super) async fn masters(&self, open: &mut MultiplexedConnection) -> RedisResult<Vec<ConnectionInfo>> {
        let slots: Value = redis::cmd("CLUSTER").arg("SLOTS").query_async(open).await?;
        let Value::Array(ranges) = slots else { return Ok(Vec::new()) };
        let mut masters: Vec<_> = ranges.iter().filter_map(|range| Some(range_of(range)?.1)).collect();
        masters.sort();
        masters.dedup();
        masters.into_iter().map(|(host, port)| self.reach(host, port).ok_or_else(|| unknown(""))).collect()
    }

    /// How the node that says to be there is reached. One without a name for itself is where it was
    /// asked; one name must then serve all nodes.
    fn reach(&self, host: Option<String>, port: u16) -> Option<ConnectionInfo> {
        let host = host.or_else(|| host_of(self.0.model().addr()))?;
        Some(self.0.reach(NodeAddress::new(host, port)))
    }
}

fn unknown(key: &str) -> RedisError {
    (ErrorKind::ClusterConnectionNotFound, "no master of the slot", key.to_owned()).into()
}

fn host_of(addr: &ConnectionAddr) -> Option<String> {
    match addr {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => Some(host.clone()),
        _ => None,
    }
}

/// A host (`None` where a node does not name its own) and a port.
type Address = (Option<String>, u16);

/// The master of a slot in what CLUSTER SLOTS answers.
fn master_of(slots: &Value, slot: Slot) -> Option<Address> {
    let Value::Array(ranges) = slots else { return None };
    ranges.iter().find_map(|range| {
        let (mut slots, master) = range_of(range)?;
        slots.any(|n| Slot::new(n) == Some(slot)).then_some(master)
    })
}

/// A range of slots and its master; nothing for a node whose name is not known yet (`?`).
fn range_of(range: &Value) -> Option<(RangeInclusive<u16>, Address)> {
    let number = |value: &Value| match value {
        Value::Int(n) => u16::try_from(*n).ok(),
        _ => None,
    };
    let Value::Array(parts) = range else { return None };
    let [start, end, Value::Array(master), ..] = parts.as_slice() else { return None };
    let [host, port, ..] = master.as_slice() else { return None };
    let host = match host {
        Value::BulkString(bytes) if !bytes.is_empty() => String::from_utf8(bytes.clone()).ok(),
        _ => None,
    };
    (host.as_deref() != Some("?")).then_some((number(start)?..=number(end)?, (host, number(port)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: i64, end: i64, host: Value, port: i64) -> Value {
        let master = Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec())]);
        let replica = Value::Array(vec![Value::BulkString(b"replica".to_vec()), Value::Int(1)]);
        Value::Array(vec![Value::Int(start), Value::Int(end), master, replica])
    }

    #[test]
    fn a_blocking_reader_goes_to_the_master_of_its_slot_by_the_name_that_the_node_gives_itself() {
        let name = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let slots = Value::Array(vec![
            range(0, 5460, name("10.0.0.1"), 7000),
            range(5461, 10922, name(""), 7001),
            range(10923, 16000, Value::Nil, 7002),
            range(16001, 16383, name("?"), 7003),
        ]);
        let of = |n| master_of(&slots, Slot::new(n).unwrap());
        assert_eq!(of(5460), Some((Some("10.0.0.1".to_owned()), 7000)));
        assert_eq!(of(5461), Some((None, 7001)));
        assert_eq!(of(12000), Some((None, 7002)));
        assert_eq!(of(16383), None, "a node without a name cannot be reached");
        assert_eq!(master_of(&Value::Nil, Slot::new(1).unwrap()), None);
    }
}
