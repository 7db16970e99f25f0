//! What the chart's alerts and its dashboard ask for is what the operator shows.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, path::Path, time::Duration};

use ordershop_operator::metrics::{ApplyResult, Metrics, ReconcileOutcome};

/// All names of the operator's metrics in a text, whatever it is.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("ordershop_operator_")).map(str::to_owned).collect()
}

#[test]
fn every_metric_that_the_alerts_and_the_dashboard_ask_the_operator_for_is_there() {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/ordershop-operator/files");
    let read = |file: &str| std::fs::read_to_string(files.join(file)).unwrap();
    let asked: BTreeSet<String> =
        ["alerts.yaml", "dashboard.json"].iter().flat_map(|file| names(&read(file))).collect();
    assert!(asked.len() > 5, "{asked:?}");

    let metrics = Metrics::default();
    metrics.reconciled(ReconcileOutcome::Success, Duration::from_millis(1));
    metrics.failed("ApplyRefused");
    metrics.requested("get", "deployments");
    metrics.applied("Deployment", ApplyResult::Created);
    let text = metrics.text().unwrap();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let shown: BTreeSet<String> =
        samples.flat_map(|line| names(line.split(['{', ' ']).next().unwrap())).collect();
    let missing: Vec<_> = asked.difference(&shown).collect();
    assert!(missing.is_empty(), "{missing:?} are not in {text}");
}
