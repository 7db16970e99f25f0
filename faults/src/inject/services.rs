//! Faults of the nine services: killed, restarted, stopped, scaled.

use super::streams;
use crate::schedule::SERVICES;
use crate::shop::{NEXT, Shop};
use anyhow::Result;
use nix::sys::signal::Signal;
use std::time::Duration;

pub(super) async fn kill(shop: &mut Shop, service: &str, renamed: bool, away: Duration) -> Result<()> {
    shop.take(service, 0)?.kill();
    if renamed {
        shop.rename(service, 0)?;
    }
    tokio::time::sleep(away).await;
    shop.up(service, 0)
}

pub(super) fn kill_all(shop: &mut Shop) -> Result<()> {
    let mut processes = Vec::new();
    for service in SERVICES {
        processes.push(shop.take(service, 0)?);
    }
    for process in &processes {
        process.signal(Signal::SIGKILL)?;
    }
    drop(processes);
    for service in SERVICES {
        shop.up(service, 0)?;
    }
    Ok(())
}

/// As a platform does it that has one replica of each: the old one ends, the new one starts.
pub(super) async fn rolling(shop: &mut Shop) -> Result<()> {
    for service in SERVICES {
        shop.take(service, 0)?.terminate().await?;
        shop.rename(service, 0)?;
        shop.up(service, 0)?;
        shop.until_ready().await?;
    }
    Ok(())
}

/// A second replica takes over what the stopped one holds; when that goes on, it must be fenced.
pub(super) async fn freeze(shop: &mut Shop, service: &str, time: Duration) -> Result<()> {
    shop.up(service, 1)?;
    shop.process(service, 0)?.signal(Signal::SIGSTOP)?;
    tokio::time::sleep(time).await;
    shop.process(service, 0)?.signal(Signal::SIGCONT)?;
    shop.take(service, 1)?.terminate().await
}

pub(super) async fn scale(shop: &mut Shop, service: &str, to: usize, time: Duration) -> Result<()> {
    for replica in 1..to {
        shop.up(service, replica)?;
    }
    tokio::time::sleep(time).await;
    for replica in 1..to {
        shop.take(service, replica)?.terminate().await?;
        shop.rename(service, replica)?;
    }
    Ok(())
}

/// As a platform rolls out a version: the new ones begin beside the old ones, then those end.
pub(super) async fn upgrade(shop: &mut Shop, time: Duration) -> Result<()> {
    for service in NEXT {
        shop.upgrade(service);
        shop.up(service, 1)?;
    }
    tokio::time::sleep(time).await;
    streams::until_written_in(shop, 2).await?;
    for service in NEXT {
        shop.take(service, 0)?.terminate().await?;
        shop.rename(service, 0)?;
        shop.up(service, 0)?;
    }
    shop.until_ready().await?;
    for service in NEXT {
        shop.take(service, 1)?.terminate().await?;
        shop.rename(service, 1)?;
    }
    Ok(())
}
