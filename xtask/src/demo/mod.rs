//! `cargo xtask demo`: a whole shop on this machine without a cluster. Redis and the nine services as plain
//! processes on loopback, kept alive until Ctrl-C.
//!
//! `plan` decides what runs, `supervisor` keeps it running, this file is the order of events.

mod backoff;
pub(crate) mod plan;
mod ports;
mod probe;
mod redis_server;
mod seed;
mod signals;
mod supervisor;

use crate::{build, cache, step::step};
use anyhow::{Context, Result, bail};
use launcher::slot::Held;
use nix::fcntl::{Flock, FlockArg};
use plan::Probe;
use probe::Http;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use supervisor::Supervisor;

const READY_WITHIN: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Port of the gateway on localhost
    #[arg(long, default_value_t = 5000)]
    port: u16,
    /// Port of Redis on localhost
    #[arg(long, default_value_t = 6390)]
    redis_port: u16,
    /// Leave the shop empty
    #[arg(long)]
    no_seed: bool,
    /// Keep the shop's data and logs in this folder; without it every start begins with an empty shop
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Runs until Ctrl-C or SIGTERM. `sources` may be built otherwise as soon as the demo has its own copy of the programs.
pub(crate) fn run(args: &Args, sources: Held) -> Result<()> {
    for (port, flag) in [(args.port, "--port"), (args.redis_port, "--redis-port")] {
        if !ports::is_free(port) {
            bail!(
                "port {port} is taken (another demo?): stop what listens there, or choose another with {flag}"
            );
        }
    }
    let (data, _lock) = data_folder(args)?;
    let redis_server = redis_server::find()?;
    let programs = step("services built", || own_copy(&build::services()?, &data))?;
    drop(sources);

    let mut supervisor = Supervisor::new(data.join("logs"))?;
    let outcome = serve(args, &data, redis_server, &programs, &mut supervisor);
    let stopped = step("all ten processes ended", || {
        supervisor.stop();
        Ok(())
    });
    outcome.and(stopped)
}

/// Copies the services into the demo's folder: a process that died is started from the same program again, whatever was
/// built since.
fn own_copy(built: &Path, data: &Path) -> Result<PathBuf> {
    let folder = data.join("programs");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for service in plan::SERVICES {
        let (program, new) = (format!("ordershop-{service}"), folder.join("new"));
        // A program that still runs cannot be written to, but it can be replaced.
        std::fs::copy(built.join(&program), &new)
            .and_then(|_| std::fs::rename(&new, folder.join(&program)))
            .with_context(|| format!("cannot copy {program} to {}", folder.display()))?;
    }
    Ok(folder)
}

/// From the first process to the user's wish to stop.
fn serve(
    args: &Args,
    data: &Path,
    redis_server: PathBuf,
    programs: &Path,
    supervisor: &mut Supervisor,
) -> Result<()> {
    let begin = Instant::now();
    let redis = plan::redis(redis_server, args.redis_port, data);
    let services = plan::services(programs, args.port, args.redis_port, &ports::free(plan::PORTS)?);
    let probes: Vec<_> = services.iter().map(|plan| (plan.name, plan.probe)).collect();

    let redis_probe = redis.probe;
    supervisor.start(redis)?;
    if !wait_for(supervisor, &[("redis", redis_probe)])? {
        return Ok(());
    }
    for service in services {
        supervisor.start(service)?;
    }
    if !wait_for(supervisor, &probes)? {
        return Ok(());
    }
    println!("  ok Redis and nine services ready ({:.1} s)", begin.elapsed().as_secs_f64());

    let gateway = Http::gateway(args.port);
    if !args.no_seed {
        match step("shop seeded", || seed::fill(&gateway))? {
            Some(made) => println!(
                "     {} customers, {} products, {} orders, the first one billed",
                made.customers, made.products, made.orders
            ),
            None => println!("     it has customers already: left as it is"),
        }
    }
    gateway.get("/report").context("the shop does not answer")?;
    println!("{}", ready_text(args, data, supervisor));

    while supervisor.tend(Duration::from_hours(1)) {}
    println!();
    Ok(())
}

/// Waits until all answer; false when the user wants to stop before.
fn wait_for(supervisor: &mut Supervisor, probes: &[(&'static str, Probe)]) -> Result<bool> {
    let deadline = Instant::now() + READY_WITHIN;
    let mut missing = probes.to_vec();
    loop {
        missing.retain(|(_, probe)| !probe.answers());
        if missing.is_empty() {
            return Ok(true);
        }
        if Instant::now() > deadline {
            let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
            for name in &names {
                print_end_of_log(supervisor, name);
            }
            bail!("not ready within {} s: {}", READY_WITHIN.as_secs(), names.join(", "));
        }
        if !supervisor.tend(LOOK_EVERY) {
            return Ok(false);
        }
    }
}

fn print_end_of_log(supervisor: &Supervisor, name: &str) {
    let Some(log) = supervisor.log_of(name) else { return };
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    eprintln!("  !! the end of {}:", log.display());
    for line in &lines[lines.len().saturating_sub(8)..] {
        eprintln!("     {line}");
    }
}

fn ready_text(args: &Args, data: &Path, supervisor: &Supervisor) -> String {
    let processes: Vec<_> =
        supervisor.running().map(|(name, pid, _)| format!("     {name:<14} process {pid}")).collect();
    format!(
        "{processes}\n     logs           {logs}\n\n\
         The shop is open: http://localhost:{port}\n\
         \n  curl http://localhost:{port}/report\n  redis-cli -p {redis} XRANGE events:order_created - +\n\n\
         Kill one of the processes and see it come back. Ctrl-C ends all.",
        processes = processes.join("\n"),
        logs = data.join("logs").display(),
        port = args.port,
        redis = args.redis_port,
    )
}

/// The folder of this run, and the lock that keeps a second demo from the same one.
///
/// Without `--data` it is a folder of the cache that is emptied at the start and not at the end: the logs of
/// the last run can be read, and a run that was killed leaves nothing that the next one does not remove.
fn data_folder(args: &Args) -> Result<(PathBuf, Flock<File>)> {
    let dir = match &args.data {
        Some(dir) => std::path::absolute(dir)?,
        None => cache::dir()?.join("demo").join(args.redis_port.to_string()),
    };
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let lock =
        File::create(dir.join("lock")).with_context(|| format!("cannot write in {}", dir.display()))?;
    let Ok(lock) = Flock::lock(lock, FlockArg::LockExclusiveNonblock) else {
        bail!("another demo uses {}: stop it, or choose another folder with --data", dir.display());
    };
    if args.data.is_none() {
        for old in ["logs", "appendonlydir"].map(|name| dir.join(name)) {
            match std::fs::remove_dir_all(&old) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", old.display()));
                }
                _ => {}
            }
        }
    }
    Ok((dir, lock))
}
