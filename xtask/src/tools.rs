//! The programs that the cluster needs: where they come from and how they are run.
//!
//! Debian packages are installed by root only ([`ensure_debian`]); Go programs are built from the wrapper modules in
//! `deploy/kind` into the cache ([`go`]). Nothing here touches the user's own kubeconfig or podman.

mod command;
mod debian;
pub(crate) mod go;
mod unpacked;

pub(crate) use command::{Run, bound_to_us, found, is_root};
pub(crate) use debian::{ensure_debian, release};
pub(crate) use unpacked::debian_program;

use crate::{cache, cluster};
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

/// Arguments that go to another program as they are.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct PassThrough {
    /// What the program is given
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// Runs kubectl on the local cluster; ends with its exit code.
pub(crate) fn kubectl(args: PassThrough) -> Result<()> {
    pass_through(&go::KUBECTL, args)
}

/// Runs helm on the local cluster; ends with its exit code.
pub(crate) fn helm(args: PassThrough) -> Result<()> {
    pass_through(&go::HELM, args)
}

fn pass_through(program: &go::Program, args: PassThrough) -> Result<()> {
    let path = if program.is_current()? {
        program.path()?
    } else {
        let _lock = lock()?;
        go::ensure(&[program])?;
        program.path()?
    };
    let mut command = Command::new(&path);
    cluster::set_client_env(&mut command, cluster::DEFAULT_NAME)?;
    let status =
        command.args(args.args).status().with_context(|| format!("cannot run {}", path.display()))?;
    std::process::exit(status.code().unwrap_or(1));
}

/// The sources that this program was built of: a copy of the clone, to read and to build from.
pub(crate) fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map_or_else(|| manifest.clone(), PathBuf::from)
}

/// The clone that the command was given in: where generated files are written.
pub(crate) fn clone() -> PathBuf {
    std::env::var_os(launcher::slot::CLONE).map_or_else(root, PathBuf::from)
}

/// Waits until no other command changes the cluster or its cache; the lock ends with the returned file.
pub(crate) fn lock() -> Result<File> {
    let dir = cache::dir()?;
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let file = File::create(dir.join("lock"))?;
    if file.try_lock().is_err() {
        eprintln!("  .. waiting for another `cargo xtask` to finish");
        file.lock()?;
    }
    Ok(file)
}

/// A folder for files of one run; what a killed run left there is removed first. Call with the lock held.
pub(crate) fn scratch() -> Result<PathBuf> {
    let all = cache::dir()?.join("tmp");
    // A helper of a killed run may still be writing: what cannot be removed now is removed next time.
    let _ = std::fs::remove_dir_all(&all);
    let dir = all.join(std::process::id().to_string());
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}
