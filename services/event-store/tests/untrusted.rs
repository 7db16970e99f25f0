//! What another program wrote into a stream parks, and stops nobody.

#![allow(clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::{Kind, Subscription};
use std::time::Duration;
use support::{ACCOUNT, Seen, count, eventually, plain, put, recorder, versions};
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
    let kinds = [Kind::new("a_b"), Kind::new("a").lists(&["entity"]), Kind::within("a_b", "c")];
    for kind in kinds {
        let event = event_store::NewEvent::put(kind, "created", "1", &serde_json::json!({}));
        let error = s.store.append(vec![event]).await.unwrap_err();
        assert_eq!(error.kind(), event_store::AppendErrorKind::Invalid, "{kind:?}");
    }
}
