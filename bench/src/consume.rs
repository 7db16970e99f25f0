//! Consuming: a subscription that handles everything in the log, beside a loop of XREADGROUP COUNT 100
//! and XACK over the same entries.

use crate::append::rate;
use crate::report::{Bar, Report};
use crate::sample::{sample, streams};
use crate::{Bench, raw};
use anyhow::{Result, bail};
use event_store::{Event, Handler, Outcome, Subscription};
use redis::Value;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub(crate) async fn run(bench: &Bench, shrink: u64, report: &mut Report) -> Result<()> {
    let events = (100_000 / shrink).max(1000);
    fill(bench, 0..events).await?;
    let mut pairs = Vec::new();
    for round in 0..=bench.rounds {
        let ours = ours(bench, events, &format!("ours{round}")).await?;
        let raw = raw_loop(bench, events, &format!("raw{round}")).await?;
        if round > 0 {
            pairs.push((ours, raw));
        }
    }
    report.add("consume and acknowledge, positions kept", "events/s", &pairs, Bar::AtLeast(0.7));
    Ok(())
}

/// Fills the log in batches with the events of these numbers; entities of ten events each, many of them growing at once.
pub(crate) async fn fill(bench: &Bench, events: Range<u64>) -> Result<()> {
    let mut batch = Vec::new();
    for n in events {
        // Neighbours in the log belong to different entities, as in a system with many users.
        let (block, i) = (n / 1000, n % 1000);
        batch.push(sample("fill", block * 1000 + (i % 100) * 10 + i / 100).event());
        if batch.len() == 100 {
            bench.store.append(std::mem::take(&mut batch)).await?;
        }
    }
    if !batch.is_empty() {
        bench.store.append(batch).await?;
    }
    Ok(())
}

struct Counting {
    left: AtomicU64,
    done: Arc<Notify>,
}

impl Handler for Counting {
    async fn handle(&self, _: &Event) -> Outcome {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.done.notify_one();
        }
        Outcome::Done(Vec::new())
    }
}

/// Events a second, until the last of so many is finished on the server.
pub(crate) async fn ours(bench: &Bench, events: u64, group: &str) -> Result<f64> {
    let done = Arc::new(Notify::new());
    let handler = Counting { left: AtomicU64::new(events), done: done.clone() };
    let consumer = bench.store.subscribe(Subscription::new(group, "bench").streams(streams()));
    let observation = consumer.observe();
    let cancel = CancellationToken::new();
    let begin = Instant::now();
    let running = tokio::spawn(consumer.run(handler, cancel.clone()));
    if tokio::time::timeout(Duration::from_mins(5), done.notified()).await.is_err() {
        bail!("the subscription handled {} of {events} events in five minutes", observation.handled());
    }
    while observation.handled() < events {
        tokio::task::yield_now().await;
    }
    let rate = rate(events, begin);
    cancel.cancel();
    running.await??;
    Ok(rate)
}

async fn raw_loop(bench: &Bench, events: u64, group: &str) -> Result<f64> {
    let mut connection = raw::connection(&bench.redis.url()).await?;
    let keys: Vec<String> = streams().iter().map(|s| format!("events:{s}")).collect();
    for key in &keys {
        redis::cmd("XGROUP").arg(&["CREATE", key, group, "0"]).exec_async(&mut connection).await?;
    }
    let begin = Instant::now();
    let mut left = events;
    while left > 0 {
        let mut read = redis::cmd("XREADGROUP");
        read.arg(&["GROUP", group, "bench", "COUNT", "100", "BLOCK", "1000", "STREAMS"]).arg(&keys);
        for _ in &keys {
            read.arg(">");
        }
        let reply: Value = read.query_async(&mut connection).await?;
        let batches = raw::entries(reply);
        if batches.is_empty() {
            bail!("{left} entries were not delivered");
        }
        let mut acknowledge = redis::pipe();
        for (key, entries) in &batches {
            let command = acknowledge.cmd("XACK").arg(key).arg(group);
            for (id, _) in entries {
                command.arg(id);
            }
            command.ignore();
            left = left.saturating_sub(entries.len() as u64);
        }
        acknowledge.exec_async(&mut connection).await?;
    }
    Ok(rate(events, begin))
}
