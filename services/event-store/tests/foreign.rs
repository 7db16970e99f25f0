//! What holds when another program writes into the store's streams, with a clock that goes ahead.

#![allow(clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::{Id, Projection, Write};
use std::time::Duration;
use support::{ACCOUNT, eventually, put, server};
use tokio_util::sync::CancellationToken;

/// Ten seconds ahead of everything that a test appends.
fn ahead(id: Id) -> String {
    format!("{}-0", id.ms + 10_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_another_program_with_an_id_ahead_hides_no_event_from_readers() {
    let s = server().await;
    let streams = || ["created", "updated"].map(|action| ACCOUNT.stream(action));
    let first = s.store.append(vec![put("created", "a", 1)]).await.unwrap()[0].id;
    let projector = s.store.project(Projection::new("names", 1).streams(streams()));
    let (view, cancel) = (projector.view(), CancellationToken::new());
    let running = tokio::spawn({
        let cancel = cancel.clone();
        let apply = |event: &event_store::Event| {
            let (field, value) = (event.entity_id.clone(), event.version.to_string());
            vec![Write::HashSet { key: "versions".into(), field, value }]
        };
        async move { projector.run(apply, cancel).await }
    });
    let mut tail = s.store.tail(streams().to_vec(), Id::ZERO);
    assert_eq!(tail.next().await.unwrap().len(), 1);
    eventually("the first event", || async { view.position() >= first }).await;

    let _: String = s.command(&["XADD", "events:account_created", &ahead(first), "hello", "world"]).await;
    assert_eq!(s.store.head_of(&streams()).await.unwrap(), first, "what is no event is no head");
    let second = s.store.append(vec![put("updated", "a", 2)]).await.unwrap()[0].id;
    let seen = tokio::time::timeout(Duration::from_secs(20), tail.next()).await.unwrap().unwrap();
    assert_eq!(seen.iter().map(|event| event.id).collect::<Vec<_>>(), [second]);
    view.wait_until(second, Duration::from_secs(20)).await.unwrap();
    assert_eq!(view.hash_get("versions", &["a"]).await.unwrap(), [Some("2".to_owned())]);

    // In its own stream, too.
    let third = s.store.append(vec![put("created", "b", 1)]).await.unwrap()[0].id;
    view.wait_until(third, Duration::from_secs(20)).await.unwrap();
    let mut ids = Vec::new();
    s.store.replay(&streams(), |event| ids.push(event.id)).await.unwrap();
    assert_eq!(ids, [first, second, third]);
    cancel.cancel();
    let _ = running.await;
}
