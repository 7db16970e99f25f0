//! What all programs of a store must have in common: kept on the server, changed while programs run, refused where a
//! program that starts says otherwise.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::doctor::Access;
use event_store::testing::{Clock, Lost, Proxy, Redis};
use event_store::{
    CancellationToken, Config, ConnectErrorKind, Event, EventStore, Handler, Kind, Layout, NewEvent, Outcome,
    SettingsError, Subscription, Uuid,
};
use serde_json::json;
use std::time::Duration;
use support::{NOTE, Server, ask, eventually, plain, server, tagged};

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

/// Event ids that share a key: it is swept, and ends, for all of them at once.
fn remembered_together(number: u128) -> Uuid {
    Uuid::from_u128(number << 64)
}

async fn streams(s: &Server) -> Vec<event_store::StreamName> {
    s.store.streams().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_states_another_layout_or_window_is_refused_with_both_named() {
    let s = plain().await;
    let refused = async |config: Config| {
        let error = EventStore::connect(config).await.unwrap_err();
        assert_eq!(error.kind(), ConnectErrorKind::Settings, "{error}");
        error.to_string()
    };
    let message = refused(s.redis.config().layout(Layout::Tagged)).await;
    assert!(message.contains("plain") && message.contains("tagged"), "{message}");
    let message = refused(s.redis.config().dedup_window(2 * HOUR)).await;
    assert!(message.contains("3600s") && message.contains("7200s"), "{message}");
    assert!(message.contains("eventstore settings dedup-window"), "{message}");
    EventStore::connect(s.redis.config().dedup_window(HOUR)).await.unwrap();
    let only_looks = s.redis.config().access(Access::ReadOnly);
    EventStore::connect(only_looks.clone()).await.unwrap();
    let message = refused(only_looks.layout(Layout::Tagged)).await;
    assert!(message.contains("plain") && message.contains("tagged"), "{message}");
    s.store.set_dedup_window(2 * HOUR, &[]).await.unwrap();
    EventStore::connect(s.redis.config()).await.expect("one that states no window has the store's");
    let message = refused(s.redis.config().dedup_window(HOUR)).await;
    assert!(message.contains("3600s") && message.contains("7200s"), "{message}");

    // A store of before there were settings.
    s.store.append(vec![owned(OLD, "created", "a", "ada")]).await.unwrap();
    let () = s.command(&["DEL", "eventstore:settings"]).await;
    let message = refused(s.redis.config().layout(Layout::Tagged)).await;
    assert!(message.contains("plain") && message.contains("tagged"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_window_forgets_no_event_id_before_its_time() {
    let clock = Clock::new();
    let redis = Redis::start_by(&clock, &[]);
    let running = EventStore::connect(Config::new(redis.url()).dedup_window(HOUR)).await.unwrap();
    let later = EventStore::connect(Config::new(redis.url())).await.unwrap();
    let append = async |number: u128| {
        let event = owned(OLD, "updated", "a", "ada").event_id(remembered_together(number));
        running.append(vec![event]).await.unwrap()[0].id
    };
    // Who repeats an append that was made `minutes` after the beginning is told what it was told then.
    let at = |minutes: u32| clock.ahead(MINUTE * minutes);
    let first = append(1).await;
    at(20);
    let second = append(2).await;
    assert_eq!(append(1).await, first);
    for _ in 0..2 {
        later.set_dedup_window(4 * HOUR, &[]).await.unwrap();
    }
    let third = append(3).await;
    at(59);
    assert_eq!(append(1).await, first);
    at(79);
    assert_eq!(append(2).await, second);
    at(20 + 239);
    assert_eq!(append(3).await, third, "by the longer window, though the program had stated the shorter one");
    let fourth = append(4).await;

    let error = later.set_dedup_window(Duration::ZERO, &[]).await.unwrap_err();
    assert!(matches!(error, SettingsError::Invalid(_)), "{error}");
    let since = later.set_dedup_window(HOUR, &[]).await.unwrap();
    let error = later.set_dedup_window(2 * HOUR, &[]).await.unwrap_err();
    assert!(matches!(error, SettingsError::Pending { since: known } if known == since), "{error}");
    let again = later.set_dedup_window(HOUR, &[]).await.unwrap();
    assert_eq!(again, since, "the same change again is no further one");
    at(20 + 239 + 100);
    assert_eq!(append(4).await, fourth, "by the window of its time");
    at(20 + 239 + 239);
    assert_eq!(append(4).await, fourth, "by the window of its time");
    at(20 + 239 + 12 * 60);
    let fifth = append(5).await;
    assert!(append(4).await > fifth, "forgotten after its time");
    at(20 + 239 + 12 * 60 + 30);
    append(6).await;
    at(20 + 239 + 12 * 60 + 59);
    assert_eq!(append(5).await, fifth);
    at(20 + 239 + 12 * 60 + 121);
    assert!(append(5).await > fifth, "by the shorter window now");
    later.set_dedup_window(2 * HOUR, &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_steps_back_forgets_no_event_id() {
    let clock = Clock::new();
    let redis = Redis::start_by(&clock, &[]);
    let store = EventStore::connect(Config::new(redis.url())).await.unwrap();
    let event = || vec![owned(OLD, "updated", "a", "ada").event_id(Uuid::from_u128(1))];
    clock.ahead(5 * HOUR);
    let first = store.append(event()).await.unwrap();
    clock.ahead(Duration::ZERO);
    assert_eq!(store.append(event()).await.unwrap(), first);
    let since = store.set_dedup_window(2 * HOUR, &[]).await.unwrap();
    assert_eq!(since, first[0].id.ms, "by the log's time");
    assert_eq!(store.append(event()).await.unwrap(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_family_that_is_used_for_the_first_time_remembers_for_as_long_as_the_store() {
    let s = tagged().await;
    let window = async || -> u64 { s.command(&["HGET", "eventstore:settings", "dedup_window_ms"]).await };
    s.store.set_dedup_window(3 * HOUR, &[]).await.unwrap();
    s.store.append(vec![owned(OLD, "created", "a", "ada")]).await.unwrap();
    assert_eq!(window().await, 3 * 3_600_000);

    // A shorter one holds later for a family in use, and at once for one that is not. It is answered when it holds for all.
    let both = [OLD.stream("created"), NOTE.stream("written")];
    let since = s.store.set_dedup_window(HOUR, &both).await.unwrap();
    assert_eq!(s.store.set_dedup_window(HOUR, &both[..1]).await.unwrap(), since);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_the_server_lost_are_settled_again_by_a_program_that_runs() {
    let redis = Redis::start();
    let store = EventStore::connect(Config::new(redis.url()).dedup_window(2 * HOUR)).await.unwrap();
    store.append(vec![owned(NEW, "created", "a", "ada")]).await.unwrap();
    let () = ask(&redis, &["DEL", "eventstore:settings"]).await;
    store.append(vec![owned(NEW, "created", "b", "ada")]).await.unwrap();
    let settings = store.settings(&[]).await.unwrap();
    assert_eq!(settings.dedup_window, Some(2 * HOUR));
    assert_eq!(settings.kinds["account"].kind, NEW);
    assert_eq!(store.ids_where(NEW, "owner", "ada").await.unwrap(), ["a", "b"]);
}

/// Keeps these commands from the server for more than half a second, in which their caller sends them again.
fn hold_up(proxy: &Proxy, named: &str) {
    (0..6).for_each(|_| proxy.lose(Lost::Command, named, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_at_the_same_time_are_all_made() {
    const PLAIN: Kind = Kind::new("payer");
    let s = plain().await;
    let created = |kind: Kind, id: &str| vec![owned(kind, "created", id, "ada")];
    s.store.append(created(PLAIN, "a")).await.unwrap();
    let proxy = Proxy::start(s.redis.single().port()).await.unwrap();
    let slow = EventStore::connect(Config::new(proxy.url())).await.unwrap();
    // What it has read is old when what it writes arrives.
    hold_up(&proxy, "set_kind");
    let added = tokio::spawn({
        let (slow, events) = (slow.clone(), created(PLAIN.indexes(&["name"]), "b"));
        async move { slow.append(events).await }
    });
    eventually("it has read", || async { proxy.lost() > 0 }).await;
    another(&s).await.append(created(PLAIN.indexes(&["owner"]), "c")).await.unwrap();
    added.await.unwrap().unwrap();
    let kept = async || s.store.settings(&[]).await.unwrap().kinds["payer"].kind;
    let indexes = kept().await.index_fields();
    assert!(indexes.contains(&"owner") && indexes.contains(&"name"), "{indexes:?}");

    let before = proxy.lost();
    hold_up(&proxy, "set_kind");
    let changed = tokio::spawn(async move { slow.set_kind(PLAIN.lists(&["tags"])).await });
    eventually("it has read", || async { proxy.lost() > before }).await;
    // Refused where the person is the first after all.
    let _ = another(&s).await.append(created(PLAIN.indexes(&["id"]), "d")).await;
    changed.await.unwrap().unwrap();
    assert_eq!(kept().await.list_fields(), ["tags"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_changes_while_a_family_is_used_for_the_first_time_is_taken_over_too() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port()).await.unwrap();
    let config = |url: String| Config::new(url).layout(Layout::Tagged);
    let slow = EventStore::connect(config(proxy.url())).await.unwrap();
    let person = EventStore::connect(config(redis.url())).await.unwrap();
    hold_up(&proxy, "set_window");
    let first = tokio::spawn(async move { slow.append(vec![owned(OLD, "created", "a", "ada")]).await });
    eventually("it has read the window", || async { proxy.lost() > 0 }).await;
    person.set_dedup_window(3 * HOUR, &[]).await.unwrap();
    first.await.unwrap().unwrap();
    let window: u64 = ask(&redis, &["HGET", "eventstore:{account}:settings", "dedup_window_ms"]).await;
    assert_eq!(window, 3 * 3_600_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_built_by_whoever_comes_next_and_again_after_an_error() {
    const OLD: Kind = Kind::new("debtor");
    const NEW: Kind = OLD.indexes(&["owner"]);
    let s = plain().await;
    s.store.append(vec![owned(OLD, "created", "a", "ada")]).await.unwrap();
    // A program was killed when it had added the index, and a person changes the lists.
    let begun = r#"{"family":"debtor","indexes":["owner"],"building":["owner"]}"#;
    let () = s.command(&["HSET", "eventstore:settings", "kind:debtor", begun]).await;
    let with_lists = NEW.lists(&["tags"]);
    another(&s).await.set_kind(with_lists).await.unwrap();
    let kept = s.store.settings(&[]).await.unwrap().kinds["debtor"].clone();
    assert_eq!((kept.kind, kept.building), (with_lists, Vec::new()));
    let program = another(&s).await;
    assert_eq!(program.ids_where(with_lists, "owner", "ada").await.unwrap(), ["a"]);

    let () = s.command(&["SET", "debtor_entity:b", "what the store never wrote"]).await;
    let () = s.command(&["SADD", "debtor_ids", "b"]).await;
    let with_id = with_lists.indexes(&["owner", "id"]);
    let found = async || program.ids_where(with_id, "id", "a").await;
    found().await.unwrap_err();
    eventually("building it has failed", || async {
        s.command::<String>(&["INFO", "errorstats"]).await.contains("WRONGTYPE")
    })
    .await;
    let () = s.command(&["DEL", "debtor_entity:b"]).await;
    eventually("it is built", || async { found().await.is_ok() }).await;
    assert_eq!(found().await.unwrap(), ["a"]);
    let removed = program.ids_where(with_id, "id", "").await.unwrap();
    assert_eq!(removed, [""; 0], "one that was removed while it was built has no value");
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
    let older = another(&s).await;
    assert_eq!(
        older.ids_where(NEW, "owner", "ben").await.unwrap(),
        ["b"],
        "who only looks may declare others"
    );
    let error = starts(NEW).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Settings);
    let kind = s.store.settings(&streams).await.unwrap().kinds["account"].kind;
    assert_eq!(kind, with_lists);
    // What is verified is what the store keeps, whatever the program that verifies declares.
    let () = s.command(&["DEL", "account_tags:b"]).await;
    assert_eq!(running.verify(&[NEW], &streams).await.unwrap().differences.len(), 1);
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
    // A program of its own: it learns of the change when it finishes an event.
    let consumer = another(&s).await.subscribe(subscription);
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
    let looks = EventStore::connect(s.redis.config().access(Access::ReadOnly)).await.unwrap();
    assert_eq!(looks.ids_where(NEW, "owner", "ben").await.unwrap(), [""; 0]);
    assert!(s.store.settings(&streams).await.unwrap().kinds.is_empty(), "who only looks settles nothing");
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
    assert_eq!(s.command::<u64>(&["EXISTS", "account_by_owner"]).await, 0);
    // By a program of an older version, which knows of no settings.
    let () = s.command(&["ZADD", "account_by_owner", "0", "ada\0a"]).await;
    s.store.append(vec![owned(NEW, "updated", "a", "ben")]).await.unwrap();
    let newer = another(&s).await;
    eventually("it is built", || async { newer.ids_where(NEW, "owner", "ben").await.is_ok() }).await;
    assert_eq!(newer.ids_where(NEW, "owner", "ben").await.unwrap(), ["a"]);
    assert_eq!(newer.ids_where(NEW, "owner", "ada").await.unwrap(), [""; 0]);
    // A person who adds it is answered when it is built.
    newer.set_kind(OLD).await.unwrap();
    newer.set_kind(NEW).await.unwrap();
    let kept = s.store.settings(&streams(&s).await).await.unwrap().kinds["account"].clone();
    assert_eq!((kept.kind, kept.building), (NEW, Vec::new()));
    assert_eq!(s.store.ids_where(NEW, "owner", "ben").await.unwrap(), ["a"]);
    // Where there are no entities, there is nothing to build.
    s.store.append(vec![owned(NOTE, "written", "n", "ada")]).await.unwrap();
    s.store.append(vec![NewEvent::remove(NOTE, "deleted", "n", &json!({ "id": "n" }))]).await.unwrap();
    assert_eq!(newer.ids_where(NOTE.indexes(&["owner"]), "owner", "ada").await.unwrap(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_one_store_is_built_while_that_of_another_cannot_be() {
    let (one, two) = (Redis::start(), Redis::start());
    let connect = async |redis: &Redis| EventStore::connect(Config::new(redis.url())).await.unwrap();
    for redis in [&one, &two] {
        connect(redis).await.append(vec![owned(OLD, "created", "a", "ada")]).await.unwrap();
    }
    let () = ask(&one, &["SET", "account_entity:b", "what the store never wrote"]).await;
    let () = ask(&one, &["SADD", "account_ids", "b"]).await;
    connect(&one).await.ids_where(NEW, "owner", "ada").await.unwrap_err();
    let store = connect(&two).await;
    eventually("that of the other is built", || async { store.ids_where(NEW, "owner", "ada").await.is_ok() })
        .await;
}

#[test]
fn an_index_is_built_after_the_runtime_that_began_it_has_ended() {
    let redis = Redis::start();
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let first = runtime();
    let store = first.block_on(async {
        let store = EventStore::connect(Config::new(redis.url())).await.unwrap();
        store.append(vec![owned(OLD, "created", "a", "ada")]).await.unwrap();
        let () = ask(&redis, &["SET", "account_entity:b", "what the store never wrote"]).await;
        let () = ask(&redis, &["SADD", "account_ids", "b"]).await;
        store.ids_where(NEW, "owner", "ada").await.unwrap_err();
        store
    });
    drop(first);
    runtime().block_on(async {
        let () = ask(&redis, &["DEL", "account_entity:b"]).await;
        eventually("it is built", || async { store.ids_where(NEW, "owner", "ada").await.is_ok() }).await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_family_whose_window_is_changed_while_it_is_used_for_the_first_time_keeps_the_change() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port()).await.unwrap();
    let config = |url: String| Config::new(url).layout(Layout::Tagged);
    let slow = EventStore::connect(config(proxy.url())).await.unwrap();
    let person = EventStore::connect(config(redis.url())).await.unwrap();
    (0..6).for_each(|_| proxy.lose(Lost::Command, "set_window", 1));
    let first = tokio::spawn(async move { slow.append(vec![owned(OLD, "created", "a", "ada")]).await });
    eventually("it has read the window", || async { proxy.lost() > 0 }).await;
    person.set_dedup_window(3 * HOUR, &[OLD.stream("created")]).await.unwrap();
    first.await.unwrap().unwrap();
    let window: u64 = ask(&redis, &["HGET", "eventstore:{account}:settings", "dedup_window_ms"]).await;
    assert_eq!(window, 3 * 3_600_000);
}
