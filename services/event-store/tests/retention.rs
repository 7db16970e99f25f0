//! What a trim promises, on a real server: never what somebody needs, never an entity's state, and
//! a kill in its middle costs nothing.

#![allow(clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::testing::{Line, Proxy};
use event_store::{
    Entity, Event, EventStore, HeldBy, Id, Layout, NewEvent, Projection, ProjectionError, ReplayErrorKind,
    StreamName, TrimErrorKind, Unread, Write,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use support::{ACCOUNT, Child, Server, eventually, plain, put, server};
use tokio_util::sync::CancellationToken;

fn streams() -> [StreamName; 3] {
    ["created", "updated", "deleted"].map(|action| ACCOUNT.stream(action))
}

/// Ten accounts with `rounds` updates each, one of them deleted.
async fn fill(s: &Server, rounds: u64) {
    let ids: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    s.store.append(ids.iter().map(|id| put("created", id, 0)).collect()).await.unwrap();
    for round in 1..=rounds {
        // Account 9 rests: its last event is an early one.
        let updates = ids.iter().filter(|id| *id != "9" || round == 1);
        s.store.append(updates.map(|id| put("updated", id, round)).collect()).await.unwrap();
    }
    s.store.append(vec![NewEvent::remove(ACCOUNT, "deleted", "8", &json!({ "id": "8" }))]).await.unwrap();
}

async fn states(store: &EventStore) -> Vec<Option<Entity>> {
    let ids: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    store.last_states(ACCOUNT, &ids).await.unwrap()
}

/// The state of every account, folded from the log.
async fn fold(store: &EventStore) -> BTreeMap<String, (u64, bool)> {
    let mut folded = BTreeMap::new();
    let fold = |e: Event| {
        folded.insert(e.entity_id, (e.version, e.removed));
    };
    store.replay_of(streams()).from_snapshots().run(fold).await.unwrap();
    folded
}

async fn verified(store: &EventStore) {
    assert_eq!(store.verify(&[ACCOUNT], &streams()).await.unwrap().differences, []);
}

async fn group(s: &Server, stream: &str, name: &str, id: &str) {
    let _: String = s.command(&["XGROUP", "CREATE", &format!("events:{stream}"), name, id]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Some((task, store)) = Child::task().await else { return };
    assert_eq!(task, "trim");
    store.retention(streams()).unread(Unread::Trim).preview().await.unwrap().execute().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_trimmed_that_a_group_a_lost_group_a_dead_letter_or_a_projection_needs() {
    let s = server().await;
    fill(&s, 10).await;
    let mut ids = Vec::new();
    s.store.replay(&[ACCOUNT.stream("updated")], |e| ids.push(e.id)).await.unwrap();
    let preview = || async {
        let preview = s.store.retention([ACCOUNT.stream("updated")]).preview().await.unwrap();
        preview.streams[0].clone()
    };
    let p = preview().await;
    assert_eq!((p.removes, &p.holders[0].by), (0, &HeldBy::Unread), "nobody reads it");

    group(&s, "account_updated", "quick", &ids[80].to_string()).await;
    group(&s, "account_updated", "slow", &ids[50].to_string()).await;
    let p = preview().await;
    assert_eq!((p.first, p.keeps_from, p.removes), (Some(ids[0]), ids[50].next(), 51));
    assert_eq!(p.holders[0].by, HeldBy::Undelivered { group: "slow".into() });

    let read = ["XREADGROUP", "GROUP", "slow", "c", "COUNT", "5", "STREAMS", "events:account_updated", ">"];
    let _: redis::Value = s.command(&read).await;
    let p = preview().await;
    assert_eq!((p.keeps_from, &p.holders[0].by), (ids[51], &HeldBy::Pending { group: "slow".into() }));

    let position = ids[40].to_string();
    let _: String = s.command(&["SET", "view:v1:position", &position]).await;
    let registered = ["HSET", "eventstore:projections", "view:v1", "[\"account_updated\"]"];
    let mut command = redis::cmd(registered[0]);
    command.arg(&registered[1..]);
    s.raw(&command).await;
    let p = preview().await;
    let by = HeldBy::Projection { name: "view".into(), version: 1 };
    assert_eq!((p.keeps_from, &p.holders[0].by), (ids[40].next(), &by));

    s.raw(redis::cmd("SADD").arg("eventstore:groups").arg("lost")).await;
    let cursor = ids[30].to_string();
    let _: i64 = s.command(&["HSET", "eventstore:group:lost:cursors", "account_updated", &cursor]).await;
    let p = preview().await;
    assert_eq!(
        (p.keeps_from, &p.holders[0].by),
        (ids[30].next(), &HeldBy::LostGroup { group: "lost".into() })
    );

    let dead = ids[20].to_string();
    let letter = ["XADD", "eventstore:group:lost:dead", "*", "stream", "account_updated", "id", &dead];
    let _: String = s.command(&letter).await;
    let p = preview().await;
    assert_eq!((p.keeps_from, &p.holders[0].by), (ids[20], &HeldBy::DeadLetter { group: "lost".into() }));

    let asked = s.store.retention([ACCOUNT.stream("updated")]).before(ids[10]).preview().await.unwrap();
    assert_eq!((asked.streams[0].removes, &asked.streams[0].holders[0].by), (10, &HeldBy::Asked));
    assert_eq!(asked.execute().await.unwrap().removed, 10);
    assert_eq!(preview().await.first, Some(ids[10]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_comes_between_preview_and_trim_ends_the_trim() {
    let s = server().await;
    fill(&s, 3).await;
    let preview = s.store.retention(streams()).unread(Unread::Trim).preview().await.unwrap();
    group(&s, "account_created", "late", "0").await;
    let error = preview.execute().await.unwrap_err();
    assert_eq!(*error.kind(), TrimErrorKind::Held { group: "late".into() });
    assert_eq!(s.command::<u64>(&["XLEN", "events:account_created"]).await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_trim_every_entity_reads_folds_and_rebuilds_as_before() {
    let s = server().await;
    fill(&s, 30).await;
    let (before, folded) = (states(&s.store).await, fold(&s.store).await);
    let trim = || async {
        let preview = s.store.retention(streams()).unread(Unread::Trim).preview().await.unwrap();
        preview.execute().await.unwrap()
    };
    let trimmed = trim().await;
    assert_eq!((trimmed.removed, trimmed.kept), (9 + 270, 9), "account 8's last event is a deletion");
    assert_eq!(states(&s.store).await, before);
    assert_eq!(fold(&s.store).await, folded);
    verified(&s.store).await;
    // Everything but the log and what was kept is lost.
    for id in 0..10 {
        let _: i64 = s.command(&["DEL", &format!("account_entity:{id}")]).await;
        let _: i64 = s.command(&["DEL", &format!("eventstore:key:account/{id}")]).await;
    }
    let _: i64 = s.command(&["DEL", "account_ids", "account_by_owner"]).await;
    let rebuilt = s.store.rebuild(&[ACCOUNT], &streams()).await.unwrap();
    assert_eq!((rebuilt.rebuilt, rebuilt.after.differences), (10, vec![]));
    assert_eq!(states(&s.store).await, before);

    // Newer events replace what was kept.
    let again: Vec<NewEvent> = (0..8).map(|n| put("updated", &n.to_string(), 99)).collect();
    s.store.append(again).await.unwrap();
    let trimmed = trim().await;
    assert_eq!((trimmed.kept, trimmed.swept), (7, 8), "the last entry stays in the log");
    assert_eq!(states(&s.store).await[3].as_ref().unwrap().version, 32);
    assert_eq!(fold(&s.store).await["9"], folded["9"]);
    verified(&s.store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trim_that_is_killed_and_run_again_loses_no_state() {
    let s = plain().await;
    fill(&s, 300).await;
    let (before, folded) = (states(&s.store).await, fold(&s.store).await);
    let proxy = Proxy::start(s.redis.single().port()).await.unwrap();
    proxy.set(Line::Late(Duration::from_millis(10)));
    let mut child = Child::start_at("trim", &proxy.url(), Layout::Plain);
    let left = || async { s.command::<u64>(&["XLEN", "events:account_updated"]).await };
    let all = left().await;
    eventually("the trim has begun", || async { left().await < all }).await;
    assert!(child.kill());
    assert!(left().await > 1, "killed half-way");
    assert_eq!((states(&s.store).await, fold(&s.store).await), (before.clone(), folded.clone()));
    verified(&s.store).await;
    s.store.retention(streams()).unread(Unread::Trim).preview().await.unwrap().execute().await.unwrap();
    assert_eq!(left().await, 1, "the last entry stays");
    assert_eq!((states(&s.store).await, fold(&s.store).await), (before, folded));
    verified(&s.store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trimmed_log_is_refused_to_who_needs_all_of_it_and_begins_with_snapshots_for_the_others() {
    let s = server().await;
    fill(&s, 5).await;
    let head = s.store.head_of(&streams()).await.unwrap();
    s.store.retention(streams()).unread(Unread::Trim).preview().await.unwrap().execute().await.unwrap();
    let error = s.store.replay(&streams(), drop).await.unwrap_err();
    assert!(matches!(error.kind(), ReplayErrorKind::Trimmed { first } if first > Id::ZERO), "{error}");
    let from_head = s.store.replay_of(streams()).after(head).run(drop).await.unwrap();
    assert_eq!((from_head.events, from_head.upto), (0, head), "nothing is missed after the trim");
    let replayed = s.store.replay_of(streams()).from_snapshots().run(drop).await.unwrap();
    assert_eq!((replayed.events, replayed.snapshots), (12, 9));

    let apply = |event: &Event| {
        let value = format!("{} {}", event.version, event.snapshot);
        vec![Write::HashSet { key: "versions".into(), field: event.entity_id.clone(), value }]
    };
    let cancel = CancellationToken::new();
    let run = |projection: Projection| {
        let projector = s.store.project(projection.streams(streams()));
        let view = projector.view();
        let cancel = cancel.clone();
        tokio::spawn(async move { projector.run(apply, cancel).await });
        view
    };
    let refused = run(Projection::new("all", 1)).caught_up(Duration::from_secs(20)).await.unwrap_err();
    assert!(matches!(refused, ProjectionError::Trimmed { .. }), "{refused}");
    let view = run(Projection::new("last", 1).from_snapshots());
    view.caught_up(Duration::from_secs(20)).await.unwrap();
    let found = view.hash_get("versions", &["9", "8"]).await.unwrap();
    assert_eq!(found, [Some("2 true".to_owned()), Some("7 false".to_owned())]);
    cancel.cancel();
}
