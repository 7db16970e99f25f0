//! Running other programs: quiet when they succeed, with the end of their output when they fail.

use anyhow::{Context, Result, bail};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How many lines of a failed program's output are shown.
const SHOWN_LINES: usize = 30;

/// Short forms for running a prepared command.
pub(crate) trait Run {
    /// Runs it to its end; its output is shown only when it fails.
    fn run(&mut self) -> Result<()>;
    /// Runs it to its end and returns what it wrote to stdout, without the white space around it.
    fn text(&mut self) -> Result<String>;
    /// Whether it succeeds; nothing is shown.
    fn succeeds(&mut self) -> bool;
    /// As [`Run::succeeds`], but false too when it takes longer than `limit`; it is killed then.
    fn succeeds_within(&mut self, limit: Duration) -> bool;
}

impl Run for Command {
    fn run(&mut self) -> Result<()> {
        self.text().map(drop)
    }

    fn text(&mut self) -> Result<String> {
        let name = name(self);
        let output = self.output().with_context(|| format!("cannot run {name}"))?;
        if !output.status.success() {
            bail!("{name} failed ({}):\n{}", output.status, tail(&output));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn succeeds(&mut self) -> bool {
        silent(self).status().is_ok_and(|status| status.success())
    }

    fn succeeds_within(&mut self, limit: Duration) -> bool {
        let Ok(mut child) = silent(self).spawn() else { return false };
        let deadline = Instant::now() + limit;
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return status.success(),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
                _ => {
                    // A child that is gone already cannot be killed: both failures mean the same here.
                    let _ = child.kill();
                    let _ = child.wait();
                    return false;
                }
            }
        }
    }
}

fn silent(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

fn name(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().take(6).map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

fn tail(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
    shown.iter().flat_map(|line| ["    ", line, "\n"]).collect()
}

/// The same command, but killed when this process ends, however it ends: a left-over one would work against the next.
pub(crate) fn bound_to_us(command: &Command) -> Command {
    let mut bound = Command::new("setpriv");
    // A group of its own: mmdebstrap, when it fails, signals the whole group that it is in.
    bound.process_group(0);
    bound.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => bound.env(key, value),
            None => bound.env_remove(key),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        bound.current_dir(folder);
    }
    bound
}

/// Whether a program of this name is in PATH, or in the folders where Debian keeps the administrator's.
pub(crate) fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(Into::into))
        .any(|dir| is_executable(&dir.join(program)))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Whether this process may install packages and assemble a root file system.
pub(crate) fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}
