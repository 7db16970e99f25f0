//! What the command changes, and how it fails: every fault has its exit code.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod support;

use event_store::testing::{Line, Proxy, Redis, free_port};
use event_store::{CancellationToken, Id, Subscription};
use std::process::Stdio;
use std::time::Duration;
use support::{Auditor, eventually, filled, program, put, run, streams};

#[tokio::test]
async fn a_replay_says_how_many_first_and_does_nothing_without_a_yes() {
    let s = filled().await;
    let seen = s.run(&["dead", "replay", "audit", "--all", "--dry-run"]).ok();
    assert_eq!(seen, "1 would be given back to audit\n");
    let unasked = s.run(&["dead", "replay", "audit", "--all"]);
    assert_eq!(unasked.code, 2);
    assert!(
        unasked.err.contains("Give 1 dead letters back to audit?") && unasked.err.contains("--yes"),
        "{unasked:?}"
    );
    assert_eq!(
        s.command::<(u64, redis::Value, redis::Value, redis::Value)>(&[
            "XPENDING",
            "events:account_opened",
            "audit"
        ])
        .await
        .0,
        0
    );
    assert_eq!(s.run(&["dead", "list", "audit", "--json"]).json().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_replayed_letter_is_handled_again_and_one_that_is_none_any_more_is_not_found() {
    let s = filled().await;
    let letters = s.run(&["dead", "list", "audit", "--json"]).json();
    let letter = letters[0]["letter"].as_str().unwrap();
    assert_eq!(
        (&letters[0]["stream"], &letters[0]["keys"][0]),
        (&"account_opened".into(), &"account/42".into())
    );
    assert_eq!(letters[0]["group"], "audit");
    assert_eq!(s.run(&["dead", "list", "--json"]).json(), letters, "of all groups: there is no other one");
    let whole = s.run(&["dead", "show", "audit", letter, "--json"]).json();
    assert!(whole["raw"].as_array().unwrap().iter().any(|f| f["name"] == "entity"), "{whole}");
    let replayed = s.run(&["dead", "replay", "audit", "--key", "account/42", "--yes", "--json"]).json();
    assert_eq!((&replayed["found"], &replayed["replayed"]), (&1.into(), &1.into()));
    for words in [&["show", "audit", letter][..], &["replay", "audit", "--letter", letter, "--yes"]] {
        assert_eq!(s.run(&[&["dead"][..], words].concat()).code, 4, "{words:?}");
    }
    s.run_auditor_until(1, 0).await;
    let again = s.run(&["dead", "list", "audit", "--json"]).json();
    assert_ne!(again[0]["letter"], letter, "handled and parked anew");
    assert_eq!(again[0]["id"], letters[0]["id"]);
}

#[tokio::test]
async fn a_replay_that_is_killed_and_asked_for_again_gives_each_letter_back_once() {
    const LETTERS: u64 = 1200;
    let s = filled().await;
    for n in 0..LETTERS / 100 {
        s.store.append((0..100).map(|i| put("changed", &format!("42-{n}-{i}"), i)).collect()).await.unwrap();
    }
    s.run_auditor_until(LETTERS + 1, 0).await;
    let letters = s.store.dead_letters("audit", "account");
    let proxy = Proxy::start(s.redis.port()).await.unwrap();
    proxy.set(Line::Late(Duration::from_millis(20)));
    let mut child = program(&proxy.url(), &["dead", "replay", "audit", "--all", "--yes"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("some are given back", async || letters.count().await.unwrap() <= LETTERS).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let left = letters.count().await.unwrap();
    assert!(left > 0, "it was killed too late for this test");
    let ended = s.run(&["dead", "replay", "audit", "--all", "--yes", "--json"]).json();
    assert_eq!(ended["replayed"], left);
    let (opened, changed): (u64, u64) = (
        s.command::<(u64, redis::Value, redis::Value, redis::Value)>(&[
            "XPENDING",
            "events:account_opened",
            "audit",
        ])
        .await
        .0,
        s.command::<(u64, redis::Value, redis::Value, redis::Value)>(&[
            "XPENDING",
            "events:account_changed",
            "audit",
        ])
        .await
        .0,
    );
    assert_eq!((opened, changed, letters.count().await.unwrap()), (1, LETTERS, 0));
}

#[tokio::test]
async fn a_server_that_is_away_is_code_3_and_no_password_is_printed() {
    let ended = run(&format!("redis://me:s3cret@127.0.0.1:{}", free_port()), &["streams"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.err.contains("127.0.0.1") && !ended.err.contains("s3cret"), "{ended:?}");
}

#[tokio::test]
async fn a_wrong_password_is_code_3_and_not_printed_either() {
    let redis = Redis::start_with(&["--requirepass", "right"]);
    let bad = redis.url().replace("redis://", "redis://:wr0ng@");
    for words in [&["streams"][..], &["doctor"], &["--help"]] {
        let ended = run(&bad, words);
        assert!(!format!("{ended:?}").contains("wr0ng"), "{ended:?}");
        assert_eq!(ended.code, if words == ["--help"] { 0 } else { 3 }, "{ended:?}");
    }
    assert_eq!(run(&redis.url().replace("redis://", "redis://:right@"), &["doctor"]).code, 0);
    let odd = run("http://me:s3cret@host", &["streams"]);
    assert!(odd.code == 3 && !odd.err.contains("s3cret"), "{odd:?}");
}

#[tokio::test]
async fn doctor_names_what_is_wrong_and_how_to_mend_it_where_the_store_refuses_to_open() {
    let s = filled().await;
    let fit = s.run(&["doctor"]);
    assert_eq!(fit.code, 0, "{fit:?}");
    assert!(fit.out.ends_with("The server is fit.\n"), "{fit:?}");
    let () = s.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    let ended = s.run(&["doctor", "--json"]);
    assert_eq!(ended.code, 1);
    let findings: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(
        (&findings[0]["severity"], &findings[0]["subject"]),
        (&"refuse".into(), &"maxmemory-policy".into())
    );
    assert!(s.run(&["doctor"]).out.contains("CONFIG SET maxmemory-policy noeviction"));
    assert_eq!(s.run(&["streams"]).code, 0, "looking harms nothing");
    let refused = s.run(&["dead", "replay", "audit", "--all", "--yes"]);
    assert_eq!(refused.code, 3, "{refused:?}");
    assert_eq!(s.run(&["dead", "list", "audit", "--json"]).json().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_trim_is_shown_first_and_goes_no_further_than_the_group_that_is_behind() {
    let s = filled().await;
    let () = s.command(&["XGROUP", "CREATE", "events:account_changed", "late", "0"]).await;
    for n in 0..20 {
        s.store.append(vec![put("changed", "7", n)]).await.unwrap();
        s.store.append(vec![put("closed", "8", n)]).await.unwrap();
    }
    s.run_auditor_until(1, 40).await;
    let table = s.run(&["trim", "--dry-run"]).ok();
    assert!(
        table.contains("group late (not delivered)") && table.contains("group audit (dead letter)"),
        "{table}"
    );
    let seen = s.run(&["trim", "--dry-run", "--json"]).json();
    let removes = |name: &str| {
        let streams = seen["streams"].as_array().unwrap();
        streams.iter().find(|s| s["stream"] == name).unwrap()["removes"].as_u64().unwrap()
    };
    assert_eq!((removes("account_changed"), removes("note_written")), (0, 0));
    assert_eq!(s.run(&["trim"]).code, 2, "nobody is there to say yes");
    assert_eq!(s.command::<u64>(&["XLEN", "events:account_closed"]).await, 21);
    let done = s.run(&["trim", "--yes", "--json"]).json();
    assert_eq!(done["trimmed"]["removed"], removes("account_closed") + removes("account_opened"));
    assert_eq!(s.command::<u64>(&["XLEN", "events:account_closed"]).await, 21 - removes("account_closed"));
    assert!(removes("account_closed") > 0, "{seen}");
    assert_eq!(s.run(&["verify"]).code, 0, "every state is still there");
    let left = s.run(&["entity", "7", "--kind", "account"]);
    assert!(left.out.contains(" account/7 v") && left.code == 0, "{left:?}");
}

#[tokio::test]
async fn a_position_is_shown_as_what_holds_back_a_trim_and_removed_after_a_preview() {
    let s = filled().await;
    assert_eq!(s.run(&["positions", "--json"]).json(), serde_json::json!([]));
    s.store.position("sqlite-balances", streams()).register(Id::ZERO).await.unwrap();
    let list = s.run(&["positions", "--json"]).json();
    let opened = &list[0]["streams"][2];
    assert_eq!((&list[0]["name"], &opened["stream"]), (&"sqlite-balances".into(), &"account_opened".into()));
    assert_eq!((&opened["position"], opened["next"].is_string()), (&"0-0".into(), true));
    assert!(opened["behind_ms"].is_u64() && opened["idle_ms"].is_u64(), "{opened}");
    let table = s.run(&["positions"]).ok();
    assert!(table.contains("OLDEST KEPT") && table.contains(" ago"), "{table}");
    let preview = s.run(&["trim", "--dry-run"]).ok();
    assert!(preview.contains("position sqlite-balances (moved "), "{preview}");

    let remove = ["positions", "remove", "sqlite-balances"];
    let unasked = s.run(&remove);
    assert!(unasked.code == 2 && unasked.out.contains("account_opened"), "{unasked:?}");
    assert_eq!(s.run(&[&remove[..], &["--dry-run", "--json"]].concat()).json()["removed"], false);
    assert_eq!(s.run(&["positions", "remove", "sqlite", "--yes"]).code, 4);
    assert_eq!(s.run(&[&remove[..], &["--stream", "note_written", "--yes"]].concat()).code, 4);
    s.run(&[&remove[..], &["--stream", "account_opened", "--yes"]].concat()).ok();
    let left = s.run(&["positions", "list", "sqlite-balances", "--json"]).json();
    assert_eq!(left[0]["streams"].as_array().unwrap().len(), 2);
    assert_eq!(s.run(&[&remove[..], &["--yes", "--json"]].concat()).json()["removed"], true);
    assert_eq!(s.run(&["positions", "list", "sqlite-balances"]).code, 4);
    assert!(!s.run(&["trim", "--dry-run"]).ok().contains("sqlite-balances"));
}

#[tokio::test]
async fn an_export_imported_into_another_store_is_the_same_log_and_twice_is_once() {
    let s = filled().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("accounts.ndjson");
    let file = file.to_str().unwrap();
    assert_eq!(s.run(&["export", file, "--json"]).json()["entries"], 5);
    assert_eq!(s.run(&["export", file]).code, 2, "a file that is there is not written over");
    let other = Redis::start();
    let import = ["import", file, "--kind", "account", "--kind", "note", "--json"];
    let seen = run(&other.url(), &[&import[..], &["--dry-run"]].concat()).json();
    assert_eq!((&seen["new"], run(&other.url(), &["streams", "--json"]).out.as_str()), (&5.into(), "[]\n"));
    assert_eq!(run(&other.url(), &import).json()["new"], 5);
    assert_eq!(
        run(&other.url(), &import).json(),
        serde_json::json!({ "dry_run": false, "new": 0, "known": 5 })
    );
    let all = ["tail", "-n", "100", "--json"];
    assert_eq!(run(&other.url(), &all).ok(), s.run(&all).ok());

    let whole = std::fs::read(file).unwrap();
    let cut = folder.path().join("cut.ndjson");
    std::fs::write(&cut, &whole[..whole.len() - 40]).unwrap();
    let third = Redis::start();
    let ended = run(&third.url(), &["import", cut.to_str().unwrap(), "--kind", "account", "--kind", "note"]);
    assert_eq!(ended.code, 5, "{ended:?}");
    assert_eq!(run(&third.url(), &["streams", "--json"]).ok(), "[]\n");
}

#[tokio::test]
async fn verify_finds_a_cache_that_is_not_the_log_s_and_rebuilds_it() {
    let s = filled().await;
    assert_eq!(s.run(&["verify", "--kind", "account", "--kind", "note"]).code, 0);
    let () = s.command(&["HSET", "account_entity:42", "amount", "9999"]).await;
    let ended = s.run(&["verify", "--kind", "account", "--kind", "note", "--json"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    let found: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(found["differences"], serde_json::json!([{ "key": "account/42", "differs": "field amount" }]));
    let rebuilt = s.run(&["verify", "--kind", "account", "--kind", "note", "--rebuild", "--json"]).json();
    assert_eq!((&rebuilt["rebuilt"], &rebuilt["differences"]), (&1.into(), &serde_json::json!([])));
    assert_eq!(s.command::<String>(&["HGET", "account_entity:42", "amount"]).await, "2");
}

#[tokio::test]
async fn a_group_that_a_restored_backup_has_halted_goes_on_when_a_person_says_so() {
    let s = filled().await;
    let nothing = s.run(&["accept", "audit", "--yes"]);
    assert_eq!(nothing.code, 4, "{nothing:?}");
    let backup: Vec<u8> = s.command(&["DUMP", "events:account_changed"]).await;
    s.store.append(vec![put("changed", "8", 1)]).await.unwrap();
    s.run_auditor_until(1, 1).await;
    let mut connection = event_store::testing::patient_connection(s.redis.url()).await.unwrap();
    let mut restore = redis::cmd("RESTORE");
    restore.arg("events:account_changed").arg(0).arg(&backup).arg("REPLACE");
    restore.exec_async(&mut connection).await.unwrap();

    let cancel = CancellationToken::new();
    let consumer = s.store.subscribe(Subscription::new("audit", "two").streams(streams()));
    let seen = consumer.observe();
    let running = tokio::spawn(consumer.run(Auditor, cancel.clone()));
    eventually("the group halts", async || seen.fault().is_some()).await;
    let unasked = s.run(&["accept", "audit"]);
    assert!(unasked.code == 2 && unasked.err.contains("--yes"), "{unasked:?}");
    assert!(seen.fault().is_some());
    let accepted = s.run(&["accept", "audit", "--yes", "--json"]).json();
    assert_eq!(accepted[0]["stream"], "account_changed", "{accepted}");
    eventually("the group goes on", async || seen.fault().is_none() && seen.ready()).await;
    s.store.append(vec![put("changed", "9", 1)]).await.unwrap();
    eventually("the new event is handled", async || seen.handled() == 1).await;
    cancel.cancel();
    assert!(running.await.is_ok());
}
