//! `cargo xtask faults`: builds the nine services and the harness, or the harness for a cluster, and runs seeds.
//! What is done and checked is the business of the crate `faults`; here is only what it needs and how long it goes on.

use crate::step::step;
use crate::{build, cache, cluster, tools};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the harness needs of Debian: a Redis, the mail server, and what signals and bounds processes.
pub(crate) const PACKAGES: [&str; 3] = ["redis-server", "python3-aiosmtpd", "util-linux"];

/// What the harness for a cluster needs of Debian.
pub(crate) const MAIL_SERVER: [&str; 2] = ["python3-aiosmtpd", "util-linux"];

/// Options of `cargo xtask faults`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The first seed; the same seed does the same faults again
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Minutes after which no further seed is begun
    #[arg(long)]
    minutes: Option<u64>,
    /// How long the load of one seed lasts; 60, and 180 on a cluster
    #[arg(long)]
    seconds: Option<u64>,
    /// A fault every so many seconds, 0 for none; 4, and 20 on a cluster
    #[arg(long)]
    every: Option<u64>,
    /// On the cluster of KUBECONFIG, or of `make up`: pods, the operator, images, a kubelet
    #[arg(long)]
    cluster: bool,
    /// This fault alone, as it stands in a history: {"kind":"redis-kill","away_ms":500}
    #[arg(long)]
    only: Option<String>,
    /// Keep what runs without findings leave, too
    #[arg(long)]
    keep: bool,
}

/// Runs the seeds; an error when something did not add up.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut command = if args.cluster { on_cluster()? } else { on_processes()? };
    let (seconds, every) = if args.cluster { (180, 20) } else { (60, 4) };
    for (name, value) in [
        ("--seed", args.seed),
        ("--seeds", args.seeds),
        ("--seconds", args.seconds.unwrap_or(seconds)),
        ("--every", args.every.unwrap_or(every)),
    ] {
        command.arg(name).arg(value.to_string());
    }
    if let Some(minutes) = args.minutes {
        command.arg("--minutes").arg(minutes.to_string());
    }
    if let Some(only) = &args.only {
        command.arg("--only").arg(only);
    }
    if args.keep {
        command.arg("--keep");
    }
    let status = command.status().context("cannot run the harness")?;
    if !status.success() {
        bail!("not everything adds up; the folders named above hold history, log and verdict");
    }
    Ok(())
}

/// The form that `cargo xtask test` runs: a few seeds that see every kind of fault between them. Everything was built
/// before, the harness with its tests.
pub(crate) fn tests(full: bool) -> Result<Command> {
    let mut command = harness(&build::development_program("faults")?, &build::deployed_folder()?)?;
    // Seven faults each in half a minute, from the beginning of a deck of twenty-one.
    let seconds = if full { "60" } else { "30" };
    command.args(["--seed", "21", "--seeds", "3", "--seconds", seconds, "--every", "4"]);
    Ok(command)
}

/// The harness for nine processes.
fn on_processes() -> Result<Command> {
    tools::ensure_debian(&PACKAGES)?;
    let services = step("services and their next versions built", build::services_and_next)?;
    harness(&step("harness built", || build::development("faults"))?, &services)
}

fn harness(program: &Path, services: &Path) -> Result<Command> {
    let mut command = Command::new(program);
    command.arg("--binaries").arg(services).arg("--out").arg(cache::dir()?.join("faults"));
    Ok(command)
}

/// The harness for a cluster that has the operator.
fn on_cluster() -> Result<Command> {
    tools::ensure_debian(&MAIL_SERVER)?;
    let ours = cluster::kubeconfig()?;
    let given = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    let kubeconfig = given.unwrap_or_else(|| ours.clone());
    if !kubeconfig.exists() {
        bail!("{} is not there: `make up` makes a cluster", kubeconfig.display());
    }
    let mut command = Command::new(step("harness built", || build::development("cluster-faults"))?);
    if kubeconfig == ours {
        let engine = cluster::running(cluster::DEFAULT_NAME)?.engine()?;
        engine.set_env(&mut command);
        command.arg("--engine").arg(engine.name());
    }
    command.env("KUBECONFIG", kubeconfig).arg("--out").arg(cache::dir()?.join("cluster-faults"));
    Ok(command)
}
