//! The outside world's mail server: the one that the notification service's own tests use. What it accepted
//! stands in a file, over all its lives.

use super::process::Process;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const UP_WITHIN: Duration = Duration::from_secs(30);
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../services/notification/tests/smtp_server.py");

/// A mail server that can be ended and started again.
#[derive(Debug)]
pub struct Sink {
    process: Option<Process>,
    address: SocketAddr,
    folder: PathBuf,
}

impl Sink {
    /// Starts it on this address with its mails in this folder.
    pub async fn start(address: SocketAddr, folder: &Path) -> Result<Self> {
        let mut sink = Self { process: None, address, folder: folder.to_owned() };
        sink.up().await?;
        Ok(sink)
    }

    /// Starts it and waits until it takes connections.
    pub async fn up(&mut self) -> Result<()> {
        let open = |name: &str| File::options().create(true).append(true).open(self.folder.join(name));
        let (host, port) = (self.address.ip().to_string(), self.address.port().to_string());
        let args = [SCRIPT.to_owned(), port, host];
        let process = Process::start_to(
            "the mail server",
            &["/usr/bin/python3"],
            &args,
            &[],
            open("mails.ndjson")?,
            open("mail-server.log")?,
        )?;
        self.process = Some(process);
        let deadline = Instant::now() + UP_WITHIN;
        while TcpStream::connect(self.address).is_err() {
            if Instant::now() > deadline || !self.process.as_mut().is_some_and(Process::runs) {
                bail!("the mail server does not start; it needs the Debian package python3-aiosmtpd");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Ends it in the middle of whatever it does.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// The process.
    pub fn process(&self) -> Result<&Process> {
        self.process.as_ref().context("the mail server is down")
    }

    /// Where mails go, as the notification service is told.
    #[must_use]
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// What it accepted: a line of JSON a mail.
    pub fn mails(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.folder.join("mails.ndjson"))?)
    }
}
