//! One run from the first process to the verdict: load and faults at once, then rest, then the books.

use crate::accountant::audit;
use crate::books::{self, Books};
use crate::history::Recorder;
use crate::inject;
use crate::load::Load;
use crate::report::Report;
use crate::schedule::Schedule;
use crate::shop::Shop;
use anyhow::{Context, Result};
use event_store::testing::Proxy;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than the longest claim time (30 s), a clock that was set back (20 s) and any pause between two retries.
const REST_WITHIN: Duration = Duration::from_mins(2);

/// How a run is done.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where history, logs and data go; it must be empty.
    pub folder: PathBuf,
    /// The seed.
    pub seed: u64,
    /// How long the load lasts.
    pub length: Duration,
    /// How many clients.
    pub clients: u64,
    /// What happens meanwhile.
    pub schedule: Schedule,
}

/// Does a run with the services' programs of this folder. An error means that there is no verdict.
pub async fn run(settings: &Settings, binaries: &Path) -> Result<(Report, Books)> {
    let recorder = Arc::new(Recorder::create(&settings.folder.join("history.ndjson"), settings.seed)?);
    let mut shop = Shop::start(binaries, &settings.folder, settings.schedule.fsync).await?;
    let proxy = Proxy::start(shop.redis.port()).await?;
    shop.set_redis_url(proxy.url());
    shop.open().await?;

    let load = Load::new(recorder.clone(), shop.url(), settings.seed)?;
    let faults = inject::run(&mut shop, &proxy, &load, &recorder, &settings.schedule, settings.seed);
    load.during(settings.clients, settings.length, faults).await?;

    let mut troubles = Vec::new();
    if let Err(error) = shop.until_ready().await {
        troubles.push(format!("{error:#}"));
    }
    let history = recorder.history();
    let poisoned: BTreeSet<(String, String)> = history
        .faults
        .iter()
        .flat_map(|done| &done.poison)
        .map(|poison| (poison.stream.clone(), poison.id.clone()))
        .collect();
    let read = async || {
        let mut connection = shop.redis.connection().await?;
        books::read(&mut connection, &shop.sink.mails()?, &poisoned).await
    };
    let books = at_rest(REST_WITHIN, read).await?;
    troubles.extend(history.troubles());
    troubles.extend(shop.crashed().iter().map(|service| format!("{service} ended by itself")));
    shop.close().await?;
    let lines = audit(&history, &books);
    Ok((Report::new(settings.seed, &history, &books, lines, troubles), books))
}

/// The books as soon as nothing changes any more, or when that takes too long: then they tell what is stuck.
pub async fn at_rest(within: Duration, read: impl AsyncFn() -> Result<Books>) -> Result<Books> {
    let deadline = Instant::now() + within;
    while !read().await.is_ok_and(|books| rests(&books)) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // What was read while something moved is read once more.
    read().await
}

fn rests(books: &Books) -> bool {
    let idle = books.groups.iter().all(|group| group.lag == Some(0) && group.pending == 0);
    let lines = crate::accountant::at_rest(books);
    idle && lines.iter().all(|line| line.broken.is_empty())
}

/// A folder for a run, emptied of what an earlier one of this seed left.
pub fn fresh(folder: &Path) -> Result<PathBuf> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder.to_owned())
}
