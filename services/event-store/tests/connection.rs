//! What breaks between a program and its server, and is over at some time: nobody restarts the program.
//! What a lost answer means for an append is in `idempotence.rs`.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::testing::{Line, Proxy, Redis};
use event_store::{
    AppendErrorKind, Config, EventStore, Id, Observation, Projection, ReadErrorKind, Subscription, Uuid,
};
use std::time::Duration;
use support::{ACCOUNT, Seen, ask, count, eventually, patiently, put, recorder, versions};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The answer to a deadline may be late by this much: what a busy machine needs to run a task.
const SLACK: Duration = Duration::from_secs(2);

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
        assert!(store.entity(ACCOUNT, "a").await.unwrap().is_none());
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
