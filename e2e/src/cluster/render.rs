//! What the chart and the kustomizations give, as objects: rendered by the real programs, nothing is applied.

use crate::demo::{repository, run, xtask};
use anyhow::{Context, Result, ensure};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;
use tempfile::NamedTempFile;
use tokio::process::Command;

/// Kinds that are in no namespace.
const CLUSTER_WIDE: [&str; 4] =
    ["Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"];

/// Objects in the order in which they were rendered.
#[derive(Debug, Clone)]
pub struct Rendered(pub Vec<Value>);

impl Rendered {
    /// The chart with these values beside its own, as a release of this name and namespace. The error of values that
    /// are refused is what helm says.
    pub async fn chart(release: &str, namespace: &str, values: &Value) -> Result<Self> {
        let file = NamedTempFile::with_suffix(".json")?;
        std::fs::write(file.path(), values.to_string())?;
        let mut helm = program("ORDERSHOP_HELM", "helm");
        helm.args(["template", release]).arg(repository().join("charts/ordershop-operator"));
        helm.args(["--namespace", namespace, "--values"]).arg(file.path());
        Self::parse(&run(&mut helm).await?)
    }

    /// A kustomization below `deploy/`.
    pub async fn kustomization(folder: &str) -> Result<Self> {
        let mut kubectl = program("ORDERSHOP_KUBECTL", "kubectl");
        kubectl.arg("kustomize").arg(repository().join("deploy").join(folder));
        Self::parse(&run(&mut kubectl).await?)
    }

    /// The objects of a file of YAML documents.
    pub fn parse(text: &str) -> Result<Self> {
        let documents = serde_norway::Deserializer::from_str(text).map(Value::deserialize);
        let objects: Vec<Value> = documents.collect::<Result<_, _>>().context("what was rendered")?;
        Ok(Self(objects.into_iter().filter(|object| !object.is_null()).collect()))
    }

    /// Kind and name of each, `Deployment ordershop-operator`.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        self.0.iter().map(title).collect()
    }

    /// The one of this kind and name.
    pub fn get(&self, title: &str) -> Result<&Value> {
        let found = self.0.iter().find(|object| self::title(object) == title);
        found.with_context(|| format!("no {title} among {:?}", self.names()))
    }

    /// Asks the API server about each, as if it were applied: its schema, its defaults and its admission. Their
    /// namespaces need not be there: it is asked for the namespace `default`.
    pub async fn accepted(&self, client: &Client) -> Result<()> {
        for object in &self.0 {
            accepted(client, object).await.with_context(|| format!("{}: {object:#}", title(object)))?;
        }
        Ok(())
    }
}

/// Kind and name of an object.
fn title(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

async fn accepted(client: &Client, object: &Value) -> Result<()> {
    let mut object = object.clone();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, version) = match word(&object["apiVersion"]).split_once('/') {
        Some((group, version)) => (group.to_owned(), version.to_owned()),
        None => (String::new(), word(&object["apiVersion"])),
    };
    let kind = word(&object["kind"]);
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(&group, &version, &kind));
    let api: Api<DynamicObject> = if CLUSTER_WIDE.contains(&kind.as_str()) {
        Api::all_with(client.clone(), &resource)
    } else {
        object["metadata"]["namespace"] = "default".into();
        Api::namespaced_with(client.clone(), "default", &resource)
    };
    if kind == "Pod" {
        // The one kind whose admission looks for its account, which is in the release's namespace.
        object["spec"]["serviceAccountName"] = "default".into();
    }
    // A field that the API server does not know is as wrong as one it refuses.
    let how = PatchParams::apply("e2e").force().dry_run().validation_strict();
    let name = word(&object["metadata"]["name"]);
    let answer = api.patch(&name, &how, &Patch::Apply(&object)).await?;
    ensure!(answer.metadata.name.as_deref() == Some(&name), "the API server answered {answer:?}");
    Ok(())
}

/// A client program: the one that the variable names, else the cache's own.
pub(super) fn program(variable: &str, name: &str) -> Command {
    std::env::var_os(variable).map_or_else(
        || {
            let mut command = xtask();
            command.arg(name);
            command
        },
        Command::new,
    )
}
