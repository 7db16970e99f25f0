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

/// An error of the file system with the path that it is about.
fn at(path: &Path) -> impl Fn(io::Error) -> io::Error + '_ {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
