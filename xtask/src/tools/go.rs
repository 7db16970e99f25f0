//! Go programs, built from the wrapper modules in `deploy/kind`, whose go.mod and go.sum pin versions and checksums.
//!
//! A program is built once: a stamp beside it in the cache holds the hash of all that went into it.

use super::Run;
use super::command::found;
use crate::{cache, step::step};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often a long build says how far it is, where there is no terminal with a spinner.
const REPORT_EVERY: Duration = Duration::from_secs(20);

/// One program of one wrapper module.
pub(crate) struct Program {
    /// Its file below `bin/`.
    name: &'static str,
    /// The folder below `deploy/kind`.
    module: &'static str,
    package: &'static str,
    /// The required module whose version is the program's.
    pinned: &'static str,
    /// Variables that are set to that version by the linker.
    version_variables: &'static [&'static str],
    tags: &'static str,
}

const fn program(
    name: &'static str,
    module: &'static str,
    package: &'static str,
    pinned: &'static str,
) -> Program {
    Program { name, module, package, pinned, version_variables: &[], tags: "" }
}

const KUBERNETES_MODULE: &str = "k8s.io/kubernetes";

const fn kubernetes(name: &'static str, package: &'static str) -> Program {
    Program {
        version_variables: &[
            "k8s.io/component-base/version.gitVersion",
            "k8s.io/client-go/pkg/version.gitVersion",
        ],
        ..program(name, "kubernetes", package, KUBERNETES_MODULE)
    }
}

const fn containerd(name: &'static str, package: &'static str) -> Program {
    Program {
        version_variables: &["github.com/containerd/containerd/v2/version.Version"],
        // Snapshotters that need C libraries, or that nobody uses here.
        tags: "no_btrfs,no_devmapper,no_zfs,no_aufs",
        ..program(name, "containerd", package, "github.com/containerd/containerd/v2")
    }
}

const fn cni(name: &'static str, package: &'static str) -> Program {
    program(name, "cni", package, "github.com/containernetworking/plugins")
}

pub(crate) const KIND: Program = program("kind", "kind", "sigs.k8s.io/kind", "sigs.k8s.io/kind");
pub(crate) const KUBECTL: Program = kubernetes("kubectl", "k8s.io/kubernetes/cmd/kubectl");
pub(crate) const HELM: Program = program("helm", "helm", "helm.sh/helm/v4/cmd/helm", "helm.sh/helm/v4");

const KEDA_MODULE: &str = "github.com/kedacore/keda/v2";

pub(crate) const KEDA_OPERATOR: Program =
    program("keda", "keda", "github.com/kedacore/keda/v2/cmd/operator", KEDA_MODULE);
pub(crate) const KEDA_ADAPTER: Program =
    program("keda-adapter", "keda", "github.com/kedacore/keda/v2/cmd/adapter", KEDA_MODULE);

/// What an assembled node image consists of, besides Debian's packages.
pub(crate) const NODE: &[&Program] = &[
    &cni("cni/host-local", "github.com/containernetworking/plugins/plugins/ipam/host-local"),
    &cni("cni/loopback", "github.com/containernetworking/plugins/plugins/main/loopback"),
    &cni("cni/ptp", "github.com/containernetworking/plugins/plugins/main/ptp"),
    &cni("cni/portmap", "github.com/containernetworking/plugins/plugins/meta/portmap"),
    &program(
        "local-path-provisioner",
        "local-path-provisioner",
        "github.com/rancher/local-path-provisioner",
        "github.com/rancher/local-path-provisioner",
    ),
    &kubernetes("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    &kubernetes("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    &kubernetes("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
    &kubernetes("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
    &kubernetes("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
    &kubernetes("kubeadm", "k8s.io/kubernetes/cmd/kubeadm"),
    &KUBECTL,
    &containerd("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
    &containerd("containerd-shim-runc-v2", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"),
    &containerd("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
    &program("etcd", "etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3"),
    &program("coredns", "coredns", "github.com/coredns/coredns", "github.com/coredns/coredns"),
];

impl Program {
    /// Where the built program lies.
    pub(crate) fn path(&self) -> Result<PathBuf> {
        Ok(bin()?.join(self.name))
    }

    /// A command that runs it.
    pub(crate) fn command(&self) -> Result<Command> {
        Ok(Command::new(self.path()?))
    }

    /// Whether the cache holds it as it is pinned now.
    pub(crate) fn is_current(&self) -> Result<bool> {
        let stamp = std::fs::read_to_string(self.stamp_file()?).unwrap_or_default();
        Ok(stamp == self.stamp()? && self.path()?.is_file())
    }

    /// The hash of everything that decides what the program is.
    pub(crate) fn stamp(&self) -> Result<String> {
        let mut hash = Sha256::new();
        for file in ["go.mod", "go.sum"] {
            let file = self.folder().join(file);
            hash.update(std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
        }
        hash.update(self.package);
        hash.update(self.tags);
        hash.update(self.ldflags()?);
        Ok(hex(&hash.finalize()))
    }

    /// The source of its module in the module cache.
    pub(crate) fn source(&self) -> Result<PathBuf> {
        let mut list = go(&self.folder())?;
        list.args(["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", self.pinned]);
        Ok(PathBuf::from(list.text()?))
    }

    fn stamp_file(&self) -> Result<PathBuf> {
        Ok(bin()?.join(".stamps").join(self.name.replace('/', "-")))
    }

    fn folder(&self) -> PathBuf {
        super::root().join("deploy/kind").join(self.module)
    }

    fn version(&self) -> Result<String> {
        let go_mod = std::fs::read_to_string(self.folder().join("go.mod"))?;
        pinned_version(&go_mod, self.pinned)
            .map(str::to_owned)
            .with_context(|| format!("{} is not required in deploy/kind/{}/go.mod", self.pinned, self.module))
    }

    fn ldflags(&self) -> Result<String> {
        let version = self.version()?;
        let mut flags = "-s -w".to_owned();
        for variable in self.version_variables {
            flags.extend([" -X ", variable, "=", &version]);
        }
        if self.pinned == KUBERNETES_MODULE {
            // kubeadm compares these two, not the text of the version
            let mut numbers = version.trim_start_matches('v').split('.');
            for variable in ["gitMajor", "gitMinor"] {
                let number = numbers.next().unwrap_or_default();
                flags.extend([" -X k8s.io/component-base/version.", variable, "=", number]);
            }
        }
        Ok(flags)
    }

    fn build(&self) -> Result<()> {
        let target = self.path()?;
        let unfinished = bin()?.join(".tmp").join(self.name.replace('/', "-"));
        for folder in
            [target.parent(), unfinished.parent(), self.stamp_file()?.parent()].into_iter().flatten()
        {
            std::fs::create_dir_all(folder)?;
        }
        let mut go = go(&self.folder())?;
        go.args(["build", "-v", "-mod=readonly", "-trimpath", "-ldflags", &self.ldflags()?]);
        if !self.tags.is_empty() {
            go.args(["-tags", self.tags]);
        }
        go.arg("-o").arg(&unfinished).arg(self.package);
        run_with_reports(&mut go, self.name)?;
        std::fs::rename(&unfinished, &target)?;
        std::fs::write(self.stamp_file()?, self.stamp()?)?;
        Ok(())
    }
}

/// Builds those that the cache does not hold yet. Call with the lock held.
pub(crate) fn ensure(programs: &[&Program]) -> Result<()> {
    let mut missing = Vec::new();
    for program in programs {
        if !program.is_current()? {
            missing.push(program);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    check_go()?;
    let count = missing.len();
    for (index, program) in missing.into_iter().enumerate() {
        let title = format!("build {} {} ({}/{count})", program.name, program.version()?, index + 1);
        step(&title, || program.build())?;
    }
    Ok(())
}

/// Kubernetes' pinned version, such as v1.2.3.
pub(crate) fn kubernetes_version() -> Result<String> {
    KUBECTL.version()
}

fn bin() -> Result<PathBuf> {
    Ok(cache::dir()?.join("bin"))
}

/// `go` in a wrapper module, with caches of our own.
fn go(folder: &std::path::Path) -> Result<Command> {
    let cache = cache::dir()?.join("go");
    let mut command = Command::new("go");
    command
        .current_dir(folder)
        .env("GOCACHE", cache.join("build"))
        .env("GOMODCACHE", cache.join("mod"))
        .env("GOWORK", "off")
        .env("CGO_ENABLED", "0");
    Ok(command)
}

fn check_go() -> Result<()> {
    const HOW: &str = "install Go from https://go.dev/dl and put its bin folder into PATH";
    if !found("go") {
        bail!("building the cluster's tools needs Go: {HOW}");
    }
    // The module with the highest demand: go itself knows whether it meets it or may fetch a newer one.
    let folder = super::root().join("deploy/kind/containerd");
    if let Err(error) = go(&folder)?.arg("version").run() {
        bail!("this Go is too old for the cluster's tools: {HOW}\n{error}");
    }
    Ok(())
}

/// Runs `go build -v` and says now and then how many packages are compiled.
fn run_with_reports(go: &mut Command, name: &str) -> Result<()> {
    let mut child = go
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run go")?;
    let mut last_lines = std::collections::VecDeque::new();
    let mut compiled = 0_u32;
    let mut reported = Instant::now();
    let quiet = std::io::stderr().is_terminal();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines() {
            compiled += 1;
            last_lines.push_back(line?);
            if last_lines.len() > 30 {
                last_lines.pop_front();
            }
            if !quiet && reported.elapsed() > REPORT_EVERY {
                reported = Instant::now();
                eprintln!("     {name}: {compiled} packages");
            }
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("go build of {name} failed ({status}):\n{}", Vec::from(last_lines).join("\n"));
    }
    Ok(())
}

fn pinned_version<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some(module)).then(|| words.next()).flatten()
    })
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_go_mod_requires() {
        let go_mod = "module x\n\ngo 1.26.0\n\ntool a.example/b/cmd/c\n\nrequire (\n\ta.example/b v1.2.3 // indirect\n\ta.example/bb v9.9.9\n)\n";
        assert_eq!(pinned_version(go_mod, "a.example/b"), Some("v1.2.3"));
        assert_eq!(pinned_version("require a.example/b v0.1.0", "a.example/b"), Some("v0.1.0"));
        assert_eq!(pinned_version(go_mod, "a.example/c"), None);
    }

    #[test]
    fn every_program_has_a_pin_in_its_wrapper_module() {
        for program in NODE.iter().copied().chain([&KIND, &HELM]) {
            assert!(program.version().unwrap().starts_with('v'), "{}", program.name);
        }
    }

    #[test]
    fn kubernetes_programs_know_their_version() {
        let flags = KUBECTL.ldflags().unwrap();
        let version = kubernetes_version().unwrap();
        assert!(flags.contains(&format!("component-base/version.gitVersion={version}")), "{flags}");
        assert!(flags.contains("version.gitMajor=1"), "{flags}");
    }
}
