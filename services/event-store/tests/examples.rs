//! The examples do what they say, on a real server, and end by themselves; the README's first screen
//! is one of them.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may end at once")]

mod support;

use event_store::{CancellationToken, Kind, NewEvent, Outcome, Subscription};
use serde_json::json;
use std::path::PathBuf;
use std::process::Command;
use support::{ACCOUNT, Recorder, Seen, eventually, plain, put};

/// Runs an example and answers what it printed. `cargo test` builds the examples too, unless it is
/// told to build a single test.
async fn run(example: &str, url: &str, args: &[&str]) -> String {
    run_with(example, url, args, &[]).await
}

async fn run_with(example: &str, url: &str, args: &[&str], envs: &[(&str, &str)]) -> String {
    let folder: PathBuf = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().into();
    let program = folder.join("examples").join(example);
    assert!(program.exists(), "build the examples first: cargo build -p event-store --examples");
    let mut command = Command::new(program);
    command.env("REDIS_URL", url).args(args).envs(envs.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{example}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_first_screen_runs_and_credits_a_new_account_once() {
    let s = plain().await;
    for _ in 0..2 {
        let printed = run("quickstart", &s.redis.single().url(), &[]).await;
        assert!(printed.starts_with("appended "), "{printed}");
        assert!(printed.contains("has 100 cents at version 2"), "{printed}");
    }
    let credited: u64 = s.command(&["XLEN", "events:account_credited"]).await;
    assert_eq!(credited, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_first_screen_credits_an_account_to_which_something_else_has_happened_meanwhile() {
    const ACCOUNT: Kind = Kind::new("account");
    let s = plain().await;
    for (action, cents) in [("opened", 0), ("credited", 500)] {
        let eve = NewEvent::put(ACCOUNT, action, "eve", &json!({ "id": "eve", "cents": cents }));
        s.store.append(vec![eve]).await.unwrap();
    }
    // It ends with the first credit that it hears of, which may be this one.
    for _ in 0..3 {
        run("quickstart", &s.redis.single().url(), &[]).await;
    }
    let eve = s.store.entity(ACCOUNT, "eve").await.unwrap().unwrap();
    assert_eq!((eve.version, &eve.body["cents"]), (3, &json!(600)));
}

#[test]
fn the_readmes_first_screen_is_the_example() {
    let readme = include_str!("../README.md");
    let example = include_str!("../examples/quickstart.rs");
    let program = &example[example.find("use event_store").unwrap()..];
    assert!(readme.contains(program), "copy examples/quickstart.rs into the README");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_keeps_every_cent_and_charges_each_transfer_once() {
    let s = plain().await;
    let printed = run("ledger", &s.redis.single().url(), &[]).await;
    assert!(printed.contains("ada 8980, bob 11000, bank 20: together 20000"), "{printed}");
    let lines = include_str!("../examples/ledger.rs").lines().count();
    assert!(lines < 80, "{lines} lines");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_projection_shows_what_was_just_written() {
    let s = plain().await;
    let printed = run("projection", &s.redis.single().url(), &[]).await;
    let (ada, bob) = (printed.find("ada-").unwrap(), printed.find("bob-").unwrap());
    assert!(ada < bob && !printed.contains("eve-"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projection_in_its_own_database_continues_after_a_trim() {
    let s = plain().await;
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("balances.json");
    for cents in ["{\"ada\": 100}", "{\"ada\": 200}"] {
        let envs = [("DATABASE", database.to_str().unwrap())];
        let printed = run_with("own_database", &s.redis.single().url(), &[], &envs).await;
        assert!(printed.contains(cents), "{printed}");
        let streams = s.store.streams().await.unwrap();
        s.store.retention(streams).preview().await.unwrap().execute().await.unwrap();
    }
    let left: u64 = s.command(&["XLEN", "events:account_deposited"]).await;
    assert_eq!(left, 1, "what was committed can go, and the last entry stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_letter_tool_lists_shows_and_gives_back() {
    let s = plain().await;
    let store = s.store.clone();
    store.append(vec![put("created", "a", 1), put("updated", "a", 2), put("created", "b", 3)]).await.unwrap();
    let subscription = |consumer| {
        Subscription::new("payments", consumer)
            .streams(["created", "updated"].map(|action| ACCOUNT.stream(action)))
    };
    let parks = Recorder {
        seen: Seen::default(),
        answer: |event: event_store::Event| async move {
            if event.entity_id == "a" { Outcome::Park("no such bank".into()) } else { Outcome::Done(vec![]) }
        },
    };
    let cancel = CancellationToken::new();
    let running = tokio::spawn(store.subscribe(subscription("one")).run(parks, cancel.clone()));
    let dead = store.dead_letters("payments", "account");
    eventually("both of a are parked", || async { dead.count().await.unwrap() == 2 }).await;
    cancel.cancel();
    running.await.unwrap().unwrap();

    let tool = async |args: &[&str]| {
        run("dead_letters", &s.redis.single().url(), &[&["--group", "payments"], args].concat()).await
    };
    let listed = tool(&["list"]).await;
    assert!(listed.starts_with("2 parked by payments"), "{listed}");
    let first = listed.lines().nth(1).unwrap();
    assert!(first.contains("account_created account/a: no such bank"), "{listed}");
    let letter = first.split(' ').next().unwrap();
    let shown = tool(&["show", letter]).await;
    assert!(shown.contains("tried 1 times") && shown.contains("\"amount\":1"), "{shown}");
    assert!(tool(&["replay"]).await.starts_with("would give 2 back"));
    assert_eq!(dead.count().await.unwrap(), 2, "asking changes nothing");
    assert!(tool(&["replay", "--yes"]).await.starts_with("2 given back"));
    assert_eq!(dead.count().await.unwrap(), 0);
}
