//! The load: clients that do to the shop through its gateway what customers and clerks do, each from a seed
//! of its own, and write down every call with its answer or the lack of one.

mod backlog;
mod command;
mod known;

use crate::history::{Answer, Call, Method, Recorder, Request};
use crate::rng::Rng;
use anyhow::Context;
use command::next;
use known::Known;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Longer than the gateway waits for a service, so that its own answer is seen.
const PATIENCE: Duration = Duration::from_secs(12);
/// The client that hangs up early: long enough for some of its commands to be done.
const IMPATIENCE: Duration = Duration::from_millis(25);

/// What all clients share.
#[derive(Clone)]
pub struct Load {
    recorder: Arc<Recorder>,
    http: reqwest::Client,
    base: String,
    known: Arc<Mutex<Known>>,
    stop: Arc<AtomicBool>,
    /// Of commands for a backlog, over the whole run.
    commands: Arc<AtomicU64>,
    seed: u64,
}

impl Load {
    /// The load of a seed on the gateway at this URL.
    pub fn new(recorder: Arc<Recorder>, base: String, seed: u64) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self {
            recorder,
            http,
            base,
            known: Arc::default(),
            stop: Arc::default(),
            commands: Arc::default(),
            seed,
        })
    }

    /// Clients, for so long, while faults are done, which may take longer.
    pub async fn during(
        &self,
        clients: u64,
        length: Duration,
        faults: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        self.begin().await?;
        let clients: Vec<_> = (0..clients).map(|number| tokio::spawn(self.clone().client(number))).collect();
        let end = tokio::time::Instant::now() + length;
        faults.await;
        tokio::time::sleep_until(end).await;
        self.stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.await.context("a client")?;
        }
        Ok(())
    }

    /// Fills the shelves, so that there is something to order: not under faults, and all must be answered.
    async fn begin(&self) -> anyhow::Result<()> {
        let mut rng = Rng::new(self.seed, 0);
        for (number, request) in command::opening(&mut rng).into_iter().enumerate() {
            self.must(format!("s{}-open-{number}", self.seed), request).await?;
        }
        let products = self.lock().products.clone();
        for (number, request) in command::shelves(&mut rng, &products).into_iter().enumerate() {
            self.must(format!("s{}-stock-{number}", self.seed), request).await?;
        }
        Ok(())
    }

    async fn must(&self, id: String, request: Request) -> anyhow::Result<()> {
        let call = self.ask(id, request, PATIENCE).await;
        anyhow::ensure!(call.status() == Some(200), "the shop does not open: {call:?}");
        Ok(())
    }

    /// One client, until it is stopped.
    async fn client(self, number: u64) {
        let mut rng = Rng::new(self.seed, 1000 + number);
        let mut count = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let request = next(&mut rng, &self.lock());
            let hurried = request.method != Method::Get && rng.chance(2);
            let patience = if hurried { IMPATIENCE } else { PATIENCE };
            let id = format!("s{}-c{number}-{count}", self.seed);
            count += 1;
            let call = self.ask(id, request, patience).await;
            // Whoever is told that nothing works does not ask again at once.
            let pause = if call.status().is_none_or(|status| status >= 500) { 200 } else { 5 };
            tokio::time::sleep(Duration::from_millis(rng.between(pause, pause * 6))).await;
        }
    }

    async fn ask(&self, id: String, request: Request, patience: Duration) -> Call {
        let call = self.call(id, request, patience).await;
        self.lock().learn(&call);
        call
    }

    /// Writes a call down, and tells no client of what it has made.
    async fn call(&self, id: String, request: Request, patience: Duration) -> Call {
        let begin = self.recorder.now();
        let answer = match tokio::time::timeout(patience, self.send(&id, &request)).await {
            Ok(Ok((status, body))) => Answer::Status(status, body),
            Ok(Err(error)) => Answer::Lost(format!("{error:#}")),
            Err(_) => Answer::Lost(format!("no answer within {patience:?}")),
        };
        let call = Call { id, begin, end: self.recorder.now(), request, answer };
        self.recorder.call(call.clone());
        call
    }

    async fn send(&self, id: &str, request: &Request) -> anyhow::Result<(u16, serde_json::Value)> {
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Delete => reqwest::Method::DELETE,
        };
        let url = format!("{}{}", self.base, request.path);
        let mut sent = self.http.request(method, url).header("x-request-id", id);
        if let Some(body) = &request.body {
            sent = sent.json(body);
        }
        let answer = sent.send().await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text))))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
