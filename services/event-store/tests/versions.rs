//! What the versions of a projection promise, on a real server: built beside each other, swapped
//! under load, removed.

#![allow(clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::testing::{Line, Proxy};
use event_store::{
    Event, EventStore, Id, Layout, NewEvent, Projection, ProjectionError, StreamName, View, Write,
};
use std::time::Duration;
use support::{ACCOUNT, Child, Server, durable, eventually, plain, put, server};
use tokio_util::sync::CancellationToken;

const BOUND: Duration = Duration::from_secs(20);

fn streams() -> [StreamName; 2] {
    [ACCOUNT.stream("created"), ACCOUNT.stream("updated")]
}

fn projection(version: u32) -> Projection {
    Projection::new("view", version).streams(streams())
}

/// Version 2 writes the same keys with other values.
fn apply(version: u32) -> impl Fn(&Event) -> Vec<Write> + Send + Sync {
    move |event| {
        let value = format!("{} v{version}", event.entity["amount"]);
        vec![
            Write::HashSet { key: "amounts".into(), field: event.entity_id.clone(), value },
            Write::SortedAdd { key: "log".into(), member: event.id.to_string(), score: 0.0 },
        ]
    }
}

/// A program that keeps this version up to date.
fn program(store: &EventStore, projection: Projection, version: u32, cancel: &CancellationToken) -> View {
    let projector = store.project(projection);
    let view = projector.view();
    let cancel = cancel.clone();
    tokio::spawn(async move { projector.run(apply(version), cancel).await });
    view
}

async fn fill(server: &Server, events: u64) {
    server.store.append(vec![put("created", "a", 0)]).await.unwrap();
    for batch in 0..events / 100 {
        let updates: Vec<NewEvent> = (0..100).map(|n| put("updated", "a", batch * 100 + n + 1)).collect();
        server.store.append(updates).await.unwrap();
    }
}

/// The position of a version, as the server has it.
async fn position(server: &Server, version: u32) -> Option<Id> {
    let text: Option<String> = server.command(&["GET", &format!("view:v{version}:position")]).await;
    text.map(|t| t.parse().unwrap())
}

/// Does what a test needs done in a process that it can kill.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Some((task, store)) = Child::task().await else { return };
    let slow = |event: &Event| {
        std::thread::sleep(Duration::from_micros(100));
        apply(2)(event)
    };
    match task.as_str() {
        "build" => store.project(projection(2)).run(slow, CancellationToken::new()).await.unwrap(),
        "remove" => drop(store.remove_projection("many", 1).run().await.unwrap()),
        other => panic!("no task {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_built_killed_built_and_swapped_in_while_strong_reads_never_see_less_than_before() {
    let s = server().await;
    fill(&s, 5000).await;
    let old = CancellationToken::new();
    let old_view = program(&s.store, projection(1), 1, &old);
    old_view.caught_up(BOUND).await.unwrap();

    // A reader that understands both, and a writer.
    let (stop, new) = (CancellationToken::new(), CancellationToken::new());
    let reader = s.store.project(projection(2).reads_also([1])).view();
    let reads = tokio::spawn({
        let (view, store, stop) = (reader.clone(), s.store.clone(), stop.clone());
        async move {
            let (mut last, mut versions, mut reads) = (0, Vec::new(), 0);
            while !stop.is_cancelled() {
                let head = store.head_of(&streams()).await.unwrap();
                view.wait_until(head, BOUND).await.unwrap();
                let found = view.hash_get("amounts", &["a"]).await.unwrap().remove(0).unwrap();
                let (amount, version) = found.split_once(" v").unwrap();
                let amount: u64 = amount.parse().unwrap();
                assert!(amount >= last, "a strong read saw {amount} after {last}");
                last = amount;
                versions.push(version.to_owned());
                versions.dedup();
                reads += 1;
            }
            (versions, reads)
        }
    });
    let writes = tokio::spawn({
        let (store, stop) = (s.store.clone(), stop.clone());
        async move {
            let mut amount = 5000;
            while !stop.is_cancelled() {
                amount += 1;
                store.append(vec![put("updated", "a", amount)]).await.unwrap();
            }
            amount
        }
    });

    let mut builder = Child::start("build", &s);
    eventually("the builder has begun", || async { position(&s, 2).await.is_some() }).await;
    assert!(builder.kill());
    let reached = position(&s, 2).await.unwrap();
    assert!(reached < s.store.head_of(&streams()).await.unwrap(), "killed half-way");
    assert_eq!(reader.version(), 1, "what is half built is not read");

    // Two replicas of the new program finish it.
    let views = [
        program(&s.store, projection(2), 2, &new),
        program(&s.store, projection(2).reads_also([1]), 2, &new),
    ];
    for view in &views {
        view.caught_up(BOUND).await.unwrap();
    }
    eventually("the reader has seen the swap", || async { reader.version() == 2 }).await;
    // The old program still reads its own.
    let head = s.store.head_of(&streams()).await.unwrap();
    old_view.wait_until(head, BOUND).await.unwrap();
    assert!(old_view.hash_get("amounts", &["a"]).await.unwrap()[0].as_ref().unwrap().ends_with("v1"));

    stop.cancel();
    let (versions, reads) = reads.await.unwrap();
    let amount = writes.await.unwrap();
    assert!(reads > 10, "{reads} reads");
    assert_eq!(versions, ["1", "2"], "the versions swap once");
    let head = s.store.head_of(&streams()).await.unwrap();
    views[0].wait_until(head, BOUND).await.unwrap();
    let log = views[0].sorted_range("log", 0, usize::MAX).await.unwrap();
    assert_eq!(u64::try_from(log.len()).unwrap(), amount + 1, "each event is applied once");
    old.cancel();
    new.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_not_swapped_in_while_the_one_before_holds_more() {
    let s = plain().await;
    fill(&s, 200).await;
    let cancel = CancellationToken::new();
    program(&s.store, projection(1), 1, &cancel).caught_up(BOUND).await.unwrap();
    // As if version 1 had come further than any event that the new version can find.
    let ahead = Id::new(u64::MAX >> 12, 0).to_string();
    let head = s.store.head_of(&streams()).await.unwrap();
    let args = ["2", "1", "9-9", &head.to_string()].map(String::from);
    cancel.cancel();
    let _: () = s.command(&["SET", "view:v1:position", &ahead]).await;
    let _: () = s.command(&["SET", "view:v2:position", &head.to_string()]).await;
    let activate = |args: [String; 4]| {
        let s = &s;
        async move {
            let list: Vec<Vec<redis::Value>> = s.command(&["FUNCTION", "LIST"]).await;
            let library = match &list[0][1] {
                redis::Value::BulkString(name) => String::from_utf8(name.clone()).unwrap(),
                other => panic!("{other:?}"),
            };
            let name = format!("{library}_activate");
            let keys = ["view:active", "view:v2:position", "view:v1:position"];
            let mut words = vec!["FCALL", &name, "3"];
            words.extend(keys);
            words.extend(args.iter().map(String::as_str));
            s.command::<Vec<String>>(&words).await
        }
    };
    assert_eq!(activate(args.clone()).await, ["behind"]);
    let _: () = s.command(&["SET", "view:v1:position", "9-9"]).await;
    assert_eq!(activate(args).await, ["ok"]);
    assert_eq!(s.command::<String>(&["GET", "view:active"]).await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_removed_only_when_nobody_reads_or_builds_it_and_leaves_no_key() {
    let s = plain().await;
    fill(&s, 200).await;
    let (old, new) = (CancellationToken::new(), CancellationToken::new());
    program(&s.store, projection(1), 1, &old).caught_up(BOUND).await.unwrap();
    let error = s.store.remove_projection("view", 1).run().await.unwrap_err();
    assert!(matches!(error, ProjectionError::Active { version: 1 }), "{error}");
    program(&s.store, projection(2), 2, &new).caught_up(BOUND).await.unwrap();
    let error = s.store.remove_projection("view", 1).run().await.unwrap_err();
    assert!(matches!(error, ProjectionError::Built { version: 1 }), "{error}");
    old.cancel();
    // As if half a minute had passed without a sign of life.
    eventually("nobody says that it lives", || async {
        let _: i64 = s.command(&["DEL", "view:v1:alive"]).await;
        s.store.projections().await.unwrap().iter().all(|p| p.version == 2 || !p.built)
    })
    .await;
    let removal = s.store.remove_projection("view", 1);
    assert_eq!(removal.preview().await.unwrap(), 2);
    assert_eq!(removal.run().await.unwrap(), 2);
    assert_eq!(s.command::<Vec<String>>(&["KEYS", "view:v1:*"]).await, Vec::<String>::new());
    let states = s.store.projections().await.unwrap();
    assert_eq!(states.iter().map(|p| (p.version, p.active)).collect::<Vec<_>>(), [(2, true)]);
    new.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_was_killed_is_finished_by_the_next_and_nobody_builds_on_what_is_left() {
    let s = plain().await;
    fill(&s, 1000).await;
    let many = || Projection::new("many", 1).streams([ACCOUNT.stream("updated")]);
    let apply = |event: &Event| vec![Write::SetAdd { key: event.id.to_string(), member: "x".into() }];
    let cancel = CancellationToken::new();
    let projector = s.store.project(many());
    let view = projector.view();
    let running = tokio::spawn({
        let cancel = cancel.clone();
        async move { projector.run(apply, cancel).await }
    });
    view.caught_up(BOUND).await.unwrap();
    cancel.cancel();
    running.await.unwrap().unwrap();
    let _: i64 = s.command(&["DEL", "many:v1:alive", "many:active"]).await;
    let left = || async { s.command::<u64>(&["SCARD", "many:v1:keys"]).await };
    assert_eq!(left().await, 1000);

    let proxy = Proxy::start(s.redis.single().port()).await.unwrap();
    proxy.set(Line::Late(Duration::from_millis(20)));
    let mut child = Child::start_at("remove", &proxy.url(), Layout::Plain);
    eventually("the removal has begun", || async { left().await < 1000 }).await;
    assert!(child.kill());
    assert!(left().await > 0, "killed half-way");

    let cancel = CancellationToken::new();
    let projector = s.store.project(many());
    let view = projector.view();
    let building = tokio::spawn({
        let cancel = cancel.clone();
        async move { projector.run(apply, cancel).await }
    });
    view.caught_up(Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(s.command::<String>(&["GET", "many:v1:position"]).await, "removing");
    s.store.remove_projection("many", 1).run().await.unwrap();
    // Now it is built anew, from the beginning.
    view.caught_up(BOUND).await.unwrap();
    assert_eq!(left().await, 1000);
    cancel.cancel();
    building.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_server_does_not_lose_the_swap() {
    let mut s = durable().await;
    fill(&s, 1000).await;
    let cancel = CancellationToken::new();
    program(&s.store, projection(1), 1, &cancel).caught_up(BOUND).await.unwrap();
    let view = program(&s.store, projection(2), 2, &cancel);
    s.redis.crash_and_restart();
    view.caught_up(BOUND).await.unwrap();
    assert!(s.store.projections().await.unwrap().iter().any(|p| p.version == 2 && p.active));
    cancel.cancel();
}
