//! A master that sentinels watch, and what becomes of a store when another server takes its place. Real
//! sentinels, whatever the run is about: the layout is the plain one.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::doctor::{self, Severity};
use event_store::testing::Sentinels;
use event_store::{Config, ConnectErrorKind, EventStore, Id, Subscription, SubscriptionErrorKind};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{ACCOUNT, Seen, count, patiently, put, recorder, versions};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

fn config(sentinels: &Sentinels) -> Config {
    Config::sentinel(sentinels.name(), sentinels.urls())
        .append_deadline(Duration::from_mins(2))
        // A master that hangs is given up by its silence alone.
        .response_timeout(Duration::from_secs(1))
}

fn streams() -> [event_store::StreamName; 2] {
    [ACCOUNT.stream("created"), ACCOUNT.stream("updated")]
}

struct Group {
    observed: event_store::Observation,
    seen: Seen,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Group {
    fn of_one(store: &EventStore) -> Self {
        let (seen, cancel) = (Seen::default(), CancellationToken::new());
        // Nobody dies but servers: a claim would be a second handling.
        let one = Subscription::new("group", "one").streams(streams()).claim_after(Duration::from_mins(2));
        let consumer = store.subscribe(one);
        let observed = consumer.observe();
        let running = consumer.run(recorder(&seen), cancel.clone());
        let task = tokio::spawn(async move { running.await.unwrap() });
        Self { observed, seen, cancel, task }
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap();
    }
}

type Ids = Arc<Mutex<Vec<Id>>>;

/// Follows the log, and remembers the ids in the order in which they were handed out.
fn follower(store: &EventStore, stop: &CancellationToken) -> (Ids, JoinHandle<()>) {
    let (mut tail, stop) = (store.tail(streams().to_vec(), Id::ZERO), stop.clone());
    let ids = Ids::default();
    let followed = ids.clone();
    let following = tokio::spawn(async move {
        while let Some(read) = stop.run_until_cancelled(tail.next()).await {
            match read {
                Ok(events) => ids.lock().unwrap().extend(events.into_iter().map(|event| event.id)),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    });
    (followed, following)
}

/// Reads an entity all the time; no read fails, however long it takes. Answers how many there were.
fn reader(store: &EventStore, stop: &CancellationToken) -> JoinHandle<u64> {
    let (store, stop) = (store.clone(), stop.clone());
    tokio::spawn(async move {
        let mut reads = 0;
        while !stop.is_cancelled() {
            assert_eq!(store.entity(ACCOUNT, "a").await.unwrap().unwrap().version, 30);
            reads += 1;
        }
        reads
    })
}

async fn append(store: &EventStore, entity: &str, versions: std::ops::RangeInclusive<u64>) -> Vec<Id> {
    let mut ids = Vec::new();
    for n in versions {
        let action = if n == 1 { "created" } else { "updated" };
        ids.push(store.append(vec![put(action, entity, n)]).await.unwrap()[0].id);
    }
    ids
}

/// Waits until the replica is the master to all sentinels: the store follows the first that says so.
async fn promoted(sentinels: &Sentinels) {
    let replica = Some(sentinels.servers()[1].port());
    patiently("all sentinels name the replica", || async { sentinels.master_port() == replica }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_by_sentinels_is_followed_and_ids_groups_and_tails_go_on() {
    let mut sentinels = Sentinels::start();
    let store = EventStore::connect(config(&sentinels)).await.unwrap();
    let group = Group::of_one(&store);
    let stop = CancellationToken::new();
    let (followed, tailing) = follower(&store, &stop);
    let mut ids = append(&store, "a", 1..=30).await;
    patiently("they are handled", || async { count(&group.seen) == 30 }).await;
    sentinels.wait_for_replica();
    let reading = reader(&store, &stop);
    sentinels.server_mut(0).kill();
    ids.extend(append(&store, "b", 1..=30).await);
    promoted(&sentinels).await;
    patiently("all are handled", || async { count(&group.seen) >= 60 }).await;
    for entity in ["a", "b"] {
        assert_eq!(versions(&group.seen, entity), (1..=30).collect::<Vec<u64>>(), "{entity}");
    }
    assert!(ids.is_sorted_by(|a, b| a < b), "ids increase");
    assert!(group.observed.ready() && group.observed.fault().is_none());
    group.stop().await;
    let mut log = Vec::new();
    store.replay(&streams(), |event| log.push(event.id)).await.unwrap();
    assert_eq!(log, ids, "the log has every event once");
    patiently("the tail has read on at the new master", || async { followed.lock().unwrap().len() >= 60 })
        .await;
    stop.cancel();
    tailing.await.unwrap();
    assert_eq!(*followed.lock().unwrap(), ids);
    assert!(reading.await.unwrap() > 1, "reads went on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_hangs_and_comes_back_deposed_has_no_event_that_was_acknowledged_later() {
    let sentinels = Sentinels::start();
    let store = EventStore::connect(config(&sentinels)).await.unwrap();
    let mut ids = append(&store, "a", 1..=10).await;
    sentinels.wait_for_replica();
    sentinels.servers()[0].stall();
    ids.extend(append(&store, "b", 1..=10).await);
    promoted(&sentinels).await;
    sentinels.servers()[0].resume();
    ids.extend(append(&store, "c", 1..=10).await);
    assert!(ids.is_sorted_by(|a, b| a < b), "ids increase");
    let mut log = Vec::new();
    store.replay(&streams(), |event| log.push(event.id)).await.unwrap();
    assert_eq!(log, ids, "the log has every event once, also the one that waited at the old master");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_that_lost_the_tail_of_the_log_is_reported_and_not_passed_over() {
    let mut sentinels = Sentinels::start();
    let store = EventStore::connect(config(&sentinels)).await.unwrap();
    let group = Group::of_one(&store);
    append(&store, "a", 1..=5).await;
    patiently("they are handled", || async { count(&group.seen) == 5 }).await;
    sentinels.wait_for_replica();
    sentinels.server_mut(1).kill();
    let lost = append(&store, "a", 6..=8).await;
    patiently("the lost ones are handled", || async { count(&group.seen) == 8 }).await;
    sentinels.server_mut(0).kill();
    sentinels.server_mut(1).restart();
    patiently("the group says so", || async { group.observed.fault().is_some() }).await;
    let fault = group.observed.fault().unwrap();
    assert!(
        matches!(fault.kind(), SubscriptionErrorKind::LogWentBack { stream, known, last }
            if stream.action() == "updated" && *known == lost[2] && *last < lost[0]),
        "{fault}"
    );
    append(&store, "b", 1..=1).await;
    assert_eq!(count(&group.seen), 8, "nothing is handled until a person has looked");
    store.accept_log("group", &streams()).await.unwrap();
    patiently("it goes on", || async { versions(&group.seen, "b") == [1] }).await;
    group.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_opens_while_a_sentinel_is_away_and_the_doctor_says_what_is_missing() {
    let mut sentinels = Sentinels::start();
    let subjects = async |config: &Config| -> Vec<(Severity, &'static str)> {
        doctor::diagnose(config).await.unwrap().into_iter().map(|f| (f.severity, f.subject)).collect()
    };
    let whole = config(&sentinels);
    let about_sentinels = |found: Vec<(Severity, &'static str)>| -> Vec<(Severity, &'static str)> {
        found.into_iter().filter(|(_, subject)| subject.starts_with("sentinel")).collect()
    };
    assert_eq!(about_sentinels(subjects(&whole).await), [(Severity::Info, "sentinel-isolation")]);
    sentinels.kill_sentinel(0);
    EventStore::connect(whole.clone()).await.unwrap().append(vec![put("created", "a", 1)]).await.unwrap();
    let found = about_sentinels(subjects(&whole).await);
    assert!(found.contains(&(Severity::Warn, "sentinel")), "one is away: {found:?}");
    sentinels.kill_sentinel(1);
    // The last one finds out by itself, after a while.
    patiently("no failover could be decided", || async {
        about_sentinels(subjects(&whole).await).contains(&(Severity::Warn, "sentinel-quorum"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_no_sentinel_watches_and_a_server_that_is_none_are_refused_with_what_is_wrong() {
    let sentinels = Sentinels::start();
    let error = EventStore::connect(Config::sentinel("other", sentinels.urls())).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Unavailable);
    assert!(error.to_string().contains("watches no master \"other\""), "{error}");
    let server = sentinels.servers()[0].url();
    let error = EventStore::connect(Config::sentinel("ledger", [server])).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Unavailable, "{error}");
    // One that a sentinel takes for a master, and that is a replica of another.
    let (sentinel, replica) = (&sentinels.urls()[0], sentinels.servers()[1].port());
    let mut open = event_store::testing::patient_connection(&**sentinel).await.unwrap();
    let mut monitor = redis::cmd("SENTINEL");
    monitor.arg("MONITOR").arg("deposed").arg("127.0.0.1").arg(replica).arg(1);
    monitor.exec_async(&mut open).await.unwrap();
    let error = EventStore::connect(Config::sentinel("deposed", [sentinel])).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Unavailable);
    assert!(error.to_string().contains("it is a replica"), "{error}");
}
