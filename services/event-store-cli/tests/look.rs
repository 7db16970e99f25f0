//! What the command shows of a store, to people and to programs.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod support;

use event_store::testing::Cluster;
use event_store::{Config, EventStore, Id, Kind, Layout, NewEvent};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::io::{BufReader, Read as _};
use std::process::{Child, Stdio};
use support::{Filled, ended, filled, program, put, run, streams};

/// The columns of each line, blanks between them.
fn cells(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|line| line.split_whitespace().collect()).collect()
}

fn following(s: &Filled, words: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child =
        program(&s.redis.url(), words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

fn line(out: &mut impl std::io::BufRead) -> String {
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    line
}

fn interrupt(child: &Child) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
}

#[tokio::test]
async fn streams_are_a_table_for_people_and_an_array_for_programs() {
    let s = filled().await;
    let table = s.run(&["streams"]).ok();
    let rows = cells(&table);
    assert_eq!(rows[0], ["STREAM", "LENGTH", "GROUPS", "FIRST", "LAST", "LAST", "TIME"]);
    assert_eq!(rows[3][..3], ["account_opened", "2", "1"], "{table}");
    let json = s.run(&["streams", "--bytes", "--json"]).json();
    assert_eq!(json[2]["stream"], "account_opened");
    assert_eq!(json[2]["key"], "events:account_opened");
    assert_eq!((json[2]["length"].as_u64(), json[2]["groups"].as_u64()), (Some(2), Some(1)));
    assert!(json[2]["bytes"].as_u64().unwrap() > 0 && json[2]["first"].is_string());
}

#[tokio::test]
async fn groups_show_lag_cursor_parked_and_an_unknown_lag_as_unknown() {
    let s = filled().await;
    s.store.append(vec![put("opened", "8", 1), put("opened", "9", 1)]).await.unwrap();
    let ids: Vec<(String, Vec<String>)> = s.command(&["XRANGE", "events:account_opened", "-", "+"]).await;
    let () = s.command(&["XGROUP", "CREATE", "events:account_opened", "middle", &ids[2].0]).await;
    let table = s.run(&["groups"]).ok();
    let middle = cells(&table).into_iter().find(|row| row[0] == "middle").unwrap();
    assert_eq!(middle[..6], ["middle", "0", "account_opened", "0", "0", "unknown"], "{table}");
    let json = s.run(&["groups", "--json"]).json();
    assert_eq!((&json[0]["group"], &json[0]["parked"]), (&"audit".into(), &1.into()));
    assert_eq!(json[0]["streams"][2]["lag"], 2);
    assert!(json[1]["streams"][0]["lag"].is_null());
    assert_eq!(s.run(&["groups", "nobody"]).code, 4);
}

#[tokio::test]
async fn pending_entries_are_listed_by_page_in_id_order_with_who_has_them() {
    let s = filled().await;
    for stream in ["events:account_opened", "events:account_changed"] {
        let () = s.command(&["XGROUP", "CREATE", stream, "slow", "0"]).await;
        let _: redis::Value = s.command(&["XREADGROUP", "GROUP", "slow", "me", "STREAMS", stream, ">"]).await;
    }
    let first = s.run(&["pending", "slow", "--limit", "2", "--json"]);
    assert!(first.err.contains("--after"), "{first:?}");
    let first = first.json();
    assert_eq!(first.as_array().unwrap().len(), 2);
    assert_eq!((&first[0]["consumer"], &first[0]["deliveries"]), (&"me".into(), &1.into()));
    let after = first[1]["id"].as_str().unwrap();
    let next = s.run(&["pending", "slow", "--after", after, "--json"]).json();
    assert_eq!(next[0]["stream"], "account_changed");
    let table = s.run(&["pending", "slow", "--stream", "account_changed"]).ok();
    assert_eq!(cells(&table).len(), 2, "{table}");
    assert_eq!(s.run(&["pending", "slow", "--consumer", "you", "--json"]).json(), serde_json::json!([]));
    assert_eq!(s.run(&["pending", "slow", "--stream", "note_written"]).code, 4);
}

#[tokio::test]
async fn a_deleted_entity_still_has_its_whole_history() {
    let s = filled().await;
    let events = s.run(&["entity", "7", "--json"]).lines();
    let streams: Vec<&str> = events.iter().map(|e| e["stream"].as_str().unwrap()).collect();
    assert_eq!(streams, ["account_opened", "account_changed", "account_closed"]);
    assert_eq!(events[1]["entity"]["amount"], 3);
    assert_eq!(s.run(&["entity", "42", "--json"]).lines().len(), 2, "an account and a note");
    assert_eq!(s.run(&["entity", "42", "--kind", "note", "--json"]).lines().len(), 1);
    let unknown = s.run(&["entity", "nobody"]);
    assert_eq!((unknown.code, unknown.out.as_str()), (4, ""));
}

#[tokio::test]
async fn tail_shows_the_last_events_that_fit() {
    let s = filled().await;
    let last = s.run(&["tail", "-n", "2", "--json"]).lines();
    assert_eq!((&last[0]["stream"], &last[1]["stream"]), (&"account_closed".into(), &"note_written".into()));
    let closed = s.run(&["tail", "--action", "closed", "--action", "changed", "--json"]).lines();
    assert_eq!(closed.len(), 2);
    let since = closed[0]["id"].as_str().unwrap();
    assert_eq!(s.run(&["tail", "--since", since, "--json"]).lines().len(), 3);
    assert_eq!(s.run(&["tail", "--since", "1h", "--kind", "account", "--json"]).lines().len(), 4);
    assert_eq!(s.run(&["tail", "--stream", "account_never"]).code, 4);
    assert_eq!(s.run(&["tail", "--since", "yesterday"]).code, 2);
}

#[tokio::test]
async fn tail_follows_what_comes_survives_a_server_that_goes_and_ends_with_ctrl_c() {
    let mut s = filled().await;
    let (mut child, mut out) = following(&s, &["tail", "--follow", "-n", "1", "--entity", "42", "--json"]);
    assert!(line(&mut out).contains("note_written"));
    s.store.append(vec![put("changed", "7", 4), put("changed", "42", 5)]).await.unwrap();
    assert!(line(&mut out).contains("\"amount\":5"), "the other account does not fit");
    s.redis.crash_and_restart();
    s.store.append(vec![put("changed", "42", 6)]).await.unwrap();
    assert!(line(&mut out).contains("\"amount\":6"));
    s.store.append(vec![put("frozen", "42", 7)]).await.unwrap();
    assert!(line(&mut out).contains("\"amount\":7"), "a stream that begins later is followed too");
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(line(&mut out), "");
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_program_without_a_word() {
    let s = filled().await;
    let (mut child, mut out) = following(&s, &["tail", "--follow", "-n", "1"]);
    line(&mut out);
    drop(out);
    s.store.append(vec![put("changed", "42", 5)]).await.unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(err, "");
}

#[tokio::test]
async fn nothing_in_a_store_reaches_the_terminal_as_a_command_and_a_pipe_gets_no_colour() {
    let s = filled().await;
    let () = s.command(&["XADD", "events:account_opened", "*", "event_id", "\x1b[31m"]).await;
    let () = s.command(&["XADD", "events:\x1b[2J_x", "*", "f", "v"]).await;
    let () = s.command(&["XGROUP", "CREATE", "events:account_opened", "\x1b[5mgroup", "0"]).await;
    for words in [
        &["streams"][..],
        &["groups"],
        &["tail"],
        &["tail", "--json"],
        &["tail", "--full"],
        &["entity", "42"],
        &["dead", "list"],
        &["dead", "list", "audit"],
        &["dead", "list", "audit", "--json"],
        &["doctor"],
    ] {
        let ended = s.run(words);
        assert_eq!(ended.code, 0, "{ended:?}");
        let odd = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!ended.out.contains(odd) && !ended.err.contains(odd), "{words:?}: {ended:?}");
    }
    assert!(s.run(&["tail"]).ok().contains("is no event"), "what is no event is shown as such");
    assert!(s.run(&["streams"]).err.contains("not of this store"));
}

#[tokio::test]
async fn on_a_redis_cluster_the_streams_of_all_masters_are_found_and_followed() {
    let cluster = Cluster::start();
    let config = Config::new(&cluster.urls()[0]).layout(Layout::Tagged);
    let store = EventStore::connect(config).await.unwrap();
    let families = ["account", "note", "mandate", "branch"];
    for family in families {
        let kind = Kind::new(family);
        store.append(vec![NewEvent::put(kind, "opened", "1", &json!({ "id": "1" }))]).await.unwrap();
    }
    let urls = cluster.urls().join(",");
    assert_eq!(run(&urls, &["streams", "--json"]).json().as_array().unwrap().len(), families.len());
    let plain = run(&urls, &["--layout", "plain", "streams"]);
    assert_eq!(plain.code, 3, "the plain layout does not fit a cluster: {plain:?}");
    let words = ["tail", "--follow", "--json", "-n", "1"];
    let mut child = program(&urls, &words).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    assert!(line(&mut out).contains("branch_opened"));
    for family in families {
        let event = NewEvent::put(Kind::new(family), "opened", "2", &json!({ "id": "2" }));
        store.append(vec![event]).await.unwrap();
        assert!(line(&mut out).contains(&format!("\"stream\":\"{family}_opened\"")));
    }
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[tokio::test]
async fn every_example_in_the_help_runs() {
    let s = filled().await;
    let letter = s.run(&["dead", "list", "audit", "--json"]).json()[0]["letter"].as_str().unwrap().to_owned();
    s.store.position("sqlite-balances", streams()).register(Id::ZERO).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut examples = Vec::new();
    let commands: &[&[&str]] = &[
        &["streams"],
        &["settings"],
        &["groups"],
        &["pending"],
        &["tail"],
        &["entity"],
        &["doctor"],
        &["dead", "list"],
        &["dead", "show"],
        &["dead", "replay"],
        &["positions"],
        &["positions", "list"],
        &["positions", "remove"],
        &["trim"],
        &["export"],
        &["import"],
        &["verify"],
    ];
    for command in commands {
        let help = s.run(&[command, &["--help"][..]].concat()).ok();
        let found: Vec<String> = help
            .lines()
            .filter_map(|l| Some(l.strip_prefix("  eventstore ")?.replace("1548699678802-91", &letter)))
            .collect();
        assert!(!found.is_empty(), "no example of {command:?}");
        examples.extend(found);
    }
    for example in examples {
        let words: Vec<&str> = example.split(' ').collect();
        if words.contains(&"--follow") {
            let (mut child, mut out) = following(&s, &words);
            line(&mut out);
            interrupt(&child);
            assert_eq!(child.wait().unwrap().code(), Some(0), "{example}");
        } else {
            let ended = ended(program(&s.redis.url(), &words).current_dir(folder.path()));
            assert_eq!(ended.code, 0, "{example}: {ended:?}");
        }
    }
}
