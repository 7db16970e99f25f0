//! The `CustomResourceDefinition`, written again. That every copy is
//! what the operator's types give today is a test of the operator, which has them at hand.

use crate::{build, tools};
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use walkdir::WalkDir;

/// What the first line of each copy says.
const MARK: &str = "by `ordershop-operator crd`";
/// Where copies lie: one for `kubectl apply`, one in the chart.
const FOLDERS: [&str; 2] = ["deploy", "charts"];

/// Writes every copy again; which these are.
pub(super) fn write() -> Result<Vec<PathBuf>> {
    let (current, copies) = (current()?, copies()?);
    for file in &copies {
        std::fs::write(file, &current).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(copies)
}

fn current() -> Result<String> {
    let output = build::cargo()?
        .args(["run", "--quiet", "--locked", "--workspace", "--bin", "ordershop-operator", "--", "crd"])
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "`ordershop-operator crd`: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).context("`ordershop-operator crd` wrote no text")
}

fn copies() -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for folder in FOLDERS {
        let before = all.len();
        for entry in WalkDir::new(tools::clone().join(folder)).sort_by_file_name() {
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
