//! `cargo xtask e2e`: the suite on a real cluster, the operator and whole shops on it.
//!
//! The short run is part of `cargo xtask test`. A test that is too long for it carries
//! `#[ignore = "full: why"]`; only `--full` runs it, and the short run names it, so that nothing looks green that
//! was not run. The results of a full run are written to `docs/src/e2e.md` and `operator.md`, and by nothing else.

mod one;
mod plan;
mod record;

use super::cargo::CargoTest;
use super::libtest::Counts;
use crate::{build, cache, cluster, faults, step::step, tools, tools::Run};
use anyhow::{Context, Result, bail};
use one::{Outcome, Ran, Setting, Test};
use plan::{PROGRAMS, Program};
use record::Stamp;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The tests' namespace, where an operator watches that one alone; see `e2e/src/cluster/namespace.rs`.
const NAMESPACE: &str = "ORDERSHOP_E2E_NAMESPACE";
const PAGE: &str = "docs/src/e2e.md";
const PROMISES: &str = "docs/src/operator.md";

/// Options of `cargo xtask e2e`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The long tests too; writes docs/src/e2e.md
    #[arg(long)]
    full: bool,
    /// Only tests whose `program::name` contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// Runs the suite on the cluster of `KUBECONFIG`, else on that of `make up`; the last line is `N passed, N failed`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("ordershop-e2e-").tempdir()?;
    let counts = suite(scratch.path(), args)?;
    scratch.close().context("cannot remove the tests' temporary folder")?;
    println!("{counts}");
    if counts.failed > 0 || counts.passed == 0 {
        std::process::exit(1);
    }
    Ok(())
}

/// The short run.
pub(super) fn short(scratch: &Path) -> Result<Counts> {
    suite(scratch, &Args { full: false, only: None })
}

fn suite(scratch: &Path, args: &Args) -> Result<Counts> {
    let (setting, local) = prepare(scratch, args.full)?;
    let found = tests(scratch)?;
    let known: Vec<String> = found.iter().flat_map(|(_, tests)| tests).map(Test::to_string).collect();

    let mut ran = Vec::new();
    let mut elsewhere = Vec::new();
    for (program, tests) in found {
        let wanted = |test: &Test| args.only.as_ref().is_none_or(|only| test.to_string().contains(only));
        let tests: Vec<Test> = tests.into_iter().filter(wanted).collect();
        if program.local && !local {
            elsewhere.extend(tests);
        } else {
            // In one namespace they would meet.
            let at_once = if std::env::var_os(NAMESPACE).is_some() { 1 } else { program.at_once };
            ran.extend(side_by_side(tests, at_once, &setting)?);
        }
    }
    if args.full {
        write_pages(&ran, &known)?;
    }
    Ok(summed_up(&ran, &elsewhere))
}

/// Cluster and surroundings; whether the cluster is that of `make up`.
fn prepare(scratch: &Path, full: bool) -> Result<(Setting, bool)> {
    if full {
        // `under_faults` receives the shop's mails.
        tools::ensure_debian(&faults::MAIL_SERVER)?;
    }
    let xtask = std::env::current_exe()?;
    let ours = cluster::kubeconfig()?;
    let given = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty());
    if given.is_none() {
        let mut up = Command::new(&xtask);
        up.arg("up");
        if full && !cluster::exists()? {
            // One of the long tests drains a worker.
            up.args(["--workers", "2"]);
        }
        let status = up.status().context("cannot run xtask up")?;
        if !status.success() {
            bail!("no cluster to test on: `cargo xtask up` ended with {status}, for the reason above");
        }
    }
    let kubeconfig = given.unwrap_or_else(|| ours.clone().into());
    let local = Path::new(&kubeconfig) == ours;
    let mut envs = vec![("KUBECONFIG", kubeconfig), ("ORDERSHOP_XTASK", xtask.into())];
    if !local && std::env::var_os("ORDERSHOP_HELM").is_none() {
        // `cargo xtask helm` is that of our own cluster.
        envs.push(("ORDERSHOP_HELM", OsString::from("helm")));
    }
    if full {
        // Some of the long tests start operators of their own.
        let mut build = build::cargo();
        build.args(["build", "--locked", "--package", "ordershop-operator"]).current_dir(tools::root());
        build.env("CARGO_TARGET_DIR", cache::target_dir()?);
        step("the operator built", || build.run())?;
    }
    // Beforehand: from nothing it takes longer than a test may.
    step("the plugin built", build::plugin)?;
    let folder = tools::root().join("e2e");
    Ok((Setting { folder, scratch: scratch.to_owned(), envs, full }, local))
}

/// All programs with their tests, in the order in which they run.
fn tests(scratch: &Path) -> Result<Vec<(Program, Vec<Test>)>> {
    let mut paths = Vec::new();
    step("the tests built", || {
        let names = PROGRAMS.iter().flat_map(|program| ["--test", program.name]);
        paths = CargoTest::new(scratch).args(["--package", "e2e"]).args(names).programs("e2e")?;
        Ok(())
    })?;
    let with_tests = |program: &Program| {
        let path = paths.iter().find(|path| is_program(path, program.name));
        let path = path.with_context(|| format!("e2e/tests/{}.rs was not built", program.name))?;
        Ok((*program, one::list(program.name, path)?))
    };
    PROGRAMS.iter().map(with_tests).collect()
}

/// Cargo appends a hash to the name: `cluster-0123456789abcdef`.
fn is_program(path: &Path, name: &str) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    stem.rsplit_once('-').is_some_and(|(program, _)| program == name)
}

/// Runs tests, so many of them at once, and says how each ended as soon as it has.
fn side_by_side(tests: Vec<Test>, at_once: usize, setting: &Setting) -> Result<Vec<Ran>> {
    let left = Mutex::new(tests.into_iter());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || -> Result<Vec<Ran>> {
        let mut ran = Vec::new();
        while let Some(test) = next() {
            let done = one::run(test, setting)?;
            say(&done);
            ran.push(done);
        }
        Ok(ran)
    };
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let ran = worker.join().map_err(|_| anyhow::anyhow!("a thread that ran tests panicked"))?;
            all.extend(ran?);
        }
        Ok(all)
    })
}

fn say(ran: &Ran) {
    let (test, seconds) = (&ran.test, ran.seconds);
    match &ran.outcome {
        Outcome::Passed => println!("  ok {test} ({seconds:.1} s)"),
        // One call, so that two tests that fail at once are not told as one.
        Outcome::Failed => println!("{}\n  !! {test} ({seconds:.1} s), see above", ran.output),
        Outcome::Full(_) => {}
    }
}

/// The counts; what was not run is said by name, and how to run it.
fn summed_up(ran: &[Ran], elsewhere: &[Test]) -> Counts {
    let mut counts = Counts::default();
    let mut left_out = Vec::new();
    for ran in ran {
        match &ran.outcome {
            Outcome::Passed => counts += Counts::PASSED,
            Outcome::Failed => counts += Counts::FAILED,
            Outcome::Full(why) => left_out.push(format!("     {} ({why})", ran.test)),
        }
    }
    if !left_out.is_empty() {
        let tests = if left_out.len() == 1 { "test is" } else { "tests are" };
        println!("\n{} longer {tests} run by `make e2e FULL=1` only:", left_out.len());
        println!("{}", left_out.join("\n"));
    }
    for test in elsewhere {
        println!("  -- {test} was not run: it is about the cluster of `make up`");
    }
    counts
}

fn write_pages(ran: &[Ran], known: &[String]) -> Result<()> {
    let stamp = stamp()?;
    let change = |page: &str, changed: &dyn Fn(&str) -> Option<String>| -> Result<()> {
        let path: PathBuf = tools::root().join(page);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let text = changed(&text).with_context(|| format!("{page} has no place for the results"))?;
        std::fs::write(&path, text).with_context(|| path.display().to_string())
    };
    change(PAGE, &|page| record::fill(page, ran, known, &stamp))?;
    change(PROMISES, &|page| Some(record::mark(page, ran, known, &stamp)))
}

fn stamp() -> Result<Stamp> {
    let git = |args: &[&str]| Command::new("git").args(args).current_dir(tools::root()).text();
    let mut commit = git(&["rev-parse", "--short", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    if changed.lines().any(|line| !line.ends_with(PAGE) && !line.ends_with(PROMISES)) {
        commit.push('+');
    }
    Ok(Stamp { date: Command::new("date").args(["-u", "+%F"]).text()?, commit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_file_is_known_by_its_name_without_the_hash() {
        assert!(is_program(Path::new("/t/deps/cluster-0123456789abcdef"), "cluster"));
        assert!(!is_program(Path::new("/t/deps/cluster_more-0123456789abcdef"), "cluster"));
        assert!(!is_program(Path::new("/t/deps/cluster"), "cluster"));
    }
}
