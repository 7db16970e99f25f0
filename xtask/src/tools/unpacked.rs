//! A single program out of a Debian package, unpacked into the cache: nothing is installed, and root is not needed.

use super::command::{Run, found, is_root};
use crate::{cache, step::step};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A program: this machine's own, else that of the package, which is fetched once. The package must work without
/// others; those of programs in Go do.
pub(crate) fn debian_program(package: &str, program: &str) -> Result<PathBuf> {
    if found(program) {
        return Ok(PathBuf::from(program));
    }
    let folder = cache::dir()?.join("debian").join(package);
    let path = folder.join("usr/bin").join(program);
    if path.is_file() {
        return Ok(path);
    }
    if !found("apt-get") || !found("dpkg-deb") {
        bail!("{program} is needed: put it into PATH; it is part of {package}");
    }
    let _lock = super::lock()?;
    if path.is_file() {
        return Ok(path);
    }
    let work = super::scratch()?;
    let download = || {
        let mut apt = Command::new("apt-get");
        // Without its sandbox: its user cannot write into our folder.
        apt.current_dir(&work).args(["-q", "-o", "APT::Sandbox::User=root", "download", package]);
        apt.run()
    };
    step(&format!("{program} from Debian's package {package}"), || {
        if download().is_err() {
            if is_root() {
                // The usual reason is a machine whose package lists are absent or old.
                Command::new("apt-get").args(["-qy", "update"]).run()?;
            }
            download()?;
        }
        let archive = fs::read_dir(&work)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .context("apt-get downloaded nothing")?;
        Command::new("dpkg-deb").arg("-x").arg(archive).arg(work.join("root")).run()
    })?;
    if !work.join("root/usr/bin").join(program).is_file() {
        bail!("Debian's package {package} has no {program}");
    }
    fs::create_dir_all(folder.parent().context("debian/ is a folder of the cache")?)?;
    // From here on it is there, and whole.
    fs::rename(work.join("root"), &folder)?;
    fs::remove_dir_all(&work)?;
    Ok(path)
}
