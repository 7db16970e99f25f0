//! The one way in which cargo is run. Three selections of packages and features, so that nothing is compiled twice: the
//! whole workspace with its tests (development), the programs that are deployed (profile `image`, linked statically),
//! and their next versions.

use crate::demo::plan::SERVICES;
use crate::{cache, tools};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

const OPERATOR: &str = "ordershop-operator";
const PLUGIN: &str = "kubectl-ordershop";
/// The services of which there is a next version, with another schema: it runs next to the usual one.
const NEXT: [&str; 2] = ["inventory", "order"];

/// What was compiled since this program began.
static COMPILED: Mutex<Vec<Compiled>> = Mutex::new(Vec::new());

/// A crate that was compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compiled {
    /// With its kind and cargo's verb: `domain (lib, build)`.
    pub(crate) name: String,
    /// It belongs to the workspace.
    pub(crate) is_ours: bool,
}

/// Builds the nine services; the folder of the programs.
pub(crate) fn services() -> Result<PathBuf> {
    deployed(&SERVICES.map(service), &[])
}

/// Builds the operator; the folder of the program, which is that of the services.
pub(crate) fn operator() -> Result<PathBuf> {
    deployed(&[OPERATOR.to_owned()], &[])
}

/// Builds the kubectl plugin; the folder of the program.
pub(crate) fn plugin() -> Result<PathBuf> {
    deployed(&[PLUGIN.to_owned()], &[])
}

/// Builds all programs that are deployed, in one run of cargo.
pub(crate) fn all_deployed() -> Result<PathBuf> {
    deployed(&selection(), &[])
}

/// Builds the services with their next versions beside them, in the folder `next`; the folder of the programs.
pub(crate) fn services_and_next() -> Result<PathBuf> {
    let programs = NEXT.map(service);
    let folder = deployed(&programs, &["--features", "chassis/schema-next"])?;
    let next = folder.join("next");
    std::fs::create_dir_all(&next)?;
    for program in programs {
        let (to, new) = (next.join(&program), next.join("new"));
        // A program that another run has started cannot be written to, but it can be replaced.
        std::fs::copy(folder.join(&program), &new)
            .and_then(|_| std::fs::rename(&new, &to))
            .with_context(|| format!("cannot write {}", to.display()))?;
    }
    // Puts the usual programs in their place again.
    services()
}

/// Builds the tests of the whole workspace, and the programs that they start.
pub(crate) fn tests() -> Result<()> {
    compile("test", |cargo| {
        cargo.args(["--workspace", "--no-run"]);
    })
}

/// Builds one program of the workspace for development; the program.
pub(crate) fn development(program: &str) -> Result<PathBuf> {
    compile("build", |cargo| {
        cargo.args(["--workspace", "--bin", program]);
    })?;
    development_program(program)
}

/// A program that was built for development, by [`development`] or with the [`tests`] of its package.
pub(crate) fn development_program(program: &str) -> Result<PathBuf> {
    Ok(cache::target_dir()?.join("debug").join(program))
}

fn service(name: &str) -> String {
    format!("ordershop-{name}")
}

/// All packages whose programs are deployed.
fn selection() -> Vec<String> {
    let others = [OPERATOR, PLUGIN].map(str::to_owned);
    SERVICES.map(service).into_iter().chain(others).collect()
}

/// Builds some of the deployed programs. Cargo is always told of all of them: the selection decides on the features of
/// their dependencies, and with other features these would be compiled again.
fn deployed(programs: &[String], further: &[&str]) -> Result<PathBuf> {
    let host = host_triple()?;
    // The variable of the target reaches the programs and not the build scripts; the general one would win over it.
    let flags = format!("CARGO_TARGET_{}_RUSTFLAGS", host.to_uppercase().replace('-', "_"));
    compile("build", |cargo| {
        cargo
            .args(["--profile", "image", "--target", &host])
            .args(selection().iter().flat_map(|package| ["--package", package]))
            .args(programs.iter().flat_map(|program| ["--bin", program]))
            .args(further)
            // Static, so that an image needs nothing but the program. The second flag packs the table of addresses that
            // such a program corrects when it starts: a MB of the operator.
            .env(flags, "-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs")
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
    })?;
    deployed_folder()
}

/// Where the deployed programs lie.
pub(crate) fn deployed_folder() -> Result<PathBuf> {
    Ok(cache::target_dir()?.join(host_triple()?).join("image"))
}

/// Runs a command of cargo that compiles, to its end; what it says goes to the terminal, and what it compiled is noted.
pub(crate) fn compile(verb: &str, configure: impl FnOnce(&mut Command)) -> Result<()> {
    let mut cargo = cargo()?;
    cargo.args([verb, "--locked", "--message-format", "json-render-diagnostics"]).stdout(Stdio::piped());
    configure(&mut cargo);
    let mut child = cargo.spawn().context("cannot run cargo")?;
    let messages = child.stdout.take().context("cargo has no output")?;
    for line in BufReader::new(messages).lines() {
        if let Some(compiled) = compiled(&line?, verb) {
            COMPILED.lock().unwrap_or_else(PoisonError::into_inner).push(compiled);
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`cargo {verb}` ended with {status}");
    }
    Ok(())
}

/// What was compiled so far; empty afterwards.
pub(crate) fn take_compiled() -> Vec<Compiled> {
    std::mem::take(&mut *COMPILED.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The crate in a line of cargo's JSON, when it was compiled and not found up to date.
fn compiled(line: &str, verb: &str) -> Option<Compiled> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || message["fresh"] != false {
        return None;
    }
    let name = message["target"]["name"].as_str()?;
    let kind = message["target"]["kind"][0].as_str()?;
    let is_ours = message["package_id"].as_str()?.starts_with("path+");
    Some(Compiled { name: format!("{name} ({kind}, {verb})"), is_ours })
}

/// Cargo on the sources in the cache, with the output folder that belongs to them.
pub(crate) fn cargo() -> Result<Command> {
    // The cargo that built this program, so that a chosen toolchain stays chosen.
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // A test that runs this program has a package of its own in its environment.
    launcher::without_package(&mut cargo);
    cargo.current_dir(tools::root()).env("CARGO_TARGET_DIR", cache::target_dir()?);
    Ok(cargo)
}

/// Such as `x86_64-unknown-linux-gnu`.
fn host_triple() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_compiled_is_noted() {
        let line = |fresh: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"path+file:///x/domain#0.1.0",
                "target":{{"name":"domain","kind":["lib"]}},"fresh":{fresh}}}"#
            )
        };
        let expected = Compiled { name: "domain (lib, build)".to_owned(), is_ours: true };
        assert_eq!(compiled(&line(false), "build"), Some(expected));
        assert_eq!(compiled(&line(true), "build"), None);
        assert_eq!(compiled(r#"{"reason":"build-finished","success":true}"#, "build"), None);
        assert_eq!(compiled("warning: no JSON", "build"), None);
    }
}
