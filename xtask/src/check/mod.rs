//! `cargo xtask check`: what can be judged without running the shop. Changes nothing.

mod alerts;
mod copies;
mod generated;
mod licences;
mod links;
mod promises;
mod values;

use crate::{build, cache, step::step, tools};
use anyhow::{Context, Result, bail, ensure};

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

/// Writes all generated files anew.
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

fn format() -> Result<()> {
    cargo(&["fmt", "--all", "--check"], &[])
}

fn lints() -> Result<()> {
    // `missing_docs` stands among the workspace's lints, so this is where an undocumented item fails.
    cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"], &[])
}

fn documentation() -> Result<()> {
    let strict = [("RUSTDOCFLAGS", "-D warnings")];
    cargo(&["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items", "--locked"], &strict)
}

/// Runs cargo on the workspace; what it says goes to the terminal.
fn cargo(args: &[&str], env: &[(&str, &str)]) -> Result<()> {
    let status = build::cargo()
        .args(args)
        .envs(env.iter().copied())
        .env("CARGO_TARGET_DIR", cache::target_dir()?)
        .current_dir(tools::root())
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("`cargo {}` ended with {status}", args.join(" "));
    }
    Ok(())
}
