//! What is different on a Redis Cluster: a command goes to the master of its key's slot, checks go
//! to every master, and a blocking reader finds the master of its slot by itself. Never reads from
//! a replica, which may be behind.

use super::address::Addresses;
use super::{CONNECT_TIMEOUT, Link, invalid, nodelay, unavailable};
use crate::config::Config;
use crate::error::ConnectError;
use redis::aio::MultiplexedConnection;
use redis::cluster::{ClusterClientBuilder, NodeAddress};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{
    MultipleNodeRoutingInfo, Route, RoutingInfo, SingleNodeRoutingInfo, Slot, SlotAddr,
};
use redis::{Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, RedisResult, Value};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// The cluster's client sends again so often by itself; what takes longer (a failover) is for the
/// caller's deadline.
const RETRIES: u32 = 4;
const RETRY_MS: (u64, u64) = (20, 300);

/// How the nodes are reached.
pub(crate) struct Nodes(Addresses);

pub(super) async fn open(infos: Vec<ConnectionInfo>, config: &Config) -> Result<Link, ConnectError> {
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
    let shared = client.get_async_connection().await.map_err(unavailable)?;
    Ok(Link::Cluster { shared, nodes: Arc::new(nodes) })
}

/// To the master of the key's slot.
pub(super) fn owner(key: &str) -> RoutingInfo {
    RoutingInfo::SingleNode(SingleNodeRoutingInfo::SpecificNode(Route::with_key(key, SlotAddr::Master)))
}

/// The answers of all masters, also those that are errors.
pub(super) async fn everywhere(
    shared: &mut ClusterConnection,
    command: &Cmd,
) -> RedisResult<Vec<(String, RedisResult<Value>)>> {
    // Without a policy the client collects every answer; with one it would stop at the first error
    // and leave other masters unasked.
    let routing = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
    let Value::Map(answers) = shared.route_command(command.clone(), routing).await? else {
        return Err((ErrorKind::UnexpectedReturnType, "no answers by master").into());
    };
    answers
        .into_iter()
        .map(|(name, value)| Ok((redis::from_redis_value(name)?, value.extract_error())))
        .collect()
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

    /// Where the master of the key's slot is now, by its own word.
    pub(super) async fn of_slot(
        &self,
        shared: &mut ClusterConnection,
        key: &str,
    ) -> RedisResult<ConnectionInfo> {
        let slots = shared.route_command(redis::cmd("CLUSTER").arg("SLOTS").clone(), owner(key)).await?;
        let (host, port) = master_of(&slots, Slot::for_key(key)).ok_or_else(|| unknown(key))?;
        self.reach(host, port).ok_or_else(|| unknown(key))
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
