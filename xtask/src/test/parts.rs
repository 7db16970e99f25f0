//! What each part of `cargo xtask test` runs.

use super::nextest::{Suite, passed_through};
use super::outcome::{Counts, Outcome, Section, Test};
use super::{cluster, libtest};
use crate::check::CHECKS;
use crate::servers::{self, Server};
use crate::step::step;
use crate::{build, faults, tools};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::thread;
use std::time::Instant;

/// What all parts need.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) scratch: PathBuf,
    /// The long form of every test.
    pub(super) full: bool,
    /// Why tests are ignored, by the names of their functions.
    pub(super) reasons: BTreeMap<String, Option<String>>,
}

/// Server, setup (see `event_store::testing::Setup`) and nextest's profile of each run of the event store's suite.
const SERVERS: [(Server, &str, &str); 4] = [
    (Server::Redis7, "plain", "redis-7"),
    (Server::Redis7, "cluster", "redis-7-cluster"),
    (Server::Redis8, "plain", "redis-8"),
    (Server::Valkey81, "plain", "valkey-8"),
];

/// Each check as a test.
pub(super) fn checks() -> Section {
    Section::timed("checks", || {
        let checked = CHECKS.map(|(title, check)| {
            let begin = Instant::now();
            let outcome = match step(title, check) {
                Ok(()) => Outcome::Passed,
                Err(error) => {
                    println!("     {error:#}");
                    Outcome::Failed
                }
            };
            let seconds = begin.elapsed().as_secs_f64();
            Test { program: "check".to_owned(), name: title.to_owned(), outcome, seconds }
        });
        Ok((checked.into(), Counts::default()))
    })
}

/// Installs and builds whatever the tests need, so that their deadlines are about the tests and not about a compiler.
pub(super) fn build(programs: bool, next_versions: bool) -> Section {
    Section::timed("building", || {
        // Tests of the services send mails to a real server, too.
        tools::ensure_debian(&faults::PACKAGES)?;
        super::nextest::ensure_installed()?;
        for (server, ..) in SERVERS {
            servers::ensure(server)?;
        }
        step("the tests built", build::tests)?;
        if programs {
            step("the services, the operator and the plugin built", build::all_deployed)?;
        }
        if next_versions {
            step("the next versions of services built", build::services_and_next)?;
        }
        Ok((Vec::new(), Counts::default()))
    })
}

/// Unit and integration tests, and the examples of the documentation.
pub(super) fn unit(context: &Context) -> Vec<Section> {
    let suite = Suite { full: context.full, ..Suite::new("default") };
    let tests = Section::timed("unit and integration tests", || {
        Ok((suite.run(&context.scratch, &context.reasons)?, Counts::default()))
    });
    let examples = Section::timed("examples of the documentation", || {
        let mut command = build::cargo()?;
        command.args(["test", "--workspace", "--locked", "--doc", "--no-fail-fast"]);
        command.env("TMPDIR", &context.scratch);
        let output = command.output().context("cannot run cargo")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            println!("{text}{}", String::from_utf8_lossy(&output.stderr));
        }
        let mut counts = Counts::default();
        text.lines().for_each(|line| counts += libtest::counts(line));
        Ok((Vec::new(), judged(counts, output.status)?))
    });
    vec![tests, examples]
}

/// The event store's suite on all servers at the same time.
pub(super) fn servers(context: &Context) -> Vec<Section> {
    let one = |(server, setup, profile): (Server, &str, &'static str)| {
        Section::timed(&format!("the event store on {}, {setup}", server.title()), || {
            let suite = Suite { full: context.full, ..Suite::new(profile) }
                .env("EVENTSTORE_TEST_SERVER", servers::ensure(server)?)
                .env("EVENTSTORE_TEST_LAYOUT", setup);
            Ok((suite.run(&context.scratch, &context.reasons)?, Counts::default()))
        })
    };
    thread::scope(|scope| {
        let running = SERVERS.map(|server| scope.spawn(move || one(server)));
        running.into_iter().map(|run| run.join().unwrap_or_else(|_| Section::panicked())).collect()
    })
}

/// `cargo xtask demo`, driven from outside.
pub(super) fn demo(context: &Context) -> Section {
    Section::timed("demo", || {
        let suite = Suite { full: context.full, ..Suite::new("demo") }
            .env("ORDERSHOP_XTASK", std::env::current_exe()?);
        Ok((suite.run(&context.scratch, &context.reasons)?, Counts::default()))
    })
}

/// The shop under faults.
pub(super) fn faults(context: &Context) -> Section {
    Section::timed("faults", || {
        let mut counts = Counts::default();
        let mut harness = faults::tests(context.full)?;
        harness.env("TMPDIR", &context.scratch);
        let status = passed_through(&mut harness, "faults", |line| counts += libtest::counts(line))?;
        Ok((Vec::new(), judged(counts, status)?))
    })
}

/// The operator and the shop on the cluster.
pub(super) fn cluster(context: &Context) -> Section {
    Section::timed("end to end on the cluster", || Ok((cluster::tests(context, None)?, Counts::default())))
}

/// The counts of a run whose result lines are those of Rust's test runner, and its end.
fn judged(mut counts: Counts, status: ExitStatus) -> Result<Counts> {
    ensure!(counts != Counts::default(), "it ran no test and ended with {status}");
    if !status.success() && counts.failed == 0 {
        // It did not compile, or it died: no result line says that.
        println!("  !! it ended with {status}");
        counts += Counts::FAILED;
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn a_run_that_died_has_failed_whatever_it_counted() {
        let (ended, died) = (ExitStatus::from_raw(0), ExitStatus::from_raw(9));
        assert_eq!(judged(Counts::PASSED, ended).unwrap(), Counts::PASSED);
        assert_eq!(judged(Counts::PASSED, died).unwrap(), Counts { passed: 1, failed: 1 });
        assert_eq!(judged(Counts::FAILED, died).unwrap(), Counts::FAILED, "that failure is why");
        assert!(judged(Counts::default(), ended).is_err());
    }
}
