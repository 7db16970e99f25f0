//! Ids are unique and ordered, whatever happens to the server and its clock.

#![allow(clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::testing::{Clock, Redis};
use event_store::{Config, EventStore, Id, NewEvent};
use serde_json::json;
use std::time::Duration;
use support::{ACCOUNT, NOTE, ask, eventually, put};
use tokio::task::JoinSet;

const HOUR: Duration = Duration::from_hours(1);
const STREAMS: [(event_store::Kind, &str); 2] = [(ACCOUNT, "created"), (NOTE, "created")];

/// What sixteen tasks append, in the order of their answers.
async fn many_writers(store: &EventStore, run: &str) -> Vec<Id> {
    let mut writers = JoinSet::new();
    for writer in 0..16 {
        let (store, run) = (store.clone(), run.to_owned());
        writers.spawn(async move {
            let mut ids = Vec::new();
            for n in 0..20 {
                let (kind, action) = STREAMS[n % 2];
                let event = NewEvent::put(kind, action, format!("{run}-{writer}-{n}"), &json!({ "n": n }));
                ids.push(store.append(vec![event]).await.unwrap()[0].id);
            }
            assert!(ids.is_sorted_by(|a, b| a < b), "one after the other, so in order: {ids:?}");
            ids
        });
    }
    let mut ids: Vec<Id> = writers.join_all().await.into_iter().flatten().collect();
    ids.sort_unstable();
    ids
}

async fn assert_log_is(store: &EventStore, expected: &[Id]) {
    let mut log = Vec::new();
    let streams = STREAMS.map(|(kind, action)| kind.stream(action));
    store.replay(&streams, |event| log.push(event.id)).await.unwrap();
    assert!(log.is_sorted_by(|a, b| a < b), "each id once and in order across the streams");
    assert_eq!(log, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_stay_unique_and_in_order_under_many_writers_when_the_clock_steps_back() {
    let clock = Clock::new();
    let mut redis = Redis::start_by(&clock, &["--appendfsync", "always"]);
    let store = EventStore::connect(Config::new(redis.url())).await.unwrap();
    let mut all = Vec::new();
    for (run, step) in ["right", "back", "further back", "restarted"].into_iter().enumerate() {
        match run {
            1 => clock.behind(HOUR),
            2 => clock.behind(HOUR * 48),
            3 => redis.crash_and_restart(),
            _ => {}
        }
        if run == 1 {
            let time: (u64, u64) = ask(&redis, &["TIME"]).await;
            assert!(time.0 * 1000 < all.last().map_or(0, |id: &Id| id.ms), "the clock did step back");
        }
        let ids = many_writers(&store, step).await;
        assert!(all.last() < ids.first(), "{step}: {:?} then {:?}", all.last(), ids.first());
        all.extend(ids);
    }
    for batch in 0..3 {
        let events = (0..500).map(|n| put("created", &format!("{batch}-{n}"), 1)).collect();
        all.extend(store.append(events).await.unwrap().iter().map(|appended| appended.id));
    }
    assert!(
        all.iter().all(|id| id.seq < 1000),
        "a sequence counts microseconds, also while the clock is behind"
    );
    assert_log_is(&store, &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_go_on_after_the_promotion_of_a_replica_whose_clock_is_behind() {
    let clock = Clock::new();
    clock.behind(HOUR);
    let mut primary = Redis::start_with(&["--repl-diskless-sync-delay", "0"]);
    let replica = Redis::start_by(&clock, &["--replicaof", "127.0.0.1", &primary.port().to_string()]);
    let store = EventStore::connect(Config::new(primary.url())).await.unwrap();
    let before = many_writers(&store, "before").await;
    let last = before.last().unwrap().to_string();
    eventually("the replica has it all", || async {
        let clock: Option<String> = ask(&replica, &["GET", "eventstore:clock"]).await;
        clock.as_deref() == Some(last.as_str())
    })
    .await;
    primary.kill();
    let _: String = ask(&replica, &["REPLICAOF", "NO", "ONE"]).await;
    let promoted = EventStore::connect(Config::new(replica.url())).await.unwrap();
    let after = many_writers(&promoted, "after").await;
    assert!(before.last() < after.first());
    assert_log_is(&promoted, &[before, after].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_another_program_wrote_ahead_of_the_clock_stops_no_append() {
    let redis = Redis::start();
    let store = EventStore::connect(Config::new(redis.url())).await.unwrap();
    store.append(vec![put("created", "a", 1)]).await.unwrap();
    let ahead = Id::new(9_999_999_999_999, 7);
    let _: String = ask(&redis, &["XADD", "events:account_updated", &ahead.to_string(), "no", "event"]).await;
    let batch = vec![put("created", "b", 1), put("updated", "a", 2), put("updated", "a", 3)];
    let appended = store.append(batch).await.unwrap();
    assert!(appended[0].id > ahead && appended.is_sorted_by_key(|a| a.id), "{appended:?}");
    assert_eq!(appended.iter().map(|a| a.version).collect::<Vec<_>>(), [1, 2, 3]);
    let end = "18446744073709551615-18446744073709551615";
    let _: String = ask(&redis, &["XADD", "events:account_closed", end, "no", "event"]).await;
    let refused = store.append(vec![put("created", "c", 1), put("closed", "a", 4)]).await.unwrap_err();
    assert_eq!(refused.kind(), event_store::AppendErrorKind::Refused);
    assert!(store.entity(ACCOUNT, "c").await.unwrap().is_none(), "nothing of the batch is written");
    assert_eq!(store.append(vec![put("updated", "a", 4)]).await.unwrap()[0].version, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_clock_goes_on_behind_what_the_streams_hold() {
    let redis = Redis::start();
    let store = EventStore::connect(Config::new(redis.url())).await.unwrap();
    let ahead = Id::new(9_999_999_999_999, 7);
    let _: String = ask(&redis, &["SET", "eventstore:clock", &ahead.to_string()]).await;
    let before = store.append(vec![put("created", "a", 1)]).await.unwrap()[0].id;
    let _: u64 = ask(&redis, &["DEL", "eventstore:clock"]).await;
    assert!(store.append(vec![put("created", "b", 1)]).await.unwrap()[0].id > before);
}
