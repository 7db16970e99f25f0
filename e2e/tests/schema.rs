//! What the API server makes of the schema's rules, in dry runs: the same cases that the operator's unit tests
//! evaluate by themselves, and the shops of every release.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail, ensure};
use e2e::cluster::{Namespace, client, order_shops};
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Case {
    message: String,
    before: Option<Written>,
    accepted: Written,
    refused: Written,
}

#[derive(Deserialize)]
struct Written {
    name: Option<String>,
    #[serde(default)]
    spec: Option<Value>,
}

impl Written {
    fn spec(&self) -> Value {
        self.spec.clone().unwrap_or_else(|| json!({}))
    }
}

fn testdata(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../operator/testdata").join(path)
}

/// Applies a shop with this spec. What an earlier one had and this has not is gone, as in a file that is applied
/// again.
async fn apply(shops: &Api<DynamicObject>, name: &str, spec: &Value, dry_run: bool) -> kube::Result<()> {
    let (api_version, kind) = ("ordershop.dev/v1alpha1", "OrderShop");
    let shop = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec});
    let how = PatchParams { dry_run, ..PatchParams::apply("e2e").force() };
    shops.patch(name, &how, &Patch::Apply(shop)).await.map(drop)
}

/// Runs it in a namespace that goes away afterwards.
async fn in_namespace(test: impl AsyncFnOnce(&Api<DynamicObject>) -> Result<()>) -> Result<()> {
    let client = client().await?;
    let namespace = Namespace::create(&client, "schema").await?;
    let result = test(&order_shops(&client, namespace.name())).await;
    namespace.remove().await?;
    result
}

#[tokio::test]
async fn the_api_server_accepts_and_refuses_what_the_cases_of_each_rule_say() -> Result<()> {
    let cases: Vec<Case> = serde_norway::from_str(&fs::read_to_string(testdata("rules.yaml"))?)?;
    in_namespace(async |shops| {
        for (index, case) in cases.iter().enumerate() {
            let Case { message, before, accepted, refused } = case;
            let changed = before.as_ref().map(|_| format!("before-{index}"));
            if let (Some(before), Some(name)) = (before, &changed) {
                // Paused: the operator makes nothing of it.
                let mut spec = before.spec();
                spec["paused"] = json!(true);
                apply(shops, name, &spec, false).await.with_context(|| format!("{message}: before"))?;
            }
            let name = |written: &Written| {
                changed.as_deref().or(written.name.as_deref()).unwrap_or("shop").to_owned()
            };
            let answer = apply(shops, &name(accepted), &accepted.spec(), true).await;
            answer.with_context(|| format!("{message}: accepted"))?;
            let Err(error) = apply(shops, &name(refused), &refused.spec(), true).await else {
                bail!("{message}: nothing was refused")
            };
            ensure!(error.to_string().contains(message), "{error} instead of {message}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_api_server_accepts_the_shops_of_every_release() -> Result<()> {
    in_namespace(async |shops| {
        for release in fs::read_dir(testdata("released"))? {
            let release = release?.path();
            let text = fs::read_to_string(release.join("shops.yaml"))?;
            for stored in serde_norway::Deserializer::from_str(&text) {
                let stored: DynamicObject = serde_json::from_value(Value::deserialize(stored)?)?;
                let dry_run = PostParams { dry_run: true, ..PostParams::default() };
                shops.create(&dry_run, &stored).await.with_context(|| format!("{}", release.display()))?;
            }
        }
        Ok(())
    })
    .await
}
