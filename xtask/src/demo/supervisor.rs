//! Keeps the demo's processes alive and ends them all. Never decides what is started (`plan` does).
//!
//! Each child runs in a process group of its own, so that Ctrl-C in a terminal reaches the supervisor alone
//! and the services end before Redis does; and each asks the kernel (through `setpriv`) to be terminated
//! when the supervisor dies, so that nothing is left even after `kill -9`.

use super::backoff::Backoff;
use super::plan::Plan;
use super::signals::{Inbox, Wake};
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longer than the services' own bound for their shutdown.
const SERVICES_END_WITHIN: Duration = Duration::from_secs(12);
const REDIS_ENDS_WITHIN: Duration = Duration::from_secs(10);

/// A process that is to run until the end.
struct Kept {
    plan: Plan,
    log: PathBuf,
    backoff: Backoff,
    state: State,
}

enum State {
    Runs { child: Child, since: Instant },
    StartsAt(Instant),
}

/// All processes, in the order of their start.
pub(super) struct Supervisor {
    kept: Vec<Kept>,
    inbox: Inbox,
    logs: PathBuf,
}

impl Supervisor {
    /// Writes each process' output to a file of its name in `logs`.
    pub(super) fn new(logs: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
        Ok(Self { kept: Vec::new(), inbox: Inbox::open()?, logs })
    }

    /// Starts a process and keeps it alive from now on.
    pub(super) fn start(&mut self, plan: Plan) -> Result<()> {
        let log = self.logs.join(format!("{}.log", plan.name));
        let child = spawn(&plan, &log)?;
        let state = State::Runs { child, since: Instant::now() };
        self.kept.push(Kept { plan, log, backoff: Backoff::default(), state });
        Ok(())
    }

    /// Name, process id and log of what runs at the moment.
    pub(super) fn running(&self) -> impl Iterator<Item = (&'static str, u32, &Path)> {
        self.kept.iter().filter_map(|kept| match &kept.state {
            State::Runs { child, .. } => Some((kept.plan.name, child.id(), kept.log.as_path())),
            State::StartsAt(_) => None,
        })
    }

    /// The log of one process.
    pub(super) fn log_of(&self, name: &str) -> Option<&Path> {
        self.kept.iter().find(|kept| kept.plan.name == name).map(|kept| kept.log.as_path())
    }

    /// Restarts what died, for `longest` at most; false when the user wants to stop.
    pub(super) fn tend(&mut self, longest: Duration) -> bool {
        let until = Instant::now() + longest;
        loop {
            let now = Instant::now();
            for kept in &mut self.kept {
                kept.tend(now);
            }
            let next = self.kept.iter().filter_map(Kept::starts_at).chain([until]).min().unwrap_or(until);
            if now >= until {
                return true;
            }
            if self.inbox.wait(next.saturating_duration_since(now)) == Wake::Stop {
                return false;
            }
        }
    }

    /// Ends all: the services first, so that they can write what they hold, then Redis. A second wish to
    /// stop cuts the wait short.
    pub(super) fn stop(mut self) {
        let redis = self.kept.iter().position(|kept| kept.plan.name == "redis").map(|i| self.kept.remove(i));
        let Self { kept, inbox, .. } = self;
        end(kept.into_iter().filter_map(Kept::into_child).collect(), SERVICES_END_WITHIN, &inbox);
        end(redis.into_iter().filter_map(Kept::into_child).collect(), REDIS_ENDS_WITHIN, &inbox);
    }
}

impl Kept {
    fn tend(&mut self, now: Instant) {
        match &mut self.state {
            State::Runs { child, since } => match child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => {
                    let pause = self.backoff.after(since.elapsed());
                    println!(
                        "  !! {} {}; starting it again in {:.1} s (its log: {})",
                        self.plan.name,
                        how_it_ended(status),
                        pause.as_secs_f64(),
                        self.log.display()
                    );
                    self.state = State::StartsAt(now + pause);
                }
                Err(error) => eprintln!("  !! cannot look after {}: {error}", self.plan.name),
            },
            State::StartsAt(at) if *at <= now => match spawn(&self.plan, &self.log) {
                Ok(child) => {
                    println!("  ok {} started again, process {}", self.plan.name, child.id());
                    self.state = State::Runs { child, since: now };
                }
                Err(error) => {
                    let pause = self.backoff.after(Duration::ZERO);
                    println!("  !! {error:#}; next try in {:.1} s", pause.as_secs_f64());
                    self.state = State::StartsAt(now + pause);
                }
            },
            State::StartsAt(_) => {}
        }
    }

    fn starts_at(&self) -> Option<Instant> {
        match self.state {
            State::StartsAt(at) => Some(at),
            State::Runs { .. } => None,
        }
    }

    fn into_child(self) -> Option<Child> {
        match self.state {
            State::Runs { child, .. } => Some(child),
            State::StartsAt(_) => None,
        }
    }
}

fn spawn(plan: &Plan, log: &Path) -> Result<Child> {
    let out = File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(&plan.program).args(&plan.args);
    // The caller's own settings for a shop must not reach this one.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ORDERSHOP_"))
    {
        command.env_remove(name);
    }
    command
        .envs(plan.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {} (with setpriv of util-linux)", plan.program.display()))
}

/// Terminates all, waits for all, kills what has not ended in time.
fn end(mut children: Vec<Child>, within: Duration, inbox: &Inbox) {
    for child in &children {
        if let Ok(pid) = i32::try_from(child.id()) {
            // Fails only for a child that has ended, which the wait below sees.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
    let until = Instant::now() + within;
    while !children.is_empty() {
        children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        let left = until.saturating_duration_since(Instant::now());
        let cut_short = !children.is_empty() && inbox.wait(left) == Wake::Stop;
        if cut_short || left.is_zero() {
            for child in &mut children {
                let _ = child.kill();
                let _ = child.wait();
            }
            return;
        }
    }
}

fn how_it_ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::plan::Probe;

    fn sleeper(name: &'static str) -> Plan {
        Plan {
            name,
            program: PathBuf::from("sleep"),
            args: vec!["1000".to_owned()],
            env: Vec::new(),
            probe: Probe::Ping(1),
        }
    }

    fn pid_of(supervisor: &Supervisor, name: &str) -> Option<u32> {
        supervisor.running().find(|(n, ..)| *n == name).map(|(_, pid, _)| pid)
    }

    fn alive(pid: u32) -> bool {
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), None).is_ok()
    }

    #[test]
    fn a_killed_process_comes_back_and_stop_leaves_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut supervisor = Supervisor::new(dir.path().to_owned()).unwrap();
        supervisor.start(sleeper("redis")).unwrap();
        supervisor.start(sleeper("crm")).unwrap();
        let first = pid_of(&supervisor, "crm").unwrap();
        let redis = pid_of(&supervisor, "redis").unwrap();

        kill(Pid::from_raw(i32::try_from(first).unwrap()), Signal::SIGKILL).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while pid_of(&supervisor, "crm").is_none_or(|pid| pid == first) {
            assert!(Instant::now() < deadline, "crm did not come back");
            assert!(supervisor.tend(Duration::from_millis(50)));
        }
        assert_eq!(pid_of(&supervisor, "redis"), Some(redis), "redis was left alone");

        let second = pid_of(&supervisor, "crm").unwrap();
        supervisor.stop();
        assert!(!alive(second) && !alive(redis));
    }
}
