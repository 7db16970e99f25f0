//! What a subscription promises, on a real server.

#![allow(clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::{Event, EventStore, Id, NewEvent, Outcome, Select, Subscription, SubscriptionError};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use support::{
    ACCOUNT, NOTE, Recorder, Seen, Server, count, durable, eventually, plain, put, recorder, server, versions,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

fn subscription(consumer: &str) -> Subscription {
    Subscription::new("group", consumer)
        .streams([ACCOUNT.stream("created"), ACCOUNT.stream("updated")])
        .claim_after(Duration::from_millis(400))
        .retry(Duration::from_millis(10), Duration::from_millis(50))
}

struct Running {
    task: JoinHandle<Result<(), SubscriptionError>>,
    cancel: CancellationToken,
}

impl Running {
    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// As a crash would: nothing is handed back.
    fn kill(self) {
        self.task.abort();
    }
}

fn run(store: &EventStore, subscription: Subscription, handler: impl event_store::Handler) -> Running {
    let cancel = CancellationToken::new();
    let task = tokio::spawn(store.subscribe(subscription).run(handler, cancel.clone()));
    Running { task, cancel }
}

async fn history(store: &EventStore, id: &str, length: u64) {
    store.append(vec![put("created", id, 0)]).await.unwrap();
    for n in 1..length {
        store.append(vec![put("updated", id, n)]).await.unwrap();
    }
}

async fn pending(s: &Server) -> u64 {
    let mut sum = 0;
    for stream in ["events:account_created", "events:account_updated"] {
        let summary: Vec<redis::Value> = s.command(&["XPENDING", stream, "group"]).await;
        sum += redis::from_redis_value::<u64>(summary[0].clone()).unwrap();
    }
    sum
}

#[tokio::test]
async fn events_appended_while_every_consumer_is_down_are_delivered() {
    let s = server().await;
    history(&s.store, "a", 5).await;
    let seen = Seen::default();
    let consumer = run(&s.store, subscription("one"), recorder(&seen));
    eventually("five events", || async { count(&seen) == 5 }).await;
    consumer.stop().await;
    history(&s.store, "b", 5).await;
    let consumer = run(&s.store, subscription("two"), recorder(&seen));
    eventually("ten events", || async { count(&seen) == 10 }).await;
    consumer.stop().await;
    assert_eq!(versions(&seen, "b"), [1, 2, 3, 4, 5]);
    assert_eq!(pending(&s).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_consumers_handle_each_event_once_and_each_entity_in_order_one_at_a_time() {
    let s = server().await;
    let seen = Seen::default();
    let busy: Arc<std::sync::Mutex<HashMap<String, bool>>> = Arc::default();
    let overlaps = Arc::new(AtomicUsize::new(0));
    let consumers: Vec<Running> = ["one", "two", "three"]
        .iter()
        .map(|name| {
            let (busy, overlaps) = (busy.clone(), overlaps.clone());
            let answer = move |event: Event| {
                let (busy, overlaps) = (busy.clone(), overlaps.clone());
                async move {
                    if busy.lock().unwrap().insert(event.entity_id.clone(), true) == Some(true) {
                        overlaps.fetch_add(1, Ordering::SeqCst);
                    }
                    tokio::time::sleep(Duration::from_micros(event.id.seq * 7 % 900)).await;
                    busy.lock().unwrap().insert(event.entity_id.clone(), false);
                    Outcome::Done(Vec::new())
                }
            };
            run(&s.store, subscription(name), Recorder { seen: seen.clone(), answer })
        })
        .collect();
    let writers: Vec<_> = (0..10)
        .map(|n| {
            let store = s.store.clone();
            tokio::spawn(async move { history(&store, &format!("e{n}"), 40).await })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    eventually("400 events", || async { count(&seen) >= 400 }).await;
    for consumer in consumers {
        consumer.stop().await;
    }
    for n in 0..10 {
        assert_eq!(versions(&seen, &format!("e{n}")), (1..=40).collect::<Vec<u64>>(), "e{n}");
    }
    assert_eq!(overlaps.load(Ordering::SeqCst), 0, "no two events of an entity at the same time");
    assert_eq!(pending(&s).await, 0);
}

#[tokio::test]
async fn a_subscription_to_some_actions_keeps_their_order_too() {
    let s = server().await;
    for id in ["a", "b"] {
        s.store.append(vec![put("created", id, 0)]).await.unwrap();
        for n in 0..20 {
            let action = if n % 3 == 0 { "updated" } else { "noted" };
            s.store.append(vec![put(action, id, n)]).await.unwrap();
        }
    }
    let seen = Seen::default();
    let consumers = ["one", "two"].map(|name| run(&s.store, subscription(name), recorder(&seen)));
    eventually("all of the two actions", || async { count(&seen) == 16 }).await;
    for consumer in consumers {
        consumer.stop().await;
    }
    for id in ["a", "b"] {
        assert!(versions(&seen, id).is_sorted(), "{:?}", versions(&seen, id));
    }
}

#[tokio::test]
async fn events_that_share_an_ordering_key_are_handled_in_order_across_entities() {
    let s = plain().await;
    let mut expected = Vec::new();
    for n in 0..30 {
        let (kind, id) = if n % 2 == 0 { (ACCOUNT, "a".to_owned()) } else { (NOTE, format!("n{n}")) };
        let event =
            NewEvent::put(kind, "created", &*id, &json!({ "n": n })).ordered_with(ACCOUNT.ordering_key("a"));
        s.store.append(vec![event]).await.unwrap();
        expected.push(id);
    }
    let seen = Seen::default();
    let both = |name| subscription(name).streams([ACCOUNT.stream("created"), NOTE.stream("created")]);
    let consumers = ["one", "two", "three"].map(|name| run(&s.store, both(name), recorder(&seen)));
    eventually("thirty events", || async { count(&seen) == 30 }).await;
    for consumer in consumers {
        consumer.stop().await;
    }
    let order: Vec<String> = seen.lock().unwrap().iter().map(|(id, _, _)| id.clone()).collect();
    assert_eq!(order, expected);
}

#[tokio::test]
async fn outputs_are_there_exactly_once_though_consumers_are_killed_at_any_moment() {
    let s = server().await;
    for n in 0..100 {
        s.store.append(vec![put("created", &format!("a{n}"), n)]).await.unwrap();
    }
    let seen = Seen::default();
    let note = |event: Event| async move {
        let id = format!("note of {}", event.entity_id);
        Outcome::Done(vec![NewEvent::put(NOTE, "created", &*id, &json!({ "id": id }))])
    };
    for life in 0..12 {
        let name = format!("life {life}");
        let consumer =
            run(&s.store, subscription(&name).concurrency(3), Recorder { seen: seen.clone(), answer: note });
        let enough = (life + 1) * 4;
        eventually("some events", || async { count(&seen) >= enough }).await;
        consumer.kill();
    }
    let last = run(&s.store, subscription("last"), Recorder { seen: seen.clone(), answer: note });
    eventually("a note for each", || async { s.command::<u64>(&["SCARD", "note_ids"]).await == 100 }).await;
    eventually("nothing pending", || async { pending(&s).await == 0 }).await;
    last.stop().await;
    assert_eq!(s.command::<u64>(&["XLEN", "events:note_created"]).await, 100, "each output exactly once");
}

#[tokio::test]
async fn an_output_knows_what_caused_it_and_inherits_the_flow() {
    let s = server().await;
    let source = put("created", "a", 1).correlation_id("flow").traceparent("00-0af7-b7ad-01");
    let source = s.store.append(vec![source]).await.unwrap()[0];
    let answer = |_| async { Outcome::Done(vec![NewEvent::put(NOTE, "created", "n", &json!({}))]) };
    let consumer = run(&s.store, subscription("one"), Recorder { seen: Seen::default(), answer });
    let mut tail = s.store.tail(vec![NOTE.stream("created")], event_store::Id::ZERO);
    let output = tail.next().await.unwrap().remove(0);
    consumer.stop().await;
    assert_eq!(output.causation_id, Some(source.event_id.to_string()));
    assert_eq!(output.correlation_id.as_deref(), Some("flow"));
    assert_eq!(output.traceparent.as_deref(), Some("00-0af7-b7ad-01"));
}

#[tokio::test]
async fn a_conflicting_output_asks_the_handler_again() {
    let s = server().await;
    s.store.append(vec![NewEvent::put(NOTE, "created", "sum", &json!({ "n": 0 }))]).await.unwrap();
    for n in 0..40 {
        s.store.append(vec![put("created", &format!("a{n}"), 1)]).await.unwrap();
    }
    let store = s.store.clone();
    let answer = move |_| {
        let store = store.clone();
        async move {
            let sum = store.entity(NOTE, "sum").await.unwrap().unwrap();
            let n = sum.body["n"].as_u64().unwrap() + 1;
            let event = NewEvent::put(NOTE, "updated", "sum", &json!({ "n": n }));
            Outcome::Done(vec![event.expect(event_store::Expected::Exactly(sum.version))])
        }
    };
    let consumer = run(&s.store, subscription("one"), Recorder { seen: Seen::default(), answer });
    eventually("a sum of forty", || async {
        s.store.entity(NOTE, "sum").await.unwrap().unwrap().body["n"] == 40
    })
    .await;
    consumer.stop().await;
}

#[tokio::test]
async fn a_retry_holds_up_its_own_entity_alone_and_then_goes_on_in_order() {
    let s = server().await;
    history(&s.store, "bad", 3).await;
    history(&s.store, "good", 3).await;
    let (seen, open) = (Seen::default(), Arc::new(AtomicBool::new(false)));
    let gate = open.clone();
    let answer = move |event: Event| {
        let refuse = event.entity_id == "bad" && !gate.load(Ordering::SeqCst);
        async move { if refuse { Outcome::Retry("not yet".into()) } else { Outcome::Done(Vec::new()) } }
    };
    let consumer = run(&s.store, subscription("one"), Recorder { seen: seen.clone(), answer });
    eventually("the other entity and some attempts", || async {
        versions(&seen, "good") == [1, 2, 3] && versions(&seen, "bad").len() > 2
    })
    .await;
    assert!(versions(&seen, "bad").iter().all(|v| *v == 1), "later events of it wait");
    open.store(true, Ordering::SeqCst);
    eventually("the rest", || async { versions(&seen, "bad").ends_with(&[1, 2, 3]) }).await;
    consumer.stop().await;
}

#[tokio::test]
async fn a_parked_event_holds_back_its_entity_and_nobody_else_and_a_foreign_entry_parks() {
    let s = server().await;
    let _: String = s.command(&["XADD", "events:account_created", "1-1", "hello", "\u{fffd}"]).await;
    history(&s.store, "bad", 3).await;
    history(&s.store, "good", 3).await;
    let seen = Seen::default();
    let answer = |event: Event| async move {
        if event.entity_id == "bad" { Outcome::Park("poison".into()) } else { Outcome::Done(Vec::new()) }
    };
    let consumer = run(&s.store, subscription("one"), Recorder { seen: seen.clone(), answer });
    eventually("four dead letters", || async {
        s.command::<u64>(&["XLEN", "eventstore:group:group:dead"]).await == 4
    })
    .await;
    eventually("the good ones", || async { versions(&seen, "good") == [1, 2, 3] }).await;
    assert_eq!(versions(&seen, "bad"), [1], "what is behind a dead letter is not handled");
    consumer.stop().await;
    let letters = s.store.dead_letters("group", "account").list(Id::ZERO, 10).await.unwrap();
    let foreign = letters.iter().find(|l| l.id.ms == 1).unwrap();
    assert_eq!(foreign.raw, [(b"hello".to_vec(), "\u{fffd}".as_bytes().to_vec())]);
    assert!(foreign.reason.contains("event_id"), "{foreign:?}");
    let poison = letters.iter().find(|l| l.reason == "poison").unwrap();
    assert_eq!((poison.attempts, poison.keys.as_slice()), (1, &["account/bad".to_owned()][..]));
    assert!(poison.first_failure > 0 && poison.last_failure >= poison.first_failure);
    assert_eq!(pending(&s).await, 0);
}

#[tokio::test]
async fn replayed_dead_letters_run_in_order_and_a_replay_asked_for_twice_happens_once() {
    let s = server().await;
    history(&s.store, "bad", 4).await;
    let (seen, cured) = (Seen::default(), Arc::new(AtomicBool::new(false)));
    let gate = cured.clone();
    let answer = move |_| {
        let cured = gate.load(Ordering::SeqCst);
        async move { if cured { Outcome::Done(Vec::new()) } else { Outcome::Park("poison".into()) } }
    };
    let consumers = ["one", "two"].map(|name| {
        run(&s.store, subscription(name), Recorder { seen: seen.clone(), answer: answer.clone() })
    });
    let dead = s.store.dead_letters("group", "account");
    eventually("four dead letters", || async { dead.count().await.unwrap() == 4 }).await;
    cured.store(true, Ordering::SeqCst);
    s.store.append(vec![put("updated", "bad", 9)]).await.unwrap();
    eventually("a new event queues behind them", || async { dead.count().await.unwrap() == 5 }).await;
    assert_eq!(dead.preview(&Select::All).await.unwrap().moved, 5);
    assert_eq!(dead.replay(&Select::All).await.unwrap().moved, 5);
    assert_eq!(dead.replay(&Select::All).await.unwrap().moved, 0);
    eventually("all are handled", || async { versions(&seen, "bad").len() == 6 && pending(&s).await == 0 })
        .await;
    assert_eq!(versions(&seen, "bad"), [1, 1, 2, 3, 4, 5]);
    for consumer in consumers {
        consumer.stop().await;
    }
    assert_eq!(dead.count().await.unwrap(), 0);
}

fn note_by(name: &'static str) -> impl Fn(Event) -> std::future::Ready<Outcome> {
    move |_| {
        std::future::ready(Outcome::Done(vec![NewEvent::put(NOTE, "created", name, &json!({ "by": name }))]))
    }
}

#[tokio::test]
async fn what_a_dead_consumer_left_is_claimed_within_the_set_time() {
    let s = server().await;
    s.store.append(vec![put("created", "a", 1)]).await.unwrap();
    let _: () = s.command(&["XGROUP", "CREATE", "events:account_created", "group", "0"]).await;
    let _: redis::Value =
        s.command(&["XREADGROUP", "GROUP", "group", "dead", "STREAMS", "events:account_created", ">"]).await;
    let alive =
        run(&s.store, subscription("alive"), Recorder { seen: Seen::default(), answer: note_by("alive") });
    eventually("it is claimed and handled", || async {
        s.command::<u64>(&["XLEN", "events:note_created"]).await == 1
    })
    .await;
    alive.stop().await;
    assert_eq!(pending(&s).await, 0);
}

#[tokio::test]
async fn a_consumer_that_lost_its_entry_to_another_is_fenced_when_it_wakes_up() {
    let s = plain().await;
    let id = s.store.append(vec![put("created", "a", 1)]).await.unwrap()[0].id.to_string();
    let (seen, gate) = (Seen::default(), Arc::new(tokio::sync::Notify::new()));
    let opened = gate.clone();
    let answer = move |_| {
        let gate = opened.clone();
        async move {
            gate.notified().await;
            Outcome::Done(vec![NewEvent::put(NOTE, "created", "stalled", &json!({ "by": "stalled" }))])
        }
    };
    let patient = |name| subscription(name).claim_after(Duration::from_mins(5));
    let stalled = run(&s.store, patient("stalled"), Recorder { seen: seen.clone(), answer });
    eventually("it is in hand", || async { count(&seen) == 1 }).await;
    let _: redis::Value = s.command(&["XCLAIM", "events:account_created", "group", "other", "0", &id]).await;
    gate.notify_one();
    stalled.stop().await;
    assert_eq!(s.command::<u64>(&["EXISTS", "events:note_created"]).await, 0, "its output is refused");
    let other = run(&s.store, patient("other"), Recorder { seen: Seen::default(), answer: note_by("other") });
    eventually("the new owner handles it", || async { pending(&s).await == 0 }).await;
    other.stop().await;
    assert_eq!(s.command::<Vec<String>>(&["SMEMBERS", "note_ids"]).await, ["other"]);
}

#[tokio::test]
async fn a_slow_handler_that_lives_is_never_claimed() {
    let s = server().await;
    s.store.append(vec![put("created", "a", 1)]).await.unwrap();
    let (seen, other) = (Seen::default(), Seen::default());
    let answer = |_| async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        Outcome::Done(Vec::new())
    };
    let slow = run(&s.store, subscription("slow"), Recorder { seen: seen.clone(), answer });
    eventually("it is in hand", || async { count(&seen) == 1 }).await;
    let idle = run(&s.store, subscription("idle"), recorder(&other));
    eventually("it is finished", || async { pending(&s).await == 0 }).await;
    assert_eq!((count(&seen), count(&other)), (1, 0));
    slow.stop().await;
    idle.stop().await;
}

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
