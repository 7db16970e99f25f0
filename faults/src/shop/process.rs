//! A process of the shop: started so that it dies with this program, however that ends, and ended by its id.
//! Must be started from the main thread: the kernel binds a child to the life of the thread that made it.

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than the services' own bound for their shutdown.
const END_BOUND: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A running process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts a program. Its output is added to the file `log`.
    pub fn start(
        name: &str,
        program: &[&str],
        args: &[String],
        env: &[(String, String)],
        log: &Path,
    ) -> Result<Self> {
        let open = || File::options().create(true).append(true).open(log);
        let out = open().with_context(|| format!("cannot write {}", log.display()))?;
        Self::start_to(name, program, args, env, out.try_clone()?, out)
    }

    /// Starts a program with its output and its errors in these files.
    pub fn start_to(
        name: &str,
        program: &[&str],
        args: &[String],
        env: &[(String, String)],
        out: File,
        errors: File,
    ) -> Result<Self> {
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .args(program)
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start {name} (with setpriv of util-linux)"))?;
        Ok(Self { child, name: name.to_owned() })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(id, signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.end_now();
    }

    /// Asks it to end and waits until it has.
    pub async fn terminate(mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let deadline = Instant::now() + END_BOUND;
        while self.runs() {
            if Instant::now() > deadline {
                bail!("{} does not end within {END_BOUND:?} of SIGTERM", self.name);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    fn end_now(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end_now();
    }
}
