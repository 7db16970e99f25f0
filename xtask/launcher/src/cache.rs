//! The folder of everything that is fetched or built. Only names it; writes nothing.

use std::env::var_os;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf, absolute};

/// `$ORDERSHOP_CACHE`, else `ordershop` in the user's cache folder.
///
/// # Errors
/// When no variable names a folder, or a relative one in a current folder that is gone.
pub fn dir() -> io::Result<PathBuf> {
    let set = |name: &str| var_os(name).filter(|value| !value.is_empty());
    chosen(set("ORDERSHOP_CACHE"), set("XDG_CACHE_HOME"), set("HOME"))
        .ok_or_else(|| io::Error::other("neither ORDERSHOP_CACHE nor HOME is set: set one"))
        .and_then(absolute)
}

fn chosen(ours: Option<OsString>, caches: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    if let Some(folder) = ours {
        return Some(folder.into());
    }
    let caches = caches.map(PathBuf::from).or_else(|| Some(Path::new(&home?).join(".cache")));
    caches.map(|folder| folder.join("ordershop"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_variable_names_the_folder() {
        let path = |text: &str| Some(PathBuf::from(text));
        let [ours, caches, home] = ["/o", "/c", "/h"].map(|text| Some(OsString::from(text)));
        assert_eq!(chosen(ours, caches.clone(), home.clone()), path("/o"));
        assert_eq!(chosen(None, caches.clone(), home.clone()), path("/c/ordershop"));
        assert_eq!(chosen(None, caches, None), path("/c/ordershop"));
        assert_eq!(chosen(None, None, home), path("/h/.cache/ordershop"));
        assert_eq!(chosen(None, None, None), None);
    }
}
