//! What both forms of the suite, on nine processes and on a cluster, are told on the command line; seed by seed;
//! and what they print in the end. Knows neither form.

use crate::books::Books;
use crate::report::Report;
use crate::run::{self, Settings};
use crate::schedule::{Fault, Schedule};
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Which seeds, for how long, and what becomes of what they leave.
#[derive(clap::Args, Clone, Debug)]
pub struct Seeds {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many seeds, one after the other
    #[arg(long, default_value_t = 1)]
    pub seeds: u64,
    /// How long the load of one seed lasts
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// Minutes after which no further seed is begun; without it all are
    #[arg(long)]
    pub minutes: Option<u64>,
    /// A fault every so many seconds; 0 for none
    #[arg(long, default_value_t = 4)]
    pub every: u64,
    /// This fault alone, as in the history: {"kind":"redis-kill","away_ms":500}
    #[arg(long, value_parser = one_fault)]
    pub only: Option<Fault>,
    /// How many clients there are
    #[arg(long, default_value_t = 6)]
    pub clients: u64,
    /// Where runs leave what they found; those that found nothing are removed
    #[arg(long)]
    pub out: PathBuf,
    /// Keep what runs without findings leave, too
    #[arg(long)]
    pub keep: bool,
}

fn one_fault(text: &str) -> Result<Fault, serde_json::Error> {
    serde_json::from_str(text)
}

impl Seeds {
    /// Runs the seeds one after the other. `plan` makes the schedule of a seed for a length and a pause.
    pub async fn each(
        &self,
        plan: impl Fn(u64, Duration, Duration) -> Schedule,
        run: impl AsyncFn(&Settings) -> Result<(Report, Books)>,
    ) -> ExitCode {
        let begin = Instant::now();
        let mut table: BTreeMap<String, u32> = BTreeMap::new();
        let (mut clean, mut failed) = (0_u32, Vec::new());
        for seed in self.seed..self.seed + self.seeds {
            if self.minutes.is_some_and(|minutes| begin.elapsed() >= Duration::from_secs(minutes * 60)) {
                break;
            }
            match self.one(seed, &plan, &run).await {
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

    async fn one(
        &self,
        seed: u64,
        plan: &impl Fn(u64, Duration, Duration) -> Schedule,
        run: &impl AsyncFn(&Settings) -> Result<(Report, Books)>,
    ) -> Result<Report> {
        let length = Duration::from_secs(self.seconds);
        let mut schedule = plan(seed, length, Duration::from_secs(self.every.max(1)));
        match (&self.only, self.every) {
            (_, 0) => schedule.steps.clear(),
            (Some(only), _) => schedule.steps.iter_mut().for_each(|(_, fault)| fault.clone_from(only)),
            (None, _) => {}
        }
        let folder = run::fresh(&self.out.join(format!("seed-{seed}")))?;
        println!("\nseed {seed}: {} faults, appendfsync {}", schedule.steps.len(), schedule.fsync.name());
        let settings = Settings { folder: folder.clone(), seed, length, clients: self.clients, schedule };
        let (report, books) = run(&settings).await?;
        print!("{}", report.text(false));
        if report.is_clean() && !self.keep {
            std::fs::remove_dir_all(&folder)?;
        } else {
            report.leave(&books, &folder)?;
            println!("  history, log, books, verdict: {}", folder.display());
        }
        Ok(report)
    }
}
