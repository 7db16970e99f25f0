//! The folders that commands read and write outside the clone. Only names them; writes nothing.

use anyhow::Result;
use launcher::slot::Slot;
use std::path::PathBuf;

/// What is fetched or built, shared by all clones: `$ORDERSHOP_CACHE`, else `ordershop` in the user's cache folder.
pub(crate) fn dir() -> Result<PathBuf> {
    Ok(launcher::cache::dir()?)
}

/// Cargo's output for the sources that this program was built of.
pub(crate) fn target_dir() -> Result<PathBuf> {
    Ok(Slot::current()?.target())
}
