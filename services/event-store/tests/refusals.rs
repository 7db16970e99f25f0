//! What a server promises that refuses writes for a while: it delays, and repeats nothing outside.

#![allow(clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::{Event, Handler, NewEvent, Outcome, Subscription};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::{ACCOUNT, NOTE, eventually, plain, put};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Does something outside, once a call, and ends when it is told.
#[derive(Clone, Default)]
struct Outside {
    calls: Arc<AtomicUsize>,
    called: Arc<Notify>,
    go_on: Arc<Notify>,
}

impl Handler for Outside {
    async fn handle(&self, event: &Event) -> Outcome {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.called.notify_one();
        self.go_on.notified().await;
        Outcome::Done(vec![NewEvent::put(
            NOTE,
            "sent",
            event.entity_id.clone(),
            &json!({ "id": event.entity_id }),
        )])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_writes_makes_no_handler_repeat_what_it_did() {
    for (setting, refusing, normal, error) in
        [("maxmemory", "1", "0", "OOM"), ("min-replicas-to-write", "1", "0", "NOREPLICAS")]
    {
        let s = plain().await;
        s.store.append(vec![put("created", "a", 1)]).await.unwrap();
        let (outside, cancel) = (Outside::default(), CancellationToken::new());
        let subscription = Subscription::new("group", "one").streams([ACCOUNT.stream("created")]);
        let consumer = s.store.subscribe(subscription);
        let running = tokio::spawn({
            let (outside, cancel) = (outside.clone(), cancel.clone());
            async move { consumer.run(outside, cancel).await }
        });
        outside.called.notified().await;
        let _: String = s.command(&["CONFIG", "SET", setting, refusing]).await;
        outside.go_on.notify_one();
        eventually("several refusals", || async {
            let stats: String = s.command(&["INFO", "errorstats"]).await;
            let of = stats.lines().find_map(|line| line.strip_prefix(&format!("errorstat_{error}:count=")));
            of.and_then(|count| count.trim().parse::<u64>().ok()).is_some_and(|count| count > 5)
        })
        .await;
        let _: String = s.command(&["CONFIG", "SET", setting, normal]).await;
        // Were it asked again, it would end at once.
        outside.go_on.notify_one();
        eventually("the output", || async { s.command::<u64>(&["XLEN", "events:note_sent"]).await == 1 })
            .await;
        assert_eq!(outside.calls.load(Ordering::SeqCst), 1, "{setting}");
        cancel.cancel();
        drop(running.await);
    }
}
