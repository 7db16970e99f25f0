//! Where everything lives that is fetched or built outside the clone. Never writes by itself.

use anyhow::{Context, Result};
use std::path::PathBuf;

/// `$ORDERSHOP_CACHE`, else `ordershop` in the user's cache folder.
pub(crate) fn dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("ORDERSHOP_CACHE").filter(|d| !d.is_empty()) {
        return Ok(std::path::absolute(PathBuf::from(dir))?);
    }
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|d| !d.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(
            std::env::var_os("HOME").context("neither ORDERSHOP_CACHE nor HOME is set: set one")?,
        )
        .join(".cache"),
    };
    Ok(base.join("ordershop"))
}

/// Cargo's output folder for everything that xtask builds; `$CARGO_TARGET_DIR` wins.
pub(crate) fn target_dir() -> Result<PathBuf> {
    match std::env::var_os("CARGO_TARGET_DIR").filter(|d| !d.is_empty()) {
        Some(dir) => Ok(PathBuf::from(dir)),
        None => Ok(dir()?.join("target")),
    }
}
