//! What breaks between a program and its server, and is over at some time: nobody restarts the program.
//! What a lost answer means for an append is in `idempotence.rs`.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::testing::{Line, Proxy, Redis};
use event_store::{AppendErrorKind, Config, EventStore, Id, Observation, Subscription};
use std::time::Duration;
use support::{ACCOUNT, Seen, ask, count, patiently, put, recorder, versions};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

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
