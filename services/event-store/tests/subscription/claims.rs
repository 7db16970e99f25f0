//! Retries, slow handlers, and taking over from the dead.

use super::*;

#[tokio::test(flavor = "multi_thread")]
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

fn note_by(name: &'static str) -> impl Fn(Event) -> std::future::Ready<Outcome> {
    move |_| {
        std::future::ready(Outcome::Done(vec![NewEvent::put(NOTE, "created", name, &json!({ "by": name }))]))
    }
}

#[tokio::test(flavor = "multi_thread")]
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

#[tokio::test(flavor = "multi_thread")]
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
    let patient = |name| on_accounts(Subscription::new("group", name)).claim_after(Duration::from_mins(5));
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

#[tokio::test(flavor = "multi_thread")]
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

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_cannot_read_keeps_what_its_handler_has_begun() {
    let s = plain().await;
    let claim_after = Duration::from_secs(1);
    let user = ["ACL", "SETUSER", "ledger", "on", ">secret", "~*", "&*", "+@all"];
    let () = s.command(&user).await;
    let url = format!("redis://ledger:secret@127.0.0.1:{}", s.redis.single().port());
    let store = EventStore::connect(Config::new(url)).await.unwrap();
    s.store.append(vec![put("created", "a", 1)]).await.unwrap();
    let (seen, other) = (Seen::default(), Seen::default());
    let answer = move |_| async move {
        tokio::time::sleep(claim_after * 3).await;
        Outcome::Done(Vec::new())
    };
    let slow = store.subscribe(subscription("slow").claim_after(claim_after));
    let (observed, cancel) = (slow.observe(), CancellationToken::new());
    let slow = tokio::spawn(slow.run(Recorder { seen: seen.clone(), answer }, cancel.clone()));
    eventually("it is in hand", || async { count(&seen) == 1 }).await;
    let () = s.command(&["ACL", "SETUSER", "ledger", "-xreadgroup"]).await;
    // Ends the read that was under way.
    s.store.append(vec![put("created", "b", 1)]).await.unwrap();
    eventually("reads fail", || async { !observed.ready() }).await;
    let idle = run(&s.store, subscription("idle").claim_after(claim_after), recorder(&other));
    eventually("both are finished", || async { pending(&s).await == 0 }).await;
    assert_eq!((versions(&seen, "a"), versions(&other, "a")), (vec![1], vec![]));
    idle.stop().await;
    cancel.cancel();
    slow.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_in_a_stalled_consumer_and_was_claimed_is_not_handled_there_when_it_wakes_up() {
    let s = plain().await;
    let proxy = Proxy::start(s.redis.single().port()).await.unwrap();
    let far = EventStore::connect(event_store::Config::new(proxy.url())).await.unwrap();
    for id in ["a", "b", "c"] {
        s.store.append(vec![put("created", id, 1)]).await.unwrap();
    }
    let (stalled_saw, other_saw) = (Seen::default(), Seen::default());
    let gate = Arc::new(tokio::sync::Notify::new());
    let opened = gate.clone();
    let answer = move |_| {
        let gate = opened.clone();
        async move {
            gate.notified().await;
            Outcome::Done(vec![NewEvent::put(NOTE, "created", "stalled", &json!({}))])
        }
    };
    let one = subscription("stalled").concurrency(1);
    let stalled = run(&far, one, Recorder { seen: stalled_saw.clone(), answer });
    eventually("the first is in hand", || async { count(&stalled_saw) == 1 }).await;
    proxy.set(testing::Line::Stalled);
    let other = run(&s.store, subscription("other"), recorder(&other_saw));
    eventually("the other one has claimed and handled all", || async { pending(&s).await == 0 }).await;
    assert_eq!(count(&other_saw), 3);
    proxy.set(testing::Line::Good);
    gate.notify_one();
    s.store.append(vec![put("created", "d", 1)]).await.unwrap();
    eventually("the next event", || async { count(&stalled_saw) + count(&other_saw) >= 5 }).await;
    gate.notify_one();
    eventually("nothing is pending", || async { pending(&s).await == 0 }).await;
    other.stop().await;
    stalled.stop().await;
    for id in ["b", "c"] {
        assert!(versions(&stalled_saw, id).is_empty(), "{id} was no longer its own");
    }
    let stalled_did_d = versions(&stalled_saw, "d").len() as u64;
    let notes: u64 = s.command(&["EXISTS", "events:note_created"]).await;
    assert_eq!(notes, stalled_did_d, "its output for a is refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_the_dead_are_found_behind_a_thousand_that_are_alive() {
    let s = server().await;
    for part in 0..12 {
        let events = (0..100).map(|n| put("created", &format!("a{part}-{n}"), n));
        s.store.append(events.collect()).await.unwrap();
    }
    let last = s.store.append(vec![put("created", "last", 1)]).await.unwrap()[0].id.to_string();
    let stream = "events:account_created";
    let () = s.command(&["XGROUP", "CREATE", stream, "group", "0"]).await;
    let _: redis::Value =
        s.command(&["XREADGROUP", "GROUP", "group", "alive", "COUNT", "2000", "STREAMS", stream, ">"]).await;
    let _: redis::Value = s.command(&["XCLAIM", stream, "group", "dead", "0", &last, "IDLE", "600000"]).await;
    let seen = Seen::default();
    let consumer = run(&s.store, subscription("one").claim_after(Duration::from_mins(1)), recorder(&seen));
    eventually("it is claimed", || async { versions(&seen, "last") == [1] }).await;
    consumer.stop().await;
    assert_eq!(count(&seen), 1, "and nothing that is alive");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_was_taken_out_by_hand_does_not_hold_up_its_entity_for_ever() {
    let s = server().await;
    history(&s.store, "a", 1).await;
    let () = s.command(&["XGROUP", "CREATE", "events:account_created", "group", "$"]).await;
    s.store.append(vec![put("updated", "a", 2)]).await.unwrap();
    let seen = Seen::default();
    let consumer = run(&s.store, subscription("one"), recorder(&seen));
    eventually("the later one is handled", || async { versions(&seen, "a") == [2] }).await;
    consumer.stop().await;
}

/// As while a release is rolled out that shortens the claim time. The one that waits longer loses its entries while its
/// line is stalled, and comes back before its own claim time is over.
#[tokio::test(flavor = "multi_thread")]
async fn consumers_with_different_claim_times_keep_the_order() {
    let s = plain().await;
    let proxy = Proxy::start(s.redis.single().port()).await.unwrap();
    let far = EventStore::connect(event_store::Config::new(proxy.url())).await.unwrap();
    for n in 0..20 {
        history(&s.store, &format!("e{n}"), 5).await;
    }
    let (slow, quick) = (Seen::default(), Seen::default());
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let opened = gate.clone();
    let answer = move |_| {
        let gate = opened.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            Outcome::Done(Vec::new())
        }
    };
    let patient = subscription("slow").concurrency(1).claim_after(Duration::from_mins(1));
    let patient = run(&far, patient, Recorder { seen: slow.clone(), answer });
    eventually("its handler has begun", || async { count(&slow) == 1 }).await;
    eventually("it holds everything", || async { pending(&s).await == 100 }).await;
    proxy.set(Line::Stalled);
    let hasty = subscription("quick").claim_after(Duration::from_millis(200));
    let hasty = run(&s.store, hasty, recorder(&quick));
    // Not an assertion: either may handle them.
    let until = std::time::Instant::now() + Duration::from_millis(1_500);
    while std::time::Instant::now() < until && count(&quick) < 99 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    proxy.set(Line::Good);
    gate.add_permits(1_000);
    eventually("all are handled", || async { pending(&s).await == 0 }).await;
    hasty.stop().await;
    patient.stop().await;
    let quick = quick.lock().unwrap();
    let again: Vec<_> =
        slow.lock().unwrap().iter().skip(1).filter(|seen| quick.contains(seen)).cloned().collect();
    assert_eq!(again, [], "begun after another consumer had them");
}
