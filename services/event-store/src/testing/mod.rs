//! A real Redis for tests, on a free port, with a folder of its own; ended when dropped. Only with
//! the feature `testing`, never in a program.

mod proxy;

pub use proxy::{Line, Lost, Proxy};

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const START_BOUND: Duration = Duration::from_secs(10);

/// A running `redis-server`.
#[derive(Debug)]
pub struct Redis {
    server: Child,
    port: u16,
    folder: TempDir,
}

impl Redis {
    /// Starts a server.
    ///
    /// # Panics
    /// When `redis-server` is not installed or does not start: a test cannot do without it.
    #[must_use]
    pub fn start() -> Self {
        Self::start_on(free_port())
    }

    /// Starts a server on a given port, for tests in which Redis comes later.
    ///
    /// # Panics
    /// As [`Redis::start`].
    #[must_use]
    pub fn start_on(port: u16) -> Self {
        let folder = TempDir::new().unwrap_or_else(|error| panic!("no folder for Redis: {error}"));
        let server = Self::spawn(port, folder.path());
        let mut redis = Self { server, port, folder };
        redis.wait_for_answer();
        redis
    }

    /// Kills the server as a crash would, and starts it again on its data.
    ///
    /// # Panics
    /// As [`Redis::start`].
    pub fn crash_and_restart(&mut self) {
        // A server that is gone already is as good.
        let _ = self.server.kill();
        let _ = self.server.wait();
        self.server = Self::spawn(self.port, self.folder.path());
        self.wait_for_answer();
    }

    fn spawn(port: u16, folder: &std::path::Path) -> Child {
        Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
            .arg("--dir")
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("redis-server cannot be started ({error}); it is in the Debian package redis-server")
            })
    }

    fn wait_for_answer(&mut self) {
        let (port, deadline) = (self.port, Instant::now() + START_BOUND);
        while let Err(error) = self.ping() {
            if let Ok(Some(status)) = self.server.try_wait() {
                panic!("redis-server on port {port} ended: {status}");
            }
            assert!(Instant::now() < deadline, "redis-server on port {port} does not answer: {error}");
            std::thread::sleep(Duration::from_millis(5));
        }
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
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    fn ping(&self) -> io::Result<()> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        if &answer == b"+PONG" { Ok(()) } else { Err(io::Error::other("no pong")) }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Already gone is as good; nothing else can be done about it here.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A port that nobody listens on now.
///
/// # Panics
/// When the system has none.
#[must_use]
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .unwrap_or_else(|error| panic!("no free port: {error}"))
        .port()
}
