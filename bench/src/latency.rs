//! From append to handler, at a steady pace: a subscription beside a raw loop of XADD, XREADGROUP and XACK.

use crate::report::{Bar, Report, Values};
use crate::sample::{Sample, sample, streams};
use crate::{Bench, raw};
use anyhow::Result;
use event_store::{Event, Handler, Outcome, Subscription};
use redis::Value;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) async fn run(bench: &Bench, shrink: u64, report: &mut Report) -> Result<()> {
    for (pace, events, share, bar) in [(200, 1_000, 0.5, 0.3), (2_000, 10_000, 0.99, 2.0)] {
        let events = (events / shrink).max(100);
        let mut pairs = Vec::new();
        for round in 0..=bench.rounds {
            let name = format!("p{pace}r{round}");
            let ours = Values::new(ours(bench, pace, events, &name).await?).quantile(share);
            let raw = Values::new(raw_loop(bench, pace, events, &name).await?).quantile(share);
            if round > 0 {
                pairs.push((ours, raw));
            }
        }
        let what = format!("append to handler, p{:.0} at {pace} events/s", share * 100.0);
        report.add(what, "ms", &pairs, Bar::Over(bar));
    }
    Ok(())
}

/// The moment of sending stands in the event: this many microseconds after `base`.
fn stamped(prefix: &str, n: u64, base: Instant) -> Sample {
    let mut sample = sample(prefix, n * 10);
    sample.state["balance"] = u64::try_from(base.elapsed().as_micros()).unwrap_or(u64::MAX).into();
    sample
}

fn millis_since(base: Instant, sent: u64) -> f64 {
    base.elapsed().saturating_sub(Duration::from_micros(sent)).as_secs_f64() * 1000.0
}

/// Calls `send` `events` times at this pace, each in a task of its own so that none waits for another.
async fn paced<F: Future<Output = ()> + Send + 'static>(pace: u64, events: u64, send: impl Fn(u64) -> F) {
    let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / pace));
    for n in 0..events {
        tick.tick().await;
        tokio::spawn(send(n));
    }
}

struct Timing {
    base: Instant,
    times: mpsc::UnboundedSender<f64>,
    prefix: String,
}

impl Handler for Timing {
    async fn handle(&self, event: &Event) -> Outcome {
        let sent = event.entity["balance"].as_u64().unwrap_or(0);
        if event.entity_id.starts_with(&self.prefix) {
            // The receiver is gone only when the round has all its times.
            let _ = self.times.send(millis_since(self.base, sent));
        }
        Outcome::Done(Vec::new())
    }
}

async fn ours(bench: &Bench, pace: u64, events: u64, name: &str) -> Result<Vec<f64>> {
    let base = Instant::now();
    let (times, mut arrived) = mpsc::unbounded_channel();
    let handler = Timing { base, times, prefix: name.to_owned() };
    let consumer = bench.store.subscribe(Subscription::new("latency", "bench").streams(streams()));
    let observation = consumer.observe();
    let cancel = CancellationToken::new();
    let running = tokio::spawn(consumer.run(handler, cancel.clone()));
    while !observation.ready() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (store, prefix) = (bench.store.clone(), name.to_owned());
    paced(pace, events, |n| {
        let (store, sample) = (store.clone(), stamped(&prefix, n, base));
        async move {
            if let Err(error) = store.append(vec![sample.event()]).await {
                eprintln!("append: {error}");
            }
        }
    })
    .await;
    let mut all = Vec::new();
    while (all.len() as u64) < events {
        let next = tokio::time::timeout(Duration::from_secs(30), arrived.recv()).await?;
        all.extend(next);
    }
    cancel.cancel();
    running.await??;
    Ok(all)
}

async fn raw_loop(bench: &Bench, pace: u64, events: u64, name: &str) -> Result<Vec<f64>> {
    let base = Instant::now();
    let url = bench.redis.url();
    let (mut reader, writer) = (raw::connection(&url).await?, raw::connection(&url).await?);
    let keys: Vec<String> = streams().iter().map(raw::stream_key).collect();
    for key in &keys {
        redis::cmd("XGROUP").arg(&["CREATE", key, name, "$", "MKSTREAM"]).exec_async(&mut reader).await?;
    }
    let all = Arc::new(Mutex::new(Vec::new()));
    let reading = {
        let (all, group) = (all.clone(), name.to_owned());
        tokio::spawn(async move {
            let mut left = events;
            while left > 0 {
                let mut read = redis::cmd("XREADGROUP");
                read.arg(&["GROUP", &group, "bench", "COUNT", "100", "BLOCK", "1000", "STREAMS"]).arg(&keys);
                for _ in &keys {
                    read.arg(">");
                }
                let reply: Value = read.query_async(&mut reader).await?;
                let mut acknowledge = redis::pipe();
                for (key, entries) in raw::entries(reply) {
                    let command = acknowledge.cmd("XACK").arg(key).arg(&group);
                    for (id, fields) in entries {
                        let entity =
                            fields.iter().find(|(name, _)| name == "entity").map(|(_, v)| v.as_str());
                        let state: serde_json::Value = serde_json::from_str(entity.unwrap_or("{}"))?;
                        let took = millis_since(base, state["balance"].as_u64().unwrap_or(0));
                        all.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(took);
                        command.arg(id);
                        left = left.saturating_sub(1);
                    }
                    command.ignore();
                }
                acknowledge.exec_async(&mut reader).await?;
            }
            anyhow::Ok(())
        })
    };
    paced(pace, events, |n| {
        let (mut writer, sample) = (writer.clone(), stamped(name, n, base));
        async move {
            let mut pipeline = redis::pipe();
            raw::write(&mut pipeline, &sample);
            if let Err(error) = pipeline.exec_async(&mut writer).await {
                eprintln!("XADD: {error}");
            }
        }
    })
    .await;
    tokio::time::timeout(Duration::from_secs(30), reading).await???;
    let times = all.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    Ok(times)
}
