//! What typed events promise, on a real server: programs of two versions on one store.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "a test may end at once")]

mod support;

use event_store::{
    CancellationToken, DecodeErrorKind, EntityType, Event, Expected, Id, Kind, NewEvent, Outcome,
    ReadErrorKind, Select, Subscription, Typed, TypedEvent, TypedHandler, Upcaster,
};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{eventually, server};

/// The program as it was: accounts in whole euros, opened and closed.
mod old {
    use super::*;

    #[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
    pub struct Account {
        pub id: String,
        pub amount: i64,
    }

    impl EntityType for Account {
        type State = Self;
        const KIND: Kind = Kind::new("account");

        fn id(account: &Self) -> &str {
            &account.id
        }
    }

    event_store::events! {
        #[derive(Debug, PartialEq)]
        pub enum AccountEvent {
            Opened(Account) = put "opened",
            Closed(Account) = remove "closed",
        }
    }
}

/// The program as it is now: the same field counts cents, and accounts can be frozen. What it writes
/// deserializes as the old state too, and would be a hundred times too much.
mod new {
    use super::*;

    #[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
    pub struct Account {
        pub id: String,
        pub amount: i64,
    }

    impl EntityType for Account {
        type State = Self;
        const KIND: Kind = Kind::new("account");
        const UPCASTERS: &'static [Upcaster] = &[|account| {
            if let Some(amount) = account.get("amount").and_then(serde_json::Value::as_i64) {
                account.insert("amount".to_owned(), (100 * amount).into());
            }
        }];

        fn id(account: &Self) -> &str {
            &account.id
        }
    }

    event_store::events! {
        #[derive(Debug, PartialEq)]
        pub enum AccountEvent {
            Opened(Account) = put "opened",
            Frozen(Account) = put "frozen",
            Closed(Account) = remove "closed",
        }
    }
}

fn old_account(amount: i64) -> old::Account {
    old::Account { id: "a".to_owned(), amount }
}

fn new_account(amount: i64) -> new::Account {
    new::Account { id: "a".to_owned(), amount }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_program_reads_what_an_old_one_wrote_from_log_and_cache_alike() {
    let s = server().await;
    s.store.append(vec![old::AccountEvent::Opened(old_account(7)).write()]).await.unwrap();
    let mut events: Vec<new::AccountEvent> = Vec::new();
    s.store.replay(&new::AccountEvent::streams(), |e| events.push(e.typed().unwrap())).await.unwrap();
    assert_eq!(events, [new::AccountEvent::Opened(new_account(700))]);
    let loaded = s.store.load::<new::Account>("a").await.unwrap().unwrap();
    assert_eq!((loaded.state.amount, loaded.version), (700, 1));
    // What it writes on is of its own schema, in the cache too.
    let next = new::AccountEvent::Frozen(new_account(650)).write().expect(Expected::Exactly(1));
    s.store.append(vec![next]).await.unwrap();
    let loaded = s.store.load::<new::Account>("a").await.unwrap().unwrap();
    assert_eq!((loaded.state.amount, loaded.version), (650, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_program_never_misreads_what_a_new_one_wrote() {
    let s = server().await;
    let appended = s.store.append(vec![new::AccountEvent::Opened(new_account(700)).write()]).await.unwrap();
    let mut events: Vec<Event> = Vec::new();
    s.store.replay(&old::AccountEvent::streams(), |e| events.push(e)).await.unwrap();
    let error = events[0].typed::<old::AccountEvent>().unwrap_err();
    assert_eq!(error.kind(), DecodeErrorKind::NewerSchema { schema: 2, known: 1 });
    assert_eq!(error.id(), appended[0].id);
    let error = s.store.load::<old::Account>("a").await.unwrap_err();
    assert_eq!(error.kind(), ReadErrorKind::NewerSchema { schema: 2, known: 1 }, "nor decides on its cache");
    // An old program that writes without looking is marked as such, so the new one reads it right.
    s.store.append(vec![old::AccountEvent::Opened(old_account(8)).write()]).await.unwrap();
    assert_eq!(s.store.load::<new::Account>("a").await.unwrap().unwrap().state.amount, 800);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_a_program_does_not_know_is_an_error_that_says_so() {
    let s = server().await;
    s.store.append(vec![new::AccountEvent::Frozen(new_account(700)).write()]).await.unwrap();
    let other = NewEvent::put(Kind::within("account", "card"), "opened", "c", &old_account(1));
    s.store.append(vec![other]).await.unwrap();
    let mut kinds = Vec::new();
    let fold = |e: Event| kinds.push(e.typed::<old::AccountEvent>().unwrap_err().kind());
    s.store.replay(&new::AccountEvent::streams(), fold).await.unwrap();
    assert_eq!(kinds, [DecodeErrorKind::Unknown; 2], "another action, and another kind in a known stream");
}

struct Recorder<E> {
    seen: Arc<Mutex<Vec<E>>>,
}

impl<E: TypedEvent + 'static> TypedHandler for Recorder<E> {
    type Event = E;

    async fn handle(&self, event: E, _: &Event) -> Outcome {
        self.seen.lock().unwrap().push(event);
        Outcome::Done(Vec::new())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_old_program_does_not_understand_waits_for_the_new_one_in_order() {
    let s = server().await;
    let subscription = |consumer| Subscription::new("group", consumer).streams(new::AccountEvent::streams());
    let of_b = old::Account { id: "b".to_owned(), amount: 1 };
    s.store.append(vec![old::AccountEvent::Opened(old_account(7)).write()]).await.unwrap();
    s.store.append(vec![new::AccountEvent::Frozen(new_account(700)).write()]).await.unwrap();
    s.store.append(vec![new::AccountEvent::Closed(new_account(700)).write()]).await.unwrap();
    s.store.append(vec![old::AccountEvent::Opened(of_b.clone()).write()]).await.unwrap();

    let seen: Arc<Mutex<Vec<old::AccountEvent>>> = Arc::default();
    let cancel = CancellationToken::new();
    let consumer = s.store.subscribe(subscription("old"));
    let running = tokio::spawn(consumer.run(Typed(Recorder { seen: seen.clone() }), cancel.clone()));
    let dead = s.store.dead_letters("group", "account");
    eventually("two of a are parked", || async { dead.count().await.unwrap() == 2 }).await;
    eventually("b is handled", || async { seen.lock().unwrap().len() == 2 }).await;
    cancel.cancel();
    running.await.unwrap().unwrap();
    let expected = [old::AccountEvent::Opened(old_account(7)), old::AccountEvent::Opened(of_b)];
    assert_eq!(*seen.lock().unwrap(), expected);

    let letters = dead.list(Id::ZERO, 10).await.unwrap();
    let raw = letters[0].raw.iter().find(|(name, _)| name == b"entity").unwrap();
    assert_eq!(raw.1, br#"{"id":"a","amount":700}"#, "kept byte for byte");
    assert_eq!(dead.replay(&Select::All).await.unwrap().moved, 2);
    let seen: Arc<Mutex<Vec<new::AccountEvent>>> = Arc::default();
    let cancel = CancellationToken::new();
    let consumer = s.store.subscribe(subscription("new"));
    let running = tokio::spawn(consumer.run(Typed(Recorder { seen: seen.clone() }), cancel.clone()));
    eventually("the new program handles them", || async { seen.lock().unwrap().len() == 2 }).await;
    cancel.cancel();
    running.await.unwrap().unwrap();
    let expected = [new::AccountEvent::Frozen(new_account(700)), new::AccountEvent::Closed(new_account(700))];
    assert_eq!(*seen.lock().unwrap(), expected);
}

struct Freeze;

impl TypedHandler for Freeze {
    type Event = new::AccountEvent;

    async fn handle(&self, event: new::AccountEvent, entry: &Event) -> Outcome {
        match event {
            new::AccountEvent::Opened(account) => {
                let frozen = new::AccountEvent::Frozen(account).write();
                Outcome::Done(vec![frozen.expect(Expected::Exactly(entry.version))])
            }
            _ => Outcome::Skip("frozen or closed".to_owned()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_typed_handler_returns_is_in_the_log_with_its_schema_and_version() {
    let s = server().await;
    s.store.append(vec![old::AccountEvent::Opened(old_account(7)).write()]).await.unwrap();
    let subscription = Subscription::new("freezer", "one").streams(new::AccountEvent::streams());
    let cancel = CancellationToken::new();
    let running = tokio::spawn(s.store.subscribe(subscription).run(Typed(Freeze), cancel.clone()));
    let mut tail = s.store.tail(vec![new::Account::KIND.stream("frozen")], Id::ZERO);
    let events = tokio::time::timeout(Duration::from_secs(20), tail.next()).await.unwrap().unwrap();
    cancel.cancel();
    running.await.unwrap().unwrap();
    assert_eq!((events[0].version, events[0].schema), (2, 2));
    assert_eq!(events[0].typed::<new::AccountEvent>().unwrap(), new::AccountEvent::Frozen(new_account(700)));
}
