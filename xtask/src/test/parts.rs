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

/// A run of the event store's suite.
#[derive(Debug, Clone, Copy)]
struct ServerRun {
    server: Server,
    /// See `event_store::testing::Setup`.
    setup: &'static str,
    /// Of nextest.
    profile: &'static str,
    /// Threads of each test's runtime.
    workers: u8,
    /// Only in the long form.
    full: bool,
}

impl ServerRun {
    const fn new(server: Server, setup: &'static str, profile: &'static str) -> Self {
        Self { server, setup, profile, workers: 2, full: false }
    }

    /// In the long form, with so many threads.
    const fn workers(self, profile: &'static str, workers: u8) -> Self {
        Self { profile, workers, full: true, ..self }
    }

    fn title(self) -> String {
        let Self { server, setup, workers, .. } = self;
        format!("the event store on {}, {setup}, threads of a runtime: {workers}", server.title())
    }
}

const REDIS_7: ServerRun = ServerRun::new(Server::Redis7, "plain", "redis-7");
const SERVER_RUNS: [ServerRun; 6] = [
    REDIS_7,
    ServerRun::new(Server::Redis7, "cluster", "redis-7-cluster"),
    ServerRun::new(Server::Redis8, "plain", "redis-8"),
    ServerRun::new(Server::Valkey81, "plain", "valkey-8"),
    REDIS_7.workers("redis-7-one-worker", 1),
    REDIS_7.workers("redis-7-four-workers", 4),
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
        for run in SERVER_RUNS {
            servers::ensure(run.server)?;
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

/// The event store's suite on all servers at the same time. In the long form also with other numbers of threads; the
/// tests that take long run with the usual number only.
pub(super) fn servers(context: &Context) -> Vec<Section> {
    let one = |run: ServerRun| {
        Section::timed(&run.title(), || {
            let suite = Suite { full: context.full && !run.full, ..Suite::new(run.profile) }
                .env("EVENTSTORE_TEST_SERVER", servers::ensure(run.server)?)
                .env("EVENTSTORE_TEST_LAYOUT", run.setup)
                .env("TOKIO_WORKER_THREADS", run.workers.to_string());
            Ok((suite.run(&context.scratch, &context.reasons)?, Counts::default()))
        })
    };
    let wanted = SERVER_RUNS.iter().copied().filter(|run| context.full || !run.full);
    thread::scope(|scope| {
        let running: Vec<_> = wanted.map(|run| scope.spawn(move || one(run))).collect();
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
    use std::collections::BTreeSet;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn each_run_of_the_event_store_has_a_profile_of_its_own() {
        let path = tools::root().join(".config/nextest.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let config: toml::Table = toml::from_str(&text).unwrap();
        let profiles: BTreeSet<&str> = SERVER_RUNS.iter().map(|run| run.profile).collect();
        assert_eq!(profiles.len(), SERVER_RUNS.len(), "two runs of one profile would write the same report");
        assert!(profiles.iter().all(|profile| config["profile"].get(profile).is_some()), "{profiles:?}");
        let workers = |full: bool| {
            SERVER_RUNS
                .iter()
                .filter(|run| full || !run.full)
                .map(|run| run.workers)
                .collect::<BTreeSet<u8>>()
        };
        assert_eq!((workers(false), workers(true)), (BTreeSet::from([2]), BTreeSet::from([1, 2, 4])));
    }

    #[test]
    fn a_run_that_died_has_failed_whatever_it_counted() {
        let (ended, died) = (ExitStatus::from_raw(0), ExitStatus::from_raw(9));
        assert_eq!(judged(Counts::PASSED, ended).unwrap(), Counts::PASSED);
        assert_eq!(judged(Counts::PASSED, died).unwrap(), Counts { passed: 1, failed: 1 });
        assert_eq!(judged(Counts::FAILED, died).unwrap(), Counts::FAILED, "that failure is why");
        assert!(judged(Counts::default(), ended).is_err());
    }
}
