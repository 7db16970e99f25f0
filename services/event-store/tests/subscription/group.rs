//! Groups that are lost, logs that went back in time, servers that crash, and the end of a consumer.

use super::*;

#[tokio::test(flavor = "multi_thread")]
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

#[tokio::test(flavor = "multi_thread")]
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

#[tokio::test(flavor = "multi_thread")]
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

#[tokio::test(flavor = "multi_thread")]
async fn nobody_begins_what_a_consumer_that_shuts_down_has_in_hand() {
    struct Ends(Arc<AtomicBool>);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let s = server().await;
    history(&s.store, "a", 1).await;
    let (seen, ended) = (Seen::default(), Arc::new(AtomicBool::new(false)));
    let hangs = {
        let ended = ended.clone();
        move |_| {
            let ends = Ends(ended.clone());
            async move {
                let _ends = ends;
                std::future::pending::<()>().await;
                Outcome::Done(Vec::new())
            }
        }
    };
    let claim_after = Duration::from_secs(1);
    let first = subscription("first").claim_after(claim_after).shutdown_within(claim_after * 3);
    let first = run(&s.store, first, Recorder { seen: seen.clone(), answer: hangs });
    eventually("the handler is at work", || async { count(&seen) == 1 }).await;
    let begun_after_it = Arc::new(std::sync::Mutex::new(Vec::new()));
    let notes = {
        let begun_after_it = begun_after_it.clone();
        move |_| {
            begun_after_it.lock().unwrap().push(ended.load(Ordering::SeqCst));
            async { Outcome::Done(Vec::new()) }
        }
    };
    let next = subscription("next").claim_after(claim_after);
    let next = run(&s.store, next, Recorder { seen: Seen::default(), answer: notes });
    first.stop().await;
    eventually("the next consumer has it", || async { !begun_after_it.lock().unwrap().is_empty() }).await;
    next.stop().await;
    assert_eq!(*begun_after_it.lock().unwrap(), [true], "begun once the first handler had ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_went_back_in_time_halts_the_group_until_a_person_accepts_it() {
    let s = server().await;
    history(&s.store, "a", 3).await;
    let stream = s.name("events:account_updated");
    let backup: Vec<u8> = s.command(&["DUMP", "events:account_updated"]).await;
    for n in 4..=6 {
        s.store.append(vec![put("updated", "a", n)]).await.unwrap();
    }
    let seen = Seen::default();
    let consumer = s.store.subscribe(subscription("one"));
    let observed = consumer.observe();
    let cancel = CancellationToken::new();
    let running = tokio::spawn(consumer.run(recorder(&seen), cancel.clone()));
    eventually("six events", || async { count(&seen) == 6 }).await;
    // The consumer alone remembers what it was given last, and only while it lives; so the next one
    // is told by what the group wrote down.
    eventually("the group has written down where it is", || async {
        s.command::<Option<String>>(&["HGET", "eventstore:group:group:cursors", "=account_updated"]).await
            == s.command::<Vec<(String, Vec<(String, String)>)>>(&[
                "XREVRANGE",
                "events:account_updated",
                "+",
                "-",
                "COUNT",
                "1",
            ])
            .await
            .first()
            .map(|(id, _)| id.clone())
    })
    .await;
    let mut restore = redis::cmd("RESTORE");
    restore.arg(&stream).arg(0).arg(&backup).arg("REPLACE");
    s.raw(&restore).await;
    eventually("it says what is wrong", || async { observed.fault().is_some() }).await;
    let fault = observed.fault().unwrap();
    assert!(
        matches!(fault.kind(), SubscriptionErrorKind::LogWentBack { stream, known, last }
            if stream.action() == "updated" && known > last),
        "{fault}"
    );
    assert!(!observed.ready());
    s.store.append(vec![put("created", "new", 1)]).await.unwrap();
    // Another consumer, which has seen nothing itself, halts too; and nobody handles anything.
    let second = s.store.subscribe(subscription("two"));
    let observed_too = second.observe();
    let running_too = tokio::spawn(second.run(recorder(&seen), cancel.clone()));
    eventually("the other one halts", || async { observed_too.fault().is_some() }).await;
    assert_eq!(count(&seen), 6);
    let streams = [ACCOUNT.stream("created"), ACCOUNT.stream("updated")];
    let accepted = s.store.accept_log("group", &streams).await.unwrap();
    assert_eq!(accepted.iter().map(|a| a.stream.to_string()).collect::<Vec<_>>(), ["account_updated"]);
    assert_eq!(s.store.accept_log("group", &streams).await.unwrap(), []);
    eventually("the new event", || async { versions(&seen, "new") == [1] }).await;
    eventually("all is well", || async { observed.ready() && observed.fault().is_none() }).await;
    cancel.cancel();
    running.await.unwrap().unwrap();
    running_too.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_made_after_its_subscription_is_read_from_its_first_event() {
    let s = server().await;
    let seen = Seen::default();
    let consumer = run(&s.store, subscription("one"), recorder(&seen));
    history(&s.store, "a", 2).await;
    eventually("both", || async { versions(&seen, "a") == [1, 2] }).await;
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_ends_within_its_bound_though_the_server_does_not_answer() {
    let s = plain().await;
    let proxy = Proxy::start(s.redis.single().port()).await.unwrap();
    let far = EventStore::connect(event_store::Config::new(proxy.url())).await.unwrap();
    history(&s.store, "a", 3).await;
    let seen = Seen::default();
    let one = subscription("one").shutdown_within(Duration::from_millis(500));
    let consumer = run(&far, one, recorder(&seen));
    eventually("three", || async { count(&seen) == 3 }).await;
    proxy.set(testing::Line::Stalled);
    s.store.append(vec![put("updated", "a", 9)]).await.unwrap();
    let begin = std::time::Instant::now();
    consumer.stop().await;
    assert!(begin.elapsed() < Duration::from_millis(3500), "500 ms and two seconds: {:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_under_load_handles_nothing_twice_and_delays_nothing_beyond_the_bound() {
    const BOUND: Duration = Duration::from_secs(5);
    let s = server().await;
    let delays: Arc<std::sync::Mutex<Vec<Duration>>> = Arc::default();
    let seen = Seen::default();
    let start = |name: String| {
        let delays = delays.clone();
        let answer = move |event: Event| {
            let delays = delays.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(event.id.seq % 8)).await;
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
                delays.lock().unwrap().push(now.saturating_sub(Duration::from_millis(event.id.ms)));
                Outcome::Done(Vec::new())
            }
        };
        // Nobody dies: all that changes hands is handed back.
        let patient = subscription(&name).claim_after(Duration::from_mins(1));
        run(&s.store, patient, Recorder { seen: seen.clone(), answer })
    };
    let mut consumers: Vec<Running> = (0..3).map(|n| start(format!("old {n}"))).collect();
    let load = CancellationToken::new();
    let (store, over) = (s.store.clone(), load.clone());
    let writer = tokio::spawn(async move {
        let mut sum = 0;
        while !over.is_cancelled() {
            let (id, action) = (format!("e{}", sum / 10 % 20), if sum < 200 { "created" } else { "updated" });
            store.append((0..10).map(|n| put(action, &id, n)).collect()).await.unwrap();
            sum += 10;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        sum
    });
    eventually("the load is on", || async { count(&seen) > 300 }).await;
    for n in 0..3 {
        consumers.push(start(format!("new {n}")));
        let before = count(&seen);
        consumers.remove(0).stop().await;
        eventually("it goes on", || async { count(&seen) > before + 100 }).await;
    }
    load.cancel();
    let sum: usize = writer.await.unwrap();
    eventually("all are handled", || async { count(&seen) >= sum && pending(&s).await == 0 }).await;
    for consumer in consumers {
        consumer.stop().await;
    }
    assert_eq!(count(&seen), sum, "nothing twice");
    for n in 0..20 {
        let versions = versions(&seen, &format!("e{n}"));
        assert!(versions.iter().copied().eq(1..=versions.len() as u64), "e{n}: {versions:?}");
    }
    let worst = delays.lock().unwrap().iter().max().copied().unwrap();
    assert!(worst < BOUND, "{worst:?}");
}

/// What a group that starts there handles of an entity with ten events, and of one that comes later.
async fn begun(s: &Server, group: &str, start: Start) -> (Vec<u64>, Vec<u64>) {
    let (before, after) = (format!("before {group}"), format!("after {group}"));
    let seen = Seen::default();
    let streams = [ACCOUNT.stream("created"), ACCOUNT.stream("updated")];
    let one = || Subscription::new(group, "one").streams(streams.clone()).start(start);
    let consumer = run(&s.store, one(), recorder(&seen));
    eventually("the group is there", || async {
        let info = s.store.inspect().groups(&streams).await.unwrap();
        info.iter().any(|g| g.group == group && g.streams.len() == 2)
    })
    .await;
    s.store.append(vec![put("updated", &before, 11)]).await.unwrap();
    history(&s.store, &after, 2).await;
    eventually("what comes later", || async { versions(&seen, &after) == [1, 2] }).await;
    eventually("all is finished", || async { versions(&seen, &before).ends_with(&[11]) }).await;
    consumer.stop().await;
    (versions(&seen, &before), versions(&seen, &after))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_begins_with_the_log_or_after_an_id_or_now_and_is_held_up_by_nothing_before() {
    let s = server().await;
    let later = Id::new(u64::MAX >> 20, 0);
    for (group, start) in [
        ("all", Start::Beginning),
        ("new", Start::Now),
        ("some", Start::After(Id::ZERO)),
        ("far", Start::After(later)),
    ] {
        let entity = format!("before {group}");
        history(&s.store, &entity, 4).await;
        let fourth = s.store.entity(ACCOUNT, &entity).await.unwrap().unwrap();
        assert_eq!(fourth.version, 4);
        let mut ids = Vec::new();
        for n in 5..=10 {
            ids.push(s.store.append(vec![put("updated", &entity, n)]).await.unwrap()[0].id);
        }
        let start = if group == "some" { Start::After(ids[3]) } else { start };
        let first = match group {
            "all" => 1,
            "some" => 9,
            _ => 11,
        };
        let (before, _) = begun(&s, group, start).await;
        assert_eq!(before, (first..=11).collect::<Vec<u64>>(), "{group}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_has_begun_goes_on_where_it_is_whatever_its_consumers_ask_for_later() {
    let s = server().await;
    history(&s.store, "a", 5).await;
    let seen = Seen::default();
    let only = |consumer: &str, start| {
        Subscription::new("group", consumer).streams([ACCOUNT.stream("updated")]).start(start)
    };
    // Its first consumer is gone before it has handled anything, and the server loses the group.
    let cancel = CancellationToken::new();
    let first = s.store.subscribe(only("first", Start::Now));
    let ready = first.observe();
    let running = tokio::spawn(first.run(recorder(&seen), cancel.clone()));
    eventually("the group is there", || async { ready.ready() }).await;
    cancel.cancel();
    running.await.unwrap().unwrap();
    s.store.append(vec![put("updated", "a", 6)]).await.unwrap();
    let _: i64 = s.command(&["XGROUP", "DESTROY", "events:account_updated", "group"]).await;
    s.store.append(vec![put("closed", "a", 7)]).await.unwrap();

    let both = [ACCOUNT.stream("updated"), ACCOUNT.stream("closed"), ACCOUNT.stream("created")];
    let second = Subscription::new("group", "second").streams(both).start(Start::Beginning);
    let second = run(&s.store, second, recorder(&seen));
    s.store.append(vec![put("updated", "a", 8)]).await.unwrap();
    eventually("it goes on", || async { versions(&seen, "a").len() == 3 }).await;
    second.stop().await;
    assert_eq!(versions(&seen, "a"), [6, 7, 8], "also what came to a stream that joined it later");
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_group_stands_is_unknown_while_the_server_does_not_answer() {
    let s = plain().await;
    let consumer = s.store.subscribe(subscription("one"));
    let (observed, cancel) = (consumer.observe(), CancellationToken::new());
    let running = tokio::spawn(consumer.run(recorder(&Seen::default()), cancel.clone()));
    eventually("it is known", || async { observed.states().len() == 2 }).await;
    s.redis.single().stall();
    patiently("it is unknown", || async { observed.states().is_empty() }).await;
    s.redis.single().resume();
    patiently("it is known again", || async { observed.states().len() == 2 }).await;
    cancel.cancel();
    running.await.unwrap().unwrap();
}
