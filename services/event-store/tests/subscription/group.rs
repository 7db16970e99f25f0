//! Groups that are lost, logs that went back in time, servers that crash, and the end of a consumer.

use super::*;

#[tokio::test]
async fn a_lost_group_goes_on_where_it_was_and_handles_nothing_twice() {
    let s = server().await;
    history(&s.store, "a", 10).await;
    let seen = Seen::default();
    let consumer = run(&s.store, subscription("one"), recorder(&seen));
    eventually("ten events", || async { count(&seen) == 10 }).await;
    for stream in ["events:account_created", "events:account_updated"] {
        let _: i64 = s.command(&["XGROUP", "DESTROY", stream, "group"]).await;
    }
    s.store.append(vec![put("updated", "a", 10)]).await.unwrap();
    eventually("the new event", || async { versions(&seen, "a").last() == Some(&11) }).await;
    consumer.stop().await;
    assert_eq!(versions(&seen, "a"), (1..=11).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_crash_of_the_server_loses_no_event_and_doubles_none() {
    let mut s = durable().await;
    let seen = Seen::default();
    let note = |event: Event| async move {
        let id = format!("{}-{}", event.entity_id, event.version);
        Outcome::Done(vec![NewEvent::put(NOTE, "created", &*id, &json!({ "id": id }))])
    };
    let consumer = run(&s.store, subscription("one"), Recorder { seen: seen.clone(), answer: note });
    history(&s.store, "a", 10).await;
    eventually("some are handled", || async { count(&seen) >= 3 }).await;
    s.redis.crash_and_restart();
    history(&s.store, "b", 10).await;
    eventually("all notes", || async { s.command::<u64>(&["SCARD", "note_ids"]).await == 20 }).await;
    consumer.stop().await;
    assert_eq!(s.command::<u64>(&["XLEN", "events:note_created"]).await, 20);
}

#[tokio::test]
async fn a_shutdown_hands_back_what_it_did_not_finish_and_leaves_the_group() {
    let s = server().await;
    history(&s.store, "a", 5).await;
    let stuck = |_| async {
        std::future::pending::<()>().await;
        Outcome::Done(Vec::new())
    };
    let (seen, after) = (Seen::default(), Seen::default());
    let first =
        subscription("first").claim_after(Duration::from_mins(5)).shutdown_within(Duration::from_millis(300));
    let consumer = run(&s.store, first, Recorder { seen: seen.clone(), answer: stuck });
    eventually("it is stuck", || async { count(&seen) == 1 }).await;
    consumer.stop().await;
    let next = run(&s.store, subscription("next").claim_after(Duration::from_mins(5)), recorder(&after));
    eventually("the next consumer has them all", || async { versions(&after, "a") == [1, 2, 3, 4, 5] }).await;
    next.stop().await;
    let consumers: Vec<redis::Value> =
        s.command(&["XINFO", "CONSUMERS", "events:account_updated", "group"]).await;
    assert!(consumers.len() <= 1, "who left with nothing in hand is gone: {consumers:?}");
}
