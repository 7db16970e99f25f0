//! Outputs are there exactly once, whatever is killed and whenever.

use super::*;

#[tokio::test(flavor = "multi_thread")]
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

#[tokio::test(flavor = "multi_thread")]
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

#[tokio::test(flavor = "multi_thread")]
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
    patiently("a sum of forty", || async {
        s.store.entity(NOTE, "sum").await.unwrap().unwrap().body["n"] == 40
    })
    .await;
    consumer.stop().await;
}

/// How an event is answered, by the name of its entity: `noted …` with an output, and so on.
fn answer(event: &Event, attempt: usize) -> Outcome {
    let note = format!("note of {} {}", event.entity_id, event.version);
    match event.entity_id.split(' ').next() {
        Some("poison") => Outcome::Park("poison".to_owned()),
        Some("dull") => Outcome::Skip("dull".to_owned()),
        Some("again") if attempt == 1 => Outcome::Retry("not yet".to_owned()),
        _ => Outcome::Done(vec![NewEvent::put(NOTE, "created", &*note, &json!({ "id": note }))]),
    }
}

struct Answers {
    attempts: std::sync::Mutex<HashMap<Id, usize>>,
    /// Hangs on the event of this entity, and says so in the log.
    hangs: Option<EventStore>,
}

impl event_store::Handler for Answers {
    async fn handle(&self, event: &Event) -> Outcome {
        let attempt = {
            let mut attempts = self.attempts.lock().unwrap();
            let attempt = attempts.entry(event.id).or_default();
            *attempt += 1;
            *attempt
        };
        if let Some(store) = self.hangs.as_ref().filter(|_| event.entity_id == "noted 2") {
            store.append(vec![put("opened", "signal", 1)]).await.unwrap();
            std::future::pending::<()>().await;
        }
        answer(event, attempt)
    }
}

/// The child's life: a consumer, which hangs in a handler when told.
pub(super) async fn live_until_killed(task: &str, store: EventStore) {
    store.append(vec![put("closed", "here", 1)]).await.unwrap();
    eventually("it may begin", || async { store.entity(ACCOUNT, "begin").await.unwrap().is_some() }).await;
    let hangs = (task == "hang").then(|| store.clone());
    let handler = Answers { attempts: std::sync::Mutex::default(), hangs };
    let consumer = store.subscribe(subscription("child").claim_after(Duration::from_millis(300)));
    consumer.run(handler, CancellationToken::new()).await.unwrap();
}

#[derive(Clone, Copy, Debug)]
enum Killed {
    InHandler,
    /// When this command (by a part of its name) is lost for the nth time, counted from 0, on its way
    /// to the server, or its reply on the way back.
    At(Lost, &'static str, usize),
    /// Likewise, but nobody is killed: the library asks again by itself.
    Never(Lost, &'static str, usize),
}

/// What the dead consumer of the group holds is as old as what was handed back: claimed at once.
async fn hand_back(s: &Server, stream: &str) {
    let pending: Vec<(String, String, u64, u64)> =
        s.command(&["XPENDING", stream, "group", "-", "+", "100"]).await;
    let ids = pending.iter().map(|(id, ..)| id.as_str());
    let words: Vec<&str> =
        ["XCLAIM", stream, "group", "dead", "0"].into_iter().chain(ids).chain(["IDLE", "86400000"]).collect();
    let _: redis::Value = s.command(&words).await;
}

/// Half of the entries were read by a consumer that is dead, so that claims have their points too.
async fn killed(at: Killed, setup: Setup) {
    let s = support::start(setup).await;
    let mut expected = Vec::new();
    for part in 0..2 {
        for name in ["noted 1", "noted 2", "again 1", "dull 1", "poison 1"] {
            for (action, version) in [("created", 1), ("updated", 2)] {
                let version = version + 2 * part;
                let action = if version > 2 { "updated" } else { action };
                s.store.append(vec![put(action, name, version)]).await.unwrap();
                if !name.starts_with("dull") && !name.starts_with("poison") {
                    expected.push(format!("note of {name} {version}"));
                }
            }
        }
        if part == 0 {
            for stream in ["events:account_created", "events:account_updated"] {
                let () = s.command(&["XGROUP", "CREATE", stream, "group", "0"]).await;
                let _: redis::Value =
                    s.command(&["XREADGROUP", "GROUP", "group", "dead", "STREAMS", stream, ">"]).await;
                hand_back(&s, stream).await;
            }
        }
    }
    let proxy = Proxy::start(s.redis.single().port()).await.unwrap();
    let task = if matches!(at, Killed::InHandler) { "hang" } else { "live" };
    let mut child = Child::start_at(task, &proxy.url(), s.redis.layout());
    eventually("the child is connected", || async {
        s.store.entity(ACCOUNT, "here").await.unwrap().is_some()
    })
    .await;
    if let Killed::At(what, named, nth) | Killed::Never(what, named, nth) = at {
        proxy.lose(what, named, nth);
    }
    s.store.append(vec![put("closed", "begin", 1)]).await.unwrap();
    let signals = || async { s.command::<u64>(&["EXISTS", "events:account_opened"]).await > 0 };
    match at {
        Killed::InHandler => eventually("it hangs in a handler", signals).await,
        _ => eventually(&format!("{at:?} is reached"), || async { proxy.lost() > 0 }).await,
    }
    let survivor = if matches!(at, Killed::Never(..)) {
        None
    } else {
        assert!(child.kill(), "{at:?}: it was alive until then");
        let handler = Answers { attempts: std::sync::Mutex::default(), hangs: None };
        Some(run(&s.store, subscription("survivor"), handler))
    };
    let dead = s.store.dead_letters("group", "account");
    expected.sort();
    eventually(&format!("{at:?}: all is finished"), || async {
        s.command::<u64>(&["SCARD", "note_ids"]).await == expected.len() as u64
            && dead.count().await.unwrap() == 4
            && pending(&s).await == 0
    })
    .await;
    drop(child);
    if let Some(survivor) = survivor {
        survivor.stop().await;
    }
    let mut notes = Vec::new();
    s.store.replay(&[NOTE.stream("created")], |event| notes.push(event.entity_id)).await.unwrap();
    notes.sort();
    assert_eq!(notes, expected, "{at:?}: each output exactly once");
    let letters = dead.list(Id::ZERO, 10).await.unwrap();
    let mut parked: Vec<Id> = letters.iter().map(|l| l.id).collect();
    parked.sort();
    parked.dedup();
    assert_eq!(parked.len(), 4, "{at:?}: parked once each: {letters:?}");
}

async fn killed_at_each(points: Vec<Killed>, setup: Setup) {
    // A few at a time: each has a server and a process of its own.
    for some in points.chunks(6) {
        let tasks: Vec<_> = some.iter().map(|at| tokio::spawn(killed(*at, setup))).collect();
        for task in tasks {
            task.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_are_there_exactly_once_wherever_between_read_and_reply_a_process_is_killed() {
    let mut points = vec![Killed::InHandler];
    for lost in [Lost::Command, Lost::Reply] {
        // 2: after the two pending lists, the first read of new entries.
        for (named, nth) in
            [("join", 1), ("XREADGROUP", 2), ("_claim", 0), ("ready", 0), ("finish", 0), ("finish", 1)]
        {
            points.push(Killed::At(lost, named, nth));
        }
        points.extend([Killed::At(lost, "park", 0), Killed::At(lost, "upkeep", 2)]);
    }
    killed_at_each(points, Setup::Plain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_command_or_reply_is_asked_for_again_and_done_once_without_any_kill() {
    let mut points = Vec::new();
    for lost in [Lost::Command, Lost::Reply] {
        for (named, nth) in [("XREADGROUP", 2), ("_claim", 0), ("ready", 0), ("finish", 0), ("park", 0)] {
            points.push(Killed::Never(lost, named, nth));
        }
    }
    killed_at_each(points, Setup::Plain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_of_another_slot_are_appended_ahead_and_there_exactly_once_too() {
    let mut points = Vec::new();
    for lost in [Lost::Command, Lost::Reply] {
        for (named, nth) in [("append", 0), ("append", 2), ("finish", 0), ("finish", 1)] {
            points.push(Killed::At(lost, named, nth));
        }
    }
    killed_at_each(points, Setup::Tagged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_whose_outputs_are_refused_changes_nothing_for_those_finished_with_it() {
    let s = plain().await;
    s.store.append(vec![NewEvent::put(NOTE, "created", "taken", &json!({}))]).await.unwrap();
    let events: Vec<NewEvent> = (0..40).map(|n| put("created", &format!("a{n}"), n)).collect();
    s.store.append(events).await.unwrap();
    let tried: Arc<std::sync::Mutex<HashMap<u64, usize>>> = Arc::default();
    let answer = move |event: Event| {
        let n = event.entity["amount"].as_u64().unwrap();
        let mut tried = tried.lock().unwrap();
        let attempt = tried.entry(n).or_default();
        *attempt += 1;
        let id = match n % 4 {
            0 if *attempt == 1 => "taken".to_owned(),
            1 => "no {id}".to_owned(),
            _ => format!("note {n}"),
        };
        let note = NewEvent::put(NOTE, "created", id, &json!({})).expect(event_store::Expected::None);
        std::future::ready(Outcome::Done(vec![note]))
    };
    let consumer = run(&s.store, subscription("one"), Recorder { seen: Seen::default(), answer });
    let dead = s.store.dead_letters("group", "account");
    eventually("thirty notes and ten dead letters", || async {
        s.command::<u64>(&["SCARD", "note_ids"]).await == 31 && dead.count().await.unwrap() == 10
    })
    .await;
    consumer.stop().await;
    assert_eq!(s.command::<u64>(&["XLEN", "events:note_created"]).await, 31);
    assert_eq!(pending(&s).await, 0);
}

/// As a handler does that expects the version of its event, when something else has happened to the entity since; and
/// one that expects an entity that never was.
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_that_lasts_is_counted_as_failed_attempts_logged_and_parked_with_its_reason() {
    for expected in [None, Some(event_store::Expected::Exists)] {
        conflicts_for_ever(expected).await;
    }
}

async fn conflicts_for_ever(expected: Option<event_store::Expected>) {
    let s = server().await;
    s.store.append(vec![put("created", "a", 0)]).await.unwrap();
    s.store.append(vec![put("renamed", "a", 0)]).await.unwrap();
    s.store.append(vec![put("created", "b", 0)]).await.unwrap();
    let answer = move |event: Event| {
        let credited = match expected {
            Some(expected) if event.entity_id == "a" => put("credited", "never", 100).expect(expected),
            _ => put("credited", &event.entity_id, 100).expect(event_store::Expected::Exactly(event.version)),
        };
        std::future::ready(Outcome::Done(vec![credited]))
    };
    let one = subscription("one").park_after(4);
    let consumer = s.store.subscribe(one);
    let observed = consumer.observe();
    let cancel = CancellationToken::new();
    let handler = Recorder { seen: Seen::default(), answer };
    let log = Lines::default();
    let running = tokio::spawn(consumer.run(handler, cancel.clone()).with_subscriber(log.clone()));
    eventually("a is parked and b is handled", || async {
        (observed.parked(), observed.handled()) == (1, 1)
    })
    .await;
    assert_eq!((observed.conflicted(), observed.retried()), (4, 0));
    let letters = s.store.dead_letters("group", "account").list(Id::ZERO, 10).await.unwrap();
    assert_eq!((letters.len(), letters[0].attempts), (1, 4));
    let reason = &letters[0].reason;
    assert!(reason.contains(if expected.is_none() { "version" } else { "does not exist" }), "{reason}");
    cancel.cancel();
    running.await.unwrap().unwrap();
    let again = log.with_message("to be tried again");
    assert_eq!(again.len(), 1, "the third of four attempts, the fourth is parked: {again:?}");
    let parked = log.with_message("parked");
    assert!(
        parked.len() == 1 && parked[0].contains(reason) && parked[0].contains("entity=\"a\""),
        "{parked:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_with_the_id_of_another_event_parks_its_event_and_one_that_is_there_already_is_accepted() {
    for entity_of in [|_: &str| "n".to_owned(), |name: &str| format!("n-{name}")] {
        outputs_of_one_id(entity_of).await;
    }
}

async fn outputs_of_one_id(entity_of: fn(&str) -> String) {
    let s = server().await;
    let id = event_store::Uuid::new_v4();
    // What another attempt, or another program, has appended before: the same event with the same id.
    let note = move |name: &str| {
        NewEvent::put(NOTE, "created", entity_of(name), &json!({ "text": name })).event_id(id)
    };
    s.store.append(vec![note("first")]).await.unwrap();
    for name in ["first", "second", "third"] {
        s.store.append(vec![put("created", name, 1)]).await.unwrap();
    }
    let answer = move |event: Event| std::future::ready(Outcome::Done(vec![note(&event.entity_id)]));
    let consumer = run(&s.store, subscription("one"), Recorder { seen: Seen::default(), answer });
    let dead = s.store.dead_letters("group", "account");
    eventually("two are parked", || async { dead.count().await.unwrap() == 2 }).await;
    eventually("the other one is finished", || async { pending(&s).await == 0 }).await;
    consumer.stop().await;
    let letters = dead.list(Id::ZERO, 10).await.unwrap();
    let reasons: Vec<&str> = letters.iter().map(|letter| letter.reason.as_str()).collect();
    assert!(reasons.iter().all(|reason| reason.contains("id")), "{reasons:?}");
    assert_eq!(s.store.entity(NOTE, &entity_of("first")).await.unwrap().unwrap().version, 1);
}
