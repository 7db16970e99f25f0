//! The one way in which binaries are built that run outside of tests: statically linked, profile `image`.
//! `demo` and `images` both come here, so that nothing is built twice.

use crate::demo::plan::SERVICES;
use crate::{cache, tools};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// Builds the nine services; the folder of the binaries.
pub(crate) fn services() -> Result<PathBuf> {
    let packages: Vec<_> = SERVICES.iter().map(|name| format!("ordershop-{name}")).collect();
    build(&packages)
}

/// Builds the operator; the folder of the binary, which is the services' too.
///
/// It has a cargo run of its own: together with the services its dependencies would change their features,
/// and the demo would wait for the Kubernetes client.
pub(crate) fn operator() -> Result<PathBuf> {
    build(&["ordershop-operator".to_owned()])
}

/// Builds the kubectl plugin; the folder of the binary.
pub(crate) fn plugin() -> Result<PathBuf> {
    build(&["kubectl-ordershop".to_owned()])
}

fn build(packages: &[String]) -> Result<PathBuf> {
    let host = host_triple()?;
    let target = cache::target_dir()?;
    let mut cargo = cargo();
    cargo
        .args(["build", "--locked", "--profile", "image", "--target", &host])
        .args(packages.iter().flat_map(|package| ["--package", package]))
        .current_dir(tools::root())
        .env("CARGO_TARGET_DIR", &target)
        // Static, so that an image needs nothing but the program. The variable of the target reaches the
        // binaries and not the build scripts; the general one would win over it.
        .env(
            format!("CARGO_TARGET_{}_RUSTFLAGS", host.to_uppercase().replace('-', "_")),
            // The second packs the table of addresses that such a program corrects when it starts: a MB of the operator.
            "-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs",
        )
        .env_remove("RUSTFLAGS");
    let status = cargo.status().context("cannot run cargo")?;
    if !status.success() {
        bail!("cargo build ended with {status}");
    }
    Ok(target.join(host).join("image"))
}

/// The cargo that runs this program, so that a chosen toolchain stays chosen.
///
/// Without what `cargo run` says about xtask itself: build scripts that watch those variables (ring's does)
/// would run again for every clone, and half of all dependencies after them.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let of_xtask = |prefix: &str| name.to_str().is_some_and(|name| name.starts_with(prefix));
        if of_xtask("CARGO_PKG_") || of_xtask("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// Such as `x86_64-unknown-linux-gnu`.
pub(crate) fn host_triple() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}
