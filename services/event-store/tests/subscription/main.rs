//! What a subscription promises, on a real server.

#![allow(clippy::unwrap_used, reason = "a test may end at once")]

mod bytes;
mod claims;
mod dead;
mod effects;
mod group;
mod names;
mod order;
mod progress;
mod random;
mod reading;
mod schedule;
mod streams;
#[path = "../support/mod.rs"]
mod support;

use event_store::testing::{self, Line, Lost, Proxy, Setup};
use event_store::{
    Config, Event, EventStore, Id, NewEvent, Outcome, Select, Start, Subscription, SubscriptionError,
    SubscriptionErrorKind,
};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use support::log::Lines;
use support::{
    ACCOUNT, Child, NOTE, Recorder, Seen, Server, count, durable, eventually, fresh_name, member, patiently,
    plain, put, recorder, server, versions,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::instrument::WithSubscriber;

/// A consumer under a name that no other one has.
fn subscription(purpose: &str) -> Subscription {
    on_accounts(member("group", purpose))
}

fn on_accounts(member: Subscription) -> Subscription {
    member
        .streams([ACCOUNT.stream("created"), ACCOUNT.stream("updated")])
        .claim_after(Duration::from_millis(400))
        .retry(Duration::from_millis(10), Duration::from_millis(50))
}

struct Running {
    task: JoinHandle<Result<(), SubscriptionError>>,
    cancel: CancellationToken,
}

impl Running {
    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// As a crash would: nothing is handed back.
    fn kill(self) {
        self.task.abort();
    }
}

fn run(store: &EventStore, subscription: Subscription, handler: impl event_store::Handler) -> Running {
    let cancel = CancellationToken::new();
    let task = tokio::spawn(store.subscribe(subscription).run(handler, cancel.clone()));
    Running { task, cancel }
}

async fn history(store: &EventStore, id: &str, length: u64) {
    store.append(vec![put("created", id, 0)]).await.unwrap();
    for n in 1..length {
        store.append(vec![put("updated", id, n)]).await.unwrap();
    }
}

async fn pending(s: &Server) -> u64 {
    let mut sum = 0;
    for stream in ["events:account_created", "events:account_updated"] {
        let summary: Vec<redis::Value> = s.command(&["XPENDING", stream, "group"]).await;
        sum += redis::from_redis_value::<u64>(summary[0].clone()).unwrap();
    }
    sum
}

/// What another process of this program does, for tests that kill it; see `Child`.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Some((task, store)) = support::Child::task().await else { return };
    match task.as_str() {
        "large" => bytes::handle_large(store).await,
        _ => effects::live_until_killed(&task, store).await,
    }
}
