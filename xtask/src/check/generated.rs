//! The generated file of the repository, the `CustomResourceDefinition`: every copy must be what the types
//! of the operator give today.

use crate::{build, cache, tools};
use anyhow::{Context, Result, bail, ensure};
use std::path::PathBuf;
use std::process::Command;
use walkdir::WalkDir;

/// What the first line of each copy says.
const MARK: &str = "by `ordershop-operator crd`";
/// Where copies lie: one for `kubectl apply`, one in the chart.
const FOLDERS: [&str; 2] = ["deploy", "charts"];

/// An error when a copy differs, or one is missing.
pub(super) fn check() -> Result<()> {
    let current = current()?;
    let mut stale = Vec::new();
    for file in copies()? {
        if std::fs::read_to_string(&file)? != current {
            stale.push(file.display().to_string());
        }
    }
    if !stale.is_empty() {
        bail!("not current: {}. `cargo xtask generate` writes them", stale.join(", "));
    }
    Ok(())
}

/// Writes every copy anew.
pub(crate) fn write() -> Result<()> {
    let current = current()?;
    for file in copies()? {
        std::fs::write(&file, &current).with_context(|| format!("cannot write {}", file.display()))?;
        println!("{}", file.display());
    }
    Ok(())
}

fn current() -> Result<String> {
    let output = Command::new(build::cargo_program())
        .args(["run", "--quiet", "--locked", "--package", "ordershop-operator", "--", "crd"])
        .env("CARGO_TARGET_DIR", cache::target_dir()?)
        .current_dir(tools::root())
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "`ordershop-operator crd`: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).context("`ordershop-operator crd` wrote no text")
}

fn copies() -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for folder in FOLDERS {
        let before = all.len();
        for entry in WalkDir::new(tools::root().join(folder)).sort_by_file_name() {
            let path = entry?.into_path();
            if path.extension().is_some_and(|e| e == "yaml") && is_marked(&path)? {
                all.push(path);
            }
        }
        ensure!(all.len() > before, "no generated CustomResourceDefinition below {folder}/");
    }
    Ok(all)
}

fn is_marked(path: &PathBuf) -> Result<bool> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.lines().next().is_some_and(|line| line.contains(MARK)))
}
