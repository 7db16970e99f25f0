//! A service's own program as a process: started as a user starts it, asked over its ports.

use super::free_port;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const BOUND: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(2);

/// A running program of a service; killed when dropped.
#[derive(Debug)]
pub struct Program {
    process: Child,
    admin: u16,
    folder: TempDir,
}

impl Program {
    /// Starts a program, such as `env!("CARGO_BIN_EXE_ordershop-order")`, with these arguments and
    /// an admin port of its own. Variables of the environment do not reach it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(path: &str, arguments: &[&str]) -> Self {
        Self::start_with(path, arguments, &[])
    }

    /// Starts a program with these variables as its whole environment.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start_with(path: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let fail = |error: io::Error| -> ! { panic!("{path} cannot be started: {error}") };
        let folder = TempDir::new().unwrap_or_else(|error| fail(error));
        let log = File::create(folder.path().join("log")).unwrap_or_else(|error| fail(error));
        let errors = log.try_clone().unwrap_or_else(|error| fail(error));
        let admin = free_port();
        let process = Command::new(path)
            .args(["--admin-listen", &format!("127.0.0.1:{admin}")])
            .args(arguments)
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| fail(error));
        Self { process, admin, folder }
    }

    /// Its admin port.
    #[must_use]
    pub fn admin(&self) -> u16 {
        self.admin
    }

    /// Waits until `/readyz` says so.
    ///
    /// # Panics
    /// When it ends, or is not ready after a while; with its log.
    pub fn until_ready(&mut self) {
        self.until("ready", |program| program.readiness() == Some(200));
    }

    /// Waits until its log contains a text.
    ///
    /// # Panics
    /// When it ends first, or does not write it within a while; with its log.
    pub fn until_logged(&mut self, text: &str) {
        self.until(text, |program| program.log().contains(text));
    }

    fn until(&mut self, what: &str, reached: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + BOUND;
        while !reached(self) {
            if let Ok(Some(status)) = self.process.try_wait() {
                panic!("ended ({status}) before: {what}\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "not within {BOUND:?}: {what}\n{}", self.log());
            std::thread::sleep(PAUSE);
        }
    }

    /// The status of `/readyz`; none while nobody listens.
    fn readiness(&self) -> Option<u16> {
        let ask = || -> io::Result<String> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.admin))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().ok()?.split(' ').nth(1)?.parse().ok()
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Sends SIGTERM.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn terminate(&self) {
        let pid = i32::try_from(self.process.id()).unwrap_or_else(|_| panic!("no process id"));
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap_or_else(|error| panic!("SIGTERM: {error}"));
    }

    /// Ends it as a power cut would.
    ///
    /// # Panics
    /// When it cannot be ended.
    pub fn kill(&mut self) {
        self.process
            .kill()
            .and_then(|()| self.process.wait())
            .unwrap_or_else(|error| panic!("SIGKILL: {error}"));
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within a while; with its log.
    pub fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + BOUND;
        loop {
            match self.process.try_wait() {
                Ok(Some(status)) => return status,
                Ok(None) => {}
                Err(error) => panic!("{error}"),
            }
            assert!(Instant::now() < deadline, "does not end\n{}", self.log());
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Already gone is as good; nothing else can be done about it here.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
