//! What an append promises, on a real server.

#![allow(clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::testing::{Line, Proxy};
use event_store::{AppendErrorKind, Config, EventStore, Expected, Id, Metrics, NewEvent, StreamName, Uuid};
use serde_json::json;
use support::{ACCOUNT, NOTE, plain, put, server};

#[tokio::test(flavor = "multi_thread")]
async fn ids_increase_strictly_across_all_streams_under_many_writers() {
    let s = plain().await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..16 {
        let store = s.store.clone();
        writers.spawn(async move {
            let mut last = Id::ZERO;
            for n in 0..50 {
                let kind = if n % 2 == 0 { ACCOUNT } else { NOTE };
                let event = NewEvent::put(kind, "created", format!("{writer}-{n}"), &json!({ "n": n }));
                let id = store.append(vec![event]).await.unwrap()[0].id;
                assert!(id > last, "{id} came after {last}");
                last = id;
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    let mut ids = Vec::new();
    s.store.replay(&[ACCOUNT.stream("created"), NOTE.stream("created")], |e| ids.push(e.id)).await.unwrap();
    assert_eq!(ids.len(), 800);
    assert!(ids.is_sorted_by(|a, b| a < b), "replay hands out in id order, each id once");
    assert_eq!(s.store.head().await.unwrap(), *ids.last().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn entities_that_change_together_are_read_as_they_stood_at_one_moment() {
    let s = plain().await;
    s.store.append(vec![put("created", "a", 10), put("created", "b", 0)]).await.unwrap();
    let store = s.store.clone();
    let writer = tokio::spawn(async move {
        for n in 0.. {
            let amount = n % 11;
            store.append(vec![put("updated", "a", amount), put("updated", "b", 10 - amount)]).await.unwrap();
        }
    });
    // The reader's commands arrive one after the other, with others' between them.
    let proxy = Proxy::start(s.redis.single().port()).await.unwrap();
    let reader = EventStore::connect(Config::new(proxy.url())).await.unwrap();
    proxy.set(Line::ByteByByte);
    for _ in 0..100 {
        let both = reader.entities(ACCOUNT, &["a", "b"]).await.unwrap();
        let amounts: Vec<u64> = both.iter().flatten().map(|e| e.body["amount"].as_u64().unwrap()).collect();
        assert_eq!(amounts.iter().sum::<u64>(), 10, "{amounts:?}");
    }
    writer.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_writers_on_one_entity_make_a_hundred_versions_without_a_gap() {
    let s = server().await;
    s.store.append(vec![put("created", "a", 0)]).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let store = s.store.clone();
        writers.spawn(async move {
            loop {
                let account = store.entity(ACCOUNT, "a").await.unwrap().unwrap();
                let amount = account.body["amount"].as_u64().unwrap() + 1;
                let event = put("updated", "a", amount).expect(Expected::Exactly(account.version));
                match store.append(vec![event]).await {
                    Ok(_) => return,
                    Err(e) => assert!(e.is_conflict(), "{e}"),
                }
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    let mut versions = Vec::new();
    s.store.replay(&[ACCOUNT.stream("updated")], |e| versions.push(e.version)).await.unwrap();
    assert_eq!(versions, (2..=101).collect::<Vec<u64>>());
    assert_eq!(s.store.entity(ACCOUNT, "a").await.unwrap().unwrap().body["amount"], 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_expectation_carries_the_actual_version_and_nothing_of_the_batch_is_written() {
    let s = server().await;
    s.store.append(vec![put("created", "a", 1)]).await.unwrap();
    let before: u64 = s.command(&["DBSIZE"]).await;
    for (expected, actual) in
        [(Expected::None, Some(1)), (Expected::Exactly(7), Some(1)), (Expected::Exactly(0), Some(1))]
    {
        let batch = vec![put("created", "b", 1), put("updated", "a", 2).expect(expected)];
        let error = s.store.append(batch).await.unwrap_err();
        assert_eq!(error.kind(), AppendErrorKind::Conflict { index: 1, actual, deleted: false });
    }
    let missing = s.store.append(vec![put("updated", "c", 2).expect(Expected::Exists)]).await.unwrap_err();
    assert_eq!(missing.kind(), AppendErrorKind::Conflict { index: 0, actual: None, deleted: false });
    assert_eq!(s.command::<u64>(&["DBSIZE"]).await, before);
    assert!(s.store.entity(ACCOUNT, "b").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_refusal_says_of_an_entity_that_never_was_changes_no_id_of_later_events() {
    let s = plain().await;
    let never = s.store.append(vec![put("updated", "a", 1).expect(Expected::Exists)]).await.unwrap_err();
    assert_eq!(never.kind(), AppendErrorKind::Conflict { index: 0, actual: None, deleted: false });
    // So many that the sequence of their ids begins at 0 again.
    let events: Vec<NewEvent> = (0..1500).map(|n| put("created", &n.to_string(), n)).collect();
    let appended = s.store.append(events).await.unwrap();
    assert!(appended.iter().any(|a| a.id.seq == 0) && appended.is_sorted_by(|a, b| a.id < b.id));
    let mut ids = Vec::new();
    s.store.replay(&[ACCOUNT.stream("created")], |e| ids.push(e.id)).await.unwrap();
    assert_eq!(ids, appended.iter().map(|a| a.id).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_looks_as_the_article_prints_it() {
    let s = server().await;
    let state =
        json!({ "id": "a", "owner": "eve", "tags": ["x", "y", "x"], "amount": 12.5, "more": {"k": 1} });
    s.store.append(vec![NewEvent::put(ACCOUNT, "created", "a", &state)]).await.unwrap();
    assert_eq!(s.command::<Vec<String>>(&["SMEMBERS", "account_ids"]).await, ["a"]);
    assert_eq!(s.command::<String>(&["TYPE", "account_entity:a"]).await, "hash");
    assert_eq!(s.command::<String>(&["HGET", "account_entity:a", "tags"]).await, s.name("account_tags:a"));
    assert_eq!(s.command::<String>(&["HGET", "account_entity:a", "amount"]).await, "12.5");
    assert_eq!(s.command::<Vec<String>>(&["LRANGE", "account_tags:a", "0", "-1"]).await, ["x", "y", "x"]);
    let entries: Vec<(String, Vec<String>)> =
        s.command(&["XRANGE", "events:account_created", "-", "+"]).await;
    assert_eq!(entries[0].1[0], "event_id");
    assert_eq!(entries[0].1[2], "entity");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&entries[0].1[3]).unwrap(), state);
    assert_eq!(
        s.store.entity(ACCOUNT, "a").await.unwrap().unwrap().body,
        state,
        "the reader keeps numbers exact"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_stands_in_the_log_with_its_fields_as_its_writer_names_them() {
    #[derive(serde::Serialize)]
    struct Account {
        id: &'static str,
        amount: f64,
    }
    let s = server().await;
    let account = Account { id: "a", amount: 0.1 };
    s.store.append(vec![NewEvent::put(ACCOUNT, "created", "a", &account)]).await.unwrap();
    let entries: Vec<(String, Vec<String>)> =
        s.command(&["XRANGE", "events:account_created", "-", "+"]).await;
    assert_eq!(entries[0].1[3], r#"{"id":"a","amount":0.1}"#);
    let owned = json!({ "id": "z", "amount": 1, "owner": "eve" });
    for (n, state) in [("b", Account { id: "b", amount: 2.5 }), ("b", Account { id: "b", amount: 3.5 })] {
        s.store.append(vec![NewEvent::put(ACCOUNT, "updated", n, &state)]).await.unwrap();
    }
    let shown: Vec<String> = s.command(&["HVALS", "account_entity:b"]).await;
    assert_eq!(shown, ["b", "3.5", &s.name("account_tags:b")], "and so in the cache");
    s.store.append(vec![NewEvent::put(ACCOUNT, "updated", "b", &owned)]).await.unwrap();
    let shown: Vec<String> = s.command(&["HKEYS", "account_entity:b"]).await;
    assert_eq!(shown, ["amount", "id", "owner", "tags"], "a state with other fields has no old ones left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_entity_leaves_the_cache_and_its_history_goes_on() {
    let s = server().await;
    let state = json!({ "id": "a", "owner": "eve", "tags": ["x"] });
    s.store.append(vec![NewEvent::put(ACCOUNT, "created", "a", &state)]).await.unwrap();
    s.store.append(vec![NewEvent::remove(ACCOUNT, "deleted", "a", &state)]).await.unwrap();
    for key in ["account_ids", "account_entity:a", "account_tags:a", "account_by_owner"] {
        assert_eq!(s.command::<u64>(&["EXISTS", key]).await, 0, "{key}");
    }
    assert!(s.store.entity(ACCOUNT, "a").await.unwrap().is_none());
    let last = s.store.last_state(ACCOUNT, "a").await.unwrap().unwrap();
    assert_eq!((last.version, last.deleted, &last.body), (2, true, &state));
    let gone = s.store.append(vec![put("updated", "a", 1).expect(Expected::Exists)]).await.unwrap_err();
    assert_eq!(gone.kind(), AppendErrorKind::Conflict { index: 0, actual: Some(2), deleted: true });
    assert_eq!(s.store.append(vec![put("created", "a", 1)]).await.unwrap()[0].version, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_follows_its_field() {
    let s = server().await;
    let state = |owner: &str| json!({ "id": "x", "owner": owner });
    for (id, owner) in [("a", "eve"), ("b", "eve"), ("c", "eve2")] {
        s.store.append(vec![NewEvent::put(ACCOUNT, "created", id, &state(owner))]).await.unwrap();
    }
    assert_eq!(s.store.ids_where(ACCOUNT, "owner", "eve").await.unwrap(), ["a", "b"]);
    s.store.append(vec![NewEvent::put(ACCOUNT, "updated", "a", &state("bob"))]).await.unwrap();
    s.store.append(vec![NewEvent::remove(ACCOUNT, "deleted", "c", &state("eve2"))]).await.unwrap();
    assert_eq!(s.store.ids_where(ACCOUNT, "owner", "eve").await.unwrap(), ["b"]);
    assert_eq!(s.store.ids_where(ACCOUNT, "owner", "bob").await.unwrap(), ["a"]);
    assert!(s.store.ids_where(ACCOUNT, "owner", "eve2").await.unwrap().is_empty());
    assert!(s.store.ids_where(ACCOUNT, "amount", "1").await.is_err(), "amount is no index");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_type_refuses_the_batch_before_anything_is_written() {
    let s = server().await;
    let _: String = s.command(&["SET", "account_ids", "a stranger was here"]).await;
    let refused = async || {
        let error = s.store.append(vec![put("created", "a", 1)]).await.unwrap_err();
        assert_eq!(error.kind(), AppendErrorKind::Refused);
        assert!(error.to_string().contains(&s.name("account_ids")), "{error}");
        s.command::<u64>(&["DBSIZE"]).await
    };
    // The kind is settled with its first use, whatever becomes of that.
    let keys = refused().await;
    assert_eq!(refused().await, keys);
    assert_eq!(s.command::<u64>(&["EXISTS", "events:account_created"]).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_its_functions_gets_them_again() {
    let s = server().await;
    let _: String = s.command(&["FUNCTION", "FLUSH"]).await;
    s.store.append(vec![put("created", "a", 1)]).await.unwrap();
}

#[derive(Debug, Default)]
struct Counted(std::sync::Mutex<Vec<String>>);

impl Metrics for Counted {
    fn appended(&self, stream: &StreamName, events: u64) {
        self.0.lock().unwrap().extend((0..events).map(|_| stream.to_string()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_appended_is_counted_by_stream_and_what_was_known_or_refused_is_not() {
    let s = server().await;
    let counted = std::sync::Arc::new(Counted::default());
    let store = EventStore::connect(s.redis.config().metrics(counted.clone())).await.unwrap();
    let id = Uuid::new_v4();
    for _ in 0..2 {
        store.append(vec![put("created", "a", 1).event_id(id)]).await.unwrap();
    }
    store.append(vec![put("updated", "a", 2), put("updated", "a", 3)]).await.unwrap();
    store.append(vec![put("updated", "a", 4).expect(Expected::None)]).await.unwrap_err();
    assert_eq!(*counted.0.lock().unwrap(), ["account_created", "account_updated", "account_updated"]);
}

/// One batch holds the server up for as long as it takes, so it has a limit, which is named where it is exceeded.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_beyond_the_limit_is_refused_and_nothing_of_it_is_written() {
    let s = server().await;
    let (most_events, most_bytes) = (10, 20_000);
    let store = EventStore::connect(s.redis.config().batch_limit(most_events, most_bytes)).await.unwrap();
    let batch = |count: u64| (0..count).map(|n| put("created", &n.to_string(), n)).collect::<Vec<_>>();
    let error = store.append(batch(11)).await.unwrap_err();
    assert_eq!(error.kind(), AppendErrorKind::TooLarge { events: 11, most_events, most_bytes });
    let large =
        NewEvent::put(ACCOUNT, "created", "large", &json!({ "id": "large", "text": "x".repeat(20_000) }));
    let error = store.append(vec![large]).await.unwrap_err();
    assert_eq!(error.kind(), AppendErrorKind::TooLarge { events: 1, most_events, most_bytes });
    assert!(error.to_string().contains("10 events and 20000 bytes"), "{error}");
    assert_eq!(s.command::<u64>(&["XLEN", "events:account_created"]).await, 0);
    assert_eq!(store.append(batch(10)).await.unwrap().len(), 10);
}
