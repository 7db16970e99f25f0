//! `kubectl ordershop`, run as a person runs it: on a shop of a test, with the kubeconfig's rights or with others.

use super::shop::Shop;
use crate::demo::{run, xtask};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::ResourceExt;
use kube::api::PostParams;
use kube::config::Kubeconfig;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::NamedTempFile;
use tokio::process::Command;

/// The program, for one shop.
pub struct Plugin {
    program: PathBuf,
    namespace: String,
}

/// How it ended and what it wrote.
#[derive(Debug)]
pub struct Ended {
    /// The exit code.
    pub code: i32,
    /// What it wrote to stdout.
    pub out: String,
    /// What it wrote to stderr.
    pub err: String,
}

impl Ended {
    /// What it wrote, where it did what it was asked for.
    pub fn ok(self) -> Result<String> {
        ensure!(self.code == 0, "{self:?}");
        Ok(self.out)
    }

    /// The same as JSON, whatever the exit code.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("{self:?}"))
    }
}

impl Plugin {
    /// Built and installed as the README says, unless `ORDERSHOP_PLUGIN` names the program.
    pub async fn install(shop: &Shop) -> Result<Self> {
        let program = match std::env::var_os("ORDERSHOP_PLUGIN") {
            Some(program) => program.into(),
            None => PathBuf::from(run(xtask().arg("plugin")).await?.lines().last().context("no program")?),
        };
        Ok(Self { program, namespace: shop.namespace.clone() })
    }

    /// Runs it to its end.
    pub async fn run(&self, args: &[&str]) -> Result<Ended> {
        self.run_by(None, args).await
    }

    /// The same with another kubeconfig.
    pub async fn run_by(&self, kubeconfig: Option<&Path>, args: &[&str]) -> Result<Ended> {
        let mut command = Command::new(&self.program);
        command.args(["--namespace", &self.namespace]).args(args).stdin(Stdio::null());
        if let Some(kubeconfig) = kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        let output = command.output().await.with_context(|| self.program.display().to_string())?;
        Ok(Ended {
            code: output.status.code().context("killed")?,
            out: String::from_utf8(output.stdout)?,
            err: String::from_utf8(output.stderr)?,
        })
    }
}

impl Shop {
    /// A kubeconfig of somebody whom the cluster knows and who may do nothing.
    pub async fn nobody(&self) -> Result<NamedTempFile> {
        let accounts = self.objects::<ServiceAccount>();
        let account: ServiceAccount =
            serde_json::from_value(json!({"metadata": {"generateName": "nobody-"}}))?;
        let account = accounts.create(&PostParams::default(), &account).await?;
        let request = TokenRequest::default();
        let answer =
            accounts.create_token_request(&account.name_any(), &PostParams::default(), &request).await?;
        let token = answer.status.context("no token")?.token;

        // Its fields hide what is secret from serialization, so the file is changed as it is written.
        let mut kubeconfig = serde_json::to_value(Kubeconfig::read()?)?;
        for user in kubeconfig["users"].as_array_mut().context("the kubeconfig names no user")? {
            user["user"] = json!({"token": token});
        }
        let file = NamedTempFile::new()?;
        std::fs::write(file.path(), kubeconfig.to_string())?;
        Ok(file)
    }
}
