//! Where the time of a run went: its parts, its slowest tests, what was compiled, and how long the cores waited.

use super::outcome::{Counts, Outcome, Section, Test};
use crate::build::Compiled;
use anyhow::{Context, Result};
use std::fmt::Write;
use std::time::Instant;

/// So many of the slowest tests are named.
const SLOWEST: usize = 10;

/// A moment, and how long all cores had been idle and at work until then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    at: Instant,
    /// Both in the kernel's ticks.
    idle: u64,
    busy: u64,
}

impl Moment {
    pub(super) fn now() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
        let (idle, busy) = ticks(&text).context("/proc/stat has no line on all cores")?;
        Ok(Self { at: Instant::now(), idle, busy })
    }

    /// Seconds since another moment, and the part of it in which the cores waited, in percent.
    fn since(&self, earlier: &Self) -> (f64, u64) {
        // The kernel may take back a little of what it counted as idle.
        let (idle, busy) = (self.idle.saturating_sub(earlier.idle), self.busy.saturating_sub(earlier.busy));
        ((self.at - earlier.at).as_secs_f64(), (idle * 100).checked_div(idle + busy).unwrap_or(0))
    }
}

/// The first line of `/proc/stat`: idle ticks, those of waiting for a disk among them, and all others.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    // user nice system idle iowait irq softirq steal; what follows is contained in the first two.
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((idle, ticks.iter().sum::<u64>() - idle))
}

/// All there is to say at the end of a run.
pub(super) fn text(sections: &[Section], compiled: &[Compiled], moments: &[(&str, Moment)]) -> String {
    let mut text = String::new();
    for section in sections {
        let Section { title, seconds, .. } = section;
        let counts = section.counts();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{title:<38} {counts:<26} {seconds:>5.0} s");
    }
    left_out(&mut text, sections);
    slowest(&mut text, sections);
    text.push_str(&compiled_text(compiled));
    for pair in moments.windows(2) {
        let (seconds, waiting) = pair[1].1.since(&pair[0].1);
        let _ = writeln!(text, "{:<38} {seconds:>5.0} s, cores waiting {waiting} %", pair[0].0);
    }
    if let [(_, begin), _, .., (_, end)] = moments {
        let (seconds, waiting) = end.since(begin);
        let _ = writeln!(text, "{:<38} {seconds:>5.0} s, cores waiting {waiting} %", "all");
    }
    text
}

fn compiled_text(compiled: &[Compiled]) -> String {
    let ours: Vec<&str> =
        compiled.iter().filter(|it| it.is_ours).map(|compiled| compiled.name.as_str()).collect();
    let list = if ours.is_empty() { "none".to_owned() } else { ours.join(", ") };
    let others = compiled.len() - ours.len();
    format!("\ncompiled: {others} of other projects, {} of the workspace: {list}\n\n", ours.len())
}

/// The counts of all parts.
pub(super) fn total(sections: &[Section]) -> Counts {
    let mut total = Counts::default();
    for section in sections {
        total += section.counts();
    }
    total
}

fn left_out(text: &mut String, sections: &[Section]) {
    let tests = sections.iter().flat_map(|section| &section.tests);
    let left_out: Vec<String> = tests
        .filter_map(|test| match &test.outcome {
            Outcome::LeftOut(why) => Some(format!("  {test} ({why})\n")),
            _ => None,
        })
        .collect();
    if !left_out.is_empty() {
        let _ = writeln!(
            text,
            "\n{} tests were left out (`make test FULL=1` runs the long ones):",
            left_out.len()
        );
        text.push_str(&left_out.concat());
    }
}

fn slowest(text: &mut String, sections: &[Section]) {
    let mut all: Vec<(&Section, &Test)> =
        sections.iter().flat_map(|section| section.tests.iter().map(move |test| (section, test))).collect();
    all.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
    if !all.is_empty() {
        let _ = writeln!(text, "\nthe slowest tests:");
    }
    for (section, test) in all.into_iter().take(SLOWEST) {
        let _ = writeln!(text, "  {:>6.1} s  {test} ({})", test.seconds, section.title);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(title: &str, tests: Vec<Test>) -> Section {
        Section { title: title.to_owned(), seconds: 12.0, tests, others: Counts::default() }
    }

    fn test(name: &str, outcome: Outcome, seconds: f64) -> Test {
        Test { program: "p".to_owned(), name: name.to_owned(), outcome, seconds }
    }

    #[test]
    fn the_summary_names_parts_slow_tests_and_what_was_left_out() {
        let quick = (0..SLOWEST).map(|n| test(&format!("quick{n}"), Outcome::Passed, 1.0));
        let mut tests: Vec<Test> = quick.collect();
        tests.push(test("quickest", Outcome::Passed, 0.1));
        tests.push(test("slow", Outcome::Failed, 61.0));
        tests.push(test("long", Outcome::LeftOut("ten minutes".to_owned()), 0.0));
        let sections = [section("unit", tests)];
        let compiled = [("domain (lib, test)", true), ("serde (lib, test)", false)];
        let compiled = compiled.map(|(name, is_ours)| Compiled { name: name.to_owned(), is_ours });
        let text = text(&sections, &compiled, &[]);
        assert!(text.contains("11 passed, 1 failed") && text.contains("12 s"), "{text}");
        assert!(text.contains("61.0 s  p::slow (unit)") && !text.contains("quickest"), "{text}");
        assert!(text.contains("p::long (ten minutes)") && text.contains("FULL=1"), "{text}");
        assert!(text.contains("1 of other projects, 1 of the workspace: domain (lib, test)\n"), "{text}");
        assert_eq!(total(&sections), Counts { passed: 11, failed: 1 });
    }

    #[test]
    fn waiting_is_what_all_cores_were_idle() {
        let stat = "cpu  10 0 20 60 10 0 0 0 5 5\ncpu0 1 1 1 1 1\n";
        assert_eq!(ticks(stat), Some((70, 30)));
        let at = Instant::now();
        let (_, waiting) = Moment { at, idle: 140, busy: 60 }.since(&Moment { at, idle: 70, busy: 30 });
        assert_eq!(waiting, 70);
        assert_eq!(ticks("intr 1 2 3"), None);
    }
}
