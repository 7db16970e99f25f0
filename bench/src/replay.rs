//! Replaying a long log: folding all events beside paging through the same entries with XRANGE.

use crate::append::rate;
use crate::consume::fill;
use crate::report::{Bar, Report};
use crate::sample::streams;
use crate::{Bench, raw};
use anyhow::{Result, ensure};
use std::time::Instant;

pub(crate) async fn run(bench: &Bench, shrink: u64, report: &mut Report) -> Result<()> {
    let events = (1_000_000 / shrink).max(1000);
    fill(bench, 0..events).await?;
    let mut pairs = Vec::new();
    for _ in 0..bench.rounds {
        pairs.push((ours(bench, events).await?, raw_pages(bench, events).await?));
    }
    report.add(format!("replay of {events} events"), "events/s", &pairs, Bar::AtLeast(0.5));
    Ok(())
}

async fn ours(bench: &Bench, events: u64) -> Result<f64> {
    let begin = Instant::now();
    let (mut seen, mut versions) = (0, 0);
    bench
        .store
        .replay(&streams(), |event| {
            seen += 1;
            versions += event.version;
        })
        .await?;
    ensure!(seen == events && versions >= events, "replayed {seen} of {events} events");
    Ok(rate(events, begin))
}

async fn raw_pages(bench: &Bench, events: u64) -> Result<f64> {
    let mut connection = raw::connection(&bench.redis.url()).await?;
    let begin = Instant::now();
    let mut seen = 0;
    for stream in streams() {
        let mut from = "-".to_owned();
        loop {
            let page: Vec<raw::Entry> = redis::cmd("XRANGE")
                .arg(format!("events:{stream}"))
                .arg(&[&from, "+", "COUNT", "1000"])
                .query_async(&mut connection)
                .await?;
            let Some((last, _)) = page.last() else { break };
            from = format!("({last}");
            seen += page.len() as u64;
        }
    }
    ensure!(seen == events, "XRANGE gave {seen} of {events} entries");
    Ok(rate(events, begin))
}
