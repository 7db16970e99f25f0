//! The pages with the last result of each test, written by the command itself: `docs/src/e2e.md`, a table between two
//! marks, and the last cells of the rows of `docs/src/operator.md`, whose promises name tests. Pure.

use super::outcome::{Outcome, Test};
use std::collections::BTreeMap;

const BEGIN: &str = "<!-- results: begin -->";
const END: &str = "<!-- results: end -->";
const HEAD: &str = "| test | seconds | result | date | commit |\n|---|---:|---|---|---|\n";

/// When and of what the results are.
#[derive(Debug, Clone)]
pub(super) struct Stamp {
    pub(super) date: String,
    /// The commit's short name; with a `+` where files were changed since.
    pub(super) commit: String,
}

/// The page with these results in it. What was not run this time keeps its row, unless `known` no longer has it.
///
/// `None` when the page has no place for them.
pub(super) fn fill(page: &str, ran: &[Test], known: &[String], stamp: &Stamp) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (old, after) = rest.split_once(END)?;
    let mut rows: BTreeMap<String, String> = old.lines().filter_map(row_of).collect();
    let known: Vec<&str> = known.iter().map(|test| short(test)).collect();
    rows.retain(|test, _| known.contains(&test.as_str()));
    for ran in ran {
        let result = match &ran.outcome {
            Outcome::Passed => "passed",
            Outcome::Failed => "**failed**",
            Outcome::LeftOut(_) => continue,
        };
        let test = name_of(ran);
        let row = format!("| `{test}` | {:.1} | {result} | {} | {} |", ran.seconds, stamp.date, stamp.commit);
        rows.insert(test, row);
    }
    // In the order of the programs' names.
    let table: String = known.iter().filter_map(|test| rows.get(*test)).flat_map(|row| [row, "\n"]).collect();
    Some(format!("{before}{BEGIN}\n{HEAD}{table}{END}{after}"))
}

/// The page with the last cell of each table's row that names tests of this run in backticks: how they ended.
///
/// A row of which only some tests ran says what it said before.
pub(super) fn mark(page: &str, ran: &[Test], known: &[String], stamp: &Stamp) -> String {
    let marked = |line: &str| mark_row(line, ran, known, stamp).unwrap_or_else(|| line.to_owned()) + "\n";
    page.lines().map(marked).collect()
}

fn mark_row(line: &str, ran: &[Test], known: &[String], stamp: &Stamp) -> Option<String> {
    let (row, _) = line.strip_prefix('|')?.strip_suffix('|')?.rsplit_once('|')?;
    // Every second part of what backticks divide stands between two of them.
    let in_backticks = row.split('`').skip(1).step_by(2);
    let name = |test: &str| test.rsplit("::").next().unwrap_or_default().to_owned();
    let tests: Vec<&str> = in_backticks.filter(|text| known.iter().any(|test| name(test) == *text)).collect();
    let outcome = |test: &&str| {
        let ran = ran.iter().find(|ran| ran.name == **test)?;
        (!matches!(ran.outcome, Outcome::LeftOut(_))).then_some(&ran.outcome)
    };
    let outcomes: Option<Vec<&Outcome>> = tests.iter().map(outcome).collect();
    let outcomes = outcomes.filter(|outcomes| !outcomes.is_empty())?;
    let failed = outcomes.iter().any(|outcome| **outcome == Outcome::Failed);
    let result = if failed { "**failed**" } else { "passed" };
    Some(format!("|{row}| {result}, {}, {} |", stamp.date, stamp.commit))
}

/// A test as the page names it: all of its programs are those of `e2e`.
fn short(test: &str) -> &str {
    test.strip_prefix("e2e::").unwrap_or(test)
}

fn name_of(test: &Test) -> String {
    short(&test.to_string()).to_owned()
}

/// A row of the table with the test that it is about.
fn row_of(line: &str) -> Option<(String, String)> {
    let test = line.strip_prefix("| `")?.split_once('`')?.0;
    Some((test.to_owned(), line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(name: &str, outcome: Outcome) -> Test {
        Test { program: "e2e::cluster".to_owned(), name: name.to_owned(), outcome, seconds: 1.25 }
    }

    #[test]
    fn new_results_replace_old_ones_and_those_of_tests_that_are_gone_go() {
        let known = ["e2e::cluster::b", "e2e::cluster::a", "e2e::cluster::long"].map(str::to_owned);
        let page = format!(
            "text\n{BEGIN}\n{HEAD}| `cluster::a` | 9.0 | passed | d0 | c0 |\n| `cluster::gone` | 1.0 | passed | d0 | c0 |\n\
             | `cluster::b` | 9.0 | passed | d0 | c0 |\n{END}\nmore\n"
        );
        let stamp = Stamp { date: "d1".to_owned(), commit: "c1".to_owned() };
        let results = [ran("a", Outcome::Failed), ran("long", Outcome::LeftOut("long".to_owned()))];
        let expected = format!(
            "text\n{BEGIN}\n{HEAD}| `cluster::b` | 9.0 | passed | d0 | c0 |\n| `cluster::a` | 1.2 | **failed** | d1 | c1 |\n{END}\nmore\n"
        );
        assert_eq!(fill(&page, &results, &known, &stamp).unwrap(), expected);
    }

    #[test]
    fn a_promise_has_the_result_of_its_tests_when_all_of_them_ran() {
        let known = ["e2e::cluster::a", "e2e::cluster::b", "e2e::cluster::c"].map(str::to_owned);
        let stamp = Stamp { date: "d1".to_owned(), commit: "c1".to_owned() };
        let results = [ran("a", Outcome::Passed), ran("b", Outcome::Failed)];
        let page = "| one | `a`, by `make` | old |\n| two | `a`, `b` | |\n| three | `a`, `c` | old |\n| four | `unit` | x |\ntext `a`\n";
        let expected = "| one | `a`, by `make` | passed, d1, c1 |\n| two | `a`, `b` | **failed**, d1, c1 |\n\
            | three | `a`, `c` | old |\n| four | `unit` | x |\ntext `a`\n";
        assert_eq!(mark(page, &results, &known, &stamp), expected);
    }

    #[test]
    fn a_page_without_a_place_is_left_alone() {
        let stamp = Stamp { date: String::new(), commit: String::new() };
        assert_eq!(fill("text", &[], &[], &stamp), None);
    }
}
