//! What the kustomizations have in common with the chart. Neither may read outside its own folder, so the chart's files
//! are the sources, and the copies are written from them.

use crate::tools;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// From where in the chart to where below `deploy/`, and what becomes of the text on its way.
type Copy = (&'static str, &'static str, fn(&str) -> String);

const COPIES: [Copy; 2] = [
    ("files/alerts.yaml", "components/monitoring/alerts.yaml", prometheus_rule),
    ("files/dashboard.json", "components/monitoring/ordershop.json", str::to_owned),
];

/// Writes every copy again; which these are.
pub(super) fn write() -> Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for (file, text) in current()? {
        let file = tools::clone().join(file);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        written.push(file);
    }
    Ok(written)
}

/// Every copy says what its source says.
pub(super) fn check() -> Result<()> {
    for (file, text) in current()? {
        let path = tools::root().join(&file);
        let is = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(is == text, "{} is old: run `cargo xtask generate`", file.display());
    }
    Ok(())
}

/// The path of each copy in the workspace, with its text.
fn current() -> Result<Vec<(PathBuf, String)>> {
    let root = tools::root();
    let copied = |(from, to, change): &Copy| {
        let from = root.join("charts/ordershop-operator").join(from);
        let text = fs::read_to_string(&from).with_context(|| format!("cannot read {}", from.display()))?;
        Ok((Path::new("deploy").join(to), change(&text)))
    };
    COPIES.iter().map(copied).collect()
}

/// Prometheus' own file as the object of its operator.
fn prometheus_rule(alerts: &str) -> String {
    let head = "# Written by `cargo xtask generate` from the chart's files/alerts.yaml.\n\
                apiVersion: monitoring.coreos.com/v1\n\
                kind: PrometheusRule\n\
                metadata:\n  name: ordershop-operator\n  namespace: ordershop-system\n\
                spec:\n";
    let groups = alerts.lines().skip_while(|line| line.starts_with('#'));
    let indented = groups.map(|line| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") });
    head.to_owned() + &indented.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alerts_stand_below_the_rules_spec() {
        let rule = prometheus_rule("# About.\ngroups:\n  - name: a\n");
        assert!(rule.ends_with("\nspec:\n  groups:\n    - name: a\n"), "{rule}");
    }
}
