//! An event id is one event, however often and over whatever line it is appended.

#![allow(clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::testing::{Clock, Line, Lost, Proxy, Redis};
use event_store::{AppendErrorKind, Config, EventStore, Expected, NewEvent, Uuid};
use serde_json::json;
use std::time::Duration;
use support::{ACCOUNT, NOTE, ask, plain, put, server};

const WINDOW: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn an_event_id_is_one_event_and_with_any_other_content_an_error() {
    let s = server().await;
    let id = Uuid::new_v4();
    let first = s.store.append(vec![put("created", "a", 1).event_id(id)]).await.unwrap();
    for n in 0..30 {
        s.store.append(vec![put(["created", "updated"][n % 2], "a", 2)]).await.unwrap();
    }
    let again = s.store.append(vec![put("created", "a", 1).event_id(id).expect(Expected::None)]).await;
    assert_eq!(again.unwrap(), first, "also when much has happened to the entity since");
    let state = json!({ "id": "a", "owner": "owner of a", "amount": 1 });
    for other in [
        put("created", "a", 2),
        put("updated", "a", 1),
        put("created", "b", 1),
        NewEvent::remove(ACCOUNT, "created", "a", &state),
    ] {
        let error = s.store.append(vec![other.event_id(id)]).await.unwrap_err();
        assert_eq!(error.kind(), AppendErrorKind::DuplicateId);
    }
    let half_known = vec![put("created", "a", 1).event_id(id), put("created", "c", 1)];
    assert_eq!(s.store.append(half_known).await.unwrap_err().kind(), AppendErrorKind::DuplicateId);
    assert!(s.store.entity(ACCOUNT, "c").await.unwrap().is_none());
    assert_eq!(s.store.entity(ACCOUNT, "a").await.unwrap().unwrap().version, 31);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_lost_on_the_wire_each_append_is_one_event() {
    let s = plain().await;
    let proxy = Proxy::start(s.redis.single().port()).await.unwrap();
    let config = Config::new(proxy.url()).append_deadline(Duration::from_mins(1));
    let store = EventStore::connect(config).await.unwrap();
    for (round, what) in [Lost::Reply, Lost::Command, Lost::Reply].into_iter().enumerate() {
        proxy.set([Line::Good, Line::Good, Line::ByteByByte][round]);
        let mut writers = tokio::task::JoinSet::new();
        // However many events a call takes along, there is a first one.
        proxy.lose(what, "append", 1);
        proxy.lose(what, "append", 2);
        let before = proxy.lost();
        for n in 0..16 {
            let store = store.clone();
            let event = put("created", &format!("{round}-{n}"), 1).expect(Expected::None);
            writers.spawn(async move { store.append(vec![event]).await.unwrap()[0].version });
        }
        assert_eq!(writers.join_all().await, [1; 16], "{what:?}");
        assert!(proxy.lost() > before, "{what:?}: nothing was lost");
    }
    assert_eq!(s.command::<u64>(&["XLEN", "events:account_created"]).await, 48);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_heard_of_an_append_and_asks_again_gets_its_answer_and_with_another_body_an_error() {
    let s = plain().await;
    let proxy = Proxy::start(s.redis.single().port()).await.unwrap();
    let config = Config::new(proxy.url()).append_deadline(Duration::from_secs(1));
    let hasty = EventStore::connect(config).await.unwrap();
    let id = Uuid::new_v4();
    // More than are asked for within the deadline.
    (0..100).for_each(|_| proxy.lose(Lost::Reply, "append", 1));
    let error = hasty.append(vec![put("created", "a", 1).event_id(id)]).await.unwrap_err();
    assert_eq!(error.kind(), AppendErrorKind::Unavailable, "unknown, so not 'refused'");
    let other = s.store.append(vec![put("created", "a", 2).event_id(id)]).await.unwrap_err();
    assert_eq!(other.kind(), AppendErrorKind::DuplicateId);
    let answer = s.store.append(vec![put("created", "a", 1).event_id(id)]).await.unwrap();
    assert_eq!((answer[0].version, answer[0].event_id), (1, id));
    assert_eq!(s.command::<u64>(&["XLEN", "events:account_created"]).await, 1);
}

async fn remembered(redis: &Redis) -> usize {
    let mut sum = 0;
    for key in ask::<Vec<String>>(redis, &["KEYS", "eventstore:seen:*"]).await {
        let members: Vec<String> = ask(redis, &["SMEMBERS", &key]).await;
        sum += members.iter().filter(|member| member.len() > 1).count();
    }
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_id_is_remembered_for_a_window_and_at_most_two_and_their_memory_is_bounded() {
    let clock = Clock::new();
    let redis = Redis::start_by(&clock, &[]);
    let store = EventStore::connect(Config::new(redis.url()).dedup_window(WINDOW)).await.unwrap();
    let id = Uuid::new_v4();
    let event = || NewEvent::put(NOTE, "created", "n", &json!({ "n": 1 })).event_id(id);
    let traffic = async |round: u64| {
        for part in 0..5 {
            let batch = (0..100).map(|n| put("updated", &format!("{round}-{part}-{n}"), n)).collect();
            store.append(batch).await.unwrap();
        }
    };
    let first = store.append(vec![event()]).await.unwrap();
    clock.ahead(Duration::from_mins(59));
    traffic(0).await;
    assert_eq!(store.append(vec![event()]).await.unwrap(), first, "within the window");
    for round in 1..=4 {
        clock.ahead(WINDOW * u32::try_from(round).unwrap() + MINUTE);
        traffic(round).await;
        let count = remembered(&redis).await;
        assert!((500..=1501).contains(&count), "{count} ids after round {round} of 500 a window");
    }
    let later = store.append(vec![event()]).await.unwrap();
    assert!(later[0].id > first[0].id, "after two windows it is a new event");
    assert_eq!(later[0].version, 2);
    clock.ahead(WINDOW * 20);
    support::eventually("buckets that nobody uses go by themselves", || async {
        ask::<Vec<String>>(&redis, &["KEYS", "eventstore:seen:*"]).await.is_empty()
    })
    .await;
}
