//! Doing what the schedule says to a running shop, one fault after the other, and undoing it. Decides nothing:
//! a fault says itself what is to be done, and for how long.

mod backlog;
mod line;
mod mail;
mod server;
mod services;
mod streams;

use crate::history::{Done, Poison, Recorder};
use crate::load::Load;
use crate::rng::Rng;
use crate::schedule::{Fault, Schedule};
use crate::shop::Shop;
use anyhow::Result;
use event_store::testing::Proxy;
use std::time::Duration;

/// Does all of it. A fault that the harness could not do or undo is written down with its trouble.
pub async fn run(
    shop: &mut Shop,
    proxy: &Proxy,
    load: &Load,
    recorder: &Recorder,
    schedule: &Schedule,
    seed: u64,
) {
    let mut rng = Rng::new(seed, 3);
    steps(recorder, schedule, async |fault| one(shop, proxy, load, fault, &mut rng).await).await;
}

/// Does each fault of a schedule when its time has come and the one before has ended.
pub async fn steps(
    recorder: &Recorder,
    schedule: &Schedule,
    mut inject: impl AsyncFnMut(&Fault) -> Result<Vec<Poison>>,
) {
    let start = recorder.now();
    for (at, fault) in &schedule.steps {
        let due = u64::try_from(at.as_micros()).unwrap_or(u64::MAX) + start;
        tokio::time::sleep(Duration::from_micros(due.saturating_sub(recorder.now()))).await;
        let begin = recorder.now();
        let (poison, trouble) = match inject(fault).await {
            Ok(poison) => (poison, None),
            Err(error) => (Vec::new(), Some(format!("{error:#}"))),
        };
        let end = recorder.now();
        println!("     {:>6.1} s  {}", seconds(begin), fault.name());
        if let Some(trouble) = &trouble {
            println!("               the harness: {trouble}");
        }
        recorder.fault(Done { fault: fault.clone(), begin, end, poison, trouble });
    }
}

#[expect(clippy::cast_precision_loss, reason = "for a person to read")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

async fn one(
    shop: &mut Shop,
    proxy: &Proxy,
    load: &Load,
    fault: &Fault,
    rng: &mut Rng,
) -> Result<Vec<Poison>> {
    match fault {
        Fault::Kill { service, renamed, away_ms } => {
            services::kill(shop, service, *renamed, millis(*away_ms)).await?;
        }
        Fault::KillAll => services::kill_all(shop)?,
        Fault::Rolling => services::rolling(shop).await?,
        Fault::Freeze { service, ms } => services::freeze(shop, service, millis(*ms)).await?,
        Fault::Scale { service, to, ms } => services::scale(shop, service, *to, millis(*ms)).await?,
        Fault::Upgrade { ms } => services::upgrade(shop, millis(*ms)).await?,
        Fault::RedisKill { away_ms } => server::kill(shop, millis(*away_ms)).await?,
        Fault::RedisPause { stopped, ms } => server::pause(shop, *stopped, millis(*ms)).await?,
        Fault::Cut => server::cut(shop).await?,
        Fault::OutOfMemory { ms } => server::out_of_memory(shop, millis(*ms)).await?,
        Fault::ReadOnly { replica, ms } => server::read_only(shop, *replica, millis(*ms)).await?,
        Fault::DiskFull { ms } => server::disk_full(shop, millis(*ms)).await?,
        Fault::ClockBack { seconds } => shop.redis.set_clock_back(Duration::from_secs(*seconds)),
        Fault::GroupDestroyed { group } => streams::destroy_group(shop, group).await?,
        Fault::Poison { entries } => return streams::poison(shop, *entries, rng).await,
        Fault::Backlog { of, count } => backlog::handled_under_new_names(shop, load, *of, *count).await?,
        Fault::Rebuild => streams::wipe_read_model(shop).await?,
        Fault::MailDown { ms } => mail::down(shop, millis(*ms)).await?,
        Fault::MailSlow { ms } => mail::slow(shop, millis(*ms)).await?,
        Fault::OnCluster(_) => anyhow::bail!("this fault needs a cluster"),
        Fault::Net { how, ms } => line::disturb(proxy, *how, millis(*ms), rng).await,
    }
    Ok(Vec::new())
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
