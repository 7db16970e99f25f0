//! What the tests share: a store on a real server of its own, events, and waiting by asking.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test program uses a part of it"
)]

pub mod log;

use event_store::testing::{Redis, Server as Running, Setup, patient_connection};
use event_store::{Config, Event, EventStore, Handler, Kind, Layout, NewEvent, Outcome, Subscription};
use redis::aio::ConnectionLike;
use redis::cluster_async::ClusterConnection;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub const ACCOUNT: Kind = Kind::new("account").lists(&["tags"]).indexes(&["owner"]);
pub const NOTE: Kind = Kind::new("note");

/// A machine that does much else answers late; the client's default is half a second.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Server {
    pub redis: Running,
    pub store: EventStore,
}

/// A store on what the run is about: see `event_store::testing::Setup`.
pub async fn server() -> Server {
    start(Setup::from_env()).await
}

/// For a promise that only the plain layout gives: one step or one order across families. Its
/// counterpart for the tagged layout stands beside it, with `tagged`.
pub async fn plain() -> Server {
    start(Setup::Plain).await
}

/// For a promise about the tagged layout: on the cluster when the run is about one.
pub async fn tagged() -> Server {
    start(Setup::tagged_from_env()).await
}

/// For a test that kills the server and counts what is left. With `appendfsync everysec` a server
/// puts off its writes while an fsync is running, so a kill at that moment loses what it has
/// acknowledged since.
pub async fn durable() -> Server {
    open(Running::start_with(Setup::from_env(), &["--appendfsync", "always"])).await
}

pub async fn start(setup: Setup) -> Server {
    open(Running::start(setup)).await
}

pub async fn open(redis: Running) -> Server {
    let store = EventStore::connect(redis.config()).await.unwrap();
    Server { redis, store }
}

impl Server {
    /// Runs a command and answers it as redis-cli would get it. Keys are written as in the plain
    /// layout and named as in this one, see [`Server::name`].
    pub async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_command(words).await.unwrap()
    }

    pub async fn try_command<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(self.name(word));
        }
        match &self.redis {
            Running::Single(redis, _) => {
                answer_of(&command, &mut patient_connection(redis.url()).await?).await
            }
            Running::Cluster(cluster) => {
                let mut connection = patient_cluster(cluster.urls()).await?;
                answer_of(&command, &mut connection).await
            }
        }
    }

    /// The libraries of functions that a server has; on a cluster those of any one node.
    pub async fn functions(&self) -> Vec<String> {
        let url = match &self.redis {
            Running::Single(redis, _) => redis.url(),
            Running::Cluster(cluster) => {
                cluster.nodes()[cluster.owner_of(&self.name("events:account_created"))].url()
            }
        };
        let mut connection = patient_connection(url).await.unwrap();
        let listed: Vec<std::collections::HashMap<String, redis::Value>> =
            redis::cmd("FUNCTION").arg("LIST").query_async(&mut connection).await.unwrap();
        let name = |mut library: std::collections::HashMap<_, _>| library.remove("library_name").unwrap();
        listed.into_iter().map(|library| redis::from_redis_value(name(library)).unwrap()).collect()
    }

    /// Runs a command whose words stay as they are.
    pub async fn raw(&self, command: &redis::Cmd) -> redis::Value {
        match &self.redis {
            Running::Single(redis, _) => {
                answer_of(command, &mut patient_connection(redis.url()).await.unwrap()).await.unwrap()
            }
            Running::Cluster(cluster) => {
                let mut connection = patient_cluster(cluster.urls()).await.unwrap();
                answer_of(command, &mut connection).await.unwrap()
            }
        }
    }

    /// A key of the plain layout as this server's layout names it. The store's own keys are those of
    /// the family `account`.
    pub fn name(&self, plain: &str) -> String {
        if self.redis.layout() == Layout::Plain { plain.to_owned() } else { tag(plain) }
    }
}

async fn answer_of<T: redis::FromRedisValue>(
    command: &redis::Cmd,
    connection: &mut impl ConnectionLike,
) -> redis::RedisResult<T> {
    command.query_async(connection).await
}

/// `events:account_created` → `events:{account}_created`, and so on; what is no key stays.
fn tag(plain: &str) -> String {
    for family in [ACCOUNT.name(), NOTE.name()] {
        for (before, after) in
            [("events:", "_"), ("", "_ids"), ("", "_entity:"), ("", "_tags:"), ("", "_by_")]
        {
            if let Some(rest) = plain.strip_prefix(&format!("{before}{family}{after}")) {
                return format!("{before}{{{family}}}{after}{rest}");
            }
        }
    }
    if let Some(rest) = plain.strip_prefix("eventstore:") {
        return format!("eventstore:{{{}}}:{rest}", ACCOUNT.name());
    }
    for version in [":v1:", ":v2:"] {
        if let Some((projection, key)) = plain.split_once(version) {
            return format!("{{{projection}}}{version}{key}");
        }
    }
    plain.to_owned()
}

pub fn put(action: &'static str, id: &str, amount: u64) -> NewEvent {
    NewEvent::put(
        ACCOUNT,
        action,
        id,
        &json!({ "id": id, "owner": format!("owner of {id}"), "amount": amount }),
    )
}

/// Counts the consumers that this process starts.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// A consumer's name that no other one has: in a cluster each process that starts has a new one.
pub fn fresh_name(purpose: &str) -> String {
    format!("{purpose}-{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed))
}

/// A member of a group under a name of its own. Members differ in their settings, as while new ones are rolled out: a
/// test that depends on one sets it.
pub fn member(group: &str, purpose: &str) -> Subscription {
    let name = fresh_name(purpose);
    let concurrency = [16, 3, 64][STARTED.load(Ordering::Relaxed) % 3];
    Subscription::new(group, name).concurrency(concurrency)
}

/// Asks until it is so; fails with what was asked for after 20 seconds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, ask: impl FnMut() -> F) {
    within(Duration::from_secs(20), what, ask).await;
}

/// As [`eventually`], for what comes after a failover: that takes its time, and longer on a busy machine.
pub async fn patiently<F: Future<Output = bool>>(what: &str, ask: impl FnMut() -> F) {
    within(Duration::from_mins(2), what, ask).await;
}

async fn within<F: Future<Output = bool>>(bound: Duration, what: &str, mut ask: impl FnMut() -> F) {
    let deadline = Instant::now() + bound;
    while !ask().await {
        assert!(Instant::now() < deadline, "not within {bound:?}: {what}");
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

/// A process of its own, to be killed for real: this test program again, in which the test `child`
/// does what it is told by the environment.
pub struct Child(std::process::Child);

impl Child {
    pub fn start(task: &str, server: &Server) -> Self {
        Self::start_with(task, server, &[])
    }

    pub fn start_with(task: &str, server: &Server, envs: &[(&str, &str)]) -> Self {
        let urls = match &server.redis {
            Running::Single(redis, _) => redis.url(),
            Running::Cluster(cluster) => cluster.urls().join(","),
        };
        Self::spawn(task, &urls, server.redis.layout(), envs)
    }

    pub fn start_at(task: &str, urls: &str, layout: Layout) -> Self {
        Self::spawn(task, urls, layout, &[])
    }

    fn spawn(task: &str, urls: &str, layout: Layout, envs: &[(&str, &str)]) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = std::process::Command::new(program);
        command.args(["child", "--exact", "--nocapture"]).env("CHILD_TASK", task).env("CHILD_URLS", urls);
        command.envs(envs.iter().copied()).env("CHILD_PLAIN", (layout == Layout::Plain).to_string());
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// SIGKILL; answers whether it was still running.
    pub fn kill(&mut self) -> bool {
        let running = !self.ended();
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        running
    }

    /// Has it ended by itself?
    pub fn ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// The most memory that it has had so far, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// In the child: what to do, on which server. Nothing in the test program itself.
    pub async fn task() -> Option<(String, EventStore)> {
        let (Ok(task), Ok(urls)) = (std::env::var("CHILD_TASK"), std::env::var("CHILD_URLS")) else {
            return None;
        };
        let mut urls = urls.split(',');
        let mut config = Config::new(urls.next().unwrap());
        if std::env::var("CHILD_PLAIN").is_ok_and(|plain| plain == "false") {
            config = config.layout(Layout::Tagged);
        }
        let config = urls.fold(config, Config::node);
        Some((task, EventStore::connect(config).await.unwrap()))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn patient_cluster(urls: Vec<String>) -> redis::RedisResult<ClusterConnection> {
    let client = redis::cluster::ClusterClientBuilder::new(urls)
        .connection_timeout(PATIENCE)
        .response_timeout(PATIENCE)
        .build()?;
    client.get_async_connection().await
}

/// Runs a command on a server that a test started by itself.
pub async fn ask<T: redis::FromRedisValue>(redis: &Redis, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(&mut patient_connection(redis.url()).await.unwrap()).await.unwrap()
}
