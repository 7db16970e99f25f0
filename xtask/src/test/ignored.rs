//! Which tests a plain run may leave out: those that carry `#[ignore = "full: why"]`. The reasons are read from the
//! sources, since a test runner does not report them.

use crate::check::ours;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// How the reason of a test begins that is too long for a plain run.
const FULL: &str = "full: ";

/// The reason of each ignored test by the name of its function; `None` where it gives none that counts.
pub(super) fn reasons(root: &Path) -> Result<BTreeMap<String, Option<String>>> {
    let mut found = BTreeMap::new();
    for path in ours(root, "rs")? {
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        found.extend(in_source(&text));
    }
    Ok(found)
}

fn in_source(text: &str) -> Vec<(String, Option<String>)> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let name = |line: &str| Some(line.split_once("fn ")?.1.split(['(', '<']).next()?.to_owned());
    let ignored = |(number, line): (usize, &&str)| {
        let rest = line.strip_prefix("#[ignore")?;
        let reason = rest.split('"').nth(1).and_then(|reason| reason.strip_prefix(FULL));
        Some((lines[number..].iter().find_map(|line| name(line))?, reason.map(str::to_owned)))
    };
    lines.iter().enumerate().filter_map(ignored).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_test_that_is_too_long_may_be_left_out_and_says_why() {
        let source = "#[tokio::test]\n#[ignore = \"full: five minutes\"]\nasync fn long() {}\n\
            #[test]\n#[ignore = \"does not work\"]\nfn broken() {}\n#[test]\n#[ignore]\nfn silent() {}\n";
        let expected = [("long", Some("five minutes")), ("broken", None), ("silent", None)];
        assert_eq!(in_source(source), expected.map(|(name, why)| (name.to_owned(), why.map(str::to_owned))));
    }
}
