//! Looking at a store shows what there is, also what no program of the store wrote, and says
//! "unknown" where the server does not know.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod support;

use event_store::doctor::Access;
use event_store::inspect::{Filter, LogEntry};
use event_store::{
    Config, EventStore, Id, NewEvent, Outcome, ReadErrorKind, StreamName, Subscription, Unread,
};
use serde_json::json;
use support::{ACCOUNT, NOTE, Recorder, Seen, Server, eventually, plain, put, server};
use tokio_util::sync::CancellationToken;

fn opened() -> StreamName {
    ACCOUNT.stream("opened")
}

/// Two accounts and a note; the first account is closed again.
async fn fill(s: &Server) {
    for event in [
        put("opened", "1", 5),
        put("opened", "2", 7),
        put("changed", "1", 6),
        NewEvent::remove(ACCOUNT, "closed", "1", &json!({ "id": "1", "amount": 6 })),
        NewEvent::put(NOTE, "written", "1", &json!({ "id": "1" })),
    ] {
        s.store.append(vec![event]).await.unwrap();
    }
}

fn what(entries: &[LogEntry]) -> Vec<String> {
    entries
        .iter()
        .map(|e| match &e.content {
            Ok(event) => format!("{} {} v{}", e.stream, event.entity_id, event.version),
            Err(_) => format!("{} ?", e.stream),
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_streams_are_found_by_name_and_what_is_none_is_told_apart() {
    let s = server().await;
    fill(&s).await;
    let () = s.command(&["XADD", "events:no stream", "*", "f", "v"]).await;
    let found = s.store.inspect().discover().await.unwrap();
    let names: Vec<String> = found.streams.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["account_changed", "account_closed", "account_opened", "note_written"]);
    assert_eq!(found.foreign, ["events:no stream"]);

    let infos = s.store.inspect().streams(&[opened(), ACCOUNT.stream("never")], true).await.unwrap();
    assert_eq!((infos[0].length, infos[0].groups), (2, 0));
    assert!(infos[0].first < infos[0].last && infos[0].bytes.is_some_and(|b| b > 100));
    assert_eq!((infos[1].length, infos[1].last, infos[1].bytes), (0, None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_s_history_is_whole_in_order_across_its_streams_and_after_its_deletion() {
    let s = server().await;
    fill(&s).await;
    let streams = s.store.streams().await.unwrap();
    let history = s.store.inspect().history(&streams, Some("account"), "1").await.unwrap();
    assert_eq!(what(&history), ["account_opened 1 v1", "account_changed 1 v2", "account_closed 1 v3"]);
    let both = s.store.inspect().history(&streams, None, "1").await.unwrap();
    assert_eq!(both.len(), 4, "an account and a note have this id");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_entries_are_in_id_order_over_many_pages_and_streams() {
    let s = server().await;
    for n in 0..450 {
        let (action, id) = (if n % 3 == 0 { "changed" } else { "opened" }, format!("e{n}"));
        s.store.append(vec![put(action, &id, n)]).await.unwrap();
    }
    let streams = s.store.streams().await.unwrap();
    let all = s.store.inspect().recent(&streams, &Filter::default(), 1000).await.unwrap();
    assert_eq!(all.len(), 450);
    assert!(all.is_sorted_by_key(|e| e.id));
    let last = s.store.inspect().recent(&streams, &Filter::default(), 3).await.unwrap();
    assert_eq!(
        what(&last),
        ["account_opened e447 v1", "account_opened e448 v1", "account_opened e449 v1"]
            .map(|t| if t.contains("e447") { t.replace("opened", "changed") } else { t.to_owned() })
    );
    let since = s.store.inspect().recent(&streams, &Filter::default().since(last[1].id), 1000).await.unwrap();
    assert_eq!(since.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_another_program_is_shown_as_none_of_ours() {
    let s = server().await;
    fill(&s).await;
    let () = s.command(&["XADD", "events:account_opened", "*", "f", "\x1b[31m"]).await;
    let entries = s.store.inspect().recent(&[opened()], &Filter::default(), 10).await.unwrap();
    assert_eq!(what(&entries), ["account_opened 1 v1", "account_opened 2 v1", "account_opened ?"]);
    let of_one = s.store.inspect().history(&[opened()], None, "1").await.unwrap();
    assert_eq!(of_one.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lag_that_the_server_cannot_tell_is_unknown_and_never_0() {
    let s = plain().await;
    fill(&s).await;
    s.store.append(vec![put("opened", "3", 9)]).await.unwrap();
    let middle =
        s.store.inspect().recent(&[opened()], &Filter::default(), 10).await.unwrap()[1].id.to_string();
    let () = s.command(&["XGROUP", "CREATE", "events:account_opened", "from-the-middle", &middle]).await;
    let () = s.command(&["XGROUP", "CREATE", "events:account_opened", "from-the-start", "0"]).await;
    let groups = s.store.inspect().groups(&[opened(), ACCOUNT.stream("never")]).await.unwrap();
    let lags: Vec<_> = groups.iter().map(|g| (g.group.as_str(), g.streams[0].lag)).collect();
    assert_eq!(lags, [("from-the-middle", None), ("from-the-start", Some(3))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_shows_its_consumers_what_they_have_in_hand_and_what_is_parked() {
    let s = server().await;
    fill(&s).await;
    let seen = Seen::default();
    let handler = Recorder {
        seen: seen.clone(),
        answer: |event: event_store::Event| async move {
            if event.entity_id == "1" {
                return Outcome::Park("odd".to_owned());
            }
            std::future::pending().await
        },
    };
    let cancel = CancellationToken::new();
    let subscription = Subscription::new("audit", "one").streams([opened()]);
    let running = tokio::spawn(s.store.subscribe(subscription).run(handler, cancel.clone()));
    let inspector = s.store.inspect();
    eventually("one parked, one in hand", async || {
        let groups = inspector.groups(&[opened()]).await.unwrap();
        groups.iter().any(|g| g.group == "audit" && g.parked == 1 && g.streams[0].pending == 1)
    })
    .await;
    let consumers = inspector.consumers(&opened(), "audit").await.unwrap();
    assert_eq!((consumers[0].consumer.as_str(), consumers[0].pending), ("one", 1));
    let pending = inspector.pending(&opened(), "audit", None, Id::ZERO, 10).await.unwrap();
    assert_eq!((pending.len(), pending[0].consumer.as_str(), pending[0].deliveries), (1, "one", 1));
    let next = inspector.pending(&opened(), "audit", Some("one"), pending[0].id, 10).await.unwrap();
    assert_eq!(next, [], "the page after the last");
    assert_eq!(inspector.pending(&opened(), "unknown", None, Id::ZERO, 10).await.unwrap(), []);
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_whose_user_may_read_no_other_group_counts_its_dead_letters() {
    let s = plain().await;
    fill(&s).await;
    for group in ["audit", "other"] {
        let () = s.command(&["XGROUP", "CREATE", "events:account_opened", group, "0"]).await;
    }
    let reads =
        ["~eventstore:group:audit:*", "~events:*", "-@all", "+@read", "+@connection", "+info", "+time"];
    let user = [&["ACL", "SETUSER", "audit", "on", ">secret", "+multi", "+discard"], &reads[..]].concat();
    let () = s.command(&user).await;
    let url = format!("redis://audit:secret@127.0.0.1:{}", s.redis.single().port());
    let store = EventStore::connect(Config::new(url).access(Access::ReadOnly)).await.unwrap();
    assert_eq!(store.inspect().parked("audit", &[opened()]).await.unwrap(), 0);
    let error = store.inspect().groups(&[opened()]).await.unwrap_err();
    assert_eq!(error.kind(), ReadErrorKind::Refused, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_entity_whose_events_were_trimmed_the_last_one_is_still_shown() {
    let s = server().await;
    fill(&s).await;
    s.store.append(vec![put("opened", "3", 9)]).await.unwrap();
    let trim = s.store.retention([opened()]).unread(Unread::Trim).preview().await.unwrap();
    assert_eq!(trim.execute().await.unwrap().kept, 1);
    let history = s.store.inspect().history(&[opened()], Some("account"), "2").await.unwrap();
    assert_eq!(what(&history), ["account_opened 2 v1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_costs_as_many_reads_as_the_entity_has_events_however_long_the_log_is() {
    let s = plain().await;
    fill(&s).await;
    for part in 0..5 {
        let others = (0..100).map(|n| put("opened", &format!("other {part} {n}"), n));
        s.store.append(others.collect()).await.unwrap();
    }
    // An event of a note that is ordered with the account stands among its own.
    let note = NewEvent::put(NOTE, "opened", "1", &json!({})).ordered_with(ACCOUNT.ordering_key("1"));
    s.store.append(vec![note]).await.unwrap();
    s.store.append(vec![put("opened", "1", 9)]).await.unwrap();
    let streams = s.store.streams().await.unwrap();
    let whole = ["account_opened 1 v1", "account_changed 1 v2", "account_closed 1 v3", "account_opened 1 v4"];
    let () = s.command(&["CONFIG", "RESETSTAT"]).await;
    let history = s.store.inspect().history(&streams, Some("account"), "1").await.unwrap();
    let commands: String = s.command(&["INFO", "commandstats"]).await;
    assert_eq!(what(&history), whole);
    assert!(commands.contains("cmdstat_xrange:calls=5,") && !commands.contains("xrevrange"), "{commands}");
    // Where the record is lost, the log is asked.
    let _: i64 = s.command(&["DEL", "eventstore:key:account/1"]).await;
    let history = s.store.inspect().history(&streams, Some("account"), "1").await.unwrap();
    assert_eq!(what(&history), whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_server_tells_of_its_memory_and_its_disk() {
    let s = server().await;
    let servers = s.store.inspect().servers().await.unwrap();
    assert!(!servers.is_empty());
    for told in servers {
        assert!(told.memory_bytes.is_some_and(|bytes| bytes > 100_000), "{told:?}");
        assert_eq!((told.memory_limit_bytes, told.append_only), (None, Some(true)), "{told:?}");
        assert!(
            told.version.is_some() && told.fsync.is_some() && told.last_write_ok == Some(true),
            "{told:?}"
        );
    }
}
