//! `cargo xtask`: see the library.

use launcher::slot;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, io};

fn main() -> ExitCode {
    match launch() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Builds xtask from a copy of the clone and becomes it.
fn launch() -> io::Result<ExitCode> {
    let clone = clone_folder()?;
    let held = slot::take(&clone)?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(&cargo);
    // The whole workspace decides on the features, as wherever xtask builds programs for development.
    build.args(["build", "--quiet", "--locked", "--workspace", "--bin", "xtask"]);
    build.current_dir(held.slot().source()).env("CARGO_TARGET_DIR", held.slot().target());
    launcher::without_package(&mut build);
    let status = build.status()?;
    if !status.success() {
        return Ok(ExitCode::FAILURE);
    }
    let mut xtask = Command::new(held.slot().target().join("debug/xtask"));
    xtask.args(env::args_os().skip(1)).envs(held.environment(&clone)).env("CARGO", cargo);
    launcher::without_package(&mut xtask);
    let program = xtask.get_program().to_owned();
    let error = xtask.exec();
    Err(io::Error::new(error.kind(), format!("cannot run {}: {error}", program.display())))
}

/// The workspace that `cargo run` runs this program in.
fn clone_folder() -> io::Result<PathBuf> {
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let clone = manifest.parent().and_then(Path::parent);
    clone.ok_or_else(|| io::Error::other("not in a workspace"))?.canonicalize()
}
