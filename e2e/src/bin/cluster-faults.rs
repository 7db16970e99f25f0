//! `cluster-faults`: runs the shop on a cluster under faults, seed by seed, and prints what the accountant says.
//! `cargo xtask faults --cluster` builds and starts it.

use clap::Parser;
use e2e::faults::{Engine, run};
use faults::cli::Seeds;
use faults::schedule::on_cluster;
use std::process::ExitCode;

/// The shop on a cluster under faults, with an accountant who checks every cent
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    seeds: Seeds,
    /// docker or podman, where the nodes are its containers (kind): without it no kubelet is stopped
    #[arg(long)]
    engine: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let engine = args.engine.map(Engine);
    if engine.is_none() {
        println!("no kubelet is stopped: that needs a cluster of kind, and its container engine");
    }
    let plan = |seed, length, every| on_cluster(seed, length, every, engine.is_some());
    args.seeds.each(plan, async |settings| Box::pin(run(settings, engine.as_ref())).await).await
}
