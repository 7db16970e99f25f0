//! `cargo xtask e2e`: the suite on a real cluster, the operator and whole shops on it.
//!
//! The short run is part of `cargo xtask test`. A test that is too long for it carries
//! `#[ignore = "full: why"]`; only `--full` runs it, and the short run names it, so that nothing looks green that
//! was not run. The results of a full run are written to `docs/src/e2e.md` and `operator.md`, and by nothing else.

use super::nextest::{self, Suite};
use super::outcome::{Counts, Outcome, Section, Test};
use super::parts::Context as Tests;
use super::summary::{self, Moment};
use super::{ignored, pages};
use crate::{build, cache, cluster, faults, step::step, tools, tools::Run};
use anyhow::{Context, Result, bail};
use pages::Stamp;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

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
    let reasons = ignored::reasons(&tools::root())?;
    let context = Tests { scratch: scratch.path().to_owned(), full: args.full, reasons };
    let begin = Moment::now()?;
    nextest::ensure_installed()?;
    step("the tests built", build::tests)?;
    // Beforehand: from nothing it takes longer than a test may.
    step("the plugin built", build::plugin)?;
    let section = Section::timed("end to end on the cluster", || {
        Ok((tests(&context, args.only.as_deref())?, Counts::default()))
    });
    let (counts, moments) = (section.counts(), [("all", begin), ("", Moment::now()?)]);
    println!("\n{}\n{counts}", summary::text(&[section], &build::take_compiled(), &moments));
    scratch.close().unwrap_or_else(|error| eprintln!("cannot remove the tests' temporary folder: {error}"));
    if counts.failed > 0 || counts.passed == 0 {
        std::process::exit(1);
    }
    Ok(())
}

/// Creates the cluster of `make up`, unless the tests are told of another one.
pub(super) fn create(full: bool) -> Result<()> {
    if given().is_some() {
        return Ok(());
    }
    let _lock = tools::lock()?;
    // One of the long tests drains a worker.
    let workers = (full && !cluster::exists()?).then_some(2);
    cluster::ensure(cluster::DEFAULT_NAME, workers)?;
    tools::go::ensure(&[&tools::go::HELM])
}

/// Runs the tests that were built before; `only` is a part of `program::name`.
pub(super) fn tests(context: &Tests, only: Option<&str>) -> Result<Vec<Test>> {
    let _lock = alone()?;
    // Now: the clone may have gone on when the tests have ended.
    let stamp = stamp()?;
    create(context.full)?;
    let mut tests = Vec::new();
    let is_local = is_local()?;
    if given().is_none() {
        remove_leftovers()?;
        tests.push(up()?);
    }
    let suite = suite(context.full, is_local, only)?;
    let ran = suite.run(&context.scratch, &context.reasons)?;
    if context.full {
        write_pages(&ran, &nextest::list(suite.profile)?, &stamp)?;
    }
    tests.extend(ran.into_iter().filter(|test| is_wanted(test, only)));
    if !is_local {
        let outcome = Outcome::LeftOut("it is about the cluster of `make up`".to_owned());
        tests.push(Test { program: "e2e".to_owned(), name: "readme".to_owned(), outcome, seconds: 0.0 });
    }
    Ok(tests)
}

/// Waits until no other run tests on the cluster: its operator would become another one in the middle of a test.
fn alone() -> Result<File> {
    let file = File::create(cache::dir()?.join("cluster-tests"))?;
    if file.try_lock().is_err() {
        eprintln!("  .. waiting for another run of the tests on the cluster");
        file.lock()?;
    }
    Ok(file)
}

/// Removes what a run left that was killed: its shops would take the room of this one's.
fn remove_leftovers() -> Result<()> {
    let ours = ["delete", "namespace", "--selector", "ordershop.dev/e2e=true", "--ignore-not-found"];
    cluster::running(cluster::DEFAULT_NAME)?.kubectl()?.args(ours).run()
}

fn given() -> Option<OsString> {
    std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty())
}

/// Nextest reports every long test as left out, whatever was asked for.
fn is_wanted(test: &Test, only: Option<&str>) -> bool {
    let left_out = matches!(test.outcome, Outcome::LeftOut(_));
    !left_out || only.is_none_or(|text| test.to_string().contains(text))
}

/// `make up`, as a test: a cluster with a shop on it that answers.
fn up() -> Result<Test> {
    let begin = Instant::now();
    let status = Command::new(std::env::current_exe()?).arg("up").status().context("cannot run xtask up")?;
    if !status.success() {
        bail!("no cluster to test on: `cargo xtask up` ended with {status}, for the reason above");
    }
    let seconds = begin.elapsed().as_secs_f64();
    Ok(Test { program: "make".to_owned(), name: "up".to_owned(), outcome: Outcome::Passed, seconds })
}

/// Whether the tests run on the cluster of `make up`.
fn is_local() -> Result<bool> {
    let ours = cluster::kubeconfig()?;
    Ok(given().is_none_or(|given| Path::new(&given) == ours))
}

/// The tests with what they find around them.
fn suite(full: bool, local: bool, only: Option<&str>) -> Result<Suite> {
    if full {
        // `under_faults` receives the shop's mails.
        tools::ensure_debian(&faults::MAIL_SERVER)?;
    }
    let xtask = std::env::current_exe()?;
    let kubeconfig = given().map_or_else(|| cluster::kubeconfig().map(Into::into), Ok)?;
    let mut suite = Suite::new(if full { "cluster-full" } else { "cluster" })
        .env("KUBECONFIG", kubeconfig)
        .env("ORDERSHOP_XTASK", xtask);
    if !local && std::env::var_os("ORDERSHOP_HELM").is_none() {
        // `cargo xtask helm` is that of our own cluster.
        suite = suite.env("ORDERSHOP_HELM", "helm");
    }
    // In one namespace the tests would meet.
    let one_by_one = std::env::var_os(NAMESPACE).is_some();
    Ok(Suite { filter: filter(local, only), full, one_by_one, ..suite })
}

/// The tests to run, as an expression of nextest; `None` for all.
fn filter(local: bool, only: Option<&str>) -> Option<String> {
    let elsewhere = (!local).then(|| "not binary_id(e2e::readme)".to_owned());
    // The summary names a test with its crate.
    let only = only.map(|text| text.strip_prefix("e2e::").unwrap_or(text));
    let only = only.map(|text| match text.split_once("::") {
        Some((program, name)) => format!("(binary_id(/{program}$/) and test(/^{name}/))"),
        None => format!("(binary(~{text}) or test(~{text}))"),
    });
    let both: Vec<String> = elsewhere.into_iter().chain(only).collect();
    (!both.is_empty()).then(|| both.join(" and "))
}

fn write_pages(ran: &[Test], known: &[String], stamp: &Stamp) -> Result<()> {
    let change = |page: &str, changed: &dyn Fn(&str) -> Option<String>| -> Result<()> {
        let path: PathBuf = tools::clone().join(page);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let text = changed(&text).with_context(|| format!("{page} has no place for the results"))?;
        std::fs::write(&path, text).with_context(|| path.display().to_string())
    };
    change(PAGE, &|page| pages::fill(page, ran, known, stamp))?;
    change(PROMISES, &|page| Some(pages::mark(page, ran, known, stamp)))
}

fn stamp() -> Result<Stamp> {
    let git = |args: &[&str]| Command::new("git").args(args).current_dir(tools::clone()).text();
    let mut commit = git(&["rev-parse", "--short", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=all"])?;
    if changed.lines().any(|line| !line.ends_with(PAGE) && !line.ends_with(PROMISES)) {
        commit.push('+');
    }
    Ok(Stamp { date: Command::new("date").args(["-u", "+%F"]).text()?, commit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_selects_programs_and_tests() {
        assert_eq!(filter(true, None), None);
        assert_eq!(filter(true, Some("scale")).unwrap(), "(binary(~scale) or test(~scale))");
        assert_eq!(filter(true, Some("e2e::cluster::a")), filter(true, Some("cluster::a")));
        assert_eq!(
            filter(false, Some("cluster::kubectl")).unwrap(),
            "not binary_id(e2e::readme) and (binary_id(/cluster$/) and test(/^kubectl/))"
        );
    }

    /// Two tests that change the shared shop at the same time would see each other's changes.
    #[test]
    fn every_test_on_the_shared_shop_is_in_its_group() {
        let root = tools::root();
        let config = std::fs::read_to_string(root.join(".config/nextest.toml")).unwrap();
        let config: toml::Table = toml::from_str(&config).unwrap();
        let overrides = config["profile"]["cluster"]["overrides"].as_array().unwrap();
        // The first one that matches a test decides on its group.
        let first = overrides.iter().find(|one| one.get("test-group").is_some()).unwrap();
        assert_eq!(first["test-group"].as_str(), Some("shared-shop"));
        let filter = first["filter"].as_str().unwrap();
        let mut found = 0;
        for path in crate::check::ours(&root.join("e2e/tests"), "rs").unwrap() {
            let program = path.file_stem().unwrap().to_str().unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            for test in text.split("#[tokio::test]").skip(1) {
                let name = test.split_once("fn ").unwrap().1.split('(').next().unwrap();
                if test.contains("with_shared_shop(") {
                    found += 1;
                    let named = filter.split("test(").skip(1).filter_map(|rest| rest.split(')').next());
                    let whole = filter.contains(&format!("binary_id(e2e::{program})"));
                    assert!(whole || named.into_iter().any(|part| name.contains(part)), "{program}::{name}");
                }
            }
        }
        assert!(found > 10, "{found} tests on the shared shop");
    }
}
