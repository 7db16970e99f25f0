//! What following the log without a group promises.

#![allow(clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::{Id, ReadErrorKind, Unread};
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

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_whose_next_events_were_trimmed_says_so_and_one_that_has_read_them_goes_on() {
    let s = server().await;
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(s.store.append(vec![put("created", &format!("a{n}"), n)]).await.unwrap()[0].id);
    }
    // It reads a stream, too, in which nothing happens.
    let streams = ["created", "updated"].map(|action| ACCOUNT.stream(action)).to_vec();
    let mut whole = s.store.tail(streams.clone(), Id::ZERO);
    assert_eq!(whole.next().await.unwrap().len(), 10);
    s.store.append(vec![put("updated", "a0", 1)]).await.unwrap();
    assert_eq!(whole.next().await.unwrap().len(), 1);
    let mut midway = s.store.tail(streams.clone(), ids[3]);
    let first = ids[7];
    let trim = s.store.retention(streams.clone()).before(first).unread(Unread::Trim);
    trim.preview().await.unwrap().execute().await.unwrap();

    assert!(
        matches!(midway.next().await.unwrap_err().kind(), ReadErrorKind::Trimmed { .. }),
        "made before it"
    );
    for stored in [Id::ZERO, ids[3]] {
        let mut behind = s.store.tail(streams.clone(), stored);
        for _ in 0..2 {
            let error = behind.next().await.unwrap_err();
            assert!(
                matches!(error.kind(), ReadErrorKind::Trimmed { first: from } if from <= first),
                "{error}"
            );
        }
        assert_eq!(behind.position(), stored, "nothing was passed over");
    }
    let mut beside = s.store.tail(streams, ids[6]);
    assert_eq!(beside.next().await.unwrap().len(), 4, "three that were created and one update");
    let written = s.store.append(vec![put("created", "b", 1)]).await.unwrap()[0].id;
    assert_eq!(whole.next().await.unwrap()[0].id, written, "it had read all that is gone");
}
