//! helm, as a user runs it: the release of the operator that every other test relies on.

use crate::demo::{repository, run, xtask};
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::PathBuf;
use tempfile::NamedTempFile;
use tokio::process::Command;

/// Where `make up` and the chart's documentation put the operator.
pub const OPERATOR_NAMESPACE: &str = "ordershop-system";
/// The release's name.
pub const RELEASE: &str = "ordershop-operator";

/// The operator's release with the values it was installed with.
pub struct Release {
    values: NamedTempFile,
}

impl Release {
    /// The release that is there.
    pub async fn find() -> Result<Self> {
        let text = helm(&["get", "values", RELEASE, "--output", "json"]).await;
        let text = text.context("the operator must be installed by helm (`make up` does it)")?;
        let values: Value = serde_json::from_str(&text)?;
        let file = NamedTempFile::with_suffix(".json")?;
        std::fs::write(file.path(), values.to_string())?;
        Ok(Self { values: file })
    }

    /// Installs it, or upgrades it with a further setting; ready when this returns.
    pub async fn install(&self, further: &[&str]) -> Result<()> {
        let (chart, values) = (chart().display().to_string(), self.values.path().display().to_string());
        let command = ["upgrade", "--install", RELEASE, &chart, "--values", &values];
        let wait = ["--create-namespace", "--wait", "--timeout", "180s"];
        helm(&[command.as_slice(), wait.as_slice(), further].concat()).await.map(drop)
    }

    /// Takes the operator away.
    pub async fn uninstall(&self) -> Result<()> {
        helm(&["uninstall", RELEASE, "--wait", "--timeout", "180s"]).await.map(drop)
    }
}

/// The number of revisions that helm knows of.
pub async fn revisions() -> Result<usize> {
    let history: Vec<Value> = serde_json::from_str(&helm(&["history", RELEASE, "--output", "json"]).await?)?;
    Ok(history.len())
}

async fn helm(args: &[&str]) -> Result<String> {
    let mut command = std::env::var_os("ORDERSHOP_HELM").map_or_else(
        || {
            let mut command = xtask();
            command.arg("helm");
            command
        },
        Command::new,
    );
    run(command.args(args).args(["--namespace", OPERATOR_NAMESPACE])).await
}

fn chart() -> PathBuf {
    repository().join("charts/ordershop-operator")
}
