//! The alerts: Prometheus' own promtool reads them and runs their tests, which say when each fires and when not.
//!
//! promtool comes from `PATH` or from Debian's package. Where it cannot be had the check fails: it is never left out.

use crate::tools::{self, Run};
use anyhow::{Context, Result};
use std::process::Command;

const ALERTS: &str = "charts/ordershop-operator/files/alerts.yaml";
const TESTS: &str = "deploy/monitoring/alerts.test.yaml";

pub(super) fn check() -> Result<()> {
    let promtool = tools::debian_program("prometheus", "promtool").context("the alerts cannot be checked")?;
    for (verb, file) in [("check", ALERTS), ("test", TESTS)] {
        Command::new(&promtool).current_dir(tools::root()).args([verb, "rules", file]).run()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;

    fn read(path: &str) -> String {
        std::fs::read_to_string(tools::root().join(path)).unwrap()
    }

    fn alerts() -> Vec<Value> {
        let file: Value = serde_norway::from_str(&read(ALERTS)).unwrap();
        let groups = file["groups"].as_array().unwrap();
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }

    #[test]
    fn every_alert_has_a_test_and_can_be_changed_by_a_value() {
        let schema: Value =
            serde_json::from_str(&read("charts/ordershop-operator/values.schema.json")).unwrap();
        let overrides = &schema["properties"]["monitoring"]["properties"]["rules"]["properties"]["overrides"];
        let names = |values: &Value| -> BTreeSet<String> {
            values.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
        };
        let alerts: BTreeSet<String> =
            alerts().iter().map(|alert| alert["alert"].as_str().unwrap().to_owned()).collect();
        assert_eq!(names(&overrides["propertyNames"]["enum"]), alerts);
        let tests = read(TESTS);
        for alert in alerts {
            assert!(tests.contains(&alert), "{alert} has no test");
        }
    }

    #[test]
    fn the_runbook_has_a_section_for_every_alert_and_none_of_one_that_is_gone() {
        let runbook = read("docs/src/on-call.md");
        let sections: BTreeSet<&str> = runbook.lines().filter_map(|line| line.strip_prefix("### ")).collect();
        let alerts = alerts();
        let alerts: BTreeSet<&str> = alerts.iter().map(|alert| alert["alert"].as_str().unwrap()).collect();
        assert_eq!(sections, alerts);
    }

    #[test]
    fn every_alert_says_how_bad_it_is_and_what_to_do() {
        for alert in alerts() {
            assert!(
                ["critical", "warning"].contains(&alert["labels"]["severity"].as_str().unwrap()),
                "{alert}"
            );
            assert!(alert["for"].is_string(), "{alert}");
            for text in ["summary", "description"] {
                assert!(
                    alert["annotations"][text].as_str().is_some_and(|text| text.ends_with('.')),
                    "{alert}"
                );
            }
        }
    }
}
