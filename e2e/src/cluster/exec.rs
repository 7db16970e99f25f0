//! A command in a container.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use tokio::io::AsyncReadExt;

/// Runs a command in a container and gives what it writes; one that fails is an error with what it wrote there.
pub(super) async fn exec<'a>(
    pods: &Api<Pod>,
    pod: &str,
    container: &str,
    command: impl IntoIterator<Item = &'a str> + std::fmt::Debug,
) -> Result<String> {
    let how = AttachParams::default().container(container).stdout(true).stderr(true);
    let mut process =
        pods.exec(pod, command, &how).await.with_context(|| format!("exec in {container} of {pod}"))?;
    let mut stdout = process.stdout().context("exec has no stdout")?;
    let mut stderr = process.stderr().context("exec has no stderr")?;
    let status = process.take_status().context("exec has no status")?;
    let (mut text, mut errors) = (String::new(), String::new());
    let (read, read_errors) =
        tokio::join!(stdout.read_to_string(&mut text), stderr.read_to_string(&mut errors));
    read?;
    read_errors?;
    let status = status.await.context("exec ended without a status")?;
    ensure!(status.status.as_deref() == Some("Success"), "{container} of {pod}: {status:?} {errors}");
    Ok(text)
}
