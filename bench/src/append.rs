//! Appending: 64 tasks write single events, or batches of ten, as fast as they are answered.

use crate::report::{Bar, Report};
use crate::sample::sample;
use crate::{Bench, raw};
use anyhow::Result;
use std::time::Instant;
use tokio::task::JoinSet;

const TASKS: u64 = 64;

pub(crate) async fn run(bench: &Bench, shrink: u64, report: &mut Report) -> Result<()> {
    for (size, events, bar) in [(1, 64_000, 0.5), (10, 128_000, 0.7)] {
        let events = (events / shrink).max(TASKS * size);
        let mut pairs = Vec::new();
        for round in 0..=bench.rounds {
            let ours = ours(bench, events, size, &format!("o{size}r{round}")).await?;
            let raw = raw_writes(bench, events, size, &format!("w{size}r{round}")).await?;
            // The first round warms both sides up.
            if round > 0 {
                pairs.push((ours, raw));
            }
        }
        let what = if size == 1 {
            "append, single events by 64 tasks".to_owned()
        } else {
            format!("append, batches of {size} by 64 tasks")
        };
        report.add(what, "events/s", &pairs, Bar::AtLeast(bar));
    }
    Ok(())
}

/// Events a second.
pub(crate) async fn ours(bench: &Bench, events: u64, size: u64, prefix: &str) -> Result<f64> {
    let each = events / TASKS / size;
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (store, prefix) = (bench.store.clone(), format!("{prefix}t{task}"));
        tasks.spawn(async move {
            for call in 0..each {
                let batch = (0..size).map(|i| sample(&prefix, call * size + i).event()).collect();
                store.append(batch).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(rate(each * TASKS * size, begin))
}

async fn raw_writes(bench: &Bench, events: u64, size: u64, prefix: &str) -> Result<f64> {
    let each = events / TASKS / size;
    let connection = raw::connection(&bench.redis.url()).await?;
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (mut connection, prefix) = (connection.clone(), format!("{prefix}t{task}"));
        tasks.spawn(async move {
            for call in 0..each {
                let mut pipeline = redis::pipe();
                for i in 0..size {
                    raw::write(&mut pipeline, &sample(&prefix, call * size + i));
                }
                pipeline.exec_async(&mut connection).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(rate(each * TASKS * size, begin))
}

#[expect(clippy::cast_precision_loss, reason = "counts of events")]
pub(crate) fn rate(events: u64, begin: Instant) -> f64 {
    events as f64 / begin.elapsed().as_secs_f64()
}
