//! `make bench`: what the event store costs beside the same work done with raw Redis commands.
//!
//! Absolute times mean little on a shared machine, so every number here is a ratio of two things
//! measured in turn, in one run, on one server, several times. Nothing here asserts a speed: the
//! report says which bar is met and which is missed.

mod append;
mod consume;
mod growth;
mod latency;
mod memory;
mod raw;
mod replay;
mod report;
mod sample;

use anyhow::Result;
use clap::Parser;
use event_store::testing::Redis;
use event_store::{Config, EventStore};
use report::Report;
use std::path::PathBuf;

/// Measures the event store side by side with raw Redis commands.
#[derive(Parser)]
#[command(name = "bench")]
struct Args {
    /// Which measurements; all of them when none is named
    #[arg(value_enum)]
    which: Vec<Which>,
    /// Rounds of each side; the report shows minimum, median and maximum
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Divides the number of events, for a quick look
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    shrink: u64,
    /// Writes the report here as Markdown, too
    #[arg(long)]
    write: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// Single events by 64 tasks, and batches of ten
    Append,
    /// Consume and acknowledge with positions kept
    Consume,
    /// From append to handler
    Latency,
    /// Replay of a million events
    Replay,
    /// Memory per event and per entity
    Memory,
    /// The same work on a log of ten thousand and of a million events
    Growth,
}

const ALL: [Which; 6] =
    [Which::Append, Which::Consume, Which::Latency, Which::Replay, Which::Memory, Which::Growth];

/// A server of its own for each measurement, so that none finds another's keys.
pub(crate) struct Bench {
    pub(crate) redis: Redis,
    pub(crate) store: EventStore,
    pub(crate) rounds: u32,
}

impl Bench {
    pub(crate) async fn new(rounds: u32) -> Result<Self> {
        // A rewrite of the append-only file would take one of two cores from whichever side is just at work.
        let redis = Redis::start_with(&["--auto-aof-rewrite-percentage", "0"]);
        let store = EventStore::connect(Config::new(redis.url())).await?;
        Ok(Self { redis, store, rounds })
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let which = if args.which.is_empty() { ALL.to_vec() } else { args.which };
    let mut report = Report::default();
    for which in which {
        let bench = Bench::new(args.rounds).await?;
        match which {
            Which::Append => append::run(&bench, args.shrink, &mut report).await?,
            Which::Consume => consume::run(&bench, args.shrink, &mut report).await?,
            Which::Latency => latency::run(&bench, args.shrink, &mut report).await?,
            Which::Replay => replay::run(&bench, args.shrink, &mut report).await?,
            Which::Memory => memory::run(&bench, args.shrink, &mut report).await?,
            Which::Growth => growth::run(&bench, args.shrink, &mut report).await?,
        }
    }
    println!("\n{report}");
    if let Some(path) = args.write {
        std::fs::write(&path, report.page(args.rounds, args.shrink))?;
    }
    Ok(())
}
