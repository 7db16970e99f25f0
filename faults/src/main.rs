//! `faults`: runs the shop under faults, seed by seed, and prints what the accountant says. `cargo xtask faults`
//! builds what it needs and starts it.

use clap::Parser;
use faults::cli::Seeds;
use faults::run;
use faults::schedule::schedule;
use std::path::PathBuf;
use std::process::ExitCode;

/// The shop under faults, with an accountant who checks every cent
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    seeds: Seeds,
    /// The folder of the services' programs; those of their next versions lie in its folder `next`
    #[arg(long)]
    binaries: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    args.seeds.each(schedule, async |settings| run::run(settings, &args.binaries).await).await
}
