//! What breaks between a program and its server, and is over at some time: nobody restarts the program.
//! What a lost answer means for an append is in `idempotence.rs`.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::testing::{Line, Proxy, Redis};
use event_store::{
    AppendErrorKind, Config, Durability, EventStore, Id, Observation, Projection, ReadErrorKind,
    Subscription, Uuid,
};
use std::time::Duration;
use support::log::Lines;
use support::{ACCOUNT, Seen, Server, ask, count, eventually, patiently, put, recorder, server, versions};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::instrument::WithSubscriber;

/// The answer to a deadline may be late by this much: what a busy machine needs to run a task.
const SLACK: Duration = Duration::from_secs(10);

/// A program that appends, handles and follows.
struct Program {
    store: EventStore,
    seen: Seen,
    observed: Observation,
    cancel: CancellationToken,
    running: JoinHandle<()>,
}

impl Program {
    async fn start(config: Config) -> Self {
        let impatient =
            config.append_deadline(Duration::from_secs(2)).response_timeout(Duration::from_secs(5));
        let store = EventStore::connect(impatient).await.unwrap();
        let (seen, cancel) = (Seen::default(), CancellationToken::new());
        let streams = [ACCOUNT.stream("created"), ACCOUNT.stream("updated")];
        let consumer = store.subscribe(Subscription::new("group", "one").streams(streams));
        let observed = consumer.observe();
        let running = consumer.run(recorder(&seen), cancel.clone());
        let running = tokio::spawn(async move { running.await.unwrap() });
        Self { store, seen, observed, cancel, running }
    }

    /// An append while nothing can be reached: nobody may be told that it was refused.
    async fn fails_for_now(&self) -> String {
        let error = self.store.append(vec![put("updated", "a", 2)]).await.unwrap_err();
        let passing = matches!(error.kind(), AppendErrorKind::Unavailable | AppendErrorKind::Unknown { .. });
        assert!(passing, "{error}");
        error.to_string()
    }

    async fn goes_on(&self) {
        let event = put("updated", "a", 3);
        patiently("an append is answered", || async { self.store.append(vec![event.clone()]).await.is_ok() })
            .await;
        let streams = [ACCOUNT.stream("created"), ACCOUNT.stream("updated")];
        let read = self.store.tail(streams.to_vec(), Id::ZERO).next().await.unwrap();
        // What failed for now may have been appended, when only its answer was lost.
        let all: Vec<_> = (1..=read.len() as u64).collect();
        assert!(all.len() >= 2, "{read:?}");
        patiently("the group goes on", || async { count(&self.seen) == all.len() && self.observed.ready() })
            .await;
        assert_eq!(versions(&self.seen, "a"), all);
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.running.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_switched_off_and_on_again_is_served_again_without_a_restart() {
    let redis = Redis::start();
    let user = ["ACL", "SETUSER", "ledger", "on", ">secret", "~*", "&*", "+@all"];
    let () = ask(&redis, &user).await;
    let url = format!("redis://ledger:secret@127.0.0.1:{}", redis.port());
    let program = Program::start(Config::new(url)).await;
    program.store.append(vec![put("created", "a", 1)]).await.unwrap();
    patiently("it is handled", || async { count(&program.seen) == 1 }).await;

    let () = ask(&redis, &["ACL", "SETUSER", "ledger", "off"]).await;
    let killed: u64 = ask(&redis, &["CLIENT", "KILL", "USER", "ledger"]).await;
    assert!(killed >= 2, "{killed}: the shared connection, and that of the blocking reader");
    let said = program.fails_for_now().await;
    assert!(said.contains("authentication failed"), "it says why: {said}");
    patiently("the group knows", || async { !program.observed.ready() }).await;

    let () = ask(&redis, &["ACL", "SETUSER", "ledger", "on"]).await;
    program.goes_on().await;
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_program_that_answers_in_the_servers_place_for_a_while_stops_nothing_for_good() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port()).await.unwrap();
    let program = Program::start(Config::new(proxy.url())).await;
    program.store.append(vec![put("created", "a", 1)]).await.unwrap();
    patiently("it is handled", || async { count(&program.seen) == 1 }).await;

    proxy.set(Line::Foreign);
    proxy.cut();
    program.fails_for_now().await;
    patiently("the group knows", || async { !program.observed.ready() }).await;

    proxy.set(Line::Good);
    program.goes_on().await;
    program.stop().await;
}

/// Each kind of read of this store, once.
async fn all_reads(store: EventStore) -> Result<(), event_store::ReadError> {
    let streams = [ACCOUNT.stream("created"), ACCOUNT.stream("updated")];
    let view = store.project(Projection::new("owners", 1).streams(streams.clone())).view();
    let (inspector, letters) = (store.inspect(), store.dead_letters("group", ACCOUNT.name()));
    let (head, entity, entities, ids, of_owner, last, fields, infos, dead, projections) = tokio::join!(
        store.head(),
        store.entity(ACCOUNT, "a"),
        store.entities(ACCOUNT, &["a", "b"]),
        store.ids(ACCOUNT),
        store.ids_where(ACCOUNT, "owner", "owner of a"),
        store.head_of(&streams),
        view.hash_get("owners", &["a"]),
        inspector.streams(&streams, false),
        letters.count(),
        store.projections(),
    );
    assert_eq!((head? > Id::ZERO, entity?.is_some(), entities?.len()), (true, true, 2));
    assert_eq!((ids?.len(), of_owner?.len(), last? > Id::ZERO), (1, 1, true));
    assert_eq!((fields?.len(), infos?.len(), dead?, projections?.len()), (1, 2, 0, 0));
    Ok(())
}

/// A restart or a failover is a slow read, not a failed one.
#[tokio::test(flavor = "multi_thread")]
async fn reads_wait_for_a_server_that_is_away_and_comes_back() {
    let mut redis = Redis::start_with(&["--appendfsync", "always"]);
    let store = EventStore::connect(Config::new(redis.url())).await.unwrap();
    store.append(vec![put("created", "a", 1)]).await.unwrap();
    redis.kill();
    let reads = tokio::spawn(all_reads(store.clone()));
    assert!(store.ping().await.is_err(), "a probe does not wait");
    let restarted = tokio::task::spawn_blocking(move || {
        redis.restart();
        redis
    });
    let _redis = restarted.await.unwrap();
    reads.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_on_a_server_that_is_away_answers_within_its_deadline() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port()).await.unwrap();
    let deadline = Duration::from_millis(700);
    let config = Config::new(proxy.url()).read_deadline(deadline);
    let store = EventStore::connect(config.response_timeout(Duration::from_mins(1))).await.unwrap();
    for (line, cut) in [(Line::Stalled, false), (Line::Refusing, true)] {
        proxy.set(line);
        if cut {
            proxy.cut();
        }
        let answer = timeout(deadline + SLACK, store.entity(ACCOUNT, "a"));
        let error =
            answer.await.unwrap_or_else(|_| panic!("{line:?}: no answer within the deadline")).unwrap_err();
        assert_eq!(error.kind(), ReadErrorKind::Unavailable, "{error}");
        proxy.set(Line::Good);
        // A busy machine may need longer than one deadline for a new connection.
        eventually("a read is answered again", || async { store.entity(ACCOUNT, "a").await.is_ok() }).await;
    }
}

/// Callers that give up before the response timeout would otherwise ask on a dead connection for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_silent_is_replaced_though_its_callers_give_up_early() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port()).await.unwrap();
    let config = Config::new(proxy.url()).read_deadline(Duration::from_millis(1_200));
    let store = EventStore::connect(config.response_timeout(Duration::from_hours(1))).await.unwrap();
    proxy.silence();
    eventually("a read is answered", || async { store.head().await.is_ok() }).await;
}

/// A server that is connected and silent, for the first append and for one that finds no connection.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_answers_within_its_deadline_whatever_the_server_does() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port()).await.unwrap();
    let deadline = Duration::from_secs(1);
    let config = Config::new(proxy.url()).append_deadline(deadline).response_timeout(Duration::from_hours(1));
    let store = EventStore::connect(config).await.unwrap();
    let events: Vec<_> =
        (1..=4).map(|n| put("created", &n.to_string(), 1).event_id(Uuid::new_v4())).collect();
    let appended = async |n: usize| {
        let answer = timeout(deadline + SLACK, store.append(vec![events[n].clone()]));
        let error = answer.await.expect("an answer within the deadline").unwrap_err();
        assert_eq!(error.kind(), AppendErrorKind::Unavailable, "unknown, so not 'refused': {error}");
    };
    redis.stall();
    appended(0).await;
    // The first one's call still waits; more than fit into the calls under way, and a connection that is new.
    tokio::join!(appended(1), appended(2), appended(3));
    proxy.cut();
    appended(3).await;
    redis.resume();
    for event in &events {
        patiently("appending again is safe", || async { store.append(vec![event.clone()]).await.is_ok() })
            .await;
    }
    assert_eq!(ask::<u64>(&redis, &["XLEN", "events:account_created"]).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_logged_once_when_it_begins_and_once_when_it_is_over() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port()).await.unwrap();
    let config = Config::new(proxy.url()).append_deadline(Duration::from_secs(1));
    let store = EventStore::connect(config).await.unwrap();
    let (handled, projected, cancel) = (Lines::default(), Lines::default(), CancellationToken::new());
    let streams = [ACCOUNT.stream("created")];
    let consumer = store.subscribe(Subscription::new("group", "one").streams(streams.clone()));
    let projector = store.project(Projection::new("view", 1).streams(streams));
    let (group, projection, view) = (consumer.observe(), projector.observe(), projector.view());
    let consuming = consumer.run(recorder(&Seen::default()), cancel.clone());
    let consuming = tokio::spawn(consuming.with_subscriber(handled.clone()));
    let projecting = projector.run(|_| Vec::new(), cancel.clone());
    let projecting = tokio::spawn(projecting.with_subscriber(projected.clone()));
    eventually("both read", || async { group.ready() && projection.ready() }).await;

    proxy.set(Line::Refusing);
    proxy.cut();
    eventually("both know", || async { !group.ready() && !projection.ready() }).await;
    assert_eq!(projection.fault(), None, "no person need correct anything");
    // Both try again several times meanwhile.
    store.append(vec![put("created", "a", 1)]).await.unwrap_err();

    proxy.set(Line::Good);
    patiently("both read again", || async { group.ready() && projection.ready() }).await;
    let id = store.append(vec![put("created", "b", 1)]).await.unwrap()[0].id;
    view.wait_until(id, Duration::from_secs(20)).await.unwrap();
    cancel.cancel();
    consuming.await.unwrap().unwrap();
    projecting.await.unwrap().unwrap();
    let (begins, over) = ("cannot read, trying again", "reads again");
    assert_eq!(handled.that_say([begins, over]), [format!("WARN {begins}"), format!("INFO {over}")]);
    let (begins, over) = ("cannot follow the log, trying again", "follows the log again");
    assert_eq!(projected.that_say([begins, over]), [format!("WARN {begins}"), format!("INFO {over}")]);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn a_store_outlives_the_runtime_that_it_was_opened_on() {
    let s = runtime().block_on(server());
    let two_copies = Durability::Replicas { count: 2, timeout: Duration::from_millis(1) };
    for n in 0..3 {
        let cancel = CancellationToken::new();
        runtime().block_on(async {
            let version = s.store.append(vec![put("updated", "a", n)]).await.unwrap()[0].version;
            assert_eq!(version, 2 * n + 1);
            // The writer for appends that wait for copies is another one.
            let error = s.store.append_with(vec![put("updated", "a", n)], two_copies).await.unwrap_err();
            assert!(matches!(error.kind(), AppendErrorKind::Unknown { .. }), "{error}");
            assert_eq!(s.store.entity(ACCOUNT, "a").await.unwrap().unwrap().version, 2 * n + 2);
            let seen = Seen::default();
            let subscription =
                Subscription::new(format!("group{n}"), "one").streams([ACCOUNT.stream("updated")]);
            tokio::spawn(s.store.subscribe(subscription).run(recorder(&seen), cancel.clone()));
            eventually("all of it is handled", || async { count(&seen) as u64 == 2 * n + 2 }).await;
        });
    }
}

#[test]
fn an_append_on_its_way_when_the_runtime_of_the_writer_ends_is_one_event() {
    let first = runtime();
    let s = first.block_on(server());
    let second = runtime();
    let enough = CancellationToken::new();
    let append = async |s: &Server, task: u64| {
        let mut appended = 0;
        while !enough.is_cancelled() {
            let event = put("updated", &task.to_string(), appended);
            appended += 1;
            assert_eq!(s.store.append(vec![event]).await.unwrap()[0].version, appended);
        }
        appended
    };
    let length = async || s.command::<u64>(&["XLEN", "events:account_updated"]).await;
    let appended = std::thread::scope(|scope| {
        let appending = scope
            .spawn(|| second.block_on(futures_util::future::join_all((0..8).map(|task| append(&s, task)))));
        let third = runtime();
        third.block_on(eventually("they append", || async { length().await > 8 }));
        drop(first);
        let before = third.block_on(length());
        third.block_on(eventually("they append with another writer", || async { length().await > before }));
        enough.cancel();
        appending.join().unwrap()
    });
    assert_eq!(second.block_on(length()), appended.into_iter().sum::<u64>());
}
