//! What holds on a Redis Cluster and only there: masters that fail, slots that move, steps that lie
//! in two slots. Always a real cluster of three masters, whatever the run is about.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test may end at once")]

mod masters;
mod outputs;
#[path = "../support/mod.rs"]
mod support;

use event_store::testing::{Cluster, Line, Lost, Proxy, Redis, Server as Running, Setup};
use event_store::{
    AppendErrorKind, Config, ConnectErrorKind, Durability, Event, EventStore, Id, Layout, NewEvent, Outcome,
    Subscription, Uuid,
};
use serde_json::json;
use std::collections::HashSet;
use std::time::Duration;
use support::{
    ACCOUNT, NOTE, Recorder, Seen, Server, count, eventually, member, patiently, put, recorder, start,
    versions,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const STREAM: &str = "events:{account}_created";

/// A consumer under a name that no other one has.
fn subscription(purpose: &str) -> Subscription {
    member("group", purpose)
        .streams([ACCOUNT.stream("created"), ACCOUNT.stream("updated")])
        .claim_after(Duration::from_secs(2))
        .retry(Duration::from_millis(10), Duration::from_millis(50))
}

/// Whatever it answers.
fn spawn<T>(running: impl Future<Output = T> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(async move {
        let _: T = running.await;
    })
}

struct Group {
    tasks: Vec<JoinHandle<()>>,
    cancel: CancellationToken,
}

impl Group {
    fn of_two(store: &EventStore, seen: &Seen) -> Self {
        let cancel = CancellationToken::new();
        // While a slot moves nobody can say that he lives: a claim then were right, and a second handling.
        let patient = |name| subscription(name).claim_after(Duration::from_secs(15));
        let tasks = ["one", "two"]
            .map(|name| spawn(store.subscribe(patient(name)).run(recorder(seen), cancel.clone())))
            .into();
        Self { tasks, cancel }
    }

    async fn stop(self) {
        self.cancel.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

fn cluster(s: &mut Server) -> &mut Cluster {
    let Running::Cluster(cluster) = &mut s.redis else { panic!("these tests run on a cluster") };
    cluster
}

/// Asks this one node.
async fn on<T: redis::FromRedisValue>(node: &Redis, command: &redis::Cmd) -> T {
    let mut connection = event_store::testing::patient_connection(node.url()).await.unwrap();
    command.query_async(&mut connection).await.unwrap()
}

/// A proxy before every node; a store that knows the nodes by their own names and reaches them there.
async fn behind_proxies(cluster: &Cluster, names: &[String]) -> (Vec<Proxy>, Config) {
    let mut proxies = Vec::new();
    for node in cluster.nodes() {
        proxies.push(Proxy::start(node.port()).await.unwrap());
    }
    let config = Config::new(proxies[0].url()).node(proxies[1].url()).layout(Layout::Tagged);
    let reached = names.iter().zip(&proxies);
    let config = reached.fold(config, |c, (name, p)| c.address(name, format!("127.0.0.1:{}", p.port())));
    (proxies, config)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_refuses_the_plain_layout_with_what_to_choose() {
    let cluster = Cluster::start();
    let error = EventStore::connect(Config::new(cluster.urls()[0].clone())).await.err().unwrap();
    assert_eq!(error.kind(), ConnectErrorKind::Unsuitable);
    assert!(error.to_string().contains("choose the tagged layout"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_nodes_that_are_no_cluster_are_refused() {
    let (one, two) = (Redis::start(), Redis::start());
    let config = Config::new(one.url()).node(two.url()).layout(Layout::Tagged);
    let error = EventStore::connect(config).await.err().unwrap();
    assert_eq!(error.kind(), ConnectErrorKind::Unsuitable);
    assert!(error.to_string().contains("name one server"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_opens_while_the_node_that_is_named_first_is_away() {
    let mut cluster = Cluster::start();
    let replica = cluster.add_replica_of(0);
    let gone = cluster.urls()[0].clone();
    cluster.node_mut(0).kill();
    let rest = cluster.urls()[1..].to_vec();
    let open = || {
        let config = Config::new(gone.clone()).layout(Layout::Tagged);
        EventStore::connect(rest.iter().cloned().fold(config, Config::node))
    };
    patiently("the replica has taken over", || async { open().await.is_ok() }).await;
    open().await.unwrap().append(vec![put("created", "a", 1)]).await.unwrap();
    assert!(replica > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_give_themselves_names_which_are_not_known_here_are_reached_by_the_given_addresses() {
    let s = start(Setup::Cluster).await;
    let Running::Cluster(nodes) = &s.redis else { panic!("a cluster was asked for") };
    let mut names = Vec::new();
    for (number, node) in nodes.nodes().iter().enumerate() {
        let name = format!("ledger-{number}.invalid");
        let settings =
            [("cluster-announce-hostname", name.as_str()), ("cluster-preferred-endpoint-type", "hostname")];
        for (setting, value) in settings {
            let () = on(node, redis::cmd("CONFIG").arg("SET").arg(setting).arg(value)).await;
        }
        names.push(format!("{name}:{}", node.port()));
    }
    for node in nodes.nodes() {
        eventually("every node knows every name", || async {
            let slots = format!("{:?}", on::<redis::Value>(node, redis::cmd("CLUSTER").arg("SLOTS")).await);
            (0..3).all(|n| slots.contains(&format!("ledger-{n}.invalid")))
        })
        .await;
    }
    let (proxies, config) = behind_proxies(nodes, &names).await;
    let store = EventStore::connect(config).await.unwrap();
    let seen = Seen::default();
    let group = Group::of_two(&store, &seen);
    for (n, kind) in [ACCOUNT, NOTE, ACCOUNT].into_iter().enumerate() {
        store.append(vec![NewEvent::put(kind, "created", format!("e{n}"), &json!({}))]).await.unwrap();
    }
    eventually("handled", || async { count(&seen) == 2 }).await;
    group.stop().await;
    assert!(!proxies.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_two_families_is_refused_before_anything_is_sent() {
    let s = start(Setup::Cluster).await;
    let keys: u64 = s.command(&["DBSIZE"]).await;
    let batch = vec![put("created", "a", 1), NewEvent::put(NOTE, "created", "n", &json!({}))];
    assert_eq!(s.store.append(batch).await.unwrap_err().kind(), AppendErrorKind::Invalid);
    assert_eq!(s.command::<u64>(&["DBSIZE"]).await, keys);
}
