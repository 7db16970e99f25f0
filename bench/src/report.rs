//! The table of results: minimum, median and maximum of each side and of their ratio. Never decides
//! whether a program is right, only says whether a bar is met.

use std::fmt;

/// What a ratio must reach, or may not exceed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bar {
    AtLeast(f64),
    AtMost(f64),
    /// Within this share of 1.
    Within(f64),
    /// Ours minus raw, in the unit of the row, at most this.
    Over(f64),
}

/// Some measured values.
#[derive(Clone, Debug)]
pub(crate) struct Values(Vec<f64>);

impl Values {
    pub(crate) fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The value below which this share of the values lies; 0.5 for the median.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index into at most some thousands of values"
        )]
        let index = ((self.0.len().saturating_sub(1)) as f64 * share).round() as usize;
        self.0.get(index).copied().unwrap_or(f64::NAN)
    }

    fn text(&self) -> String {
        let [low, middle, high] = [0.0, 0.5, 1.0].map(|share| number(self.quantile(share)));
        format!("{low} / **{middle}** / {high}")
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

struct Row {
    what: String,
    unit: &'static str,
    ours: Values,
    raw: Values,
    compared: Values,
    bar: Bar,
}

impl Row {
    fn is_met(&self) -> bool {
        let median = self.compared.quantile(0.5);
        match self.bar {
            Bar::AtLeast(bar) => median >= bar,
            Bar::AtMost(bar) | Bar::Over(bar) => median <= bar,
            Bar::Within(share) => (median - 1.0).abs() <= share,
        }
    }

    fn bar(&self) -> String {
        match self.bar {
            Bar::AtLeast(bar) => format!("≥ {bar}"),
            Bar::AtMost(bar) => format!("≤ {bar}"),
            Bar::Within(share) => format!("1 ± {share}"),
            Bar::Over(bar) => format!("≤ {bar} {} more", self.unit),
        }
    }
}

/// All rows so far.
#[derive(Default)]
pub(crate) struct Report(Vec<Row>);

impl Report {
    /// Adds a row of pairs (ours, raw) that were measured in turn.
    pub(crate) fn add(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        pairs: &[(f64, f64)],
        bar: Bar,
    ) {
        let compare = |(ours, raw): &(f64, f64)| match bar {
            Bar::Over(_) => ours - raw,
            _ => ours / raw,
        };
        let row = Row {
            what: what.into(),
            unit,
            ours: Values::new(pairs.iter().map(|p| p.0).collect()),
            raw: Values::new(pairs.iter().map(|p| p.1).collect()),
            compared: Values::new(pairs.iter().map(compare).collect()),
            bar,
        };
        eprintln!(
            "{}: {} against {} {}: {} ({}, {})",
            row.what,
            row.ours.text(),
            row.raw.text(),
            row.unit,
            row.compared.text(),
            row.bar(),
            if row.is_met() { "met" } else { "missed" }
        );
        self.0.push(row);
    }

    /// The page of the documentation.
    pub(crate) fn page(&self, rounds: u32, shrink: u64) -> String {
        let cut = if shrink == 1 { String::new() } else { format!(", events divided by {shrink}") };
        format!(
            "# Numbers\n\nMade by `make bench`: {rounds} rounds of each side in turn, on one machine, in one run{cut}.\n\
             Each cell is minimum / **median** / maximum; what is compared is the median of the rounds' ratios.\n\
             Absolute figures are those of two shared cores on which Redis runs, too; it rewrites no append-only file\n\
             meanwhile.\n\n{self}"
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | unit | event store | raw commands | compared | bar | |")?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        for row in &self.0 {
            let verdict = if row.is_met() { "met" } else { "**missed**" };
            writeln!(
                f,
                "| {} | {} | {} | {} | {} | {} | {verdict} |",
                row.what,
                row.unit,
                row.ours.text(),
                row.raw.text(),
                row.compared.text(),
                row.bar()
            )?;
        }
        Ok(())
    }
}
