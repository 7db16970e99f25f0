//! `cargo xtask test`: everything that can be checked, cheap things first, and one summary line at the end.
//!
//! A part that fails does not keep the later ones from running, unless they need it; what could not run
//! counts as failed, with its reason. Nothing is skipped.

mod cargo;
pub(crate) mod e2e;
mod libtest;
mod servers;

use crate::check::CHECKS;
use crate::{build, step::step, tools};
use anyhow::{Context, Result};
use cargo::CargoTest;
use libtest::Counts;
use servers::Runs;
use std::time::Instant;

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run one part only
    #[arg(long, value_enum)]
    only: Option<Part>,
}

/// The parts, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Format, licences, lints, documentation, generated files
    Check,
    /// Unit and integration tests, those on a real Redis included
    Unit,
    /// The event store's suite on Redis 7.0 and 8.0, Valkey 8.1 and a Redis Cluster
    Servers,
    /// `cargo xtask demo`, driven from outside
    Demo,
    /// The shop under kill, scale and poison, in its short form
    Faults,
    /// The operator and the shop on the real cluster
    E2e,
}

impl Part {
    const ALL: [Self; 6] = [Self::Check, Self::Unit, Self::Servers, Self::Demo, Self::Faults, Self::E2e];

    const fn title(self) -> &'static str {
        match self {
            Self::Check => "checks",
            Self::Unit => "unit and integration tests",
            Self::Servers => "the event store on every server",
            Self::Demo => "demo",
            Self::Faults => "faults",
            Self::E2e => "end to end on the cluster",
        }
    }
}

/// Runs the parts; the last line on stdout is `N passed, N failed`.
pub(crate) fn run(args: &Args) -> Result<()> {
    // All that tests write to temporary folders goes here and away with it, a killed test's leavings too.
    let scratch = tempfile::Builder::new().prefix("ordershop-test-").tempdir()?;
    let parts = Part::ALL.into_iter().filter(|part| args.only.is_none_or(|only| only == *part));

    let mut lines = Vec::new();
    let mut total = Counts::default();
    for part in parts {
        println!("\n== {}", part.title());
        let mut begin = Instant::now();
        let mut add = |title: &str, counts: Counts| {
            lines.push(format!("{title:<34} {counts} ({:.0} s)", begin.elapsed().as_secs_f64()));
            total += counts;
            begin = Instant::now();
        };
        match part {
            Part::Check => add(part.title(), checks()),
            Part::Unit => add(part.title(), counted(unit(scratch.path()))),
            Part::Servers => match Runs::prepare(workspace(scratch.path())) {
                Ok(runs) => runs.each(scratch.path()).for_each(|(title, run)| add(&title, counted(run))),
                Err(error) => add(part.title(), counted(Err(error))),
            },
            Part::Demo => add(part.title(), counted(demo(scratch.path()))),
            Part::Faults => {
                let run = crate::faults::short().and_then(|mut run| cargo::counts(&mut run));
                add(part.title(), counted(run));
            }
            Part::E2e => add(part.title(), counted(e2e(scratch.path()))),
        }
    }
    scratch.close().context("cannot remove the tests' temporary folder")?;

    println!("\n{}", lines.join("\n"));
    println!("{total}");
    // The summary stays the last line: no error text after it.
    if total.failed > 0 || total.passed == 0 {
        std::process::exit(1);
    }
    Ok(())
}

/// A part that could not run to its end is one failure, and says why.
fn counted(result: Result<Counts>) -> Counts {
    result.unwrap_or_else(|error| {
        println!("  !! {error:#}");
        Counts::FAILED
    })
}

fn checks() -> Counts {
    let mut counts = Counts::default();
    for (title, check) in CHECKS {
        counts += match step(title, check) {
            Ok(()) => Counts::PASSED,
            Err(error) => {
                println!("     {error:#}");
                Counts::FAILED
            }
        };
    }
    counts
}

fn unit(scratch: &std::path::Path) -> Result<Counts> {
    // Tests of the services send mails to a real server, too.
    tools::ensure_debian(&crate::faults::PACKAGES)?;
    workspace(scratch).run()
}

fn workspace(scratch: &std::path::Path) -> CargoTest {
    CargoTest::new(scratch).args(["--workspace", "--exclude", "e2e", "--no-fail-fast"])
}

fn demo(scratch: &std::path::Path) -> Result<Counts> {
    tools::ensure_debian(&["redis-server"])?;
    let xtask = std::env::current_exe()?;
    // Before the tests, so that their deadlines are about the demo and not about the compiler.
    step("services built", build::services)?;
    CargoTest::new(scratch)
        .args(["--package", "e2e", "--lib", "--test", "demo", "--no-fail-fast"])
        .env("ORDERSHOP_XTASK", xtask)
        // Each starts ten processes of its own; one after another keeps their times honest.
        .threads(1)
        .run()
}

fn e2e(scratch: &std::path::Path) -> Result<Counts> {
    // A cluster with a shop on it that answers: that is a test passed, too.
    let mut counts = Counts::PASSED;
    counts += e2e::short(scratch)?;
    Ok(counts)
}
