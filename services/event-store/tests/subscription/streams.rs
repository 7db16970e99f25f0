//! The consumers of one group name different streams: a release that reads one stream more is rolled out, or rolled back.

use super::*;
use std::sync::Mutex;

const ENTITIES: usize = 20;

/// The old release reads these.
fn old(consumer: &str) -> Subscription {
    subscription(consumer).claim_after(Duration::from_secs(1))
}

/// The new one reads one more.
fn new(consumer: &str) -> Subscription {
    let streams = ["created", "updated", "closed"].map(|action| ACCOUNT.stream(action));
    old(consumer).streams(streams)
}

/// Appends events of all entities in turn, every fourth one to the new stream, until it is stopped.
struct Load {
    task: JoinHandle<Vec<(String, u64, String)>>,
    stop: CancellationToken,
}

impl Load {
    fn start(store: &EventStore, pause: Duration) -> Self {
        let (store, stop) = (store.clone(), CancellationToken::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut appended = Vec::new();
            while !stopped.is_cancelled() {
                let actions: &[_] = match appended.len() / ENTITIES {
                    0 => &["created"],
                    // In one step, so that the consumers of both streams get them at the same time.
                    round if round % 4 == 1 => &["closed", "updated"],
                    _ => &["updated"],
                };
                let entities = (0..ENTITIES).map(|entity| format!("e{entity}"));
                let events = entities.flat_map(|id| actions.iter().map(move |action| (id.clone(), *action)));
                let (events, batch): (Vec<_>, _) =
                    events.map(|(id, action)| ((id.clone(), action), put(action, &id, 0))).unzip();
                for ((id, action), event) in events.into_iter().zip(store.append(batch).await.unwrap()) {
                    appended.push((id, event.version, action.to_owned()));
                }
                tokio::time::sleep(pause).await;
            }
            appended
        });
        Self { task, stop }
    }

    /// What was appended.
    async fn stop(self) -> Vec<(String, u64, String)> {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

fn handled_of_the_new_stream(seen: &Seen) -> usize {
    seen.lock().unwrap().iter().filter(|(_, _, action)| action == "closed").count()
}

/// Every event of these was handled.
fn has_all<'a>(seen: &Seen, mut appended: impl Iterator<Item = &'a (String, u64, String)>) -> bool {
    let seen: std::collections::HashSet<_> = seen.lock().unwrap().iter().cloned().collect();
    appended.all(|event| seen.contains(event))
}

/// Since the first event of the new stream was handled, no event has followed a later one of its entity that was handled
/// since then, too. What the old release had handled by then could not wait for the new stream.
fn assert_order(seen: &Seen) {
    let seen = seen.lock().unwrap();
    let joined = seen.iter().position(|(_, _, action)| action == "closed").unwrap();
    let mut last: HashMap<&str, u64> = HashMap::new();
    for (at, (entity, version, action)) in seen.iter().enumerate().skip(joined) {
        let last = last.entry(entity).or_default();
        assert!(*version >= *last, "{entity}: version {version} ({action}) at {at} after version {last}");
        *last = *version;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_adds_a_stream_rolls_out_and_back_in_order_and_holds_nothing_up() {
    let s = server().await;
    let seen = Seen::default();
    let load = Load::start(&s.store, Duration::from_millis(80));
    let mut consumers: Vec<Running> =
        (0..3).map(|n| run(&s.store, old(&format!("old-{n}")), recorder(&seen))).collect();
    eventually("the old release is at work", || async { count(&seen) > 20 }).await;
    for n in 0..3 {
        consumers.push(run(&s.store, new(&format!("new-{n}")), recorder(&seen)));
        let before = handled_of_the_new_stream(&seen);
        eventually("the new stream is handled", || async { handled_of_the_new_stream(&seen) > before + 6 })
            .await;
        consumers.remove(0).stop().await;
    }
    let before = handled_of_the_new_stream(&seen);
    eventually("the new release is at work", || async { handled_of_the_new_stream(&seen) > before + 30 })
        .await;

    let mut observed = None;
    for n in 0..3 {
        let consumer = s.store.subscribe(old(&format!("back-{n}")));
        observed = Some(consumer.observe());
        let cancel = CancellationToken::new();
        let task = tokio::spawn(consumer.run(recorder(&seen), cancel.clone()));
        consumers.push(Running { task, cancel });
        eventually("it reads", || async { observed.as_ref().unwrap().ready() }).await;
        let new = consumers.remove(0);
        // The last one dies with what it holds.
        if n < 2 { new.stop().await } else { new.kill() }
    }
    let observed = observed.unwrap();
    let mut appended = load.stop().await;
    let batch = vec![put("closed", "e0", 0), put("updated", "e0", 0)];
    for (event, action) in s.store.append(batch).await.unwrap().iter().zip(["closed", "updated"]) {
        appended.push(("e0".to_owned(), event.version, action.to_owned()));
    }
    eventually("it says which stream nobody reads", || async { !observed.unread_streams().is_empty() }).await;
    let unread = observed.unread_streams().remove(0);
    assert_eq!(unread.stream, ACCOUNT.stream("closed"));
    assert!(unread.waiting.is_some_and(|waiting| waiting > 0), "{unread}");
    assert!(unread.since >= Duration::from_secs(3), "{unread}");
    let groups = s.store.inspect().groups(&[ACCOUNT.stream("updated"), unread.stream.clone()]).await.unwrap();
    assert!(groups[0].streams.iter().all(|it| it.unread_ms.is_some() == (it.stream == unread.stream)));

    let read = || appended.iter().filter(|(_, _, action)| action != "closed");
    eventually("nothing waits for the stream that nobody reads", || async { has_all(&seen, read()) }).await;
    for consumer in consumers {
        consumer.stop().await;
    }
    assert_order(&seen);

    // Rolled out for good: what waited is handled late.
    let last = run(&s.store, new("last"), recorder(&seen));
    eventually("every event is handled", || async { has_all(&seen, appended.iter()) }).await;
    last.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_whose_heartbeats_are_rare_keeps_the_order_from_the_first_event_of_a_stream_that_joins() {
    let s = server().await;
    let seen = Seen::default();
    let load = Load::start(&s.store, Duration::from_millis(5));
    let rare = old("old").claim_after(Duration::from_secs(30));
    let first = run(&s.store, rare, recorder(&seen));
    eventually("the old release is at work", || async { count(&seen) > 20 }).await;
    // The only reader of the other stream has handled every predecessor there itself: it hands out without a question.
    let joins = old("new").streams([ACCOUNT.stream("created"), ACCOUNT.stream("closed")]);
    let second = run(&s.store, joins, recorder(&seen));
    eventually("the new stream is handled", || async { handled_of_the_new_stream(&seen) > 400 }).await;
    let appended = load.stop().await;
    eventually("every event is handled", || async { has_all(&seen, appended.iter()) }).await;
    first.stop().await;
    second.stop().await;
    assert_order(&seen);
}

/// Answers of the only consumer that reads the new stream.
#[derive(Clone, Copy, PartialEq)]
enum Closing {
    Waits,
    Parks,
    Passes,
}

/// Version 2 of `x` is on the stream that the old release does not read.
async fn one_of_each(s: &Server, seen: &Seen, closing: &Arc<Mutex<Closing>>) -> (Running, Running) {
    let first = {
        let closing = closing.clone();
        let answer = move |event: Event| {
            let closing = closing.clone();
            async move {
                loop {
                    match *closing.lock().unwrap() {
                        Closing::Parks if event.action() == "closed" => {
                            return Outcome::Park("poison".to_owned());
                        }
                        Closing::Waits if event.action() == "closed" => {}
                        _ => return Outcome::Done(Vec::new()),
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        };
        run(&s.store, new("new"), Recorder { seen: seen.clone(), answer })
    };
    s.store.append(vec![put("created", "x", 0)]).await.unwrap();
    eventually("the new release is at work", || async { count(seen) == 1 }).await;
    // The test asks for what is pending for this name.
    let named = on_accounts(Subscription::new("group", "old")).claim_after(Duration::from_secs(1));
    let second = run(&s.store, named, recorder(seen));
    eventually("the old one, too", || async {
        s.command::<Vec<redis::Value>>(&["XINFO", "CONSUMERS", "events:account_updated", "group"]).await.len()
            == 2
    })
    .await;
    s.store.append(vec![put("closed", "x", 0)]).await.unwrap();
    (first, second)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_a_stream_of_its_group_waits_for_its_events_and_parks_behind_them() {
    let s = server().await;
    let (seen, closing) = (Seen::default(), Arc::new(Mutex::new(Closing::Waits)));
    let (first, second) = one_of_each(&s, &seen, &closing).await;
    eventually("version 2 is in hand", || async { versions(&seen, "x") == [1, 2] }).await;
    let last = AtomicUsize::new(2);
    eventually("the old release holds some that follow", || async {
        last.fetch_add(1, Ordering::SeqCst);
        s.store.append(vec![put("updated", "x", 0), put("updated", "y", 0)]).await.unwrap();
        let held = &["XPENDING", "events:account_updated", "group", "-", "+", "100", "old"];
        s.command::<Vec<redis::Value>>(held).await.len() >= 3
    })
    .await;
    let last = last.into_inner() as u64;
    let others = usize::try_from(last - 2).unwrap();
    eventually("the other entity goes on", || async { versions(&seen, "y").len() == others }).await;
    assert_eq!(versions(&seen, "x"), [1, 2], "nothing overtakes what is in hand");

    *closing.lock().unwrap() = Closing::Parks;
    let dead = s.store.dead_letters("group", "account");
    let letters = last - 1;
    eventually("all that follow are parked behind it", || async { dead.count().await.unwrap() == letters })
        .await;
    assert_eq!(versions(&seen, "x"), [1, 2]);
    *closing.lock().unwrap() = Closing::Passes;
    dead.replay(&Select::All).await.unwrap();
    let expected: Vec<u64> = [1, 2].into_iter().chain(2..=last).collect();
    eventually("all are handled", || async { versions(&seen, "x").len() == expected.len() }).await;
    assert_eq!(versions(&seen, "x"), expected, "in order, after the one that was parked");
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_cannot_read_its_new_stream_holds_nothing_up() {
    let s = server().await;
    let seen = Seen::default();
    s.store.append(vec![put("created", "x", 0), put("closed", "x", 0)]).await.unwrap();
    let _: redis::Value = s.command(&["RENAME", "events:account_closed", "events:account_aside"]).await;
    let _: redis::Value = s.command(&["SET", "events:account_closed", "no stream"]).await;
    let first = run(&s.store, old("old"), recorder(&seen));
    let second = run(&s.store, new("new"), recorder(&seen));
    let mut expected = vec![1];
    // Longer than the pauses of several attempts to read.
    let until = std::time::Instant::now() + Duration::from_millis(400);
    while std::time::Instant::now() < until {
        expected.push(s.store.append(vec![put("updated", "x", 0)]).await.unwrap()[0].version);
        eventually("it is handled", || async { versions(&seen, "x") == expected }).await;
    }
    first.stop().await;
    second.stop().await;
}
