//! What a verification and a rebuild promise, on a real server: every damage of a cache is found
//! and mended, writers go on, and a kill in the middle leaves nothing that the next run does not mend.

#![allow(clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::testing::{Line, Proxy};
use event_store::{Difference, EventStore, Layout, NewEvent, StreamName, What};
use serde_json::json;
use std::time::Duration;
use support::{ACCOUNT, Child, NOTE, Server, eventually, plain, put, server};
use tokio_util::sync::CancellationToken;

fn streams() -> Vec<StreamName> {
    let accounts = ["created", "updated", "deleted"].map(|action| ACCOUNT.stream(action));
    accounts.into_iter().chain([NOTE.stream("created")]).collect()
}

async fn differences(store: &EventStore) -> Vec<Difference> {
    store.verify(&[ACCOUNT, NOTE], &streams()).await.unwrap().differences
}

async fn fill(s: &Server) {
    for id in ["a", "b", "c"] {
        s.store.append(vec![put("created", id, 1)]).await.unwrap();
    }
    let state = json!({ "id": "a", "owner": "ann", "amount": 2, "tags": ["x", "y"] });
    s.store.append(vec![NewEvent::put(ACCOUNT, "updated", "a", &state)]).await.unwrap();
    s.store.append(vec![NewEvent::remove(ACCOUNT, "deleted", "c", &json!({ "id": "c" }))]).await.unwrap();
    let note = NewEvent::put(NOTE, "created", "n", &json!({ "id": "n" })).ordered_with("account/a");
    s.store.append(vec![note]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Some((task, store)) = Child::task().await else { return };
    assert_eq!(task, "rebuild");
    store.rebuild(&[ACCOUNT], &[ACCOUNT.stream("created"), ACCOUNT.stream("updated")]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damage_of_a_cache_is_named_and_a_rebuild_mends_it() {
    let s = server().await;
    fill(&s).await;
    assert_eq!(differences(&s.store).await, []);
    let field = |name: &str| What::Field(name.to_owned());
    let index = || What::Index("owner".to_owned());
    let list = || What::List("tags".to_owned());
    let version = |log, cache| What::Version { log, cache };
    let cases: [(&[&str], &str, Vec<What>); 10] = [
        (&["SREM", "account_ids", "a"], "account/a", vec![What::Listed(false)]),
        (&["SADD", "account_ids", "ghost"], "account/ghost", vec![What::Listed(true)]),
        (&["HSET", "account_entity:a", "amount", "9"], "account/a", vec![field("amount")]),
        (&["HSET", "account_entity:c", "more", "9"], "account/c", vec![field("more")]),
        (&["DEL", "account_tags:a"], "account/a", vec![list()]),
        (&["RPUSH", "account_tags:b", "x"], "account/b", vec![list()]),
        (&["ZREM", "account_by_owner", "ann\0a"], "account/a", vec![index()]),
        (&["ZADD", "account_by_owner", "0", "other\0a"], "account/a", vec![index()]),
        (&["ZADD", "account_by_owner", "0", "other\0c"], "account/c", vec![index()]),
        (&["DEL", "eventstore:key:account/a"], "account/a", vec![version(2, 0), What::Order]),
    ];
    let whole = s.store.entity(ACCOUNT, "a").await.unwrap();
    for (damage, key, what) in cases {
        let _: i64 = s.command(damage).await;
        let expected: Vec<Difference> = differences(&s.store).await;
        assert!(expected.iter().all(|d| d.key == key), "{damage:?}: {expected:?}");
        assert_eq!(expected.into_iter().map(|d| d.what).collect::<Vec<_>>(), what, "{damage:?}");
        let rebuilt = s.store.rebuild(&[ACCOUNT, NOTE], &streams()).await.unwrap();
        assert_eq!((rebuilt.rebuilt, rebuilt.after.differences), (1, vec![]), "{damage:?}");
        assert_eq!(s.store.entity(ACCOUNT, "a").await.unwrap(), whole);
    }
    let _: String = s.command(&["SET", "eventstore:key:account/b", "7l created=1-1"]).await;
    assert_eq!(differences(&s.store).await[0].what, version(1, 7));
    s.store.rebuild(&[ACCOUNT, NOTE], &streams()).await.unwrap();
    assert_eq!(differences(&s.store).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_is_killed_and_run_again_while_writers_append_overwrites_none_of_their_events() {
    const ACCOUNTS: u64 = 300;
    let s = plain().await;
    for n in 0..ACCOUNTS {
        s.store.append(vec![put("created", &n.to_string(), 0)]).await.unwrap();
    }
    let streams = [ACCOUNT.stream("created"), ACCOUNT.stream("updated")];
    // Hashes, ids and index are lost; the records stay, so that writers can go on.
    for n in 0..ACCOUNTS {
        let _: i64 = s.command(&["DEL", &format!("account_entity:{n}")]).await;
    }
    let _: i64 = s.command(&["DEL", "account_ids", "account_by_owner"]).await;
    let stop = CancellationToken::new();
    let writer = tokio::spawn({
        let (store, stop) = (s.store.clone(), stop.clone());
        async move {
            let mut appended = 0;
            while !stop.is_cancelled() {
                let id = (appended % 50).to_string();
                store.append(vec![put("updated", &id, appended + 1)]).await.unwrap();
                appended += 1;
                // At a pace that who reads the whole log keeps up with, on a busy machine too.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            appended
        }
    });
    let proxy = Proxy::start(s.redis.single().port()).await.unwrap();
    proxy.set(Line::Late(Duration::from_millis(1)));
    let mut child = Child::start_at("rebuild", &proxy.url(), Layout::Plain);
    let listed = || async { s.command::<u64>(&["SCARD", "account_ids"]).await };
    eventually("the rebuild has begun", || async { listed().await > 20 }).await;
    assert!(child.kill());
    assert!(listed().await < ACCOUNTS, "killed half-way");

    s.store.rebuild(&[ACCOUNT], &streams).await.unwrap();
    stop.cancel();
    let appended = writer.await.unwrap();
    let after = s.store.verify(&[ACCOUNT], &streams).await.unwrap();
    assert_eq!((after.differences, after.entities, after.unsettled), (vec![], ACCOUNTS, 0));
    assert_eq!(after.events, ACCOUNTS + appended);
    for n in 0..50_u64 {
        let entity = s.store.entity(ACCOUNT, &n.to_string()).await.unwrap().unwrap();
        let updates = appended / 50 + u64::from(n < appended % 50);
        assert_eq!(entity.version, updates + 1, "no version was taken back");
    }
}
