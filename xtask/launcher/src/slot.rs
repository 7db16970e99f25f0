//! A folder of the cache to build in: the sources of one content, and cargo's output for them. Who builds or tests holds
//! its lock shared, so that the sources and the programs stay as they are. A run with other content takes the next slot.

use crate::sources::{Store, Tree};
use crate::{at, cache};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Names the environment variable with the slot's folder, for the program that was built there.
pub const SLOT: &str = "ORDERSHOP_SLOT";
/// Names the environment variable with the clone's folder: where generated files belong.
pub const CLONE: &str = "ORDERSHOP_CLONE";
/// Names the environment variable with the content that the program was built of.
const TREE: &str = "ORDERSHOP_TREE";

/// So many runs of different content at once: each has cargo's whole output, some gigabytes.
const SLOTS: usize = 8;

/// A folder to build in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    folder: PathBuf,
}

/// A slot whose sources stay as they are until this is dropped.
#[derive(Debug)]
pub struct Held {
    slot: Slot,
    tree: Tree,
    /// Unlocked when it is closed.
    _lock: File,
}

impl Slot {
    /// The sources.
    #[must_use]
    pub fn source(&self) -> PathBuf {
        self.folder.join("source")
    }

    /// Cargo's output.
    #[must_use]
    pub fn target(&self) -> PathBuf {
        self.folder.join("target")
    }

    /// The slot that this program was built in.
    ///
    /// # Errors
    /// When the program was not started by `cargo xtask`.
    pub fn current() -> io::Result<Self> {
        let folder = std::env::var_os(SLOT).filter(|folder| !folder.is_empty());
        let folder =
            folder.ok_or_else(|| io::Error::other(format!("{SLOT} is not set: run `cargo xtask`")))?;
        Ok(Self { folder: folder.into() })
    }

    fn lock(&self) -> io::Result<File> {
        fs::create_dir_all(&self.folder).map_err(at(&self.folder))?;
        let path = self.folder.join("lock");
        File::options().create(true).truncate(false).write(true).open(&path).map_err(at(&path))
    }

    /// The content of the sources; `None` when none was written completely yet.
    fn tree(&self) -> Option<Tree> {
        fs::read_to_string(self.folder.join("tree")).ok().map(Tree)
    }

    fn fill(&self, store: &Store, tree: &Tree) -> io::Result<()> {
        let stamp = self.folder.join("tree");
        if stamp.exists() && self.tree().as_ref() != Some(tree) {
            // Removed first: a copy that is interrupted is nobody's content.
            fs::remove_file(&stamp).map_err(at(&stamp))?;
        }
        store.check_out(tree, &self.source(), &self.folder.join("index"))?;
        fs::write(&stamp, &tree.0).map_err(at(&stamp))
    }
}

/// Copies the clone into the first slot that holds the same content or that nobody uses.
///
/// # Errors
/// When the files cannot be copied, or when all slots are in use.
pub fn take(clone: &Path) -> io::Result<Held> {
    take_in(&cache::dir()?.join("build"), clone)
}

fn take_in(folder: &Path, clone: &Path) -> io::Result<Held> {
    if let Some(held) = the_clone_itself(folder, clone)? {
        return Ok(held);
    }
    let store = Store::open(folder)?;
    let tree = store.snapshot(clone)?;
    for number in 1..=SLOTS {
        let slot = Slot { folder: folder.join(number.to_string()) };
        let lock = slot.lock()?;
        if lock.try_lock().is_ok() {
            slot.fill(&store, &tree)?;
            lock.unlock()?;
        }
        // Waits at most as long as another run copies its sources.
        lock.lock_shared()?;
        if slot.tree().as_ref() == Some(&tree) {
            return Ok(Held { slot, tree, _lock: lock });
        }
    }
    let many =
        format!("{SLOTS} runs with other sources build at this moment: wait until one of them has ended");
    Err(io::Error::other(many))
}

/// A test that runs `cargo xtask` does so in the sources of the slot that it was built in.
fn the_clone_itself(folder: &Path, clone: &Path) -> io::Result<Option<Held>> {
    let Some(slot) = clone.parent().map(|folder| Slot { folder: folder.to_owned() }) else { return Ok(None) };
    if slot.folder.parent() != Some(folder) || slot.source() != clone {
        return Ok(None);
    }
    let lock = slot.lock()?;
    lock.lock_shared()?;
    let tree = slot.tree().ok_or_else(|| io::Error::other(format!("{} is incomplete", clone.display())))?;
    Ok(Some(Held { slot, tree, _lock: lock }))
}

impl Held {
    /// The slot.
    #[must_use]
    pub fn slot(&self) -> &Slot {
        &self.slot
    }

    /// What the program that was built there finds in its environment.
    #[must_use]
    pub fn environment(&self, clone: &Path) -> [(&'static str, PathBuf); 3] {
        [(SLOT, self.slot.folder.clone()), (TREE, PathBuf::from(&self.tree.0)), (CLONE, clone.to_owned())]
    }

    /// Holds the slot that this program was built in: the launcher's lock ended when it became this program.
    ///
    /// # Errors
    /// When the program was not started by `cargo xtask`, or another run has taken the slot in between.
    pub fn current() -> io::Result<Self> {
        let slot = Slot::current()?;
        let lock = slot.lock()?;
        lock.lock_shared()?;
        let tree = std::env::var(TREE).ok().map(Tree);
        match tree {
            Some(tree) if slot.tree().as_ref() == Some(&tree) => Ok(Self { slot, tree, _lock: lock }),
            _ => Err(io::Error::other("another run has taken the folder to build in: run the command again")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end at once")]

    use super::*;
    use tempfile::TempDir;

    fn clone(world: &TempDir, name: &str, text: &str) -> PathBuf {
        let clone = world.path().join(name);
        fs::create_dir_all(&clone).unwrap();
        fs::write(clone.join("a.rs"), text).unwrap();
        clone
    }

    #[test]
    fn clones_of_one_content_share_a_slot_at_the_same_time() {
        let world = tempfile::tempdir().unwrap();
        let folder = world.path().join("build");
        let first = take_in(&folder, &clone(&world, "one", "a")).unwrap();
        let second = take_in(&folder, &clone(&world, "two", "a")).unwrap();
        assert_eq!(first.slot(), second.slot());
    }

    #[test]
    fn other_content_takes_another_slot_while_the_first_is_in_use() {
        let world = tempfile::tempdir().unwrap();
        let folder = world.path().join("build");
        let first = take_in(&folder, &clone(&world, "one", "a")).unwrap();
        let second = take_in(&folder, &clone(&world, "two", "b")).unwrap();
        assert_ne!(first.slot(), second.slot());
        assert_eq!(fs::read_to_string(first.slot().source().join("a.rs")).unwrap(), "a");
        let taken = first.slot().clone();
        drop(first);
        let third = take_in(&folder, &clone(&world, "three", "c")).unwrap();
        assert_eq!(*third.slot(), taken, "a slot that nobody uses is filled again");
        assert_eq!(fs::read_to_string(third.slot().source().join("a.rs")).unwrap(), "c");
    }

    #[test]
    fn the_sources_of_a_slot_are_built_where_they_are() {
        let world = tempfile::tempdir().unwrap();
        let folder = world.path().join("build");
        let outer = take_in(&folder, &clone(&world, "one", "a")).unwrap();
        let inner = take_in(&folder, &outer.slot().source()).unwrap();
        assert_eq!(inner.slot(), outer.slot());
    }
}
