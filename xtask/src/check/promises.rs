//! Whether every test that a document names exists. A name in backticks that reads as a sentence, with four
//! underscores or more, is a test's: so a promise cannot outlive the test that proves it.

use crate::tools;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::path::Path;

pub(super) fn check() -> Result<()> {
    let root = tools::root();
    let mut named = Vec::new();
    let mut functions = BTreeSet::new();
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| path.display().to_string());
    for path in super::ours(&root, "rs")? {
        functions.extend(names_of_functions(&read(&path)?).map(str::to_owned));
    }
    for path in super::ours(&root, "md")? {
        let document = path.strip_prefix(&root).unwrap_or(&path).to_owned();
        named.extend(names_of_tests(&read(&path)?).map(|name| (document.clone(), name.to_owned())));
    }
    ensure!(!named.is_empty(), "no document below {} names a test", root.display());
    named.retain(|(_, name)| !functions.contains(name));
    let missing: Vec<_> = named.iter().map(|(file, name)| format!("{}: {name}", file.display())).collect();
    ensure!(missing.is_empty(), "these tests do not exist:\n     {}", missing.join("\n     "));
    Ok(())
}

fn names_of_functions(source: &str) -> impl Iterator<Item = &str> {
    source.lines().filter_map(|line| line.split_once("fn ")?.1.split(['(', '<']).next())
}

fn names_of_tests(document: &str) -> impl Iterator<Item = &str> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    document
        .split('`')
        .filter(move |text| text.chars().all(is_name) && text.bytes().filter(|b| *b == b'_').count() >= 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_in_backticks_is_a_test_and_other_names_are_not() {
        let text = "See `a_killed_process_comes_back`, `append_deadline`, `max_a_b_c d` and a_b_c_d_e.";
        assert_eq!(names_of_tests(text).collect::<Vec<_>>(), ["a_killed_process_comes_back"]);
    }

    #[test]
    fn a_test_is_found_however_it_is_written() {
        let source = "    async fn one_two() {\npub fn three<T>(x: T) {}\n// no function";
        assert_eq!(names_of_functions(source).collect::<Vec<_>>(), ["one_two", "three"]);
    }
}
