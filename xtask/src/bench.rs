//! `cargo xtask bench`: builds the measuring program as the images are built, and runs it.

use crate::{build, tools};
use anyhow::{Context, Result, bail};

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Handed to the program; `cargo xtask bench -- --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    tools::ensure_debian(&["redis-server"])?;
    let status = build::cargo()?
        .args(["run", "--locked", "--quiet", "--profile", "image", "--package", "bench", "--"])
        .args(&args.args)
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("bench ended with {status}");
    }
    Ok(())
}
