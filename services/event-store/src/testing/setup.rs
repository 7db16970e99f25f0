//! What a suite runs on, chosen from outside.

use super::{Cluster, Redis};
use crate::{Config, Layout};

/// Names the environment variable that chooses the [`Setup`]: `plain`, `tagged` or `cluster`.
pub const LAYOUT: &str = "EVENTSTORE_TEST_LAYOUT";

/// Which layout on what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// The plain layout on one server.
    Plain,
    /// The tagged layout on one server.
    Tagged,
    /// The tagged layout on a cluster of three masters.
    Cluster,
}

impl Setup {
    /// What [`LAYOUT`] says; [`Setup::Plain`] when it says nothing.
    ///
    /// # Panics
    /// When it says something else: a suite that runs on another setup than was asked for proves nothing.
    #[must_use]
    pub fn from_env() -> Self {
        match std::env::var(LAYOUT).as_deref() {
            Err(_) | Ok("" | "plain") => Self::Plain,
            Ok("tagged") => Self::Tagged,
            Ok("cluster") => Self::Cluster,
            Ok(other) => panic!("{LAYOUT}={other}: say plain, tagged or cluster"),
        }
    }

    /// For a test about the tagged layout: what was chosen, or one server where that is plain.
    ///
    /// # Panics
    /// As [`Setup::from_env`].
    #[must_use]
    pub fn tagged_from_env() -> Self {
        match Self::from_env() {
            Self::Plain => Self::Tagged,
            other => other,
        }
    }

    /// Its layout.
    #[must_use]
    pub fn layout(self) -> Layout {
        match self {
            Self::Plain => Layout::Plain,
            Self::Tagged | Self::Cluster => Layout::Tagged,
        }
    }
}

/// The running servers of a setup.
#[derive(Debug)]
pub enum Server {
    /// One.
    Single(Redis, Layout),
    /// A cluster.
    Cluster(Cluster),
}

impl Server {
    /// Starts it.
    ///
    /// # Panics
    /// As [`Redis::start`].
    #[must_use]
    pub fn start(setup: Setup) -> Self {
        Self::start_with(setup, &[])
    }

    /// Starts it with further settings, as they stand on a server's command line.
    ///
    /// # Panics
    /// As [`Redis::start`].
    #[must_use]
    pub fn start_with(setup: Setup, settings: &[&str]) -> Self {
        match setup {
            Setup::Plain | Setup::Tagged => Self::Single(Redis::start_with(settings), setup.layout()),
            Setup::Cluster => Self::Cluster(Cluster::start_with(settings)),
        }
    }

    /// How a store on it is opened.
    #[must_use]
    pub fn config(&self) -> Config {
        self.config_at("redis://")
    }

    /// How a user of the server opens a store on it.
    #[must_use]
    pub fn config_as(&self, user: &str, password: &str) -> Config {
        self.config_at(&format!("redis://{user}:{password}@"))
    }

    fn config_at(&self, begin: &str) -> Config {
        let nodes = match self {
            Self::Single(redis, _) => std::slice::from_ref(redis),
            Self::Cluster(cluster) => cluster.nodes(),
        };
        let mut urls = nodes.iter().map(|node| format!("{begin}127.0.0.1:{}", node.port()));
        let first = Config::new(urls.next().unwrap_or_default()).layout(self.layout());
        urls.fold(first, Config::node)
    }

    /// The layout of a store on it.
    #[must_use]
    pub fn layout(&self) -> Layout {
        match self {
            Self::Single(_, layout) => *layout,
            Self::Cluster(_) => Layout::Tagged,
        }
    }

    /// Kills every server as a crash would, and starts them again on their data.
    ///
    /// # Panics
    /// As [`Redis::start`].
    pub fn crash_and_restart(&mut self) {
        match self {
            Self::Single(redis, _) => redis.crash_and_restart(),
            Self::Cluster(cluster) => {
                cluster.kill_all();
                cluster.restart_all();
            }
        }
    }

    /// The one server of a test that is about one server.
    ///
    /// # Panics
    /// When it is a cluster.
    #[must_use]
    pub fn single(&self) -> &Redis {
        match self {
            Self::Single(redis, _) => redis,
            Self::Cluster(_) => panic!("this test is about one server: it starts a Setup of one"),
        }
    }
}
