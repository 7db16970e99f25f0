//! The Redis of a run: with an append-only file, a clock that can be set, and a file that can be full.

use super::process::Process;
use crate::schedule::Fsync;
use anyhow::{Context, Result, bail};
use redis::aio::MultiplexedConnection;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Under load of others, loading an append-only file takes its time.
const UP_WITHIN: Duration = Duration::from_secs(30);
/// Where Debian's package `libfaketime` puts the library.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
const FAKETIME_ARM: &str = "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1";

/// A Redis server that can be ended and started again on its data.
#[derive(Debug)]
pub struct Redis {
    process: Option<Process>,
    port: u16,
    folder: PathBuf,
    fsync: Fsync,
}

impl Redis {
    /// Starts a server on this port with its data in this folder.
    pub async fn start(port: u16, folder: &Path, fsync: Fsync) -> Result<Self> {
        let mut redis = Self { process: None, port, folder: folder.to_owned(), fsync };
        redis.set_clock(0)?;
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
            ("--enable-debug-command", "local".to_owned()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect();
        let env: Vec<(String, String)> = [
            ("LD_PRELOAD", library()?.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.clock().display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        // The signal for a file that is too large is ignored, so that the write fails as on a full disk. The library
        // is preloaded for the server alone.
        let preload: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut command = vec!["env", "--ignore-signal=XFSZ"];
        command.extend(preload.iter().map(String::as_str));
        command.push("redis-server");
        let log = self.folder.join("redis.log");
        self.process = Some(Process::start("redis-server", &command, &args, &[], &log)?);
        self.until_it_answers().await
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

    /// Sets its clock back by so many seconds against the true time.
    pub fn set_clock(&self, seconds_back: u64) -> Result<()> {
        // Renamed into place: the library must never read half of it.
        let new = self.folder.join("clock.new");
        std::fs::write(&new, format!("-{seconds_back}s\n"))?;
        Ok(std::fs::rename(&new, self.clock())?)
    }

    fn clock(&self) -> PathBuf {
        self.folder.join("clock")
    }
}

fn library() -> Result<&'static Path> {
    let found = [FAKETIME, FAKETIME_ARM].map(Path::new).into_iter().find(|path| path.exists());
    found.context("the clock of Redis cannot be set: it needs the Debian package libfaketime")
}
