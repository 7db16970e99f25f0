//! What holds on a Redis Cluster and only there: masters that fail, slots that move, steps that lie
//! in two slots. Always a real cluster of three masters, whatever the run is about.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::testing::{Cluster, Lost, Proxy, Redis, Server as Running, Setup};
use event_store::{
    AppendErrorKind, Config, ConnectErrorKind, Durability, Event, EventStore, Id, Layout, NewEvent, Outcome,
    Subscription, Uuid,
};
use serde_json::json;
use std::collections::HashSet;
use std::time::Duration;
use support::{ACCOUNT, NOTE, Recorder, Seen, Server, count, eventually, put, recorder, start, versions};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const STREAM: &str = "events:{account}_created";

fn subscription(consumer: &str) -> Subscription {
    Subscription::new("group", consumer)
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
    let client = redis::Client::open(node.url()).unwrap();
    command.query_async(&mut client.get_multiplexed_async_connection().await.unwrap()).await.unwrap()
}

/// The ids and versions that the log has, per entity checked to be 1, 2, 3, …
async fn log(store: &EventStore) -> Vec<Id> {
    let mut ids = Vec::new();
    let mut next = std::collections::HashMap::new();
    let mut tail = store.tail(vec![ACCOUNT.stream("created"), ACCOUNT.stream("updated")], Id::ZERO);
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while let Ok(Ok(events)) = tokio::time::timeout(Duration::from_secs(4), tail.next()).await {
        for event in events {
            let version = next.entry(event.entity_id.clone()).or_insert(1);
            assert_eq!(event.version, *version, "{} has a gap", event.entity_id);
            *version += 1;
            ids.push(event.id);
        }
        assert!(tokio::time::Instant::now() < end, "the log does not end");
    }
    ids
}

/// Appends one event after another until told to stop; answers what was acknowledged, in order.
fn writer(store: &EventStore, entity: &'static str, stop: &CancellationToken) -> JoinHandle<Vec<Id>> {
    let (store, stop) = (store.clone(), stop.clone());
    tokio::spawn(async move {
        let mut acknowledged = Vec::new();
        while !stop.is_cancelled() {
            let action = if acknowledged.is_empty() { "created" } else { "updated" };
            let event = put(action, entity, acknowledged.len() as u64);
            acknowledged.push(store.append(vec![event]).await.unwrap()[0].id);
        }
        acknowledged
    })
}

#[tokio::test]
async fn a_cluster_refuses_the_plain_layout_with_what_to_choose() {
    let cluster = Cluster::start();
    let error = EventStore::connect(Config::new(cluster.urls()[0].clone())).await.err().unwrap();
    assert_eq!(error.kind(), ConnectErrorKind::Unsuitable);
    assert!(error.to_string().contains("choose the tagged layout"), "{error}");
}

#[tokio::test]
async fn several_nodes_that_are_no_cluster_are_refused() {
    let (one, two) = (Redis::start(), Redis::start());
    let config = Config::new(one.url()).node(two.url()).layout(Layout::Tagged);
    let error = EventStore::connect(config).await.err().unwrap();
    assert_eq!(error.kind(), ConnectErrorKind::Unsuitable);
    assert!(error.to_string().contains("name one server"), "{error}");
}

#[tokio::test]
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
    eventually("the replica has taken over", || async { open().await.is_ok() }).await;
    open().await.unwrap().append(vec![put("created", "a", 1)]).await.unwrap();
    assert!(replica > 0);
}

#[tokio::test]
async fn a_failover_of_a_master_loses_no_event_that_its_replica_has_and_ids_and_groups_go_on() {
    let mut s = start(Setup::Cluster).await;
    let owner = cluster(&mut s).owner_of(STREAM);
    let replica = cluster(&mut s).add_replica_of(owner);
    let config = s.redis.config().append_deadline(Duration::from_secs(30));
    let store = EventStore::connect(config).await.unwrap();
    let seen = Seen::default();
    let group = Group::of_two(&store, &seen);
    let mut before = Vec::new();
    for n in 0..50 {
        let action = if n == 0 { "created" } else { "updated" };
        before.push(store.append(vec![put(action, "a", n)]).await.unwrap()[0].id);
    }
    eventually("the group has handled them", || async { count(&seen) >= 50 }).await;
    cluster(&mut s).wait_for_replica(replica);
    cluster(&mut s).node_mut(owner).kill();

    let stop = CancellationToken::new();
    let after = writer(&store, "b", &stop);
    eventually("events of after the failover are handled", || async { versions(&seen, "b").len() > 50 })
        .await;
    stop.cancel();
    let after = after.await.unwrap();
    assert_eq!(cluster(&mut s).owner_of(STREAM), replica);
    eventually("all are handled", || async { versions(&seen, "b").last() == Some(&(after.len() as u64)) })
        .await;
    group.stop().await;

    assert!(after[0] > before[49], "ids go on: {} after {}", after[0], before[49]);
    let ids = log(&store).await;
    assert!(ids.is_sorted_by(|a, b| a < b), "every id once and in order");
    let ids: HashSet<Id> = ids.into_iter().collect();
    assert!(before.iter().chain(&after).all(|id| ids.contains(id)), "an acknowledged event is gone");
    assert!(versions(&seen, "a").is_sorted() && versions(&seen, "b").is_sorted());
}

#[tokio::test]
async fn a_failover_loses_nothing_that_a_copy_has_confirmed_and_what_is_unknown_is_appended_again_once() {
    let mut s = start(Setup::Cluster).await;
    let owner = cluster(&mut s).owner_of(STREAM);
    let replica = cluster(&mut s).add_replica_of(owner);
    let config = s.redis.config().append_deadline(Duration::from_secs(30));
    let copied = Durability::Replicas { count: 1, timeout: Duration::from_millis(300) };
    let careful = EventStore::connect(config.durability(copied)).await.unwrap();
    let event =
        |n: u64| put(if n == 1 { "created" } else { "updated" }, "a", n).event_id(Uuid::from_u128(n.into()));
    let mut confirmed = Vec::new();
    for n in 1..=20 {
        confirmed.push(careful.append(vec![event(n)]).await.unwrap()[0].id);
    }
    cluster(&mut s).nodes()[replica].stall();
    for n in 21..=25 {
        let error = careful.append(vec![event(n)]).await.unwrap_err();
        assert_eq!(error.kind(), AppendErrorKind::Unknown { wanted: 1, confirmed: 0 });
    }
    cluster(&mut s).node_mut(owner).kill();
    cluster(&mut s).nodes()[replica].resume();

    let store = s.store.clone();
    for n in 21..=25 {
        let again = || async { store.append(vec![event(n)]).await.is_ok_and(|a| a[0].version == n) };
        eventually("appended again", again).await;
    }
    assert_eq!(cluster(&mut s).owner_of(STREAM), replica);
    let ids = log(&store).await;
    assert_eq!(ids.len(), 25, "each event once");
    assert_eq!(ids[..20], confirmed, "what a copy has confirmed is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_while_it_is_used_loses_no_event_and_its_group_goes_on() {
    let mut s = start(Setup::Cluster).await;
    let config = s.redis.config().append_deadline(Duration::from_secs(30));
    let store = EventStore::connect(config).await.unwrap();
    let seen = Seen::default();
    let group = Group::of_two(&store, &seen);
    let stop = CancellationToken::new();
    let writers = [writer(&store, "a", &stop), writer(&store, "b", &stop)];
    eventually("work is under way", || async { count(&seen) > 20 }).await;
    let from = cluster(&mut s).owner_of(STREAM);
    for to in [(from + 1) % 3, (from + 2) % 3] {
        tokio::task::block_in_place(|| cluster(&mut s).move_slot_of(STREAM, to, Duration::from_millis(2500)));
        assert_eq!(cluster(&mut s).owner_of(STREAM), to);
        let so_far = count(&seen);
        eventually("the group goes on there", || async { count(&seen) > so_far + 20 }).await;
    }
    stop.cancel();
    let mut acknowledged = Vec::new();
    for (entity, writer) in ["a", "b"].into_iter().zip(writers) {
        let ids = writer.await.unwrap();
        let last = ids.len() as u64;
        eventually("all are handled", || async { versions(&seen, entity).last() == Some(&last) }).await;
        assert_eq!(versions(&seen, entity), (1..=last).collect::<Vec<u64>>(), "{entity}: once and in order");
        acknowledged.extend(ids);
    }
    group.stop().await;
    acknowledged.sort_unstable();
    assert_eq!(log(&store).await, acknowledged);
}

#[tokio::test]
async fn a_master_that_has_not_the_functions_gets_them_when_it_is_first_asked() {
    let mut s = start(Setup::Cluster).await;
    s.store.append(vec![put("created", "a", 1)]).await.unwrap();
    let to = (cluster(&mut s).owner_of(STREAM) + 1) % 3;
    let () = on(&cluster(&mut s).nodes()[to], redis::cmd("FUNCTION").arg("FLUSH")).await;
    cluster(&mut s).move_slot_of(STREAM, to, Duration::ZERO);
    assert_eq!(s.store.append(vec![put("updated", "a", 2)]).await.unwrap()[0].version, 2);
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

#[allow(clippy::needless_pass_by_value, reason = "as a recorder's answer")]
fn note(event: Event) -> std::future::Ready<Outcome> {
    let id = format!("of {}", event.entity_id);
    std::future::ready(Outcome::Done(vec![NewEvent::put(NOTE, "created", &*id, &json!({ "id": id }))]))
}

#[tokio::test]
async fn outputs_in_another_slot_are_there_once_though_the_consumer_dies_before_it_acknowledges() {
    let s = start(Setup::Cluster).await;
    let Running::Cluster(nodes) = &s.redis else { panic!("a cluster was asked for") };
    let names: Vec<String> = nodes.nodes().iter().map(|n| format!("127.0.0.1:{}", n.port())).collect();
    let (proxies, config) = behind_proxies(nodes, &names).await;
    let (source, target) = (nodes.owner_of(STREAM), nodes.owner_of("events:{note}_created"));
    assert_ne!(source, target, "the two steps go to two servers");
    for n in 0..20 {
        s.store.append(vec![put("created", &format!("a{n}"), n)]).await.unwrap();
    }
    // Each life appends outputs and dies before the server of the source hears that it is done.
    for life in 0..5_usize {
        let doomed = EventStore::connect(config.clone()).await.unwrap();
        let had = s.command::<u64>(&["XLEN", "events:note_created"]).await;
        for nth in 1..=40 {
            proxies[source].lose(Lost::Command, "finish", nth);
        }
        let name = format!("life {life}");
        let recorder = Recorder { seen: Seen::default(), answer: note };
        let running = doomed.subscribe(subscription(&name)).run(recorder, CancellationToken::new());
        let task = spawn(running);
        eventually("outputs without an acknowledgement", || async {
            s.command::<u64>(&["XLEN", "events:note_created"]).await > had
                || (had == 20 && proxies[source].lost() > life)
        })
        .await;
        task.abort();
    }
    assert!(proxies[source].lost() >= 5);
    let cancel = CancellationToken::new();
    let recorder = Recorder { seen: Seen::default(), answer: note };
    let running = s.store.subscribe(subscription("last")).run(recorder, cancel.clone());
    let last = spawn(running);
    eventually("everything is acknowledged", || async {
        let pending: Vec<redis::Value> = s.command(&["XPENDING", "events:account_created", "group"]).await;
        let delivered = s.command::<u64>(&["SCARD", "note_ids"]).await == 20;
        delivered && redis::from_redis_value::<u64>(pending[0].clone()).unwrap() == 0
    })
    .await;
    cancel.cancel();
    last.await.unwrap();
    assert_eq!(s.command::<u64>(&["XLEN", "events:note_created"]).await, 20, "each output exactly once");
    assert_eq!(s.command::<u64>(&["XLEN", "eventstore:group:group:dead"]).await, 0);
}

#[tokio::test]
async fn a_handler_that_sees_its_own_outputs_when_it_is_asked_again_changes_nothing_twice() {
    let s = start(Setup::Cluster).await;
    let Running::Cluster(nodes) = &s.redis else { panic!("a cluster was asked for") };
    let names: Vec<String> = nodes.nodes().iter().map(|n| format!("127.0.0.1:{}", n.port())).collect();
    let (proxies, config) = behind_proxies(nodes, &names).await;
    let source = &proxies[nodes.owner_of(STREAM)];
    s.store.append(vec![put("created", "a", 1)]).await.unwrap();
    // Reads the sum and adds one to it: after a death between the two steps it reads its own sum.
    let adding = |store: EventStore| Recorder {
        seen: Seen::default(),
        answer: move |_| {
            let store = store.clone();
            async move {
                let (n, version) = match store.entity(NOTE, "sum").await.unwrap() {
                    Some(sum) => (sum.body["n"].as_u64().unwrap(), sum.version),
                    None => (0, 0),
                };
                let sum = NewEvent::put(NOTE, "created", "sum", &json!({ "n": n + 1 }));
                Outcome::Done(vec![sum.expect(event_store::Expected::Exactly(version))])
            }
        },
    };
    for nth in 1..=40 {
        source.lose(Lost::Command, "finish", nth);
    }
    let doomed = EventStore::connect(config).await.unwrap();
    let running =
        doomed.subscribe(subscription("doomed")).run(adding(s.store.clone()), CancellationToken::new());
    let task = spawn(running);
    eventually("its output is there", || async {
        s.command::<u64>(&["XLEN", "events:note_created"]).await == 1
    })
    .await;
    task.abort();
    let cancel = CancellationToken::new();
    let last = spawn(s.store.subscribe(subscription("last")).run(adding(s.store.clone()), cancel.clone()));
    eventually("acknowledged", || async {
        let pending: Vec<redis::Value> = s.command(&["XPENDING", "events:account_created", "group"]).await;
        redis::from_redis_value::<u64>(pending[0].clone()).unwrap() == 0
    })
    .await;
    cancel.cancel();
    last.await.unwrap();
    assert_eq!(s.store.entity(NOTE, "sum").await.unwrap().unwrap().body["n"], 1, "added once");
    assert_eq!(s.command::<u64>(&["XLEN", "eventstore:group:group:dead"]).await, 0, "and parked by nobody");
}

#[tokio::test]
async fn an_append_that_the_clusters_client_sent_twice_is_one_event() {
    let s = start(Setup::Cluster).await;
    let Running::Cluster(nodes) = &s.redis else { panic!("a cluster was asked for") };
    let names: Vec<String> = nodes.nodes().iter().map(|n| format!("127.0.0.1:{}", n.port())).collect();
    let (proxies, config) = behind_proxies(nodes, &names).await;
    let store = EventStore::connect(config).await.unwrap();
    let owner = &proxies[nodes.owner_of(STREAM)];
    for version in 1..=5 {
        owner.lose(Lost::Reply, "append", 1);
        let event = put("created", "a", version).expect(event_store::Expected::Exactly(version - 1));
        assert_eq!(store.append(vec![event]).await.unwrap()[0].version, version);
    }
    assert_eq!(owner.lost(), 5);
    assert_eq!(s.command::<u64>(&["XLEN", "events:account_created"]).await, 5);
}

#[tokio::test]
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

#[tokio::test]
async fn a_batch_of_two_families_is_refused_before_anything_is_sent() {
    let s = start(Setup::Cluster).await;
    let batch = vec![put("created", "a", 1), NewEvent::put(NOTE, "created", "n", &json!({}))];
    assert_eq!(s.store.append(batch).await.unwrap_err().kind(), AppendErrorKind::Invalid);
    assert_eq!(s.command::<u64>(&["DBSIZE"]).await, 0);
}
