//! What projections, tails and replays promise, on a real server.

#![allow(clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::{Event, EventStore, Id, Projection, ProjectionError, StreamName, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{ACCOUNT, eventually, put, server};
use tokio_util::sync::CancellationToken;

fn streams() -> [StreamName; 2] {
    [ACCOUNT.stream("created"), ACCOUNT.stream("updated")]
}

fn projection() -> Projection {
    Projection::new("view", 1).streams(streams())
}

fn apply(event: &Event) -> Vec<Write> {
    let (field, value) = (event.entity_id.clone(), event.entity["amount"].to_string());
    let member = event.id.to_string();
    vec![
        Write::HashSet { key: "amounts".into(), field, value },
        Write::SortedAdd { key: "log".into(), member, score: 0.0 },
    ]
}

fn project(store: &EventStore, cancel: &CancellationToken) -> event_store::View {
    let projector = store.project(projection());
    let view = projector.view();
    let cancel = cancel.clone();
    tokio::spawn(async move { projector.run(apply, cancel).await });
    view
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_waits_for_the_head_sees_every_write_answered_before_on_any_replica() {
    let s = server().await;
    let cancel = CancellationToken::new();
    let views = [project(&s.store, &cancel), project(&s.store, &cancel), project(&s.store, &cancel)];
    for n in 0..200_u64 {
        let action = if n == 0 { "created" } else { "updated" };
        s.store.append(vec![put(action, "a", n)]).await.unwrap();
        let view = &views[usize::try_from(n).unwrap() % 3];
        let head = s.store.head_of(&streams()).await.unwrap();
        view.wait_until(head, Duration::from_secs(10)).await.unwrap();
        assert_eq!(view.hash_get("amounts", &["a"]).await.unwrap(), [Some(n.to_string())]);
    }
    assert_eq!(views[0].sorted_range("log", 0, 1000).await.unwrap().len(), 200, "each event applied once");
    cancel.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_replica_starts_where_the_projection_stands() {
    let s = server().await;
    let cancel = CancellationToken::new();
    let first = project(&s.store, &cancel);
    s.store.append(vec![put("created", "a", 1)]).await.unwrap();
    let head = s.store.head_of(&streams()).await.unwrap();
    first.wait_until(head, Duration::from_secs(10)).await.unwrap();
    cancel.cancel();
    // What was applied is not applied again: a mark survives.
    let _: i64 = s.command(&["HSET", "view:v1:amounts", "a", "mark"]).await;
    let cancel = CancellationToken::new();
    let second = project(&s.store, &cancel);
    second.wait_until(head, Duration::from_secs(10)).await.unwrap();
    assert_eq!(second.hash_get("amounts", &["a"]).await.unwrap(), [Some("mark".to_owned())]);
    cancel.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_what_is_not_there_ends_at_the_deadline_with_the_position() {
    let s = server().await;
    let cancel = CancellationToken::new();
    let view = project(&s.store, &cancel);
    let error = view.wait_until(Id::MAX, Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, ProjectionError::Behind { position: Id::ZERO, wanted: Id::MAX }), "{error}");
    cancel.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_is_no_event_stops_neither_a_projection_nor_a_tail() {
    let s = server().await;
    let _: String = s.command(&["XADD", "events:account_created", "1-1", "x", "y"]).await;
    s.store.append(vec![put("created", "a", 1)]).await.unwrap();
    let cancel = CancellationToken::new();
    let view = project(&s.store, &cancel);
    eventually("the event is applied", || async {
        view.hash_get("amounts", &["a"]).await.unwrap() == [Some("1".to_owned())]
    })
    .await;
    cancel.cancel();
    let mut tail = s.store.tail(vec![ACCOUNT.stream("created")], Id::ZERO);
    assert_eq!(tail.next().await.unwrap()[0].entity_id, "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_hands_out_more_than_a_batch_in_id_order_and_then_waits_for_what_is_new() {
    let s = server().await;
    for n in 0..700_u64 {
        let action = if n % 7 == 0 { "created" } else { "updated" };
        s.store.append(vec![put(action, "a", n)]).await.unwrap();
    }
    let mut tail = s.store.tail(vec![ACCOUNT.stream("created"), ACCOUNT.stream("updated")], Id::ZERO);
    let mut amounts = Vec::new();
    while amounts.len() < 700 {
        amounts.extend(tail.next().await.unwrap().iter().map(|e| e.entity["amount"].as_u64().unwrap()));
    }
    assert_eq!(amounts, (0..700).collect::<Vec<u64>>());
    let (next, _) = tokio::join!(tail.next(), s.store.append(vec![put("updated", "a", 700)]));
    assert_eq!(next.unwrap()[0].entity["amount"], 700);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_projection_cannot_apply_is_a_fault_until_it_is_corrected() {
    let s = server().await;
    s.store.append(vec![put("created", "a", 1)]).await.unwrap();
    let head = s.store.head_of(&streams()).await.unwrap();
    let _: String = s.command(&["SET", "view:v1:amounts", "a text"]).await;
    let (cancel, corrected) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
    let wrong_key = s.store.project(projection());
    let wrong_score = s.store.project(Projection::new("scores", 1).streams(streams()));
    let observed = [wrong_key.observe(), wrong_score.observe()];
    let views = [wrong_key.view(), wrong_score.view()];
    tokio::spawn(wrong_key.run(apply, cancel.clone()));
    let right = corrected.clone();
    let score = move |event: &Event| {
        let score = if right.load(Ordering::Relaxed) { 1.0 } else { f64::NAN };
        let mut writes = apply(event);
        writes.push(Write::SortedAdd { key: "scores".into(), member: event.entity_id.clone(), score });
        writes
    };
    tokio::spawn(wrong_score.run(score, cancel.clone()));
    for (number, says) in ["another type", "no number"].into_iter().enumerate() {
        let (observed, view) = (&observed[number], &views[number]);
        eventually("it is seen", || async { observed.fault().is_some_and(|f| f.to_string().contains(says)) })
            .await;
        assert!(!observed.ready() && !observed.caught_up());
        let refused = |e: ProjectionError| assert!(matches!(e, ProjectionError::Refused(_)), "{e}");
        refused(view.wait_until(head, Duration::from_millis(1)).await.unwrap_err());
        refused(view.caught_up(Duration::from_millis(1)).await.unwrap_err());
    }
    assert_eq!(views[1].hash_all("amounts").await.unwrap(), [], "nothing was applied in part");

    let _: u64 = s.command(&["DEL", "view:v1:amounts"]).await;
    corrected.store(true, Ordering::Relaxed);
    for (observed, view) in observed.iter().zip(&views) {
        view.caught_up(Duration::from_secs(20)).await.unwrap();
        assert_eq!((observed.fault(), observed.ready(), observed.position()), (None, true, head));
        assert_eq!(view.hash_get("amounts", &["a"]).await.unwrap(), [Some("1".to_owned())]);
    }
    cancel.cancel();
}
