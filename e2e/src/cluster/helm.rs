//! helm, as a user runs it: the release of the operator that every other test relies on, and others beside it.

use super::render::program;
use crate::demo::{repository, run};
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Where `make up` and the chart's documentation put the operator.
pub const OPERATOR_NAMESPACE: &str = "ordershop-system";
/// The release's name.
pub const RELEASE: &str = "ordershop-operator";

/// A release of the operator, with the values it was or will be installed with.
pub struct Release {
    name: String,
    namespace: String,
    values: NamedTempFile,
}

impl Release {
    /// The release that is there.
    pub async fn find() -> Result<Self> {
        let text = helm(OPERATOR_NAMESPACE, &["get", "values", RELEASE, "--output", "json"]).await;
        let text = text.context("the operator must be installed by helm (`make up` does it)")?;
        Self::new(RELEASE, OPERATOR_NAMESPACE, &serde_json::from_str(&text)?)
    }

    /// One of another name, not installed yet.
    pub fn new(name: &str, namespace: &str, values: &Value) -> Result<Self> {
        let file = NamedTempFile::with_suffix(".json")?;
        std::fs::write(file.path(), values.to_string())?;
        Ok(Self { name: name.to_owned(), namespace: namespace.to_owned(), values: file })
    }

    /// The values it is installed with.
    pub fn values(&self) -> Result<Value> {
        Ok(serde_json::from_str(&std::fs::read_to_string(self.values.path())?)?)
    }

    /// Installs it, or upgrades it with a further setting; ready when this returns.
    pub async fn install(&self, further: &[&str]) -> Result<()> {
        let (chart, values) = (chart().display().to_string(), self.values.path().display().to_string());
        let command = ["upgrade", "--install", &self.name, &chart, "--values", &values];
        let wait = ["--create-namespace", "--wait", "--timeout", "180s"];
        self.helm(&[command.as_slice(), wait.as_slice(), further].concat()).await.map(drop)
    }

    /// What `helm test` says when it succeeds.
    pub async fn test(&self) -> Result<String> {
        self.helm(&["test", &self.name, "--timeout", "120s", "--logs"]).await
    }

    /// Goes back to the revision before the last one.
    pub async fn rollback(&self) -> Result<()> {
        self.helm(&["rollback", &self.name, "--wait", "--timeout", "180s"]).await.map(drop)
    }

    /// Takes the operator away.
    pub async fn uninstall(&self) -> Result<()> {
        self.helm(&["uninstall", &self.name, "--wait", "--timeout", "180s"]).await.map(drop)
    }

    /// The number of revisions that helm knows of.
    pub async fn revisions(&self) -> Result<usize> {
        let history = self.helm(&["history", &self.name, "--output", "json"]).await?;
        Ok(serde_json::from_str::<Vec<Value>>(&history)?.len())
    }

    async fn helm(&self, args: &[&str]) -> Result<String> {
        helm(&self.namespace, args).await
    }
}

/// Makes the archive that a registry takes, and judges the chart as strictly as helm can.
pub async fn package(folder: &Path) -> Result<String> {
    let chart = chart().display().to_string();
    helm("default", &["lint", "--strict", &chart]).await?;
    helm("default", &["package", &chart, "--destination", &folder.display().to_string()]).await
}

async fn helm(namespace: &str, args: &[&str]) -> Result<String> {
    run(program("ORDERSHOP_HELM", "helm").args(args).args(["--namespace", namespace])).await
}

fn chart() -> PathBuf {
    repository().join("charts/ordershop-operator")
}
