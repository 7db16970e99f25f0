//! An old and a new program on one server: each calls functions of its own, and the group goes on.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::testing::VERSION;
use event_store::{EventStore, Expected, Handler, Subscription};
use std::time::Duration;
use support::{ACCOUNT, Child, Seen, eventually, put, recorder, server, versions};
use tokio_util::sync::CancellationToken;

fn subscription(consumer: &str) -> Subscription {
    Subscription::new("group", consumer)
        .streams([ACCOUNT.stream("created"), ACCOUNT.stream("updated")])
        .claim_after(Duration::from_secs(1))
}

async fn run(store: &EventStore, consumer: &str, handler: impl Handler, cancel: CancellationToken) {
    let _ = store.subscribe(subscription(consumer)).run(handler, cancel).await;
}

/// One more version of the entity, by whoever is first.
async fn one_more(store: &EventStore) {
    loop {
        let version = store.entity(ACCOUNT, "a").await.unwrap().map_or(0, |e| e.version);
        let action = if version == 0 { "created" } else { "updated" };
        match store.append(vec![put(action, "a", version).expect(Expected::Exactly(version))]).await {
            Ok(_) => return,
            Err(e) => assert!(e.is_conflict(), "{e}"),
        }
    }
}

/// The program of the other version: appends, handles, and marks both in the log.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Some((_, store)) = Child::task().await else { return };
    let consuming = tokio::spawn({
        let store = store.clone();
        async move { run(&store, "old", recorder(&Seen::default()), CancellationToken::new()).await }
    });
    loop {
        one_more(&store).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(!consuming.is_finished());
    }
}

async fn version(store: &EventStore) -> u64 {
    store.entity(ACCOUNT, "a").await.unwrap().map_or(0, |e| e.version)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_and_a_new_program_share_streams_and_groups_and_neither_takes_the_others_functions() {
    let s = server().await;
    let own = s.functions().await;
    let mut old = Child::start_with("work", &s, &[(VERSION, "old")]);
    eventually("the old program has loaded its own", || async { s.functions().await.len() == own.len() + 1 })
        .await;
    eventually("the old program appends", || async { version(&s.store).await > 5 }).await;

    let (seen, cancel) = (Seen::default(), CancellationToken::new());
    let consuming = tokio::spawn({
        let (store, seen, cancel) = (s.store.clone(), seen.clone(), cancel.clone());
        async move { run(&store, "new", recorder(&seen), cancel).await }
    });
    for _ in 0..50 {
        one_more(&s.store).await;
    }
    eventually("the new program handles some", || async { !versions(&seen, "a").is_empty() }).await;

    // Who deletes a library too early takes nothing from anybody: it is loaded again.
    let theirs = s.functions().await.into_iter().find(|name| !own.contains(name)).unwrap();
    let _: redis::Value = s.command(&["FUNCTION", "DELETE", &theirs]).await;
    let before = version(&s.store).await;
    eventually("the old program goes on", || async { version(&s.store).await > before + 5 }).await;
    assert!(s.functions().await.contains(&theirs));

    assert!(old.kill(), "the old program ran to the end");
    // An event is handled only after all that went before it: what the old program had in hand, too.
    one_more(&s.store).await;
    let last = version(&s.store).await;
    eventually("the new one handles what the old one left", || async {
        versions(&seen, "a").last() == Some(&last)
    })
    .await;
    cancel.cancel();
    consuming.await.unwrap();
    assert!(versions(&seen, "a").is_sorted());
    let mut versions = Vec::new();
    let streams = [ACCOUNT.stream("created"), ACCOUNT.stream("updated")];
    let mut tail = s.store.tail(streams.to_vec(), event_store::Id::ZERO);
    while (versions.len() as u64) < last {
        versions.extend(tail.next().await.unwrap().iter().map(|e| e.version));
    }
    assert_eq!(versions, (1..=last).collect::<Vec<u64>>(), "no gap and none twice");
}
