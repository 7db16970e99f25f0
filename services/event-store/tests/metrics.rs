//! What the facade is told, on a real server.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::{
    Config, Event, EventStore, Expected, GroupState, Metrics, NewEvent, Outcome, Start, StreamName,
    Subscription, SubscriptionError,
};
use serde_json::json;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{ACCOUNT, NOTE, Recorder, Seen, Server, count, eventually, member, put, server};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Counts by what, group and stream.
#[derive(Debug, Default)]
struct Told {
    counts: Mutex<BTreeMap<String, u64>>,
    states: Mutex<BTreeMap<(String, String), GroupState>>,
}

impl Told {
    fn add(&self, what: String, n: u64) {
        *self.counts.lock().unwrap().entry(what).or_default() += n;
    }

    fn of(&self, what: &str) -> u64 {
        self.counts.lock().unwrap().get(what).copied().unwrap_or(0)
    }

    fn state(&self, group: &str, stream: &str) -> Option<GroupState> {
        self.states.lock().unwrap().get(&(group.to_owned(), stream.to_owned())).cloned()
    }
}

impl Metrics for Told {
    fn appended(&self, stream: &StreamName, events: u64) {
        self.add(format!("appended {stream}"), events);
    }
    fn handled(&self, group: &str, stream: &StreamName) {
        self.add(format!("handled {group} {stream}"), 1);
    }
    fn handler_took(&self, group: &str, stream: &StreamName, time: Duration) {
        self.add(format!("asked {group} {stream}"), 1);
        self.add(format!("milliseconds {group} {stream}"), u64::try_from(time.as_millis()).unwrap());
    }
    fn retried(&self, group: &str, stream: &StreamName) {
        self.add(format!("retried {group} {stream}"), 1);
    }
    fn conflicted(&self, group: &str, stream: &StreamName) {
        self.add(format!("conflicted {group} {stream}"), 1);
    }
    fn parked(&self, group: &str, stream: &StreamName) {
        self.add(format!("parked {group} {stream}"), 1);
    }
    fn claimed(&self, group: &str, stream: &StreamName, entries: u64) {
        self.add(format!("claimed {group} {stream}"), entries);
    }
    fn group_state(&self, group: &str, state: &GroupState) {
        let key = (group.to_owned(), state.stream.to_string());
        self.states.lock().unwrap().insert(key, state.clone());
    }
}

async fn observed(s: &Server) -> (EventStore, Arc<Told>) {
    let told = Arc::new(Told::default());
    let config: Config = s.redis.config().metrics(told.clone());
    (EventStore::connect(config).await.unwrap(), told)
}

fn subscription(group: &str) -> Subscription {
    member(group, "one")
        .streams([ACCOUNT.stream("created")])
        .claim_after(Duration::from_millis(400))
        .retry(Duration::from_millis(10), Duration::from_millis(50))
}

struct Running(JoinHandle<Result<(), SubscriptionError>>, CancellationToken);

impl Running {
    async fn stop(self) {
        self.1.cancel();
        self.0.await.unwrap().unwrap();
    }
}

fn run(store: &EventStore, subscription: Subscription, handler: impl event_store::Handler) -> Running {
    let cancel = CancellationToken::new();
    Running(tokio::spawn(store.subscribe(subscription).run(handler, cancel.clone())), cancel)
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_happens_is_counted_once_by_stream_and_group() {
    let s = server().await;
    let (store, told) = observed(&s).await;
    store.append(vec![NewEvent::put(NOTE, "taken", "taken", &json!({}))]).await.unwrap();
    let event = put("created", "dead", 1).event_id(event_store::Uuid::from_u128(1));
    store.append(vec![event.clone()]).await.unwrap();
    store.append(vec![event]).await.unwrap();
    assert_eq!(told.of("appended account_created"), 1, "a repetition appends nothing");
    let () = s.command(&["XGROUP", "CREATE", "events:account_created", "group", "0"]).await;
    let _: redis::Value =
        s.command(&["XREADGROUP", "GROUP", "group", "gone", "STREAMS", "events:account_created", ">"]).await;
    for id in ["plain", "noted", "noted twice", "again", "poison", "late"] {
        store.append(vec![put("created", id, 1)]).await.unwrap();
    }
    let asked: Arc<Mutex<HashSet<String>>> = Arc::default();
    let answer = move |event: Event| {
        let note = |id: String| NewEvent::put(NOTE, "created", id, &json!({}));
        let first = asked.lock().unwrap().insert(event.entity_id.clone());
        std::future::ready(match &*event.entity_id {
            "noted" => Outcome::Done(vec![note("a".to_owned())]),
            "noted twice" => Outcome::Done(vec![note("b".to_owned()), note("c".to_owned())]),
            "again" if first => Outcome::Retry("not yet".to_owned()),
            "poison" => Outcome::Park("poison".to_owned()),
            "late" if first => Outcome::Done(vec![note("taken".to_owned()).expect(Expected::None)]),
            _ => Outcome::Done(Vec::new()),
        })
    };
    let running = run(&store, subscription("group"), Recorder { seen: Seen::default(), answer });
    eventually("all but one are handled", || async { told.of("handled group account_created") == 6 }).await;
    running.stop().await;
    let of = |what: &str| told.of(&format!("{what} group account_created"));
    assert_eq!((of("retried"), of("parked"), of("claimed"), of("conflicted")), (1, 1, 1, 1));
    assert_eq!(of("asked"), 9, "seven events, two of them twice");
    assert_eq!(told.of("appended account_created"), 7);
    assert_eq!(told.of("appended note_created"), 3, "what handlers returned counts, once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_told_with_its_lag_and_the_age_of_its_oldest_entry_and_what_is_unknown_is_none() {
    const EVENTS: u64 = 1600;
    let s = server().await;
    let (store, told) = observed(&s).await;
    let begin = Instant::now();
    let mut ids = Vec::new();
    for part in 0..EVENTS / 100 {
        let events = (0..100).map(|n| put("created", &format!("a{part}-{n}"), n)).collect();
        ids.extend(store.append(events).await.unwrap().into_iter().map(|a| a.id));
    }
    let gate = Arc::new(Semaphore::new(0));
    let stuck = |seen: &Seen| {
        let gate = gate.clone();
        let answer = move |_| {
            let gate = gate.clone();
            async move {
                gate.acquire().await.unwrap().forget();
                Outcome::Done(Vec::new())
            }
        };
        Recorder { seen: seen.clone(), answer }
    };
    let seen = Seen::default();
    let whole = run(&store, subscription("whole"), stuck(&seen));
    // The server cannot count what a group has before it that began in the middle.
    let later = run(&store, subscription("later").start(Start::After(ids[1])), stuck(&seen));
    let state = |group: &str| told.state(group, "account_created");
    eventually("both have read as much as they hold", || async {
        let full = |group| state(group).is_some_and(|state| state.pending >= 1200);
        full("whole") && full("later")
    })
    .await;
    let (known, unknown) = (state("whole").unwrap(), state("later").unwrap());
    assert_eq!(known.lag, Some(EVENTS - known.pending));
    assert_eq!(unknown.lag, None, "unknown is never 0");
    assert!(unknown.pending < EVENTS - 2, "there is more to read");
    let age = known.oldest_pending.unwrap();
    eventually("it grows older", || async { state("whole").unwrap().oldest_pending > Some(age * 2) }).await;
    let older = state("whole").unwrap().oldest_pending.unwrap();
    assert!(older < begin.elapsed() + Duration::from_secs(2), "{older:?}");
    gate.add_permits(4000);
    eventually("both are done", || async { count(&seen) as u64 == 2 * EVENTS - 2 }).await;
    let done = |group: &str| {
        state(group).is_some_and(|s| s.pending == 0 && s.lag == Some(0) && s.oldest_pending.is_none())
    };
    eventually("nothing is left", || async { done("whole") && done("later") }).await;
    whole.stop().await;
    later.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_a_handler_is_its_own_and_not_that_of_those_that_were_asked_with_it() {
    let s = server().await;
    let (store, told) = observed(&s).await;
    for n in 0..3 {
        let id = format!("a{n}");
        store.append(vec![put("created", &id, 0), put("updated", &format!("b{n}"), 1)]).await.unwrap();
    }
    let answer = |event: Event| {
        if event.action() == "updated" {
            // Not a wait for something: the work of this handler.
            std::thread::sleep(Duration::from_millis(200));
        }
        std::future::ready(Outcome::Done(Vec::new()))
    };
    let both = subscription("slow").streams([ACCOUNT.stream("created"), ACCOUNT.stream("updated")]);
    let running = run(&store, both, Recorder { seen: Seen::default(), answer });
    eventually("all are told of", || async {
        told.of("asked slow account_created") + told.of("asked slow account_updated") == 6
    })
    .await;
    running.stop().await;
    assert!(told.of("milliseconds slow account_updated") >= 600);
    let quick = told.of("milliseconds slow account_created");
    assert!(quick < 200, "three quick ones took {quick} ms");
}
