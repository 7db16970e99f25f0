//! A batch is all or nothing, and its neighbours in the same call are not its business.

#![allow(clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::testing::Redis;
use event_store::{AppendErrorKind, Config, EventStore, Expected, NewEvent};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use support::{ACCOUNT, NOTE, durable, eventually, put, server};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const SIZE: usize = 10;
/// A store goes on as soon as its server does.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_the_middle_of_batches_has_each_of_them_whole_or_not_at_all() {
    let mut s = durable().await;
    let begun = Arc::new(AtomicU64::new(0));
    let mut answered = BTreeSet::new();
    for _ in 0..3 {
        let mut writers = JoinSet::new();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let enough = CancellationToken::new();
        for _ in 0..16 {
            let (store, begun, tell, enough) = (s.store.clone(), begun.clone(), tell.clone(), enough.clone());
            writers.spawn(async move {
                while !enough.is_cancelled() {
                    let n = begun.fetch_add(1, Ordering::SeqCst);
                    let batch = (0..SIZE).map(|i| put("created", &format!("{n}-{i}"), n)).collect();
                    if store.append(batch).await.is_ok() {
                        tell.send(n).unwrap();
                    }
                }
            });
        }
        for _ in 0..60 {
            let n = tokio::time::timeout(PATIENCE, told.recv()).await.expect("the store goes on");
            answered.insert(n.unwrap());
        }
        // The writers are under way: what they have sent is in any state now.
        s.redis.crash_and_restart();
        // Their last appends are answered too, so that nothing is under way when it is counted.
        enough.cancel();
        writers.join_all().await;
        while let Ok(n) = told.try_recv() {
            answered.insert(n);
        }
    }
    let mut batches: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    let mut events = 0;
    s.store
        .replay(&[ACCOUNT.stream("created")], |event| {
            assert_eq!(event.version, 1, "{} is there once", event.entity_id);
            batches.entry(event.entity["amount"].as_u64().unwrap()).or_default().insert(event.entity_id);
            events += 1;
        })
        .await
        .unwrap();
    assert_eq!(events, batches.len() * SIZE);
    assert!(batches.values().all(|entities| entities.len() == SIZE), "a batch is there in part");
    let lost: Vec<_> = answered.iter().filter(|n| !batches.contains_key(n)).collect();
    assert!(lost.is_empty(), "answered and lost: {lost:?}");
    let ids: BTreeSet<String> = batches.into_values().flatten().collect();
    let cached: BTreeSet<String> = s.store.ids(ACCOUNT).await.unwrap().into_iter().collect();
    assert_eq!(cached, ids, "the cache says what the log says");
}

/// Cuts the file of a server that is down in the middle of its last transaction, behind the first write of it.
fn cut_last_transaction(folder: &Path) {
    let files = std::fs::read_dir(folder.join("appendonlydir")).unwrap().map(|file| file.unwrap().path());
    let file = files.filter(|file| file.to_str().unwrap().ends_with(".incr.aof")).max().unwrap();
    let text = std::fs::read(&file).unwrap().to_ascii_lowercase();
    let find =
        |word: &[u8], from: usize| text[from..].windows(word.len()).position(|w| w == word).unwrap() + from;
    let transaction = text.windows(5).rposition(|w| w == b"multi").unwrap();
    let second = find(b"xadd", find(b"xadd", transaction) + 1);
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(second as u64 + 8).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_of_a_batch_does_not_come_back_with_a_later_start() {
    let mut redis = Redis::start_with(&["--appendfsync", "always"]);
    let store = EventStore::connect(Config::new(redis.url())).await.unwrap();
    let batch = |name: &str| (0..3).map(|n| put("created", &format!("{name}{n}"), 1)).collect::<Vec<_>>();
    store.append(batch("whole")).await.unwrap();
    store.append(batch("cut")).await.unwrap();
    redis.kill();
    cut_last_transaction(redis.folder());
    redis.restart();
    store.append(batch("later")).await.unwrap();
    redis.crash_and_restart();
    let mut seen = Vec::new();
    let streams = [ACCOUNT.stream("created")];
    let read = || async { store.head_of(&streams).await.is_ok() };
    eventually("the store is connected", read).await;
    store.replay(&streams, |event| seen.push(event.entity_id)).await.unwrap();
    assert_eq!(seen, ["whole0", "whole1", "whole2", "later0", "later1", "later2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_batch_refuses_none_of_those_that_wait_beside_it() {
    let s = server().await;
    s.store.append(vec![put("created", "taken", 1)]).await.unwrap();
    let mut writers = JoinSet::new();
    for n in 0..200 {
        let store = s.store.clone();
        writers.spawn(async move {
            let bad = n % 3 == 0;
            let second = if bad {
                put("created", "taken", n).expect(Expected::None)
            } else {
                put("created", &format!("b{n}"), n)
            };
            let batch = vec![put("created", &format!("a{n}"), n), second];
            match store.append(batch).await {
                Ok(appended) => assert!(!bad && appended.len() == 2),
                Err(e) => {
                    assert!(bad, "{e}");
                    let conflict = AppendErrorKind::Conflict { index: 1, actual: Some(1), deleted: false };
                    assert_eq!(e.kind(), conflict);
                }
            }
            u64::from(!bad)
        });
    }
    let good: u64 = writers.join_all().await.iter().sum();
    assert_eq!(s.command::<u64>(&["XLEN", "events:account_created"]).await, 1 + 2 * good);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_events_of_one_entity_in_one_batch_follow_each_other() {
    let s = server().await;
    let state = |n: u64| json!({ "id": "a", "owner": format!("owner {n}"), "n": n });
    let batch = vec![
        NewEvent::put(ACCOUNT, "created", "a", &state(1)).expect(Expected::None),
        NewEvent::put(ACCOUNT, "updated", "a", &state(2)).expect(Expected::Exactly(1)),
        NewEvent::remove(ACCOUNT, "deleted", "a", &state(2)).expect(Expected::Exists),
        NewEvent::put(ACCOUNT, "created", "a", &state(4)).expect(Expected::Exactly(3)),
    ];
    let versions: Vec<u64> = s.store.append(batch).await.unwrap().iter().map(|a| a.version).collect();
    assert_eq!(versions, [1, 2, 3, 4]);
    assert_eq!(s.store.entity(ACCOUNT, "a").await.unwrap().unwrap().body, state(4));
    assert_eq!(s.store.ids_where(ACCOUNT, "owner", "owner 4").await.unwrap(), ["a"]);
    assert!(s.store.ids_where(ACCOUNT, "owner", "owner 2").await.unwrap().is_empty());
    let record: String = s.command(&["GET", "eventstore:key:account/a"]).await;
    assert!(record.starts_with("4l created="), "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_entity_is_found_though_events_of_others_came_later_on_its_key() {
    let s = server().await;
    s.store.append(vec![put("created", "a", 1)]).await.unwrap();
    let other = event_store::Kind::within("account", "card");
    let event = NewEvent::put(other, "created", "c", &json!({})).ordered_with(ACCOUNT.ordering_key("a"));
    s.store.append(vec![event]).await.unwrap();
    let account = s.store.entity(ACCOUNT, "a").await.unwrap().unwrap();
    assert_eq!((account.version, &account.body["amount"]), (1, &json!(1)));
    s.store.append(vec![put("updated", "a", 2)]).await.unwrap();
    assert_eq!(s.store.entity(ACCOUNT, "a").await.unwrap().unwrap().body["amount"], 2);
    assert!(s.store.entity(NOTE, "a").await.unwrap().is_none());
}
