//! One server.

use super::{Clock, free_port};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Names the environment variable that names the server program; else it is `redis-server` of PATH.
pub const PROGRAM: &str = "EVENTSTORE_TEST_SERVER";

const START_BOUND: Duration = Duration::from_secs(10);
/// Servers that belong together know each other within seconds; a busy machine needs longer.
const TOGETHER_BOUND: Duration = Duration::from_secs(40);
/// How long a question of a test may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The server's log, in its folder.
const LOG: &str = "server.log";
const LOG_LINES_SHOWN: usize = 60;
/// A port may be taken between its choice and its use.
const PORTS_TRIED: usize = 5;

/// A running `redis-server`, or another program that is called as it is.
#[derive(Debug)]
pub struct Redis {
    server: Child,
    port: u16,
    folder: TempDir,
    settings: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Redis {
    /// Starts a server.
    ///
    /// # Panics
    /// When `redis-server` is not installed or does not start: a test cannot do without it.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with further settings, as they stand on its command line.
    ///
    /// # Panics
    /// As [`Redis::start`].
    #[must_use]
    pub fn start_with(settings: &[&str]) -> Self {
        Self::start_in(settings, &[])
    }

    /// Starts a server that goes by this clock.
    ///
    /// # Panics
    /// As [`Redis::start`].
    #[must_use]
    pub fn start_by(clock: &Clock, settings: &[&str]) -> Self {
        Self::start_in(settings, &clock.environment())
    }

    fn start_in(settings: &[&str], environment: &[(String, String)]) -> Self {
        Self::start_anew(|| settings.iter().map(ToString::to_string).collect(), environment)
    }

    /// Starts a server whose settings are asked for with each try: they may name a port, which may be taken, too.
    pub(super) fn start_anew(
        mut settings: impl FnMut() -> Vec<String>,
        environment: &[(String, String)],
    ) -> Self {
        let mut attempt = || Self::try_start(free_port(), settings(), environment);
        (1..PORTS_TRIED).find_map(|_| attempt().ok()).unwrap_or_else(|| started(attempt()))
    }

    /// Starts a server on a given port, for tests in which Redis comes later.
    ///
    /// # Panics
    /// As [`Redis::start`].
    #[must_use]
    pub fn start_on(port: u16) -> Self {
        started(Self::try_start(port, Vec::new(), &[]))
    }

    fn try_start(port: u16, settings: Vec<String>, environment: &[(String, String)]) -> Result<Self, String> {
        let folder = TempDir::new().map_err(|error| format!("no folder for Redis: {error}"))?;
        let environment = environment.to_vec();
        let server = spawn(port, folder.path(), &settings, &environment);
        let mut redis = Self { server, port, folder, settings, environment };
        redis.wait_for_answer()?;
        Ok(redis)
    }

    /// Kills the server as a crash would, and starts it again on its data.
    ///
    /// # Panics
    /// As [`Redis::start`].
    pub fn crash_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    /// Kills the server as a crash would.
    pub fn kill(&mut self) {
        // A server that is gone already is as good.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }

    /// Starts a killed server again on its data, and lets it write its file anew (see [`write_file_anew`]).
    ///
    /// # Panics
    /// As [`Redis::start`].
    pub fn restart(&mut self) {
        self.server = spawn(self.port, self.folder.path(), &self.settings, &self.environment);
        started(self.wait_for_answer());
        match write_file_anew(&self.url()) {
            // A server with users: who made them sees to it.
            Err(error) if error.code() == Some("NOAUTH") => {}
            written => written.unwrap_or_else(|error| panic!("redis-server on port {}: {error}", self.port)),
        }
    }

    /// Stops the server where it is, as a machine that hangs, until [`Redis::resume`].
    ///
    /// # Panics
    /// When it is gone.
    pub fn stall(&self) {
        self.signal("STOP");
    }

    /// Lets a stalled server go on.
    ///
    /// # Panics
    /// When it is gone.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.server.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "redis-server on port {} is gone", self.port);
    }

    fn wait_for_answer(&mut self) -> Result<(), String> {
        let (port, deadline) = (self.port, Instant::now() + START_BOUND);
        while let Err(error) = self.ping() {
            if let Ok(Some(status)) = self.server.try_wait() {
                return Err(format!("redis-server on port {port} ended: {status}"));
            }
            if Instant::now() > deadline {
                return Err(format!("redis-server on port {port} does not answer: {error}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
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
        self.folder.path()
    }

    /// Any answer will do: one that asks for a password comes from a server, too.
    fn ping(&self) -> io::Result<()> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer)?;
        if answer.starts_with(b"+PONG") || answer.starts_with(b"-NOAUTH") {
            Ok(())
        } else {
            Err(io::Error::other("no pong"))
        }
    }
}

impl Drop for Redis {
    /// Of a test that fails, the server's own log is part of the answer.
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join(LOG)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
            eprintln!("the last lines of the log of the server on port {}:\n{last}", self.port);
        }
    }
}

fn spawn(port: u16, folder: &Path, settings: &[String], environment: &[(String, String)]) -> Child {
    let program = std::env::var_os(PROGRAM).unwrap_or_else(|| OsString::from("redis-server"));
    Command::new(&program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
        .arg("--dir")
        .arg(folder)
        .arg("--logfile")
        .arg(folder.join(LOG))
        .args(settings)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| {
            panic!(
                "{} cannot be started ({error}); redis-server is in the Debian package of that name",
                program.display()
            )
        })
}

/// Asks the server at this URL.
pub(super) fn ask<T: redis::FromRedisValue>(url: &str, command: &redis::Cmd) -> redis::RedisResult<T> {
    let client = redis::Client::open(url)?;
    let mut connection = client.get_connection_with_timeout(Duration::from_secs(2))?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    command.query(&mut connection)
}

/// Asks until it is so.
pub(super) fn wait(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + TOGETHER_BOUND;
    while !so() {
        assert!(Instant::now() < deadline, "not within {TOGETHER_BOUND:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A connection for a test's own questions. It waits for a busy machine: the client's default is half a second.
///
/// # Errors
/// When the server is away, or does not accept the user.
pub async fn patient_connection(
    server: impl redis::IntoConnectionInfo + Send,
) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
    let patient = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    redis::Client::open(server)?.get_multiplexed_async_connection_with_config(&patient).await
}

fn started<T>(result: Result<T, String>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

/// Lets a server write its append-only file anew, and waits for it. Whoever starts Redis after a crash does that:
/// it leaves what a crash has cut of a transaction at the end of the file, and carries it out at its next start, with
/// what was appended behind it.
///
/// # Errors
/// When the server is away, or the user may not.
///
/// # Panics
/// When it takes too long.
pub fn write_file_anew(url: &str) -> redis::RedisResult<()> {
    let info = || ask::<String>(url, redis::cmd("INFO").arg("persistence"));
    if info()?.contains("aof_enabled:0") {
        return Ok(());
    }
    let rewrite = || ask::<()>(url, &redis::cmd("BGREWRITEAOF"));
    let mut begun = rewrite();
    wait("the append-only file is written anew", || {
        if begun.as_ref().is_err_and(|error| error.to_string().contains("already in progress")) {
            // That one may have begun before all was there.
            begun = rewrite();
            return false;
        }
        let under_way = ["aof_rewrite_in_progress:1", "aof_rewrite_scheduled:1"];
        begun.is_err() || info().is_ok_and(|info| !under_way.iter().any(|line| info.contains(line)))
    });
    begun
}
