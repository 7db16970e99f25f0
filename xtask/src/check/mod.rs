//! `cargo xtask check`: what can be judged without running the shop. Changes nothing.

mod alerts;
mod copies;
mod generated;
mod licences;
mod links;
mod promises;
mod values;

use crate::{build, step::step};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use walkdir::{DirEntry, WalkDir};

/// A check's title and what it does.
pub(crate) type Check = (&'static str, fn() -> Result<()>);

/// All checks, the quick ones first.
pub(crate) const CHECKS: [Check; 9] = [
    ("format", format),
    ("links in the documents", links::check),
    ("tests that the documents name", promises::check),
    ("the table of the chart's values", values::check),
    ("copies of the chart's files", copies::check),
    ("alerts (promtool)", alerts::check),
    ("licences and sources of all dependencies", licences::check),
    ("lints, every warning an error", lints),
    ("documentation builds, no broken link", documentation),
];

/// Writes all generated files again, in the clone.
pub(crate) fn generate() -> Result<()> {
    for file in generated::write()?.into_iter().chain(copies::write()?).chain([values::write()?]) {
        println!("{}", file.display());
    }
    Ok(())
}

/// Runs them all; an error when one fails.
pub(crate) fn run() -> Result<()> {
    let failed: Vec<_> = CHECKS
        .iter()
        .filter_map(|(title, check)| step(title, check).err().map(|error| eprintln!("     {error:#}")))
        .collect();
    ensure!(failed.is_empty(), "{} of {} checks failed", failed.len(), CHECKS.len());
    Ok(())
}

/// The files of the sources with this extension, in the order of their names; neither git's nor what was built.
pub(crate) fn ours(root: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let is_ours = |entry: &DirEntry| {
        let name = entry.file_name();
        !(entry.file_type().is_dir() && [Path::new(".git"), Path::new("target")].contains(&Path::new(name)))
    };
    let mut files = Vec::new();
    for entry in WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(is_ours) {
        let path = entry?.into_path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    Ok(files)
}

fn format() -> Result<()> {
    let status = build::cargo()?.args(["fmt", "--all", "--check"]).status().context("cannot run cargo")?;
    ensure!(status.success(), "not formatted: run `cargo fmt --all`");
    Ok(())
}

fn lints() -> Result<()> {
    // `missing_docs` stands among the workspace's lints, so this is where an undocumented item fails.
    build::compile("clippy", |cargo| {
        cargo.args(["--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    })
}

fn documentation() -> Result<()> {
    build::compile("doc", |cargo| {
        cargo.args(["--quiet", "--workspace", "--no-deps", "--document-private-items"]);
        cargo.env("RUSTDOCFLAGS", "-D warnings");
    })
}
