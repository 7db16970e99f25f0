//! An append that waits for copies is a success only when they have it.

#![allow(clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::testing::{Lost, Proxy, Redis};
use event_store::{AppendErrorKind, Config, ConnectErrorKind, Durability, EventStore, Uuid};
use std::time::Duration;
use support::{ACCOUNT, ask, eventually, put};

const SOON: Duration = Duration::from_millis(300);
const ONE: Durability = Durability::Replicas { count: 1, timeout: SOON };
/// Where the copy is expected: a machine under load takes its time.
const PATIENT: Durability = Durability::Replicas { count: 1, timeout: Duration::from_secs(10) };

/// A primary that lets a replica in at once.
fn primary() -> Redis {
    Redis::start_with(&["--repl-diskless-sync-delay", "0"])
}

fn replica_of(primary: &Redis) -> Redis {
    Redis::start_with(&["--replicaof", "127.0.0.1", &primary.port().to_string()])
}

async fn has_replica(primary: &Redis) {
    eventually("the replica follows", || async {
        ask::<String>(primary, &["INFO", "replication"]).await.contains("state=online")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_copies_are_unknown_and_carry_what_was_appended() {
    let primary = primary();
    let replica = replica_of(&primary);
    let store = EventStore::connect(Config::new(primary.url()).durability(ONE)).await.unwrap();
    has_replica(&primary).await;
    let first = store.append_with(vec![put("created", "a", 1)], PATIENT).await;
    assert_eq!(first.unwrap()[0].version, 1);

    replica.stall();
    let id = Uuid::new_v4();
    let event = || vec![put("updated", "a", 2).event_id(id)];
    let error = store.append(event()).await.unwrap_err();
    assert_eq!(error.kind(), AppendErrorKind::Unknown { wanted: 1, confirmed: 0 });
    assert_eq!((error.appended()[0].version, error.appended()[0].event_id), (2, id));
    assert_eq!(store.entity(ACCOUNT, "a").await.unwrap().unwrap().version, 2, "it is in the log here");
    let again = store.append(event()).await.unwrap_err();
    assert_eq!(again.kind(), AppendErrorKind::Unknown { wanted: 1, confirmed: 0 }, "and stays unknown");
    let carefree = store.append_with(vec![put("updated", "a", 3)], Durability::None).await;
    assert_eq!(carefree.unwrap()[0].version, 3, "who asks for nothing waits for nothing");

    let before = error.appended().to_vec();
    replica.resume();
    let again = store.append_with(event(), PATIENT).await;
    assert_eq!(again.unwrap(), before, "asked again, the copy is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_asked_for_again_waits_for_the_copies_too() {
    let primary = primary();
    let proxy = Proxy::start(primary.port()).await.unwrap();
    let store = EventStore::connect(Config::new(proxy.url())).await.unwrap();
    proxy.lose(Lost::Reply, "append", 1);
    let error = store.append_with(vec![put("created", "a", 1)], ONE).await.unwrap_err();
    assert_eq!(error.kind(), AppendErrorKind::Unknown { wanted: 1, confirmed: 0 });
    assert_eq!(proxy.lost(), 1);
    let replica = replica_of(&primary);
    has_replica(&primary).await;
    proxy.lose(Lost::Reply, "append", 1);
    assert_eq!(store.append_with(vec![put("updated", "a", 2)], PATIENT).await.unwrap()[0].version, 2);
    let copied: u64 = ask(&replica, &["XLEN", "events:account_updated"]).await;
    assert_eq!((copied, proxy.lost()), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_way_to_wait_for_its_disk_is_refused_before_anything_is_written() {
    // What is written is on disk at once: the copy that is counted is there, the one that is missing is not.
    let redis = Redis::start_with(&["--appendfsync", "always"]);
    let store = EventStore::connect(Config::new(redis.url())).await.unwrap();
    let disk = |local, replicas| Durability::Fsync { local, replicas, timeout: Duration::from_secs(2) };
    let known: Vec<redis::Value> = ask(&redis, &["COMMAND", "INFO", "WAITAOF"]).await;
    let answer = store.append_with(vec![put("created", "a", 1)], disk(true, 0)).await;
    if known.first() == Some(&redis::Value::Nil) {
        assert_eq!(answer.unwrap_err().kind(), AppendErrorKind::Unsupported);
        assert_eq!(ask::<Vec<String>>(&redis, &["KEYS", "*"]).await, ["eventstore:settings"]);
        let refused = EventStore::connect(Config::new(redis.url()).durability(disk(true, 0))).await;
        assert_eq!(refused.err().unwrap().kind(), ConnectErrorKind::Unsuitable);
    } else {
        assert_eq!(answer.unwrap()[0].version, 1);
        let short = store.append_with(vec![put("updated", "a", 2)], disk(true, 1)).await.unwrap_err();
        assert_eq!(short.kind(), AppendErrorKind::Unknown { wanted: 2, confirmed: 1 });
        let forgetful = Redis::start_with(&["--appendonly", "no"]);
        let store = EventStore::connect(Config::new(forgetful.url())).await.unwrap();
        let refused = store.append_with(vec![put("created", "a", 1)], disk(true, 0)).await.unwrap_err();
        assert_eq!(refused.kind(), AppendErrorKind::Unsupported);
    }
}
