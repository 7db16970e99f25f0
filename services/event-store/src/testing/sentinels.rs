//! A real master and its replica, watched by three real sentinels.

use super::free_port;
use super::redis::{PROGRAM, Redis, ask, wait, write_file_anew};
use redis::cmd;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// The name by which the sentinels know the master.
const NAME: &str = "ledger";
const SENTINELS: usize = 3;
const QUORUM: usize = 2;
/// Who is silent for so long is down, milliseconds.
const DOWN_AFTER: u32 = 1500;
/// Bounds a failover and the pause before the next attempt at one, milliseconds.
const FAILOVER_TIMEOUT: u32 = 2500;

/// Servers under sentinels. All know each other when it is handed out.
#[derive(Debug)]
pub struct Sentinels {
    servers: Vec<Redis>,
    sentinels: Vec<Sentinel>,
}

#[derive(Debug)]
struct Sentinel {
    process: Child,
    port: u16,
    /// Sentinels write down what they know in their configuration.
    _folder: TempDir,
}

impl Sentinels {
    /// Starts a master, a replica of it and three sentinels.
    ///
    /// # Panics
    /// When `redis-server` does not start, or they do not come together.
    #[must_use]
    pub fn start() -> Self {
        let master = Redis::start();
        let port = master.port().to_string();
        let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &port]);
        let sentinels = (0..SENTINELS).map(|_| Sentinel::start(&port)).collect();
        let all = Self { servers: vec![master, replica], sentinels };
        all.wait_until_ready();
        all
    }

    fn wait_until_ready(&self) {
        let others = format!("sentinels={SENTINELS}");
        wait("the sentinels know each other, the master and its replica", || {
            self.sentinels.iter().all(|sentinel| {
                ask::<String>(&sentinel.url(), cmd("INFO").arg("sentinel")).is_ok_and(|info| {
                    info.contains(&others) && info.contains("slaves=1,") && info.contains("status=ok")
                })
            })
        });
        self.wait_for_replica();
    }

    /// Waits until the replica has everything that the master has, also in its file: on a busy disk that is written much
    /// later than the data came, and a replica that is killed before starts without it.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait_for_replica(&self) {
        let field = |server: &Redis, name: &str| -> Option<String> {
            let info: String = ask(&server.url(), &cmd("INFO")).ok()?;
            Some(info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.trim().to_owned())
        };
        wait("the replica has everything", || {
            let offset = field(&self.servers[0], "master_repl_offset");
            offset.is_some()
                && field(&self.servers[1], "master_link_status").as_deref() == Some("up")
                && offset == field(&self.servers[1], "slave_repl_offset")
        });
        let written = write_file_anew(&self.servers[1].url());
        written.unwrap_or_else(|error| panic!("the replica's file: {error}"));
    }

    /// The name of the master.
    #[must_use]
    pub fn name(&self) -> &'static str {
        NAME
    }

    /// The sentinels' URLs.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(Sentinel::url).collect()
    }

    /// The servers: first the one that was the master at the beginning, then its replica.
    #[must_use]
    pub fn servers(&self) -> &[Redis] {
        &self.servers
    }

    /// A server, to be killed or started again.
    ///
    /// # Panics
    /// When there is no such server.
    pub fn server_mut(&mut self, number: usize) -> &mut Redis {
        &mut self.servers[number]
    }

    /// Kills a sentinel as a crash would.
    ///
    /// # Panics
    /// When there is no such sentinel.
    pub fn kill_sentinel(&mut self, number: usize) {
        self.sentinels[number].kill();
    }

    /// The port of the master that the sentinels name now, once all that run agree.
    #[must_use]
    pub fn master_port(&self) -> Option<u16> {
        let mut command = cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(NAME);
        let mut told = self.sentinels.iter().filter_map(|s| ask::<(String, u16)>(&s.url(), &command).ok());
        let (_, first) = told.next()?;
        told.all(|(_, port)| port == first).then_some(first)
    }
}

impl Sentinel {
    fn start(master_port: &str) -> Self {
        let folder = TempDir::new().unwrap_or_else(|error| panic!("no folder for a sentinel: {error}"));
        let port = free_port();
        let file = folder.path().join("sentinel.conf");
        let settings = format!(
            "port {port}\nbind 127.0.0.1\ndir {dir}\n\
             sentinel monitor {NAME} 127.0.0.1 {master_port} {QUORUM}\n\
             sentinel down-after-milliseconds {NAME} {DOWN_AFTER}\n\
             sentinel failover-timeout {NAME} {FAILOVER_TIMEOUT}\n",
            dir = folder.path().display(),
        );
        std::fs::write(&file, settings).unwrap_or_else(|error| panic!("no sentinel.conf: {error}"));
        let sentinel = Self { process: spawn(&file), port, _folder: folder };
        wait("the sentinel answers", || ask::<String>(&sentinel.url(), &cmd("PING")).is_ok());
        sentinel
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn kill(&mut self) {
        // One that is gone already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(settings: &Path) -> Child {
    let program = std::env::var_os(PROGRAM).unwrap_or_else(|| OsString::from("redis-server"));
    Command::new(&program)
        .arg(settings)
        .arg("--sentinel")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{} cannot be started as a sentinel: {error}", program.display()))
}
