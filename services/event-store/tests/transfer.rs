//! What export and import promise, on real servers: the same store again, once, or nothing.

#![allow(clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::testing::{Line, Proxy, Setup};
use event_store::{Event, EventStore, ImportErrorKind, Layout, NewEvent, StreamName, Unread};
use serde_json::{Value, json};
use sha2::Digest;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::{ACCOUNT, Child, NOTE, Server, eventually, plain, put, server, start};
use tokio_util::task::AbortOnDropHandle;

const KINDS: [event_store::Kind; 2] = [ACCOUNT, NOTE];

fn streams() -> Vec<StreamName> {
    let accounts = ["created", "updated", "deleted"].map(|action| ACCOUNT.stream(action));
    accounts.into_iter().chain([NOTE.stream("created")]).collect()
}

struct File(tempfile::TempDir);

impl File {
    fn path(&self) -> PathBuf {
        self.0.path().join("export.ndjson")
    }
}

/// A store with deletions, lists, further ordering keys, a trim and foreign bytes, as a file.
async fn exported(s: &Server, accounts: u64) -> File {
    for n in 0..accounts {
        s.store.append(vec![put("created", &n.to_string(), n)]).await.unwrap();
    }
    let state = json!({ "id": "1", "owner": "ann", "amount": 2, "tags": ["x", "y"] });
    s.store.append(vec![NewEvent::put(ACCOUNT, "updated", "1", &state)]).await.unwrap();
    s.store.append(vec![NewEvent::remove(ACCOUNT, "deleted", "0", &json!({ "id": "0" }))]).await.unwrap();
    let note = NewEvent::put(NOTE, "created", "n", &json!({ "id": "n" })).ordered_with("account/1");
    s.store.append(vec![note]).await.unwrap();
    let mut foreign = redis::cmd("XADD");
    foreign
        .arg(s.name("events:account_updated"))
        .arg("*")
        .arg(&[0xff_u8, 0xfe][..])
        .arg(&[0x00_u8, 0x80][..]);
    s.raw(&foreign).await;
    s.store.append(vec![put("updated", "2", 7)]).await.unwrap();
    let trim = s.store.retention([ACCOUNT.stream("created")]).unread(Unread::Trim);
    assert!(trim.preview().await.unwrap().execute().await.unwrap().kept > 0);
    let file = File(tempfile::TempDir::new().unwrap());
    export(&s.store, &file.path()).await;
    file
}

async fn export(store: &EventStore, path: &Path) -> u64 {
    let file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    store.export(streams()).write(file).await.unwrap().events
}

/// All that a reader can see of a store.
async fn all(store: &EventStore) -> Vec<String> {
    let mut seen = Vec::new();
    for family in [&streams()[..3], &streams()[3..]] {
        let line = |e: Event| seen.push(format!("{e:?}"));
        store.replay_of(family.to_vec()).from_snapshots().run(line).await.unwrap();
    }
    let mut ids = store.ids(ACCOUNT).await.unwrap();
    ids.sort();
    for entity in store.entities(ACCOUNT, &ids).await.unwrap() {
        seen.push(format!("{entity:?}"));
    }
    seen.push(format!("{:?}", store.ids_where(ACCOUNT, "owner", "ann").await.unwrap()));
    seen
}

async fn verified(store: &EventStore) {
    assert_eq!(store.verify(&KINDS, &streams()).await.unwrap().differences, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Some((task, store)) = Child::task().await else { return };
    store.import(task, &KINDS).run().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_store_is_the_same_and_importing_twice_is_importing_once() {
    let s = server().await;
    let file = exported(&s, 20).await;
    let t = server().await;
    let imported = t.store.import(file.path(), &KINDS).run().await.unwrap();
    assert_eq!((imported.new, imported.known), (22, 0));
    let kinds = t.store.settings(&streams()).await.unwrap().kinds;
    assert_eq!(
        (kinds["account"].kind, kinds["note"].kind),
        (ACCOUNT, NOTE),
        "settled before any program comes"
    );
    assert_eq!(all(&t.store).await, all(&s.store).await);
    verified(&t.store).await;
    let clock = ["GET", "eventstore:clock"];
    assert_eq!(t.command::<String>(&clock).await, s.command::<String>(&clock).await);
    let again = t.store.import(file.path(), &KINDS).run().await.unwrap();
    assert_eq!((again.new, again.known), (0, 22));
    assert_eq!(all(&t.store).await, all(&s.store).await);
    // The copy exports as the same lines, and it goes on.
    let copy = File(tempfile::TempDir::new().unwrap());
    export(&t.store, &copy.path()).await;
    assert_eq!(std::fs::read(copy.path()).unwrap(), std::fs::read(file.path()).unwrap());
    assert_eq!(t.store.append(vec![put("updated", "1", 8)]).await.unwrap()[0].version, 3);
    assert_eq!(
        t.store.import(file.path(), &KINDS).run().await.unwrap().new,
        0,
        "it has gone on from the file"
    );
    verified(&t.store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_killed_and_run_again_is_whole() {
    let s = plain().await;
    let file = exported(&s, 1000).await;
    let t = plain().await;
    let proxy = Proxy::start(t.redis.single().port()).await.unwrap();
    proxy.set(Line::Late(Duration::from_millis(3)));
    let mut child = Child::start_at(file.path().to_str().unwrap(), &proxy.url(), Layout::Plain);
    let there = || async { t.command::<u64>(&["SCARD", "account_ids"]).await };
    eventually("the import has begun", || async { there().await > 0 }).await;
    assert!(child.kill());
    assert!(there().await < 999, "killed half-way");
    let imported = t.store.import(file.path(), &KINDS).run().await.unwrap();
    assert!(imported.new > 0 && imported.known > 0, "{imported:?}");
    assert_eq!(all(&t.store).await, all(&s.store).await);
    verified(&t.store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_cut_or_altered_writes_nothing() {
    let s = plain().await;
    let file = exported(&s, 20).await;
    let t = plain().await;
    let keys: u64 = t.command(&["DBSIZE"]).await;
    let whole = std::fs::read_to_string(file.path()).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let without_end = lines[..lines.len() - 1].join("\n") + "\n";
    let amount = whole.replacen("\\\"amount\\\":7", "\\\"amount\\\":8", 1);
    assert_ne!(amount, whole);
    let missing = [&lines[..5], &lines[6..]].concat().join("\n") + "\n";
    for (text, kind) in [
        (whole[..whole.len() / 2].to_owned(), ImportErrorKind::Cut),
        (without_end, ImportErrorKind::Cut),
        (String::new(), ImportErrorKind::Cut),
        (amount, ImportErrorKind::Altered),
        (missing, ImportErrorKind::Altered),
        ("{}\n".to_owned(), ImportErrorKind::Format),
    ] {
        std::fs::write(file.path(), text).unwrap();
        let error = t.store.import(file.path(), &KINDS).run().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(t.command::<u64>(&["DBSIZE"]).await, keys);
    }
    std::fs::write(file.path(), &whole).unwrap();
    let error = t.store.import(file.path(), &[ACCOUNT]).run().await.unwrap_err();
    assert_eq!(error.kind(), ImportErrorKind::Kinds, "{error}");
    assert_eq!(t.command::<u64>(&["DBSIZE"]).await, keys);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_other_events_of_the_entities_is_left_as_it_is() {
    let s = plain().await;
    let file = exported(&s, 20).await;
    let t = plain().await;
    t.store.append(vec![put("created", "7", 1)]).await.unwrap();
    let size: u64 = t.command(&["DBSIZE"]).await;
    let error = t.store.import(file.path(), &KINDS).run().await.unwrap_err();
    assert_eq!(error.kind(), ImportErrorKind::Conflict);
    assert!(error.to_string().contains("empty store"), "{error}");
    assert_eq!(t.command::<u64>(&["DBSIZE"]).await, size);
    assert_eq!(t.command::<u64>(&["XLEN", "events:account_created"]).await, 1);
    // An older clock does not make them the same entities.
    let _: String = t.command(&["SET", "eventstore:clock", "1-1"]).await;
    let error = t.store.import(file.path(), &KINDS).preview().await.unwrap_err();
    assert_eq!(error.kind(), ImportErrorKind::Conflict);
}

/// Appends to both families until it is aborted.
fn writer(store: &EventStore, name: &'static str) -> AbortOnDropHandle<()> {
    let store = store.clone();
    AbortOnDropHandle::new(tokio::spawn(async move {
        for n in 0.. {
            let id = format!("{name}{}", n % 20);
            let action = if n < 20 { "created" } else { "updated" };
            store.append(vec![put(action, &id, n), put("updated", &id, n + 1)]).await.unwrap();
            let note =
                NewEvent::put(NOTE, "created", &id, &json!({ "id": id })).ordered_with("account/shared");
            store.append(vec![note]).await.unwrap();
        }
    }))
}

/// Exports while programs append: many events come after its end and before its last line.
async fn export_during_writes(s: &Server) -> File {
    let length = || async { s.command::<u64>(&["XLEN", "events:account_updated"]).await };
    let before = length().await;
    let writers = ["a", "b"].map(|name| writer(&s.store, name));
    eventually("there is more than before", || async { length().await >= before + 100 }).await;
    let file = File(tempfile::TempDir::new().unwrap());
    export(&s.store, &file.path()).await;
    let text = std::fs::read_to_string(file.path()).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (family, end) in lines[0]["clocks"].as_object().unwrap() {
        assert!(lines.iter().any(|line| line["id"] == *end), "{family} ends with an entry: {end}");
    }
    let exported = length().await;
    eventually("there is more than in the file", || async { length().await > exported }).await;
    drop(writers);
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_export_is_imported_on_top_of_one_made_while_programs_append() {
    for setup in [Setup::Plain, Setup::tagged_from_env()] {
        let (s, t) = (start(setup).await, start(setup).await);
        let mut known = 0;
        for _ in 0..3 {
            let file = export_during_writes(&s).await;
            let imported = t.store.import(file.path(), &KINDS).run().await.unwrap();
            assert_eq!(imported.known, known);
            assert!(imported.new > 0, "{imported:?}");
            known += imported.new;
            verified(&t.store).await;
        }
    }
}

/// What an older program wrote: its clock is ahead of its entries, by as much as was appended during the export.
#[tokio::test(flavor = "multi_thread")]
async fn a_later_export_is_imported_on_top_of_one_of_an_older_program() {
    let (s, t) = (server().await, server().await);
    let file = exported(&s, 20).await;
    s.store.append(vec![put("updated", "3", 8)]).await.unwrap();
    let note = NewEvent::put(NOTE, "created", "m", &json!({ "id": "m" }));
    s.store.append(vec![note]).await.unwrap();
    let later = File(tempfile::TempDir::new().unwrap());
    export(&s.store, &later.path()).await;
    std::fs::write(file.path(), with_clocks_of(&later.path(), &file.path())).unwrap();
    let imported = t.store.import(file.path(), &KINDS).run().await.unwrap();
    assert_eq!(imported.new, 22);
    let imported = t.store.import(later.path(), &KINDS).run().await.unwrap();
    assert_eq!((imported.new, imported.known), (2, 22));
    assert_eq!(all(&t.store).await, all(&s.store).await);
    verified(&t.store).await;
}

/// A file with the clocks of another one in its header.
fn with_clocks_of(other: &Path, file: &Path) -> String {
    let header = |text: &str| serde_json::from_str::<Value>(text.lines().next().unwrap()).unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut first = header(&text);
    let clocks = header(&std::fs::read_to_string(other).unwrap())["clocks"].clone();
    assert_ne!(first["clocks"], clocks);
    first["clocks"] = clocks;
    lines[0] = first.to_string();
    let mut trailer: Value = serde_json::from_str(&lines.pop().unwrap()).unwrap();
    let body = lines.join("\n") + "\n";
    let digest = sha2::Sha256::digest(&body);
    trailer["sha256"] = digest.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}")).into();
    format!("{body}{trailer}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_moves_from_one_layout_to_the_other_and_back() {
    let s = start(Setup::Plain).await;
    let file = exported(&s, 20).await;
    let t = start(Setup::Tagged).await;
    t.store.import(file.path(), &KINDS).run().await.unwrap();
    verified(&t.store).await;
    assert_eq!(all(&t.store).await, all(&s.store).await);
    let back = File(tempfile::TempDir::new().unwrap());
    export(&t.store, &back.path()).await;
    let u = start(Setup::Plain).await;
    u.store.import(back.path(), &KINDS).run().await.unwrap();
    verified(&u.store).await;
    assert_eq!(all(&u.store).await, all(&s.store).await);
}
