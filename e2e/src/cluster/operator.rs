//! Operators as processes of this machine, for one namespace: killed, stopped and measured by a test.
//!
//! The cluster's own operator is put aside meanwhile, since two would do the same work.

use super::helm::{OPERATOR_NAMESPACE, RELEASE};
use super::namespace::Namespace;
use super::{SHOP, SOON, Shop, client};
use crate::deadline::eventually;
use crate::demo::free_port;
use anyhow::{Context, Result, ensure};
use futures_util::FutureExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tempfile::{NamedTempFile, TempPath};
use tokio::process::{Child, Command};

/// An operator that keeps the shops of one namespace. Killed with its drop.
pub struct Operator {
    process: Child,
    log: TempPath,
    admin: String,
}

/// What a process takes, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// All that is resident.
    pub resident: u64,
    /// The part that is not a file's: what remains when the program's own pages are shared or dropped.
    pub anonymous: u64,
    /// The most that was ever resident.
    pub peak: u64,
}

impl Operator {
    /// Starts one for the shop's namespace, with the images that the cluster's own operator gives to shops.
    /// `kubeconfig`: another way to the API server than the test's own.
    pub async fn start(shop: &Shop, identity: &str, kubeconfig: Option<&Path>) -> Result<Self> {
        let namespace = shop.namespace();
        let log = NamedTempFile::new()?;
        let admin = format!("127.0.0.1:{}", free_port()?);
        let mut command = Command::new(program()?);
        command
            .env("ORDERSHOP_WATCH_NAMESPACE", namespace)
            .env("ORDERSHOP_LEASE_NAMESPACE", namespace)
            .env("ORDERSHOP_IDENTITY", identity)
            .env("ORDERSHOP_ADMIN_LISTEN", &admin)
            .env("ORDERSHOP_LOG", "info,ordershop_operator=debug")
            .stdin(Stdio::null())
            .stdout(log.reopen()?)
            .stderr(log.reopen()?)
            .kill_on_drop(true);
        command.envs(defaults(&shop.client).await?);
        if let Some(kubeconfig) = kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        let process = command.spawn().context("cannot start the operator")?;
        Ok(Self { process, log: log.into_temp_path(), admin })
    }

    /// What it has logged so far.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    /// Waits until it has logged this.
    pub async fn says(&self, text: &str, within: Duration) -> Result<()> {
        eventually(&format!("the operator logs {text:?}"), within, async || {
            let log = self.log()?;
            ensure!(log.contains(text), "its log ends with {:?}", log.lines().last());
            Ok(())
        })
        .await
    }

    /// Waits until it leads.
    pub async fn leads(&self, within: Duration) -> Result<()> {
        self.says(r#""message":"leads""#, within).await
    }

    /// A metric's value: the sum over all its labels that contain `labels`. 0 when there is none yet.
    pub async fn metric(&self, name: &str, labels: &str) -> Result<f64> {
        let text = reqwest::get(format!("http://{}/metrics", self.admin)).await?.text().await?;
        let values = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, found_labels) = series.split_once('{').unwrap_or((series, ""));
            (found == name && found_labels.contains(labels)).then(|| value.parse::<f64>().ok())?
        });
        Ok(values.sum())
    }

    /// What it takes now.
    pub fn memory(&self) -> Result<Memory> {
        let id = self.process.id().context("the operator has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let of = |field: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no such field")?;
            Ok(kib.parse::<u64>()? * 1024)
        };
        Ok(Memory { resident: of("VmRSS")?, anonymous: of("RssAnon")?, peak: of("VmHWM")? })
    }

    /// SIGKILL: it can do nothing about it.
    pub async fn kill(&mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }

    /// SIGTERM, and its end.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        self.signal("-TERM").await?;
        self.ended(SOON).await
    }

    /// SIGSTOP: it stands still and does not know it.
    pub async fn freeze(&self) -> Result<()> {
        self.signal("-STOP").await
    }

    /// SIGCONT: it goes on as if nothing had been.
    pub async fn thaw(&self) -> Result<()> {
        self.signal("-CONT").await
    }

    /// Its end.
    pub async fn ended(&mut self, within: Duration) -> Result<ExitStatus> {
        let ended = tokio::time::timeout(within, self.process.wait()).await;
        Ok(ended.context("the operator does not end")??)
    }

    /// How it ended, if it did.
    pub fn has_ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.process.try_wait()?)
    }

    async fn signal(&self, signal: &str) -> Result<()> {
        let id = self.process.id().context("the operator has ended")?.to_string();
        let status = Command::new("kill").args([signal, &id]).status().await?;
        ensure!(status.success(), "kill {signal} {id}: {status}");
        Ok(())
    }
}

/// What the cluster's operator was told about images.
async fn defaults(client: &Client) -> Result<Vec<(String, String)>> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
    let pod = api.get_opt(RELEASE).await?.and_then(|found| found.spec?.template.spec);
    let variables =
        pod.into_iter().flat_map(|pod| pod.containers).filter_map(|container| container.env).flatten();
    let images = variables.filter(|variable| variable.name.starts_with("ORDERSHOP_DEFAULT_"));
    Ok(images.filter_map(|variable| Some((variable.name, variable.value?))).collect())
}

/// The program that cargo builds beside this test's: `cargo build -p ordershop-operator`.
fn program() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("ORDERSHOP_OPERATOR") {
        return Ok(program.into());
    }
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).context("a test outside of a target folder")?;
    let program = folder.join("ordershop-operator");
    ensure!(program.exists(), "no {}: build it with `cargo build -p ordershop-operator`", program.display());
    Ok(program)
}

/// Runs a test in a namespace of its own while the cluster's operator is away. The shop that it gets was not
/// applied yet.
pub async fn with_own_operators(purpose: &str, test: impl AsyncFnOnce(&Shop) -> Result<()>) -> Result<()> {
    let client = client().await?;
    let before = scale(&client, 0).await?;
    let outcome = AssertUnwindSafe(alone(&client, purpose, test)).catch_unwind().await;
    if before > 0 {
        scale(&client, before).await?;
    }
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

async fn alone(client: &Client, purpose: &str, test: impl AsyncFnOnce(&Shop) -> Result<()>) -> Result<()> {
    let namespace = Namespace::create(client, purpose).await?;
    let shop = Shop::new(client.clone(), namespace.name());
    let outcome = AssertUnwindSafe(test(&shop)).catch_unwind().await;
    let removed = namespace.remove().await;
    match outcome {
        Ok(outcome) => outcome.and(removed),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Sets the replicas of the cluster's operator, where there is one, and waits for it; how many it had.
async fn scale(client: &Client, replicas: i32) -> Result<i32> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
    let Some(found) = api.get_opt(RELEASE).await? else { return Ok(0) };
    let spec = found.spec.context("a Deployment without a spec")?;
    let before = spec.replicas.unwrap_or(1);
    let labels = spec.selector.match_labels.unwrap_or_default();
    let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let pods: Api<Pod> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
    let patch = json!({"spec": {"replicas": replicas}});
    api.patch(RELEASE, &PatchParams::default(), &Patch::Merge(patch)).await?;
    eventually("the cluster's operator is scaled", SOON, async || {
        let status = api.get(RELEASE).await?.status.unwrap_or_default();
        let ready = status.ready_replicas.unwrap_or(0);
        // The Deployment no longer counts a pod that still ends, and such an operator still works.
        let there = pods.list(&ListParams::default().labels(&labels.join(","))).await?.items.len();
        ensure!(ready == replicas && there == usize::try_from(replicas)?, "{ready} ready of {there}");
        Ok(())
    })
    .await?;
    Ok(before)
}

impl Shop {
    /// Applies the shop with no pods but that of Redis.
    pub async fn apply_without_services(&self) -> Result<()> {
        let none = super::SERVICES.map(|service| {
            let field = if service == "read-model" { "readModel" } else { service };
            (field.to_owned(), json!({"replicas": 0}))
        });
        let services: serde_json::Map<_, _> = none.into_iter().collect();
        self.apply_spec(SHOP, &json!({ "services": services })).await
    }
}
