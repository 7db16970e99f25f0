//! A clone's files by content. Git computes what they are and writes what changed, with a repository of its own in the
//! cache: the clone's repository is neither read nor written, so an unpacked archive works as well.

use crate::at;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The repository in the cache that holds the content of all clones.
#[derive(Debug, Clone)]
pub struct Store {
    repository: PathBuf,
}

/// The content of a clone: git's name of its tree. Equal content has an equal name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree(pub String);

impl Store {
    /// Opens the repository in this folder and creates it when it is missing.
    ///
    /// # Errors
    /// When git is missing, or the folder cannot be written.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder).map_err(at(folder))?;
        let store = Self { repository: folder.join("git") };
        if !store.repository.join("HEAD").exists() {
            run(git(&["init", "--quiet", "--bare"]).arg(&store.repository))?;
        }
        Ok(store)
    }

    /// The content of a clone as it is now: committed, changed and new files, without those that `.gitignore` names.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn snapshot(&self, clone: &Path) -> io::Result<Tree> {
        let index = self.repository.join(format!("index-{}", std::process::id()));
        let added = run(self.on(clone, &index).args(["add", "--all"]));
        let tree = added.and_then(|_| run(self.on(clone, &index).arg("write-tree")));
        // It was written by nobody else, and may be missing when the first step failed.
        let _ = fs::remove_file(&index);
        tree.map(Tree)
    }

    /// Makes `folder` hold this content and nothing else but what `.gitignore` names. A file whose content is right
    /// already keeps its modification time. `index` belongs to this folder.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn check_out(&self, tree: &Tree, folder: &Path, index: &Path) -> io::Result<()> {
        fs::create_dir_all(folder).map_err(at(folder))?;
        // The slot is locked: a git that held this lock was killed.
        let _ = fs::remove_file(index_lock(index));
        // Without an index git would take every file for a new one.
        if index.exists() {
            // It ends with 1 when a file differs: the next command writes that one again.
            self.on(folder, index)
                .args(["update-index", "-q", "--refresh"])
                .stdout(Stdio::null())
                .status()?;
        }
        run(self.on(folder, index).args(["read-tree", "--reset", "-u", &tree.0]))?;
        run(self.on(folder, index).args(["clean", "-d", "--force", "--quiet"])).map(drop)
    }

    fn on(&self, folder: &Path, index: &Path) -> Command {
        let mut git = git(&["-c", "core.autocrlf=false", "-c", "core.excludesFile=/dev/null", "--git-dir"]);
        git.arg(&self.repository).arg("--work-tree").arg(folder).env("GIT_INDEX_FILE", index);
        // Paths such as `.` are those of the current folder.
        git.current_dir(folder);
        git
    }
}

/// What git locks an index with.
fn index_lock(index: &Path) -> PathBuf {
    let mut lock = index.as_os_str().to_owned();
    lock.push(".lock");
    lock.into()
}

/// Git, without what a hook or an alias that calls this program says about another repository.
fn git(args: &[&str]) -> Command {
    let mut git = Command::new("git");
    let of_git = |name: &OsStr| name.to_str().is_some_and(|name| name.starts_with("GIT_"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| of_git(name)) {
        git.env_remove(name);
    }
    // Neither the user's filters nor his line ends.
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_ATTR_NOSYSTEM", "1");
    git.args(args);
    git
}

/// Runs git to its end; what it wrote to stdout, without the white space around it.
fn run(command: &mut Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| {
        io::Error::new(error.kind(), format!("cannot run git ({error}): install it, its package is `git`"))
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("git ended with {}: {}", output.status, said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end at once")]

    use super::*;
    use std::time::SystemTime;
    use tempfile::TempDir;

    struct World {
        folder: TempDir,
        store: Store,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path()).unwrap();
            Self { folder, store }
        }

        fn clone(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
            let clone = self.folder.path().join(name);
            for (path, text) in files {
                let file = clone.join(path);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, text).unwrap();
            }
            clone
        }

        fn source(&self) -> PathBuf {
            self.folder.path().join("source")
        }

        fn take(&self, clone: &Path) -> Tree {
            let tree = self.store.snapshot(clone).unwrap();
            self.store.check_out(&tree, &self.source(), &self.folder.path().join("index")).unwrap();
            tree
        }

        fn written(&self, file: &str) -> SystemTime {
            fs::metadata(self.source().join(file)).unwrap().modified().unwrap()
        }
    }

    #[test]
    fn a_second_clone_writes_the_changed_files_only() {
        let world = World::new();
        let first = world.clone("first", &[("a.rs", "a"), ("b.rs", "b"), ("old/c.rs", "c")]);
        let before = world.take(&first);
        let times = ["a.rs", "b.rs"].map(|file| world.written(file));
        let second = world.clone("second", &[("a.rs", "a"), ("b.rs", "changed"), ("new.rs", "n")]);
        assert_ne!(world.take(&second), before);
        assert_eq!(world.written("a.rs"), times[0], "a file with the same content keeps its time");
        assert!(world.written("b.rs") > times[1]);
        assert_eq!(fs::read_to_string(world.source().join("b.rs")).unwrap(), "changed");
        assert!(world.source().join("new.rs").exists() && !world.source().join("old").exists());
        assert_eq!(world.take(&first), before, "equal content has an equal name");
    }

    #[test]
    fn a_changed_copy_is_repaired() {
        let world = World::new();
        let clone = world.clone("clone", &[("a.rs", "a"), ("b.rs", "b"), (".gitignore", "built/\n")]);
        world.take(&clone);
        fs::write(world.source().join("a.rs"), "edited in the wrong folder").unwrap();
        fs::remove_file(world.source().join("b.rs")).unwrap();
        fs::write(world.source().join("left-over.rs"), "x").unwrap();
        fs::create_dir(world.source().join("built")).unwrap();
        fs::write(world.source().join("built/program"), "x").unwrap();
        world.take(&clone);
        assert_eq!(fs::read_to_string(world.source().join("a.rs")).unwrap(), "a");
        assert_eq!(fs::read_to_string(world.source().join("b.rs")).unwrap(), "b");
        assert!(!world.source().join("left-over.rs").exists());
        assert!(world.source().join("built/program").exists(), "what is ignored stays");
    }

    #[test]
    fn a_git_that_was_killed_leaves_nothing_in_the_way() {
        let world = World::new();
        let clone = world.clone("clone", &[("a.rs", "a")]);
        world.take(&clone);
        fs::write(world.folder.path().join("index.lock"), "").unwrap();
        fs::write(clone.join("a.rs"), "b").unwrap();
        world.take(&clone);
        assert_eq!(fs::read_to_string(world.source().join("a.rs")).unwrap(), "b");
    }

    #[test]
    fn a_clones_own_repository_stays_untouched() {
        let world = World::new();
        let clone = world.clone("clone", &[("a.rs", "a"), (".git/HEAD", "ref: refs/heads/x\n")]);
        world.take(&clone);
        let entries = fs::read_dir(clone.join(".git")).unwrap().count();
        assert_eq!(entries, 1);
        assert!(!world.source().join(".git").exists());
    }
}
