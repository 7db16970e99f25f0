//! A group makes progress whoever dies, leaves or waits, with more pending than a consumer holds at first.

use super::*;
use std::collections::HashSet;

/// More than two consumers' shares of a stream.
const BACKLOG: u64 = 3_000;

fn hurried(consumer: &str) -> Subscription {
    subscription(consumer).claim_after(Duration::from_secs(1)).concurrency(16)
}

/// So many events of these entities in turn.
async fn backlog(store: &EventStore, entities: u64, events: u64) {
    for first in (0..events).step_by(500) {
        let part = first..events.min(first + 500);
        store.append(part.map(|n| put("updated", &format!("e{}", n % entities), n)).collect()).await.unwrap();
    }
}

/// So many events of x, and behind them ten of y.
async fn many_of_x_and_ten_of_y(store: &EventStore) {
    for _ in 0..3 {
        store.append((0..500).map(|n| put("updated", "x", n)).collect()).await.unwrap();
    }
    store.append((0..10).map(|n| put("updated", "y", n)).collect()).await.unwrap();
}

/// So slow that most of the backlog is still there when both consumers have been seen to hold a share.
fn slowly(seen: &Seen) -> impl event_store::Handler + use<> {
    let answer = |_| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Outcome::Done(Vec::new())
    };
    Recorder { seen: seen.clone(), answer }
}

/// Every event of the backlog was handled, those of each entity in order. One that was in hand when its consumer died
/// is handled twice, before all that follow.
async fn all_are_handled_in_order(s: &Server, seen: &Seen, entities: u64) {
    let distinct = || {
        let seen = seen.lock().unwrap();
        seen.iter().map(|(id, version, _)| (id.clone(), *version)).collect::<HashSet<_>>().len()
    };
    let whole = usize::try_from(BACKLOG).unwrap();
    patiently(&format!("{entities} entities: all events"), || async { distinct() == whole }).await;
    patiently("nothing is pending", || async { pending(s).await == 0 }).await;
    for entity in 0..entities {
        let mut versions = versions(seen, &format!("e{entity}"));
        versions.dedup();
        assert!(versions.is_sorted_by(|a, b| a < b), "e{entity}: {versions:?}");
    }
}

/// A consumer dies, or leaves, in the middle of a backlog; another one holds its share already.
async fn one_of_two_goes(gracefully: bool) {
    for entities in [8, 1_000] {
        let s = server().await;
        backlog(&s.store, entities, BACKLOG).await;
        let seen = Seen::default();
        let first = run(&s.store, hurried("first"), slowly(&seen));
        patiently("the first is at work", || async { count(&seen) > 50 }).await;
        let second = run(&s.store, hurried("second"), recorder(&seen));
        // Of a few entities nearly everything is pending soon; of many much is handled before.
        let share = if entities == 8 { 2_300 } else { 1_300 };
        patiently("the second has a share", || async { pending(&s).await > share }).await;
        if gracefully {
            first.stop().await;
        } else {
            first.kill();
        }
        all_are_handled_in_order(&s, &seen, entities).await;
        second.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_consumer_held_is_handled_though_the_living_hold_their_share() {
    one_of_two_goes(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_consumer_that_left_held_is_handled_though_the_living_hold_their_share() {
    one_of_two_goes(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_under_another_name_finishes_a_backlog_that_a_crash_has_cut() {
    for entities in [8, 300] {
        let s = server().await;
        backlog(&s.store, entities, BACKLOG).await;
        let seen = Seen::default();
        let first = run(&s.store, hurried("pod-0"), slowly(&seen));
        patiently("the first is at work", || async { count(&seen) > 50 }).await;
        first.kill();
        let second = run(&s.store, hurried("pod-1"), recorder(&seen));
        all_are_handled_in_order(&s, &seen, entities).await;
        second.stop().await;
    }
}

/// The events of y are handled though those of x before them are more than a consumer's share, and wait: for a retry with
/// this reason, or for a handler that does not end.
async fn y_is_handled(retry: Option<&'static str>, concurrency: usize) {
    let s = server().await;
    many_of_x_and_ten_of_y(&s.store).await;
    let seen = Seen::default();
    let answer = move |event: Event| async move {
        match retry {
            _ if event.entity_id == "y" => Outcome::Done(Vec::new()),
            Some(reason) => Outcome::Retry(reason.to_owned()),
            None => std::future::pending().await,
        }
    };
    let one = hurried("one").concurrency(concurrency);
    let consumer = run(&s.store, one, Recorder { seen: seen.clone(), answer });
    patiently("y is handled", || async { versions(&seen, "y").len() >= 10 }).await;
    assert_eq!(versions(&seen, "y"), (1..=10).collect::<Vec<u64>>());
    consumer.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_in_retry_holds_up_itself_alone_however_many_events_it_has() {
    y_is_handled(Some("the bank is closed"), 16).await;
    y_is_handled(Some("the bank is closed"), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_handler_holds_up_its_entity_alone_however_many_events_it_has() {
    y_is_handled(None, 16).await;
}

/// The events behind a handler that hangs, of other entities, are handled by another consumer, though the first one lives
/// and gives its heartbeats.
#[tokio::test(flavor = "multi_thread")]
async fn entries_of_a_consumer_whose_handlers_all_hang_are_taken_over() {
    for concurrency in [1, 2] {
        let s = server().await;
        s.store.append((0..200).map(|n| put("updated", &format!("e{n}"), n)).collect()).await.unwrap();
        let (hanging, seen) = (Seen::default(), Seen::default());
        let hangs = |_| std::future::pending::<Outcome>();
        let busy = subscription("busy").concurrency(concurrency);
        let busy = run(&s.store, busy, Recorder { seen: hanging.clone(), answer: hangs });
        eventually("its handlers hang", || async { count(&hanging) == concurrency }).await;
        eventually("it holds all events", || async { pending(&s).await == 200 }).await;
        let free = run(&s.store, subscription("free"), recorder(&seen));
        eventually("the others are handled", || async { count(&seen) >= 200 - concurrency }).await;
        eventually("and finished", || async { pending(&s).await <= concurrency as u64 }).await;
        s.store.append(vec![put("updated", "later", 1)]).await.unwrap();
        eventually("a later event is handled too", || async { versions(&seen, "later") == [1] }).await;
        assert_eq!(count(&hanging), concurrency, "the busy one begins nothing more");
        free.stop().await;
        busy.kill();
    }
}

/// A consumer whose handler does as it is told: it does not end, fails, or is done.
fn observed_standstill(
    s: &Server,
    answer: &Arc<std::sync::Mutex<Option<Outcome>>>,
) -> (event_store::Observation, Lines, Running) {
    let answer = answer.clone();
    let handler = move |_| {
        let answer = answer.clone();
        async move {
            loop {
                if let Some(outcome) = answer.lock().unwrap().clone() {
                    return outcome;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    let consumer = s.store.subscribe(on_accounts(Subscription::new("group", "one")));
    let (observed, cancel) = (consumer.observe(), CancellationToken::new());
    let recorder = Recorder { seen: Seen::default(), answer: handler };
    let log = Lines::default();
    let task = tokio::spawn(consumer.run(recorder, cancel.clone()).with_subscriber(log.clone()));
    (observed, log, Running { task, cancel })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_finishes_nothing_says_which_event_waits_for_whom_and_why() {
    let s = server().await;
    let begin = s.store.append(vec![put("created", "a", 1)]).await.unwrap();
    let answer = Arc::default();
    let (observed, log, consumer) = observed_standstill(&s, &answer);
    let stands_still = || async { observed.standstill().is_some() };
    eventually("the slow handler is noticed", stands_still).await;
    let standstill = observed.standstill().unwrap();
    assert_eq!((standstill.id, standstill.consumer.as_str(), standstill.retry), (begin[0].id, "one", None));
    assert!(standstill.lasts >= Duration::from_millis(800), "twice the claim time: {:?}", standstill.lasts);
    assert!(observed.ready(), "it is no reason to take the consumer out of service");
    let said = log.with_message("the group stands still");
    let names = |text: &str| said.iter().all(|line| line.contains(text));
    assert!(said.len() == 1 && names(&begin[0].id.to_string()) && names("one"), "{said:?}");

    *answer.lock().unwrap() = Some(Outcome::Retry("the mail server is away".to_owned()));
    let cause = || async {
        observed.standstill().is_some_and(|it| it.retry.as_deref() == Some("the mail server is away"))
    };
    eventually("the cause is named", cause).await;

    *answer.lock().unwrap() = Some(Outcome::Done(Vec::new()));
    eventually("it goes on", || async { observed.standstill().is_none() }).await;

    // A long time without events is none without progress.
    let until = tokio::time::Instant::now() + Duration::from_millis(900);
    while tokio::time::Instant::now() < until {
        assert_eq!(observed.standstill(), None);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    s.store.append(vec![put("updated", "a", 2)]).await.unwrap();
    eventually("the next is handled", || async { observed.handled() == 2 }).await;
    assert_eq!(observed.standstill(), None);
    consumer.stop().await;
}
