//! Nothing may slow down as the log grows: the same work on a log of ten thousand events and of a million.

use crate::consume::{fill, ours as consume};
use crate::report::{Bar, Report};
use crate::sample::ACCOUNT;
use crate::{Bench, append};
use anyhow::{Result, ensure};
use std::time::Instant;

pub(crate) async fn run(_: &Bench, shrink: u64, report: &mut Report) -> Result<()> {
    let (few, many) = ((10_000 / shrink).max(1000), (1_000_000 / shrink).max(10_000));
    let (small, large) = (Bench::new(1).await?, Bench::new(1).await?);
    fill(&small, 0..few).await?;
    fill(&large, 0..many).await?;
    let rounds = 5;
    let mut consumed = Vec::new();
    consume(&large, many, "group").await?;
    for round in 0..=rounds {
        // As many events behind a long and a short history, by a group that handled all of it. The short one is made
        // anew, so that it stays short.
        let end = many + round * few;
        fill(&large, end..end + few).await?;
        let short = Bench::new(1).await?;
        fill(&short, 0..few).await?;
        consume(&short, few, "group").await?;
        fill(&short, few..2 * few).await?;
        let pair = (consume(&large, few, "group").await?, consume(&short, few, "group").await?);
        if round > 0 {
            consumed.push(pair);
        }
    }
    report.add(
        format!("consume {few} events behind {many} against {few}"),
        "events/s",
        &consumed,
        Bar::Within(0.2),
    );
    let mut appends = Vec::new();
    let mut reads = Vec::new();
    for round in 0..=rounds {
        let prefix = format!("g{round}");
        // Few enough that the small log stays small.
        let pair =
            (append::ours(&large, 6_400, 1, &prefix).await?, append::ours(&small, 6_400, 1, &prefix).await?);
        let read = (entities(&large).await?, entities(&small).await?);
        if round > 0 {
            appends.push(pair);
            reads.push(read);
        }
    }
    report.add(
        format!("append on a log of {many} against {few} events"),
        "events/s",
        &appends,
        Bar::Within(0.2),
    );
    report.add(
        format!("read of an entity with {many} against {few} events"),
        "reads/s",
        &reads,
        Bar::Within(0.2),
    );
    Ok(())
}

/// Reads of an entity a second, one after another.
async fn entities(bench: &Bench) -> Result<f64> {
    let reads = 2_000;
    let begin = Instant::now();
    for n in 0..reads {
        let found = bench.store.entity(ACCOUNT, &format!("fill-{:08}", n % 100)).await?;
        ensure!(found.is_some(), "entity {n} is missing");
    }
    Ok(append::rate(reads, begin))
}
