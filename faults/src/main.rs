//! `faults`: runs the shop under faults, seed by seed, and prints what the accountant says. `cargo xtask faults`
//! builds what it needs and starts it.

use clap::Parser;
use faults::report::Report;
use faults::run::{self, Settings};
use faults::schedule::{Fault, schedule};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The shop under faults, with an accountant who checks every cent
#[derive(Parser)]
struct Args {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// How long the load of one seed lasts
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Minutes after which no further seed is begun; without it all are
    #[arg(long)]
    minutes: Option<u64>,
    /// A fault every so many seconds; 0 for none
    #[arg(long, default_value_t = 4)]
    every: u64,
    /// This fault alone, as in the history: {"kind":"redis-kill","away_ms":500}
    #[arg(long, value_parser = one_fault)]
    only: Option<Fault>,
    /// How many clients there are
    #[arg(long, default_value_t = 6)]
    clients: u64,
    /// The folder of the services' programs
    #[arg(long)]
    binaries: PathBuf,
    /// Where runs leave what they found; those that found nothing are removed
    #[arg(long)]
    out: PathBuf,
    /// Keep what runs without findings leave, too
    #[arg(long)]
    keep: bool,
}

fn one_fault(text: &str) -> Result<Fault, serde_json::Error> {
    serde_json::from_str(text)
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let begin = Instant::now();
    let mut table: BTreeMap<String, u32> = BTreeMap::new();
    let (mut clean, mut failed) = (0_u32, Vec::new());
    for seed in args.seed..args.seed + args.seeds {
        if args.minutes.is_some_and(|minutes| begin.elapsed() >= Duration::from_secs(minutes * 60)) {
            break;
        }
        match one(&args, seed).await {
            Ok(report) => {
                report.faults.iter().for_each(|fault| *table.entry(fault.clone()).or_default() += 1);
                if report.is_clean() { clean += 1 } else { failed.push(seed) }
            }
            Err(error) => {
                println!("seed {seed}: no verdict: {error:#}");
                failed.push(seed);
            }
        }
    }
    println!("\nfaults done:");
    for (fault, count) in &table {
        println!("  {count:>5}  {fault}");
    }
    println!("{:.0} minutes", begin.elapsed().as_secs_f64() / 60.0);
    for seed in &failed {
        println!("test seed {seed} ... FAILED");
    }
    let word = if failed.is_empty() { "ok" } else { "FAILED" };
    println!("test result: {word}. {clean} passed; {} failed", failed.len());
    ExitCode::from(u8::from(!failed.is_empty()))
}

async fn one(args: &Args, seed: u64) -> anyhow::Result<Report> {
    let length = Duration::from_secs(args.seconds);
    let mut plan = schedule(seed, length, Duration::from_secs(args.every.max(1)));
    match (&args.only, args.every) {
        (_, 0) => plan.steps.clear(),
        (Some(only), _) => plan.steps.iter_mut().for_each(|(_, fault)| fault.clone_from(only)),
        (None, _) => {}
    }
    let folder = run::fresh(&args.out.join(format!("seed-{seed}")))?;
    println!("\nseed {seed}: {} faults, appendfsync {}", plan.steps.len(), plan.fsync.name());
    let settings = Settings {
        binaries: args.binaries.clone(),
        folder: folder.clone(),
        seed,
        length,
        clients: args.clients,
        schedule: plan,
    };
    let (report, books) = run::run(&settings).await?;
    print!("{}", report.text(false));
    if report.is_clean() && !args.keep {
        std::fs::remove_dir_all(&folder)?;
    } else {
        report.leave(&books, &folder)?;
        println!("  history, log, books, verdict: {}", folder.display());
    }
    Ok(report)
}
