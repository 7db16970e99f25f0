//! Memory on the server: what an event costs through the store, beside its raw entry, set member and hash.

use crate::report::{Bar, Report};
use crate::sample::sample;
use crate::{Bench, raw};
use anyhow::{Context, Result};

pub(crate) async fn run(bench: &Bench, shrink: u64, report: &mut Report) -> Result<()> {
    let events = (100_000 / shrink).max(1000);
    // Ten events an entity, and one event an entity: the second is nearly all entities.
    for (what, step) in
        [("memory per event, ten events an entity", 1), ("memory per entity, one event each", 10)]
    {
        let mut pairs = Vec::new();
        for _ in 0..bench.rounds {
            // A server of its own each time: what a flush leaves behind would be counted, too.
            let [ours, raw] = [Bench::new(1).await?, Bench::new(1).await?];
            pairs.push((of_ours(&ours, events, step).await?, of_raw(&raw, events, step).await?));
        }
        report.add(what, "bytes", &pairs, Bar::AtMost(1.3));
    }
    Ok(())
}

async fn of_ours(bench: &Bench, events: u64, step: u64) -> Result<f64> {
    let before = used(bench).await?;
    for chunk in (0..events).collect::<Vec<_>>().chunks(100) {
        bench.store.append(chunk.iter().map(|n| sample("memory", n * step).event()).collect()).await?;
    }
    per_event(used(bench).await? - before, events)
}

async fn of_raw(bench: &Bench, events: u64, step: u64) -> Result<f64> {
    let mut connection = raw::connection(&bench.redis.url()).await?;
    let before = used(bench).await?;
    for chunk in (0..events).collect::<Vec<_>>().chunks(100) {
        let mut pipeline = redis::pipe();
        for n in chunk {
            raw::write(&mut pipeline, &sample("memory", n * step));
        }
        pipeline.exec_async(&mut connection).await?;
    }
    per_event(used(bench).await? - before, events)
}

#[expect(clippy::cast_precision_loss, clippy::unnecessary_wraps, reason = "bytes of a few hundred megabytes")]
fn per_event(bytes: i64, events: u64) -> Result<f64> {
    Ok(bytes as f64 / events as f64)
}

/// Bytes of the data, without buffers of connections and of the log on disk.
async fn used(bench: &Bench) -> Result<i64> {
    let mut connection = raw::connection(&bench.redis.url()).await?;
    let info: String = redis::cmd("INFO").arg("memory").query_async(&mut connection).await?;
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory_dataset:"));
    line.context("the server does not say used_memory_dataset")?.trim().parse().context("used_memory_dataset")
}
