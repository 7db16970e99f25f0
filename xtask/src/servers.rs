//! The servers that the event store promises to run on, side by side on one machine: taken from the Debian release
//! that has them and run with their own libraries, so that nothing is installed.
//!
//! Each lies in `servers/` of the cache, made once; a folder that is there is whole. `redis-server` in it starts it.

use crate::tools::{self, Run, ensure_debian, go};
use crate::{cache, step::step};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A server of some Debian release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Server {
    /// Redis 7.0
    Redis7,
    /// Redis 8.0
    Redis8,
    /// Valkey 8.1
    Valkey81,
}

impl Server {
    const ALL: [Self; 3] = [Self::Redis7, Self::Redis8, Self::Valkey81];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Redis7 => "Redis 7.0",
            Self::Redis8 => "Redis 8.0",
            Self::Valkey81 => "Valkey 8.1",
        }
    }

    /// The release whose package it is, and the package's name.
    const fn package(self) -> (&'static str, &'static str) {
        match self {
            Self::Redis7 => ("bookworm", "redis"),
            Self::Redis8 => ("trixie", "redis"),
            Self::Valkey81 => ("trixie", "valkey"),
        }
    }

    fn folder(self) -> Result<PathBuf> {
        let (suite, name) = self.package();
        let recipe = Sha256::digest(fs::read(recipe())?);
        Ok(cache::dir()?.join("servers").join(format!("{name}-{suite}-{}", &go::hex(&recipe)[..8])))
    }
}

/// Options of `cargo xtask servers`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// One server only
    server: Option<Server>,
}

/// Prints a line `name program` for each, or the program alone.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(server) = args.server {
        println!("{}", ensure(server)?.display());
        return Ok(());
    }
    for server in Server::ALL {
        println!("{:<12} {}", server.title(), ensure(server)?.display());
    }
    Ok(())
}

/// The program that starts the server: this machine's own where its release has it, else one that is made when it is
/// not there yet.
pub(crate) fn ensure(server: Server) -> Result<PathBuf> {
    let own = tools::release().context("the servers that the tests run on are Debian packages")?;
    if server.package() == (own.suite.as_str(), "redis") {
        ensure_debian(&["redis-server"])?;
        return Ok(PathBuf::from("redis-server"));
    }
    let folder = server.folder()?;
    let program = folder.join("redis-server");
    if program.is_file() {
        return Ok(program);
    }
    let _lock = tools::lock()?;
    if program.is_file() {
        return Ok(program);
    }
    if std::env::consts::ARCH != "x86_64" {
        bail!("{} can be unpacked beside this machine's own server on x86_64 only", server.title());
    }
    ensure_debian(&["mmdebstrap", "util-linux"])?;
    let work = tools::scratch()?;
    let out = work.join("server");
    fs::create_dir(&out)?;
    let (suite, name) = server.package();
    step(&format!("{} from Debian's {suite}", server.title()), || {
        let mut build = Command::new("bash");
        build.arg(recipe()).env("OUT", &out).env("NAME", name);
        own.of(suite, &work)?.set_env(&mut build);
        tools::bound_to_us(&build).run()?;
        start_script(&out, name)
    })?;
    fs::create_dir_all(folder.parent().context("servers/ is a folder of the cache")?)?;
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    // From here on it is there, and whole.
    fs::rename(&out, &folder)?;
    fs::remove_dir_all(&work)?;
    Ok(program)
}

fn recipe() -> PathBuf {
    tools::root().join("deploy/redis-image/build.sh")
}

/// The server runs with its own loader and libraries: those of this machine may be too old for it.
fn start_script(out: &Path, name: &str) -> Result<()> {
    let script = format!(
        "#!/bin/sh\nroot=$(dirname \"$0\")/root\nexec \"$root/lib64/ld-linux-x86-64.so.2\" \
         --library-path \"$root/lib/x86_64-linux-gnu\" \"$root/usr/bin/{name}-server\" \"$@\"\n"
    );
    let file = out.join("redis-server");
    fs::write(&file, script)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
