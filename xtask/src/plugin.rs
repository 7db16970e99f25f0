//! `cargo xtask plugin`: builds `kubectl ordershop` and puts it where kubectl finds it.

use crate::step::step;
use crate::{build, cache};
use anyhow::{Context, Result};
use std::path::PathBuf;

const NAME: &str = "kubectl-ordershop";

/// Options of `cargo xtask plugin`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A folder of your PATH; default: that of `cargo xtask kubectl`
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
}

/// Builds and installs it; prints the program.
pub(crate) fn run(args: Args) -> Result<()> {
    let folder = args.to.map_or_else(|| Ok(cache::dir()?.join("bin")), anyhow::Ok)?;
    let mut built = PathBuf::new();
    step("kubectl ordershop built", || {
        built = build::plugin()?.join(NAME);
        Ok(())
    })?;
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let program = folder.join(NAME);
    // One that runs cannot be written to, but replaced it can be.
    let new = folder.join(format!(".{NAME}-{}", std::process::id()));
    std::fs::copy(&built, &new)
        .and_then(|_| std::fs::rename(&new, &program))
        .with_context(|| program.display().to_string())?;
    println!("{}", program.display());
    Ok(())
}
