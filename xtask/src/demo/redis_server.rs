//! The Redis on this machine: found, installed where that is possible, and new enough.

use crate::tools;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// Redis functions, by which the event store appends, came with this version.
const OLDEST: (u32, u32) = (7, 0);

/// Where the server's program is. Debian's is installed when there is none and this is root.
pub(super) fn find() -> Result<PathBuf> {
    if in_path().is_none() {
        tools::ensure_debian(&["redis-server"])?;
    }
    let program = in_path().context("redis-server is not in PATH: install Redis 7.0 or newer")?;
    let output = Command::new(&program).arg("--version").output();
    let output = output.with_context(|| format!("cannot run {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match version(&text) {
        Some(version) if version >= OLDEST => Ok(program),
        _ => bail!("{} is too old: Redis 7.0 or newer is needed, this is {}", program.display(), text.trim()),
    }
}

fn in_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("redis-server")).find(|file| file.is_file())
}

/// Out of "Redis server v=7.0.15 sha=… malloc=… bits=64 build=…".
fn version(text: &str) -> Option<(u32, u32)> {
    let version = text.split_whitespace().find_map(|word| word.strip_prefix("v="))?;
    let mut numbers = version.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        let debian = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=7b5f5df";
        assert_eq!(version(debian), Some((7, 0)));
        assert!(version("Redis server v=6.2.14 sha=0") < Some(OLDEST));
        assert!(version("Redis server v=10.1.0 sha=0") > Some(OLDEST));
        assert_eq!(version("something else"), None);
    }
}
