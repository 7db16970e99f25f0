//! Builds every clone from one fixed folder of the cache.
//!
//! Cargo identifies a package by its folder and decides by the modification time of its files what must be compiled.
//! A fresh clone in another folder would therefore compile the whole workspace again. `cargo xtask` is this small
//! program: it copies the clone's files by content into a [`slot`] of the cache, so that unchanged files keep their
//! time, builds `xtask` there and becomes it.
//!
//! | module | what it holds |
//! |---|---|
//! | [`cache`] | the folder of everything that is fetched or built |
//! | [`sources`] | a clone's files by content, in git's form |
//! | [`slot`] | a folder to build in, and the lock that keeps its sources as they are |

pub mod cache;
pub mod slot;
pub mod sources;

use std::io;
use std::path::Path;
use std::process::Command;

/// An error of the file system with the path that it is about.
fn at(path: &Path) -> impl Fn(io::Error) -> io::Error + '_ {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Takes from a command's environment what cargo and test runners tell a program about its own package. Build scripts that
/// watch those variables would run again for every caller, and half of all dependencies would be compiled after them.
pub fn without_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let begins = |prefix: &str| name.to_str().is_some_and(|name| name.starts_with(prefix));
        if begins("CARGO_PKG_") || begins("CARGO_MANIFEST_") || name == "CARGO_TARGET_DIR" {
            command.env_remove(&name);
        }
    }
}
