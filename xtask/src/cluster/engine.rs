//! The container engine under kind: Docker where its daemon answers, else podman with a configuration of our own.

use crate::tools::{Run, ensure_debian, found, is_root};
use crate::{cache, step::step};
use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, getrlimit};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const DOCKER: &str = "docker";
const PODMAN: &str = "podman";

/// What podman needs on Debian besides itself.
const PODMAN_PACKAGES: &[&str] =
    &["podman", "runc", "conmon", "netavark", "aardvark-dns", "iptables", "nftables"];

/// How long a Docker daemon may take to answer.
const DOCKER_ANSWERS: Duration = Duration::from_secs(5);

/// Docker or podman, ready to be called.
pub(crate) struct Engine {
    program: &'static str,
    env: Vec<(&'static str, OsString)>,
}

/// A node's container.
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) state: String,
}

impl Container {
    pub(crate) fn is_running(&self) -> bool {
        self.state == "running"
    }
}

impl Engine {
    /// The engine of this machine; podman is installed where there is none.
    pub(crate) fn detect() -> Result<Self> {
        let asked = std::env::var("KIND_EXPERIMENTAL_PROVIDER").unwrap_or_default();
        // podman's own `docker` command has no ServerVersion
        let docker = asked != PODMAN
            && found(DOCKER)
            && Command::new(DOCKER)
                .args(["info", "-f", "{{.ServerVersion}}"])
                .succeeds_within(DOCKER_ANSWERS);
        Self::detect_named(if docker { DOCKER } else { PODMAN })
    }

    /// The engine that a cluster was made with, made ready for new containers.
    pub(crate) fn detect_named(name: &str) -> Result<Self> {
        let engine = Self::named(name)?;
        if engine.program == PODMAN {
            if !found(PODMAN) || is_root() {
                ensure_debian_podman()?;
            }
            forget_last_boot()?;
            write_podman_configuration()?;
        }
        Ok(engine)
    }

    /// The engine that a cluster was made with.
    pub(crate) fn named(name: &str) -> Result<Self> {
        if name == DOCKER { Ok(Self { program: DOCKER, env: Vec::new() }) } else { Self::podman() }
    }

    pub(crate) fn podman() -> Result<Self> {
        let folder = podman_folder()?;
        Ok(Self {
            program: PODMAN,
            env: vec![
                ("CONTAINERS_CONF", folder.join("containers.conf").into()),
                ("CONTAINERS_STORAGE_CONF", folder.join("storage.conf").into()),
                // large temporary files belong to the cache
                ("TMPDIR", folder.join("tmp").into()),
            ],
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.program
    }

    pub(crate) fn is_podman(&self) -> bool {
        self.program == PODMAN
    }

    /// Whether it can be called at all: installed, and configured if it is podman.
    pub(crate) fn is_usable(&self) -> bool {
        let configured = self.env.iter().all(|(_, path)| Path::new(path).exists());
        found(self.program) && configured && (self.is_podman() || self.command().arg("info").succeeds())
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        self.set_env(&mut command);
        command
    }

    pub(crate) fn set_env(&self, command: &mut Command) {
        command.envs(self.env.iter().map(|(key, value)| (*key, value)));
    }

    pub(crate) fn has_image(&self, reference: &str) -> bool {
        self.command().args(["image", "inspect", reference]).succeeds()
    }

    /// The nodes of a cluster, whatever their state.
    pub(crate) fn containers(&self, cluster: &str) -> Result<Vec<Container>> {
        let label = format!("label=io.x-k8s.kind.cluster={cluster}");
        let names = self.command().args(["ps", "-a", "--filter", &label, "--format", "{{.Names}}"]).text()?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut inspect = self.command();
        inspect.args(["container", "inspect", "-f", "{{.Name}} {{.State.Status}}"]).args(names.lines());
        Ok(inspect
            .text()?
            .lines()
            .filter_map(|line| line.trim_start_matches('/').split_once(' '))
            .map(|(name, state)| Container { name: name.to_owned(), state: state.to_owned() })
            .collect())
    }

    /// Starts those that do not run.
    pub(crate) fn start(&self, containers: &[Container]) -> Result<()> {
        for container in containers {
            match container.state.as_str() {
                "running" => {}
                "paused" => self.command().args(["unpause", &container.name]).run()?,
                _ => self.command().args(["start", &container.name]).run()?,
            }
        }
        Ok(())
    }

    /// Removes containers at once, with their volumes.
    pub(crate) fn remove(&self, containers: &[Container]) -> Result<()> {
        let names = || containers.iter().map(|container| container.name.as_str());
        // A stop signal is no use: a node takes 90 s to shut down and nothing in it is kept.
        // Failures (stopped already) show in `rm`.
        self.command().arg("kill").args(names()).succeeds();
        self.command().args(["rm", "-f", "-v"]).args(names()).run()?;
        if self.is_podman() {
            // kind makes a volume per node; this podman is ours alone
            self.command().args(["volume", "prune", "-f"]).run()?;
        }
        Ok(())
    }

    /// Makes the cluster's network. kind would make one with IPv6, which not every machine has.
    pub(crate) fn ensure_network(&self, name: &str) -> Result<()> {
        if self.is_podman() && !self.command().args(["network", "exists", name]).succeeds() {
            step(&format!("network {name}"), || self.command().args(["network", "create", name]).run())?;
        }
        Ok(())
    }

    pub(crate) fn remove_network(&self, name: &str) -> Result<()> {
        if self.command().args(["network", "inspect", name]).succeeds() {
            self.command().args(["network", "rm", name]).run()?;
        }
        Ok(())
    }
}

fn ensure_debian_podman() -> Result<()> {
    if !found("apt-get") && found(PODMAN) {
        return Ok(());
    }
    ensure_debian(PODMAN_PACKAGES).context("neither Docker nor podman is usable (no Docker daemon answers)")
}

/// Where podman keeps everything of ours.
pub(crate) fn podman_folder() -> Result<PathBuf> {
    Ok(cache::dir()?.join("podman"))
}

/// podman tells a reboot by its run folder being empty; ours lies on a disk.
fn forget_last_boot() -> Result<()> {
    let folder = podman_folder()?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let record = folder.join("boot-id");
    if std::fs::read_to_string(&record).is_ok_and(|before| before == boot) {
        return Ok(());
    }
    let run = folder.join("run");
    if run.exists() {
        std::fs::remove_dir_all(&run).with_context(|| format!("cannot remove {}", run.display()))?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(std::fs::write(record, boot)?)
}

fn write_podman_configuration() -> Result<()> {
    let folder = podman_folder()?;
    std::fs::create_dir_all(folder.join("tmp"))?;
    let (_, files) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let (_, processes) = getrlimit(Resource::RLIMIT_NPROC)?;
    let most: u64 = std::fs::read_to_string("/proc/sys/kernel/pid_max")?.trim().parse().context("pid_max")?;
    let systemd = Path::new("/run/systemd/system").exists();
    let cgroup_v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    std::fs::write(
        folder.join("containers.conf"),
        containers_conf(&folder, files, processes.min(most), systemd, cgroup_v2),
    )?;
    let root = folder.display();
    std::fs::write(
        folder.join("storage.conf"),
        format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{root}/storage\"\nrunroot = \"{root}/run/storage\"\n"
        ),
    )?;
    Ok(())
}

fn containers_conf(folder: &Path, files: u64, processes: u64, systemd: bool, cgroup_v2: bool) -> String {
    let folder = folder.display();
    // Hard limits cannot be raised without CAP_SYS_RESOURCE, and podman lowers its own nproc to pid_max.
    let mut text = format!(
        r#"[containers]
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
log_driver = "k8s-file"

[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"

[engine]
events_logger = "file"
lock_type = "file"
static_dir = "{folder}/libpod"
tmp_dir = "{folder}/run/libpod"
volume_path = "{folder}/volumes"
"#
    );
    if !systemd {
        text.push_str("cgroup_manager = \"cgroupfs\"\n");
    }
    if !cgroup_v2 {
        // crun refuses a machine with a hybrid hierarchy: "cgroups in hybrid mode not supported"
        text.push_str("runtime = \"runc\"\n");
    }
    text
}

/// Refuses what cannot work, with the reason.
pub(crate) fn require_root_for(what: &str) -> Result<()> {
    if !is_root() {
        bail!("{what} needs root: run this as root, or give this machine access to an image registry");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podman_keeps_everything_below_its_own_folder() {
        let text = containers_conf(Path::new("/cache/podman"), 1024, 4096, false, false);
        for key in ["static_dir", "tmp_dir", "volume_path", "network_config_dir"] {
            assert!(text.contains(&format!("{key} = \"/cache/podman/")), "{key} in {text}");
        }
        assert!(text.contains("nofile=1024:1024"));
    }

    #[test]
    fn without_systemd_podman_manages_cgroups_itself() {
        assert!(containers_conf(Path::new("/c"), 1, 1, false, true).contains("cgroupfs"));
        let usual = containers_conf(Path::new("/c"), 1, 1, true, true);
        assert!(!usual.contains("cgroupfs") && !usual.contains("runtime"));
    }
}
