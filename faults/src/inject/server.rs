//! Faults of Redis itself: away, silent, full, read-only.

use crate::schedule::Fsync;
use crate::shop::Shop;
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How long Redis may need to hand what it has acknowledged to the kernel.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);
/// Clients of a Redis that is back come back.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);

/// With `everysec` Redis puts off its writes, and not only the fsync, while an fsync is running: what it has
/// acknowledged meanwhile dies with the process. That is what `everysec` costs, so it is given that second;
/// with `always` it is killed at any moment.
pub(super) async fn kill(shop: &mut Shop, away: Duration) -> Result<()> {
    if shop.redis.fsync() == Fsync::Everysec {
        until_written(shop).await?;
    }
    shop.redis.kill();
    sleep(away).await;
    shop.redis.up().await
}

async fn until_written(shop: &Shop) -> Result<()> {
    let mut connection = shop.redis.connection().await?;
    let pause = WRITTEN_WITHIN.as_millis().to_string();
    redis::cmd("CLIENT").arg(&["PAUSE", &pause, "WRITE"]).exec_async(&mut connection).await?;
    let deadline = Instant::now() + WRITTEN_WITHIN;
    loop {
        let info: String = redis::cmd("INFO").arg("persistence").query_async(&mut connection).await?;
        let zero = |name: &str| info.lines().any(|line| line.trim() == format!("{name}:0"));
        if zero("aof_buffer_length") && zero("aof_pending_bio_fsync") {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "Redis does not write its append-only file");
        sleep(Duration::from_millis(5)).await;
    }
}

pub(super) async fn pause(shop: &mut Shop, stopped: bool, time: Duration) -> Result<()> {
    if stopped {
        shop.redis.process()?.signal(Signal::SIGSTOP)?;
        sleep(time).await;
        return shop.redis.process()?.signal(Signal::SIGCONT);
    }
    let millis = u64::try_from(time.as_millis())?;
    command(shop, &["CLIENT", "PAUSE", &millis.to_string(), "ALL"]).await?;
    sleep(time).await;
    Ok(())
}

pub(super) async fn cut(shop: &mut Shop) -> Result<()> {
    let mut connection = shop.redis.connection().await?;
    let deadline = Instant::now() + CONNECTED_WITHIN;
    loop {
        let killed: i64 = redis::cmd("CLIENT")
            .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
            .query_async(&mut connection)
            .await?;
        if killed > 0 {
            return Ok(());
        }
        // A Redis that was killed just before may be back before its clients are.
        anyhow::ensure!(Instant::now() < deadline, "nobody was connected");
        sleep(Duration::from_millis(5)).await;
    }
}

pub(super) async fn out_of_memory(shop: &mut Shop, time: Duration) -> Result<()> {
    command(shop, &["CONFIG", "SET", "maxmemory", "1"]).await?;
    sleep(time).await;
    command(shop, &["CONFIG", "SET", "maxmemory", "0"]).await
}

pub(super) async fn read_only(shop: &mut Shop, replica: bool, time: Duration) -> Result<()> {
    if replica {
        // A master that nobody is: what the server holds stays as it is.
        command(shop, &["REPLICAOF", "127.0.0.1", "1"]).await?;
        sleep(time).await;
        return command(shop, &["REPLICAOF", "NO", "ONE"]).await;
    }
    command(shop, &["CONFIG", "SET", "min-replicas-to-write", "1"]).await?;
    sleep(time).await;
    command(shop, &["CONFIG", "SET", "min-replicas-to-write", "0"]).await
}

/// The file may not grow beyond what it is: every further write fails as on a full disk. A server that writes
/// before every answer ends itself then; it is started again when there is room.
pub(super) async fn disk_full(shop: &mut Shop, time: Duration) -> Result<()> {
    let size = append_only_file(shop)?.metadata()?.len();
    limit(shop, &size.to_string())?;
    sleep(time).await;
    if shop.redis.runs() { limit(shop, "unlimited") } else { shop.redis.up().await }
}

fn append_only_file(shop: &Shop) -> Result<PathBuf> {
    let folder = shop.redis.folder().join("appendonlydir");
    let files = std::fs::read_dir(&folder)?.filter_map(|file| Some(file.ok()?.path()));
    files
        .filter(|path| path.extension().is_some_and(|e| e == "aof"))
        .max_by_key(|path| path.metadata().and_then(|meta| meta.modified()).ok())
        .context("no append-only file")
}

fn limit(shop: &Shop, bytes: &str) -> Result<()> {
    let id = shop.redis.process()?.id().to_string();
    let status = tokio::task::block_in_place(|| {
        std::process::Command::new("prlimit")
            .args(["--pid", &id, &format!("--fsize={bytes}:unlimited")])
            .status()
    });
    anyhow::ensure!(status.context("prlimit of util-linux")?.success(), "prlimit failed");
    Ok(())
}

pub(super) async fn command(shop: &Shop, words: &[&str]) -> Result<()> {
    let mut connection = shop.redis.connection().await?;
    let (first, rest) = words.split_first().context("no command")?;
    redis::cmd(first).arg(rest).exec_async(&mut connection).await.with_context(|| words.join(" "))
}
