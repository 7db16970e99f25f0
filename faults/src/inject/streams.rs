//! Faults in the data: a group is gone, another program writes what is no event, a read model is wiped.

use crate::history::Poison;
use crate::rng::Rng;
use crate::shop::Shop;
use anyhow::{Result, ensure};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Streams that groups read.
const READ: [&str; 8] = [
    "events:order_created",
    "events:order_updated",
    "events:order_deleted",
    "events:inventory_reserved",
    "events:billing_created",
    "events:customer_created",
    "events:customer_deleted",
    "events:mail_requested",
];

/// How long a load of orders may go without one that is decided.
const WRITTEN_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Seconds by which the clock of another program may go ahead.
const AHEAD: u64 = 2;

pub(super) async fn destroy_group(shop: &Shop, group: &str) -> Result<()> {
    let mut c = shop.redis.connection().await?;
    let mut destroyed = 0;
    for key in keys(&mut c, "events:*").await? {
        destroyed += redis::cmd("XGROUP").arg(&["DESTROY", &key, group]).query_async::<u64>(&mut c).await?;
    }
    ensure!(destroyed > 0, "there was no group {group}");
    Ok(())
}

/// How many events a group has not finished, pending or not read yet.
pub(super) async fn unfinished(shop: &Shop, group: &str) -> Result<u64> {
    let mut c = shop.redis.connection().await?;
    let mut sum = 0;
    for key in keys(&mut c, "events:*").await? {
        let groups: redis::streams::StreamInfoGroupsReply = c.xinfo_groups(&key).await?;
        for found in groups.groups.iter().filter(|found| found.name == group) {
            // The server does not know it of a group that was made in the middle of a stream.
            let unread = match found.lag {
                Some(lag) => lag,
                None => c
                    .xrange::<_, _, _, redis::streams::StreamRangeReply>(
                        &key,
                        format!("({}", found.last_delivered_id),
                        "+",
                    )
                    .await?
                    .ids
                    .len(),
            };
            sum += u64::try_from(found.pending + unread)?;
        }
    }
    Ok(sum)
}

pub(super) async fn poison(shop: &Shop, entries: u64, rng: &mut Rng) -> Result<Vec<Poison>> {
    let mut c = shop.redis.connection().await?;
    let mut written = Vec::new();
    for _ in 0..entries {
        let stream = rng.pick(&READ).copied().unwrap_or(READ[0]);
        let fields = garbage(rng);
        let add = |id: String| redis::cmd("XADD").arg(stream).arg(id).arg(&fields).clone();
        // Its clock may go ahead: for two seconds every id of the store's own would be too low for this stream.
        let (seconds, _): (u64, u64) = redis::cmd("TIME").query_async(&mut c).await?;
        let ahead = format!("{}-0", (seconds + AHEAD) * 1000);
        // Where the stream is ahead already, as everywhere else: by the server's clock.
        let written_ahead =
            if rng.chance(30) { add(ahead).query_async::<String>(&mut c).await.ok() } else { None };
        let id: String = match written_ahead {
            Some(id) => id,
            None => add("*".to_owned()).query_async(&mut c).await?,
        };
        written.push(Poison { stream: stream.to_owned(), id });
    }
    Ok(written)
}

/// From nothing that resembles an event to one that is cut short.
fn garbage(rng: &mut Rng) -> Vec<(&'static str, Vec<u8>)> {
    let event = |entity: &[u8]| {
        vec![
            ("event_id", b"6d3ff6f4-8a0d-4ae6-9ff8-cf1d46c0e4a1".to_vec()),
            ("entity_type", b"order".to_vec()),
            ("entity_id", b"poison".to_vec()),
            ("version", b"1".to_vec()),
            ("entity", entity.to_vec()),
        ]
    };
    match rng.below(4) {
        0 => vec![("hello", b"world".to_vec())],
        1 => event(b"{\"id\": \"poi"),
        2 => event(&[0xff, 0xfe, 0x00]),
        _ => vec![("event_id", b"no id".to_vec()), ("entity", b"{}".to_vec())],
    }
}

/// Waits until a reservation of this schema is in the log: what reads it now reads both.
pub(super) async fn until_written_in(shop: &Shop, schema: u32) -> Result<()> {
    let mut c = shop.redis.connection().await?;
    let deadline = Instant::now() + WRITTEN_WITHIN;
    loop {
        for stream in ["events:inventory_reserved", "events:inventory_rejected"] {
            let last: Vec<(String, BTreeMap<String, Vec<u8>>)> =
                redis::cmd("XREVRANGE").arg(&[stream, "+", "-", "COUNT", "20"]).query_async(&mut c).await?;
            let of_schema = |fields: &BTreeMap<String, Vec<u8>>| {
                fields.get("schema").is_some_and(|text| *text == schema.to_string().as_bytes())
            };
            if last.iter().any(|(_, fields)| of_schema(fields)) {
                return Ok(());
            }
        }
        ensure!(Instant::now() < deadline, "nothing of schema {schema} was written");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// All of it in one step; the replicas find out by themselves.
pub(super) async fn wipe_read_model(shop: &Shop) -> Result<()> {
    let mut c = shop.redis.connection().await?;
    let keys = keys(&mut c, "read-model:*").await?;
    ensure!(!keys.is_empty(), "there was no read model");
    Ok(c.del(keys).await?)
}

async fn keys(c: &mut MultiplexedConnection, pattern: &str) -> Result<Vec<String>> {
    Ok(redis::cmd("KEYS").arg(pattern).query_async(c).await?)
}
