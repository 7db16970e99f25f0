//! What the tests share: a store on a real server of its own, events, and waiting by asking.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test program uses a part of it"
)]

use event_store::testing::Redis;
use event_store::{Config, Event, EventStore, Handler, Kind, NewEvent, Outcome};
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub const ACCOUNT: Kind = Kind::new("account").lists(&["tags"]).indexes(&["owner"]);
pub const NOTE: Kind = Kind::new("note");

pub struct Server {
    pub redis: Redis,
    pub store: EventStore,
}

pub async fn server() -> Server {
    let redis = Redis::start();
    let store = EventStore::connect(Config::new(redis.url())).await.unwrap();
    Server { redis, store }
}

impl Server {
    /// Runs a command and answers it as redis-cli would get it.
    pub async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(self.redis.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await.unwrap()
    }
}

pub fn put(action: &'static str, id: &str, amount: u64) -> NewEvent {
    NewEvent::put(
        ACCOUNT,
        action,
        id,
        &json!({ "id": id, "owner": format!("owner of {id}"), "amount": amount }),
    )
}

/// Asks until it is so; fails with what was asked for after 20 seconds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !ask().await {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// (entity, version, action) of every event a handler was asked about, in order.
pub type Seen = Arc<Mutex<Vec<(String, u64, String)>>>;

/// Remembers what it is asked and answers by a function.
pub struct Recorder<F> {
    pub seen: Seen,
    pub answer: F,
}

impl<F, A> Handler for Recorder<F>
where
    F: Fn(Event) -> A + Send + Sync + 'static,
    A: Future<Output = Outcome> + Send,
{
    async fn handle(&self, event: &Event) -> Outcome {
        let entry = (event.entity_id.clone(), event.version, event.action().to_owned());
        self.seen.lock().unwrap().push(entry);
        (self.answer)(event.clone()).await
    }
}

/// Says `Done` without outputs to everything.
pub fn recorder(seen: &Seen) -> impl Handler {
    Recorder { seen: seen.clone(), answer: |_| async { Outcome::Done(Vec::new()) } }
}

/// What was seen of one entity, as versions.
pub fn versions(seen: &Seen, id: &str) -> Vec<u64> {
    seen.lock()
        .unwrap()
        .iter()
        .filter(|(entity, _, _)| entity == id)
        .map(|(_, version, _)| *version)
        .collect()
}

pub fn count(seen: &Seen) -> usize {
    seen.lock().unwrap().len()
}
