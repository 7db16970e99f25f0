//! What the tests share: the real program, and a store on a real server that the library filled.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test program uses a part of it"
)]

use event_store::testing::Redis;
use event_store::{
    CancellationToken, Config, Event, EventStore, Handler, Kind, NewEvent, Outcome, StreamName, Subscription,
};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub const ACCOUNT: Kind = Kind::new("account");
pub const NOTE: Kind = Kind::new("note");

pub struct Filled {
    pub redis: Redis,
    pub store: EventStore,
}

/// How the program ended and what it printed.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    #[track_caller]
    pub fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// One value a line.
    #[track_caller]
    pub fn lines(self) -> Vec<Value> {
        self.ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub fn program(url: &str, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eventstore"));
    command.args(words).env("EVENTSTORE_URL", url).stdin(Stdio::null());
    command
}

pub fn run(url: &str, words: &[&str]) -> Ended {
    ended(&mut program(url, words))
}

pub fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

pub fn put(action: &'static str, id: &str, amount: u64) -> NewEvent {
    NewEvent::put(ACCOUNT, action, id, &json!({ "id": id, "amount": amount }))
}

pub fn streams() -> [StreamName; 3] {
    ["opened", "changed", "closed"].map(|action| ACCOUNT.stream(action))
}

/// Parks what happens to accounts whose ids begin with 42.
pub struct Auditor;

impl Handler for Auditor {
    async fn handle(&self, event: &Event) -> Outcome {
        if event.entity_id.starts_with("42") {
            Outcome::Park("odd \x1b[31mamount".to_owned())
        } else {
            Outcome::Done(Vec::new())
        }
    }
}

/// Account 7 was closed again, account 42 is parked by the group `audit`, a note has the id 42 too.
pub async fn filled() -> Filled {
    let redis = Redis::start();
    let store = EventStore::connect(Config::new(redis.url())).await.unwrap();
    for event in [
        put("opened", "7", 1),
        put("opened", "42", 2),
        put("changed", "7", 3),
        NewEvent::remove(ACCOUNT, "closed", "7", &json!({ "id": "7", "amount": 3 })),
        NewEvent::put(NOTE, "written", "42", &json!({ "id": "42", "text": "a\u{202e}b\x1b[2J" })),
    ] {
        store.append(vec![event]).await.unwrap();
    }
    let filled = Filled { redis, store };
    filled.run_auditor_until(1, 3).await;
    filled
}

impl Filled {
    pub fn run(&self, words: &[&str]) -> Ended {
        run(&self.redis.url(), words)
    }

    pub async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut connection = event_store::testing::patient_connection(self.redis.url()).await.unwrap();
        redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.unwrap()
    }

    /// Handles what there is until so many are parked and so many finished.
    pub async fn run_auditor_until(&self, parked: u64, finished: u64) {
        let cancel = CancellationToken::new();
        let subscription = Subscription::new("audit", "one").streams(streams());
        let consumer = self.store.subscribe(subscription);
        let seen = consumer.observe();
        let running = tokio::spawn(consumer.run(Auditor, cancel.clone()));
        let letters = self.store.dead_letters("audit", "account");
        eventually("the group has handled everything", async || {
            letters.count().await.unwrap() == parked && seen.handled() >= finished
        })
        .await;
        cancel.cancel();
        assert!(running.await.is_ok());
    }
}

pub async fn eventually(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !ask().await {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
