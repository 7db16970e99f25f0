//! Dead letters: what is parked, what queues behind it, and giving it back.

use super::*;

#[tokio::test(flavor = "multi_thread")]
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

#[tokio::test(flavor = "multi_thread")]
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

fn parks_until(cured: &Arc<AtomicBool>) -> impl Fn(Event) -> std::future::Ready<Outcome> + Clone + use<> {
    let cured = cured.clone();
    move |event| {
        let poison = event.entity_id.starts_with("bad") && !cured.load(Ordering::SeqCst);
        std::future::ready(if poison { Outcome::Park("poison".into()) } else { Outcome::Done(Vec::new()) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_parked_twice_is_parked_once_and_one_that_is_finished_is_not_handled_again() {
    let s = server().await;
    history(&s.store, "bad", 2).await;
    history(&s.store, "good", 2).await;
    let (seen, cured) = (Seen::default(), Arc::default());
    let recorder = || Recorder { seen: seen.clone(), answer: parks_until(&cured) };
    let _: String = s.command(&["XADD", "events:account_created", "*", "hello", "world"]).await;
    let dead = s.store.dead_letters("group", "account");
    let consumer = run(&s.store, subscription("one"), recorder());
    eventually("three letters", || async { dead.count().await.unwrap() == 3 }).await;
    eventually("the good ones", || async { versions(&seen, "good") == [1, 2] }).await;
    consumer.stop().await;
    // Somebody makes the group again by hand, at the beginning: everything is delivered again.
    for stream in ["events:account_created", "events:account_updated"] {
        let _: i64 = s.command(&["XGROUP", "DESTROY", stream, "group"]).await;
        let () = s.command(&["XGROUP", "CREATE", stream, "group", "0"]).await;
    }
    let _: Vec<redis::Value> = s
        .command(&[
            "XREADGROUP",
            "GROUP",
            "group",
            "x",
            "COUNT",
            "100",
            "STREAMS",
            "events:account_created",
            ">",
        ])
        .await;
    let _: Vec<redis::Value> = s
        .command(&[
            "XREADGROUP",
            "GROUP",
            "group",
            "x",
            "COUNT",
            "100",
            "STREAMS",
            "events:account_updated",
            ">",
        ])
        .await;
    assert_eq!(pending(&s).await, 5);
    let consumer = run(&s.store, subscription("two"), recorder());
    eventually("all are seen to be done", || async { pending(&s).await == 0 }).await;
    consumer.stop().await;
    assert_eq!(dead.count().await.unwrap(), 3);
    assert_eq!((versions(&seen, "bad"), versions(&seen, "good")), (vec![1], vec![1, 2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_some_or_all_are_replayed_in_order_and_none_before_an_earlier_one_of_its_entity() {
    let s = server().await;
    history(&s.store, "bad1", 3).await;
    history(&s.store, "bad2", 2).await;
    let (seen, cured) = (Seen::default(), Arc::default());
    let recorder = Recorder { seen: seen.clone(), answer: parks_until(&cured) };
    let dead = s.store.dead_letters("group", "account");
    let consumer = run(&s.store, subscription("one"), recorder);
    eventually("five letters", || async { dead.count().await.unwrap() == 5 }).await;
    cured.store(true, Ordering::SeqCst);
    let all = dead.list(Id::ZERO, 3).await.unwrap();
    let rest = dead.list(all[2].letter, 10).await.unwrap();
    assert_eq!((all.len(), rest.len()), (3, 2), "in pages");
    let of = |entity: &str, version: &str| {
        let is = |l: &&event_store::DeadLetter| {
            l.keys == [format!("account/{entity}")]
                && l.raw.contains(&(b"version".to_vec(), version.as_bytes().to_vec()))
        };
        all.iter().chain(&rest).find(is).unwrap().letter
    };
    let letters = |ids: &[Id]| Select::Letters(ids.to_vec());
    let moved = |given: event_store::GivenBack| (given.moved, given.behind, given.lost);
    let second = letters(&[of("bad1", "2")]);
    assert_eq!(moved(dead.preview(&second).await.unwrap()), (0, 1, 0));
    assert_eq!(moved(dead.replay(&second).await.unwrap()), (0, 1, 0), "the first one is in its way");
    let two = letters(&[of("bad1", "2"), of("bad1", "1")]);
    assert_eq!(moved(dead.preview(&two).await.unwrap()), (2, 0, 0));
    assert_eq!(dead.count().await.unwrap(), 5, "a preview changes nothing");
    assert_eq!(moved(dead.replay(&two).await.unwrap()), (2, 0, 0));
    eventually("two are handled", || async { versions(&seen, "bad1") == [1, 1, 2] }).await;
    assert_eq!(dead.get(of("bad1", "3")).await.unwrap().unwrap().attempts, 0, "it queues behind");
    assert_eq!(dead.get(of("bad1", "1")).await.unwrap(), None);
    let key = Select::Key("account/bad2".to_owned());
    assert_eq!(moved(dead.replay(&key).await.unwrap()), (2, 0, 0));
    eventually("one entity's", || async { versions(&seen, "bad2") == [1, 1, 2] }).await;
    assert_eq!(moved(dead.replay(&Select::All).await.unwrap()), (1, 0, 0));
    eventually("the last one", || async { versions(&seen, "bad1") == [1, 1, 2, 3] }).await;
    eventually("nothing is left", || async { pending(&s).await == 0 }).await;
    consumer.stop().await;
    assert_eq!(dead.count().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_is_kept_while_its_entry_or_its_group_is_gone() {
    let s = server().await;
    let ids = s.store.append(vec![put("created", "bad1", 1), put("created", "bad2", 1)]).await.unwrap();
    let (seen, cured) = (Seen::default(), Arc::default());
    let dead = s.store.dead_letters("group", "account");
    let consumer =
        run(&s.store, subscription("one"), Recorder { seen: seen.clone(), answer: parks_until(&cured) });
    eventually("two letters", || async { dead.count().await.unwrap() == 2 }).await;
    consumer.stop().await;
    cured.store(true, Ordering::SeqCst);
    let _: i64 = s.command(&["XGROUP", "DESTROY", "events:account_created", "group"]).await;
    let refused = dead.replay(&Select::All).await.unwrap_err();
    assert_eq!(refused.kind(), event_store::AppendErrorKind::Refused);
    assert_eq!(dead.count().await.unwrap(), 2);
    let _: i64 = s.command(&["XDEL", "events:account_created", &ids[0].id.to_string()]).await;
    let consumer =
        run(&s.store, subscription("one"), Recorder { seen: seen.clone(), answer: parks_until(&cured) });
    eventually("the group is there again", || async {
        dead.replay(&Select::All).await.is_ok_and(|given| (given.moved, given.lost) == (1, 1))
    })
    .await;
    eventually("the other one is handled", || async { versions(&seen, "bad2").len() == 2 }).await;
    consumer.stop().await;
    let left = dead.list(Id::ZERO, 10).await.unwrap();
    assert_eq!(left.iter().map(|l| l.id).collect::<Vec<_>>(), [ids[0].id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_says_how_often_it_failed_and_since_when_and_what_fails_too_often_is_parked() {
    let s = server().await;
    s.store.append(vec![put("created", "a", 1)]).await.unwrap();
    let answer = |_| async { Outcome::Retry("not today".into()) };
    let impatient =
        subscription("one").park_after(4).retry(Duration::from_millis(20), Duration::from_millis(40));
    let seen = Seen::default();
    let consumer = run(&s.store, impatient, Recorder { seen: seen.clone(), answer });
    let dead = s.store.dead_letters("group", "account");
    eventually("it is parked", || async { dead.count().await.unwrap() == 1 }).await;
    consumer.stop().await;
    let letter = dead.list(Id::ZERO, 1).await.unwrap().remove(0);
    assert_eq!((letter.attempts, count(&seen), letter.reason.as_str()), (4, 4, "not today"));
    assert!(letter.last_failure - letter.first_failure >= 30, "three pauses: {letter:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_letter_survives_the_loss_of_its_group() {
    let s = server().await;
    history(&s.store, "bad", 1).await;
    history(&s.store, "good", 5).await;
    let (seen, cured) = (Seen::default(), Arc::default());
    let dead = s.store.dead_letters("group", "account");
    let consumer =
        run(&s.store, subscription("one"), Recorder { seen: seen.clone(), answer: parks_until(&cured) });
    eventually("a letter and the good ones", || async {
        dead.count().await.unwrap() == 1 && versions(&seen, "good").len() == 5
    })
    .await;
    // Only now the loss is one: the cursor stands behind the letter's entry.
    let letter = dead.list(Id::ZERO, 1).await.unwrap().remove(0);
    eventually("the cursor passes a dead letter", || async {
        let cursor: Option<String> =
            s.command(&["HGET", "eventstore:group:group:cursors", "account_created"]).await;
        cursor.is_some_and(|cursor| cursor.parse::<Id>().unwrap() >= letter.id)
    })
    .await;
    consumer.stop().await;
    cured.store(true, Ordering::SeqCst);
    assert_eq!(dead.replay(&Select::All).await.unwrap().moved, 1);
    let _: i64 = s.command(&["XGROUP", "DESTROY", "events:account_created", "group"]).await;
    let consumer =
        run(&s.store, subscription("one"), Recorder { seen: seen.clone(), answer: parks_until(&cured) });
    eventually("it is handled", || async { versions(&seen, "bad") == [1, 1] }).await;
    consumer.stop().await;
    assert_eq!(versions(&seen, "good"), [1, 2, 3, 4, 5], "what is finished is not handled again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_goes_back_while_a_consumer_is_about_to_park_it_again_is_handled() {
    let s = plain().await;
    let proxy = Proxy::start(s.redis.single().port()).await.unwrap();
    let far = EventStore::connect(event_store::Config::new(proxy.url())).await.unwrap();
    history(&s.store, "bad", 1).await;
    let (seen, cured) = (Seen::default(), Arc::default());
    let handler = || Recorder { seen: seen.clone(), answer: parks_until(&cured) };
    let consumer = run(&s.store, subscription("one"), handler());
    let dead = s.store.dead_letters("group", "account");
    eventually("a letter", || async { dead.count().await.unwrap() == 1 }).await;
    consumer.stop().await;
    cured.store(true, Ordering::SeqCst);
    let consumer = run(&far, on_accounts(Subscription::new("group", "far")), handler());
    let consumers = || async {
        let all: redis::Value = s.command(&["XINFO", "CONSUMERS", "events:account_created", "group"]).await;
        format!("{all:?}")
    };
    eventually("it reads", || async { consumers().await.contains("far") }).await;
    // The letter's entry is pending again. The consumer claims it, is told what it is, and is about to say so.
    proxy.set(Line::Refusing);
    proxy.lose(Lost::Command, "park", 1);
    let id = dead.list(Id::ZERO, 1).await.unwrap()[0].id.to_string();
    let claim = ["XCLAIM", "events:account_created", "group"];
    let left = [&claim[..], &["gone", "0", &id, "IDLE", "86400000", "FORCE"]].concat();
    let _: redis::Value = s.command(&left).await;
    eventually("it would park", || async { proxy.lost() == 1 }).await;
    assert_eq!(dead.replay(&Select::All).await.unwrap().moved, 1);
    let _: redis::Value = s.command(&[&claim[..], &["far", "0", &id]].concat()).await;
    proxy.set(Line::Good);
    eventually("it is handled", || async { versions(&seen, "bad").len() == 2 && pending(&s).await == 0 })
        .await;
    assert_eq!(dead.count().await.unwrap(), 0);
    consumer.stop().await;
}

/// An outcome with more outputs than a batch may hold can never succeed.
#[tokio::test(flavor = "multi_thread")]
async fn outputs_beyond_the_limit_of_a_batch_are_parked_with_that_reason_and_never_tried_again() {
    let s = server().await;
    let store = EventStore::connect(s.redis.config().batch_limit(10, 1 << 20)).await.unwrap();
    history(&store, "large", 1).await;
    history(&store, "small", 1).await;
    let seen = Seen::default();
    let answer = |event: Event| async move {
        let count = if event.entity_id == "large" { 11 } else { 10 };
        let output =
            |n: usize| NewEvent::put(NOTE, "created", format!("{}-{n}", event.entity_id), &json!({ "n": n }));
        Outcome::Done((0..count).map(output).collect())
    };
    let consumer = run(&store, subscription("one"), Recorder { seen: seen.clone(), answer });
    let dead = store.dead_letters("group", "account");
    eventually("one is parked, the other handled", || async {
        dead.count().await.unwrap() == 1 && pending(&s).await == 0 && count(&seen) >= 2
    })
    .await;
    let letters = dead.list(Id::ZERO, 10).await.unwrap();
    assert!(letters[0].reason.contains("one append takes 10 events"), "{}", letters[0].reason);
    assert_eq!((versions(&seen, "large"), versions(&seen, "small")), (vec![1], vec![1]));
    assert_eq!(s.command::<u64>(&["XLEN", "events:note_created"]).await, 10);
    consumer.stop().await;
}
