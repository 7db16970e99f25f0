//! Asks a process whether it works, and the gateway for what a user would ask. Short time-outs, no retries.

use super::plan::Probe;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Longer than the time that an order waits for its outcome.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

impl Probe {
    /// Whether the process answers that it is ready.
    pub(super) fn answers(self) -> bool {
        match self {
            Self::Ping(port) => ping(port).unwrap_or(false),
            Self::Readyz(port) => Http::new(port, PROBE_TIMEOUT).get("/readyz").is_ok(),
        }
    }
}

/// Redis' inline form of PING: a data set that is still being loaded answers an error instead.
fn ping(port: u16) -> Result<bool> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PROBE_TIMEOUT)?;
    stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    Ok(&answer == b"+PONG\r\n")
}

/// A client of one HTTP server on loopback.
pub(super) struct Http {
    agent: ureq::Agent,
    base: String,
}

impl Http {
    /// The gateway on this port.
    pub(super) fn gateway(port: u16) -> Self {
        Self::new(port, REQUEST_TIMEOUT)
    }

    fn new(port: u16, timeout: Duration) -> Self {
        // A proxy of the environment has no business on loopback.
        let config = ureq::Agent::config_builder().timeout_global(Some(timeout)).proxy(None).build();
        Self { agent: config.into(), base: format!("http://127.0.0.1:{port}") }
    }

    /// The body of a 200 answer.
    pub(super) fn get(&self, path: &str) -> Result<String> {
        let mut answer = self.agent.get(format!("{}{path}", self.base)).call()?;
        ensure!(answer.status() == 200, "GET {path} answered {}", answer.status());
        Ok(answer.body_mut().read_to_string()?)
    }

    /// The ids that a POST of a list answers.
    pub(super) fn create(&self, path: &str, list: &Value) -> Result<Vec<String>> {
        let mut answer = self
            .agent
            .post(format!("{}{path}", self.base))
            .send_json(list)
            .with_context(|| format!("POST {path}"))?;
        answer.body_mut().read_json().with_context(|| format!("POST {path} answered no list of ids"))
    }
}
