//! What following the log without a group promises.

#![allow(clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::Id;
use std::time::Duration;
use support::{ACCOUNT, eventually, put, server};

#[tokio::test(flavor = "multi_thread")]
async fn what_one_call_writes_to_several_streams_in_turn_is_handed_out_whole_and_in_order() {
    let s = server().await;
    let head = s.store.append(vec![put("created", "a", 1)]).await.unwrap()[0].id;
    let streams = ["created", "updated", "deleted"].map(|action| ACCOUNT.stream(action)).to_vec();
    let mut tail = s.store.tail(streams, head);
    let followed = tokio::spawn(async move {
        let mut ids = Vec::new();
        while ids.len() < 3 {
            ids.extend(tail.next().await.unwrap().into_iter().map(|event| event.id));
        }
        ids
    });
    // It waits inside the server: what wakes it up is the next append.
    eventually("a blocked reader", || async {
        // A text, or on a cluster one from each master.
        let clients: redis::Value = s.command(&["INFO", "clients"]).await;
        format!("{clients:?}").contains("blocked_clients:1")
    })
    .await;
    let written = vec![put("updated", "a", 2), put("created", "b", 1), put("updated", "a", 3)];
    let written: Vec<Id> = s.store.append(written).await.unwrap().iter().map(|event| event.id).collect();
    let followed = tokio::time::timeout(Duration::from_secs(20), followed).await.unwrap().unwrap();
    assert_eq!(followed, written);
}
