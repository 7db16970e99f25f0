//! Dead letters: what is parked, what queues behind it, and giving it back.

use super::*;

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
