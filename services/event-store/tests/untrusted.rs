//! What another program wrote into a stream parks, and stops nobody.

#![allow(clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::{
    AppendErrorKind, Id, Projection, ProjectionError, ReadErrorKind, Select, Subscription, Write,
};
use std::time::Duration;
use support::{ACCOUNT, Seen, count, eventually, plain, put, recorder, server, versions};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_other_programs_park_one_by_one_and_what_stands_among_them_is_handled() {
    let s = plain().await;
    let large = "x".repeat(5 << 20);
    let entry =
        |pairs: &[(&str, &[u8])]| pairs.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.to_vec())).collect();
    let event_id: (&str, &[u8]) = ("event_id", b"6d3ff6f4-8a0d-4ae6-9ff8-cf1d46c0e4a1");
    let entity: (&str, &[u8]) = ("entity", b"{\"id\":\"a\"}");
    let entries: Vec<Vec<(Vec<u8>, Vec<u8>)>> = vec![
        entry(&[("hello", b"world")]),
        entry(&[event_id, entity]),
        entry(&[event_id, ("entity", b"{\"id\":"), ("version", b"1")]),
        entry(&[event_id, ("entity", b"\xff\xfe\x00"), ("version", b"1")]),
        entry(&[event_id, ("entity", large.as_bytes()), ("version", b"1")]),
        entry(&[event_id, entity, ("version", b"-1")]),
        entry(&[event_id, entity, ("version", b"1"), ("after", b"{\"a\":1}")]),
        entry(&[event_id, entity, ("version", b"1"), ("entity_id", b"\xff")]),
        entry(&[("", b""), ("\0", b"\0")]),
    ];
    let mut connection = event_store::testing::patient_connection(s.redis.single().url()).await.unwrap();
    for (n, fields) in entries.iter().enumerate() {
        s.store.append(vec![put("created", &format!("a{n}"), 1)]).await.unwrap();
        let mut command = redis::cmd("XADD");
        command.arg("events:account_created").arg("*");
        for (name, value) in fields {
            command.arg(name).arg(value);
        }
        let _: String = command.query_async(&mut connection).await.unwrap();
    }
    s.store.append(vec![put("created", "last", 1)]).await.unwrap();
    let seen = Seen::default();
    let subscription = Subscription::new("group", "one")
        .streams([ACCOUNT.stream("created")])
        .claim_after(Duration::from_secs(30));
    let cancel = CancellationToken::new();
    let running = tokio::spawn(s.store.subscribe(subscription).run(recorder(&seen), cancel.clone()));
    let dead = s.store.dead_letters("group", "account");
    eventually("all of them park", || async { dead.count().await.unwrap() == entries.len() as u64 }).await;
    eventually("all events are handled", || async { count(&seen) == entries.len() + 1 }).await;
    cancel.cancel();
    let _ = running.await.unwrap();
    assert_eq!(versions(&seen, "last"), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_with_odd_characters_are_entities_of_their_own() {
    let s = plain().await;
    let long = "x".repeat(256);
    let ids = [
        "a",
        "a:b",
        "*",
        "a*",
        "[a-z]",
        "'",
        "\"a\"",
        "../a",
        "a b",
        "\u{202e}\u{5d0}",
        "a=1-1",
        "a@b",
        "a/b",
        &long,
    ];
    for (n, id) in ids.iter().enumerate() {
        s.store.append(vec![put("created", id, n as u64)]).await.unwrap();
    }
    for (n, id) in ids.iter().enumerate() {
        let entity = s.store.entity(ACCOUNT, id).await.unwrap().unwrap();
        assert_eq!((entity.version, entity.body["amount"].as_u64()), (1, Some(n as u64)), "{id:?}");
        assert_eq!(s.store.ids_where(ACCOUNT, "owner", &format!("owner of {id}")).await.unwrap(), [*id]);
    }
    let too_long = "x".repeat(257);
    for id in ["", "a\nb", "\0", "{a}", &too_long] {
        let error = s.store.append(vec![put("created", id, 1)]).await.unwrap_err();
        assert_eq!(error.kind(), event_store::AppendErrorKind::Invalid, "{id:?}");
    }
    for action in ["paid_in", "", "a:b"] {
        let event = event_store::NewEvent::put(ACCOUNT, action, "1", &serde_json::json!({}));
        let error = s.store.append(vec![event]).await.unwrap_err();
        assert_eq!(error.kind(), event_store::AppendErrorKind::Invalid, "{action:?}");
    }
}

/// What is refused ends without being cancelled.
async fn at_once<T>(run: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), run).await.expect("it runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_could_reach_another_key_are_refused_by_every_call() {
    let s = server().await;
    let keys = async || {
        let mut keys = s.command::<Vec<String>>(&["KEYS", "*"]).await;
        keys.sort();
        keys
    };
    let before = keys().await;
    let streams = [ACCOUNT.stream("created")];
    let handled = async |group: &str, consumer: &str| {
        let subscription = Subscription::new(group, consumer).streams(streams.clone());
        let consumer = s.store.subscribe(subscription);
        at_once(consumer.run(recorder(&Seen::default()), CancellationToken::new())).await.unwrap_err()
    };
    for bad in ["", "a b", "group:v1", "{a}", "_a", "a\n"] {
        let error = handled(bad, "one").await;
        assert!(error.to_string().contains("the name of a group: use 1 to 64 letters"), "{error}");
        let error = s.store.accept_log(bad, &streams).await.unwrap_err();
        assert_eq!(error.kind(), AppendErrorKind::Invalid, "{bad:?}");
        let dead = s.store.dead_letters(bad, "account");
        assert_eq!(dead.count().await.unwrap_err().kind(), ReadErrorKind::Invalid, "{bad:?}");
        assert_eq!(dead.list(Id::ZERO, 1).await.unwrap_err().kind(), ReadErrorKind::Invalid, "{bad:?}");
        let error = dead.replay(&Select::All).await.unwrap_err();
        assert_eq!(error.kind(), AppendErrorKind::Invalid, "{bad:?}");
        let projector = s.store.project(Projection::new(bad, 1).streams(streams.clone()));
        let error = at_once(projector.run(|_| Vec::new(), CancellationToken::new())).await.unwrap_err();
        assert!(matches!(error, ProjectionError::Invalid(_)), "{error}");
    }
    for bad in ["", "a{b", "a\n", &"x".repeat(257)] {
        let error = handled("group", bad).await;
        let allowed = "the name of a consumer: use 1 to 256 bytes without control characters and braces";
        assert!(error.to_string().contains(allowed), "{error}");
    }
    assert_eq!(keys().await, before, "nothing was written");
}

/// A projection whose keys would be those of the store: of a group's cursors, an entity, a list, a stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_projection_reaches_no_key_of_the_store() {
    let s = server().await;
    s.store.append(vec![put("created", "v1:k", 1)]).await.unwrap();
    let stream = ACCOUNT.stream("created");
    for bad in ["eventstore:group", "eventstore", "events", "account_entity", "account_tags", "account_by"] {
        let projector = s.store.project(Projection::new(bad, 1).streams([stream.clone()]));
        let view = projector.view();
        let error = projector.validate().unwrap_err();
        assert!(error.to_string().contains("the name of a projection: use 1 to 64 letters"), "{error}");
        let overwrite = |_: &event_store::Event| {
            vec![Write::HashSet { key: "k".into(), field: "amount".into(), value: "1000000".into() }]
        };
        let refused = at_once(projector.run(overwrite, CancellationToken::new())).await.unwrap_err();
        assert_eq!(refused.to_string(), error.to_string());
        assert!(matches!(
            view.caught_up(Duration::from_mins(1)).await.unwrap_err(),
            ProjectionError::Invalid(_)
        ));
        assert_eq!(view.hash_all("k").await.unwrap_err().kind(), ReadErrorKind::Invalid, "{bad}");
    }
    let entity = s.store.entity(ACCOUNT, "v1:k").await.unwrap().unwrap();
    assert_eq!(entity.body["amount"], 1);
    assert!(s.store.projections().await.unwrap().is_empty(), "none is registered");
    for streams in [vec![], vec![stream.clone(), stream.clone()]] {
        let error = s.store.project(Projection::new("view", 1).streams(streams)).validate().unwrap_err();
        assert!(matches!(error, ProjectionError::Invalid(_)), "{error}");
    }
}
