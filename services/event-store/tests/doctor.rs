//! A server that is unfit is refused when a store is opened, with what to change; a user needs the
//! rights that are listed and no more.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod support;

use event_store::doctor::{self, Access, Severity};
use event_store::testing::{Cluster, Redis};
use event_store::{Config, ConnectErrorKind, EventStore, Layout, Outcome, Select, Subscription};
use support::{ACCOUNT, Recorder, Seen, count, eventually, plain, put, recorder, server};
use tokio_util::sync::CancellationToken;

fn as_user(port: u16, user: &str) -> Config {
    Config::new(format!("redis://{user}:secret@127.0.0.1:{port}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_evicts_is_refused_with_what_to_change() {
    let s = plain().await;
    let () = s.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    let error = EventStore::connect(Config::new(s.redis.single().url())).await.err().unwrap();
    assert_eq!(error.kind(), ConnectErrorKind::Unsuitable);
    assert!(error.to_string().contains("CONFIG SET maxmemory-policy noeviction"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_keeps_nothing_on_disk_is_warned_about_and_used() {
    let s = plain().await;
    let () = s.command(&["CONFIG", "SET", "appendonly", "no"]).await;
    EventStore::connect(Config::new(s.redis.single().url())).await.unwrap();
    let findings = doctor::diagnose(&Config::new(s.redis.single().url())).await.unwrap();
    let finding = findings.iter().find(|f| f.subject == "persistence").unwrap();
    assert_eq!(finding.severity, Severity::Warn);
    assert!(finding.problem.contains("nothing is kept on disk"), "{finding}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_the_right_to_append_is_refused_with_the_command_that_grants_it() {
    let s = plain().await;
    let () = s
        .command(&["ACL", "SETUSER", "ledger", "on", ">secret", "~*", "+@all", "-xadd", "-xgroup|create"])
        .await;
    let error = EventStore::connect(as_user(s.redis.single().port(), "ledger")).await.err().unwrap();
    assert_eq!(error.kind(), ConnectErrorKind::Unsuitable);
    assert!(error.to_string().contains("ACL SETUSER ledger +xadd +xgroup|create"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_the_store_s_own_keys_is_refused() {
    let s = plain().await;
    let () = s.command(&["ACL", "SETUSER", "ledger", "on", ">secret", "~events:*", "+@all"]).await;
    let error = EventStore::connect(as_user(s.redis.single().port(), "ledger")).await.err().unwrap();
    assert!(error.to_string().contains("~eventstore:*"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listed_rights_are_enough_to_append_subscribe_park_and_replay() {
    let s = plain().await;
    let user =
        ["ACL", "SETUSER", "ledger", "on", ">secret", "~events:*", "~eventstore:*", "~account_*", "~view:*"];
    let rights: Vec<String> = doctor::rights().into_iter().map(|right| format!("+{right}")).collect();
    let words: Vec<&str> = user.into_iter().chain(rights.iter().map(String::as_str)).collect();
    let () = s.command(&words).await;
    let store = EventStore::connect(as_user(s.redis.single().port(), "ledger")).await.unwrap();
    store.append(vec![put("opened", "1", 5), put("opened", "2", 5)]).await.unwrap();

    let seen = Seen::default();
    let cancel = CancellationToken::new();
    let handler = Recorder {
        seen: seen.clone(),
        answer: |event: event_store::Event| async move {
            if event.entity_id == "1" { Outcome::Park("odd".to_owned()) } else { Outcome::Done(Vec::new()) }
        },
    };
    let subscription = Subscription::new("audit", "a").streams([ACCOUNT.stream("opened")]);
    let running = tokio::spawn(store.subscribe(subscription).run(handler, cancel.clone()));
    let letters = store.dead_letters("audit", "account");
    eventually("a dead letter", async || letters.count().await.unwrap() == 1).await;
    letters.replay(&Select::All).await.unwrap();
    eventually("handled again", async || count(&seen) == 3).await;
    eventually("parked again", async || letters.count().await.unwrap() == 1).await;
    cancel.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_master_of_a_cluster_is_looked_at_and_the_plain_layout_is_refused_there() {
    let cluster = Cluster::start();
    let nodes: Vec<String> = cluster.nodes().iter().map(Redis::url).collect();
    let tagged = Config::new(&nodes[0]).layout(Layout::Tagged);
    EventStore::connect(tagged.clone()).await.unwrap();
    let error = EventStore::connect(Config::new(&nodes[0])).await.err().unwrap();
    assert_eq!(error.kind(), ConnectErrorKind::Unsuitable);
    assert!(error.to_string().contains("choose the tagged layout"), "{error}");

    let mut third = event_store::testing::patient_connection(nodes[2].as_str()).await.unwrap();
    let () = redis::cmd("CONFIG")
        .arg(&["SET", "maxmemory-policy", "volatile-ttl"])
        .query_async(&mut third)
        .await
        .unwrap();
    let error = EventStore::connect(tagged).await.err().unwrap();
    let third = format!("127.0.0.1:{}", cluster.nodes()[2].port());
    assert!(error.to_string().contains(&format!("{third}: maxmemory-policy is volatile-ttl")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_looks_needs_no_right_to_write_and_no_master() {
    let s = plain().await;
    s.store.append(vec![put("opened", "1", 5)]).await.unwrap();
    let () = s
        .command(&[
            "ACL",
            "SETUSER",
            "guest",
            "on",
            ">secret",
            "~*",
            "-@all",
            "+@read",
            "+@connection",
            "+info",
            "+time",
            "+multi",
            "+discard",
        ])
        .await;
    assert!(EventStore::connect(as_user(s.redis.single().port(), "guest")).await.is_err());
    let store = EventStore::connect(as_user(s.redis.single().port(), "guest").access(Access::ReadOnly))
        .await
        .unwrap();
    assert_eq!(store.streams().await.unwrap(), [ACCOUNT.stream("opened")]);

    let replica = Redis::start();
    let mut connection = event_store::testing::patient_connection(replica.url()).await.unwrap();
    let port = s.redis.single().port().to_string();
    let () = redis::cmd("REPLICAOF").arg("127.0.0.1").arg(&port).query_async(&mut connection).await.unwrap();
    let error = EventStore::connect(Config::new(replica.url())).await.err().unwrap();
    assert!(error.to_string().contains(&format!("connect to its master, 127.0.0.1:{port}")), "{error}");
    let looks = Config::new(replica.url()).access(Access::ReadOnly);
    eventually("the replica has the stream", async || match EventStore::connect(looks.clone()).await {
        Ok(store) => store.streams().await.unwrap() == [ACCOUNT.stream("opened")],
        Err(_) => false,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_for_rights_changes_nothing_whatever_the_user_may_do() {
    let s = plain().await;
    s.store.append(vec![put("opened", "1", 5)]).await.unwrap();
    let everything = async || {
        let mut keys: Vec<String> = s.command(&["KEYS", "*"]).await;
        keys.sort();
        let clock: String = s.command(&["GET", "eventstore:clock"]).await;
        (keys, clock)
    };
    let before = everything().await;
    for rights in ["+@all", "-multi", "-discard"] {
        let () = s.command(&["ACL", "SETUSER", "ledger", "on", ">secret", "~*", "+@all", rights]).await;
        doctor::diagnose(&as_user(s.redis.single().port(), "ledger")).await.unwrap();
        assert_eq!(everything().await, before, "{rights}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_not_load_functions_works_by_scripts_also_after_the_server_forgot_them() {
    let s = server().await;
    let rights = ["~*", "+@all", "-function", "-fcall", "-fcall_ro"];
    let () = s.command(&[&["ACL", "SETUSER", "ledger", "on", ">secret"], &rights[..]].concat()).await;
    let store = EventStore::connect(s.redis.config_as("ledger", "secret")).await.unwrap();
    let id = event_store::Uuid::new_v4();
    for _ in 0..2 {
        let appended = store.append(vec![put("created", "a", 1).event_id(id)]).await.unwrap();
        assert_eq!(appended[0].version, 1, "appended twice is appended once");
    }
    let (seen, cancel) = (Seen::default(), CancellationToken::new());
    let subscription =
        Subscription::new("audit", "a").streams([ACCOUNT.stream("created"), ACCOUNT.stream("updated")]);
    let running = tokio::spawn(store.subscribe(subscription).run(recorder(&seen), cancel.clone()));
    eventually("handled", async || count(&seen) == 1).await;
    let () = s.command(&["SCRIPT", "FLUSH"]).await;
    store.append(vec![put("updated", "a", 2)]).await.unwrap();
    eventually("handled by a script that was loaded again", async || count(&seen) == 2).await;
    cancel.cancel();
    let _ = running.await.unwrap();
}
