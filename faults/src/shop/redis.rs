//! The Redis of a run: with an append-only file, a clock that can be set, and a file that can be full.

use super::process::Process;
use crate::schedule::Fsync;
use anyhow::{Context, Result, bail};
use event_store::testing::{Clock, write_file_anew};
use redis::aio::MultiplexedConnection;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Under load of others, loading an append-only file takes its time.
const UP_WITHIN: Duration = Duration::from_secs(30);
/// A Redis server that can be ended and started again on its data.
#[derive(Debug)]
pub struct Redis {
    process: Option<Process>,
    port: u16,
    folder: PathBuf,
    fsync: Fsync,
    clock: Clock,
}

impl Redis {
    /// Starts a server on this port with its data in this folder.
    pub async fn start(port: u16, folder: &Path, fsync: Fsync) -> Result<Self> {
        let mut redis = Self { process: None, port, folder: folder.to_owned(), fsync, clock: Clock::new() };
        redis.up().await?;
        Ok(redis)
    }

    /// Starts it, on the data that is there, and waits until it answers.
    pub async fn up(&mut self) -> Result<()> {
        let args: Vec<String> = [
            ("--port", self.port.to_string()),
            ("--bind", "127.0.0.1".to_owned()),
            ("--dir", self.folder.display().to_string()),
            ("--appendonly", "yes".to_owned()),
            ("--appendfsync", self.fsync.name().to_owned()),
            ("--maxmemory-policy", "noeviction".to_owned()),
            ("--save", String::new()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect();
        // The signal for a file that is too large is ignored, so that the write fails as on a full disk. The clock
        // is preloaded for the server alone.
        let clock: Vec<String> =
            self.clock.environment().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut command = vec!["env", "--ignore-signal=XFSZ"];
        command.extend(clock.iter().map(String::as_str));
        command.push("redis-server");
        let log = self.folder.join("redis.log");
        self.process = Some(Process::start("redis-server", &command, &args, &[], &log)?);
        self.until_it_answers().await?;
        // What the last end left of a transaction at the end of the file must not come back.
        tokio::task::block_in_place(|| write_file_anew(&self.url()))
            .context("write the append-only file anew")
    }

    async fn until_it_answers(&mut self) -> Result<()> {
        let deadline = Instant::now() + UP_WITHIN;
        loop {
            if let Ok(mut connection) = self.connection().await
                && redis::cmd("PING").exec_async(&mut connection).await.is_ok()
            {
                return Ok(());
            }
            if !self.runs() {
                bail!("redis-server ended; its log: {}", self.folder.join("redis.log").display());
            }
            if Instant::now() > deadline {
                bail!("redis-server does not answer within {UP_WITHIN:?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether the server runs. With `appendfsync always` it ends itself when it cannot write its file.
    pub fn runs(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::runs)
    }

    /// Ends it as a power cut would end the process (the page cache survives).
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// The process.
    pub fn process(&self) -> Result<&Process> {
        self.process.as_ref().context("redis-server is down")
    }

    /// A connection of the harness' own, past any proxy.
    pub async fn connection(&self) -> Result<MultiplexedConnection> {
        let client = redis::Client::open(self.url())?;
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(5)))
            .set_response_timeout(Some(Duration::from_secs(20)));
        Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// How it writes.
    #[must_use]
    pub fn fsync(&self) -> Fsync {
        self.fsync
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Sets its clock back by so much against the true time.
    pub fn set_clock_back(&self, by: Duration) {
        self.clock.behind(by);
    }
}
