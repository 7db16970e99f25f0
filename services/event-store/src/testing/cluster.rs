//! A real Redis Cluster of three masters, to which replicas can be added.

use super::free_port;
use super::redis::{Redis, wait};
use redis::{Cmd, FromRedisValue, RedisResult, cmd};
use std::time::{Duration, Instant};

/// Slots of a cluster, by Redis' definition.
const SLOTS: u32 = 16384;
const MASTERS: u32 = 3;
/// A node that is silent for so long has failed, milliseconds.
const NODE_TIMEOUT: &str = "3000";

/// A running cluster. Every slot is served when it is handed out.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Redis>,
}

impl Cluster {
    /// Starts three masters that share the slots.
    ///
    /// # Panics
    /// When `redis-server` does not start, or the nodes do not come together.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts three masters with further settings, as they stand on a server's command line.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    #[must_use]
    pub fn start_with(settings: &[&str]) -> Self {
        let nodes: Vec<Redis> = (0..MASTERS).map(|_| node(settings)).collect();
        for (n, node) in (0..MASTERS).zip(&nodes) {
            let (first, last) = (n * SLOTS / MASTERS, (n + 1) * SLOTS / MASTERS - 1);
            must::<()>(node, cmd("CLUSTER").arg("SET-CONFIG-EPOCH").arg(n + 1));
            must::<()>(node, cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(first).arg(last));
        }
        let cluster = Self { nodes };
        cluster.introduce();
        cluster.wait_until_ready();
        cluster
    }

    /// Adds a replica of a master (by its number) and waits until it has the master's data. Answers its number.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    pub fn add_replica_of(&mut self, master: usize) -> usize {
        let id = self.id(master);
        self.nodes.push(node(&[]));
        self.introduce();
        // A node that becomes a replica before it knows which slots its master has may never stand for election.
        self.wait_until_ready();
        let number = self.nodes.len() - 1;
        let replica = &self.nodes[number];
        must::<()>(replica, cmd("CLUSTER").arg("REPLICATE").arg(&id));
        wait("the replica has the master's data", || {
            ask::<String>(replica, cmd("INFO").arg("replication"))
                .is_ok_and(|info| info.contains("master_link_status:up"))
        });
        let replicates = format!("slave {id} ");
        for node in &self.nodes {
            wait("every node knows which master it replicates", || {
                ask::<String>(node, cmd("CLUSTER").arg("NODES"))
                    .is_ok_and(|nodes| nodes.contains(&replicates))
            });
        }
        self.wait_until_ready();
        number
    }

    /// Waits until a replica has everything that its master has.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait_for_replica(&self, number: usize) {
        let replica = &self.nodes[number];
        let field = |node: &Redis, name: &str| -> Option<String> {
            let info: String = ask(node, cmd("INFO").arg("replication")).ok()?;
            Some(info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.trim().to_owned())
        };
        wait("the replica has everything", || {
            let port = field(replica, "master_port").and_then(|port| port.parse().ok());
            let master = self.nodes.iter().find(|node| Some(node.port()) == port);
            let offset = master.and_then(|master| field(master, "master_repl_offset"));
            offset.is_some() && offset == field(replica, "slave_repl_offset")
        });
    }

    /// Its nodes, the masters of the beginning first.
    #[must_use]
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// A node, to be killed or started again.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn node_mut(&mut self, number: usize) -> &mut Redis {
        &mut self.nodes[number]
    }

    /// Kills every node as a crash would.
    pub fn kill_all(&mut self) {
        self.nodes.iter_mut().for_each(Redis::kill);
    }

    /// Starts every killed node again on its data, and waits until every slot is served.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    pub fn restart_all(&mut self) {
        self.nodes.iter_mut().for_each(Redis::restart);
        self.wait_until_ready();
    }

    /// The URLs of its nodes.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }

    /// The number of the node that holds this key now, by its own word.
    ///
    /// # Panics
    /// When no node that runs holds it.
    #[must_use]
    pub fn owner_of(&self, key: &str) -> usize {
        let owns = |node: &Redis| ask::<u64>(node, cmd("EXISTS").arg(key)).is_ok();
        self.nodes.iter().position(owns).unwrap_or_else(|| panic!("nobody holds {key}"))
    }

    /// Moves the slot of a key, with all its keys, to another master while clients use it, as
    /// `redis-cli --cluster reshard` does. For `between` it stays half moved, as one with much data
    /// does: the keys that were there before are at the new master, everybody is still sent to the old.
    ///
    /// # Panics
    /// When a node refuses.
    pub fn move_slot_of(&self, key: &str, to: usize, between: Duration) {
        let from = self.owner_of(key);
        let slot: u32 = must(&self.nodes[from], cmd("CLUSTER").arg("KEYSLOT").arg(key));
        let (source, target) = (self.id(from), self.id(to));
        let set = |node: &Redis, state: &str, id: &str| {
            must::<()>(node, cmd("CLUSTER").arg("SETSLOT").arg(slot).arg(state).arg(id));
        };
        set(&self.nodes[to], "IMPORTING", &source);
        set(&self.nodes[from], "MIGRATING", &target);
        let until = Instant::now() + between;
        loop {
            let keys: Vec<String> =
                must(&self.nodes[from], cmd("CLUSTER").arg("GETKEYSINSLOT").arg(slot).arg(100));
            if keys.is_empty() {
                if Instant::now() >= until {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            let mut migrate = cmd("MIGRATE");
            migrate
                .arg("127.0.0.1")
                .arg(self.nodes[to].port())
                .arg("")
                .arg(0)
                .arg(5000)
                .arg("KEYS")
                .arg(keys);
            must::<()>(&self.nodes[from], &migrate);
        }
        for node in [to, from] {
            set(&self.nodes[node], "NODE", &target);
        }
    }

    /// Waits until every node that runs serves every slot.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait_until_ready(&self) {
        let known = self.nodes.len();
        for node in &self.nodes {
            wait("every slot is served", || {
                ask::<String>(node, cmd("CLUSTER").arg("INFO")).is_ok_and(|info| {
                    info.contains("cluster_state:ok")
                        && info.contains(&format!("cluster_known_nodes:{known}\r"))
                })
            });
        }
    }

    fn id(&self, number: usize) -> String {
        must(&self.nodes[number], cmd("CLUSTER").arg("MYID"))
    }

    /// Everybody meets everybody: gossip alone would take its time.
    fn introduce(&self) {
        for node in &self.nodes {
            for other in &self.nodes {
                let bus: (String, u16) = must(other, cmd("CONFIG").arg("GET").arg("cluster-port"));
                must::<()>(node, cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(other.port()).arg(bus.1));
            }
        }
    }
}

fn node(settings: &[&str]) -> Redis {
    node_by(settings, free_port)
}

/// A node whose port for the other nodes is chosen so, anew with each try.
fn node_by(settings: &[&str], mut bus: impl FnMut() -> u16) -> Redis {
    let settings = || {
        let bus = bus().to_string();
        let cluster =
            ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", NODE_TIMEOUT];
        cluster.iter().chain(settings).map(ToString::to_string).collect()
    };
    Redis::start_anew(settings, &[])
}

fn ask<T: FromRedisValue>(node: &Redis, command: &Cmd) -> RedisResult<T> {
    super::redis::ask(&node.url(), command)
}

fn must<T: FromRedisValue>(node: &Redis, command: &Cmd) -> T {
    ask(node, command).unwrap_or_else(|error| panic!("node on port {}: {error}", node.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn a_node_starts_though_the_port_of_its_bus_was_taken_before_it_came() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = listener.local_addr().unwrap().port();
        let mut tried = Vec::new();
        let node = node_by(&[], || {
            let bus = if tried.is_empty() { taken } else { free_port() };
            tried.push(bus);
            bus
        });
        let bus: (String, u16) = must(&node, cmd("CONFIG").arg("GET").arg("cluster-port"));
        assert_eq!(tried.len(), 2, "{tried:?}");
        assert_eq!(bus.1, tried[1]);
    }
}
