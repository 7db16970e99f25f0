//! Which clone the builds in the cache are of. Cargo tells what is new by the times of files: what another clone
//! built later than a file here was written would pass for built from it, though it was not, and would look for its
//! files over there. So what was built of another clone's own packages is thrown away before this one builds; the
//! dependencies, nearly all of it, stay. Never touches a file of a clone.

use crate::{build, cache, tools};
use anyhow::{Context, Result, bail};
use std::convert::Infallible;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;

/// In cargo's output folder: the clone that built there last.
const STAMP: &str = "clone";

/// Makes the builds in the cache this clone's own. When they were another's, begins this very command anew, since
/// xtask may have been the other's, too.
///
/// # Errors
/// When they cannot be removed, or noted as this clone's.
pub(crate) fn take_builds_over() -> Result<()> {
    if std::env::var_os("CARGO").is_none() {
        // Not by cargo: somebody runs the program by hand, wherever that is.
        return Ok(());
    }
    let (target, root) = (cache::target_dir()?, tools::root());
    let stamp = target.join(STAMP);
    if is_of(&stamp, &root) {
        return Ok(());
    }
    {
        let _lock = tools::lock()?;
        if !is_of(&stamp, &root) {
            remove(&target, &root)?;
            fs::create_dir_all(&target).with_context(|| format!("cannot create {}", target.display()))?;
            fs::write(&stamp, root.as_os_str().as_encoded_bytes())
                .with_context(|| format!("cannot write {}", stamp.display()))?;
        }
    }
    begin_anew(&root).map(|never| match never {})
}

fn is_of(stamp: &Path, root: &Path) -> bool {
    fs::read(stamp).is_ok_and(|of| of == root.as_os_str().as_encoded_bytes())
}

fn remove(target: &Path, root: &Path) -> Result<()> {
    for further in
        [&[][..], &["--profile", "image"], &["--profile", "image", "--target", &build::host_triple()?]]
    {
        let status = build::cargo()
            .args(["clean", "--locked", "--quiet", "--workspace", "--target-dir"])
            .arg(target)
            .args(further)
            .current_dir(root)
            .status()
            .context("cannot run cargo")?;
        if !status.success() {
            bail!("cargo clean ended with {status}");
        }
    }
    Ok(())
}

fn begin_anew(root: &Path) -> Result<Infallible> {
    let manifest = root.join("Cargo.toml");
    let mut cargo = build::cargo();
    cargo.args(["run", "--quiet", "--package", "xtask", "--manifest-path"]).arg(manifest).arg("--");
    Err(cargo.args(std::env::args_os().skip(1)).exec()).context("cannot run cargo")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_are_of_the_clone_that_the_stamp_names_and_of_nobody_without_one() {
        let folder = tempfile::tempdir().unwrap();
        let stamp = folder.path().join(STAMP);
        assert!(!is_of(&stamp, Path::new("/a/clone")));
        fs::write(&stamp, "/a/clone").unwrap();
        assert!(is_of(&stamp, Path::new("/a/clone")));
        assert!(!is_of(&stamp, Path::new("/a/clone2")) && !is_of(&stamp, Path::new("/a")));
    }
}
