//! `cargo xtask faults`: builds the nine services and the harness, or the harness for a cluster, and runs seeds.
//! What is done and checked is the business of the crate `faults`; here is only what it needs and how long it goes on.

use crate::demo::plan::SERVICES;
use crate::step::step;
use crate::{build, cache, cluster, tools};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the harness needs of Debian: a Redis, the mail server, and what signals and bounds processes.
pub(crate) const PACKAGES: [&str; 3] = ["redis-server", "python3-aiosmtpd", "util-linux"];

/// What the harness for a cluster needs of Debian.
pub(crate) const MAIL_SERVER: [&str; 2] = ["python3-aiosmtpd", "util-linux"];

/// The services of which there is a next version, with another schema: it runs beside the usual one.
const NEXT: [&str; 2] = ["inventory", "order"];

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

/// The short form that `cargo xtask test` runs: a few seeds that see every kind of fault between them.
pub(crate) fn short() -> Result<Command> {
    let mut command = on_processes()?;
    // Seven faults each, from the beginning of a deck of twenty.
    command.args(["--seed", "20", "--seeds", "3", "--seconds", "30", "--every", "4"]);
    Ok(command)
}

/// The harness for nine processes, with the folder of the services' programs, built as the tests build them.
fn on_processes() -> Result<Command> {
    tools::ensure_debian(&PACKAGES)?;
    let target = cache::target_dir()?;
    let folder = target.join("debug");
    // The same packages in both builds, so that what they depend on is built once.
    let packages = ["--package", "faults", "--package", "chassis"];
    step("next versions of services built", || {
        compile(&target, &[&packages[..], &["--features", "chassis/schema-next"]].concat(), &SERVICES)?;
        // The next build puts the usual programs in their place.
        let next = folder.join("next");
        std::fs::create_dir_all(&next)?;
        for program in NEXT.map(|name| format!("ordershop-{name}")) {
            let to = next.join(&program);
            std::fs::copy(folder.join(&program), &to)
                .with_context(|| format!("cannot write {}", to.display()))?;
        }
        Ok(())
    })?;
    step("services and harness built", || compile(&target, &packages, &SERVICES))?;
    let mut command = Command::new(folder.join("faults"));
    command.arg("--binaries").arg(&folder).arg("--out").arg(cache::dir()?.join("faults"));
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
    let target = cache::target_dir()?;
    step("harness built", || compile(&target, &["--package", "e2e", "--bin", "cluster-faults"], &[]))?;
    let mut command = Command::new(target.join("debug/cluster-faults"));
    if kubeconfig == ours {
        let engine = cluster::running(cluster::DEFAULT_NAME)?.engine()?;
        engine.set_env(&mut command);
        command.arg("--engine").arg(engine.name());
    }
    command.env("KUBECONFIG", kubeconfig).arg("--out").arg(cache::dir()?.join("cluster-faults"));
    Ok(command)
}

fn compile(target: &Path, options: &[&str], services: &[&str]) -> Result<()> {
    let mut cargo = build::cargo();
    cargo.args(["build", "--locked"]).args(options).current_dir(tools::root());
    cargo.args(services.iter().flat_map(|name| ["--package".to_owned(), format!("ordershop-{name}")]));
    let status = cargo.env("CARGO_TARGET_DIR", target).status().context("cannot run cargo")?;
    if !status.success() {
        bail!("cargo build ended with {status}");
    }
    Ok(())
}
