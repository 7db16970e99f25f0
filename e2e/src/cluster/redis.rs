//! redis-cli in the pod of a shop's Redis.

use super::shop::Shop;
use crate::redis::Cli;
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use tokio::io::AsyncReadExt;

/// The pod of the `StatefulSet`.
pub(super) const REDIS_POD: &str = "shop-redis-0";

impl Cli for Shop {
    async fn run(&self, args: &[&str]) -> Result<String> {
        let pods: Api<Pod> = self.objects();
        let command = ["redis-cli"].iter().chain(args).copied();
        let how = AttachParams::default().container("redis").stdout(true).stderr(true);
        let mut process = pods.exec(REDIS_POD, command, &how).await.context("exec in the pod of Redis")?;
        let mut stdout = process.stdout().context("exec has no stdout")?;
        let mut stderr = process.stderr().context("exec has no stderr")?;
        let status = process.take_status().context("exec has no status")?;
        let (mut text, mut errors) = (String::new(), String::new());
        let (read, read_errors) =
            tokio::join!(stdout.read_to_string(&mut text), stderr.read_to_string(&mut errors));
        read?;
        read_errors?;
        let status = status.await.context("exec ended without a status")?;
        ensure!(status.status.as_deref() == Some("Success"), "redis-cli: {status:?} {errors}");
        Ok(text)
    }
}
