//! Order per entity, per ordering key and across streams.

use super::*;

#[tokio::test(flavor = "multi_thread")]
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
            // Nobody dies here: on a busy machine a consumer may be late, which is no reason to claim.
            let patient = subscription(name).claim_after(Duration::from_mins(1));
            run(&s.store, patient, Recorder { seen: seen.clone(), answer })
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

#[tokio::test(flavor = "multi_thread")]
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

#[tokio::test(flavor = "multi_thread")]
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

#[tokio::test(flavor = "multi_thread")]
async fn a_single_consumer_of_one_event_at_a_time_handles_all_streams_in_id_order() {
    let s = server().await;
    let ids: Arc<std::sync::Mutex<Vec<Id>>> = Arc::default();
    let seen = ids.clone();
    let answer = move |event: Event| {
        seen.lock().unwrap().push(event.id);
        std::future::ready(Outcome::Done(Vec::new()))
    };
    let mut appended = Vec::new();
    // What is there already: several reads of both streams, unevenly.
    for n in 0..40 {
        let events = (0..20).map(|i| {
            let action = if (n / 10 + i) % 4 == 0 { "created" } else { "updated" };
            put(action, &format!("a{n}-{i}"), i)
        });
        appended.extend(s.store.append(events.collect()).await.unwrap().iter().map(|a| a.id));
    }
    let one = subscription("one").concurrency(1);
    let consumer = run(&s.store, one, Recorder { seen: Seen::default(), answer });
    eventually("what was there", || async { ids.lock().unwrap().len() >= appended.len() }).await;
    // And what comes to a consumer that waits, in both streams with one step.
    for n in 0..50 {
        let events =
            (0..6).map(|i| put(if i % 2 == 0 { "updated" } else { "created" }, &format!("b{n}-{i}"), i));
        appended.extend(s.store.append(events.collect()).await.unwrap().iter().map(|a| a.id));
        eventually("the next six", || async { ids.lock().unwrap().len() >= appended.len() }).await;
    }
    consumer.stop().await;
    assert_eq!(*ids.lock().unwrap(), appended);
}

/// Backlogs around the limits of a read, of a stream's share and of what is read ahead, unevenly over five streams.
#[tokio::test(flavor = "multi_thread")]
async fn a_single_consumer_of_one_event_at_a_time_keeps_the_order_behind_any_backlog() {
    const ACTIONS: [&str; 5] = ["a", "b", "c", "d", "e"];
    for events in [99, 100, 101, 299, 301, 740, 1_201, 3_000, 9_000] {
        let s = server().await;
        let mut appended = Vec::with_capacity(events);
        for first in (0..events).step_by(20) {
            let action = |n: usize| ACTIONS[if n * 7 % 10 < 6 { 0 } else { n % 5 }];
            let part = (first..events.min(first + 20)).map(|n| put(action(n), &format!("x{}", n % 17), 0));
            appended.extend(s.store.append(part.collect()).await.unwrap().iter().map(|a| a.id));
        }
        let ids: Arc<std::sync::Mutex<Vec<Id>>> = Arc::default();
        let seen = ids.clone();
        let answer = move |event: Event| {
            seen.lock().unwrap().push(event.id);
            std::future::ready(Outcome::Done(Vec::new()))
        };
        let one = subscription("one")
            .streams(ACTIONS.map(|action| ACCOUNT.stream(action)))
            .concurrency(1)
            // Nobody dies here: on a busy machine a consumer may be late, which is no reason to claim.
            .claim_after(Duration::from_mins(1));
        let consumer = run(&s.store, one, Recorder { seen: Seen::default(), answer });
        patiently("the backlog", || async { ids.lock().unwrap().len() >= events }).await;
        consumer.stop().await;
        let ids = ids.lock().unwrap();
        let wrong = ids.iter().zip(&appended).position(|(handled, expected)| handled != expected);
        assert_eq!((ids.len(), wrong), (events, None), "of {events}");
    }
}
