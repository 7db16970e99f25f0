//! Services that are away while events arrive, and are killed while they handle them.

use super::streams::unfinished;
use crate::load::Load;
use crate::schedule::Backlog;
use crate::shop::Shop;
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

/// Nothing waits for longer: twice the longest claim time, which is 30 s, and ten seconds; and as much again for a busy
/// machine.
const FINISHED_WITHIN: Duration = Duration::from_secs(140);
const LOOK_EVERY: Duration = Duration::from_millis(10);

pub(super) async fn handled_under_new_names(
    shop: &mut Shop,
    load: &Load,
    of: Backlog,
    count: u64,
) -> Result<()> {
    // A fault before this one may have left a service that still starts.
    shop.until_ready().await?;
    match of {
        Backlog::Customers => {
            of.services().iter().try_for_each(|service| kill(shop, service))?;
            load.many_customers(count).await?;
        }
        Backlog::Orders => {
            let orders = load.possible_orders().await?;
            // The order service takes the orders, and is away when they are decided.
            of.services().iter().filter(|s| **s != "order").try_for_each(|service| kill(shop, service))?;
            load.many_orders(&orders, count).await?;
            kill(shop, "order")?;
        }
    }
    let mut services = of.services().iter().peekable();
    while let Some(service) = services.next() {
        let backlog = unfinished(shop, service).await?;
        ensure!(backlog >= count - count / 10, "only {backlog} events wait for {service}");
        shop.up(service, 0)?;
        falls_to(shop, service, backlog - backlog / 10).await?;
        kill(shop, service)?;
        shop.up(service, 0)?;
        // The last one handles the rest of its backlog beside the faults that follow.
        if services.peek().is_some() {
            // The load goes on, so that some events always wait.
            falls_to(shop, service, backlog / 20).await?;
        }
    }
    shop.until_ready().await
}

/// The next one has another name.
fn kill(shop: &mut Shop, service: &str) -> Result<()> {
    shop.take(service, 0)?.kill();
    shop.rename(service, 0)
}

async fn falls_to(shop: &Shop, service: &str, few: u64) -> Result<()> {
    let deadline = Instant::now() + FINISHED_WITHIN;
    loop {
        let left = unfinished(shop, service).await?;
        if left <= few {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{service} has left {left} events unfinished for {FINISHED_WITHIN:?}, more than {few}"
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
