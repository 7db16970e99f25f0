//! A running `cargo xtask demo`, started as a user starts it and watched through what it prints.

use crate::cluster::SERVICES;
use crate::deadline::eventually;
use crate::redis::Cli;
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use std::iter;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

/// The names of the ten processes, Redis first.
pub fn processes() -> impl Iterator<Item = &'static str> {
    iter::once("redis").chain(SERVICES)
}

/// Long, because the services are built first where nobody has done so.
const OPEN_WITHIN: Duration = Duration::from_mins(20);
const END_WITHIN: Duration = Duration::from_secs(40);

/// One demo, ended when dropped.
pub struct Demo {
    process: Child,
    output: Output,
    /// The port of the gateway.
    pub port: u16,
    /// The port of Redis.
    pub redis_port: u16,
    data: PathBuf,
    /// Removed at the end, where it was made for this demo alone.
    folder: Option<TempDir>,
}

/// The lines that a process has written so far.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<String>>>);

impl Demo {
    /// An empty shop in a folder of its own, open when this returns.
    pub async fn empty() -> Result<Self> {
        let folder = TempDir::new()?;
        let mut demo = Self::start(folder.path(), &["--no-seed"])?;
        demo.folder = Some(folder);
        demo.open().await?;
        Ok(demo)
    }

    /// A shop with seed data in a folder of its own, open when this returns.
    pub async fn seeded() -> Result<Self> {
        let folder = TempDir::new()?;
        let mut demo = Self::start(folder.path(), &[])?;
        demo.folder = Some(folder);
        demo.open().await?;
        Ok(demo)
    }

    /// Starts one and does not wait.
    pub fn start(data: &Path, further: &[&str]) -> Result<Self> {
        Self::start_on(data, free_port()?, free_port()?, further)
    }

    /// Starts one on these ports and does not wait.
    pub fn start_on(data: &Path, port: u16, redis_port: u16, further: &[&str]) -> Result<Self> {
        let mut process = xtask()
            .arg("demo")
            .args(["--port", &port.to_string(), "--redis-port", &redis_port.to_string(), "--data"])
            .arg(data)
            .args(further)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start xtask")?;
        let output = Output::default();
        output.follow(process.stdout.take().context("no stdout")?);
        output.follow(process.stderr.take().context("no stderr")?);
        Ok(Self { process, output, port, redis_port, data: data.to_owned(), folder: None })
    }

    /// Waits until the demo says that the shop is open.
    pub async fn open(&mut self) -> Result<()> {
        let ready = format!("http://localhost:{}", self.port);
        eventually("the demo is open", OPEN_WITHIN, async || {
            if let Some(status) = self.process.try_wait()? {
                // Known at once, not at the deadline: the text below tells all there is to tell.
                return Ok(Err(anyhow::anyhow!("the demo ended with {status}")));
            }
            ensure!(self.output.has(&format!("The shop is open: {ready}")), "{}", self.output.text());
            Ok(Ok(()))
        })
        .await?
        .with_context(|| self.output.text())
    }

    /// Where the gateway answers.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// The ids of the ten processes by name, as the demo last named them.
    pub fn processes(&self) -> Result<HashMap<String, u32>> {
        let mut ids = HashMap::new();
        for line in self.output.lines() {
            // "     crm            process 4711" and "  ok crm started again, process 4712"
            let Some((before, id)) = line.rsplit_once("process ") else { continue };
            let name = before.split_whitespace().find(|word| processes().any(|name| name == *word));
            if let (Some(name), Ok(id)) = (name, id.trim().parse()) {
                ids.insert(name.to_owned(), id);
            }
        }
        ensure!(ids.len() == processes().count(), "not all processes are named: {}", self.output.text());
        Ok(ids)
    }

    /// Waits until a line contains this.
    pub async fn says(&self, text: &str, within: Duration) -> Result<()> {
        eventually(&format!("the demo says {text:?}"), within, async || {
            ensure!(self.output.has(text), "{}", self.output.text());
            Ok(())
        })
        .await
    }

    /// Sends a signal, waits for the end, and makes sure that none of the ten is left.
    pub async fn end(mut self, signal: &str) -> Result<ExitStatus> {
        let processes = self.processes()?;
        kill(self.process.id().context("the demo has ended")?, signal).await?;
        let status = tokio::time::timeout(END_WITHIN, self.process.wait())
            .await
            .with_context(|| format!("still running: {}", self.output.text()))??;
        eventually("no process is left", END_WITHIN, async || {
            let left: Vec<_> = processes.iter().filter(|(_, id)| is_alive(**id)).collect();
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await?;
        self.folder.take().map_or(Ok(()), TempDir::close)?;
        Ok(status)
    }

    /// Waits for a demo that is expected to end by itself: its exit status and its output.
    pub async fn ended(mut self, within: Duration) -> Result<(ExitStatus, String)> {
        let status =
            tokio::time::timeout(within, self.process.wait()).await.context("the demo does not end")??;
        let output = &self.output;
        // The pipes may be read a little after the process has ended.
        eventually("the demo's last words", within, async || {
            ensure!(!output.lines().is_empty(), "nothing printed");
            Ok(())
        })
        .await?;
        Ok((status, self.output.text()))
    }

    /// The folder of data and logs.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }
}

impl Cli for Demo {
    async fn run(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new("redis-cli");
        run(command.args(["-p", &self.redis_port.to_string()]).args(args)).await
    }
}

impl Output {
    fn follow(&self, pipe: impl AsyncRead + Unpin + Send + 'static) {
        let lines = self.clone();
        tokio::spawn(async move {
            let mut pipe = BufReader::new(pipe).lines();
            while let Ok(Some(line)) = pipe.next_line().await {
                lines.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn has(&self, text: &str) -> bool {
        self.lines().iter().any(|line| line.contains(text))
    }

    fn text(&self) -> String {
        self.lines().join("\n")
    }
}

/// Sends a signal by name, as a user does.
pub async fn kill(process: u32, signal: &str) -> Result<()> {
    run(Command::new("kill").args(["-s", signal, &process.to_string()])).await.map(drop)
}

/// The project's own commands: the program that runs these tests, else by cargo.
#[must_use]
pub fn xtask() -> Command {
    if let Some(program) = std::env::var_os("ORDERSHOP_XTASK") {
        return Command::new(program);
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg("xtask").current_dir(repository());
    cargo
}

/// The root of the clone.
#[must_use]
pub fn repository() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// Runs a program to its end; what it writes to stdout.
pub async fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().await.with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn is_alive(process: u32) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}

pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
