//! Faults of the mail server. (Which recipients it refuses is a matter of their addresses, thus of the load.)

use crate::shop::Shop;
use anyhow::Result;
use nix::sys::signal::Signal;
use std::time::Duration;

pub(super) async fn down(shop: &mut Shop, time: Duration) -> Result<()> {
    shop.sink.kill();
    tokio::time::sleep(time).await;
    shop.sink.up().await
}

pub(super) async fn slow(shop: &mut Shop, time: Duration) -> Result<()> {
    shop.sink.process()?.signal(Signal::SIGSTOP)?;
    tokio::time::sleep(time).await;
    shop.sink.process()?.signal(Signal::SIGCONT)
}
