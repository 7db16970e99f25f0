//! The event store's suite on every server and layout that it promises beside the one of the unit tests, which is the
//! plain layout on this machine's own Redis.

use super::cargo::{CargoTest, run_program};
use super::libtest::Counts;
use crate::servers::{self, Server};
use crate::{step::step, tools};
use anyhow::Result;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

const PACKAGE: &str = "event-store";

/// Server, setup (see `event_store::testing::Setup`) and how many tests at once: a cluster needs two seconds to
/// start, in which nobody works.
const RUNS: [(Server, &str, usize); 4] = [
    (Server::Redis7, "plain", 4),
    (Server::Redis7, "cluster", 8),
    (Server::Redis8, "plain", 4),
    (Server::Valkey81, "plain", 4),
];

/// The runs that remain to be done, by their titles.
pub(super) struct Runs {
    programs: Vec<PathBuf>,
}

impl Runs {
    /// Builds what they need, with the same features as the unit tests, so that nothing is built twice.
    pub(super) fn prepare(cargo: CargoTest) -> Result<Self> {
        let mut programs = Vec::new();
        step("the event store's tests built", || {
            programs = cargo.programs(PACKAGE)?;
            Ok(())
        })?;
        Ok(Self { programs })
    }

    /// Each run with its title.
    pub(super) fn each(&self, scratch: &Path) -> impl Iterator<Item = (String, Result<Counts>)> {
        RUNS.iter().map(move |(server, setup, threads)| {
            let title = format!("{PACKAGE} on {}, {setup}", server.title());
            println!("\n-- {title}");
            (title, self.one(*server, setup, *threads, scratch))
        })
    }

    fn one(&self, server: Server, setup: &str, threads: usize, scratch: &Path) -> Result<Counts> {
        let server = servers::ensure(server)?;
        let envs =
            [("EVENTSTORE_TEST_SERVER", server.as_os_str()), ("EVENTSTORE_TEST_LAYOUT", OsStr::new(setup))];
        let folder = tools::root().join("services").join(PACKAGE);
        let mut counts = Counts::default();
        for program in &self.programs {
            counts += run_program(program, &folder, scratch, threads, &envs)?;
        }
        Ok(counts)
    }
}
