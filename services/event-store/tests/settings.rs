//! What all programs of a store must have in common: kept on the server, changed while programs run, refused where a
//! program that starts says otherwise.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::testing::{Clock, Redis};
use event_store::{
    CancellationToken, Config, ConnectErrorKind, Event, EventStore, Handler, Kind, Layout, NewEvent, Outcome,
    SettingsError, Subscription, Uuid,
};
use serde_json::json;
use std::time::Duration;
use support::{Server, eventually, server};

const HOUR: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);

const OLD: Kind = Kind::new("account");
const NEW: Kind = Kind::new("account").indexes(&["owner"]);

fn owned(kind: Kind, action: &'static str, id: &str, owner: &str) -> NewEvent {
    NewEvent::put(kind, action, id, &json!({ "id": id, "owner": owner, "tags": [owner] }))
}

async fn another(s: &Server) -> EventStore {
    EventStore::connect(s.redis.config()).await.unwrap()
}

async fn streams(s: &Server) -> Vec<event_store::StreamName> {
    s.store.streams().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_states_another_layout_or_window_is_refused_with_both_named() {
    let s = support::plain().await;
    let refused = async |config: Config| {
        let error = EventStore::connect(config).await.unwrap_err();
        assert_eq!(error.kind(), ConnectErrorKind::Settings, "{error}");
        error.to_string()
    };
    let message = refused(s.redis.config().layout(Layout::Tagged)).await;
    assert!(message.contains("plain") && message.contains("tagged"), "{message}");
    let message = refused(s.redis.config().dedup_window(2 * HOUR)).await;
    assert!(message.contains("3600s") && message.contains("7200s"), "{message}");
    EventStore::connect(s.redis.config().dedup_window(HOUR)).await.unwrap();

    // A store of before there were settings.
    s.store.append(vec![owned(OLD, "created", "a", "ada")]).await.unwrap();
    let () = s.command(&["DEL", "eventstore:settings"]).await;
    let message = refused(s.redis.config().layout(Layout::Tagged)).await;
    assert!(message.contains("plain") && message.contains("tagged"), "{message}");
}

/// Ids that the store keeps together: who forgets the newer one forgets all.
fn of_one_bucket(number: u128) -> Uuid {
    Uuid::from_u128(number << 12)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_window_forgets_no_event_id_before_its_time() {
    let clock = Clock::new();
    let redis = Redis::start_by(&clock, &[]);
    let running = EventStore::connect(Config::new(redis.url()).dedup_window(HOUR)).await.unwrap();
    let later = EventStore::connect(Config::new(redis.url())).await.unwrap();
    let append = async |number: u128| {
        let event = owned(OLD, "updated", "a", "ada").event_id(of_one_bucket(number));
        running.append(vec![event]).await.unwrap()[0].id
    };
    // Who repeats an append that was made `minutes` after the beginning is told what it was told then.
    let at = |minutes: u32| clock.ahead(MINUTE * minutes);
    let first = append(1).await;
    at(20);
    let second = append(2).await;
    assert_eq!(append(1).await, first);
    later.set_dedup_window(4 * HOUR, &[]).await.unwrap();
    let third = append(3).await;
    at(59);
    assert_eq!(append(1).await, first);
    at(79);
    assert_eq!(append(2).await, second);
    at(20 + 239);
    assert_eq!(append(3).await, third, "by the longer window, though the program had stated the shorter one");
    let fourth = append(4).await;

    let since = later.set_dedup_window(HOUR, &[]).await.unwrap();
    let error = later.set_dedup_window(2 * HOUR, &[]).await.unwrap_err();
    assert!(matches!(error, SettingsError::Pending { since: known } if known == since), "{error}");
    at(20 + 239 + 239);
    assert_eq!(append(4).await, fourth, "by the window of its time");
    at(20 + 239 + 12 * 60);
    let fifth = append(5).await;
    assert!(append(4).await > fifth, "forgotten after its time");
    at(20 + 239 + 12 * 60 + 59);
    assert_eq!(append(5).await, fifth);
    at(20 + 239 + 12 * 60 + 121);
    assert!(append(5).await > fifth, "by the shorter window now");
    later.set_dedup_window(2 * HOUR, &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_a_release_adds_holds_every_entity_whoever_writes_beside_it() {
    let s = server().await;
    let (old, new) = (s.store.clone(), another(&s).await);
    for n in 0..300 {
        old.append(vec![owned(OLD, "created", &format!("before-{n}"), "ada")]).await.unwrap();
    }
    let stop = CancellationToken::new();
    let writer = tokio::spawn({
        let (old, stop) = (old.clone(), stop.clone());
        async move {
            for n in 0.. {
                if stop.is_cancelled() {
                    return n;
                }
                let id = format!("beside-{n}");
                old.append(vec![owned(OLD, "created", &id, "ada")]).await.unwrap();
                if n % 3 == 0 {
                    old.append(vec![owned(OLD, "updated", &id, "ben")]).await.unwrap();
                }
                if n % 3 == 1 {
                    let removed = NewEvent::remove(OLD, "deleted", &id, &json!({ "id": id }));
                    old.append(vec![removed]).await.unwrap();
                }
            }
            0
        }
    });
    eventually("a program with the index is answered", || async {
        new.ids_where(NEW, "owner", "ada").await.is_ok()
    })
    .await;
    stop.cancel();
    let written: usize = writer.await.unwrap();
    let of_ben: usize = (0..written).filter(|n| n % 3 == 0).count();
    let of_ada = 300 + (0..written).filter(|n| n % 3 == 2).count();
    assert_eq!(new.ids_where(NEW, "owner", "ben").await.unwrap().len(), of_ben);
    assert_eq!(new.ids_where(NEW, "owner", "ada").await.unwrap().len(), of_ada);

    // The release is rolled back, and comes again.
    let old = another(&s).await;
    old.append(vec![owned(OLD, "updated", "before-0", "ben")]).await.unwrap();
    let new = another(&s).await;
    assert_eq!(new.ids_where(NEW, "owner", "ben").await.unwrap().len(), of_ben + 1);
    let verified = new.verify(&[], &streams(&s).await).await.unwrap();
    assert_eq!((verified.differences, verified.unknown_kinds.len()), (Vec::new(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_changed_by_one_command_and_a_program_with_others_does_not_start() {
    let s = server().await;
    let running = s.store.clone();
    running.append(vec![owned(NEW, "created", "a", "ada"), owned(NEW, "created", "b", "ben")]).await.unwrap();
    let with_lists = NEW.lists(&["tags"]);
    let starts = async |kind: Kind| EventStore::connect(s.redis.config().kinds([kind])).await;
    let error = starts(with_lists).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Settings);
    assert!(error.to_string().contains("[] ") || error.to_string().contains("lists []"), "{error}");
    assert!(error.to_string().contains("tags"), "{error}");

    another(&s).await.set_kind(with_lists).await.unwrap();
    running.append(vec![owned(NEW, "updated", "a", "abe")]).await.unwrap();
    let tags: Vec<String> = s.command(&["LRANGE", "account_tags:a", "0", "-1"]).await;
    assert_eq!(tags, ["abe"], "a program that runs takes it over");
    let streams = streams(&s).await;
    let rebuilt = running.rebuild(&[], &streams).await.unwrap();
    assert_eq!((rebuilt.rebuilt, rebuilt.after.differences), (1, Vec::new()));
    let tags: Vec<String> = s.command(&["LRANGE", "account_tags:b", "0", "-1"]).await;
    assert_eq!(tags, ["ben"]);
    starts(with_lists).await.unwrap();
    let error = starts(NEW).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Settings);
    let kind = s.store.settings(&streams).await.unwrap().kinds["account"].kind;
    assert_eq!(kind, with_lists);
}

const COPY: Kind = Kind::within("account", "copy");
const INDEXED_COPY: Kind = COPY.indexes(&["owner"]);

struct Copies;

impl Handler for Copies {
    async fn handle(&self, event: &Event) -> Outcome {
        Outcome::Done(vec![owned(COPY, "copied", &event.entity_id, "ada")])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_of_a_consumer_that_runs_are_kept_as_a_newer_program_has_settled_it() {
    let s = server().await;
    let cancel = CancellationToken::new();
    let subscription = Subscription::new("copies", "one").streams([OLD.stream("created")]);
    let consumer = s.store.subscribe(subscription);
    let observation = consumer.observe();
    let running = tokio::spawn(consumer.run(Copies, cancel.clone()));
    for n in 0..100 {
        s.store.append(vec![owned(OLD, "created", &n.to_string(), "ada")]).await.unwrap();
        if n == 50 {
            let newer = another(&s).await;
            eventually("the index is built", || async {
                newer.ids_where(INDEXED_COPY, "owner", "ada").await.is_ok()
            })
            .await;
        }
    }
    eventually("all are handled", || async { observation.handled() == 100 }).await;
    cancel.cancel();
    running.await.unwrap().unwrap();
    let found = another(&s).await.ids_where(INDEXED_COPY, "owner", "ada").await.unwrap();
    assert_eq!(found.len(), 100);
    assert_eq!(observation.conflicted(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_kind_that_no_program_has_used_nothing_is_guessed() {
    let s = server().await;
    s.store.append(vec![owned(NEW.lists(&["tags"]), "created", "a", "ada")]).await.unwrap();
    let () = s.command(&["HDEL", "eventstore:settings", "kind:account"]).await;
    let streams = streams(&s).await;
    let rebuilt = s.store.rebuild(&[], &streams).await.unwrap();
    assert_eq!((rebuilt.rebuilt, rebuilt.after.differences), (0, Vec::new()));
    assert!(rebuilt.after.unknown_kinds.contains("account"));
    let error = s.store.set_kind(Kind::new("never")).await.unwrap_err();
    assert!(matches!(error, SettingsError::Invalid(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_was_dropped_and_comes_again_holds_what_is_then() {
    let s = server().await;
    s.store.append(vec![owned(NEW, "created", "a", "ada")]).await.unwrap();
    assert_eq!(s.store.ids_where(NEW, "owner", "ada").await.unwrap(), ["a"]);
    another(&s).await.set_kind(OLD).await.unwrap();
    let error = s.store.ids_where(NEW, "owner", "ada").await.unwrap_err();
    assert!(error.to_string().contains("no index"), "not what it was: {error}");
    s.store.append(vec![owned(NEW, "updated", "a", "ben")]).await.unwrap();
    let newer = another(&s).await;
    eventually("it is built", || async { newer.ids_where(NEW, "owner", "ben").await.is_ok() }).await;
    assert_eq!(newer.ids_where(NEW, "owner", "ben").await.unwrap(), ["a"]);
    assert_eq!(newer.ids_where(NEW, "owner", "ada").await.unwrap(), [""; 0]);
}
