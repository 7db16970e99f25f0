//! Debian packages: installed by root, named for everybody else.

use super::command::{Run, found, is_root};
use crate::step::step;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Installs those of the packages that are missing. Without root or apt the error names them.
pub(crate) fn ensure_debian(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !found("apt-get") {
        bail!("needed here, as Debian calls them: {list}. Install them by this system's package manager");
    }
    if !is_root() {
        bail!("these Debian packages are needed: install them by `sudo apt-get install {list}`");
    }
    step(&format!("Debian packages: {list}"), || {
        if apt(&["install"], &missing).run().is_ok() {
            return Ok(());
        }
        // The usual reason is a machine whose package lists are absent or old.
        apt(&["update"], &[]).run()?;
        apt(&["install"], &missing).run()
    })
}

fn apt(verb: &[&str], packages: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["-qy", "-o", "DPkg::Lock::Timeout=300", "-o", "APT::Install-Recommends=false"])
        .args(verb)
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f", "${db:Status-Status}", package]);
    query.output().is_ok_and(|answer| answer.stdout == b"installed")
}

/// This machine's Debian: its code name and the files that hold its own package sources.
pub(crate) struct Release {
    pub(crate) suite: String,
    pub(crate) sources: Vec<PathBuf>,
}

impl Release {
    /// For the assembly scripts: SUITE and SOURCES.
    pub(crate) fn set_env(&self, command: &mut Command) {
        let sources: Vec<String> = self.sources.iter().map(|path| path.display().to_string()).collect();
        command.env("SUITE", &self.suite).env("SOURCES", sources.join(" "));
    }

    /// Another release from the same mirrors: this one's source files, rewritten into `folder`.
    pub(crate) fn of(&self, suite: &str, folder: &Path) -> Result<Self> {
        let rewrite = |source: &PathBuf| -> Result<PathBuf> {
            let text = std::fs::read_to_string(source)?;
            let file = folder.join(source.file_name().context("a source file has a name")?);
            std::fs::write(&file, with_suite(&text, &self.suite, suite))?;
            Ok(file)
        };
        let sources = self.sources.iter().map(rewrite).collect::<Result<_>>()?;
        Ok(Self { suite: suite.to_owned(), sources })
    }
}

/// `bookworm`, `bookworm-updates` and `bookworm/updates` as words; names of files and hosts stay.
fn with_suite(text: &str, from: &str, to: &str) -> String {
    let word = |word: &str| match word.trim_end().strip_prefix(from) {
        Some("") => word.replacen(from, to, 1),
        Some(rest) if rest.starts_with(['-', '/']) => word.replacen(from, to, 1),
        _ => word.to_owned(),
    };
    text.split_inclusive(char::is_whitespace).map(word).collect()
}

/// Finds out; an error on any other system, since what is assembled consists of Debian's packages.
pub(crate) fn release() -> Result<Release> {
    let text = std::fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let field = |key: &str| {
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(|v| v.trim_matches('"'))
    };
    let (Some("debian"), Some(suite)) = (field("ID"), field("VERSION_CODENAME")) else {
        bail!(
            "no image registry answers, and assembling images needs Debian, as root. Either give this machine \
             access to an image registry, or run this on Debian"
        );
    };
    let sources = sources(suite, Path::new("/etc/apt"));
    if sources.is_empty() {
        bail!("no package sources for Debian {suite} in /etc/apt/sources.list or /etc/apt/sources.list.d");
    }
    Ok(Release { suite: suite.to_owned(), sources })
}

/// The source files that speak of this suite and of Debian's main component; other vendors' are left out.
fn sources(suite: &str, apt: &Path) -> Vec<PathBuf> {
    let mut files = vec![apt.join("sources.list")];
    if let Ok(entries) = std::fs::read_dir(apt.join("sources.list.d")) {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    files.retain(|file| std::fs::read_to_string(file).is_ok_and(|text| speaks_of_debian(&text, suite)));
    files.sort();
    files
}

fn speaks_of_debian(text: &str, suite: &str) -> bool {
    let words: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(str::split_whitespace)
        .collect();
    words.contains(&suite) && words.contains(&"main")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_machines_own_debian_sources_are_taken() {
        let own = "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\n";
        assert!(speaks_of_debian(own, "bookworm"));
        assert!(speaks_of_debian("deb http://mirror.example/debian bookworm main", "bookworm"));
        assert!(!speaks_of_debian("# deb http://mirror.example/debian bookworm main", "bookworm"));
        assert!(!speaks_of_debian("deb http://other.example/apt vendor-bookworm main", "bookworm"));
        assert!(!speaks_of_debian("deb http://other.example/apt bookworm stable", "bookworm"));
    }

    #[test]
    fn another_release_comes_from_the_same_mirrors() {
        let own = "URIs: http://mirror.example/bookworm-debian\nSuites: bookworm bookworm-updates\nSigned-By: /keys/bookworm.gpg\n";
        assert_eq!(
            with_suite(own, "bookworm", "trixie"),
            "URIs: http://mirror.example/bookworm-debian\nSuites: trixie trixie-updates\nSigned-By: /keys/bookworm.gpg\n"
        );
    }
}
